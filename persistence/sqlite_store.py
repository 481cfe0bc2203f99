"""The SQLite store: one file, write-ahead log, every commit synchronised to disk.

One process owns it: a lock on a file beside the database keeps a second daemon out (the kernel frees it when the owner
dies, however it dies), and an epoch in the database is checked in every transaction, so that a process that lost the
lock can write nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic_core import to_json

from persistence import migrations
from persistence import sqlite_statements as sql
from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    DeadLetterRow,
    MetricRow,
    OperationRow,
    Outcome,
    OwnershipLost,
    StoreHealth,
    StoreIncompatible,
    StoreMark,
    StoreOwned,
    StoreUnavailable,
)
from persistence.sqlite_reads import SqliteReads, connect, unavailable

# Of every value that is no text or plain number the driver asks the type for ways to adapt it, and drops an error for
# each that there is not. These it stores as they are; told so, it asks no more (2 % of a request).
_NOTHING: dict[None, None] = {}
sqlite3.register_adapter(type(None), _NOTHING.get)  # None for None
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(bool, int)

T = TypeVar("T")
Row = OperationRow | MetricRow | DeadLetterRow

_REMEMBERED = 100_000
"""Conversations whose newest sequence number is kept in memory, so that most appends need no look-up."""
_CLEANED_AT_ONCE = 5_000
_PAGE = 8_192
"""Bytes. Of texts of about 2 KB, a page of the usual 4 KB holds one and a page of this size three."""
_TRIMMED_AT_ONCE = 500
"""Conversations of one transaction of the cleanup, which the next commit waits for."""
_OF_A_ROW = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")
"""Errors that a row brings about, every time. Any other (full, locked, corrupt, a table gone) is the world's: the same
batch is tried again, and nobody's step is refused for it."""


class SqliteStore(SqliteReads):
    """See persistence/contract.py for what each verb promises."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock_file: int | None = None
        self._writer: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._write_lock = threading.RLock()
        self._epoch = 0
        self._last_seqs: dict[str, int] = {}

    # Life

    def open(self, owner: str) -> int:
        """Lock, migrate, own."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = _lock(self._path)
            self._last_seqs.clear()
            self._open_readers()
            self._make_private()
            self._file = _identity(self._path)
            self._check_version()
            self._connect()
            migrations.apply("sqlite", f"sqlite:///{quote(str(self._path.absolute()))}")
            writer = self._writing()
            (self._epoch,) = writer.execute(sql.OWN, (owner, time.time_ns() // 1_000_000)).fetchone()
        except sqlite3.Error as error:
            self.close()
            raise _opening(error, self._path) from error
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
            if not self._applied():
                return None
            connection = connect(self._path, read_only=True)
            try:
                row = connection.execute(sql.MARK).fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise _opening(error, self._path) from error
        return None if row is None else StoreMark(*row)

    def beat(self) -> StoreMark | None:
        """One row."""
        self._change(sql.BEAT, ())
        return self.mark()

    def open_reading(self) -> bool:
        """Read beside the owner, over connections that cannot write."""
        try:
            self._check_version()
            if not self._applied():
                return False
        except sqlite3.Error as error:
            raise _opening(error, self._path) from error
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
                _HELD.discard(self._lock_file)
                os.close(self._lock_file)
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
            applied = set(self._applied())
        except sqlite3.Error as error:
            raise unavailable(error, self._path) from error
        return [(name, name in applied) for name in migrations.known("sqlite")]

    # Writing

    def commit(self, batch: Sequence[Append], rows: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch in one transaction."""
        with self._write_lock:
            try:
                writer = self._writing()
                writer.execute("BEGIN IMMEDIATE")
                self._check_epoch(writer)
                outcomes, accepted = self._sort(writer, batch)
                self._write(writer, accepted)
                _write_rows(writer, rows)
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

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete expired rows, a bounded number of each table per call."""
        values = {
            "journal": now - keep_journal_ms,
            "logs": now - keep_logs_ms,
            "inbox": now - keep_inbox_ms,
            "most": _CLEANED_AT_ONCE,
        }
        gone = {}
        for table, statement in sql.CLEANUP.items():
            used = {key: value for key, value in values.items() if f":{key}" in statement}
            gone[table] = self._change(statement, used)
        gone |= dict.fromkeys(sql.TRIM, 0)
        looked_at = _TRIMMED_AT_ONCE
        while looked_at == _TRIMMED_AT_ONCE and max(gone[table] for table in sql.TRIM) < _CLEANED_AT_ONCE:
            looked_at, trimmed = self._transact(lambda writer: _trim(writer, values["journal"]))
            for table, rows in trimmed.items():
                gone[table] += rows
        return gone

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

    @staticmethod
    def _write(writer: sqlite3.Connection, appends: Sequence[Append]) -> None:
        _insert(
            writer, sql.ENTRY, ((a.conversation_id, a.last_seq, a.expected_seq + 1, a.at, a.entry) for a in appends)
        )
        for progress, some in groupby(appends, lambda a: a.progress):  # in order: one may have several steps
            _insert(writer, sql.STATE if progress else sql.STATE_AS_BEFORE, map(_state, some))
        _insert(
            writer,
            sql.INBOX,
            (
                (a.conversation_id, row.message_id, row.request_id, row.fingerprint, row.seq, a.at)
                for a in appends
                for row in a.inbox
            ),
        )
        replied = [(seq, a.conversation_id, message) for a in appends for message, seq in a.replied]
        if replied:
            writer.execute(sql.REPLIED, (to_json(replied).decode(),))
        _insert(
            writer,
            sql.RESULT,
            (
                (
                    a.conversation_id,
                    row.request_id,
                    row.node,
                    row.agent,
                    row.attempt,
                    row.body,
                    row.duration_ms,
                    row.cached,
                    row.cache_key,
                    a.at,
                    row.expires_at,
                )
                for a in appends
                for row in a.results
            ),
        )
        _insert(
            writer,
            sql.MEMORY,
            (
                (a.conversation_id, row.seq, row.role, row.request_id, row.text, row.at, row.forgotten)
                for a in appends
                for row in a.memory
            ),
        )
        writer.executemany(sql.FORGET, [(a.conversation_id, request) for a in appends for request in a.forget])
        _insert(
            writer,
            sql.ERROR,
            (
                (
                    row.at,
                    a.conversation_id,
                    row.request_id,
                    row.node,
                    row.agent,
                    row.attempt,
                    row.error_type,
                    row.error_class,
                    row.message,
                    row.retry_delay,
                )
                for a in appends
                for row in a.errors
            ),
        )

    def _remember(self, appends: Sequence[Append]) -> None:
        if len(self._last_seqs) > _REMEMBERED:
            self._last_seqs.clear()
        for append in appends:
            self._last_seqs[append.conversation_id] = append.last_seq

    def _change(self, statement: str, values: Any) -> int:
        return self._transact(lambda writer: writer.execute(statement, values).rowcount)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._write_lock:
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

    def _writing(self) -> sqlite3.Connection:
        if self._lock_file is None:
            raise StoreUnavailable("the store is not open")
        if self._file != _identity(self._path):
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

    def _recover(self) -> None:
        """After any error nothing is assumed: the connection is dropped and what is remembered is read again."""
        self._last_seqs.clear()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()  # rolls an open transaction back

    def _make_private(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for suffix in ("", "-wal", "-shm"):
            path = Path(f"{self._path}{suffix}")
            if path.exists():
                path.chmod(0o600)

    def _applied(self) -> list[str]:
        if not self._path.exists():
            return []
        connection = connect(self._path, read_only=True)
        try:
            tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_yoyo_migration'").fetchall()
            rows = connection.execute("SELECT migration_id FROM _yoyo_migration").fetchall() if tables else []
        finally:
            connection.close()
        return [row[0] for row in rows]

    def _check_version(self) -> None:
        newer = sorted(set(self._applied()) - set(migrations.known("sqlite")))
        if newer:
            names = ", ".join(newer)
            raise StoreIncompatible(f"{self._path} was migrated by a newer version ({names}); it is left as it is")


def _opening(error: sqlite3.Error, path: Path) -> StoreUnavailable | StoreIncompatible:
    """Return why a file cannot be opened; waiting helps against most things, but not against damage."""
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreIncompatible(f"{path} is no SQLite database, or a damaged one ({error}); it is left as it is")
    return unavailable(error, path)


def _lock(path: Path) -> int:
    """Return the held lock; freed by the kernel when this process ends."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreOwned(f"{path} is owned by another live daemon") from None
    except BaseException:
        os.close(handle)
        raise
    _HELD.add(handle)
    return handle


_HELD: set[int] = set()


def _let_go() -> None:
    """Leave the lock to this process alone: a copy of it that an agent forks would hold it as long as it lives."""
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another that has its name; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def size(path: Path, suffix: str) -> int:
    """Return the bytes of one of the store's files, 0 when it is not there."""
    try:
        return Path(f"{path}{suffix}").stat().st_size
    except OSError:
        return 0


def _state(append: Append) -> tuple[Any, ...]:
    return (
        append.conversation_id,
        append.phase,
        append.last_seq,
        append.unfinished,
        append.oldest_open_seq,
        to_json(append.open_request_ids).decode(),
        append.user_id,
        append.at,
        append.at,
        append.last_seq if append.snapshot is not None else 0,
        append.snapshot,
    )


def _trim(writer: sqlite3.Connection, before: int) -> tuple[int, dict[str, int]]:
    """Delete what some conversations no longer need; return how many were looked at, and rows by table."""
    chosen = [key for (key,) in writer.execute(sql.TRIMMABLE, (before, _TRIMMED_AT_ONCE)).fetchall()]
    if not chosen:
        return 0, {}
    values = {"chosen": json.dumps(chosen), "most": _CLEANED_AT_ONCE}
    gone = {table: writer.execute(statement, values).rowcount for table, statement in sql.TRIM.items()}
    writer.execute(sql.TRIMMED, {"chosen": values["chosen"]})
    return len(chosen), gone


def _write_rows(writer: sqlite3.Connection, rows: Sequence[Row]) -> None:
    operations: list[OperationRow] = []
    metrics: list[MetricRow] = []
    for row in rows:
        if isinstance(row, OperationRow):
            operations.append(row)
        elif isinstance(row, MetricRow):
            metrics.append(row)
        else:
            writer.execute(sql.DEAD_LETTER, (row.at, row.address, row.reason, row.kind, row.body))
    _insert(writer, sql.OPERATION, operations)
    _insert(writer, sql.METRIC, metrics)


def _insert(writer: sqlite3.Connection, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
    # At every statement the driver lets go of the interpreter, wakes whoever waits for it, and waits to have it again:
    # a commit of a hundred steps would do so a thousand times, and last as long as the others have work.
    rows = list(values)
    done = 0
    for many in sql.SIZES:
        while len(rows) - done >= many:
            writer.execute(sql.repeated(statement, many), [*chain.from_iterable(rows[done : done + many])])
            done += many
