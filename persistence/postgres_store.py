"""The Postgres store: one writing connection, a batch is one call of the server's, owned by a lock, a lease, an epoch.

The lock is an advisory one of the writing connection: the server frees it when its owner dies, however it dies. The
lease ends the ownership of one that lives and does nothing, as a frozen one. The epoch is checked in every transaction,
so that a process that lost either can write nothing. Needs a connection of its own to the server: a pooler that shares
sessions between transactions breaks the lock.

A commit is as durable as the server's settings say; `health` tells when they lose acknowledged work.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import psycopg
from psycopg.pq import TransactionStatus

from persistence import migrations
from persistence import postgres_statements as sql
from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    Outcome,
    OwnershipLost,
    StoreError,
    StoreHealth,
    StoreIncompatible,
    StoreMark,
    StoreOwned,
    StoreUnavailable,
)
from persistence.postgres_connection import Connection, connect_options, settle
from persistence.postgres_reads import PostgresReads
from persistence.postgres_rows import FORMATS, Row, arguments, columns, same_entry, size
from persistence.postgres_words import unavailable

T = TypeVar("T")

_REMEMBERED = 100_000
"""Conversations whose newest sequence number is kept in memory, so that most appends need no look-up."""
_CLEANED_AT_ONCE = 5_000
_TRIMMED_AT_ONCE = 500
"""Conversations of one transaction of the cleanup, which the next commit waits for."""
_LARGEST_COMMIT = 512 << 20
"""Bytes; what is above a gigabyte the server does not take as one message: it ends the connection, every time."""
_OF_A_ROW = ("22", "23", "54")
"""Classes of errors that a row brings about, every time: its data, a constraint, a limit. Any other (gone, full, read
only, no right to) is the world's: the same batch is tried again, and nobody's step is refused for it."""
_SOUND = (TransactionStatus.IDLE, TransactionStatus.INTRANS)
_WRITE_TIMEOUT = 30.0
"""Seconds that the server takes for one statement, at most, the wait for locks included."""
_LAST_WORDS = 2.0
"""Seconds that closing waits for the server's answers."""
_FREED_WITHIN = 0.5
"""Seconds in which the server notices that an owner died."""
_LOOK_EVERY = 0.02


class PostgresStore(PostgresReads):
    """See persistence/contract.py for what each verb promises; `lease_ttl` in seconds."""

    kind = "postgres"

    def __init__(self, dsn: str, *, lease_ttl: float = 10.0) -> None:
        super().__init__(dsn)
        self._lease_ms = max(1, round(lease_ttl * 1000))
        self._write_lock = threading.RLock()
        self._writer: Connection | None = None
        self._pid = 0
        self._epoch = 0
        self._last_seqs: dict[str, int] = {}
        self._number = 0
        self._acknowledged = 0
        self._unsure: tuple[list[Append], list[Row]] | None = None
        self._lost: str | None = None
        self._closing = threading.Event()
        self._renewer: threading.Thread | None = None

    # Life

    def open(self, owner: str) -> int:
        """Lock, migrate, own; `StoreOwned` when the owner lives and its lease has not ended."""
        self.close()
        self._lost, self._unsure = None, None
        self._number = self._acknowledged = 0
        self._closing = threading.Event()
        try:
            self._epoch = self._own(self._connect(), owner)
        except psycopg.Error as error:
            self.close()
            raise unavailable(error, self._dsn) from None
        except BaseException:
            self.close()
            raise
        self._open_readers()
        self._renewer = threading.Thread(target=self._renew, args=(self._closing,), name="postgres-lease", daemon=True)
        self._renewer.start()
        return self._epoch

    def mark(self) -> StoreMark | None:
        """Look over a connection of its own."""
        try:
            with Connection.connect(**connect_options(self._dsn)) as connection:
                there = _exists(connection, "orchestrator_ownership")
                row = connection.execute(sql.MARK).fetchone() if there else None
        except psycopg.Error as error:
            raise unavailable(error, self._dsn) from None
        return None if row is None else StoreMark(*row)

    def beat(self) -> StoreMark | None:
        """One row."""
        row = self._change(sql.BEAT, ()).fetchone()
        return None if row is None else StoreMark(*row)

    def open_reading(self) -> bool:
        """Read beside the owner, over connections that cannot write."""
        try:
            with Connection.connect(**connect_options(self._dsn)) as connection:
                self._check_version(connection)
                if not _applied(connection):
                    return False
        except psycopg.Error as error:
            raise unavailable(error, self._dsn) from None
        self._open_readers()
        return True

    def close(self) -> None:
        """Give the ownership back, so that the next owner need not wait, and disconnect."""
        self._closing.set()
        if (writer := self._writer) is not None:
            writer.patience = _LAST_WORDS
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            renewer.join()
        self._close_readers()
        with self._write_lock:
            if self._writer is not None:
                with contextlib.suppress(psycopg.Error):  # then the lock is freed with the connection
                    self._writer.execute(sql.RELEASE, (self._epoch,))
                    self._writer.execute(sql.UNLOCK_ALL)
            self._disconnect()
            self._epoch = self._pid = 0

    def health(self) -> StoreHealth:
        """Ask the server how durable it is. Unavailable too once the ownership is lost."""
        if self._lost is not None:
            raise StoreUnavailable(self._lost)
        ((synchronous, fsync, full_pages, standby, size_),) = self._all(sql.HEALTH)
        if standby:
            raise StoreUnavailable("the server is a standby, which takes no writes")
        lost = []
        if synchronous == "off":
            lost.append("synchronous_commit is off: a crash of the server loses the last moments")
        if fsync == "off":
            lost.append("fsync is off: a crash of the machine can lose everything")
        if full_pages == "off":
            lost.append("full_page_writes is off: a crash of the machine can corrupt what was stored")
        always = "every commit is synchronised to the server's disk; nothing acknowledged is lost short of losing it"
        figures = {"epoch": float(self._epoch), "bytes": float(size_)}
        return StoreHealth(self.kind, durable=not lost, detail="; ".join(lost) or always, figures=figures)

    def migration_status(self) -> list[tuple[str, bool]]:
        """Return (migration, applied) for every known migration; needs no ownership and changes nothing."""
        try:
            with Connection.connect(**connect_options(self._dsn)) as connection:
                applied = _applied(connection)
        except psycopg.Error as error:
            raise unavailable(error, self._dsn) from None
        return [(name, name in applied) for name in migrations.known("postgres")]

    # Writing

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch in one transaction."""
        if size(batch, rows) > _LARGEST_COMMIT:
            raise ValueError(f"one commit may hold {_LARGEST_COMMIT} bytes")
        with self._write_lock:
            asked = list(batch), list(rows)
            # The very same batch again keeps its number: the row of the ownership then tells whether it was applied.
            if self._unsure != asked:
                self._number += 1
            self._unsure = asked
            done = self._at_once(*asked) or self._transact(lambda writer, last: self._apply(writer, last, *asked))
            self._acknowledged, self._unsure = self._number, None
            self._remember(done[1])
            return done[0]

    def drop_dead_letter(self, dead_letter_id: int) -> bool:
        """Delete one row."""
        return self._change(sql.DROP_DEAD_LETTER, (dead_letter_id,)).rowcount > 0

    def count_recoveries(self) -> dict[str, int]:
        """Add one for every unfinished conversation."""
        return dict(self._change(sql.RECOVERING, ()).fetchall())

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete expired rows, a bounded number of each table per call."""
        values = {
            "journal": now - keep_journal_ms,
            "logs": now - keep_logs_ms,
            "inbox": now - keep_inbox_ms,
            "most": _CLEANED_AT_ONCE,
        }
        gone = {table: self._change(statement, values).rowcount for table, statement in sql.CLEANUP.items()}
        gone |= dict.fromkeys(sql.TRIM, 0)
        looked_at = _TRIMMED_AT_ONCE
        while looked_at == _TRIMMED_AT_ONCE and max(gone[table] for table in sql.TRIM) < _CLEANED_AT_ONCE:
            looked_at, trimmed = self._trim(values["journal"])
            for table, rows in trimmed.items():
                gone[table] += rows
        return gone

    def _trim(self, before: int) -> tuple[int, dict[str, int]]:
        """Delete what some conversations no longer need; return how many were looked at, and rows by table."""

        def work(writer: Connection, _: int) -> tuple[int, dict[str, psycopg.Cursor[Any]]]:
            chosen = [key for (key,) in writer.execute(sql.TRIMMABLE, (before, _TRIMMED_AT_ONCE)).fetchall()]
            if not chosen:
                return 0, {}
            values = {"chosen": chosen, "most": _CLEANED_AT_ONCE}
            gone = {table: writer.execute(statement, values) for table, statement in sql.TRIM.items()}
            writer.execute(sql.TRIMMED, values)
            return len(chosen), gone

        with self._write_lock:
            looked_at, gone = self._transact(work)
            return looked_at, {table: cursor.rowcount for table, cursor in gone.items()}

    # Steps of a commit

    def _at_once(self, batch: Sequence[Append], rows: Sequence[Row]) -> tuple[list[Outcome], Sequence[Append]] | None:
        """Commit in one round trip what is as it nearly always is; None, and nothing is done, when it is not so.

        That is: each step follows on the newest one, nobody else wrote, and this commit was not done already.
        """
        newest: dict[str, int] = {}
        assumed: dict[str, int] = {}
        for append in batch:
            key = append.conversation_id
            last = newest.get(key) or self._last_seqs.get(key)
            if last is None:
                assumed[key] = append.expected_seq
            elif last != append.expected_seq:
                return None
            newest[key] = append.last_seq
        body = self._body(batch, rows, assumed)
        with self._failing():
            if not self._write(self._writing(), self._acknowledged, body):
                return None
        return [Committed(append.conversation_id, append.last_seq) for append in batch], batch

    def _body(self, batch: Sequence[Append], rows: Sequence[Row], assumed: dict[str, int]) -> list[bytes | None]:
        body = arguments(batch, rows, assumed)
        if sum(len(argument) for argument in body if argument) > _LARGEST_COMMIT:
            raise ValueError(f"one commit may hold {_LARGEST_COMMIT} bytes, as JSON")
        return body

    def _write(self, writer: Connection, last_commit: int, body: Sequence[bytes | None]) -> bool:
        head = (self._epoch, last_commit, self._number, self._lease_ms)
        asked = [*(b"%d" % number for number in head), *body]
        return writer.ask("commit", sql.COMMIT, asked, FORMATS).get_value(0, 0) == b"t"

    def _apply(
        self, writer: Connection, last_commit: int, batch: Sequence[Append], rows: Sequence[Row]
    ) -> tuple[list[Outcome], Sequence[Append]]:
        outcomes, accepted = self._sort(writer, batch)
        # What rides along was written by the commit of this number, if there was one.
        if not self._write(writer, last_commit, self._body(accepted, () if last_commit == self._number else rows, {})):
            raise StoreUnavailable("the store changed under a transaction")
        return outcomes, accepted

    def _sort(self, writer: Connection, batch: Sequence[Append]) -> tuple[list[Outcome], list[Append]]:
        """Tell appends that follow on from those that do not."""
        newest = {a.conversation_id: self._last_seqs.get(a.conversation_id, -1) for a in batch}
        unknown = [key for key, last in newest.items() if last < 0]
        if unknown:
            newest.update(dict.fromkeys(unknown, 0))
            newest.update(dict(writer.execute(sql.LAST_SEQS, (unknown,)).fetchall()))
        outcomes: list[Outcome] = []
        accepted: dict[tuple[str, int], Append] = {}
        late: list[tuple[Any, ...]] = []
        for number, append in enumerate(batch):
            key, last = append.conversation_id, newest[append.conversation_id]
            outcomes.append(Committed(key, append.last_seq))
            if last == append.expected_seq:
                newest[key] = append.last_seq
                accepted[key, append.last_seq] = append
            elif accepted.get((key, append.last_seq)) != append:
                detail = f"the newest event is {last}, this step follows {append.expected_seq}"
                outcomes[-1] = AppendRefused(key, append.last_seq, "sequence_conflict", detail)
                late.append((number, *same_entry(append)))
        if late:  # a commit whose answer got lost is tried again: such a step is in the journal
            for (number,) in writer.execute(sql.SAME_ENTRIES, columns(late)).fetchall():
                outcomes[number] = Committed(batch[number].conversation_id, batch[number].last_seq)
        return outcomes, list(accepted.values())

    def _remember(self, appends: Iterable[Append]) -> None:
        if len(self._last_seqs) > _REMEMBERED:
            self._last_seqs.clear()
        for append in appends:
            self._last_seqs[append.conversation_id] = append.last_seq

    def _change(self, statement: str, values: Any) -> psycopg.Cursor[Any]:
        with self._write_lock:
            return self._transact(lambda writer, _: writer.execute(statement, values))

    def _transact(self, work: Callable[[Connection, int], T]) -> T:
        """Do some work in one transaction that nobody but the owner can commit."""
        with self._failing():
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

    # Ownership

    def _own(self, connection: Connection, owner: str) -> int:
        if not self._try_lock(connection, sql.OPENING):
            raise StoreOwned("another daemon is opening this store")
        self._check_version(connection)
        if not self._try_lock(connection, sql.OWNER):
            self._end_expired(connection)
        migrations.apply("postgres", self._migration_uri())
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
        row = connection.execute(sql.LEASE).fetchone() if _exists(connection, "orchestrator_ownership") else None
        if row is None:
            raise StoreOwned("another daemon is making this store")
        owner, left = row
        if left > 0:
            raise StoreOwned(f"this store is owned by another live daemon, {owner}")
        for (pid,) in connection.execute(sql.HOLDER, (sql.OWNER,)).fetchall():
            connection.execute(sql.END_HOLDER, (pid,))
        if not self._try_lock(connection, sql.OWNER):
            raise StoreOwned(f"the lease of {owner} has ended, but its connection does not end")

    def _renew(self, closing: threading.Event) -> None:
        while not closing.wait(self._lease_ms / 3000):
            # An unreachable server is tried again; a lost ownership is said by the next write and by `health`.
            try:
                self._change(sql.RENEW, (self._lease_ms, self._epoch))
            except OwnershipLost:
                return
            except (StoreError, psycopg.Error):
                continue

    def _check_version(self, connection: Connection) -> None:
        newer = sorted(_applied(connection) - set(migrations.known("postgres")))
        if newer:
            names = ", ".join(newer)
            raise StoreIncompatible(f"the database was migrated by a newer version ({names}); it is left as it is")

    def _migration_uri(self) -> str:
        """Return the DSN as the migrations' library reads it: everything as an argument, so that odd names pass."""
        options = {name: value for name, value in connect_options(self._dsn).items() if name != "autocommit"}
        return f"postgresql+psycopg:///?{urlencode(options)}"

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
        """After any error nothing is assumed: the connection is dropped and what is remembered is read again."""
        self._last_seqs.clear()
        self._disconnect()


def _exists(connection: Connection, table: str) -> bool:
    row = connection.execute(sql.EXISTS, (table,)).fetchone()
    return row is not None and bool(row[0])


def _applied(connection: Connection) -> set[str]:
    if not _exists(connection, "_yoyo_migration"):
        return set()
    return {row[0] for row in connection.execute(sql.APPLIED)}
