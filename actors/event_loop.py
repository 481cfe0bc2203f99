"""The event loop that runs async agents: one thread, fed from any other with one wake-up for many calls.

Nothing an agent does ends it: what escapes a task, even `SystemExit` out of a task that an agent began itself, is
reported and the loop goes on. An agent that blocks it is named by a watchdog; it cannot be stopped.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import FrameType
from typing import Any, Final

from actors.blocking_pool import BlockingPool
from actors.pool_executor import PoolExecutor

_BATCH: Final = 256
"""Calls begun in one turn of the loop: some milliseconds, so that running tasks are not kept waiting."""
_CLEAN_UP: Final = 1.0
"""Seconds a cancelled task has for its clean-up, before it counts as left behind."""
_FRAMES: Final = 6
"""Innermost frames shown of whoever blocks the loop."""

Blocked = Callable[[float, str, str], None]
"""Told seconds, the name of the task (empty: none), and where it is."""


class EventLoop:
    """Runs coroutines; whatever they raise stays with them."""

    def __init__(
        self,
        *,
        blocked: Blocked,
        escaped: Callable[[str, BaseException], None],
        blocked_after: float = 1.0,
        to_thread: BlockingPool,
    ) -> None:
        self._blocked = blocked
        self._escaped = escaped
        self._blocked_after = blocked_after
        self._to_thread = to_thread
        self._loop: asyncio.AbstractEventLoop | None = None
        self._posted: deque[Callable[[], Any]] = deque()
        self._woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.stubborn: set[asyncio.Task[None]] = set()
        """Those that were cancelled a while ago and still run; for reading from any thread."""
        self._ended = False
        self._stopping = threading.Event()
        self._beaten = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agents-event-loop", daemon=True)
        self._watchdog = threading.Thread(target=self._watch, name="agents-loop-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to run; calls posted before are run then."""
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(_named_like_its_maker)
        self._loop.set_exception_handler(self._unhandled)
        self._loop.set_default_executor(PoolExecutor(self._to_thread))
        self._thread.start()
        self._watchdog.start()

    def post(self, call: Callable[[], Any]) -> None:
        """Call `call()` on the loop's thread soon; it must not raise. From any thread; after the end it is dropped."""
        # No lock: the flag is set after appending and cleared before draining, so a call is never left lying; at worst
        # two threads wake the loop for one.
        self._posted.append(call)
        if not self._woken and self._loop is not None:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed
                self._posted.clear()

    def soon(self, call: Callable[[], Any]) -> None:
        """Call `call()` after the first step of every task begun before; only on the loop's thread."""
        assert self._loop is not None
        self._loop.call_soon(call)

    def spawn(
        self,
        name: str,
        begin: Callable[[], Awaitable[Any]],
        done: Callable[[Any], None],
        context: Context | None = None,
    ) -> asyncio.Task[None]:
        """Run `begin()` as a task, in an empty context if none is given; only on the loop's thread.

        `done` is told its value or what it raised, on the loop's thread; it must not raise.
        """
        own: list[asyncio.Task[None]] = []
        task = asyncio.Task(self._guard(begin, done, own), loop=self._loop, name=name, context=context or Context())
        own.append(task)  # before its first step: to ask asyncio which task runs takes a microsecond
        self._tasks.add(task)
        return task

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancel a task, and look whether it obeys; only on the loop's thread."""
        assert self._loop is not None
        task.cancel()
        self._loop.call_later(_CLEAN_UP, self._look_after, task)

    def _look_after(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            self.stubborn.add(task)

    def lingering(self) -> list[str]:
        """Return the names of tasks that were cancelled and have not ended yet."""
        return sorted(task.get_name() for task in self._tasks.copy() if task.cancelling() and not task.done())

    def stop(self, timeout: float) -> list[str]:
        """Cancel what runs and end; return the names of tasks that did not end in time."""
        self._stopping.set()
        self._beaten.set()
        loop = self._loop
        if loop is None:
            return []
        left: list[str] = []
        deadline = time.monotonic() + timeout
        self.post(lambda: loop.create_task(self._end(left, timeout)))
        self._watchdog.join(timeout)
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.5)
        if self._thread.is_alive():
            task = asyncio.current_task(loop)
            left = ["the event loop" if task is None else task.get_name()]
        return sorted(left)

    # On the loop's thread

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        loop.call_soon(self._drain)
        try:
            while not self._ended:  # an agent may call loop.stop()
                try:
                    loop.run_forever()
                except BaseException as error:  # noqa: BLE001  # asyncio lets SystemExit of any task end the loop
                    self._escaped("a task", error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _drain(self) -> None:
        self._woken = False
        for _ in range(min(_BATCH, len(self._posted))):
            self._posted.popleft()()
        if self._posted and self._loop is not None:
            self._woken = True
            self._loop.call_soon(self._drain)

    async def _guard(
        self, begin: Callable[[], Awaitable[Any]], done: Callable[[Any], None], own: list[asyncio.Task[None]]
    ) -> None:
        try:
            outcome = await begin()
        except BaseException as error:  # noqa: BLE001  # an agent may raise anything; all of it is its outcome
            outcome = error
        task = own.pop()  # it is not kept alive by what it runs
        self._tasks.discard(task)
        self.stubborn.discard(task)
        done(outcome)
        del outcome  # an error knows this very frame: a circle, which would wait for the collector

    async def _end(self, left: list[str], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            if not task.cancelling():  # once: a second time would interrupt its clean-up
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        left.extend(task.get_name() for task in tasks if not task.done())
        try:
            await asyncio.wait_for(loop.shutdown_asyncgens(), 1.0)
        except Exception as error:  # noqa: BLE001  # an agent's clean-up failed; the loop ends all the same
            self._escaped("an async generator", error)
        self._ended = True
        loop.stop()

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        name = task.get_name() if isinstance(task, asyncio.Task) else "a callback"
        error = context.get("exception")
        self._escaped(name, error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))

    # On the watchdog's thread

    def _watch(self) -> None:
        asked = time.monotonic()
        while not self._stopping.wait(self._blocked_after):
            slept = time.monotonic() - asked - self._blocked_after
            if slept > self._blocked_after:
                # Not even this thread came to run: somebody held the interpreter's lock, or the process was stopped.
                self._blocked(slept, "", "the whole interpreter stood still")
            self._beaten.clear()
            if self._stopping.is_set():  # what `stop` said may just have been cleared: nobody would say it again
                return
            asked = time.monotonic()
            self.post(self._beaten.set)
            if not self._beaten.wait(self._blocked_after):
                self._tell_blocked(time.monotonic() - asked)
                self._beaten.wait()  # once per block
            asked = time.monotonic()

    def _tell_blocked(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001  # documented, for exactly this
        self._blocked(seconds, "" if task is None else task.get_name(), _place(frame))


def _named_like_its_maker(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Task[Any]:
    """Name a task that an agent begins like the agent's own, so that the watchdog can say whose it is."""
    maker = asyncio.current_task(loop)
    if maker is not None and options.get("name") is None:
        options["name"] = maker.get_name()
    return asyncio.Task(coroutine, loop=loop, **options)


def _place(frame: FrameType | None) -> str:
    places: list[str] = []
    while frame is not None and len(places) < _FRAMES:
        code = frame.f_code
        places.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
        frame = frame.f_back
    return " < ".join(places)
