"""A plan that cannot be run is refused before anything runs, with every problem named at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_agents import Level, Sku, shop
from pydantic import ValidationError

from agents.decorator import make_spec
from agents.registry import Registry
from messages.plan import Plan, PlanNode
from planning.resolve import InvalidPlan, PlanLimits, resolve

LIMITS = PlanLimits(max_nodes=5, timeout=60.0, retries=3)
SHOP = shop()


def node(node_id: str = "a", agent: str = "stock", **options: Any) -> PlanNode:
    return PlanNode(id=node_id, agent=agent, **{"inputs": {"sku": "AB-1"}, **options})


def plan(*nodes: PlanNode, registry: Registry = SHOP, finished: Any = None) -> Any:
    return resolve(Plan(nodes=list(nodes)), registry, LIMITS, origin="client", finished=finished)


def problems(*nodes: PlanNode, registry: Registry = SHOP, finished: Any = None) -> dict[str, str]:
    with pytest.raises(InvalidPlan) as caught:
        plan(*nodes, registry=registry, finished=finished)
    assert caught.value.error_class == "permanent"
    return {problem.where: problem.problem for problem in caught.value.problems}


def with_options(**options: Any) -> Registry:
    def slow(sku: Sku) -> Level:
        """Take its time."""

    return Registry([*SHOP, make_spec(slow, options)])


def test_settings_come_from_the_node_then_the_agent_then_the_configuration():
    registry = with_options(timeout=9, retries=1, effects="write", on_unknown_outcome="fail", approval=True)
    said, agents, configured = plan(
        node("a", "slow", timeout=2.0, retries=0, on_failure="fail"), node("b", "slow"), node("c"), registry=registry
    ).nodes
    assert (said.timeout, said.retries, said.on_failure) == (2.0, 0, "fail")
    assert (agents.timeout, agents.retries, agents.on_failure) == (9.0, 1, "skip")
    assert (agents.effects, agents.on_unknown_outcome, agents.approval) == ("write", "fail", True)
    assert (configured.timeout, configured.retries, configured.effects) == (60.0, 3, "read")
    assert agents.contract == registry.get("slow").contract.version


def test_dependencies_come_from_references_and_after():
    first = node("find", "find_products", inputs={})
    second = node("s", inputs={"sku": {"$from": "find.products.0.sku"}}, after=["x"], join={"quorum": 1})
    _, resolved, _ = plan(first, second, node("x")).nodes
    assert (resolved.depends_on, resolved.need) == (("find", "x"), 1)


def test_a_direct_answer_needs_no_nodes_and_excludes_them():
    assert resolve(Plan(answer="42"), SHOP, LIMITS, origin="planner").answer == "42"
    for wrong in (Plan(), Plan(nodes=[node()], answer="42")):
        with pytest.raises(InvalidPlan, match="either nodes or an answer"):
            resolve(wrong, SHOP, LIMITS, origin="client")
    with pytest.raises(InvalidPlan, match="at least one node"):
        plan()


def test_all_problems_are_named_at_once():
    found = problems(
        node("a", "stok"),
        node("b", inputs={"skuu": "AB-1"}),
        node("c", inputs={"sku": {"$from": "nobody.x"}}),
        node("d", inputs={"sku": 5}, after=["e"]),
        node("e", after=["d"]),
    )
    assert found["nodes.a.agent"] == "there is no agent 'stok'; did you mean 'stock'?"
    assert found["nodes.b.inputs.skuu"] == "stock has no such input; it takes sku"
    assert found["nodes.b.inputs.sku"] == "stock needs it, and nothing provides it"
    assert "'nobody', which is not in the plan" in found["nodes.c"]
    assert found["nodes.d.inputs.sku"].endswith("not 5")
    assert "wait for each other" in found["nodes"]


def test_duplicate_ids_are_refused():
    assert "more than one node" in problems(node("a"), node("a"))["nodes.a"]


def test_too_many_nodes_are_refused():
    found = problems(*[node(f"n{i}") for i in range(6)])
    assert found == {"nodes": "has 6 nodes; at most 5 agent calls are made per request"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("ab-1", "match pattern"),
        (True, "valid string"),
        (None, "valid string"),
        ("\ud800", "not plain data"),
        (["AB-1"], "valid string"),
        ({"$from": 5}, "valid string"),
        ({"$fro": "a.b"}, "valid string"),
    ],
)
def test_literal_values_are_checked_against_the_contract(value, why):
    assert why in problems(node(inputs={"sku": value}))["nodes.a.inputs.sku"]


def test_literals_are_as_strict_as_the_call_itself():
    for wrong in ("12", True, 1.5, math.nan):
        assert "nodes.a.inputs.limit" in problems(node("a", "find_products", inputs={"limit": wrong}))
    assert plan(node("a", "find_products", inputs={"limit": 12})).nodes[0].inputs == {"limit": 12}


def test_references_are_checked_for_path_and_type():
    find = node("find", "find_products", inputs={})

    def second(path: str, name: str = "sku", agent: str = "stock") -> dict[str, str]:
        return problems(find, node("b", agent, inputs={"sku": "AB-1", name: {"$from": f"find{path}"}}))

    assert second(".nothing")["nodes.b.inputs.sku"] == "find_products gives no 'nothing'"
    assert "gives no 'products.first'" in second(".products.first")["nodes.b.inputs.sku"]
    assert "another type" in second(".products")["nodes.b.inputs.sku"]
    assert "another type" in second("")["nodes.b.inputs.sku"]
    assert "another type" in second(".products.0.title", "units", "reserve")["nodes.b.inputs.units"]
    assert plan(find, node("b", inputs={"sku": {"$from": "find.products.0.sku"}}))


def test_a_reference_may_stand_inside_a_list():
    find = node("find", "find_products", inputs={})
    inputs = {"skus": ["AB-1", {"$from": "find.products.0.sku"}]}
    assert plan(find, node("b", "compare", inputs=inputs)).nodes[1].depends_on == ("find",)


def test_finished_nodes_may_be_referred_to():
    later = node("b", inputs={"sku": {"$from": "find.products.0.sku"}})
    assert plan(later, finished={"find": {"products": [{"sku": "AB-1"}]}}).nodes[0].depends_on == ("find",)
    assert "not in the plan" in problems(later)["nodes.b"]


def test_a_fallback_must_exist_be_another_and_take_the_same_inputs():
    assert plan(node(on_failure="fallback:price")).nodes[0].on_failure == "fallback:price"
    found = problems(node(on_failure="fallback:prise"))
    assert found == {"nodes.a.on_failure": "the fallback 'prise' is no agent; did you mean 'price'?"}
    assert "its own fallback" in problems(node(on_failure="fallback:stock"))["nodes.a.on_failure"]
    found = problems(node(on_failure="fallback:orders"))
    assert found["nodes.a.inputs.sku"] == "as fallback, orders: orders has no such input; it takes user_id"
    assert found["nodes.a.inputs.user_id"].startswith("as fallback, orders: orders needs it")


def test_a_quorum_nobody_can_meet_is_refused():
    assert "never be met by 0" in problems(node(join={"quorum": 1}))["nodes.a.join"]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$from", "a", "sku"]), inner | st.sampled_from(["a.x", "b", "."]), max_size=2
        )
    ),
    max_leaves=6,
)
names = st.sampled_from(["a", "b", "c"])


@st.composite
def plan_nodes(draw: Any) -> PlanNode:
    options = {
        "id": draw(names),
        "agent": draw(st.sampled_from(["stock", "compare", "find_products", "nobody", "orders"])),
        "inputs": draw(st.dictionaries(st.sampled_from(["sku", "skus", "limit", "query", "x"]), json, max_size=3)),
        "after": draw(st.lists(names, max_size=2)),
        "join": draw(st.sampled_from(["all", "any", {"quorum": 1}, {"quorum": 9}, {}])),
        "on_failure": draw(st.sampled_from([None, "skip", "fallback:price", "fallback:nobody", "fallback:orders"])),
    }
    return PlanNode.model_validate(options)


@given(st.lists(plan_nodes(), max_size=4), st.dictionaries(names, json, max_size=2))
def test_resolve_raises_nothing_but_invalid_plan(nodes, finished):
    try:
        resolved = resolve(Plan(nodes=nodes), SHOP, LIMITS, origin="client", finished=finished)
    except InvalidPlan as error:
        named = [problem.where and problem.problem for problem in error.problems]
    else:
        named = [one.id == node.id for one, node in zip(resolved.nodes, nodes, strict=True)]
    assert named and all(named)


def test_a_node_of_the_wrong_shape_is_no_plan():
    for wrong in ({"id": "a.b"}, {"agent": "x y"}, {"timeout": 0.0}, {"retries": -1}, {"on_failure": "hope"}):
        with pytest.raises(ValidationError):
            node(**{"node_id": wrong.pop("id", "a"), **wrong})
