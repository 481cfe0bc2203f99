"""The answer to an `ask`: pykka's future, light, and awaitable without blocking an event loop.

pykka's own future blocks the loop that awaits it. Here the actor's thread hands the answer over with
`call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar, cast

import pykka

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class _Dispatched(threading.local):
    """Set on dispatcher threads: what to do around a wait, so that a waiting actor does not hold up the others."""

    waiting: Callable[[], AbstractContextManager[Any]] = nullcontext


DISPATCHED = _Dispatched()


class ActorFuture(pykka.Future[T]):
    """A value that an actor will give. Set once; a second `set` raises `queue.Full`, as in pykka."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._done = False
        self._value: Any = None
        self._exc_info: ExcInfo | None = None
        self._callbacks: list[Callable[[], None]] | None = None
        self._sources: tuple[pykka.Future[Any], ...] = ()

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value, or raise the exception given instead. Raises `pykka.Timeout` after `timeout` seconds."""
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done and not self._wait(timeout):
            raise pykka.Timeout(f"{timeout} seconds")
        if self._exc_info is not None:
            _raise(self._exc_info)
        return cast("T", self._value)

    def set(self, value: T | None = None) -> None:
        """Give the value."""
        self._finish(value, None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Give an exception instead: this one, or the one being handled."""
        assert exc_info is None or len(exc_info) == 3
        self._finish(None, exc_info or sys.exc_info())

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Compute the value by calling `func(timeout)` at the first `get`."""
        with self._lock:
            if self._done:
                raise queue.Full
            super().set_get_hook(func)
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once the value is there: in the thread that gives it, or at once in this one."""
        with self._lock:
            if not self._done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def _finish(self, value: Any, exc_info: ExcInfo | None) -> None:
        with self._lock:
            if self._done or self._get_hook is not None:
                raise queue.Full
            self._value = value
            self._exc_info = exc_info
            self._done = True
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def _wait(self, timeout: float | None) -> bool:
        if timeout is not None and timeout <= 0:
            return self._done
        gate = threading.Lock()
        gate.acquire()
        self.when_done(gate.release)
        with DISPATCHED.waiting():
            arrived = gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        if arrived and self._get_hook is not None:
            raise queue.Full
        return arrived

    # Composition: as in pykka, and it remembers what it waits for, so that it can be awaited as well.

    def filter(self: ActorFuture[Iterable[J]], func: Callable[[J], bool]) -> pykka.Future[Iterable[J]]:
        """See `pykka.Future.filter`."""
        return _from(super().filter(func), self)

    def join(self: ActorFuture[Any], *futures: pykka.Future[Any]) -> pykka.Future[Iterable[Any]]:
        """See `pykka.Future.join`."""
        return _from(super().join(*futures), self, *futures)

    def map(self, func: Callable[[T], M]) -> pykka.Future[M]:
        """See `pykka.Future.map`."""
        return _from(super().map(func), self)

    def reduce(self: ActorFuture[Iterable[J]], func: Callable[[R, J], R], *args: R) -> pykka.Future[R]:
        """See `pykka.Future.reduce`."""
        return _from(super().reduce(func, *args), self)

    def follow(self, source: pykka.Future[Any], func: Callable[[float | None], T]) -> None:
        """Compute the value from `source`: `func(timeout)` does not block once that one is done."""
        self.set_get_hook(func)
        self._sources = (source,)

    # Awaiting

    def __await__(self) -> Generator[Any, None, T]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return (yield from super().__await__())
        if self._get_hook is None:
            yield from _arrival(self, loop).__await__()
        elif self._sources:
            for source in self._sources:
                if isinstance(source, ActorFuture):
                    yield from _settled(source).__await__()
                else:
                    yield from loop.run_in_executor(None, _settle, source).__await__()
        else:
            # A hook of somebody else's may block for as long as it likes.
            yield from loop.run_in_executor(None, _settle, self).__await__()
        return self.get(timeout=0 if self._get_hook is None else None)

    __iter__ = __await__


def _from(derived: pykka.Future[M], *sources: pykka.Future[Any]) -> pykka.Future[M]:
    assert isinstance(derived, ActorFuture)
    derived._sources = sources  # noqa: SLF001  # same class
    return cast("pykka.Future[M]", derived)


def _arrival(future: ActorFuture[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    arrival: asyncio.Future[None] = loop.create_future()

    def mark() -> None:
        if not arrival.done():
            arrival.set_result(None)

    def tell_loop() -> None:
        try:
            loop.call_soon_threadsafe(mark)
        except RuntimeError:  # the loop was closed: nobody waits any more
            return

    future.when_done(tell_loop)
    return arrival


async def _settled(future: ActorFuture[Any]) -> None:
    """Wait until `get` would not block; whatever it raises is for the one who gets the derived value."""
    try:
        await future
    except Exception:  # noqa: BLE001  # the derived future's own get raises it again
        return


def _settle(future: pykka.Future[Any]) -> None:
    try:
        future.get()
    except Exception:  # noqa: BLE001  # the derived future's own get raises it again
        return


def _raise(exc_info: ExcInfo) -> None:
    exc_type, exc_value, traceback = exc_info
    if exc_value is None:
        assert exc_type is not None
        exc_value = exc_type()
    # The first traceback, not the one that grew when the exception was raised for an earlier caller.
    raise exc_value.with_traceback(traceback)
