"""What a `$from` points at is checked wherever it stands, and whatever may stand at its source."""

from __future__ import annotations

from typing import Any

import pytest
from planning_agents import SHOP as FUNCTIONS
from planning_agents import Level, registry_of, shop

from agents.registry import Registry
from messages.plan import Plan, PlanNode
from planning.load import PlanUnreadable, as_plan
from planning.resolve import InvalidPlan, PlanLimits, resolve

SHOP = shop()
LIMITS = PlanLimits()
FIND = PlanNode(id="find", agent="find_products")


def problems(*nodes: PlanNode, registry: Registry = SHOP, finished: Any = None, limits: Any = LIMITS) -> dict[str, str]:
    try:
        resolve(Plan(nodes=list(nodes)), registry, limits, origin="client", finished=finished)
    except InvalidPlan as error:
        return {problem.where: problem.problem for problem in error.problems}
    return {}


def node(agent: str = "stock", node_id: str = "b", **options: Any) -> PlanNode:
    return PlanNode(id=node_id, agent=agent, **options)


@pytest.mark.parametrize(
    ("skus", "where", "why"),
    [
        ([{"$from": "find.products"}], "skus.0", "takes another type than find.products has"),
        (["AB-1", {"$from": "find.nothing"}], "skus.1", "gives no 'nothing'"),
        ([5, {"$from": "find.products.0.sku"}], "skus.0", "takes another type than 5"),
        ({"a": {"$from": "find.products.0.sku"}}, "skus", "takes another type than"),
    ],
)
def test_references_inside_a_value_are_checked_against_its_place(skus, where, why):
    found = problems(FIND, node("compare", inputs={"skus": skus}))
    assert list(found) == [f"nodes.b.inputs.{where}"]
    assert why in found[f"nodes.b.inputs.{where}"]


def test_a_right_reference_inside_a_list_is_no_problem():
    assert not problems(FIND, node("compare", inputs={"skus": ["AB-1", {"$from": "find.products.0.sku"}]}))


def test_what_is_finished_is_bound_and_checked_at_once():
    finished = {"find": {"products": [{"sku": "AB-1", "title": "A grinder"}]}}

    def given(path: str) -> dict[str, str]:
        return problems(node(inputs={"sku": {"$from": f"find.{path}"}}), finished=finished)

    assert not given("products.0.sku")
    assert "match pattern" in given("products.0.title")["nodes.b.inputs.sku"]
    assert "no item '1'" in given("products.1.sku")["nodes.b.inputs.sku"]
    # A finished node that a new plan names again keeps its result, so that is what counts.
    again = problems(FIND, node(inputs={"sku": {"$from": "find.products.1.sku"}}), finished=finished)
    assert "no item '1'" in again["nodes.b.inputs.sku"]


def test_what_a_fallback_gives_must_serve_those_who_wait_for_it():
    def guess(query: str) -> Level:
        """Guess."""

    registry = registry_of(*FUNCTIONS, guess)
    first = PlanNode(id="find", agent="find_products", inputs={"query": "x"}, on_failure="fallback:guess")
    found = problems(first, node(inputs={"sku": {"$from": "find.products.0.sku"}}), registry=registry)
    assert found == {"nodes.b.inputs.sku": "guess gives no 'products.0.sku'"}


def test_too_many_nodes_do_not_hide_what_else_is_wrong():
    found = problems(*[node("nobody", f"n{i}") for i in range(6)])
    assert "at most 5" in found["nodes"] and len(found) == 7


def test_a_plan_of_a_hundred_thousand_nodes_is_refused_by_its_number():
    one = node("nobody", "n")
    assert problems(*[one] * 100_001) == {"nodes": "has 100001 nodes; at most 5 agent calls are made per request"}


def test_a_refusal_of_very_much_stays_readable():
    inputs = {f"x{i}": 1 for i in range(500)}
    found = problems(node(inputs={**inputs, "sku": "AB-1"}))
    assert len(found) == 101 and found["plan"] == "and 400 more problems"


def test_a_plan_object_that_holds_more_than_data_is_unreadable():
    def holding(value: Any) -> Plan:
        return Plan(nodes=[node("compare", inputs={"skus": [value, {"$from": "find.products.0.sku"}]})])

    assert as_plan(holding("AB-1")) == holding("AB-1")
    for value in (object(), float("nan"), "\ud800"):
        with pytest.raises(PlanUnreadable, match="which is no plan"):
            as_plan(holding(value))
