"""What all connections to Postgres share: how to connect, their limits, their texts, and words for their errors."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo
from psycopg.abc import Buffer, PQGen
from psycopg.types.string import StrBinaryDumper, StrDumper, TextBinaryLoader, TextLoader

from persistence import postgres_statements as sql
from persistence.contract import StoreUnavailable

T = TypeVar("T")

_CONNECT_TIMEOUT = 5
_UNREACHABLE_MS = 10_000
_GRACE = 5.0
"""Seconds after a statement's limit in which the server says that it ended the statement."""


class Connection(psycopg.Connection[Any]):
    """One that ends itself when the server says nothing for `patience` seconds.

    The server's own limits do not help where the server's process is frozen, nor do those of TCP: its system answers.
    """

    patience = _CONNECT_TIMEOUT + _GRACE

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
