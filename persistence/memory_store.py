"""The in-memory store: plain dictionaries. The reference for the contract, and for those who want nothing kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    ConversationRow,
    DeadLetterRow,
    EntryRow,
    ErrorRow,
    InboxRow,
    Loaded,
    MemoryRow,
    MetricRow,
    OperationRow,
    Outcome,
    OwnershipLost,
    ResultRow,
    Row,
    StoreHealth,
    StoreMark,
)

_FOREVER = 2**62


@dataclass(slots=True)
class _Conversation:
    """Everything about one conversation."""

    created_at: int
    entries: list[EntryRow] = field(default_factory=list)
    inbox: dict[str, InboxRow] = field(default_factory=dict)
    accepted_at: dict[str, int] = field(default_factory=dict)
    results: dict[tuple[str, str], ResultRow] = field(default_factory=dict)
    memory: dict[tuple[int, str], MemoryRow] = field(default_factory=dict)
    last_seq: int = 0
    phase: str = ""
    unfinished: bool = False
    oldest_open_seq: int | None = None
    open_request_ids: tuple[str, ...] = ()
    user_id: str | None = None
    updated_at: int = 0
    snapshot: bytes | None = None
    snapshot_seq: int = 0
    recoveries: int = 0


class MemoryData:
    """What a memory store holds; two stores on the same data stand for two daemons on one store."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.epoch = 0
        self.conversations: dict[str, _Conversation] = {}
        self.operations: list[OperationRow] = []
        self.metrics: list[MetricRow] = []
        self.errors: list[ErrorRow] = []
        self.dead_letters: dict[int, DeadLetterRow] = {}
        self.numbers = count(1)


class MemoryStore:
    """See persistence/contract.py for what each verb promises; durable only as long as its data lives."""

    kind = "memory"

    def __init__(self, data: MemoryData | None = None) -> None:
        self.data = data or MemoryData()
        self._epoch = 0

    # Life

    def mark(self) -> StoreMark | None:
        """There is no older copy of it."""
        return None

    def beat(self) -> StoreMark | None:
        """As `mark`."""
        return None

    def open_reading(self) -> bool:
        """Nothing outlives the process that wrote it."""
        return bool(self.data.conversations)

    def open(self, owner: str) -> int:
        """Become the owner; `owner` is only a name."""
        del owner
        with self.data.lock:
            self.data.epoch += 1
            self._epoch = self.data.epoch
        return self._epoch

    def close(self) -> None:
        """Own nothing any more."""
        self._epoch = 0

    def health(self) -> StoreHealth:
        """Say that nothing is kept."""
        return StoreHealth(self.kind, durable=False, detail="everything is lost when the daemon ends, in any way")

    # Writing

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch."""
        with self.data.lock:
            self._check_epoch()
            for row in rows:
                self._add_row(row)
            return [self._apply(append) for append in batch]

    def drop_dead_letter(self, dead_letter_id: int) -> bool:
        """Forget one dead letter."""
        with self.data.lock:
            self._check_epoch()
            return self.data.dead_letters.pop(dead_letter_id, None) is not None

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete what has expired."""
        data = self.data
        gone: dict[str, int] = dict.fromkeys(
            ("orchestrator_inbox", "orchestrator_journal", "orchestrator_agent_results"), 0
        )
        with data.lock:
            self._check_epoch()
            for conversation in data.conversations.values():
                old = [
                    key
                    for key, row in conversation.inbox.items()
                    if row.reply_seq is not None and conversation.accepted_at[key] < now - keep_inbox_ms
                ]
                for key in old:
                    del conversation.inbox[key]
                gone["orchestrator_inbox"] += len(old)
                if conversation.oldest_open_seq is None and conversation.updated_at < now - keep_journal_ms:
                    kept = [e for e in conversation.entries if e.last_seq > conversation.snapshot_seq]
                    gone["orchestrator_journal"] += len(conversation.entries) - len(kept)
                    conversation.entries = kept
                    if conversation.oldest_open_seq is None:
                        gone["orchestrator_agent_results"] += len(conversation.results)
                        conversation.results.clear()
            oldest = now - keep_logs_ms
            gone["orchestrator_operation_logs"] = _drop_older(data.operations, oldest)
            gone["orchestrator_performance_metrics"] = _drop_older(data.metrics, oldest)
            gone["orchestrator_error_logs"] = _drop_older(data.errors, oldest)
            old_letters = [number for number, row in data.dead_letters.items() if row.at < oldest]
            for number in old_letters:
                del data.dead_letters[number]
            gone["orchestrator_dead_letters"] = len(old_letters)
        return gone

    def count_recoveries(self) -> dict[str, int]:
        """Add one for every unfinished conversation."""
        with self.data.lock:
            self._check_epoch()
            unfinished = {key: c for key, c in self.data.conversations.items() if c.unfinished}
            for conversation in unfinished.values():
                conversation.recoveries += 1
            return {key: conversation.recoveries for key, conversation in unfinished.items()}

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str] | None = None) -> None:
        """Look through all."""
        with self.data.lock:
            self._check_epoch()
            for key, conversation in self.data.conversations.items():
                if conversation.unfinished and (conversation_ids is None or key in conversation_ids):
                    conversation.recoveries = max(0, conversation.recoveries + by)

    # Reading

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Return all that is needed to wake a conversation."""
        with self.data.lock:
            held = self.data.conversations.get(conversation_id)
            if held is None:
                return Loaded(conversation_id)
            rows = sorted(held.memory.values(), key=lambda row: (row.seq, row.role))
            notes = [row for row in rows if row.role == "note"][-1:]
            condensed = notes[0].seq if notes else 0
            said = [row for row in rows if row.role != "note"]
            newest = [row for row in said if row.seq > condensed][-recent:] if recent else []
            first = newest[0].seq if newest else held.last_seq + 1
            if held.oldest_open_seq is not None:
                newest = [row for row in said if held.oldest_open_seq <= row.seq < first] + newest
            return Loaded(
                conversation_id,
                held.last_seq,
                None if whole else held.snapshot,
                0 if whole else held.snapshot_seq,
                tuple(entry for entry in held.entries if whole or entry.last_seq > held.snapshot_seq),
                tuple(row for row in held.results.values() if row.request_id in held.open_request_ids),
                tuple(sorted([*notes, *newest], key=lambda row: (row.seq, row.role))),
                held.phase if whole else "",
            )

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Return those of which nothing is stored."""
        with self.data.lock:
            return set(conversation_ids) - self.data.conversations.keys()

    def unfinished(self) -> list[str]:
        """Return the conversations with unfinished work, oldest update first."""
        with self.data.lock:
            held = [(c.updated_at, key) for key, c in self.data.conversations.items() if c.unfinished]
        return [key for _, key in sorted(held)]

    def find_message(self, conversation_id: str, message_id: str) -> InboxRow | None:
        """Return the accepted message of that id."""
        held = self.data.conversations.get(conversation_id)
        return None if held is None else held.inbox.get(message_id)

    def cached_result(self, cache_key: str, now: int) -> ResultRow | None:
        """Return a reusable result that has not expired."""
        with self.data.lock:
            found = [
                row
                for held in self.data.conversations.values()
                for row in held.results.values()
                if row.cache_key == cache_key and row.expires_at is not None and row.expires_at > now
            ]
        return max(found, key=lambda row: row.expires_at or 0, default=None)

    def entries(self, conversation_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Return the steps that hold the next `limit` events after `after`."""
        with self.data.lock:
            held = self.data.conversations.get(conversation_id)
            return [] if held is None else [e for e in held.entries if e.last_seq > after][:limit]

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""
        with self.data.lock:
            held = self.data.conversations.get(conversation_id)
            return [] if held is None else [r for r in held.results.values() if r.request_id in request_ids]

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted in a range, oldest first."""
        with self.data.lock:
            held = self.data.conversations.get(conversation_id)
            rows = [] if held is None else [r for r in held.memory.values() if first_seq <= r.seq <= last_seq]
        return sorted(rows, key=lambda row: (row.seq, row.role))

    def said(self, conversation_id: str, *, first_seq: int, last_seq: int, limit: int) -> list[MemoryRow]:
        """Return the first of what was said in a range, oldest first."""
        rows = self.memory(conversation_id, first_seq=first_seq, last_seq=last_seq)
        return [row for row in rows if row.role != "note"][:limit]

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""
        with self.data.lock:
            held = self.data.conversations.get(conversation_id)
            return None if held is None else _line(conversation_id, held)

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        before, seen = after or (_FOREVER, "")
        with self.data.lock:
            lines = [_line(key, held) for key, held in self.data.conversations.items() if phase in (None, held.phase)]
        lines.sort(key=lambda line: (-line.updated_at, line.conversation_id))
        return [line for line in lines if (-line.updated_at, line.conversation_id) > (-before, seen)][:limit]

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""
        counts: dict[str, int] = {}
        with self.data.lock:
            for held in self.data.conversations.values():
                counts[held.phase] = counts.get(held.phase, 0) + 1
        return counts

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
        with self.data.lock:
            return [row for key, row in self.data.dead_letters.items() if key > after][:limit]

    # Applying

    def _check_epoch(self) -> None:
        if self._epoch == 0 or self._epoch != self.data.epoch:
            raise OwnershipLost(f"this store has epoch {self._epoch}, the data has {self.data.epoch}")

    def _apply(self, append: Append) -> Outcome:
        key = append.conversation_id
        held = self.data.conversations.get(key)
        last = 0 if held is None else held.last_seq
        if last != append.expected_seq:
            same = EntryRow(append.expected_seq + 1, append.last_seq, append.at, append.entry)
            if held is not None and same in held.entries:
                return Committed(key, append.last_seq)
            detail = f"the newest event is {last}, this step follows {append.expected_seq}"
            return AppendRefused(key, append.last_seq, "sequence_conflict", detail)
        if held is None:
            held = self.data.conversations[key] = _Conversation(append.at)
        held.entries.append(EntryRow(append.expected_seq + 1, append.last_seq, append.at, append.entry))
        held.last_seq, held.phase, held.unfinished = append.last_seq, append.phase, append.unfinished
        held.oldest_open_seq, held.open_request_ids = append.oldest_open_seq, append.open_request_ids
        held.user_id, held.updated_at = append.user_id or held.user_id, append.at
        held.recoveries = 0 if append.progress else held.recoveries
        if append.snapshot is not None:
            held.snapshot, held.snapshot_seq = append.snapshot, append.last_seq
        for row in append.inbox:
            held.inbox[row.message_id] = row
            held.accepted_at[row.message_id] = append.at
        for message_id, reply_seq in append.replied:
            if message_id in held.inbox:
                held.inbox[message_id] = replace(held.inbox[message_id], reply_seq=reply_seq)
        held.results.update({(row.request_id, row.node): row for row in append.results})
        held.memory.update({(row.seq, row.role): row for row in append.memory})
        for place, said in held.memory.items():
            if said.request_id in append.forget and said.role != "note":
                held.memory[place] = replace(said, forgotten=True)
        self.data.errors.extend(append.errors)
        return Committed(key, append.last_seq)

    def _add_row(self, row: Any) -> None:
        if isinstance(row, OperationRow):
            self.data.operations.append(row)
        elif isinstance(row, MetricRow):
            self.data.metrics.append(row)
        else:
            number = next(self.data.numbers)
            self.data.dead_letters[number] = replace(row, id=number)


def _drop_older(rows: list[Any], at: int) -> int:
    before = len(rows)
    rows[:] = [row for row in rows if row.at >= at]
    return before - len(rows)


def _line(conversation_id: str, held: _Conversation) -> ConversationRow:
    return ConversationRow(
        conversation_id,
        held.phase,
        held.last_seq,
        held.unfinished,
        held.user_id,
        held.created_at,
        held.updated_at,
    )
