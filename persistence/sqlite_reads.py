"""The reading half of the SQLite store: a read-only connection per thread, so readers never wait for the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from persistence import sqlite_statements as sql
from persistence.contract import (
    ConversationRow,
    DeadLetterRow,
    EntryRow,
    InboxRow,
    Loaded,
    MemoryRow,
    ResultRow,
    StoreUnavailable,
)
from persistence.damage import conversation_row, dead_letter, memory_rows, missing_place, read_ids
from persistence.entry import CorruptEntry
from persistence.sqlite_connection import connect, unavailable

_FOREVER = 2**63 - 1
_MANY = 1_000_000
"""Stands for "all" where SQLite wants a limit."""


class SqliteReads:
    """Reading verbs of the store contract."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # an agent may change the folder this process is in
        self._local = threading.local()
        self._lock = threading.Lock()
        self._readers: list[_Connection] = []
        self._closed = False

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Return all that is needed to wake a conversation, as of one moment."""
        try:
            return self._load_once(conversation_id, recent, whole)
        except sqlite3.OperationalError as error:
            if not _undecodable(error):
                raise unavailable(error, self._path) from error
            with self._lenient():
                loaded = self._load_once(conversation_id, recent, whole)
            return replace(loaded, damaged=loaded.damaged or f"one of its texts is not UTF-8: {error}")
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    def _load_once(self, conversation_id: str, recent: int, whole: bool) -> Loaded:
        with self._reader() as connection:
            # Many are new: one look instead of a transaction, whose every statement lets go of the interpreter.
            left = connection.execute(sql.LOAD_STATE, (conversation_id,)).fetchone()[-1]
            if left is not None:
                return _without_row(conversation_id, left)
            connection.execute("BEGIN")
            try:
                return self._load(connection, conversation_id, recent, whole)
            finally:
                connection.execute("ROLLBACK")

    def _load(self, connection: sqlite3.Connection, conversation_id: str, recent: int, whole: bool) -> Loaded:
        row = connection.execute(sql.LOAD_STATE, (conversation_id,)).fetchone()
        last_seq, snapshot, snapshot_seq, oldest_open, open_requests, left = row
        if left is not None:
            return _without_row(conversation_id, left)
        if not isinstance(last_seq, int) or not isinstance(snapshot_seq, int):
            raise CorruptEntry(
                conversation_id, 0, f"its row says that it is at {last_seq!r}, snapshot {snapshot_seq!r}"
            )
        phase = ""
        if whole:
            snapshot, snapshot_seq = None, 0
            phase = conversation_row(connection.execute(sql.CONVERSATION, (conversation_id,)).fetchone()).phase
        entries = connection.execute(sql.ENTRIES, (conversation_id, snapshot_seq, _MANY)).fetchall()
        requests, damaged = read_ids(open_requests)
        if damaged and whole:  # the inbox knows them too
            requests, damaged = [found for (found,) in connection.execute(sql.UNREPLIED, (conversation_id,))], ""
        if not (oldest_open is None or isinstance(oldest_open, int)):
            damaged = damaged or ("" if whole else f"oldest_open_seq is no number: {oldest_open!r}")
            oldest_open = 1  # everything that was said holds what was said since then
        results = [
            found for request_id in requests for found in connection.execute(sql.RESULTS, (conversation_id, request_id))
        ]
        notes = connection.execute(sql.NEWEST_NOTE, (conversation_id,)).fetchall()
        condensed = notes[0][0] if notes else 0
        said = connection.execute(sql.RECENT_MEMORY, (conversation_id, condensed, recent)).fetchall()
        first = said[-1][0] if said and isinstance(said[-1][0], int) else last_seq + 1
        if oldest_open is not None and oldest_open < first:
            older = connection.execute(sql.MEMORY_RANGE, (conversation_id, oldest_open, first - 1))
            said.extend(row for row in older if row[1] != "note")
        memory: tuple[MemoryRow, ...] = ()
        try:
            memory = tuple(sorted(memory_rows(conversation_id, [*notes, *said]), key=lambda one: (one.seq, one.role)))
        except CorruptEntry as error:
            damaged = damaged or error.reason
        return Loaded(
            conversation_id,
            last_seq,
            snapshot,
            snapshot_seq,
            tuple(EntryRow(*entry) for entry in entries),
            tuple(_results(results)),
            memory,
            phase,
            damaged,
        )

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Return those of which nothing is stored."""
        known = self._all(sql.KNOWN, to_json(conversation_ids).decode())
        return set(conversation_ids).difference(name for (name,) in known)

    def unfinished(self) -> list[str]:
        """Return the conversations with unfinished work, oldest update first."""
        return [name for (name,) in self._all(sql.UNFINISHED) if isinstance(name, str)]

    def find_message(self, conversation_id: str, message_id: str) -> InboxRow | None:
        """Return the accepted message of that id."""
        rows = self._all(sql.MESSAGE, conversation_id, message_id)
        return InboxRow(*rows[0]) if rows else None

    def cached_result(self, cache_key: str, now: int) -> ResultRow | None:
        """Return a reusable result that has not expired."""
        found = list(_results(self._all(sql.CACHED, cache_key, now)))
        return found[0] if found else None

    def entries(self, conversation_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Return the steps that hold the next `limit` events after `after`; a step holds at least one."""
        return [EntryRow(*row) for row in self._all(sql.ENTRIES, conversation_id, after, max(0, limit))]

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""
        return [
            result
            for request_id in request_ids
            for result in _results(self._all(sql.RESULTS, conversation_id, request_id))
        ]

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted in a range, oldest first."""
        return list(memory_rows(conversation_id, self._all(sql.MEMORY_RANGE, conversation_id, first_seq, last_seq)))

    def said(self, conversation_id: str, *, first_seq: int, last_seq: int, limit: int) -> list[MemoryRow]:
        """Return the first of what was said in a range, oldest first."""
        rows = self._all(sql.SAID, conversation_id, first_seq, last_seq, limit)
        return list(memory_rows(conversation_id, rows))

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""
        rows = self._all(sql.CONVERSATION, conversation_id)
        return conversation_row(rows[0]) if rows else None

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        before, seen = after or (_FOREVER, "")
        if phase is None:
            rows = self._all(sql.CONVERSATIONS, before, seen, limit)
            spoilt = self._all(sql.WITHOUT_TIME)
        else:
            rows = self._all(sql.CONVERSATIONS_IN_PHASE, before, seen, limit, phase)
            spoilt = self._all(sql.WITHOUT_TIME_IN_PHASE, phase)
        # A name that was spoilt is shown, but no place to go on from: the next page would begin with it for ever.
        page = [conversation_row(row) for row in [*rows, *spoilt]]
        page = [row for row in page if (-row.updated_at, row.conversation_id) > (-before, seen)]
        return sorted(page, key=lambda row: (-row.updated_at, row.conversation_id))[:limit]

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""
        counts: dict[str, int] = {}
        for phase, count in self._all(sql.PHASES):
            counts[str(phase)] = counts.get(str(phase), 0) + count
        return counts

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
        return [dead_letter(*row) for row in self._all(sql.DEAD_LETTERS, after, limit)]

    # Connections

    def _all(self, statement: str, *values: Any) -> list[Any]:
        try:
            with self._reader() as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if not _undecodable(error):
                raise unavailable(error, self._path) from error
            # One spoilt text must not hide all the others from a list.
            with self._lenient() as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error

    @contextmanager
    def _lenient(self) -> Iterator[sqlite3.Connection]:
        """Read texts that are not UTF-8 with a sign in place of what cannot be decoded; for this thread alone."""
        reader = self._reader()
        with reader as connection:
            connection.text_factory = _decode_what_can_be
        try:
            yield reader.connection
        finally:
            with reader as connection:
                connection.text_factory = str

    def _reader(self) -> _Connection:
        reader: _Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            with self._lock:
                if self._closed:
                    raise StoreUnavailable("the store is closed")
                reader = _Connection(connect(self._path, read_only=True))
                self._readers.append(reader)
            self._local.reader = reader
        return reader

    def _open_readers(self) -> None:
        self._local = threading.local()
        self._closed = False

    def _close_readers(self) -> None:
        with self._lock:
            self._closed = True
            readers, self._readers = self._readers, []
        for reader in readers:
            with reader as connection:
                connection.close()


class _Connection:
    """A connection in use: it is closed by another thread, but never under a statement that still runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        return self.connection

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


def _results(rows: Iterable[Any]) -> Iterable[ResultRow]:
    for request_id, node, agent, attempt, body, duration, cached, key, expires in rows:
        yield ResultRow(request_id, node, agent, attempt, body, duration, bool(cached), key, expires)


def _without_row(conversation_id: str, left: int) -> Loaded:
    """Return what a new conversation is; raise if anything of it is `left`."""
    if left:
        raise missing_place(conversation_id)
    return Loaded(conversation_id)


def _undecodable(error: sqlite3.Error) -> bool:
    return "decode to UTF-8" in str(error)


def _decode_what_can_be(text: bytes) -> str:
    return text.decode("utf-8", "replace")
