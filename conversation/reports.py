"""Durable events as log lines: what the person on call reads, and what the metrics count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from actors.system import Said
from messages.events import (
    ConversationQuarantined,
    Journaled,
    MessageAccepted,
    MessageRefused,
    NodeFailed,
    NodeRetrying,
    NodeSucceeded,
    PhaseChanged,
    PlanFailed,
    ReplySent,
    SynthesisFailed,
)


def reports(events: Sequence[Journaled]) -> list[Said]:
    """Return what the log says of some events; names and fields are those of telemetry/catalogue.py."""
    said: list[Said] = []
    for event in events:
        made = _REPORTS.get(type(event))
        if made is not None:
            said.append(made(event))
            if isinstance(event, NodeFailed):
                said.append(_error(event, _retry_of(event, events)))
    return said


def _accepted(event: MessageAccepted) -> Said:
    return "message_accepted", {"request_id": event.request_id, "message_id": event.message_id, "seq": event.seq}


def _refused(event: MessageRefused) -> Said:
    return "message_refused", {"request_id": event.request_id, "message_id": event.message_id, "code": event.code}


def _moved(event: PhaseChanged) -> Said:
    return "state_transition", {
        "request_id": event.request_id,
        "from_state": event.from_phase,
        "to_state": event.to_phase,
        "trigger": event.cause,
    }


def _succeeded(event: NodeSucceeded) -> Said:
    return "agent_call", {
        "request_id": event.request_id,
        "node_id": event.node,
        "agent": event.agent,
        "attempt": event.attempt,
        "success": True,
        "duration_ms": event.duration_ms,
        "cached": event.cached,
    }


def _failed(event: NodeFailed) -> Said:
    return "agent_call", {
        "request_id": event.request_id,
        "node_id": event.node,
        "agent": event.agent,
        "attempt": event.attempt,
        "success": False,
        "error_type": event.error.type,
        "error_class": event.error.error_class,
        "error_message": event.error.message,
        "duration_ms": event.duration_ms,
    }


def _retry_of(failed: NodeFailed, events: Sequence[Journaled]) -> NodeRetrying | None:
    """Return what was decided about a failure: it stands in the same step."""
    return next((event for event in events if isinstance(event, NodeRetrying) and event.node == failed.node), None)


def _error(event: NodeFailed, retry: NodeRetrying | None) -> Said:
    return "error", {
        "request_id": event.request_id,
        "node_id": event.node,
        "agent": event.agent,
        "attempt": event.attempt,
        "error_type": event.error.type,
        "error_class": event.error.error_class,
        "error_message": event.error.message,
        "retry_count": event.attempt - 1 if retry is None else event.attempt,
        "retry_delay": None if retry is None else retry.delay,
        "rule": None if retry is None else retry.reason,
    }


def _attempt_failed(event: PlanFailed | SynthesisFailed) -> Said:
    return "error", {
        "request_id": event.request_id,
        "where": event.type.partition(".")[0],
        "error_type": event.error.type,
        "error_class": event.error.error_class,
        "error_message": event.error.message,
        "retry_count": event.attempt,
        "retry_delay": event.delay,
    }


def _replied(event: ReplySent) -> Said:
    missing = [branch.node for branch in event.missing]
    return "reply_sent", {"request_id": event.request_id, "status": event.status, "missing": missing}


def _quarantined(event: ConversationQuarantined) -> Said:
    return "conversation_quarantined", {"reason": event.reason}


_REPORTS: Final[dict[type[Journaled], Callable[[Any], Said]]] = {
    MessageAccepted: _accepted,
    MessageRefused: _refused,
    PhaseChanged: _moved,
    NodeSucceeded: _succeeded,
    NodeFailed: _failed,
    PlanFailed: _attempt_failed,
    SynthesisFailed: _attempt_failed,
    ReplySent: _replied,
    ConversationQuarantined: _quarantined,
}
