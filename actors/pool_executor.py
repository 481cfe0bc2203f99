"""Lets `asyncio.to_thread` and name lookups of async agents use a bounded pool whose hung threads are replaced.

asyncio's own executor has few threads, and the interpreter waits for them when it ends: those that hang would stall
every name lookup, and keep the daemon from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from actors.blocking_pool import BlockingPool, Job, PoolExhausted

P = ParamSpec("P")
T = TypeVar("T")


class PoolExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` in name, because asyncio insists on one; it never starts a thread of its own."""

    def __init__(self, pool: BlockingPool) -> None:
        super().__init__(max_workers=1)
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in the pool. What the pool refuses is an error of the future."""

        def done(outcome: Any) -> None:
            with contextlib.suppress(InvalidStateError):  # given up before it ended
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

        job = Job(_name(fn), _agent(), lambda: fn(*args, **kwargs), done)
        future = _PoolFuture(self._pool, job)
        try:
            self._pool.submit(job)
        except PoolExhausted as error:
            future.set_exception(error)
        return future


def _agent() -> str:
    """Return whose work this is, to whom it is counted if it is left behind: tasks are named after their agent."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # not on the loop's thread
        task = None
    return "to_thread" if task is None else task.get_name().partition("@")[0]


def _name(function: Any) -> str:
    if isinstance(function, partial) and function.args:  # asyncio.to_thread: partial(context.run, function, ...)
        function = function.args[0]
    return str(getattr(function, "__qualname__", type(function).__name__))


class _PoolFuture(Future[Any]):
    """A future whose cancellation gives up the thread that runs it."""

    def __init__(self, pool: BlockingPool, job: Job) -> None:
        super().__init__()
        self._pool = pool
        self._job = job

    def cancel(self) -> bool:
        """Give the job up: its thread, if it has one, is replaced."""
        self._pool.abandon(self._job)
        return super().cancel()
