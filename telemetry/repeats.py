"""Bounds how many lines of one kind are written: a crash loop of a thousand agents must not hide all else.

Told from one thread only, the log writer's. What is left out is counted and said when its window is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

LINES: Final = 100
"""Lines of one event within a window."""
WINDOW: Final = 10.0
"""Seconds."""


class Repeats:
    """Times are seconds of the wall clock, as entries carry them."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.left_out = 0
        """Lines not written, since the start."""

    def allows(self, event: str, at: float) -> bool:
        """Count one more line; return whether it may be written."""
        began = self._began.setdefault(event, at)
        if not 0 <= at - began < WINDOW and self._counts.get(event, 0) <= LINES:  # nothing is left to be said of it
            self._began[event], self._counts[event] = at, 0
        count = self._counts[event] = self._counts.get(event, 0) + 1
        if count > LINES:
            self.left_out += 1
            return False
        return True

    def over(self, now: float | None) -> Iterator[tuple[str, int]]:
        """Return what was left out in windows that are over, and begin those anew; None: all of them are."""
        for event, count in list(self._counts.items()):
            if count > LINES and (now is None or not 0 <= now - self._began[event] < WINDOW):
                del self._counts[event], self._began[event]
                yield event, count - LINES
