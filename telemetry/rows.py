"""What goes to the store's tables: rows made from clean log entries.

Each has the fields of the persistence record of that name, in its order; the composition root turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


Row = Operation | Measurement
Sink = Callable[[list[Row]], int]
"""Takes rows and returns how many, the first ones, if not all; it must not wait. Called from one thread."""

_MEASURED: Final = {
    "agent_call": "agent_call_ms",
    "reply_sent": "request_ms",
    "recovered": "recovery_ms",
    "snapshot_saved": "snapshot_ms",
}
"""Events whose `duration_ms` is a measurement of that name."""


def rows_of(at: float, entry: dict[str, Any]) -> Iterator[Row]:
    """Yield the rows for an entry; `at` is seconds since the epoch. The entry belongs to the first of them then."""
    milliseconds = round(at * 1_000)
    event = entry.pop("event")
    conversation_id = _name(entry.pop("conversation_id", None))
    request_id = _name(entry.pop("request_id", None))
    yield Operation(milliseconds, event, entry.pop("level"), conversation_id, request_id, entry)
    name = _MEASURED.get(event)
    if name is not None:
        value = entry.get("duration_ms")
        if isinstance(value, (int, float)):
            yield Measurement(milliseconds, name, float(value), "ms", conversation_id, _name(entry.get("agent")))


def _name(value: Any) -> str | None:
    # An agent in this process may log our events with anything: a store that cannot take one row loses its batch.
    return value if value is None or type(value) is str else str(value)
