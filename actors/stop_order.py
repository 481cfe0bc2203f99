"""Which children are asked to stop, and when: one after the other, the youngest first, or all at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class StopOrder:
    """A queue whose head was asked to stop and has not ended yet."""

    def __init__(self, *, together: bool) -> None:
        self.together = together
        """Nobody waits for anybody: for pools of equals."""
        self._waiting: deque[str] = deque()
        self._head: str | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._head is not None

    def add(self, ids: Iterable[str]) -> None:
        """Let these stop after those that were added before."""
        self._waiting.extend(ids)

    def next(self) -> str | None:
        """Return who is to be asked now, if anybody."""
        if self._head is not None or not self._waiting:
            return None
        child_id = self._waiting.popleft()
        if not self.together:
            self._head = child_id
        return child_id

    def gone(self, child_id: str) -> None:
        """Note that a child has no life any more."""
        if self._head == child_id:
            self._head = None
