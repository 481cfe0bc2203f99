"""How a call is made, by the kind of its agent: a task on the event loop, a job on a thread, an errand to a process.

Stopping a call: a task is cancelled, a process is killed at once with all it started, a thread is left to itself.
"""

from __future__ import annotations

import inspect
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Any, Final

from actors.blocking_pool import BlockingPool, Job, PoolExhausted
from actors.bounds import Bounds
from actors.call import Call
from actors.call_ids import bind_ids
from actors.event_loop import EventLoop
from actors.workers import Errand, Workers
from agents.call import arguments, finish
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode

_ELSEWHERE: Final = object()
"""The call goes on on the event loop, or was over before it began: nothing is to be told here."""


class CallKinds:
    """All kinds; every method may be called from any thread."""

    def __init__(
        self, *, loop: EventLoop, pool: BlockingPool, workers: Workers, bounds: Bounds, log: Callable[..., None]
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._workers = workers
        self._bounds = bounds
        self._log = log

    def how(self, spec: AgentSpec, call: RunNode, running: Call, report: Callable[[str], None]) -> Callable[[], None]:
        """Return what begins the call."""

        def given() -> dict[str, Any]:
            bind_ids(call)  # the context is this call's own: nothing has to be unbound
            return arguments(spec, call, progress=report, deadline=time.time() + call.timeout)

        def result(value: Any) -> NodeResult:
            data, body = finish(spec, value, self._bounds.result_bytes)
            return NodeResult(call.request_id, call.node, call.attempt, data, body, running.elapsed_ms)

        async def awaited() -> NodeResult:
            return result(await spec.function(**given()))

        if spec.is_async:
            return lambda: self.on_loop(running, awaited)
        if spec.isolation == "process":
            return lambda: self._in_process(Errand(spec, call, running, report))
        return lambda: self.on_thread(running, spec.name, lambda: spec.function(**given()), result)

    def on_loop(
        self,
        running: Call,
        begin: Callable[[], Awaitable[Any]],
        drop: Callable[[], None] | None = None,
        context: Context | None = None,
    ) -> None:
        """`drop` is called instead of `begin` when the call is over before its turn comes."""

        def ended(outcome: Any) -> None:
            if not (running.over and isinstance(outcome, CancelledError)):  # that is no late result but our own doing
                running.end(outcome)

        def start() -> None:
            try:
                if running.begin():
                    task = self._loop.spawn(running.name, begin, ended, context)
                    running.when_stopped(lambda: self._loop.post(lambda: self._loop.cancel(task)))
                elif drop is not None:
                    drop()
            except RuntimeError as error:  # no thread for the timers can be started
                running.end(PoolExhausted(str(error)))

        try:
            # The clock starts now, not when the loop gets to it: one agent that blocks the loop must not keep the
            # timeouts of the others from holding.
            running.begin()
        except RuntimeError as error:  # as above
            running.end(PoolExhausted(str(error)))
        self._loop.post(start)

    def on_thread(self, running: Call, group: str, work: Callable[[], Any], result: Callable[[Any], Any]) -> None:
        """`result` makes what is told of what `work` returned; if that is a coroutine, it goes on on the event loop."""

        def run() -> Any:
            if not running.begin():
                return _ELSEWHERE
            value = work()
            if not inspect.iscoroutine(value):
                return result(value)

            async def rest() -> Any:
                return result(await value)

            self.on_loop(running, rest, drop=value.close, context=copy_context())
            return _ELSEWHERE

        def ended(outcome: Any) -> None:
            if outcome is not _ELSEWHERE:
                running.end(outcome)

        def stop() -> None:
            if self._pool.abandon(job):
                self._log("agent_abandoned", agent=group, abandoned=self._pool.stats()["abandoned"])

        job = Job(running.name, group, run, ended)
        running.when_stopped(stop)
        try:
            self._pool.submit(job)
        except PoolExhausted as error:
            running.end(error)

    def _in_process(self, errand: Errand) -> None:
        try:
            self._workers.submit(errand)
        except PoolExhausted as error:
            errand.call.end(error)
