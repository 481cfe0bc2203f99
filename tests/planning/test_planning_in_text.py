"""What a message names becomes an input when the input's shape says what to look for."""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_agents import Level, Sku, registry_of, shop
from pydantic import Field

from agents import MessageText
from messages.failure import Failure
from messages.planning import DraftPlan
from planning.contracts_planner import ContractsPlanner
from planning.in_text import values_in
from planning.load import NothingLeft, load_planner
from planning.resolve import PlanLimits, resolve
from planning.words import Vocabulary, in_order_of


class Roast(Enum):
    """How dark."""

    LIGHT = "light"
    EXTRA_DARK = "extra_dark"


def inputs_for(text: str, kind: Any, *, default: bool = False) -> Any:
    def brew(value: int) -> str:
        """Brew coffee."""

    brew.__annotations__["value"] = kind
    if default:
        brew.__defaults__ = (None,)
    registry = registry_of(brew)
    plan = ContractsPlanner(registry).plan(f"brew coffee {text}")
    resolve(plan, registry, PlanLimits(max_nodes=20), origin="planner")
    return None if plan.nodes is None else [node.inputs.get("value") for node in plan.nodes]


ORDER_NUMBER = Annotated[int, Field(json_schema_extra={"pattern": r"^1\d{4}$"})]


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        (ORDER_NUMBER, "for order 10231, table 4", [10231]),
        (Annotated[int, Field(ge=1, le=12)], "for table 4 of 40", [4]),
        (Annotated[int, Field(ge=1, le=12)], "for 3 and 5", [3, 5]),
        (Annotated[int, Field(ge=1)], "for 4", None),
        (int, "for 4", None),
        (Roast, "extra dark, please", ["extra_dark"]),
        (Roast, "Light or EXTRA-DARK?", ["light", "extra_dark"]),
        (Roast, "lightly", None),
        (Literal["cup", "pot"], "two pots", ["pot"]),
        (date, "on 2026-11-20", ["2026-11-20"]),
        (date, "on 2026-13-20", None),
        (list[Literal["cup", "pot"]], "a cup and a pot", [["cup", "pot"]]),
        (list[date], "2026-11-20 and 2026-11-21", [["2026-11-20", "2026-11-21"]]),
    ],
)
def test_patterns_choices_bounds_and_dates_are_found(kind, text, values):
    assert inputs_for(text, kind) == values


def test_an_input_with_a_default_is_not_filled_by_a_common_word():
    assert inputs_for("a light one", Roast | None, default=True) == [None]
    assert inputs_for("4", Annotated[int | None, Field(ge=1, le=9)], default=True) == [None]
    assert inputs_for("on 2026-11-20", date | None, default=True) == ["2026-11-20"]


schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "array", "object", "null"]),
        "pattern": st.text(max_size=6),
        "enum": st.lists(st.text(max_size=4) | st.integers() | st.none(), max_size=3),
        "format": st.sampled_from(["date", "uuid"]),
        "minimum": st.integers(),
        "maximum": st.integers(),
    },
)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@given(st.text(max_size=40), schemas, st.booleans())
def test_no_text_and_no_schema_make_looking_fail(text, schema, required):
    found = values_in(text, schema, required=required, accepts=lambda _value: True)
    assert len(found) == len(set(found))


# Words


def test_a_message_is_answered_in_its_own_order():
    planner = ContractsPlanner(shop())
    for text, order in (
        ("price and stock of AB-1", ["price", "stock"]),
        ("stock and price of AB-1", ["stock", "price"]),
    ):
        assert [node.agent for node in planner.plan(text).nodes or ()] == order
    vocabulary = Vocabulary(shop())
    picks = vocabulary.pick("stock and price of AB-1")
    assert {pick.agent.name for pick in in_order_of("", picks[:0]) + picks} == {"stock", "price"}


def test_an_answer_says_what_is_lacking():
    def order_status(order_id: Annotated[str, Field(pattern=r"^1\d{4}$", description="order number")]) -> str:
        """Where an order is."""

    def search(query: MessageText) -> list[str]:
        """Search the catalogue."""

    planner = ContractsPlanner(registry_of(order_status, search))
    assert planner.plan("order status?").answer == "To answer this I need to know: order id (order number)."
    assert planner.plan("order status of 10231").nodes is not None


def test_a_new_plan_for_which_nothing_is_left_is_a_failure_and_no_answer():
    """An answer would take the place of what failed: the reply would name nothing as missing."""
    failure = Failure.model_validate({"type": "timeout", "class": "transient", "message": "took 5 s"})
    draft = DraftPlan("c", "r", 2, "stock of AB-1", "u", "", failed={"stock": failure})
    with pytest.raises(NothingLeft, match="nothing else"):
        load_planner("contracts", shop()).plan(draft)


def test_a_source_need_not_be_named_to_be_found():
    def shelf(sku: Sku) -> Level:
        """Units on a shelf."""

    def label(units: int) -> str:
        """Print a label."""

    plan = ContractsPlanner(registry_of(shelf, label)).plan("label for AB-1")
    assert plan.nodes is not None
    assert [(node.agent, node.inputs) for node in plan.nodes] == [
        ("shelf", {"sku": "AB-1"}),
        ("label", {"units": {"$from": "shelf.units"}}),
    ]
