"""Whether an actor has ended: a `threading.Event` at a tenth of the memory, for most are never waited for."""

from __future__ import annotations

import threading

_LOCK = threading.Lock()
"""One for all flags: it is held for two assignments, and only where an actor ends or somebody waits for that."""


class StopFlag:
    """The part of `threading.Event` that pykka and its users need of `actor_stopped`."""

    __slots__ = ("_event", "_set")

    def __init__(self) -> None:
        self._set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        """Return whether the actor has ended."""
        return self._set

    def set(self) -> None:
        """Record the end and wake whoever waits for it."""
        with _LOCK:
            self._set = True
            event = self._event
        if event is not None:
            event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most `timeout` seconds; return whether it has come."""
        with _LOCK:
            if self._set:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(timeout)
