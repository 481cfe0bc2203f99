"""Threads for reads that block, so that the event loop never does.

Daemon threads, unlike those of `concurrent.futures`: one that hangs in a frozen store must not keep the process alive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from gateway.loop_bridge import LoopBridge
from gateway.problems import Problem
from persistence.contract import StoreUnavailable
from persistence.entry import CorruptEntry

T = TypeVar("T")

READ_TIMEOUT = 10.0
"""Seconds a client waits for the store before it is told to come back later."""
QUEUE_LIMIT = 4_000
"""Reads kept waiting for a thread, those given up among them: behind a store that hangs they would grow without end.
Twice as many as there are streams, which all come back at once after a restart."""

_Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class ReadThreads:
    """A few threads that begin with the first read; used on the event loop."""

    def __init__(self, bridge: LoopBridge, *, threads: int = 4) -> None:
        self._bridge = bridge
        self._limit = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.refused = 0
        """Reads for which there was no place."""

    @property
    def waiting(self) -> int:
        """Reads that wait for a thread, those given up among them."""
        return self._jobs.qsize()

    async def read(
        self, function: Callable[..., T], *args: Any, within: float | None = None, writes: bool = False, **options: Any
    ) -> T:
        """Return `function(*args, **options)`. Raises `Problem` when the store is gone or too slow.

        What `writes` may be done all the same, then or later: the problem says so.
        """
        if self.waiting >= QUEUE_LIMIT:
            self.refused += 1
            raise Problem("store_unavailable", f"{self.waiting} reads wait for the store, which is all that may")
        seconds = READ_TIMEOUT if within is None else within
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((lambda: function(*args, **options), future))
        if len(self._threads) < self._limit:
            thread = threading.Thread(target=self._run, name=f"http-read-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            detail = f"no answer from the store within {seconds:g} seconds"
            raise Problem("store_unavailable", detail, outcome="unknown" if writes else None) from None
        except StoreUnavailable as error:
            detail = f"the store does not answer: {error}"
            raise Problem("store_unavailable", detail, outcome="unknown" if writes else None) from None
        except CorruptEntry as error:
            raise Problem("unreadable", str(error), seq=error.seq, reason=error.reason) from None

    def stop(self) -> None:
        """Let the threads end when they are done."""
        for _ in self._threads:
            self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            function, future = job
            if future.cancelled():  # nobody waits any more: do not add to the load of a slow store
                continue
            try:
                self._bridge.call(_settle, future, function(), None)
            except Exception as error:  # noqa: BLE001  # handed to the request that waits
                self._bridge.call(_settle, future, None, error)


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
