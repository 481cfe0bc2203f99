"""One call under way: its clock, how it is stopped, and that its outcome is told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from actors.timers import TimerHandle, TimerService
from agents.errors import AgentTimeout
from messages.failure import clip

_PROGRESS_PER_SECOND: Final = 20
"""More than a person can read; what goes beyond is dropped, so that a loop cannot flood the conversation's mailbox."""


class Timed(Protocol):
    """A call, of either kind."""

    over: bool


def reporter(call: Timed, progress: Callable[[str], None]) -> Callable[[str], None]:
    """Return `progress` for the agent's hands: clipped, at most 20 a second, silent when the call is over."""
    second, count = 0, 0

    def report(text: str) -> None:
        nonlocal second, count
        now = int(time.monotonic())
        second, count = (now, 1) if now != second else (second, count + 1)
        if count <= _PROGRESS_PER_SECOND and not call.over:
            progress(clip(str(text)))

    return report


class Call:
    """Over when its outcome was told, when its timeout came, or when it was abandoned; what ends after that is late."""

    __slots__ = (
        *("_done", "_forget", "_judge", "_late", "_leave", "_lock", "_stop", "_timer", "_timers"),
        *("began", "name", "over", "timeout"),
    )

    def __init__(
        self,
        name: str,
        timeout: float,
        *,
        timers: TimerService,
        done: Callable[[Any], None],
        late: Callable[[Any], None],
        forget: Callable[[Call], None],
    ) -> None:
        self.name = name
        self.timeout = timeout
        """Seconds, from `begin`: waiting for a place is not the agent's fault."""
        self.began: float | None = None
        """Seconds of the monotonic clock."""
        self.over = False
        self._timers = timers
        self._done = done
        self._late = late
        self._forget = forget
        self._lock = threading.Lock()
        self._timer: TimerHandle | None = None
        self._stop: Callable[[], None] | None = None
        self._leave: Callable[[], None] | None = None
        self._judge: Callable[[Any], None] | None = None

    def abandon(self) -> None:
        """The outcome is not wanted any more: it is never told, and the work is stopped where that is possible."""
        if self._close():
            self._stop_work()
            self._free_place(None)
            self._let_go()

    # For those who run it

    def begin(self) -> bool:
        """Start the clock, the first time; False when the call is over: then nothing must be run for it."""
        with self._lock:
            if self.over:
                return False
            if self.began is None:
                self.began = time.monotonic()
                self._timer = self._timers.schedule(self.timeout, self._time_out)
            return True

    def end(self, outcome: Any) -> None:
        """Tell the outcome, or that it came too late."""
        if self._close():
            self._free_place(outcome)
            self._done(outcome)
            self._let_go()
        else:
            self._late(outcome)

    def when_stopped(self, stop: Callable[[], None]) -> None:
        """Call `stop` when the work is to be stopped, at once if the call is over. The last one given counts."""
        with self._lock:
            if not self.over:
                self._stop = stop
                return
        stop()

    def when_over(self, leave: Callable[[], None]) -> bool:
        """Call `leave` once this call is over; False, and it is not called, when it is over already."""
        with self._lock:
            if self.over:
                return False
            self._leave = leave
            return True

    def when_judged(self, judge: Callable[[Any], None]) -> bool:
        """Call `judge` with the outcome, None when it is abandoned, before its place goes to the next call.

        False, and it is not called, when this call is over already.
        """
        with self._lock:
            if self.over:
                return False
            self._judge = judge
            return True

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it began."""
        return 0.0 if self.began is None else round((time.monotonic() - self.began) * 1000, 3)

    def _time_out(self) -> None:
        if self._close():
            self._stop_work()
            outcome = AgentTimeout(f"no result within {self.timeout:g} s")
            self._free_place(outcome)
            self._done(outcome)
            self._let_go()

    def _close(self) -> bool:
        """Claim the right to say how it ended."""
        with self._lock:
            if self.over:
                return False
            self.over = True
        self._forget(self)
        if self._timer is not None:
            self._timer.cancel()
        return True

    def _free_place(self, outcome: Any) -> None:
        if self._judge is not None:
            self._judge(outcome)
        if self._leave is not None:
            self._leave()

    def _let_go(self) -> None:
        # They refer to this call in turn: a circle, which would wait for the collector.
        with self._lock:
            self._stop = self._leave = self._judge = None

    def _stop_work(self) -> None:
        with self._lock:
            stop = self._stop
        if stop is not None:
            stop()
