"""What goes to the store's tables: rows as plain dicts, made from clean log entries.

A row has a `kind`, `operation` or `metric`; its other keys are the fields of the persistence record of that name. The
composition root turns one into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

Sink = Callable[[dict[str, Any]], bool]
"""Takes one row, or says at once that it cannot; it must not wait. Called from one thread, many rows in a row."""

_OWN_COLUMNS: Final = frozenset({"event", "level", "conversation_id", "request_id"})

_MEASURED: Final = {
    "agent_call": "agent_call_ms",
    "reply_sent": "request_ms",
    "recovered": "recovery_ms",
    "snapshot_saved": "snapshot_ms",
}
"""Events whose `duration_ms` is a measurement of that name."""


def operation_row(at: float, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the row for `orchestrator_operation_logs`; `at` is seconds since the epoch, a row's milliseconds."""
    return {
        "kind": "operation",
        "at": round(at * 1_000),
        "event": entry["event"],
        "level": entry["level"],
        "conversation_id": entry.get("conversation_id"),
        "request_id": entry.get("request_id"),
        "fields": {key: value for key, value in entry.items() if key not in _OWN_COLUMNS},
    }


def metric_rows(at: float, entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows for `orchestrator_performance_metrics`."""
    name = _MEASURED.get(entry["event"])
    value = entry.get("duration_ms")
    if name and isinstance(value, (int, float)):
        yield {
            "kind": "metric",
            "at": round(at * 1_000),
            "name": name,
            "value": float(value),
            "unit": "ms",
            "conversation_id": entry.get("conversation_id"),
            "agent": entry.get("agent"),
        }
