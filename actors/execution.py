"""Where agents' code runs: async functions on one event loop, blocking ones on a pool, isolated ones in processes.

Nothing here runs on the caller's thread for longer than it takes to queue a call: arguments are bound and results
encoded where the agent runs (for async agents on the loop, so those should be small). A call's outcome is told exactly
once: its result, what it raised, or its timeout, which a thread of its own keeps. What ends later is told to `on_late`.

Stopping a call: a task is cancelled, a process is killed at once with all it started, a thread is left to itself.
"""

from __future__ import annotations

import inspect
import threading
import time
from asyncio import CancelledError
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

from structlog.contextvars import bind_contextvars

from actors.blocking_pool import BlockingPool, Job, PoolExhausted, TooManyAbandoned
from actors.breakers import Breakers, CircuitOpen
from actors.call import Call, reporter
from actors.event_loop import EventLoop
from actors.gate import Gate
from actors.quick import SLOW_AFTER, Batch, QuickCall, QuickLane
from actors.timers import Timers
from actors.workers import Errand, Workers
from agents.call import arguments, finish
from agents.spec import AgentSpec
from messages.agent import NodeResult, Progress, RunNode
from supervision.breaker import BreakerSpec
from supervision.error_text import describe

__all__ = ["Call", "Execution"]

PROCESSES_PER_AGENT: Final = 2
"""`max_concurrency` of an agent with `isolation="process"` that sets none: a process costs tens of megabytes."""
_ELSEWHERE: Final = object()
"""The call goes on on the event loop, or was over before it began: nothing is to be told here."""

Done = Callable[[Any], None]


class Execution:
    """All of it; every method may be called from any thread."""

    def __init__(
        self,
        *,
        threads: int = 32,
        max_result_bytes: int = 4 << 20,
        grace: float = 5.0,
        log: Callable[..., None] | None = None,
        on_late: Callable[[RunNode, str], None] | None = None,
        loop_blocked_after: float = 1.0,
        worker_idle: float = 60.0,
        breaker: BreakerSpec | None = None,
        abandoned_limit: int | None = None,
    ) -> None:
        """`grace`: seconds an idle process gets for its exit handlers. `worker_idle`: seconds until it is ended.

        `breaker`: when agents are left alone; None: only those that set `breaker_failures` themselves.
        `abandoned_limit`: threads that one agent may leave behind until it is refused; None: as the pool has.
        """
        self._max_bytes = max_result_bytes
        self._log = log if log is not None else _silent
        self._on_late = on_late
        self._timers = Timers(on_error=lambda error: self._escaped("a timer", error))
        self._pool = BlockingPool(threads, name="agents-blocking")
        self._to_thread = BlockingPool(threads, name="agents-to-thread")
        self._loop = EventLoop(
            blocked=self._loop_blocked,
            escaped=self._escaped,
            blocked_after=loop_blocked_after,
            to_thread=self._to_thread,
        )
        self._workers = Workers(
            timers=self._timers,
            max_bytes=max_result_bytes,
            grace=grace,
            idle_after=worker_idle,
            output=self._printed,
        )
        self._gates: dict[str, Gate] = {}
        self.abandoned_limit = abandoned_limit
        """May be changed while running."""
        self.breakers = Breakers(breaker or BreakerSpec(failures=0), log=self._log)
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._stopped = False

    # Life

    def start(self) -> None:
        """Begin to run async agents; the rest starts when it is needed."""
        self._loop.start()

    def stop(self, timeout: float) -> list[str]:
        """Abandon all calls and end; return the names of what still runs after about `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._stopped = True
            calls = list(self._calls)
        for call in calls:
            call.abandon()

        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        names = self._workers.stop(left())
        names += self._loop.stop(left())
        names += self._pool.stop(left())
        names += self._to_thread.stop(left())
        self._timers.stop(1.0)
        return names

    def stats(self) -> dict[str, Any]:
        """Return figures of this moment: of the threads, the processes and each agent."""
        left_behind = self._pool.abandoned_by_group()
        abandoned = Counter(left_behind)
        abandoned.update(_agent_of(name) for name in self._loop.lingering())
        with self._lock:
            gates = list(self._gates.items())
        states = self.breakers.stats()
        limit = self.abandoned_limit
        agents = {
            name: {
                **gate.stats(),
                "abandoned": abandoned[name],
                "refused": limit is not None and left_behind.get(name, 0) >= limit,
                **(states.get(name) or _CLOSED),
            }
            for name, gate in gates
        }
        return {**self._pool.stats(), "processes": self._workers.count(), "agents": agents}

    # Calls

    def run(
        self,
        spec: AgentSpec,
        call: RunNode,
        *,
        done: Callable[[NodeResult | BaseException], None],
        progress: Callable[[str], None],
    ) -> Call:
        """Make one call. `done` is told a `NodeResult` or the exception, once, from any thread, unless abandoned."""
        running = self._call(f"{call.agent}@{call.conversation_id}/{call.node}", call.timeout, done, call)
        refusal = self.breakers.refusal(spec.name)
        if refusal is not None:  # at once, instead of after a wait for a place
            running.end(refusal)
            return running
        begin = self._how(spec, call, running, reporter(running, progress))
        self._gate(spec).enter(call.conversation_id, running, lambda: self._guarded(spec, running, begin))
        return running

    def run_function(self, function: Callable[..., Any], *args: Any, timeout: float, done: Done) -> Call:
        """Run any function, blocking or async; what it returns is told as it is."""
        name = getattr(function, "__qualname__", type(function).__name__)
        running = self._call(name, timeout, done, None)
        if inspect.iscoroutinefunction(function):
            self._on_loop(running, lambda: function(*args))
        else:
            self._on_thread(running, name, lambda: function(*args), lambda value: value)
        return running

    # The quick lane (actors/quick.py)

    def quick_lane(self, find: Callable[[str], AgentSpec | None]) -> QuickLane:
        """Return a quick lane for the agents that `find` knows by name."""
        return QuickLane(self, find)

    @property
    def quick_timers(self) -> Timers:
        """Those of all calls."""
        return self._timers

    def now(self) -> float:
        """As for any call."""
        return time.monotonic()

    def admit_quick(self, spec: AgentSpec, order: RunNode) -> tuple[AgentSpec, Gate, int] | None:
        """Take what runs on the event loop and needs nothing looked up, waited for or tried out before it begins."""
        if not spec.is_async or spec.cache_ttl is not None or order.timeout < 2 * SLOW_AFTER:
            return None
        era = self.breakers.closed(spec.name)
        if era is None or self._stopped or self._pool.abandoned:
            return None
        gate = self._gate(spec)
        return (spec, gate, era) if gate.try_enter() else None

    def begin_quick(self, batch: Batch) -> None:
        """Make a task of each attempt, on the loop."""

        def begin() -> None:
            for call in batch.calls:
                if not call.over:
                    self._begin_quick(call, batch)
            self._loop.soon(batch.flush)

        self._loop.post(begin)

    def flush_quick(self, batch: Batch) -> None:
        """After what the loop has before it now: agents that waited for the same time end one after the other."""
        self._loop.soon(batch.flush)

    def _begin_quick(self, call: QuickCall, batch: Batch) -> None:
        order = call.order
        name = f"{order.agent}@{order.conversation_id}/{order.node}"
        call.work = self._loop.spawn(name, partial(self._attempt, call, batch), call.end)
        if call.over:  # given up meanwhile, by somebody who could not know the task yet
            self.stop_quick(call.work)

    async def _attempt(self, call: QuickCall, batch: Batch) -> NodeResult:
        spec, order = call.spec, call.order
        _bind_ids(order)
        report: Callable[[str], None] = _silent
        if spec.contract.context_parameter is not None:  # only who gets a context can say anything
            said = partial(Progress, order.request_id, order.node, order.agent, order.attempt)
            report = reporter(call, lambda text: batch.progress(said(text)))
        given = arguments(spec, order, progress=report, deadline=time.time() + order.timeout)
        data, body = finish(spec, await spec.function(**given), self._max_bytes)
        return NodeResult(order.request_id, order.node, order.attempt, data, body, call.elapsed_ms)

    def stop_quick(self, work: Any) -> None:
        """Cancel the task."""
        if work is not None:
            self._loop.post(work.cancel)

    def judge_quick(self, spec: AgentSpec, era: int, outcome: Any) -> None:
        """As for any call."""
        if not isinstance(outcome, NodeResult) or self.breakers.learns(spec.name):
            self.breakers.leave(spec, era, outcome)

    def late_quick(self, order: RunNode, outcome: Any) -> None:
        """As for any call."""
        self._late(order, outcome)

    def _guarded(self, spec: AgentSpec, running: Call, begin: Callable[[], None]) -> None:
        """Begin a call if its agent has not left too much behind, and its breaker lets it through."""
        left_behind = 0 if self.abandoned_limit is None else self._left_behind(spec)
        if self.abandoned_limit is not None and left_behind >= self.abandoned_limit:
            running.end(TooManyAbandoned(spec.name, left_behind))
            return
        try:
            era = self.breakers.enter(spec)
        except CircuitOpen as refusal:
            running.end(refusal)
            return
        if running.when_judged(lambda outcome: self.breakers.leave(spec, era, outcome)):
            begin()
        else:  # it ended between its turn and now
            self.breakers.leave(spec, era, None)

    def _left_behind(self, spec: AgentSpec) -> int:
        """Return how many threads an agent has left behind."""
        # Most of the time nothing is left behind at all: then nobody has to be asked.
        return self._pool.abandoned_by_group().get(spec.name, 0) if self._pool.abandoned else 0

    # Kinds

    def _how(self, spec: AgentSpec, call: RunNode, running: Call, report: Callable[[str], None]) -> Callable[[], None]:
        """Return what begins the call."""

        def given() -> dict[str, Any]:
            _bind_ids(call)  # the context is this call's own: nothing has to be unbound
            return arguments(spec, call, progress=report, deadline=time.time() + call.timeout)

        def result(value: Any) -> NodeResult:
            data, body = finish(spec, value, self._max_bytes)
            return NodeResult(call.request_id, call.node, call.attempt, data, body, running.elapsed_ms)

        async def awaited() -> NodeResult:
            return result(await spec.function(**given()))

        if spec.is_async:
            return lambda: self._on_loop(running, awaited)
        if spec.isolation == "process":
            return lambda: self._in_process(Errand(spec, call, running, report))
        return lambda: self._on_thread(running, spec.name, lambda: spec.function(**given()), result)

    def _on_loop(
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
                    running.when_stopped(lambda: self._loop.post(task.cancel))
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

    def _on_thread(self, running: Call, group: str, work: Callable[[], Any], result: Callable[[Any], Any]) -> None:
        def run() -> Any:
            if not running.begin():
                return _ELSEWHERE
            value = work()
            if not inspect.iscoroutine(value):
                return result(value)

            async def rest() -> Any:
                return result(await value)

            self._on_loop(running, rest, drop=value.close, context=copy_context())
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

    # Parts

    def _call(self, name: str, timeout: float, done: Done, message: RunNode | None) -> Call:
        def tell(outcome: Any) -> None:
            try:
                done(outcome)
            except Exception as error:  # noqa: BLE001  # whose outcome it was fails; the thread it came on must not
                self._escaped(name, error)

        def late(outcome: Any) -> None:
            if message is not None:
                self._late(message, outcome)

        call = Call(name, timeout, timers=self._timers, done=tell, late=late, forget=self._calls.discard)
        self._calls.add(call)
        if self._stopped:  # looked at after adding: `stop` sees the call, or we see `stop`
            call.end(PoolExhausted("the daemon is stopping"))
        return call

    def _late(self, message: RunNode, outcome: Any) -> None:
        what = "a result" if isinstance(outcome, NodeResult) else type(outcome).__name__
        reason = f"{what} came after attempt {message.attempt} was given up"
        self._log("late_result", reason=reason, **_ids(message))
        if self._on_late is not None:
            try:
                self._on_late(message, reason)
            except Exception as error:  # noqa: BLE001  # the thread it came on must not suffer from who listens
                self._escaped(message.agent, error)

    def _gate(self, spec: AgentSpec) -> Gate:
        limit = spec.max_concurrency
        if limit is None and spec.isolation == "process":
            limit = PROCESSES_PER_AGENT
        gate = self._gates.get(spec.name)
        if gate is None:
            with self._lock:
                gate = self._gates.setdefault(spec.name, Gate(limit))
        gate.limit = limit  # another one after a reload
        return gate

    # What is told

    def _loop_blocked(self, seconds: float, task: str, where: str) -> None:
        running = "" if task else "; running: " + ", ".join(self._pool.running())
        self._log("loop_blocked", seconds=round(seconds, 3), agent=_agent_of(task) or None, stack=where + running)

    def _escaped(self, name: str, error: BaseException) -> None:
        self._log("loop_task_failed", task=name, error_type=type(error).__name__, error_message=describe(error))

    def _printed(self, agent: str, line: str) -> None:
        self._log("library_message", level="debug", agent=agent, message=line)


_CLOSED: Final = {"breaker": "closed", "breaker_left": 0.0}


def _agent_of(name: str) -> str:
    return name.partition("@")[0]


def _ids(call: RunNode) -> dict[str, Any]:
    return {
        "conversation_id": call.conversation_id,
        "request_id": call.request_id,
        "node_id": call.node,
        "agent": call.agent,
        "attempt": call.attempt,
    }


_ID_VARS: Final = tuple(
    token.var
    for token in Context()
    .run(bind_contextvars, conversation_id="", request_id="", node_id="", agent="", attempt=0)
    .values()
)
"""Where structlog keeps what goes along with an agent's own lines; to set them here takes a tenth of the time."""


def _bind_ids(call: RunNode) -> None:
    """Bind what `_ids` says in the present context."""
    conversation_id, request_id, node, agent, attempt = _ID_VARS
    conversation_id.set(call.conversation_id)
    request_id.set(call.request_id)
    node.set(call.node)
    agent.set(call.agent)
    attempt.set(call.attempt)


def _silent(_event: str, **_fields: Any) -> None:
    """Log nothing: nobody asked."""
