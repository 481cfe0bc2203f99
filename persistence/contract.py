"""The store contract: every verb a store has, and the records that pass through it.

Rules every store keeps, held by tests/persistence/contract_suite.py:

1. `commit` is durable when it returns, as durable as the store's documentation says.
2. An `Append` is applied whole or not at all, together with everything it carries.
3. Sequence numbers of a conversation have no holes: an `Append` whose `expected_seq` is not the newest is refused.
4. Every write is refused when this process no longer owns the store (its epoch is not the newest).
5. Reading never runs code and never changes anything.

`commit` and the other writing verbs are called by one thread (the writer); reading verbs by several at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from messages.frozen import frozen


@frozen
class InboxRow:
    """One accepted message, for telling a repetition from a new message."""

    message_id: str
    request_id: str
    fingerprint: str
    """Hash of the message's body: the same id with another body is refused."""
    seq: int
    """Sequence number of its `message.accepted`."""
    reply_seq: int | None = None
    """Sequence number of its `reply.sent`, once there is one."""


@frozen
class ResultRow:
    """One agent result: stored once, here; the journal refers to it by (request, node)."""

    request_id: str
    node: str
    agent: str
    attempt: int
    body: bytes
    """JSON."""
    duration_ms: float
    cached: bool = False
    cache_key: str | None = None
    expires_at: int | None = None
    """Milliseconds since the epoch after which it is no longer reused; None when it never is."""


@frozen
class MemoryRow:
    """One thing said or noted: stored once, here; the journal refers to it by sequence number."""

    seq: int
    """Of the event that brought it (`message.accepted`, `reply.sent`); for a note, of the last event it condenses."""
    role: str
    """`user`, `assistant` or `note`."""
    request_id: str
    text: str
    at: int
    """Milliseconds since the epoch."""
    forgotten: bool = False
    """True when a rollback took it out of what agents see; the row stays."""


@frozen
class Append:
    """Everything one step of one conversation writes, applied together or not at all."""

    conversation_id: str
    expected_seq: int
    """Newest sequence number before this step; 0 for a new conversation."""
    last_seq: int
    """Newest sequence number after it."""
    at: int
    """Milliseconds since the epoch."""
    entry: bytes
    """The step's events, encoded by persistence/entry.py (JSON, without texts and results)."""
    phase: str
    """Phase after this step."""
    unfinished: bool
    """True while somebody waits for a reply or work is running: such conversations are resumed at start."""
    oldest_open_seq: int | None
    """Sequence number of the oldest accepted message without a reply; None when there is none."""
    open_request_ids: tuple[str, ...] = ()
    """Requests whose results a recovery needs: the running one."""
    progress: bool = True
    """False for a step that only takes up again what was cut off: it does not end a row of recoveries."""
    user_id: str | None = None
    inbox: tuple[InboxRow, ...] = ()
    """New messages (no `reply_seq`)."""
    replied: tuple[tuple[str, int], ...] = ()
    """(message_id, reply_seq) of messages answered by this step."""
    results: tuple[ResultRow, ...] = ()
    memory: tuple[MemoryRow, ...] = ()
    forget: tuple[str, ...] = ()
    """Request ids whose memory rows become forgotten."""
    snapshot: bytes | None = None
    """The state after this step, encoded; None when no snapshot is due."""
    errors: tuple[ErrorRow, ...] = ()
    """Failures among the events, for `orchestrator_error_logs`."""


@frozen
class ErrorRow:
    """One failure, for `orchestrator_error_logs`."""

    request_id: str | None
    node: str | None
    agent: str | None
    attempt: int | None
    error_type: str
    error_class: str
    message: str
    at: int
    retry_delay: float | None = None
    """Seconds until the next attempt; None when there is none."""


class OperationRow(NamedTuple):
    """One notable operation, for `orchestrator_operation_logs`; written in batches, never waited for."""

    at: int
    event: str
    level: str
    conversation_id: str | None
    request_id: str | None
    fields: str
    """JSON."""


def operation_row(
    at: int, event: str, level: str, conversation_id: str | None, request_id: str | None, fields: Mapping[str, Any]
) -> OperationRow:
    """Return the row; what JSON has no word for is written as text."""
    body = to_json(fields, inf_nan_mode="strings", fallback=str).decode()
    return OperationRow(at, event, level, conversation_id, request_id, body)


class MetricRow(NamedTuple):
    """One measurement, for `orchestrator_performance_metrics`; written in batches, never waited for."""

    at: int
    name: str
    value: float
    unit: str
    conversation_id: str | None = None
    agent: str | None = None


@frozen
class DeadLetterRow:
    """One message nobody could take, kept for a person to replay or drop."""

    at: int
    address: str
    """Whom it was for: an actor path, a conversation, a stream."""
    reason: str
    kind: str
    """Type of the message."""
    body: bytes
    """JSON of it, clipped to what a person needs; replayable when it came from outside."""
    id: int = 0
    """Set by the store."""
    damaged: str = ""
    """Why it cannot be read as it was written, if so; then the rest is what can be shown of it."""


Row = OperationRow | MetricRow | DeadLetterRow
"""What rides along with a commit."""


@frozen
class EntryRow:
    """One journaled step as it is stored."""

    first_seq: int
    last_seq: int
    at: int
    body: bytes


@frozen
class Loaded:
    """All that is needed to wake one conversation; `last_seq` 0 and nothing else for an unknown one."""

    conversation_id: str
    last_seq: int = 0
    snapshot: bytes | None = None
    snapshot_seq: int = 0
    entries: tuple[EntryRow, ...] = ()
    """Steps after the snapshot, in order."""
    results: tuple[ResultRow, ...] = ()
    """Results of the open requests."""
    memory: tuple[MemoryRow, ...] = ()
    """The newest `recent` rows, the newest note, and all rows since the oldest open message; by seq."""
    phase: str = ""
    """Of the conversation's row, when the whole journal was asked for; empty otherwise."""
    damaged: str = ""
    """What beside the journal is not what was written, if anything; then results and memory may not be whole."""


@frozen
class ConversationRow:
    """One line of the list of conversations."""

    conversation_id: str
    phase: str
    last_seq: int
    unfinished: bool
    user_id: str | None
    created_at: int
    updated_at: int
    damaged: str = ""
    """What of the row is not what was written, if anything; 0 or a name stands in its place."""


@frozen
class Committed:
    """The append is durable."""

    conversation_id: str
    last_seq: int


@frozen
class AppendRefused:
    """This append was not applied and never will be; others of its batch were."""

    conversation_id: str
    last_seq: int
    code: str
    """`sequence_conflict` (somebody else wrote), `poisoned` (this row cannot be stored)."""
    detail: str


Outcome = Committed | AppendRefused


@frozen
class StoreMark:
    """Which store this is, and how far it has come: what tells a store from an older copy of itself."""

    store_id: str
    """Made once, with the store; a copy has the same."""
    epoch: int
    beats: int
    """Counted on by `beat`, never back."""


class StoreError(Exception):
    """The store cannot do this."""


class StoreUnavailable(StoreError):
    """The store does not answer or takes no writes now (gone, full, locked); trying again later makes sense."""


class StoreOwned(StoreError):
    """Another live daemon owns this store."""


class OwnershipLost(StoreError):
    """Another daemon has taken this store over; nothing of ours was or will be written."""


class StoreIncompatible(StoreError):
    """The store was written by a newer version; it is left as it is."""


@frozen
class StoreHealth:
    """What `status` and `readyz` say about a store."""

    kind: str
    durable: bool
    """False when acknowledged work can be lost."""
    detail: str
    """What can be lost, and by what, in one sentence."""
    figures: dict[str, float] = field(default_factory=dict)


class Store(Protocol):
    """What a store can do. All times are milliseconds since the epoch, all bodies bytes encoded by the caller."""

    kind: str
    """`sqlite`, `postgres`, `redis` or `memory`."""

    # Life

    def open(self, owner: str) -> int:
        """Connect, migrate, take ownership; return the epoch.

        Raises `StoreOwned`, `StoreIncompatible` or `StoreUnavailable`.
        """

    def mark(self) -> StoreMark | None:
        """Return where the store stands, owning and changing nothing; None when there is none yet. Needs no `open`."""

    def beat(self) -> StoreMark | None:
        """Count one beat, durably, and return the new mark; None for a store that does not outlive its process."""

    def open_reading(self) -> bool:
        """Make the reading verbs work beside whoever owns the store; False when there is nothing to read yet.

        Nothing is owned, migrated or changed. Raises `StoreIncompatible` or `StoreUnavailable`; ended by `close`.
        """

    def close(self) -> None:
        """Give ownership up and disconnect. Safe to call twice."""

    def health(self) -> StoreHealth:
        """Answer quickly, from any thread; raises `StoreUnavailable`."""

    # Writing (one thread)

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch in order, durably, with one synchronisation; one outcome per append, in order.

        `rows` ride along. Raises `StoreUnavailable` (nothing was applied, try the same batch again; if the outcome is
        unknown, a second try of an applied append yields `Committed`, not a conflict) or `OwnershipLost`. Any other
        exception: nothing was applied, and something in the batch never can be; the writer finds out what.
        """

    def drop_dead_letter(self, dead_letter_id: int) -> bool:
        """Forget one dead letter; False when there is none of that id."""

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete what has expired; return how many rows of each table went."""

    def count_recoveries(self) -> dict[str, int]:
        """Add one to the recoveries without progress of every unfinished conversation; return the counts by id.

        The count goes back to zero with the conversation's next append that is progress.
        """

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str] | None = None) -> None:
        """Add `by`, which may be negative, to the recoveries of these unfinished conversations, or of all there are.

        None falls below zero. Whoever ends in good order was not brought down by any, nor by one that was held back.
        """

    # Reading (any thread)

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Return all that is needed to wake a conversation; `whole`: all entries there are, and no snapshot."""

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Return those of which nothing is stored: in one look, however many are asked for."""

    def unfinished(self) -> list[str]:
        """Return the conversations with unfinished work, oldest update first, by index."""

    def find_message(self, conversation_id: str, message_id: str) -> InboxRow | None:
        """Return the accepted message of that id, within the inbox retention."""

    def cached_result(self, cache_key: str, now: int) -> ResultRow | None:
        """Return a reusable result that has not expired."""

    def entries(self, conversation_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Return the steps that hold events after `after`, oldest first, until at least `limit` events are covered."""

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted with first_seq <= seq <= last_seq, oldest first."""

    def said(self, conversation_id: str, *, first_seq: int, last_seq: int, limit: int) -> list[MemoryRow]:
        """Return what was said, without notes, in a range, oldest first: `limit` rows, and no more are read."""

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return conversations, newest update first; `after` is the (updated_at, id) of the last one already seen."""

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
