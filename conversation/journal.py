"""Between the core and the store: a step as what is appended, and what was loaded as a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from messages.agent import NodeResult
from messages.conversation import Submit
from messages.events import ConversationQuarantined, Journaled, MessageAccepted, NodeSucceeded, PhaseChanged, ReplySent
from messages.frozen import frozen
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


class Unreadable(ValueError):
    """Neither the snapshot nor the journal of this conversation can be read: only a repair of its rows helps."""


@frozen
class Woken:
    """A conversation as it was when its last step was committed."""

    state: State
    memory: Memory
    snapshot_seq: int


def wake(loaded: Loaded) -> Woken:
    """Return the state and memory that a store holds.

    Raises `CorruptEntry`, `SnapshotCorrupt`, `SnapshotNewer` or `StateInvalid`: what cannot be read is never guessed.
    """
    _check_holes(loaded)
    if loaded.damaged:
        raise CorruptEntry(loaded.conversation_id, loaded.last_seq, loaded.damaged)
    state = State(loaded.conversation_id)
    if loaded.snapshot is None:
        if loaded.snapshot_seq:
            raise snapshots.SnapshotCorrupt("it is not there")
    else:
        plain = snapshots.unseal(loaded.snapshot, schema=SCHEMA)
        texts = {row.seq: row.text for row in loaded.memory if row.role == "user"}
        results = {(row.request_id, row.node): _result(loaded, row) for row in loaded.results}
        state = from_plain(plain, texts=texts, results=results)
        if (state.conversation_id, state.seq) != (loaded.conversation_id, loaded.snapshot_seq):
            raise snapshots.SnapshotCorrupt(f"it is that of {state.conversation_id} at {state.seq}")
    bare = [event for row in loaded.entries for event in decode(loaded.conversation_id, row)]
    events, missing = hydrate(bare, loaded.results, loaded.memory)
    if missing:
        events = [_lost(event) if _is_missing(event, missing) else event for event in events]
    remarks = [Remark(row.seq, row.role, row.request_id, row.text) for row in loaded.memory if not row.forgotten]
    state = _fold(state, events)
    _check_texts(loaded, state)
    return Woken(state, Memory().add(*remarks), loaded.snapshot_seq)


def _check_texts(loaded: Loaded, state: State) -> None:
    """Let no request go on whose question is gone: it would be answered as if nothing had been asked."""
    there = {row.seq for row in loaded.memory if row.role == "user"}
    for request in (state.request, *state.queue):
        if request is not None and request.accepted_seq not in there:
            raise CorruptEntry(loaded.conversation_id, request.accepted_seq, "missing: what was asked")


def _fold(state: State, events: Sequence[Journaled]) -> State:
    """Do as `workflow.evolve.fold`, for events that perhaps another version of the program has written."""
    for event in events:
        try:
            state = fold(state, (event,))
        except Exception as error:  # what this version writes always folds, so it is none of its own
            reason = f"{event.type} does not follow on what was before: {type(error).__name__}: {error}"
            raise CorruptEntry(state.conversation_id, event.seq, reason) from error
    return state


def _check_holes(loaded: Loaded) -> None:
    newest = loaded.snapshot_seq
    for row in loaded.entries:
        if not isinstance(row.last_seq, int):
            raise CorruptEntry(loaded.conversation_id, newest + 1, f"its row says that it ends at {row.last_seq!r}")
        if row.first_seq != newest + 1:
            raise CorruptEntry(loaded.conversation_id, newest + 1, f"missing: the next stored step is {row.first_seq}")
        newest = row.last_seq
    if newest != loaded.last_seq:
        raise CorruptEntry(loaded.conversation_id, newest + 1, f"missing: the conversation is at {loaded.last_seq}")


def set_aside(loaded: Loaded, reason: str, at: int) -> tuple[list[Journaled], Append] | None:
    """Return the step that quarantines what cannot be read; None when the newest step did so already.

    `loaded` is the whole journal. Nothing else of what is stored is changed, so that it can be repaired: to retention
    the conversation is one with an open message.
    """
    if loaded.entries and _says_quarantined(loaded):
        return None
    key, seq = loaded.conversation_id, loaded.last_seq + 1
    events: list[Journaled] = [ConversationQuarantined(seq=seq, at=at, conversation_id=key, reason=reason)]
    if loaded.phase != Phase.PAUSED:
        to = Phase.PAUSED.value
        events.append(PhaseChanged(seq=seq + 1, at=at, conversation_id=key, from_phase=loaded.phase, to_phase=to))
    step = build_append(
        conversation_id=loaded.conversation_id,
        expected_seq=loaded.last_seq,
        events=events,
        phase=Phase.PAUSED.value,
        unfinished=False,
        oldest_open_seq=1,
        open_request_ids=tuple(sorted({row.request_id for row in loaded.results})),
        snapshot=None,
        fingerprints={},
        results={},
    )
    return events, step


def _says_quarantined(loaded: Loaded) -> bool:
    # A spoilt row need not be where it was: that of the newest step is known by its number, not by its place.
    newest = next((row for row in reversed(loaded.entries) if row.last_seq == loaded.last_seq), None)
    if newest is None:
        return False
    try:
        events = decode(loaded.conversation_id, newest)
    except CorruptEntry:
        return False
    return any(isinstance(event, ConversationQuarantined) for event in events)


def _result(loaded: Loaded, row: ResultRow) -> Any:
    try:
        return from_json(row.body)
    except (ValueError, TypeError) as error:
        reason = f"the result of node {row.node} is not JSON: {error}"
        raise CorruptEntry(loaded.conversation_id, loaded.snapshot_seq, reason) from None


def _is_missing(event: Journaled, missing: Any) -> bool:
    return isinstance(event, NodeSucceeded) and (event.request_id, event.node) in missing


def _lost(event: Journaled) -> Journaled:
    return event.changed(result=LOST)


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
    causes: Sequence[Incoming],
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
    if keep_results:
        for cause in causes:
            if isinstance(cause, NodeResult):
                body = ResultBody(cause.result_json, cause.cache_key, cause.cache_ttl)
                bodies[cause.request_id, cause.node] = body
    open_requests = [request for request in (state.request, *state.queue) if request is not None]
    return build_append(
        conversation_id=state.conversation_id,
        expected_seq=before,
        events=events,
        phase=state.phase._value_,  # `value` takes two calls
        unfinished=state.request is not None and state.phase not in RESTING,
        oldest_open_seq=min((request.accepted_seq for request in open_requests), default=None),
        open_request_ids=() if state.request is None else (state.request.request_id,),
        snapshot=snapshots.seal(to_plain(state), schema=SCHEMA) if snapshot else None,
        fingerprints=fingerprints,
        results=bodies,
        note=note,
        progress=not isinstance(causes[0], Recovered),
    )
