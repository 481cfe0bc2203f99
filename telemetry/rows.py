"""What goes to the store's tables: rows made from clean log entries.

Each has the fields of the persistence record of that name, in its order; the composition root says that it wants those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple


class Operation(NamedTuple):
    """A row for `orchestrator_operation_logs`."""

    at: int
    """Milliseconds since the epoch."""
    event: str
    level: str
    conversation_id: str | None
    request_id: str | None
    fields: dict[str, Any]


class Measurement(NamedTuple):
    """A row for `orchestrator_performance_metrics`."""

    at: int
    name: str
    value: float
    unit: str
    conversation_id: str | None
    agent: str | None


class Kinds(NamedTuple):
    """What rows are made as: called with the fields of `Operation` and of `Measurement`."""

    operation: Callable[[int, str, str, str | None, str | None, dict[str, Any]], Any] = Operation
    measurement: Callable[[int, str, float, str, str | None, str | None], Any] = Measurement


Sink = Callable[[list[Any]], int]
"""Takes rows and returns how many, the first ones, if not all; it must not wait. Called from one thread."""

_MEASURED: Final = {
    "agent_call": "agent_call_ms",
    "reply_sent": "request_ms",
    "recovered": "recovery_ms",
    "snapshot_saved": "snapshot_ms",
}
"""Events whose `duration_ms` is a measurement of that name."""


def add_rows(rows: list[Any], kinds: Kinds, at: int, event: str, level: str, entry: dict[str, Any]) -> None:
    """Add the rows for a clean entry, which is not used again."""
    conversation_id, request_id = entry.pop("conversation_id", None), entry.pop("request_id", None)
    # An agent in this process may log our events with anything: a store that cannot take one row loses its batch.
    if type(conversation_id) is not str and conversation_id is not None:
        conversation_id = str(conversation_id)
    if type(request_id) is not str and request_id is not None:
        request_id = str(request_id)
    rows.append(kinds.operation(at, event, level, conversation_id, request_id, entry))
    name = _MEASURED.get(event)
    if name is not None:
        value = entry.get("duration_ms")
        if type(value) is float or type(value) is int:
            agent = entry.get("agent")
            if type(agent) is not str and agent is not None:
                agent = str(agent)
            rows.append(kinds.measurement(at, name, float(value), "ms", conversation_id, agent))
