"""Time: what it is (`Clock`), and calling back when it has come (`Timers`: one thread, one heap)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; a virtual one makes tests exact and fast."""

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...

    def now_ms(self) -> int:
        """Return the wall clock, milliseconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def now_ms() -> int:
        """Return the wall clock, milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class TimerHandle:
    """One call to come."""

    __slots__ = ("_owner", "callback", "due")

    def __init__(self, due: float, callback: Callable[[], None], owner: Timers | None = None) -> None:
        self.due = due
        """Seconds of the monotonic clock."""
        self.callback: Callable[[], None] | None = callback
        """None once it was called or cancelled."""
        self._owner = owner

    @property
    def active(self) -> bool:
        """Whether the call is still to come."""
        return self.callback is not None

    def cancel(self) -> None:
        """Make sure the call does not come, unless it is being made already. Any number of times."""
        if self.callback is not None:
            self.callback = None
            if self._owner is not None:
                self._owner.note_cancelled()


class TimerService(Protocol):
    """What the runtime needs of timers; a virtual one fires when its clock is moved."""

    def schedule(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback()` in `delay` seconds."""
        ...

    def stop(self, timeout: float) -> bool:
        """Fire nothing more; return whether the service ended within `timeout` seconds."""
        ...


class Timers:
    """Calls back from one thread, which starts with the first timer. Callbacks must not block."""

    def __init__(self, clock: Clock | None = None, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._now = (clock or SystemClock()).monotonic
        self._on_error = on_error
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._number = 0
        self._cancelled = 0
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.failures = 0
        """Callbacks that raised."""

    def __len__(self) -> int:
        """Timers in the heap, cancelled ones that are not swept yet included."""
        return len(self._heap)

    def schedule(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback()` in `delay` seconds (at once when negative). After `stop` nothing is ever called."""
        handle = TimerHandle(self._now() + max(0.0, delay), callback, self)
        with self._changed:
            if self._stopped:
                handle.callback = None
                return handle
            self._number += 1
            heappush(self._heap, (handle.due, self._number, handle))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is handle:
                self._changed.notify()
        return handle

    def note_cancelled(self) -> None:
        """Count a cancelled timer; sweep when they are the majority, for most timeouts never come true."""
        with self._changed:
            self._cancelled += 1
            if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].active]
                heapify(self._heap)
                self._cancelled = 0

    def stop(self, timeout: float = 1.0) -> bool:
        """Fire nothing more; return whether the thread ended within `timeout` seconds."""
        with self._changed:
            self._stopped = True
            self._heap.clear()
            self._changed.notify()
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            handle = self._next()
            if handle is None:
                return
            callback, handle.callback = handle.callback, None
            if callback is None:
                continue
            try:
                callback()
            except BaseException as error:  # noqa: BLE001  # one bad callback must not end everybody's timers
                self.failures += 1
                if self._on_error is not None:
                    self._on_error(error)

    def _next(self) -> TimerHandle | None:
        with self._changed:
            while not self._stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                wait = self._heap[0][0] - self._now()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                    continue
                handle = heappop(self._heap)[2]
                if handle.active:
                    return handle
                self._cancelled = max(0, self._cancelled - 1)
            return None
