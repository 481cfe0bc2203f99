"""Time that moves only when the simulation says so: a clock, what is due when, and timers over both."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from actors.timers import TimerHandle

START_MS = 1_790_000_000_000
"""Wall clock at the beginning of every run."""


class VirtualClock:
    """Seconds that never go back, and a wall clock that may be set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wall_offset_ms = START_MS

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return self.wall_offset_ms + int(self.now * 1000)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self.wall_offset_ms += int(seconds * 1000)


class Agenda:
    """What is due when; equal times keep the order in which they were entered."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Any, str, TimerHandle]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delay: float, life: Any, what: str, call: Callable[[], None]) -> TimerHandle:
        """Do `call` in `delay` virtual seconds, unless it is cancelled or `life` (a daemon, or None) is dead then."""
        handle = TimerHandle(self.clock.now + max(0.0, delay), call)
        self._number += 1
        heappush(self._heap, (handle.due, self._number, life, what, handle))
        return handle

    def pop(self) -> tuple[str, TimerHandle] | None:
        """Move the clock to what is due next and return it; None when nothing is."""
        self.next_due()
        if not self._heap:
            return None
        due, _, _, what, handle = heappop(self._heap)
        self.clock.now = max(self.clock.now, due)
        return what, handle

    def next_due(self) -> float | None:
        """Return when the next thing is due."""
        heap = self._heap
        while heap and (not heap[0][4].active or (heap[0][2] is not None and heap[0][2].dead)):
            heappop(heap)
        return heap[0][0] if heap else None

    def open(self, life: Any) -> list[str]:
        """Return the names of what is still to come in a daemon's life."""
        return sorted(what for _, _, whose, what, handle in self._heap if whose is life and handle.active)


class VirtualTimers:
    """The timer service of one daemon."""

    def __init__(self, agenda: Agenda, life: Any, name: str = "timer") -> None:
        self._agenda = agenda
        self._life = life
        self._name = name

    def schedule(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        return self._agenda.add(delay, self._life, self._name, callback)

    def stop(self, timeout: float) -> bool:
        return True
