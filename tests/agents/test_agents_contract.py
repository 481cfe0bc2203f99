"""What goes in and what comes out is checked against the annotations, on every call."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from agent_fixtures import Line, echo, stock
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from agents import Context, MessageText, agent
from agents.cache_key import cache_key
from agents.call import arguments
from agents.contract import Contract
from agents.decorator import spec_of
from agents.errors import ContractViolation, ResultTooLarge
from messages.agent import RunNode

MAX = 1 << 20


class Colour(Enum):
    """Two of them."""

    RED = "red"
    BLUE = "blue"


class Order(BaseModel):
    """Nested, as plans carry it."""

    lines: list[Line]
    due: date
    colour: Colour = Colour.RED


@dataclass
class Total:
    """A result that is no pydantic model."""

    amount: float
    parts: list[float]


def order(order: Order, at: datetime, count: int, ratio: float, ok: bool, tags: tuple[str, ...] = ()) -> Total:
    """Place an order."""


ORDER = {
    "order": {"lines": [{"sku": "A", "units": 2}], "due": "2026-11-20", "colour": "blue"},
    "at": "2026-11-20T10:00:00Z",
    "count": 3,
    "ratio": 2,
    "ok": True,
    "tags": ["a"],
}


def returning(kind: Any) -> Contract:
    def give() -> int:
        """Give it."""

    give.__annotations__["return"] = kind
    return Contract("give", give)


def call(**options: Any) -> RunNode:
    fields = {
        "conversation_id": "c",
        "request_id": "r",
        "node": "n",
        "agent": "stock",
        "attempt": 2,
        "inputs": {},
        "timeout": 5.0,
        "text": "hello",
        "user_id": "u",
        "context": "before",
        "contract": "v",
        "idempotency_key": "k",
    }
    return RunNode(**{**fields, **options})


def test_nested_models_dates_enums_and_tuples_are_taken_in_their_json_form():
    bound = Contract("order", order).bind(ORDER, text="")
    assert bound["order"] == Order(lines=[Line(sku="A", units=2)], due=date(2026, 11, 20), colour=Colour.BLUE)
    assert bound["at"].year == 2026 and bound["ratio"] == 2.0 and bound["tags"] == ("a",)


WRONG_INPUTS = [
    ({"count": True}, "input.count", "True"),
    ({"count": "12"}, "input.count", "'12'"),
    ({"count": 1.5}, "input.count", "1.5"),
    ({"count": None}, "input.count", "None"),
    ({"ok": 1}, "input.ok", "1"),
    ({"ratio": "1"}, "input.ratio", "'1'"),
    ({"at": "yesterday"}, "input.at", "'yesterday'"),
    ({"order": {"lines": [{"sku": "A", "units": "2"}], "due": "2026-11-20"}}, "input.order.lines.0.units", "'2'"),
    ({"order": {"lines": [{"sku": "A", "units": -1}], "due": "2026-11-20"}}, "input.order.lines.0.units", "-1"),
    ({"order": {"lines": [], "due": "2026-11-20", "colour": "green"}}, "input.order.colour", "'green'"),
    ({"tags": [5]}, "input.tags.0", "5"),
    ({"unknown": 5}, "input.unknown", "5"),
    ({"ratio": math.nan}, "input", "ratio is not a finite number"),
    ({"ratio": math.inf}, "input", "ratio is not a finite number"),
    ({"tags": ["\ud800"]}, "input", "not plain data"),
    ({"tags": object()}, "input", "not plain data"),
]


@pytest.mark.parametrize(("change", "field", "shown"), WRONG_INPUTS)
def test_a_wrong_input_names_agent_field_and_value(change, field, shown):
    with pytest.raises(ContractViolation) as caught:
        Contract("order", order).bind({**ORDER, **change}, text="")
    assert caught.value.error_class == "permanent"
    assert caught.value.field == field
    assert str(caught.value).startswith(f"order: {field}: ") and shown in str(caught.value)


def test_a_missing_input_is_named():
    with pytest.raises(ContractViolation, match=r"input\.count: Field required$"):
        Contract("order", order).bind({k: v for k, v in ORDER.items() if k != "count"}, text="")


def test_patterns_hold():
    contract = spec_of(stock).contract
    assert contract.bind({"sku": "AB-1"}, text="") == {"sku": "AB-1"}
    with pytest.raises(ContractViolation, match=r"input.sku: String should match pattern .*, not 'ab'"):
        contract.bind({"sku": "ab"}, text="")


def test_message_text_is_given_unless_a_plan_says_otherwise():
    contract = spec_of(echo).contract
    assert contract.bind({}, text="hi") == {"text": "hi"}
    assert contract.bind({"text": "other"}, text="hi") == {"text": "other"}


def test_the_context_carries_what_the_call_is_about():
    told = []
    bound = arguments(spec_of(stock), call(inputs={"sku": "AB-1"}), progress=told.append, deadline=9.0)
    ctx = bound["ctx"]
    assert (ctx.conversation_id, ctx.request_id, ctx.node_id, ctx.attempt) == ("c", "r", "n", 2)
    assert (ctx.idempotency_key, ctx.deadline, ctx.user_id, ctx.context) == ("k", 9.0, "u", "before")
    assert stock(**bound).units == 3 and told == ["counting"]
    assert ctx.remaining == 0.0


def test_an_agent_can_be_tried_without_a_daemon():
    assert stock("AB-1", Context()).sku == "AB-1"


def test_a_default_that_is_a_list_is_not_shared_between_calls():
    def collect(tags: list[str] = []) -> int:  # noqa: B006  # what is tested  # what is tested
        """Collect."""

    contract = Contract("collect", collect)
    contract.bind({}, text="")["tags"].append("x")
    assert contract.bind({}, text="") == {"tags": []}


# Results


def test_results_are_plain_data_and_their_json():
    data, body = returning(Total).encode(Total(1.5, [1.0]), max_bytes=MAX)
    assert data == {"amount": 1.5, "parts": [1.0]} == json.loads(body)
    assert returning(Line).encode({"sku": "A", "units": 2}, max_bytes=MAX)[0] == {"sku": "A", "units": 2}
    assert returning(dict[str, date]).encode({"a": date(2026, 1, 2)}, max_bytes=MAX)[0] == {"a": "2026-01-02"}
    assert returning(type(None)).encode(None, max_bytes=MAX) == (None, b"null")


WRONG_RESULTS = [
    (int, "x", "result", "'x'"),
    (int, None, "result", "None"),
    (Line, {"sku": "A", "units": -1}, "result.units", "-1"),
    (Line, {"sku": "A"}, "result.units", "required"),
    (list[Line], [{"sku": 5, "units": 1}], "result.0.sku", "5"),
    (type(None), 5, "result", "5"),
]


@pytest.mark.parametrize(("kind", "value", "field", "shown"), WRONG_RESULTS)
def test_a_wrong_result_names_field_and_value(kind, value, field, shown):
    with pytest.raises(ContractViolation) as caught:
        returning(kind).encode(value, max_bytes=MAX)
    assert caught.value.field == field and shown in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (float, math.nan, "result"),
        (float, -math.inf, "result"),
        (Total, Total(1.0, [1.0, math.inf]), "result.parts.1"),
        (list[Any], [None, {"a": [math.nan]}], "result.1.a.0"),
        (Any, {"a": math.nan}, "result.a"),
        (tuple[float, ...], (math.nan,), "result.0"),
        (set[float], {math.nan}, "result.0"),
        (Any, deque([math.nan]), "result.0"),
    ],
)
def test_nan_and_infinity_are_no_results_however_deep(kind, value, field):
    with pytest.raises(ContractViolation, match="not a finite number") as caught:
        returning(kind).encode(value, max_bytes=MAX)
    assert caught.value.field == field


def test_a_model_that_writes_nan_into_its_json_is_refused_too():
    class Loose(BaseModel, ser_json_inf_nan="constants"):
        x: float

    with pytest.raises(ContractViolation):
        returning(Loose).encode(Loose(x=math.nan), max_bytes=MAX)


def test_none_and_texts_that_look_like_nan_are_fine():
    assert returning(Any).encode({"a": None, "b": "NaN"}, max_bytes=MAX)[0] == {"a": None, "b": "NaN"}
    assert returning(Decimal).encode(Decimal("1.10"), max_bytes=MAX)[0] == "1.10"


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Explosive:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Explosive(),
        {"a": {1, object()}},
        "\ud800",
        {"\ud800": 1},
        b"\xff",
        endless(),
        deep(600),
        deep(5000),
        print,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_json_is_a_violation(value):
    with pytest.raises(ContractViolation) as caught:
        returning(Any).encode(value, max_bytes=MAX)
    assert len(str(caught.value)) < 1000


class Loose(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]  # pydantic's own way
    a: int


def test_no_infinity_hides_in_what_a_type_does_not_name():
    with pytest.raises(ContractViolation, match="finite"):
        returning(Loose).encode({"a": 1, "b": math.inf}, max_bytes=MAX)


def test_a_model_filled_past_its_own_checks_is_refused():
    with pytest.raises(ContractViolation):
        returning(Line).encode(Line.model_construct(sku="A", units="many"), max_bytes=MAX)


@pytest.mark.parametrize("value", ["x" * MAX, ["x" * 100] * 20_000, b"x" * (MAX + 1), [None] * MAX])
def test_a_result_too_large_is_said_with_its_size(value):
    with pytest.raises(ResultTooLarge, match=rf"has \d+ bytes; at most {MAX} are taken") as caught:
        returning(Any).encode(value, max_bytes=MAX)
    assert caught.value.error_class == "permanent"


def test_a_violation_shows_a_clipped_value():
    with pytest.raises(ContractViolation) as caught:
        returning(int).encode("x" * 100_000, max_bytes=MAX)
    assert len(str(caught.value)) < 300


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=10),
        st.binary(max_size=5),
        st.dates(),
        st.decimals(),
        st.complex_numbers(),
        st.sampled_from([object(), Colour.RED, Line(sku="a", units=1), Total(math.nan, []), int, Ellipsis]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(st.characters(), max_size=3), st.integers()), inner, max_size=4),
        st.tuples(inner, inner),
        st.frozensets(st.floats(), max_size=3),
    ),
    max_leaves=12,
)


def refuse(word: str) -> Any:
    raise AssertionError(word)


@given(values)
def test_encode_lets_nothing_through_that_is_no_json(value):
    try:
        data, body = returning(Any).encode(value, max_bytes=MAX)
    except (ContractViolation, ResultTooLarge):
        return
    assert json.loads(body.decode("utf-8"), parse_constant=refuse) == data
    json.dumps(data, allow_nan=False, ensure_ascii=False).encode()


# Versions and keys


def version(function: Any) -> str:
    return Contract("same", function).version


def test_the_version_changes_with_the_contract_and_with_nothing_else():
    def first(sku: str) -> int:
        """One."""

    def same(sku: str) -> int:
        """Say it differently."""
        return 5

    def other_input(sku: Annotated[str, Field(pattern="^a$")]) -> int:
        """One."""

    def other_result(sku: str) -> float:
        """One."""

    def more(sku: str, limit: int = 3) -> int:
        """One."""

    def other_default(sku: str, limit: int = 4) -> int:
        """One."""

    assert version(first) == version(same)
    assert len({version(f) for f in (first, other_input, other_result, more, other_default)}) == 5


def test_a_cache_key_knows_the_inputs_but_not_their_order():
    @agent
    def two(a: int, b: int, text: MessageText) -> int:
        """Add."""

    spec = spec_of(two)
    one = cache_key(spec, call(inputs={"a": 1, "b": 2}))
    assert one == cache_key(spec, call(inputs={"b": 2, "a": 1}, attempt=3, node="other"))
    assert one != cache_key(spec, call(inputs={"a": 1, "b": 3}))
    assert one != cache_key(spec, call(inputs={"a": 1, "b": 2}, text="another"))
