"""Hands calls from any thread to the event loop, many per wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class LoopBridge:
    """Calls arrive in the order they were handed over. What comes after the loop has ended is forgotten."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Let the loop call `function(*args)` soon. Any thread; never blocks."""
        self._calls.append((function, args))
        # Waking a loop is a system call; a group commit answers many callers at once, and they share one. The flag is
        # read after the append and cleared before the queue is read, so no call is left behind.
        if not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._awake = False
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            function(*args)
        if self._calls and not self._awake:
            self._awake = True
            self._loop.call_soon(self._run)
