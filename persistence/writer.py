"""Group commit: one thread per store commits together whatever all conversations want written.

No timer gathers a batch: while one commit runs, the next gathers, so a single caller waits for nothing and a crowd
shares each synchronisation. The order of one conversation is the order of its submissions.

What the thread does is a generator that says where it would wait: so a simulation runs the same lines in virtual time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, TypeVar

from persistence.contract import (
    Append,
    AppendRefused,
    DeadLetterRow,
    MetricRow,
    OperationRow,
    Outcome,
    OwnershipLost,
    Store,
    StoreUnavailable,
)

T = TypeVar("T")
Done = Callable[[Outcome], None]
Row = OperationRow | MetricRow | DeadLetterRow
RowDone = Callable[[bool], None]
"""Told from the writer's thread that a row is durable, or that it was dropped; not told when the daemon ends first."""
Pause = float | None
"""Seconds to wait unless the writer is stopped; None: until there is something to write, or it is stopped."""

_ROWS_WAIT: Final = 1.0
"""Seconds that log and metric rows wait for a commit to ride along with before they get one of their own."""
_MAX_ROWS: Final = 10_000
_MAX_LETTER_BYTES: Final = 32 << 20
"""Of all dead letters that wait for the store together: each holds a message, where a log row holds a line."""
_ROWS_PER_COMMIT: Final = 1_000
"""Of a commit without steps."""
_ROWS_AT_LEAST: Final = 128
_ROWS_PER_STEP: Final = 8
"""More than a step brings about, so that none are left behind for long."""
PATIENCE: Final = 3.0
"""Seconds the store may take to confirm a commit before it counts as gone: a frozen one says nothing for far longer."""
_LAST_WORDS: Final = 2.0
_FAILURES: Final = 50
"""Commits that may fail in the search for rows that cannot be stored: one among all of a commit takes eleven."""


class _Stopped(Exception):
    """The daemon stops while the store is unavailable: what was to be committed stays undone."""


@dataclass(slots=True)
class _Figures:
    batches: int = 0
    appends: int = 0
    largest_batch: int = 0
    seconds: float = 0.0
    refused: int = 0
    rows: int = 0
    rows_dropped: int = 0
    retries: int = 0


class Writer:
    """Commits for all conversations; every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        log: Callable[..., None] | None = None,
        on_ownership_lost: Callable[[str], None] | None = None,
        max_batch: int = 512,
        max_pending: int = 100_000,
        retry: tuple[float, float] = (0.05, 2.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._log = log or _say_nothing
        self._on_ownership_lost = on_ownership_lost
        self._max_batch = max_batch
        self._max_pending = max_pending
        self._retry = retry
        self._clock = clock
        self._asked_at: float | None = None
        """When the commit in hand was first asked for."""
        self._changed = threading.Condition()
        self._pending: deque[tuple[Append, Done]] = deque()
        self._in_hand: list[tuple[Append, Done]] = []
        self._rows: deque[tuple[Row, RowDone | None]] = deque()
        self._dropped: set[int] = set()
        """Of the rows in hand those that could not be stored, by `id`."""
        self._rows_due = 0.0
        self._letter_bytes = 0
        self._undecided: dict[str, int] = {}
        self._after: dict[str, list[Callable[[], None]]] = {}
        self._figures = _Figures()
        self._stopping = False
        self._lost: str | None = None
        self._losing: str | None = None
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._trouble: str | None = None

    @property
    def last_error(self) -> str | None:
        """Why no new work should be taken: the last commit failed, or too many steps wait. None while it should.

        Steps of work that was taken are never turned away for their number: only the doors can bound it.
        """
        waiting = len(self._pending)
        if self._trouble is None and waiting >= self._max_pending:
            return f"{waiting} steps wait to be written"
        return self._trouble

    @property
    def available(self) -> bool:
        """Whether new work should be taken."""
        return self.last_error is None

    @property
    def stalled(self) -> str | None:
        """Why nothing was confirmed for some seconds although something waits for it; None while all goes on."""
        since = self._asked_at
        if since is None or self._clock() - since < PATIENCE:
            return None
        return self._trouble or f"it has confirmed nothing for {PATIENCE:g} s"

    def look(self) -> None:
        """Close the doors when the store says nothing: to be called now and then, from another thread than its own."""
        with self._changed:
            silent = None if self._trouble is not None else self.stalled
            if silent is not None:
                self._trouble = silent
        if silent is not None:
            self._log("store_unavailable", level="error", error_message=silent)

    def start(self) -> None:
        """Begin to commit."""
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, append: Append, done: Done) -> None:
        """Commit a step soon; `done(outcome)` is called from the writer's thread. Never blocks.

        While the store is unavailable the step waits. After ownership was lost `done` is told so at once.
        """
        with self._changed:
            if self._lost is None and not self._stopping:
                self._pending.append((append, done))
                key = append.conversation_id
                self._undecided[key] = self._undecided.get(key, 0) + 1
                if len(self._pending) == 1:
                    self._changed.notify()
                return
            reason = self._lost or "the daemon is stopping"
        self._tell(done, AppendRefused(append.conversation_id, append.last_seq, "not_owner", reason))

    def when_decided(self, conversation_id: str, call: Callable[[], None]) -> None:
        """Call `call()` once no step of that conversation waits for its commit; at once when none does.

        What is read from the store before that may be about to change: a new life of a supervisor waits for it.
        """
        with self._changed:
            if self._undecided.get(conversation_id):
                self._after.setdefault(conversation_id, []).append(call)
                return
        call()

    def submit_row(self, row: Row, done: RowDone | None = None) -> bool:
        """Write a log, metric or dead-letter row with some later commit; False when too much waits: it is dropped.

        Dead letters do not wait for others to ride along with. `done` is told what became of the row.
        """
        # A person or a sender waits for a dead letter to be kept; what is logged can wait for company.
        if not isinstance(row, DeadLetterRow):
            return self._take_rows([(row, done)], _ROWS_WAIT) == 1
        return self._take_rows([(row, done)], 0.0, _letter_size(row)) == 1

    def submit_rows(self, rows: Sequence[OperationRow | MetricRow]) -> int:
        """Do for each what `submit_row` does; return how many, the first ones, were taken."""
        return self._take_rows([*zip(rows, repeat(None))], _ROWS_WAIT)

    def _take_rows(self, rows: Sequence[tuple[Row, RowDone | None]], wait: float, letter_bytes: int = 0) -> int:
        with self._changed:
            shut = self._stopping or self._lost is not None
            shut = shut or (letter_bytes > 0 and self._letter_bytes + letter_bytes > _MAX_LETTER_BYTES)
            taken = 0 if shut else max(0, min(len(rows), _MAX_ROWS - len(self._rows)))
            self._figures.rows_dropped += len(rows) - taken
            if taken:
                due = time.monotonic() + wait
                if not self._rows or due < self._rows_due:
                    self._rows_due = due
                    self._changed.notify()
                self._rows.extend(rows[:taken])
                self._letter_bytes += letter_bytes
            return taken

    def stop(self, timeout: float) -> bool:
        """Commit what waits and end; return whether that was done within `timeout` seconds.

        An unavailable store is asked once more; what it does not take then stays unanswered, and the return is False.
        One that was silent for some seconds before is given two more at most.
        """
        if self.stalled is not None:
            timeout = min(timeout, _LAST_WORDS)
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._hurry.set()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive() and not self._pending

    def stats(self) -> dict[str, Any]:
        """Return figures since the start; seconds are those spent in commits."""
        figures = self._figures
        batches = max(1, figures.batches)
        return {
            "available": self.available,
            "last_error": self.last_error,
            "pending": len(self._pending),
            "commits": figures.batches,
            "appends": figures.appends,
            "appends_per_commit": round(figures.appends / batches, 2),
            "largest_commit": figures.largest_batch,
            "commit_seconds": round(figures.seconds, 6),
            "commit_ms": round(1000 * figures.seconds / batches, 3),
            "refused": figures.refused,
            "retries": figures.retries,
            "rows": figures.rows,
            "rows_dropped": figures.rows_dropped,
            "letter_bytes": self._letter_bytes,
        }

    # The thread

    def _run(self) -> None:
        for pause in self.steps():
            if pause is None:
                self._await_work()
            else:
                self._hurry.wait(pause)

    def steps(self) -> Iterator[Pause]:
        """Do the writer's work until it is stopped or has lost the store; wait where a pause is yielded."""
        try:
            yield from self._work()
        except Exception as error:
            # A defect. Nobody may wait for a writer that is gone, and the doors must not let more in. What is in hand
            # may be durable: who is refused looks into the store.
            self._refuse_everybody(f"the journal's writer failed: {type(error).__name__}: {error}", self._in_hand)
            raise

    def _work(self) -> Generator[Pause]:
        while True:
            yield None
            batch, waiting = self._gather()
            rows = [row for row, _ in waiting]
            if not batch and not rows:
                return
            self._in_hand = batch
            self._dropped.clear()
            try:
                outcomes = yield from self._commit([append for append, _ in batch], rows)
            except OwnershipLost as error:
                self._lose(str(error), batch)
                return
            except _Stopped:
                with self._changed:
                    self._pending.extendleft(reversed(batch))
                return
            for (_append, done), outcome in zip(batch, outcomes, strict=True):
                self._tell(done, outcome)
            self._tell_rows(waiting)
            self._forget_letters(rows)
            self._in_hand = []
            self._decided(batch)
            if self._losing is not None:
                self._lose(self._losing, ())
                return

    def _await_work(self) -> None:
        with self._changed:
            while not self._pending and not self._stopping:
                left = self._rows_due - time.monotonic() if self._rows else None
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)

    def _gather(self) -> tuple[list[tuple[Append, Done]], list[tuple[Row, RowDone | None]]]:
        with self._changed:
            batch = _taken(self._pending, self._max_batch)
            # Where somebody waits it carries no more of what nobody waits for than its share, but never less than comes
            # in: the more steps there are at once, the more rows.
            share = max(_ROWS_AT_LEAST, _ROWS_PER_STEP * len(batch)) if batch else _ROWS_PER_COMMIT
            return batch, _taken(self._rows, share)

    def _write(self, appends: Sequence[Append], rows: Sequence[Row]) -> Generator[Pause, None, list[Outcome]]:
        """Ask the store; a simulated one takes its time."""
        yield from ()
        return self._store.commit(appends, rows)

    def _commit(self, appends: Sequence[Append], rows: Sequence[Row]) -> Generator[Pause, None, list[Outcome]]:
        """Commit until it is done. Raises `_Stopped` when the daemon stops while the store is unavailable."""
        delay, longest = self._retry
        self._asked_at = self._clock()
        while True:
            began = time.perf_counter()
            try:
                outcomes = yield from self._write(appends, rows)
            except StoreUnavailable as error:
                self._unavailable(error)
                if self._stopping:
                    raise _Stopped from None
                yield delay
                delay = min(longest, delay * 2)
                continue
            except OwnershipLost:
                raise
            except Exception as error:  # noqa: BLE001  # one row that cannot be stored must not stop the others
                self._available_again()  # it answers; without this the doors stay shut when nothing else is to commit
                return (yield from self._isolate(appends, rows, error))
            self._count(outcomes, len(rows), time.perf_counter() - began)
            self._available_again()
            return outcomes

    def _isolate(
        self, appends: Sequence[Append], rows: Sequence[Row], error: Exception
    ) -> Generator[Pause, None, list[Outcome]]:
        """Commit one by one: what cannot be stored is refused, and the store refuses what would follow on it."""
        if rows:
            outcomes = yield from self._commit(appends, ())
            self._commit_rows(rows)
            return outcomes
        if len(appends) == 1:
            return [self._refuse(appends[0], error)]
        outcomes = []
        for append in appends:
            try:
                (outcome,) = yield from self._commit([append], ())
            except OwnershipLost as lost:  # those before are durable, and are told so
                self._losing = str(lost)
                outcome = AppendRefused(append.conversation_id, append.last_seq, "not_owner", str(lost))
            outcomes.append(outcome)
        return outcomes

    def _commit_rows(self, rows: Sequence[Row]) -> None:
        """Write rows apart from the appends; those that cannot be stored are dropped, and no others with them."""
        parts, failures = [rows], 0
        failure: Exception | None = None
        while parts:
            some = parts.pop()
            try:
                self._store.commit((), some)
            except (OwnershipLost, StoreUnavailable) as error:
                if isinstance(error, OwnershipLost):  # the appends before are durable, and are told so
                    self._losing = str(error)
                else:
                    failure = error
                self._dropped.update(id(row) for part in (some, *parts) for row in part)
                break
            except Exception as error:  # noqa: BLE001  # one row that cannot be stored must not take others with it
                failure, middle = error, len(some) // 2
                failures += 1
                if failures == _FAILURES:  # it is not one of them, but something about them all
                    self._dropped.update(id(row) for part in (some, *parts) for row in part)
                    break
                if middle:
                    parts += [some[middle:], some[:middle]]
                else:
                    self._dropped.update(map(id, some))
        gone = len(self._dropped)
        self._figures.rows += len(rows) - gone
        if failure is not None:  # who waits for one of them is told
            self._figures.rows_dropped += gone
            failed = {"error_type": type(failure).__name__, "error_message": str(failure)}
            self._log("rows_dropped", level="warning", rows=gone, **failed)

    def _refuse(self, append: Append, error: Exception) -> AppendRefused:
        self._figures.refused += 1
        reason = f"{type(error).__name__}: {error}"
        failed = {"error_type": type(error).__name__, "error_message": str(error)}
        self._log("append_poisoned", level="error", conversation_id=append.conversation_id, **failed)
        return AppendRefused(append.conversation_id, append.last_seq, "poisoned", reason)

    def _unavailable(self, error: StoreUnavailable) -> None:
        self._figures.retries += 1
        first, self._trouble = self._trouble is None, str(error)
        if first:
            self._log("store_unavailable", level="error", error_message=str(error))

    def _available_again(self) -> None:
        with self._changed:
            trouble, self._trouble, self._asked_at = self._trouble, None, None
        if trouble is not None:
            self._log("store_available", retries=self._figures.retries)

    def _lose(self, reason: str, batch: Sequence[tuple[Append, Done]]) -> None:
        self._refuse_everybody(reason, batch)
        if self._on_ownership_lost is not None:
            self._on_ownership_lost(reason)

    def _refuse_everybody(self, reason: str, batch: Sequence[tuple[Append, Done]]) -> None:
        self._trouble = reason
        with self._changed:
            self._lost = reason
            waiting = [*batch, *self._pending]
            self._pending.clear()
            self._rows.clear()
        for append, done in waiting:
            self._tell(done, AppendRefused(append.conversation_id, append.last_seq, "not_owner", reason))
        self._decided(waiting)

    def _decided(self, told: Sequence[tuple[Append, Done]]) -> None:
        calls: list[Callable[[], None]] = []
        with self._changed:
            for append, _done in told:
                key = append.conversation_id
                left = self._undecided.get(key, 1) - 1
                if left > 0:
                    self._undecided[key] = left
                else:
                    self._undecided.pop(key, None)
                    calls.extend(self._after.pop(key, ()))
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001  # as in `_tell`
                failed = {"error_type": type(error).__name__, "error_message": str(error)}
                self._log("commit_callback_failed", level="error", **failed)

    def _tell(self, done: Done, outcome: Outcome) -> None:
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001  # one listener's trouble must not reach the others
            failed = {"error_type": type(error).__name__, "error_message": str(error)}
            self._log("commit_callback_failed", level="error", **failed)

    def _tell_rows(self, rows: Sequence[tuple[Row, RowDone | None]]) -> None:
        for row, done in rows:
            if done is None:
                continue
            try:
                done(id(row) not in self._dropped)
            except Exception as error:  # noqa: BLE001  # one listener's trouble must not reach the others
                failed = {"error_type": type(error).__name__, "error_message": str(error)}
                self._log("commit_callback_failed", level="error", **failed)

    def _forget_letters(self, rows: Sequence[Row]) -> None:
        """Make room for others; what is in hand counts as well, as it may be for hours."""
        size = sum(_letter_size(row) for row in rows if isinstance(row, DeadLetterRow))
        if size:
            with self._changed:
                self._letter_bytes -= size

    def _count(self, outcomes: Sequence[Outcome], rows: int, seconds: float) -> None:
        figures = self._figures
        figures.batches += 1
        figures.appends += len(outcomes)
        figures.rows += rows
        figures.largest_batch = max(figures.largest_batch, len(outcomes))
        figures.seconds += seconds
        figures.refused += sum(isinstance(outcome, AppendRefused) for outcome in outcomes)


def _say_nothing(*_args: Any, **_fields: Any) -> None:
    """Stand in for a log or a callback nobody wants."""


def _letter_size(row: DeadLetterRow) -> int:
    return len(row.body) + 4 * (len(row.address) + len(row.reason) + len(row.kind))


def _taken(queue: deque[T], most: int) -> list[T]:
    """Take so many out of a queue, at most, in order."""
    if len(queue) > most:
        return [queue.popleft() for _ in range(most)]
    taken = list(queue)
    queue.clear()
    return taken
