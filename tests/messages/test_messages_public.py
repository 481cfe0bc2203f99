"""What clients see of an event is the same whether it is made as plain data or as bytes."""

from __future__ import annotations

import json
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.base import Message, fields_of
from messages.events import AgentProgress, Event, Journaled, public_json, rfc3339, to_public
from messages.plan import NodeSpec

KINDS = (*get_args(Journaled), AgentProgress)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
TEXT = st.text(max_size=20)
NODES = st.builds(NodeSpec, id=st.just("a"), agent=st.just("b"), inputs=st.dictionaries(TEXT, JSON, max_size=2))


def _value(annotation: Any) -> st.SearchStrategy[Any]:
    """Return values for a field, by its type."""
    if annotation is Any:
        return JSON
    if annotation in (str, NodeSpec):
        return TEXT if annotation is str else NODES
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind in (UnionType, Union):
        return st.one_of([_value(one) for one in inner])
    if kind is dict:
        return st.dictionaries(TEXT, _value(inner[1]), max_size=2)
    if kind is tuple:
        return st.lists(_value(inner[0]), max_size=2).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return st.builds(annotation, **{name: _value(one.annotation) for name, one in annotation.model_fields.items()})
    return st.from_type(annotation)


@st.composite
def _events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(KINDS))
    fields = {
        name: draw(_value(field.annotation))
        for name, field in fields_of(kind).items()
        if name != "type" and (field.is_required() or draw(st.booleans()))
    }
    return kind(**fields | {"at": draw(st.integers(0, 2**42)), "seq": draw(st.integers(0, 9))})


@given(_events())
def test_the_bytes_hold_what_the_plain_data_holds_in_the_same_order(event: Event) -> None:
    said = json.loads(json.dumps(to_public(event), default=str), parse_constant=lambda _: None)
    told = json.loads(public_json(event))
    assert told == said
    assert list(told) == list(said)


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_712_000_001, "2025-11-21T08:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
        (-(2**63), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_shown_to_the_millisecond(at: int, shown: str) -> None:
    assert rfc3339(at) == shown
