"""What all connections to Postgres share: how to connect, their limits, their texts, and words for their errors."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import Buffer, PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.types.string import StrBinaryDumper, StrDumper, TextBinaryLoader, TextLoader

from persistence import postgres_statements as sql
from persistence.contract import StoreUnavailable

T = TypeVar("T")

_CONNECT_TIMEOUT = 5
_UNREACHABLE_MS = 10_000
_LOOK_EVERY_MS: Final = 100
_FAILED: Final = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.NONFATAL_ERROR)
_GRACE = 5.0
"""Seconds after a statement's limit in which the server says that it ended the statement."""


class Connection(psycopg.Connection[Any]):
    """One that ends itself when the server says nothing for `patience` seconds.

    The server's own limits do not help where the server's process is frozen, nor do those of TCP: its system answers.
    """

    patience = _CONNECT_TIMEOUT + _GRACE
    _at_hand: frozenset[str] = frozenset()

    def ask(
        self, name: str, statement: str, arguments: Sequence[bytes | None], formats: Sequence[int] | None = None
    ) -> PGresult:
        """Execute a statement with arguments that are ready to be sent; return its rows, as the server wrote them.

        It is for what is asked all the time: the driver takes every value in hand, and its waiting is for everybody.
        The statement is prepared once under its name. Alone it is a transaction, and how that ended was heard when this
        returns. The caller sees that nobody else uses the connection.
        """
        if name in self._at_hand:
            try:
                return self._executed(name, arguments, formats)
            except psycopg.errors.InvalidSqlStatementName:
                # The driver lets go of all that is prepared after a rollback; nothing was done.
                if self.pgconn.transaction_status != TransactionStatus.IDLE:
                    raise
        self.pgconn.send_prepare(name.encode(), statement.encode())
        self._answer()
        self._at_hand |= {name}
        return self._executed(name, arguments, formats)

    def _executed(self, name: str, arguments: Sequence[bytes | None], formats: Sequence[int] | None) -> PGresult:
        self.pgconn.send_query_prepared(name.encode(), arguments, formats)
        return self._answer()

    def _answer(self) -> PGresult:
        connection, wanted = self.pgconn, select.POLLIN
        poll = select.poll()
        poll.register(connection.socket, wanted)
        heard = time.monotonic()
        first: PGresult | None = None
        while True:
            unsent = connection.flush()
            if not unsent and not connection.is_busy():
                result = connection.get_result()
                if result is None:
                    break
                if result.status in _FAILED or first is None:
                    first = result
                continue
            if (both := select.POLLIN | select.POLLOUT if unsent else select.POLLIN) != wanted:
                wanted = both
                poll.modify(connection.socket, wanted)
            ready = poll.poll(_LOOK_EVERY_MS)
            now = time.monotonic()
            if ready:
                heard = now
                if ready[0][1] != select.POLLOUT:
                    connection.consume_input()
            elif now - heard > self.patience:
                connection.finish()
                raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
        if first is None:
            raise psycopg.OperationalError("the server said nothing")
        if first.status in _FAILED:
            raise psycopg.errors.error_from_result(first, self.info.encoding)
        return first

    def wait(self, gen: PQGen[T], *values: Any, **options: Any) -> T:
        """Wait as the driver does, but not for ever."""
        return super().wait(self._limited(gen), *values, **options)

    def _limited(self, gen: PQGen[T]) -> PQGen[T]:
        heard = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                now = time.monotonic()
                if ready:
                    heard = now
                elif now - heard > self.patience:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                state = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


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


def settle(connection: Connection, *, statement: float, idle: float, read_only: bool) -> None:
    """Set limits in seconds (of a statement, and between those of a transaction), and let texts with a NUL pass.

    Postgres cannot store a NUL: it is stored as U+0001 U+0001, and a U+0001 as U+0001 U+0002. That is reversible, keeps
    equal texts equal and their order as it was, and leaves all other texts readable in the database.
    """
    connection.adapters.register_dumper(str, _TextBinaryDumper)
    connection.adapters.register_dumper(str, _TextDumper)
    connection.adapters.register_loader("text", _TextLoader)
    connection.adapters.register_loader("text", _TextBinaryLoader)
    connection.patience = statement + _GRACE
    limits = [f"{round(1000 * seconds)}ms" for seconds in (statement, statement, idle)]
    connection.execute(sql.SETTINGS, limits)
    if read_only:
        connection.execute(sql.READ_ONLY)


def stored_text(text: str) -> bytes:
    """Return a text as an argument of `Connection.ask`."""
    return _escaped(text).encode()


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
