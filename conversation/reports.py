"""Durable events as log lines: what the person on call reads, and what the metrics count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages.events import Journaled

Log = Callable[..., None]


def report(event: Journaled, log: Log) -> None:
    """Say one event; names and fields are those of telemetry/catalogue.py."""
    say = _REPORTS.get(event.type)
    if say is not None:
        say(event, log)


def _accepted(event: Any, log: Log) -> None:
    log("message_accepted", request_id=event.request_id, message_id=event.message_id, seq=event.seq)


def _refused(event: Any, log: Log) -> None:
    log("message_refused", request_id=event.request_id, message_id=event.message_id, code=event.code)


def _moved(event: Any, log: Log) -> None:
    log(
        "state_transition",
        request_id=event.request_id,
        from_state=event.from_phase,
        to_state=event.to_phase,
        trigger=event.cause,
    )


def _succeeded(event: Any, log: Log) -> None:
    log(
        "agent_call",
        request_id=event.request_id,
        node_id=event.node,
        agent=event.agent,
        attempt=event.attempt,
        success=True,
        duration_ms=event.duration_ms,
        cached=event.cached,
    )


def _failed(event: Any, log: Log) -> None:
    log(
        "agent_call",
        request_id=event.request_id,
        node_id=event.node,
        agent=event.agent,
        attempt=event.attempt,
        success=False,
        error_type=event.error.type,
        error_class=event.error.error_class,
        error_message=event.error.message,
    )


def _retrying(event: Any, log: Log) -> None:
    log(
        "error",
        request_id=event.request_id,
        node_id=event.node,
        agent=event.agent,
        retry_count=event.attempt - 1,
        retry_delay=event.delay,
        rule=event.reason,
    )


def _attempt_failed(event: Any, log: Log) -> None:
    log(
        "error",
        request_id=event.request_id,
        where=event.type.partition(".")[0],
        error_type=event.error.type,
        error_class=event.error.error_class,
        error_message=event.error.message,
        retry_count=event.attempt,
        retry_delay=event.delay,
    )


def _replied(event: Any, log: Log) -> None:
    log("reply_sent", request_id=event.request_id, status=event.status, missing=[m.node for m in event.missing])


def _quarantined(event: Any, log: Log) -> None:
    log("conversation_quarantined", reason=event.reason)


_REPORTS: dict[str, Callable[[Any, Log], None]] = {
    "message.accepted": _accepted,
    "message.refused": _refused,
    "phase.changed": _moved,
    "node.succeeded": _succeeded,
    "node.failed": _failed,
    "node.retrying": _retrying,
    "plan.failed": _attempt_failed,
    "synthesis.failed": _attempt_failed,
    "reply.sent": _replied,
    "conversation.quarantined": _quarantined,
}
