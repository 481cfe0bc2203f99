"""Contracts are as strict about results as about inputs, and take any name a Python parameter may have."""

from __future__ import annotations

import warnings
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from agents import MessageText, agent
from agents.contract import Contract
from agents.decorator import make_spec, spec_of
from agents.errors import AgentDefinitionError, ContractViolation
from agents.registry import Registry

MAX = 1 << 20


class Size(Enum):
    """Two of them."""

    SMALL = "small"
    LARGE = "large"


class Cup(BaseModel):
    """A model with a number in it."""

    units: int
    size: Size = Size.SMALL


class Round(BaseModel):
    """One of two shapes."""

    kind: Literal["round"]
    radius: float


class Square(BaseModel):
    """The other of two shapes."""

    kind: Literal["square"]
    side: float


def returning(kind: Any) -> Contract:
    def give() -> int:
        """Give it."""

    give.__annotations__["return"] = kind
    return Contract("give", give)


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (int, "12", "result"),
        (int, True, "result"),
        (int, 3.0, "result"),
        (float, "1.5", "result"),
        (bool, 1, "result"),
        (bool, "yes", "result"),
        (Cup, {"units": "3"}, "result.units"),
        (Cup, {"units": True}, "result.units"),
        (list[int], (1, "2"), "result.1"),
        (Size, "medium", "result"),
        (date, "soon", "result"),
    ],
)
def test_what_only_looks_like_the_right_type_is_a_violation(kind, value, field):
    with pytest.raises(ContractViolation) as caught:
        returning(kind).encode(value, max_bytes=MAX)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        (float, 3, 3.0),
        (Cup, {"units": 3, "size": "large"}, {"units": 3, "size": "large"}),
        (list[Cup], (Cup(units=1), {"units": 2}), [{"units": 1, "size": "small"}, {"units": 2, "size": "small"}]),
        (tuple[int, str], [1, "a"], [1, "a"]),
        (Size, "small", "small"),
        (date, "2026-11-20", "2026-11-20"),
        (Decimal, 1, "1"),
        (Annotated[Round | Square, Field(discriminator="kind")], {"kind": "square", "side": 2}, None),
    ],
)
def test_the_json_form_of_the_right_type_will_do(kind, value, data):
    found, _body = returning(kind).encode(value, max_bytes=MAX)
    assert found == (data if data is not None else {"kind": "square", "side": 2.0})


NAMES = [
    "copy",
    "json",
    "schema",
    "model_config",
    "model_fields",
    "model_fields_set",
    "model_dump",
    "_own",
    "self",
    "p1",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_may_have_any_name(name):
    def take(first, second) -> int:
        """Take two."""

    parameters = {"first": int, name: str}
    take.__annotations__ = {**parameters, "return": int}
    take.__signature__ = signature_of(take, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contract = Contract("take", take)
    assert contract.bind({"first": 1, name: "x"}, text="") == {"first": 1, name: "x"}
    assert list(contract.input_schema["properties"]) == ["first", name] == list(contract.fields)
    with pytest.raises(ContractViolation, match=f"input.{name}: "):
        contract.bind({"first": 1, name: 5}, text="")
    with pytest.raises(ContractViolation, match=r"input\.p0: Extra inputs"):
        contract.bind({"first": 1, name: "x", "p0": 1}, text="")


def signature_of(function: Any, parameters: dict[str, Any]) -> Any:
    import inspect

    kind = inspect.Parameter.KEYWORD_ONLY
    listed = [inspect.Parameter(name, kind, annotation=type_) for name, type_ in parameters.items()]
    return inspect.signature(function).replace(parameters=listed)


def test_message_text_may_be_optional():
    @agent
    def look(text: MessageText | None = None) -> str:
        """Look."""

    assert spec_of(look).contract.bind({}, text="said") == {"text": "said"}


def test_a_literal_of_one_of_several_shapes_is_checked_by_its_tag():
    def draw(
        shape: Annotated[Round | Square, Field(discriminator="kind")], count: int = Field(1, ge=1)
    ) -> int:  # what is tested
        """Draw it."""

    contract = Contract("draw", draw)
    assert contract.validate_field("shape", {"kind": "round", "radius": 1.0}) is None
    assert "expected tags" in str(contract.validate_field("shape", {"kind": "oval"}))
    assert "greater than or equal to 1" in str(contract.validate_field("count", 0))


def test_a_fallback_that_could_never_take_over_is_refused_at_start():
    def first(sku: str, note: str = "") -> int:
        """Ask the one."""

    def other_name(article: str) -> int:
        """Ask the other."""

    def needs_more(sku: str, store: str) -> int:
        """Ask a third."""

    def fits(sku: str, extra: int = 0) -> int:
        """Ask a fourth."""

    def registry(other: Any) -> Registry:
        spec = make_spec(first, {"on_failure": f"fallback:{other.__name__}"})
        return Registry([spec, make_spec(other, {})])

    assert registry(fits).names() == ["first", "fits"]
    with pytest.raises(AgentDefinitionError, match="fallback other_name also needs the input article"):
        registry(other_name)
    with pytest.raises(AgentDefinitionError, match="fallback needs_more also needs the input store"):
        registry(needs_more)
