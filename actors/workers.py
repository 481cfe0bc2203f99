"""Keeps worker processes warm: per agent, one thread for each process, which starts, feeds and ends it.

The thread that starts a process must outlive it (Linux tells a process of the death of the *thread* that made it), so
each process has a keeper of its own. How many there are at once is up to the agent's gate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from pydantic_core import from_json

from actors.blocking_pool import PoolExhausted
from actors.bounds import Bounds
from actors.call import Call
from actors.remote_error import RemoteError
from actors.timers import TimerService
from actors.worker_process import WorkerDied, WorkerProcess
from agents.errors import NOTHING, ContractViolation
from agents.spec import AgentSpec
from messages.agent import NodeResult, RunNode

START_TIMEOUT: Final = 30.0
"""Seconds a process may take to import its agent; that is not part of the agent's own timeout."""
_STUBBORN: Final = 5.0
"""Seconds after which a process that was killed and has not ended loses its guard too."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One call for a keeper to make."""

    spec: AgentSpec
    message: RunNode
    call: Call
    progress: Callable[[str], None]


class Workers:
    """All worker processes."""

    def __init__(
        self,
        *,
        timers: TimerService,
        bounds: Bounds,
        grace: float,
        idle_after: float,
        output: Callable[[str, str], None],
    ) -> None:
        self.timers = timers
        self.bounds = bounds
        self.grace = grace
        self.idle_after = idle_after
        """Seconds after which a process without calls is ended."""
        self.output = output
        """Told an agent's name and a line it printed."""
        self.stopped = False
        self._lock = threading.Lock()
        self._idle: dict[object, list[Keeper]] = {}
        self._keepers: set[Keeper] = set()

    def submit(self, errand: Errand) -> None:
        """Make a call on a warm process if there is one, else on a new one; the outcome goes to the errand's call.

        Raises `PoolExhausted`.
        """
        key = _key(errand.spec)
        with self._lock:
            if self.stopped:
                raise PoolExhausted("the daemon is stopping")
            idle = self._idle.get(key)
            keeper = idle.pop() if idle else None
            if keeper is None:
                keeper = Keeper(self, key, errand.spec.name)
                self._keepers.add(keeper)
                try:
                    keeper.thread.start()
                except RuntimeError as error:
                    self._keepers.discard(keeper)
                    raise PoolExhausted("no thread can be started") from error
            keeper.errands.put(errand)

    def count(self) -> int:
        """Return how many processes there are."""
        with self._lock:
            return sum(keeper.worker is not None for keeper in self._keepers)

    def pids(self) -> list[int]:
        """Return the process ids of those that are ready."""
        with self._lock:
            workers = [keeper.worker for keeper in self._keepers]
        return sorted(worker.pid for worker in workers if worker is not None and worker.pid is not None)

    def stop(self, timeout: float) -> list[str]:
        """End all processes: idle ones by themselves, busy ones at once; return the names of what has not ended."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self.stopped = True
            self.grace = min(self.grace, timeout / 2)
            idle = [keeper for keepers in self._idle.values() for keeper in keepers]
            self._idle.clear()
            keepers = list(self._keepers)
        for keeper in keepers:
            worker = keeper.worker
            if keeper in idle:
                keeper.errands.put(None)
            elif worker is not None:
                worker.kill()
        for keeper in keepers:
            keeper.thread.join(max(0.0, deadline - time.monotonic()))
        return sorted(f"process of {keeper.agent}" for keeper in keepers if keeper.thread.is_alive())

    # For the keepers

    def rest(self, keeper: Keeper) -> bool:
        """Offer a keeper's process for the next call; False when there is to be none."""
        with self._lock:
            if self.stopped:
                return False
            self._idle.setdefault(keeper.key, []).append(keeper)
            return True

    def withdraw(self, keeper: Keeper) -> bool:
        """Take the offer back; False when an errand is on its way already."""
        with self._lock:
            idle = self._idle.get(keeper.key, [])
            if keeper not in idle:
                return False
            idle.remove(keeper)
            if not idle:
                del self._idle[keeper.key]
            return True

    def gone(self, keeper: Keeper) -> None:
        """Forget a keeper whose thread ends."""
        with self._lock:
            self._keepers.discard(keeper)


class Keeper:
    """The thread of one process."""

    def __init__(self, workers: Workers, key: object, agent: str) -> None:
        self.key = key
        self.agent = agent
        self.errands: SimpleQueue[Errand | None] = SimpleQueue()
        self.worker: WorkerProcess | None = None
        self.thread = threading.Thread(target=self._run, name=f"worker-of-{agent}", daemon=True)
        self._workers = workers
        self._usable = True
        self._second, self._lines = 0, 0

    def _run(self) -> None:
        try:
            errand = self.errands.get()
            while errand is not None:
                outcome = self._outcome(errand)
                # Offered before the outcome is told: what the outcome sets off may want this very process.
                offered = self._usable and self._workers.rest(self)
                if outcome is not None:
                    errand.call.end(outcome)
                del errand, outcome
                errand = self._next() if offered else None
        finally:
            self._close()
            self._workers.gone(self)

    def _next(self) -> Errand | None:
        try:
            return self.errands.get(timeout=self._workers.idle_after)
        except Empty:
            return None if self._workers.withdraw(self) else self.errands.get()

    def _outcome(self, errand: Errand) -> Any:
        """Make the call; return a result, an exception, or None when nobody is to be told."""
        self._usable = True
        try:
            worker = self.worker or self._start(errand.spec)
            if not errand.call.begin():
                return None
            errand.call.when_stopped(lambda: self._kill(worker))
            body, self._usable = worker.call(errand.message, errand.progress, time.time())
            return _result(errand, body)
        except RemoteError as error:
            self._usable = error.usable
            return error
        except WorkerDied as error:
            self._usable = False
            return None if errand.call.over else error  # over: it died because we killed it
        except Exception as error:  # noqa: BLE001  # no process, inputs that cannot be sent: the outcome of this call
            self._usable = self.worker is not None and not self.worker.killed
            return error

    def _start(self, spec: AgentSpec) -> WorkerProcess:
        worker = self.worker = WorkerProcess(spec, bounds=self._workers.bounds, output=self._say)
        if self._workers.stopped:
            worker.kill()
        slow = self._workers.timers.schedule(START_TIMEOUT, lambda: self._kill(worker))
        try:
            worker.wait_ready()
        except WorkerDied as error:
            if worker.killed:
                raise WorkerDied(f"the agent's process was not ready within {START_TIMEOUT:g} s") from error
            raise
        finally:
            slow.cancel()
        return worker

    def _kill(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._workers.timers.schedule(_STUBBORN, worker.kill_guard)

    def _close(self) -> None:
        if self.worker is not None:
            self.worker.close(self._workers.grace)
            self.worker = None

    def _say(self, line: str) -> None:
        now = int(time.monotonic())
        self._second, self._lines = (now, 1) if now != self._second else (now, self._lines + 1)
        if self._lines <= _LINES_PER_SECOND:
            self._workers.output(self.agent, line)


_LINES_PER_SECOND: Final = 20
"""Lines of a process's output that are logged; the rest is read and thrown away."""


def _result(errand: Errand, body: bytes) -> NodeResult:
    message = errand.message
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ContractViolation(message.agent, "result", NOTHING, f"is not JSON: {error}") from None
    return NodeResult(message.request_id, message.node, message.attempt, data, body, errand.call.elapsed_ms)


def _key(spec: AgentSpec) -> object:
    """Tell which processes can serve this agent: after a reload only those that were made for the same."""
    # The function itself too: after a reload it is another one, and its process must have imported that.
    return (spec.name, spec.function, spec.transient, spec.permanent, spec.memory_mb, spec.environment)
