"""docs/messages.md names every message, event and field there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from messages.base import fields_of
from messages.events import Event, EventBase
from messages.inbound import Cancel, Pause, Resume, UserMessage
from messages.plan import PlanNode

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")
INBOUND, OUTBOUND = PAGE.split("## Out: events")
EVENTS = get_args(Event)


def name_of(event: Any) -> str:
    return str(fields_of(event)["type"].default)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables' rows."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("|")
    ]


def quoted(text: str) -> set[str]:
    """Return what stands in backticks, less examples of values: those follow a colon."""
    return set(re.findall(r"`([a-z_]+)`", re.sub(r": [^,(]*", " ", text)))


def own_fields(event: Any) -> set[str]:
    hidden = {*fields_of(EventBase), "type"} | ({"nodes"} if name_of(event) == "reply.sent" else set())
    return {field.serialization_alias or key for key, field in fields_of(event).items() if key not in hidden}


@pytest.mark.parametrize("event", EVENTS, ids=name_of)
def test_every_event_has_its_row_with_its_fields(event):
    [row] = [row for row in rows(OUTBOUND) if f"`{name_of(event)}`" in row[0]]
    assert quoted(row[2]) == own_fields(event)


def test_the_page_names_no_event_that_there_is_not():
    named = {name for row in rows(OUTBOUND) for name in re.findall(r"`([a-z]+\.[a-z]+)`", row[0])}
    assert named == set(map(name_of, EVENTS))


def test_every_field_of_a_message_and_of_a_node_is_there():
    fields = {name for row in rows(INBOUND) for cell in row[:2] for name in re.findall(r"`([a-z_]+)`", cell)}
    models = (UserMessage, Cancel, Pause, Resume, PlanNode)
    types = {str(model.model_fields["type"].default) for model in models if "type" in model.model_fields}
    known = {name for model in models for name in model.model_fields} - {"type"} | types
    assert known <= fields
    # The second cell of a node's row is its meaning, and may name values.
    assert {name for row in rows(INBOUND) for name in re.findall(r"`([a-z_]+)`", row[0])} <= known
