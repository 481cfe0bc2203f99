"""Group commit: one thread per store commits together whatever all conversations want written.

No timer gathers a batch: while one commit runs, the next gathers, so a single caller waits for nothing and a crowd
shares each synchronisation. The order of one conversation is the order of its submissions.

What the thread does is a generator that says where it would wait: so a simulation runs the same lines in virtual time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final

from persistence.contract import Append, AppendRefused, Outcome, OwnershipLost, Row, Store, StoreUnavailable
from persistence.writer_intake import Intake
from persistence.writer_rows_apart import write_apart
from persistence.writer_told import Done, Log, tell, tell_rows

Pause = float | None
"""Seconds to wait unless the writer is stopped; None: until there is something to write, or it is stopped."""

PATIENCE: Final = 4.0
"""Seconds the store may take to confirm a commit before it counts as gone: a frozen one says nothing for far longer."""
_LAST_WORDS: Final = 2.0


class _Stopped(Exception):
    """The daemon stops while the store is unavailable: what was to be committed stays undone."""


class Writer(Intake):
    """Commits for all conversations; every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        log: Log | None = None,
        on_ownership_lost: Callable[[str], None] | None = None,
        max_batch: int = 512,
        max_pending: int = 100_000,
        retry: tuple[float, float] = (0.05, 2.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(log=log, max_batch=max_batch)
        self._store = store
        self._on_ownership_lost = on_ownership_lost
        self._max_pending = max_pending
        self._retry = retry
        self._clock = clock
        self._asked_at: float | None = None
        """When the commit in hand was first asked for."""
        self._in_hand: list[tuple[Append, Done]] = []
        self._dropped: set[int] = set()
        """Of the rows in hand those that could not be stored, by `id`."""
        self._apart: Sequence[Row] = ()
        """Rows in hand that are yet to be written, without the steps they were to ride along with."""
        self._losing: str | None = None
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._trouble: str | None = None
        self._silence: str | None = None
        """What was said of a store that says nothing: the first thing it does say is told as well."""

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
        return self._trouble or f"{self._store.kind} has confirmed nothing for {PATIENCE:g} s"

    @property
    def silent(self) -> str | None:
        """What was said of the store when it said nothing; None as soon as it says anything, be it an error."""
        return self._silence if self._trouble == self._silence else None

    def look(self) -> None:
        """Close the doors when the store says nothing: to be called now and then, from another thread than its own."""
        with self._changed:
            silent = None if self._trouble is not None else self.stalled
            if silent is not None:
                self._trouble = self._silence = silent
        if silent is not None:
            self._log("store_unavailable", level="error", error_message=silent)

    def start(self) -> None:
        """Begin to commit."""
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

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
        return {
            "available": self.available,
            "last_error": self.last_error,
            "pending": len(self._pending),
            **self._figures.report(),
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
                tell(done, outcome, self._log)
            self._in_hand = []
            self._decided(batch)
            if self._apart:  # nobody's step waits for them
                self._write_apart()
            tell_rows(waiting, self._dropped, self._log)
            self._forget_letters(rows)
            if self._losing is not None:
                self._lose(self._losing, ())
                return

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
            self._figures.count(outcomes, len(rows), time.perf_counter() - began)
            self._available_again()
            return outcomes

    def _isolate(
        self, appends: Sequence[Append], rows: Sequence[Row], error: Exception
    ) -> Generator[Pause, None, list[Outcome]]:
        """Commit one by one: what cannot be stored is refused, and the store refuses what would follow on it."""
        if rows:
            self._apart = rows
            return (yield from self._commit(appends, ())) if appends else []
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

    def _write_apart(self) -> None:
        rows, self._apart = self._apart, ()
        self._dropped, failure, lost = write_apart(self._store_rows, rows)
        self._available_again()
        gone = len(self._dropped)
        self._figures.rows += len(rows) - gone
        if lost is not None:  # the appends before are durable, and are told so
            self._losing = lost
        if failure is not None:  # who waits for one of them is told
            self._figures.rows_dropped += gone
            failed = {"error_type": type(failure).__name__, "error_message": str(failure)}
            self._log("rows_dropped", level="warning", rows=gone, **failed)

    def _store_rows(self, rows: Sequence[Row]) -> None:
        self._asked_at = self._clock()  # it may fall silent here as anywhere
        self._store.commit((), rows)

    def _refuse(self, append: Append, error: Exception) -> AppendRefused:
        self._figures.refused += 1
        reason = f"{type(error).__name__}: {error}"
        failed = {"error_type": type(error).__name__, "error_message": str(error)}
        self._log("append_poisoned", level="error", conversation_id=append.conversation_id, **failed)
        return AppendRefused(append.conversation_id, append.last_seq, "poisoned", reason)

    def _unavailable(self, error: StoreUnavailable) -> None:
        self._figures.retries += 1
        first, self._trouble = self._trouble in {None, self._silence}, str(error)
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
            tell(done, AppendRefused(append.conversation_id, append.last_seq, "not_owner", reason), self._log)
        self._decided(waiting)
