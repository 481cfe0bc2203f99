"""A read that whoever asks waits for only so long: figures about a store that hangs must not hang with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class PatientRead(Generic[T]):
    """Reads on one thread of its own, which stores like: some keep a connection for each that has ever asked."""

    def __init__(self, read: Callable[[], T], within: float) -> None:
        """`within` is in seconds."""
        self._read = read
        self._within = within
        self._lock = threading.Lock()
        self._under_way: Future[T] | None = None
        self._asked: SimpleQueue[Future[T] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def __call__(self) -> T | None:
        """Return what is read now; None when that takes too long, or after `stop`. Raises what the read raises.

        From any thread.
        """
        with self._lock:
            if self._stopped:
                return None
            found = self._under_way
            if found is None:
                found = self._under_way = Future()
                self._asked.put(found)
            if self._thread is None:
                # A daemon thread: one that hangs must not keep the process alive.
                thread = threading.Thread(target=self._run, name="patient-read", daemon=True)
                thread.start()  # where the machine gives none, the next call tries again
                self._thread = thread
        try:
            return found.result(self._within)
        except TimeoutError:
            return None

    def stop(self) -> None:
        """Let the thread end when it has read."""
        with self._lock:
            self._stopped = True
            self._asked.put(None)

    def _run(self) -> None:
        while (found := self._asked.get()) is not None:
            try:
                value = self._read()
            except Exception as error:  # noqa: BLE001  # raised to whoever waits
                self._forget()
                found.set_exception(error)
            else:
                self._forget()
                found.set_result(value)

    def _forget(self) -> None:
        with self._lock:
            self._under_way = None
