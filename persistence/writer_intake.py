"""What waits to be written: steps, the rows that ride along, and those who wait until a conversation's are decided.

Any thread may submit; the writer's thread (`writer.py`) gathers from it what the next commit holds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final, TypeVar

from persistence.contract import Append, AppendRefused, DeadLetterRow, MetricRow, OperationRow, Row
from persistence.writer_figures import Figures
from persistence.writer_told import Done, Log, RowDone, tell, tell_decided

T = TypeVar("T")

_ROWS_WAIT: Final = 1.0
"""Seconds that log and metric rows may wait; then they ride along with the next commit, or get one of their own."""
_MAX_ROWS: Final = 10_000
_MAX_LETTER_BYTES: Final = 32 << 20
"""Of all dead letters that wait for the store together: each holds a message, where a log row holds a line."""
_ROWS_PER_COMMIT: Final = 1_000
"""Of a commit without steps."""
_ROWS_PILED_UP: Final = 2_000
"""At so many none waits for its time any more; well below the number from which they are dropped."""
_ROWS_AT_LEAST: Final = 128
_ROWS_PER_STEP: Final = 8
"""More than a step brings about, so that none are left behind for long."""


class Intake:
    """Takes what is to be written, and hands it to the writer's thread."""

    def __init__(self, *, log: Log | None, max_batch: int) -> None:
        self._log = log or _say_nothing
        self._max_batch = max_batch
        self._changed = threading.Condition()
        self._pending: deque[tuple[Append, Done]] = deque()
        self._rows: deque[tuple[Row, RowDone | None]] = deque()
        self._rows_due = 0.0
        self._letter_bytes = 0
        self._undecided: dict[str, int] = {}
        self._after: dict[str, list[Callable[[], None]]] = {}
        self._figures = Figures()
        self._stopping = False
        self._lost: str | None = None

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
        tell(done, AppendRefused(append.conversation_id, append.last_seq, "not_owner", reason), self._log)

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

    # The writer's thread

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
            if not batch:
                return batch, _taken(self._rows, _ROWS_PER_COMMIT)
            # Where somebody waits for a commit it carries nothing that nobody waits for, as long as that has time: most
            # of a commit of log rows is the rows, and a crowd of requests has long pauses between its commits.
            if time.monotonic() < self._rows_due and len(self._rows) < _ROWS_PILED_UP:
                return batch, []
            # Then no more than its share, but never less than comes in: the more steps at once, the more rows.
            return batch, _taken(self._rows, max(_ROWS_AT_LEAST, _ROWS_PER_STEP * len(batch)))

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
        if calls:
            tell_decided(calls, self._log)

    def _forget_letters(self, rows: Sequence[Row]) -> None:
        """Make room for others; what is in hand counts as well, as it may be for hours."""
        size = sum(_letter_size(row) for row in rows if isinstance(row, DeadLetterRow))
        if size:
            with self._changed:
                self._letter_bytes -= size


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
