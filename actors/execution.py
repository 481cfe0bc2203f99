"""Where agents' code runs: async functions on one event loop, blocking ones on a pool, isolated ones in processes.

Nothing here runs on the caller's thread for longer than it takes to queue a call: arguments are bound and results
encoded where the agent runs (for async agents on the loop, so those should be small). A call's outcome is told exactly
once: its result, what it raised, or its timeout, which a thread of its own keeps. What ends later is told to `on_late`.

How a call of each kind is begun and stopped is in actors/call_kinds.py, the quick lane's side in actors/quick_host.py.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from actors.blocking_pool import BlockingPool, PoolExhausted, TooManyAbandoned
from actors.bounds import Bounds
from actors.breakers import Breakers, CircuitOpen
from actors.call import Call, reporter
from actors.call_ids import ids_of
from actors.call_kinds import CallKinds
from actors.event_loop import EventLoop
from actors.gate import Gates
from actors.quick import QuickLane
from actors.quick_host import QuickHost
from actors.timers import Timers
from actors.workers import Workers
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode
from supervision.breaker import BreakerSpec
from supervision.error_text import describe

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
        `abandoned_limit`: threads and tasks that one agent may leave behind until it is refused; None: as the pool has.
        """
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
        self.bounds = Bounds(max_result_bytes)
        """May be changed while running."""
        self._workers = Workers(
            timers=self._timers,
            bounds=self.bounds,
            grace=grace,
            idle_after=worker_idle,
            output=self._printed,
        )
        self._gates = Gates()
        self.abandoned_limit = abandoned_limit
        """May be changed while running."""
        self.breakers = Breakers(breaker or BreakerSpec(failures=0), log=self._log)
        self._kinds = CallKinds(
            loop=self._loop, pool=self._pool, workers=self._workers, bounds=self.bounds, log=self._log
        )
        self._quick = QuickHost(
            loop=self._loop,
            pools=(self._pool, self._to_thread),
            gates=self._gates,
            breakers=self.breakers,
            timers=self._timers,
            bounds=self.bounds,
            late=self._late,
        )
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
            self._stopped = self._quick.stopped = True
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
        abandoned = Counter(self._pool.abandoned_by_group()) + Counter(self._to_thread.abandoned_by_group())
        abandoned.update(_agent_of(name) for name in self._loop.lingering())
        gates = self._gates.all()
        states = self.breakers.stats()
        limit = self.abandoned_limit
        agents = {
            name: {
                **gate.stats(),
                "abandoned": abandoned[name],
                "refused": limit is not None and self._left_behind(name) >= limit,
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
        begin = self._kinds.how(spec, call, running, reporter(running, progress))
        self._gates.of(spec).enter(call.conversation_id, running, lambda: self._guarded(spec, running, begin))
        return running

    def run_function(
        self, function: Callable[..., Any], *args: Any, timeout: float, done: Done, name: str = ""
    ) -> Call:
        """Run any function, blocking or async; what it returns is told as it is.

        What it leaves behind is bounded by `name` as it is for an agent: the threads are the agents' too.
        """
        name = name or getattr(function, "__qualname__", type(function).__name__)
        running = self._call(name, timeout, done, None)
        if self._is_refused(name, running):
            return running
        if inspect.iscoroutinefunction(function):
            self._kinds.on_loop(running, lambda: function(*args))
        else:
            self._kinds.on_thread(running, name, lambda: function(*args), lambda value: value)
        return running

    def quick_lane(self, find: Callable[[str], AgentSpec | None]) -> QuickLane:
        """Return a quick lane for the agents that `find` knows by name."""
        return QuickLane(self._quick, find)

    def _guarded(self, spec: AgentSpec, running: Call, begin: Callable[[], None]) -> None:
        """Begin a call if its agent has not left too much behind, and its breaker lets it through."""
        if self._is_refused(spec.name, running):
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

    def _is_refused(self, name: str, running: Call) -> bool:
        """End a call for which too much of its kind was left behind."""
        left_behind = 0 if self.abandoned_limit is None else self._left_behind(name)
        if self.abandoned_limit is None or left_behind < self.abandoned_limit:
            return False
        running.end(TooManyAbandoned(name, left_behind))
        return True

    def _left_behind(self, agent: str) -> int:
        """Return how many threads, and tasks that do not obey, an agent has left behind."""
        # Most of the time nothing is left behind at all: then nobody has to be asked.
        pools = (self._pool, self._to_thread)
        count = sum(pool.abandoned_by_group().get(agent, 0) for pool in pools if pool.abandoned)
        if self._loop.stubborn:
            count += sum(_agent_of(task.get_name()) == agent for task in self._loop.stubborn.copy())
        return count

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
        self._log("late_result", reason=reason, **ids_of(message))
        if self._on_late is not None:
            try:
                self._on_late(message, reason)
            except Exception as error:  # noqa: BLE001  # the thread it came on must not suffer from who listens
                self._escaped(message.agent, error)

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


def _silent(_event: str, **_fields: Any) -> None:
    """Log nothing: nobody asked."""
