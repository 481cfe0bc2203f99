"""A step as what a store appends: the entry, and everything that is stored once beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from messages.events import (
    Journaled,
    MessageAccepted,
    NodeFailed,
    NodeRetrying,
    NodeSucceeded,
    PlanFailed,
    ReplySent,
    SynthesisFailed,
)
from persistence.contract import Append, ErrorRow, InboxRow, MemoryRow, ResultRow
from persistence.entry import encode


class ResultBody(NamedTuple):
    """An agent's result, encoded once."""

    body: bytes
    """JSON."""
    cache_key: str | None = None
    cache_ttl: float | None = None
    """Seconds it may be reused."""


def build_append(
    *,
    conversation_id: str,
    expected_seq: int,
    events: Sequence[Journaled],
    phase: str,
    unfinished: bool,
    oldest_open_seq: int | None,
    open_request_ids: tuple[str, ...],
    snapshot: bytes | None,
    fingerprints: Mapping[str, str],
    results: Mapping[tuple[str, str], ResultBody],
    note: MemoryRow | None = None,
    progress: bool = True,
) -> Append:
    """Return the step as an `Append`.

    `fingerprints` by message id; `results` by (request, node): a success without one is recorded without its body.
    Raises `ValueError` when the events do not follow on `expected_seq` one by one.
    """
    if events[0].seq != expected_seq + 1:
        raise ValueError(f"{conversation_id}: event {events[0].seq} does not follow on {expected_seq}")
    inbox: list[InboxRow] = []
    replied: list[tuple[str, int]] = []
    memory: list[MemoryRow] = []
    rows: list[ResultRow] = []
    forget: list[str] = []
    failed = False
    user_id = None
    for event in events:
        kind = type(event)
        if kind not in _CARRIERS:
            continue
        request_id = event.request_id or ""
        if isinstance(event, NodeSucceeded):
            result = results.get((request_id, event.node))
            if result is not None:
                rows.append(_result_row(event, result))
        elif isinstance(event, MessageAccepted):
            user_id = event.user_id or user_id
            inbox.append(InboxRow(event.message_id, request_id, fingerprints.get(event.message_id, ""), event.seq))
            memory.append(MemoryRow(event.seq, "user", request_id, event.text, event.at))
        elif isinstance(event, ReplySent):
            replied.append((event.message_id, event.seq))
            row = MemoryRow(event.seq, "assistant", request_id, event.text, event.at, forgotten=event.forgotten)
            memory.append(row)
            if event.forgotten:
                forget.append(request_id)
        else:
            failed = True
    if note is not None:
        memory.append(note)
    return Append(
        conversation_id=conversation_id,
        expected_seq=expected_seq,
        last_seq=events[-1].seq,
        at=events[-1].at,
        entry=encode(events),
        phase=phase,
        unfinished=unfinished,
        oldest_open_seq=oldest_open_seq,
        open_request_ids=open_request_ids,
        progress=progress,
        user_id=user_id,
        inbox=tuple(inbox),
        replied=tuple(replied),
        results=tuple(rows),
        memory=tuple(memory),
        forget=tuple(forget),
        snapshot=snapshot,
        errors=tuple(_errors(events)) if failed else (),
    )


_CARRIERS: Final = frozenset({MessageAccepted, ReplySent, NodeSucceeded, NodeFailed, PlanFailed, SynthesisFailed})
"""Events of which more is stored than the entry says."""


def _result_row(event: NodeSucceeded, result: ResultBody) -> ResultRow:
    expires = None if result.cache_ttl is None else event.at + round(result.cache_ttl * 1000)
    return ResultRow(
        request_id=event.request_id or "",
        node=event.node,
        agent=event.agent,
        attempt=event.attempt,
        body=result.body,
        duration_ms=event.duration_ms,
        cached=event.cached,
        cache_key=result.cache_key,
        expires_at=expires,
    )


def _errors(events: Sequence[Journaled]) -> list[ErrorRow]:
    delays = {event.node: event.delay for event in events if isinstance(event, NodeRetrying)}
    rows = []
    for event in events:
        if isinstance(event, NodeFailed):
            rows.append(_error(event, event.node, event.agent, delays.get(event.node)))
        elif isinstance(event, (PlanFailed, SynthesisFailed)):
            role = "planner" if isinstance(event, PlanFailed) else "synthesizer"
            rows.append(_error(event, None, role, event.delay))
    return rows


def _error(
    event: NodeFailed | PlanFailed | SynthesisFailed, node: str | None, agent: str, delay: float | None
) -> ErrorRow:
    return ErrorRow(
        request_id=event.request_id,
        node=node,
        agent=agent,
        attempt=event.attempt,
        error_type=event.error.type,
        error_class=event.error.error_class,
        message=event.error.message,
        at=event.at,
        retry_delay=delay,
    )
