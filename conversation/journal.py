"""Between the core and the store: a step as what is appended, and what was loaded as a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from messages.agent import NodeResult
from messages.conversation import Submit
from messages.events import Journaled, MessageAccepted, NodeSucceeded, ReplySent
from messages.inbound import UserMessage
from messages.lifecycle import Recovered
from persistence import snapshot as snapshots
from persistence.append import ResultBody, build_append
from persistence.contract import Append, Loaded, MemoryRow, ResultRow
from persistence.entry import CorruptEntry, decode, hydrate
from workflow.codec import SCHEMA, StateInvalid, from_plain, to_plain
from workflow.evolve import fold
from workflow.memory import Memory, MemoryLimits, Remark
from workflow.phases import Incoming
from workflow.state import LOST, Phase, State

RESTING = (Phase.PAUSED, Phase.AWAITING_APPROVAL)
"""Phases in which a request is open but a person has the next word: there is nothing to resume at start."""


UNREADABLE = (CorruptEntry, snapshots.SnapshotCorrupt, snapshots.SnapshotNewer, StateInvalid)
"""What waking raises when the store holds something that is not a conversation of this version."""


@dataclass(frozen=True, slots=True)
class Woken:
    """A conversation as it was when its last step was committed."""

    state: State
    memory: Memory
    snapshot_seq: int


def wake(loaded: Loaded) -> Woken:
    """Return the state and memory that a store holds.

    Raises `CorruptEntry`, `SnapshotCorrupt`, `SnapshotNewer` or `StateInvalid`: what cannot be read is never guessed.
    """
    state = State(loaded.conversation_id)
    if loaded.snapshot is not None:
        plain = snapshots.unseal(loaded.snapshot, schema=SCHEMA)
        texts = {row.seq: row.text for row in loaded.memory if row.role == "user"}
        results = {(row.request_id, row.node): _result(loaded, row) for row in loaded.results}
        state = from_plain(plain, texts=texts, results=results)
    bare = [event for row in loaded.entries for event in decode(loaded.conversation_id, row)]
    events, missing = hydrate(bare, loaded.results, loaded.memory)
    if missing:
        events = [_lost(event) if _is_missing(event, missing) else event for event in events]
    remarks = [Remark(row.seq, row.role, row.request_id, row.text) for row in loaded.memory if not row.forgotten]
    return Woken(fold(state, events), Memory().add(*remarks), loaded.snapshot_seq)


def _result(loaded: Loaded, row: ResultRow) -> Any:
    try:
        return from_json(row.body)
    except ValueError as error:
        reason = f"the result of node {row.node} is not JSON: {error}"
        raise CorruptEntry(loaded.conversation_id, loaded.snapshot_seq, reason) from None


def _is_missing(event: Journaled, missing: Any) -> bool:
    return isinstance(event, NodeSucceeded) and (event.request_id, event.node) in missing


def _lost(event: Journaled) -> Journaled:
    return event.model_copy(update={"result": LOST})


def remember(
    memory: Memory, events: Sequence[Journaled], state: State, limits: MemoryLimits
) -> tuple[Memory, MemoryRow | None]:
    """Return the memory with what was said in a step, and the note to store when the history was condensed.

    `state` is the one after the step.
    """
    note = None
    for event in events:
        if isinstance(event, MessageAccepted):
            memory = memory.add(Remark(event.seq, "user", event.request_id or "", event.text))
        elif isinstance(event, ReplySent):
            if event.forgotten:
                memory = memory.forget([event.request_id or ""])
                continue
            memory = memory.add(Remark(event.seq, "assistant", event.request_id or "", event.text))
            condensed = memory.condensed(limits, still_open=_open_ids(state))
            if condensed is not None:
                memory = memory.add(condensed)
                note = MemoryRow(condensed.seq, "note", condensed.request_id, condensed.text, event.at)
    return memory, note


def _open_ids(state: State) -> set[str]:
    return {request.request_id for request in (state.request, *state.queue) if request is not None}


def snapshot_due(state: State, snapshot_seq: int, every: int) -> bool:
    """Return whether this step should carry a snapshot: when the turn is over, when it rests, or every so many events.

    So a conversation that may be passivated always has one: none needs to be written then.
    """
    return state.request is None or state.phase in RESTING or state.seq - snapshot_seq >= every


def append(
    before: int,
    events: Sequence[Journaled],
    state: State,
    *,
    cause: Incoming,
    submit: Submit | None,
    note: MemoryRow | None,
    snapshot: bool,
    keep_results: bool = True,
) -> Append:
    """Return a step as what the store appends."""
    fingerprints = {}
    if submit is not None and isinstance(submit.message, UserMessage):
        fingerprints[submit.message_id] = submit.fingerprint
    bodies = {}
    if isinstance(cause, NodeResult) and keep_results:
        body = ResultBody(cause.result_json, cause.cache_key, cause.cache_ttl)
        bodies[cause.request_id, cause.node] = body
    open_requests = [request for request in (state.request, *state.queue) if request is not None]
    return build_append(
        conversation_id=state.conversation_id,
        expected_seq=before,
        events=events,
        phase=state.phase.value,
        unfinished=state.request is not None and state.phase not in RESTING,
        oldest_open_seq=min((request.accepted_seq for request in open_requests), default=None),
        open_request_ids=() if state.request is None else (state.request.request_id,),
        snapshot=snapshots.seal(to_plain(state), schema=SCHEMA) if snapshot else None,
        fingerprints=fingerprints,
        results=bodies,
        note=note,
        progress=not isinstance(cause, Recovered),
    )
