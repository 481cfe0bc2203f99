"""The reading half of the Postgres store: a small pool of read-only connections."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool

from persistence import postgres_statements as sql
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
from persistence.postgres_connection import Connection, connect_options, settle, stored_text
from persistence.postgres_words import unavailable

T = TypeVar("T")
Values = Sequence[Any] | dict[str, Any]

_FOREVER = 2**63 - 1
_READERS = 4
_READ_TIMEOUT = 10.0
"""Seconds that the server takes for one statement, at most."""


class PostgresReads:
    """Reading verbs of the store contract."""

    def __init__(self, dsn: str) -> None:
        # What the driver and its pool say of their troubles is said by the store, to whoever asked.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self._dsn = dsn
        self._pool: ConnectionPool[Connection] | None = None
        self._pool_lock = threading.Lock()
        self._closed = False

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Return all that is needed to wake a conversation, as of one moment."""

        def read(connection: Connection) -> Loaded:
            # Many are new: one question instead of a transaction around it.
            left = connection.ask("left", sql.LEFT, [stored_text(conversation_id)]).get_value(0, 0)
            if left is not None:
                return _without_row(conversation_id, left == b"t")
            try:
                return _load(connection, conversation_id, recent, whole)
            finally:
                if not connection.closed:
                    connection.execute("COMMIT")  # after a rollback the driver lets go of what it prepared

        return self._read(read)

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Return those of which nothing is stored."""
        known = self._all(sql.KNOWN, (list(conversation_ids),))
        return set(conversation_ids).difference(name for (name,) in known)

    def unfinished(self) -> list[str]:
        """Return the conversations with unfinished work, oldest update first."""
        return [row[0] for row in self._all(sql.UNFINISHED)]

    def find_message(self, conversation_id: str, message_id: str) -> InboxRow | None:
        """Return the accepted message of that id."""
        rows = self._all(sql.MESSAGE, (conversation_id, message_id))
        return InboxRow(*rows[0]) if rows else None

    def cached_result(self, cache_key: str, now: int) -> ResultRow | None:
        """Return a reusable result that has not expired."""
        rows = self._all(sql.CACHED, (cache_key, now))
        return ResultRow(*rows[0]) if rows else None

    def entries(self, conversation_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Return the steps that hold the next `limit` events after `after`; a step holds at least one."""
        return [EntryRow(*row) for row in self._all(sql.ENTRIES, (conversation_id, after, max(0, limit)))]

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""
        asked = list(request_ids)
        return [ResultRow(*row) for row in self._all(sql.RESULTS, (conversation_id, asked, asked))]

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted in a range, oldest first."""
        return list(memory_rows(conversation_id, self._all(sql.MEMORY_RANGE, (conversation_id, first_seq, last_seq))))

    def said(self, conversation_id: str, *, first_seq: int, last_seq: int, limit: int) -> list[MemoryRow]:
        """Return the first of what was said in a range, oldest first."""
        rows = self._all(sql.SAID, (conversation_id, first_seq, last_seq, limit))
        return list(memory_rows(conversation_id, rows))

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""
        rows = self._all(sql.CONVERSATION, (conversation_id,))
        return conversation_row(rows[0]) if rows else None

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        before, seen = after or (_FOREVER, "")
        statement = sql.CONVERSATIONS if phase is None else sql.CONVERSATIONS_IN_PHASE
        values = {"before": before, "seen": seen, "limit": limit, "phase": phase}
        return [conversation_row(row) for row in self._all(statement, values)]

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""
        return {str(phase): count for phase, count in self._all(sql.PHASES)}

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
        return [dead_letter(*row) for row in self._all(sql.DEAD_LETTERS, (after, limit))]

    # Connections

    def _all(self, statement: str, values: Values = ()) -> list[Any]:
        return self._read(lambda connection: _rows(connection, statement, values))

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Read over a connection of the pool; over another when that one turns out to be dead, as all may be."""
        until = time.monotonic() + _READ_TIMEOUT
        for left in range(_READERS, -1, -1):
            used: Connection | None = None
            try:
                # Not the pool's own context: on leaving it ends transactions, of which there are none here.
                pool = self._readers()
                used = pool.getconn()
                try:
                    return read(used)
                finally:
                    pool.putconn(used)
            except psycopg.Error as error:
                if not left or used is None or not used.closed or time.monotonic() > until:
                    raise unavailable(error, self._dsn) from None
        raise AssertionError("the last try returns or raises")

    def _readers(self) -> ConnectionPool[Connection]:
        with self._pool_lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._pool is None:
                # A pool that keeps trying by itself waits longer and longer, also after the server is back: it gives up
                # soon and begins again with the next read.
                self._pool = ConnectionPool(
                    connection_class=Connection,
                    kwargs=connect_options(self._dsn),
                    configure=_configure_reader,
                    name="postgres-readers",
                    min_size=1,
                    max_size=_READERS,
                    timeout=1.5,
                    reconnect_timeout=1.0,
                    num_workers=2,
                    open=True,
                )
            return self._pool

    def _open_readers(self) -> None:
        with self._pool_lock:
            self._closed = False

    def _close_readers(self) -> None:
        with self._pool_lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def _configure_reader(connection: Connection) -> None:
    settle(connection, statement=_READ_TIMEOUT, idle=60.0, read_only=True)


def _rows(connection: Connection, statement: str, values: Values) -> list[Any]:
    return connection.cursor(binary=True).execute(statement, values).fetchall()


def _without_row(conversation_id: str, left: bool) -> Loaded:
    """Return what a new conversation is; raise if anything of it is `left`."""
    if left:
        raise missing_place(conversation_id)
    return Loaded(conversation_id)


def _load(connection: Connection, conversation_id: str, recent: int, whole: bool) -> Loaded:
    def rows(statement: str, *values: Any) -> list[Any]:
        return _rows(connection, statement, (conversation_id, *values))

    # What every conversation needs goes to the server in one piece, and comes back so: between machines it is the trips
    # to and fro that take the time.
    named = {"id": conversation_id, "recent": recent}
    with connection.pipeline():
        connection.execute(sql.SNAPSHOT)
        asked = [
            connection.cursor(binary=True).execute(statement, values)
            for statement, values in (
                (sql.LOAD_STATE, (conversation_id,)),
                (sql.NEWEST_NOTE, (conversation_id,)),
                (sql.RECENT_MEMORY, named),
                (sql.ENTRIES, (conversation_id, 0, None)) if whole else (sql.ENTRIES_SINCE_SNAPSHOT, named),
            )
        ]
    (state,), notes, said, entries = (cursor.fetchall() for cursor in asked)
    last_seq, snapshot, snapshot_seq, oldest_open, open_requests, left = state
    if left is not None:
        return _without_row(conversation_id, left)
    if last_seq is None or snapshot_seq is None:
        raise CorruptEntry(conversation_id, 0, f"its row says that it is at {last_seq}, snapshot {snapshot_seq}")
    phase = ""
    if whole:
        snapshot, snapshot_seq = None, 0
        phase = conversation_row(rows(sql.CONVERSATION)[0]).phase
    requests, damaged = read_ids(open_requests)
    if damaged and whole:  # the inbox knows them too
        requests, damaged = [found for (found,) in rows(sql.UNREPLIED)], ""
    first = said[-1][0] if said else last_seq + 1
    if oldest_open is not None and oldest_open < first:
        said.extend(row for row in rows(sql.MEMORY_RANGE, oldest_open, first - 1) if row[1] != "note")
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
        tuple(EntryRow(*row) for row in entries),
        tuple(ResultRow(*row) for row in rows(sql.RESULTS, requests, requests)) if requests else (),
        memory,
        phase,
        damaged,
    )
