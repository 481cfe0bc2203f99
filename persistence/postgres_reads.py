"""The reading half of the Postgres store: a small pool of read-only connections, and what all connections share."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, conninfo
from psycopg.abc import Buffer
from psycopg.types.string import StrBinaryDumper, StrDumper, TextBinaryLoader, TextLoader
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

T = TypeVar("T")
Values = Sequence[Any] | dict[str, Any]

_FOREVER = 2**62
_CONNECT_TIMEOUT = 5
_UNREACHABLE_MS = 10_000
_READ_TIMEOUT = "10s"


class PostgresReads:
    """Reading verbs of the store contract."""

    def __init__(self, dsn: str) -> None:
        # What the driver and its pool say of their troubles is said by the store, to whoever asked.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self._dsn = dsn
        self._pool: ConnectionPool[Connection] | None = None
        self._pool_lock = threading.Lock()
        self._closed = False

    def load(self, conversation_id: str, *, recent: int) -> Loaded:
        """Return all that is needed to wake a conversation, as of one moment."""

        def read(connection: Connection) -> Loaded:
            connection.execute(sql.SNAPSHOT)
            try:
                return _load(connection, conversation_id, recent)
            finally:
                if not connection.closed:
                    connection.execute("ROLLBACK")

        return self._read(read)

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
        return [EntryRow(*row) for row in self._all(sql.ENTRIES, (conversation_id, after, limit))]

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""
        asked = list(request_ids)
        return [ResultRow(*row) for row in self._all(sql.RESULTS, (conversation_id, asked, asked))]

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted in a range, oldest first."""
        return [MemoryRow(*row) for row in self._all(sql.MEMORY_RANGE, (conversation_id, first_seq, last_seq))]

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""
        rows = self._all(sql.CONVERSATION, (conversation_id,))
        return ConversationRow(*rows[0]) if rows else None

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        before, seen = after or (_FOREVER, "")
        statement = sql.CONVERSATIONS if phase is None else sql.CONVERSATIONS_IN_PHASE
        values = {"before": before, "seen": seen, "limit": limit, "phase": phase}
        return [ConversationRow(*row) for row in self._all(statement, values)]

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""
        return dict(self._all(sql.PHASES))

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
        return [DeadLetterRow(*row) for row in self._all(sql.DEAD_LETTERS, (after, limit))]

    # Connections

    def _all(self, statement: str, values: Values = ()) -> list[Any]:
        return self._read(lambda connection: _rows(connection, statement, values))

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Read over a connection of the pool; once more over another when that one dies meanwhile."""
        used: Connection | None = None
        try:
            try:
                with self._readers().connection() as used:
                    return read(used)
            except psycopg.OperationalError:
                if used is None or not used.closed:
                    raise
            with self._readers().connection() as used:
                return read(used)
        except psycopg.Error as error:
            raise unavailable(error, self._dsn) from None

    def _readers(self) -> ConnectionPool[Connection]:
        with self._pool_lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._pool is None:
                # A pool that keeps trying by itself waits longer and longer, also after the server is back: it gives up
                # soon and begins again with the next read.
                self._pool = ConnectionPool(
                    kwargs=connect_options(self._dsn),
                    check=ConnectionPool.check_connection,
                    configure=_configure_reader,
                    name="postgres-readers",
                    min_size=1,
                    max_size=4,
                    timeout=2.0,
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


def connect_options(dsn: str) -> dict[str, Any]:
    """Return how to connect. Raises `StoreUnavailable` for a DSN that cannot be read; it is never shown."""
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        raise StoreUnavailable("the Postgres DSN cannot be read (not shown: it may hold a password)") from None
    # Of several servers the one that takes writes, for reading too: a standby is behind.
    defaults = {
        "connect_timeout": _CONNECT_TIMEOUT,
        "tcp_user_timeout": _UNREACHABLE_MS,
        "target_session_attrs": "read-write",
    }
    return {**defaults, **given, "autocommit": True}


def settle(connection: Connection, *, statement: str, lock: str, idle: str, read_only: bool) -> None:
    """Set limits (Postgres durations), and let texts with a NUL pass.

    Postgres cannot store a NUL: it is stored as U+0001 U+0001, and a U+0001 as U+0001 U+0002. That is reversible, keeps
    equal texts equal and their order as it was, and leaves all other texts readable in the database.
    """
    connection.adapters.register_dumper(str, _TextBinaryDumper)
    connection.adapters.register_dumper(str, _TextDumper)
    connection.adapters.register_loader("text", _TextLoader)
    connection.adapters.register_loader("text", _TextBinaryLoader)
    connection.execute(sql.SETTINGS, (statement, lock, idle, "on" if read_only else "off"))


def unavailable(error: psycopg.Error, dsn: str) -> StoreUnavailable:
    """Return a driver's error as the contract's, without the password."""
    said = error.diag.message_primary or str(error).strip() or "no answer"
    return StoreUnavailable(f"Postgres: {error.sqlstate or type(error).__name__}: {without_password(said, dsn)}")


def without_password(text: str, dsn: str) -> str:
    """Return a text in which neither the DSN nor its password can be read."""
    text = text.replace(dsn, "***")
    try:
        password = conninfo.conninfo_to_dict(dsn).get("password")
    except psycopg.Error:
        return text
    return text.replace(str(password), "***") if password else text


def _configure_reader(connection: Connection) -> None:
    settle(connection, statement=_READ_TIMEOUT, lock=_READ_TIMEOUT, idle="60s", read_only=True)


def _rows(connection: Connection, statement: str, values: Values) -> list[Any]:
    return connection.cursor(binary=True).execute(statement, values).fetchall()


def _load(connection: Connection, conversation_id: str, recent: int) -> Loaded:
    def rows(statement: str, *values: Any) -> list[Any]:
        return _rows(connection, statement, (conversation_id, *values))

    state = rows(sql.LOAD_STATE)
    if not state:
        return Loaded(conversation_id)
    last_seq, snapshot, snapshot_seq, oldest_open, open_requests = state[0]
    requests = json.loads(open_requests)
    notes = rows(sql.NEWEST_NOTE)
    said = rows(sql.RECENT_MEMORY, notes[0][0] if notes else 0, recent)
    first = said[-1][0] if said else last_seq + 1
    if oldest_open is not None and oldest_open < first:
        said.extend(row for row in rows(sql.MEMORY_RANGE, oldest_open, first - 1) if row[1] != "note")
    return Loaded(
        conversation_id,
        last_seq,
        snapshot,
        snapshot_seq,
        tuple(EntryRow(*row) for row in rows(sql.ENTRIES, snapshot_seq, None)),
        tuple(ResultRow(*row) for row in rows(sql.RESULTS, requests, requests)) if requests else (),
        tuple(MemoryRow(*row) for row in sorted([*notes, *said])),
    )


def _escaped(text: str) -> str:
    if "\0" in text or "\x01" in text:
        return text.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")
    return text


def _plain(text: str | bytes) -> str:
    assert isinstance(text, str)
    return text.replace("\x01\x01", "\0").replace("\x01\x02", "\x01") if "\x01" in text else text


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(_escaped(obj))


class _TextBinaryDumper(StrBinaryDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(_escaped(obj))


class _TextLoader(TextLoader):
    def load(self, data: Buffer) -> str:
        return _plain(super().load(data))


class _TextBinaryLoader(TextBinaryLoader):
    def load(self, data: Buffer) -> str:
        return _plain(super().load(data))
