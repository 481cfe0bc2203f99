"""The ownership of a Postgres store: a lock, a lease, an epoch, and the one connection over which its owner writes.

The lock is an advisory one of the writing connection: the server frees it when its owner dies, however it dies. The
lease ends the ownership of one that lives and does nothing, as a frozen one. The epoch is checked in every transaction,
so that a process that lost either can write nothing. Needs a connection of its own to the server: a pooler that shares
sessions between transactions breaks the lock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from persistence import postgres_statements as sql
from persistence.contract import OwnershipLost, StoreError, StoreOwned, StoreUnavailable
from persistence.postgres_connection import Connection, connect_options, settle
from persistence.postgres_migrations import apply_missing, check_version, exists
from persistence.postgres_reads import PostgresReads
from persistence.postgres_words import unavailable

T = TypeVar("T")

_OF_A_ROW = ("22", "23", "54")
"""Classes of errors that a row brings about, every time: its data, a constraint, a limit. Any other (gone, full, read
only, no right to) is the world's: the same batch is tried again, and nobody's step is refused for it."""
_SOUND = (TransactionStatus.IDLE, TransactionStatus.INTRANS)
_WRITE_TIMEOUT = 30.0
"""Seconds that the server takes for one statement, at most, the wait for locks included."""
_FREED_WITHIN = 0.5
"""Seconds in which the server notices that an owner died."""
_LOOK_EVERY = 0.02


class PostgresOwnership(PostgresReads):
    """What a store does as the owner; `lease_ttl` in seconds."""

    def __init__(self, dsn: str, *, lease_ttl: float) -> None:
        super().__init__(dsn)
        self._lease_ms = max(1, round(lease_ttl * 1000))
        self._write_lock = threading.RLock()
        self._writer: Connection | None = None
        self._pid = 0
        self._epoch = 0
        self._acknowledged = 0
        self._lost: str | None = None
        self._closing = threading.Event()

    # Lock and lease

    def _own(self, connection: Connection, owner: str) -> int:
        if not self._try_lock(connection, sql.OPENING):
            raise StoreOwned("another daemon is opening this store")
        check_version(connection)
        if not self._try_lock(connection, sql.OWNER):
            self._end_expired(connection)
        apply_missing(self._dsn)
        row = connection.execute(sql.OWN, (owner, self._lease_ms)).fetchone()
        connection.execute(sql.UNLOCK, (sql.OPENING,))
        assert row is not None
        self._pid = connection.info.backend_pid
        return int(row[0])

    def _try_lock(self, connection: Connection, lock: int) -> bool:
        """Return whether a lock was got; a dead owner's is freed within moments, which are waited for."""
        deadline = time.monotonic() + _FREED_WITHIN
        while True:
            row = connection.execute(sql.TRY_LOCK, (lock,)).fetchone()
            if row is not None and row[0]:
                return True
            if time.monotonic() > deadline or self._closing.wait(_LOOK_EVERY):
                return False

    def _end_expired(self, connection: Connection) -> None:
        """Take the lock from an owner whose lease has ended: it is frozen, or cannot reach the server."""
        row = connection.execute(sql.LEASE).fetchone() if exists(connection, "orchestrator_ownership") else None
        if row is None:
            raise StoreOwned("another daemon is making this store")
        owner, left = row
        if left > 0:
            raise StoreOwned(f"this store is owned by another live daemon, {owner}")
        for (pid,) in connection.execute(sql.HOLDER, (sql.OWNER,)).fetchall():
            connection.execute(sql.END_HOLDER, (pid,))
        if not self._try_lock(connection, sql.OWNER):
            raise StoreOwned(f"the lease of {owner} has ended, but its connection does not end")

    def _give_back(self) -> None:
        with self._write_lock:
            if self._writer is not None:
                with contextlib.suppress(psycopg.Error):  # then the lock is freed with the connection
                    self._writer.execute(sql.RELEASE, (self._epoch,))
                    self._writer.execute(sql.UNLOCK_ALL)
            self._disconnect()
            self._epoch = self._pid = 0

    def _renew(self, closing: threading.Event) -> None:
        while not closing.wait(self._lease_ms / 3000):
            # An unreachable server is tried again; a lost ownership is said by the next write and by `health`.
            try:
                self._change(sql.RENEW, (self._lease_ms, self._epoch))
            except OwnershipLost:
                return
            except (StoreError, psycopg.Error):
                continue

    # Transactions

    def _change(self, statement: str, values: Any) -> psycopg.Cursor[Any]:
        return self._transact(lambda writer, _: writer.execute(statement, values))

    def _transact(self, work: Callable[[Connection, int], T]) -> T:
        """Do some work in one transaction that nobody but the owner can commit."""
        with self._write_lock, self._failing():
            writer = self._writing()
            writer.execute("BEGIN")
            last_commit = self._check_epoch(writer.execute(sql.EPOCH).fetchone())
            done = work(writer, last_commit)
            if writer.execute("COMMIT").statusmessage != "COMMIT":
                raise StoreUnavailable("the server rolled the transaction back")
        return done

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Tell what refuses a row from what makes the store unavailable. After any error the connection is another."""
        try:
            yield
        except psycopg.Error as error:
            # What has no code the driver refused before the server saw it: a value that cannot be sent. Of a connection
            # that broke it says such things as well, and no row is to blame for it.
            sound = self._writer is not None and self._writer.pgconn.transaction_status in _SOUND
            self._recover()
            of_a_value = isinstance(error, (psycopg.DataError, psycopg.ProgrammingError))
            unsent = sound and error.sqlstate is None and of_a_value
            if unsent or (error.sqlstate or "").startswith(_OF_A_ROW):
                raise
            raise unavailable(error, self._dsn) from None
        except BaseException:
            self._recover()
            raise

    def _check_epoch(self, row: tuple[int, int] | None) -> int:
        """Return the number of the newest commit."""
        if row is None or row[0] != self._epoch:
            newest = "none" if row is None else row[0]
            self._lost = f"this daemon has epoch {self._epoch}, the store has {newest}: somebody else owns it"
        elif row[1] < self._acknowledged:
            self._lost = (
                f"the server went back in time: it knows commit {row[1]} of this daemon, but acknowledged "
                f"commit {self._acknowledged}; what came after is lost"
            )
        else:
            return row[1]
        raise OwnershipLost(self._lost)

    # Connection

    def _writing(self) -> Connection:
        if not self._epoch:
            raise StoreUnavailable("the store is not open")
        if self._lost is not None:
            raise OwnershipLost(self._lost)
        if self._writer is None:
            if self._closing.is_set():  # nobody waits for a new connection to a server that fell silent
                raise StoreUnavailable("the store is being closed")
            self._reconnect()
        assert self._writer is not None
        return self._writer

    def _connect(self) -> Connection:
        self._writer = writer = Connection.connect(**connect_options(self._dsn))
        # A frozen owner may hold the row of the ownership: the server ends its transaction with its lease.
        settle(writer, statement=_WRITE_TIMEOUT, idle=self._lease_ms / 1000, read_only=False)
        return writer

    def _reconnect(self) -> None:
        before, writer = self._pid, self._connect()
        # Of this process's own former connection the server may not know yet that it is gone, and it may still commit.
        for (pid,) in writer.execute(sql.HOLDER, (sql.OWNER,)).fetchall():
            if pid == before:
                writer.execute(sql.END_HOLDER, (pid,))
        if not self._try_lock(writer, sql.OWNER):
            self._check_epoch(writer.execute(sql.EPOCH).fetchone())
            raise StoreUnavailable("another connection holds the ownership")
        self._pid = writer.info.backend_pid

    def _disconnect(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _recover(self) -> None:
        """After any error nothing is assumed of the connection: it is dropped."""
        self._disconnect()
