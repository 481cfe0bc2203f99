"""The configuration names a planner; whatever it is, what comes out is a checked plan or a clear error."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from types import ModuleType

import pytest
from planning_agents import shop

from agents.errors import AgentDefinitionError, ResultTooLarge
from messages.plan import Plan, ResolvedPlan
from messages.planning import DraftPlan
from planning.load import PlanUnreadable, as_plan, load_planner, resolve_draft
from planning.resolve import InvalidPlan, PlanLimits

SHOP = shop()
DRAFT = DraftPlan("c", "r", 1, "stock of AB-1", "u", "before", finished={"f": 1})
NODES = {"nodes": [{"id": "s", "agent": "stock", "inputs": {"sku": "AB-1"}}]}


def blocking(text, context):
    assert (text, context.user_id, context.context, context.finished) == ("stock of AB-1", "u", "before", {"f": 1})
    assert "stock" in context.agents
    # A language model has to be told what an agent takes, or its plans are refused.
    assert list(context.contracts["stock"]["inputs"]["properties"]) == ["sku"]
    assert context.contracts["stock"]["result"] == SHOP.get("stock").contract.output_schema
    return NODES


async def later(text, context):
    await asyncio.sleep(0)
    return Plan.model_validate(NODES)


class Callable:
    """An object, as frameworks like them."""

    async def __call__(self, text, context):
        return NODES


@pytest.fixture(autouse=True)
def planners(monkeypatch):
    made = ModuleType("some_planners")
    vars(made).update(
        blocking=blocking, later=later, an_object=Callable(), part=partial(later), number=5, nothing=lambda *_: None,
        wrong=lambda *_: {"nodes": [{"id": "s"}]}, unknown=lambda *_: {"nodes": [{"id": "s", "agent": "nobody"}]},
        odd=lambda *_: object(),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "some_planners", made)


def outcome(planner):
    made = load_planner(planner, SHOP) if isinstance(planner, str) else planner
    found = resolve_draft(made, DRAFT, SHOP, PlanLimits())
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


@pytest.mark.parametrize(
    "name", ["contracts", *(f"some_planners:{n}" for n in ("blocking", "later", "an_object", "part"))]
)
def test_functions_blocking_or_async_and_the_default_give_checked_plans(name):
    resolved = outcome(name)
    assert isinstance(resolved, ResolvedPlan)
    assert [node.agent for node in resolved.nodes] == ["stock"] and resolved.origin == "planner"


@pytest.mark.parametrize("name", ["nothing", "wrong", "odd"])
def test_what_is_no_plan_is_said(name):
    with pytest.raises(PlanUnreadable, match="which is no plan"):
        outcome(f"some_planners:{name}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"answer": "a\x00b"}, "dict, which is no plan: answer: Value error, must not contain a NUL character"),
        (None, "NoneType, which is no plan: it: Input should be a valid dictionary or instance of Plan"),
        ({"nodes": [{"id": "a b", "agent": "x"}]}, "nodes.0.id: String should match"),
        ({"nodes": [{"id": "a", "agent": "x", "inputs": {"v": float("nan")}}]}, "a number in it is not finite"),
        ({"nodes": [{"id": "a", "agent": "x", "z": 1}] * 9}, "Extra inputs are not permitted; and 4 more"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_in_words_fit_for_a_reply(answer, words):
    """Without the address of a manual, and without what was returned: it may be anything."""
    with pytest.raises(PlanUnreadable) as refused:
        as_plan(answer)
    assert words in str(refused.value)
    assert "http" not in str(refused.value) and "input_value" not in str(refused.value)


@pytest.mark.parametrize("name", ["blocking", "later"])
def test_a_plan_larger_than_it_may_be_is_a_permanent_error(name):
    planner = load_planner(f"some_planners:{name}", SHOP, max_bytes=20)
    with pytest.raises(ResultTooLarge, match="bytes; at most 20 are taken") as refused:
        outcome(planner)
    assert (refused.value.error_type, refused.value.error_class) == ("result_too_large", "permanent")


def test_a_plan_of_unknown_agents_is_refused():
    with pytest.raises(InvalidPlan, match="no agent 'nobody'"):
        outcome("some_planners:unknown")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("contract", "it takes module:function"),
        ("nowhere:plan", "cannot import nowhere"),
        ("some_planners:plan", "some_planners has no plan"),
        ("some_planners:number", "is a int, not a function"),
        (":x", "it takes module:function"),
    ],
)
def test_a_wrong_name_says_what_is_right(name, why):
    with pytest.raises(AgentDefinitionError, match=f"planner.*{why}"):
        load_planner(name, SHOP)
