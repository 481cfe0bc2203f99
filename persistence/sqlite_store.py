"""The SQLite store: one file, write-ahead log, every commit synchronised to disk.

One process owns it: a lock on a file beside the database (`sqlite_file.py`) keeps a second daemon out, and an epoch in
the database is checked in every transaction, so that a process that lost the lock can write nothing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from persistence import migrations
from persistence import sqlite_statements as sql
from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    Outcome,
    OwnershipLost,
    Row,
    StoreHealth,
    StoreMark,
    StoreUnavailable,
)
from persistence.sql_cleanup import Statements, clean
from persistence.sqlite_connection import cannot_open, connect, unavailable
from persistence.sqlite_file import identity, lock, make_private, size, unlock
from persistence.sqlite_migrations import applied, apply_missing, check_version
from persistence.sqlite_reads import SqliteReads
from persistence.sqlite_rows import write_rows, write_steps

T = TypeVar("T")

_REMEMBERED = 100_000
"""Conversations whose newest sequence number is kept in memory, so that most appends need no look-up."""
_PAGE = 8_192
"""Bytes. Of texts of about 2 KB, a page of the usual 4 KB holds one and a page of this size three."""
_OF_A_ROW = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")
"""Errors that a row brings about, every time. Any other (full, locked, corrupt, a table gone) is the world's: the same
batch is tried again, and nobody's step is refused for it."""


_CLEANUP = Statements(sql.CLEANUP, sql.TRIMMABLE, sql.TRIM, sql.TRIMMED, argument=json.dumps)


class SqliteStore(SqliteReads):
    """See persistence/contract.py for what each verb promises."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock_file: int | None = None
        self._writer: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        self._write_lock = threading.RLock()
        self._epoch = 0
        self._last_seqs: dict[str, int] = {}

    # Life

    def open(self, owner: str) -> int:
        """Lock, migrate, own."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = lock(self._path)
            self._last_seqs.clear()
            self._open_readers()
            make_private(self._path)
            self._file = identity(self._path)
            check_version(self._path)
            self._connect()
            apply_missing(self._path)
            writer = self._writing()
            (self._epoch,) = writer.execute(sql.OWN, (owner, time.time_ns() // 1_000_000)).fetchone()
        except sqlite3.Error as error:
            self.close()
            raise cannot_open(error, self._path) from error
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"{self._path}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        return self._epoch

    def mark(self) -> StoreMark | None:
        """Look over a connection of its own."""
        try:
            if not applied(self._path):
                return None
            connection = connect(self._path, read_only=True)
            try:
                row = connection.execute(sql.MARK).fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise cannot_open(error, self._path) from error
        return None if row is None else StoreMark(*row)

    def beat(self) -> StoreMark | None:
        """One row."""
        self._change(sql.BEAT, ())
        return self.mark()

    def open_reading(self) -> bool:
        """Read beside the owner, over connections that cannot write."""
        try:
            check_version(self._path)
            if not applied(self._path):
                return False
        except sqlite3.Error as error:
            raise cannot_open(error, self._path) from error
        self._open_readers()
        return True

    def close(self) -> None:
        """Close everything, the lock last."""
        self._close_readers()
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._lock_file is not None:
                unlock(self._lock_file)
                self._lock_file = None

    def health(self) -> StoreHealth:
        """Read one row."""
        self._all(sql.EPOCH)
        figures = {
            "bytes": float(sum(size(self._path, suffix) for suffix in ("", "-wal"))),
            "epoch": float(self._epoch),
        }
        detail = "every commit is synchronised to disk; nothing acknowledged is lost short of losing the disk"
        return StoreHealth(self.kind, durable=True, detail=detail, figures=figures)

    def migration_status(self) -> list[tuple[str, bool]]:
        """Return (migration, applied) for every known migration; needs no ownership and changes nothing."""
        try:
            done = set(applied(self._path))
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        return [(name, name in done) for name in migrations.known("sqlite")]

    # Writing

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch in one transaction."""
        with self._write_lock:
            self._keep_log()
            try:
                writer = self._writing()
                writer.execute("BEGIN IMMEDIATE")
                self._check_epoch(writer)
                outcomes, accepted = self._sort(writer, batch)
                write_steps(writer, accepted)
                write_rows(writer, rows)
                writer.execute("COMMIT")
            except sqlite3.Error as error:
                self._recover()
                # What has no name the driver refused before the database saw it: a value of a type it cannot bind.
                if getattr(error, "sqlite_errorname", _OF_A_ROW[0]).startswith(_OF_A_ROW):
                    raise
                raise unavailable(error, self._path) from error
            except BaseException:
                self._recover()
                raise
            self._remember(accepted)
            return outcomes

    def drop_dead_letter(self, dead_letter_id: int) -> bool:
        """Delete one row."""
        return self._change(sql.DROP_DEAD_LETTER, (dead_letter_id,)) > 0

    def count_recoveries(self) -> dict[str, int]:
        """Add one for every unfinished conversation."""
        self._change(sql.RECOVERING, ())
        found = self._all(sql.RECOVERIES)
        return {name: count if isinstance(count, int) else 1 for name, count in found if isinstance(name, str)}

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str] | None = None) -> None:
        """Change many rows at once."""
        ids = None if conversation_ids is None else json.dumps([*conversation_ids])
        self._change(sql.SHIFT_RECOVERIES, {"by": by, "ids": ids})

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete expired rows, a bounded number of each table per call."""
        return clean(
            _CLEANUP,
            lambda work: self._transact(lambda writer: work(writer.execute)),
            journal=now - keep_journal_ms,
            logs=now - keep_logs_ms,
            inbox=now - keep_inbox_ms,
        )

    # Steps of a commit

    def _check_epoch(self, writer: sqlite3.Connection) -> None:
        row = writer.execute(sql.EPOCH).fetchone()
        if row is None or row[0] != self._epoch:
            newest = "none" if row is None else row[0]
            raise OwnershipLost(f"this daemon has epoch {self._epoch}, the store has {newest}: somebody else owns it")

    def _sort(self, writer: sqlite3.Connection, batch: Sequence[Append]) -> tuple[list[Outcome], list[Append]]:
        """Tell appends that follow on from those that do not."""
        newest = {a.conversation_id: self._last_seqs.get(a.conversation_id, -1) for a in batch}
        unknown = [key for key, last in newest.items() if last < 0]
        if unknown:
            newest.update(dict.fromkeys(unknown, 0))
            newest.update(writer.execute(sql.LAST_SEQS, (json.dumps(unknown),)).fetchall())
        outcomes: list[Outcome] = []
        accepted: list[Append] = []
        for append in batch:
            key = append.conversation_id
            last = newest[key]
            if last == append.expected_seq:
                newest[key] = append.last_seq
                accepted.append(append)
                outcomes.append(Committed(key, append.last_seq))
            elif append in accepted or self._is_applied(writer, append):
                outcomes.append(Committed(key, append.last_seq))
            else:
                detail = f"the newest event is {last}, this step follows {append.expected_seq}"
                outcomes.append(AppendRefused(key, append.last_seq, "sequence_conflict", detail))
        return outcomes, accepted

    @staticmethod
    def _is_applied(writer: sqlite3.Connection, append: Append) -> bool:
        """Return whether this very step is in the journal: a commit whose answer got lost is tried again."""
        step = (append.conversation_id, append.last_seq, append.expected_seq + 1, append.at, append.entry)
        return writer.execute(sql.SAME_ENTRY, step).fetchone() is not None

    def _remember(self, appends: Sequence[Append]) -> None:
        if len(self._last_seqs) > _REMEMBERED:
            self._last_seqs.clear()
        for append in appends:
            self._last_seqs[append.conversation_id] = append.last_seq

    def _change(self, statement: str, values: Any) -> int:
        return self._transact(lambda writer: writer.execute(statement, values).rowcount)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._write_lock:
            self._keep_log()
            try:
                writer = self._writing()
                writer.execute("BEGIN IMMEDIATE")
                self._check_epoch(writer)
                done = work(writer)
                writer.execute("COMMIT")
            except sqlite3.Error as error:
                self._recover()
                raise unavailable(error, self._path) from error
            except BaseException:
                self._recover()
                raise
            return done

    # Connection

    @property
    def _wal(self) -> Path:
        return self._path.with_name(f"{self._path.name}-wal")

    def _writing(self) -> sqlite3.Connection:
        if self._lock_file is None:
            raise StoreUnavailable("the store is not open")
        if self._file != identity(self._path):
            # What is written to a file that was moved or deleted is lost with this process; and another file in its
            # place does not belong to the write-ahead log that lies beside it.
            raise StoreUnavailable(f"{self._path} is not the file that was opened: it was moved, deleted or replaced")
        if self._writer is None:
            self._connect()
        assert self._writer is not None
        return self._writer

    def _connect(self) -> None:
        self._writer = connect(self._path)
        self._writer.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file; an old one keeps its own
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute("BEGIN IMMEDIATE")  # the log's file is there from the first transaction on
        self._writer.execute("ROLLBACK")
        self._log = identity(self._wal)

    def _keep_log(self) -> None:
        """Put what is only in a write-ahead log that was moved or deleted into the file, and begin another log.

        It is there as long as a connection holds it, and gone with this process: so nothing is written to it any more.
        """
        if self._writer is None or not self._log_is_lost():
            return
        lost = f"{self._wal} is not the write-ahead log that was opened: it was moved, deleted or replaced"
        try:
            busy, frames, saved = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        if busy or frames != saved:
            raise StoreUnavailable(f"{lost}; what was committed to it is still to be saved")
        self._recover()
        raise StoreUnavailable(f"{lost}; all that was committed to it is saved, and the next write begins another")

    def _log_is_lost(self) -> bool:
        return self._file == identity(self._path) and self._log != identity(self._wal)

    def _recover(self) -> None:
        """After any error nothing is assumed: the connection is dropped and what is remembered is read again."""
        self._last_seqs.clear()
        if self._writer is not None:
            if self._log_is_lost():
                # A new connection beside old ones would look for their pages in another log. And the last one that is
                # closed puts what the log holds into the file, which those that only read cannot.
                self._close_readers()
                self._open_readers()
            writer, self._writer = self._writer, None
            writer.close()  # rolls an open transaction back
