"""The event loop that runs async agents: one thread, fed from any other with one wake-up for many calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Begin = Callable[[], None]


class EventLoop:
    """Runs coroutines; whatever they raise stays with them."""

    def __init__(self, *, blocked: Callable[[float, str], None] | None = None, blocked_after: float = 1.0) -> None:
        self._loop = asyncio.new_event_loop()
        self._blocked = blocked
        self._blocked_after = blocked_after
        self._queue: deque[Begin] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self.current = ""
        """Name of the coroutine that is being stepped."""
        self._tick = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agents-event-loop", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="agents-loop-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()
        self._watchdog.start()

    def post(self, call: Begin) -> None:
        """Call `call()` on the loop's thread soon; it must not raise."""
        with self._lock:
            self._queue.append(call)
            if self._woken:
                return
            self._woken = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain)

    def run(self, name: str, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any], None]) -> asyncio.Task[None]:
        """Run a coroutine as a task; only on the loop's thread. `done` gets its value or what it raised."""
        task = self._loop.create_task(self._guard(name, coroutine, done), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self, timeout: float) -> list[str]:
        """Cancel what runs and end; return the names of tasks that did not end in time."""
        self._stopping.set()
        if not self._thread.is_alive():
            self._close()
            return []
        left: list[str] = []
        finished = threading.Event()

        async def end() -> None:
            tasks = [task for task in self._tasks if not task.done()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=timeout)
            left.extend(task.get_name() for task in tasks if not task.done())
            finished.set()
            self._loop.stop()

        def begin() -> None:
            self._ending = self._loop.create_task(end())

        self.post(begin)
        if not finished.wait(timeout + 1.0):
            return [self.current or "the event loop"]
        self._thread.join(1.0)
        self._close()
        return sorted(left)

    def _close(self) -> None:
        if not self._loop.is_closed() and not self._loop.is_running():
            self._loop.close()

    async def _guard(self, name: str, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any], None]) -> None:
        try:
            outcome = await _Named(self, name, coroutine)
        except BaseException as error:  # noqa: BLE001  # SystemExit would end the loop, and with it every other agent
            outcome = error
        done(outcome)

    def _drain(self) -> None:
        with self._lock:
            calls, self._queue = self._queue, deque()
            self._woken = False
        for call in calls:
            call()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._beat()
        self._loop.run_forever()

    def _beat(self) -> None:
        self._tick = time.monotonic()
        if not self._stopping.is_set():
            self._loop.call_later(self._blocked_after / 4, self._beat)

    def _watch(self) -> None:
        said = False
        while not self._stopping.wait(self._blocked_after / 4):
            silent = time.monotonic() - self._tick
            if silent < self._blocked_after:
                said = False
            elif not said and self._blocked is not None:
                said = True
                self._blocked(silent, self.current)


class _Named:
    """Steps a coroutine with its name shown, so that the watchdog can say who holds the loop."""

    __slots__ = ("_coroutine", "_loop", "_name")

    def __init__(self, loop: EventLoop, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._name = name
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = self._loop
        inner = self._coroutine.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            loop.current = self._name
            try:
                yielded = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                loop.current = ""
            try:
                value, error = (yield yielded), None
            except BaseException as thrown:  # noqa: BLE001  # handed on to the coroutine, which decides
                value, error = None, thrown
