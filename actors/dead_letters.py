"""Messages nobody could take: the newest few, and how many there were."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_REASONS = 100
"""Reasons counted apart; more would let a text that varies grow the table without end."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message, where it was going, and why it did not get there."""

    number: int
    """From 1, in order."""
    at_ms: int
    """Wall clock, milliseconds since the epoch."""
    address: str
    reason: str
    message: Any


Listener = Callable[[DeadLetter], None]


class DeadLetters:
    """A bounded ring of the newest dead letters, with counters that forget nothing.

    The ring is short, because each letter holds its message, which may have megabytes: what is to stay listeners keep.
    """

    def __init__(self, limit: int = 50, now_ms: Callable[[], int] = lambda: 0) -> None:
        self._lock = threading.Lock()
        self._ring: deque[DeadLetter] = deque(maxlen=limit)
        self._now_ms = now_ms
        self._listeners: tuple[Listener, ...] = ()
        self.total = 0
        """All there ever were, those no longer kept included."""
        self.by_reason: Counter[str] = Counter()
        """The same by reason; beyond `MAX_REASONS` reasons the rest is counted as `other`."""
        self.listener_failures = 0

    def add(self, address: str, reason: str, message: Any) -> None:
        """Keep a message and tell the listeners. Never raises; a listener that does is counted."""
        with self._lock:
            self.total += 1
            letter = DeadLetter(self.total, self._now_ms(), address, reason, message)
            self._ring.append(letter)
            known = reason in self.by_reason or len(self.by_reason) < MAX_REASONS
            self.by_reason[reason if known else "other"] += 1
            listeners = self._listeners
        for listener in listeners:
            try:
                listener(letter)
            except Exception:  # noqa: BLE001  # a listener's trouble must not reach the actor that was ending
                self.listener_failures += 1

    def listen(self, listener: Listener) -> None:
        """Call `listener(letter)` for every later one, in the thread where it died; it must not block."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def newest(self) -> list[DeadLetter]:
        """Return those kept, the oldest first."""
        with self._lock:
            return list(self._ring)

    def __len__(self) -> int:
        return len(self._ring)
