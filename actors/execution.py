"""Where agents' code runs: async functions on one event loop, blocking ones on a pool, isolated ones in processes.

Nothing here runs on a dispatcher thread for longer than it takes to queue a call. A call's outcome is told exactly
once: its result, what it raised, or its timeout. What ends after it was given up is told to `on_late`.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import structlog
from pydantic_core import from_json

from actors.blocking_pool import BlockingPool, Job, PoolExhausted
from actors.event_loop import EventLoop
from actors.timers import Timers
from actors.worker_process import Worker, WorkerDied, Workers
from agents.call import arguments, finish
from agents.errors import AgentTimeout
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode

Done = Callable[[Any], None]

_ELSEWHERE: Final = object()
"""The call goes on on the event loop."""
_GIVEN_UP: Final = object()
"""The call was given up before it began."""
_WORKER_START: Final = 30.0
"""Seconds a new worker process may take to import its agent."""


class Call:
    """One call under way."""

    __slots__ = ("_leave", "_lock", "_outcome_told", "began", "done", "late", "name", "stop_work", "timeout", "timer")

    def __init__(self, name: str, timeout: float, done: Done, late: Callable[[Any], None]) -> None:
        self.name = name
        self.timeout = timeout
        self.done = done
        self.late = late
        self.began: float | None = None
        self.stop_work: Callable[[], None] | None = None
        self.timer: Any = None
        self._lock = threading.Lock()
        self._outcome_told = False
        self._leave: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        """Whether its outcome was told, or is not wanted any more."""
        return self._outcome_told

    def close(self) -> bool:
        """Claim the right to tell the outcome; False when it was claimed before."""
        with self._lock:
            if self._outcome_told:
                return False
            self._outcome_told = True
        if self.timer is not None:
            self.timer.cancel()
        if self._leave is not None:
            self._leave()
        return True

    def when_over(self, leave: Callable[[], None]) -> bool:
        """Call `leave` once this call is over; False, and it is not called, when it is over already."""
        with self._lock:
            if self._outcome_told:
                return False
            self._leave = leave
            return True

    def end(self, outcome: Any) -> None:
        """Tell the outcome, or that it came too late."""
        if self.close():
            self.done(outcome)
        else:
            self.late(outcome)

    def abandon(self) -> None:
        """The outcome is not wanted any more: `done` is not called, and the work is stopped where that is possible."""
        if self.close() and self.stop_work is not None:
            self.stop_work()


class Execution:
    """All of it; every method may be called from any thread."""

    def __init__(
        self,
        *,
        threads: int = 32,
        max_result_bytes: int = 4 << 20,
        log: Callable[..., None] | None = None,
        on_late: Callable[[RunNode, str], None] | None = None,
        loop_blocked_after: float = 1.0,
    ) -> None:
        self._max_bytes = max_result_bytes
        self._log = log
        self._on_late = on_late
        self._pool = BlockingPool(threads)
        self._loop = EventLoop(blocked=self._loop_blocked, blocked_after=loop_blocked_after)
        self._workers = Workers(max_result_bytes)
        self._timers = Timers()
        self._gates: dict[str, _Gate] = {}
        self._lock = threading.Lock()

    # Life

    def start(self) -> None:
        """Begin to take calls."""
        self._loop.start()

    def stop(self, timeout: float) -> list[str]:
        """End everything; return the names of what still ran after about `timeout` seconds."""
        self._workers.stop()
        left = self._loop.stop(timeout)
        left += self._pool.stop(timeout)
        self._timers.stop(timeout)
        return left

    def stats(self) -> dict[str, Any]:
        """Return figures of this moment."""
        with self._lock:
            agents = {name: gate.stats() for name, gate in self._gates.items()}
        return {**self._pool.stats(), "processes": len(self._workers), "agents": agents}

    # Calls

    def run(
        self, spec: AgentSpec, call: RunNode, *, done: Callable[[Any], None], progress: Callable[[str], None]
    ) -> Call:
        """Make one call; `done` gets a `NodeResult` or the exception, once, from any thread."""

        def late(outcome: Any) -> None:
            if self._on_late is not None:
                kind = type(outcome).__name__
                self._on_late(call, f"{kind} came after attempt {call.attempt} was given up")

        running = Call(f"{call.agent}@{call.conversation_id}/{call.node}", call.timeout, done, late)
        if spec.max_concurrency is None:
            self._begin(spec, call, running, progress)
        else:
            self._gate(spec).enter(call.conversation_id, running, lambda: self._begin(spec, call, running, progress))
        return running

    def run_function(self, function: Callable[[], Any], *, timeout: float, done: Done) -> Call:
        """Run any function without arguments; a coroutine it returns is run on the loop."""
        running = Call(getattr(function, "__qualname__", "function"), timeout, done, lambda _outcome: None)

        def work() -> Any:
            value = function()
            if not inspect.iscoroutine(value):
                return value
            self._post(running, running.name, lambda: value, drop=value.close)
            return _ELSEWHERE

        self._submit(running, work)
        return running

    # Kinds

    def _begin(self, spec: AgentSpec, call: RunNode, running: Call, progress: Callable[[str], None]) -> None:
        if spec.is_async:
            self._post(running, spec.name, lambda: self._async_call(spec, call, running, progress))
        elif spec.isolation == "process":
            self._submit(running, lambda: self._process_call(spec, call, running, progress), starts_itself=True)
        else:
            self._submit(running, lambda: self._blocking_call(spec, call, running, progress))

    def _blocking_call(self, spec: AgentSpec, call: RunNode, running: Call, progress: Callable[[str], None]) -> Any:
        with _bound(call):
            bound = arguments(spec, call, progress=_while_wanted(running, progress), deadline=_deadline(call))
            return self._result(spec, call, running, spec.function(**bound))

    async def _async_call(
        self, spec: AgentSpec, call: RunNode, running: Call, progress: Callable[[str], None]
    ) -> NodeResult:
        with _bound(call):
            bound = arguments(spec, call, progress=_while_wanted(running, progress), deadline=_deadline(call))
            return self._result(spec, call, running, await spec.function(**bound))

    def _process_call(self, spec: AgentSpec, call: RunNode, running: Call, progress: Callable[[str], None]) -> Any:
        if running.over:
            return _GIVEN_UP
        worker: Worker = self._workers.take(spec)
        running.stop_work = worker.kill
        if running.over:
            worker.kill()
        slow_start = self._timers.schedule(_WORKER_START, worker.kill)

        def started() -> None:
            slow_start.cancel()
            self._started(running)

        healthy = True
        try:
            body = worker.call(call, started, _while_wanted(running, progress))
        except WorkerDied:
            healthy = False
            raise
        finally:
            slow_start.cancel()
            self._workers.give_back(worker, healthy=healthy)
        return self._node_result(call, running, from_json(body), body)

    def _result(self, spec: AgentSpec, call: RunNode, running: Call, value: Any) -> NodeResult:
        data, body = finish(spec, value, self._max_bytes)
        return self._node_result(call, running, data, body)

    @staticmethod
    def _node_result(call: RunNode, running: Call, data: Any, body: bytes) -> NodeResult:
        began = time.monotonic() if running.began is None else running.began
        duration = round((time.monotonic() - began) * 1000, 3)
        return NodeResult(call.request_id, call.node, call.attempt, data, body, duration)

    # Running

    def _submit(self, running: Call, work: Callable[[], Any], *, starts_itself: bool = False) -> None:
        def started() -> None:
            if not starts_itself:
                self._started(running)

        def ended(outcome: Any, _abandoned: bool) -> None:
            if outcome is not _ELSEWHERE:
                running.end(outcome)

        try:
            job: Job = self._pool.submit(running.name, work, started=started, done=ended)
        except PoolExhausted as error:
            running.end(error)
            return
        if starts_itself:
            return
        running.stop_work = lambda: self._pool.abandon(job)

    def _post(self, running: Call, name: str, make: Callable[[], Any], drop: Callable[[], None] = lambda: None) -> None:
        def begin() -> None:
            if running.over:
                drop()
                return
            self._started(running)
            task = self._loop.run(name, make(), running.end)

            def cancel() -> None:
                task.cancel()

            running.stop_work = lambda: self._loop.post(cancel)

        self._loop.post(begin)

    def _started(self, running: Call) -> None:
        """Begin to count the timeout: waiting for a place is not the agent's fault."""
        if running.began is not None:
            return
        running.began = time.monotonic()
        timer = self._timers.schedule(running.timeout, lambda: self._timed_out(running))
        running.timer = timer
        if running.over:  # given up meanwhile, by another thread
            timer.cancel()

    @staticmethod
    def _timed_out(running: Call) -> None:
        if running.close():
            if running.stop_work is not None:
                running.stop_work()
            running.done(AgentTimeout(f"no result within {running.timeout:g} s"))

    def _loop_blocked(self, seconds: float, agent: str) -> None:
        if self._log is not None:
            self._log("loop_blocked", seconds=round(seconds, 3), agent=agent or None)

    def _gate(self, spec: AgentSpec) -> _Gate:
        with self._lock:
            gate = self._gates.get(spec.name)
            if gate is None:
                gate = self._gates[spec.name] = _Gate(spec.max_concurrency or 1)
            return gate


def _while_wanted(running: Call, progress: Callable[[str], None]) -> Callable[[str], None]:
    def report(text: str) -> None:
        if not running.over:
            progress(text)

    return report


def _deadline(call: RunNode) -> float:
    return time.time() + call.timeout


def _bound(call: RunNode) -> AbstractContextManager[None]:
    """Give the agent's own log lines the ids of its call."""
    return structlog.contextvars.bound_contextvars(
        conversation_id=call.conversation_id,
        request_id=call.request_id,
        node_id=call.node,
        agent=call.agent,
        attempt=call.attempt,
    )


class _Gate:
    """Lets so many calls of one agent run at once; those that wait take turns by conversation."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()

    def enter(self, conversation_id: str, call: Call, begin: Callable[[], None]) -> None:
        """Begin now, or when there is room."""

        def begin_if_wanted() -> None:
            if call.when_over(self._leave):
                begin()
            else:
                self._leave()

        with self._lock:
            if self._running >= self._limit:
                self._waiting.setdefault(conversation_id, deque()).append(begin_if_wanted)
                return
            self._running += 1
        begin_if_wanted()

    def stats(self) -> dict[str, int]:
        """Return figures of this moment."""
        with self._lock:
            return {"running": self._running, "waiting": sum(map(len, self._waiting.values())), "limit": self._limit}

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._waiting:
                return
            conversation_id, queue = self._waiting.popitem(last=False)
            begin = queue.popleft()
            if queue:
                self._waiting[conversation_id] = queue
            self._running += 1
        begin()
