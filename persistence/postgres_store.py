"""The Postgres store: a batch is one call of the server's, over the connection of the owner (`postgres_ownership.py`).

A commit is as durable as the server's settings say; `health` tells when they lose acknowledged work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from persistence import migrations
from persistence import postgres_statements as sql
from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    Outcome,
    Row,
    StoreHealth,
    StoreMark,
    StoreUnavailable,
)
from persistence.postgres_connection import Connection, connect_options
from persistence.postgres_migrations import applied, check_version, exists
from persistence.postgres_ownership import PostgresOwnership
from persistence.postgres_rows import FORMATS, arguments, columns, same_entry, size
from persistence.postgres_words import unavailable
from persistence.sql_cleanup import Statements, clean

_REMEMBERED = 100_000
"""Conversations whose newest sequence number is kept in memory, so that most appends need no look-up."""
_LARGEST_COMMIT = 512 << 20
"""Bytes; what is above a gigabyte the server does not take as one message: it ends the connection, every time."""
_LAST_WORDS = 2.0
"""Seconds that closing waits for the server's answers."""


_CLEANUP = Statements(sql.CLEANUP, sql.TRIMMABLE, sql.TRIM, sql.TRIMMED, argument=list)


class PostgresStore(PostgresOwnership):
    """See persistence/contract.py for what each verb promises; `lease_ttl` in seconds."""

    kind = "postgres"

    def __init__(self, dsn: str, *, lease_ttl: float = 10.0) -> None:
        super().__init__(dsn, lease_ttl=lease_ttl)
        self._last_seqs: dict[str, int] = {}
        self._number = 0
        self._unsure: tuple[list[Append], list[Row]] | None = None
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
                there = exists(connection, "orchestrator_ownership")
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
                check_version(connection)
                if not applied(connection):
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
        self._give_back()

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
                done = applied(connection)
        except psycopg.Error as error:
            raise unavailable(error, self._dsn) from None
        return [(name, name in done) for name in migrations.known("postgres")]

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

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str] | None = None) -> None:
        """Change many rows at once."""
        self._change(sql.SHIFT_RECOVERIES, {"by": by, "ids": None if conversation_ids is None else [*conversation_ids]})

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete expired rows, a bounded number of each table per call."""
        return clean(
            _CLEANUP,
            lambda work: self._transact(lambda writer, _: work(writer.execute)),
            journal=now - keep_journal_ms,
            logs=now - keep_logs_ms,
            inbox=now - keep_inbox_ms,
        )

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

    def _recover(self) -> None:
        """After any error nothing is assumed: what is remembered is read again, too."""
        self._last_seqs.clear()
        super()._recover()
