"""Plans as graphs: references, joins, and every problem at once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.plan import PlanNode
from workflow.graph import (
    UnboundReference,
    bind,
    bind_inputs,
    dependencies,
    need,
    references,
    structure_problems,
)


def node(node_id: str, after: list[str] | None = None, **fields: object) -> PlanNode:
    return PlanNode(id=node_id, agent="echo", after=after or [], **fields)  # type: ignore[arg-type]  # test data


def test_references_are_found_wherever_they_stand():
    """Inside lists and objects, once each, in order."""
    inputs = {"a": {"$from": "x.sku"}, "b": [1, {"c": {"$from": "y"}}, {"$from": "x.sku"}]}
    assert references(inputs) == ["x.sku", "y"]
    assert dependencies(node("n", ["z", "x"], inputs=inputs)) == ("x", "y", "z")


def test_a_reference_is_replaced_by_what_it_points_at():
    """By key, by index, or whole."""
    results = {"find": {"items": [{"sku": "A"}, {"sku": "B"}]}, "n": 3}
    assert bind({"s": {"$from": "find.items.1.sku"}, "all": [{"$from": "n"}]}, results) == {"s": "B", "all": [3]}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("find.nothing", "has no 'nothing'; it has items"),
        ("find.items.7", "is a list of 2"),
        ("find.items.x", "has no item 'x'"),
        ("n.deeper", "is a int, which has no parts"),
        ("other.x", "node 'other' has no result"),
    ],
)
def test_a_reference_that_cannot_be_followed_says_where_it_broke(reference, words):
    """The reason names what is there instead."""
    with pytest.raises(UnboundReference, match=words):
        bind({"$from": reference}, {"find": {"items": [1, 2]}, "n": 3})


def test_an_input_whose_source_never_finished_is_left_out():
    """With `any` and quorum joins the parameter's default applies."""
    inputs = {"a": {"$from": "x.v"}, "b": {"$from": "y.v"}, "c": 1}
    assert bind_inputs(inputs, {"x": {"v": 5}}) == {"a": 5, "c": 1}


@pytest.mark.parametrize(("join", "needed"), [("all", 3), ("any", 1), ({"quorum": 2}, 2)])
def test_a_join_says_how_many_must_succeed(join, needed):
    """All, one, or the quorum."""
    each = node("n", ["a", "b", "c"], join=join)
    assert need(each, dependencies(each)) == needed
    assert need(node("free"), ()) == 0


def test_all_problems_are_named_at_once():
    """One answer tells everything that is wrong."""
    nodes = [
        node("a", ["b"]),
        node("b", ["a"]),
        node("c", ["c", "ghost"]),
        node("d"),
        node("d"),
        node("e", inputs={"x": {"$from": ""}}),
        node("f", inputs={"x": {"$from": "d.v", "more": 1}}),
        node("g", ["d"], join={"quorum": 4}),
    ]
    said = [f"{p.where}: {p.problem}" for p in structure_problems(nodes)]
    for words in (
        "wait for each other",
        "nodes.c: a node cannot depend on itself",
        "nodes.c: depends on 'ghost'",
        "nodes.d: this id is used by more than one node",
        "nodes.e.inputs: $from takes",
        "nodes.f.inputs: an object with $from has no other keys",
        "nodes.g.join: a quorum of 4 can never be met by 1",
    ):
        assert any(words in line for line in said), words


def test_an_empty_plan_is_a_problem_and_a_finished_node_is_not():
    """A new plan may refer to what is finished."""
    assert structure_problems([])
    assert not structure_problems([node("n", ["done"])], finished={"done"})


keys = st.sampled_from(["$from", "a", "b"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
inputs_of_nodes = st.dictionaries(st.sampled_from("xyz"), json_values, max_size=3)


@given(inputs_of_nodes, st.dictionaries(st.text(max_size=3), json_values))
def test_binding_never_fails_in_any_other_way(inputs, results):
    """Well-formed inputs bind or name the reference; malformed ones are caught by the check before."""
    if not structure_problems([node("n", inputs=inputs)], finished=set(results)):
        with contextlib.suppress(UnboundReference):
            assert set(bind_inputs(inputs, results)) <= set(inputs)
