"""The daemon's side of `isolation="process"`: warm worker processes, one call at a time each, that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, BinaryIO

from agents.spec import AgentSpec
from agents.worker import frame, read_frame, run_fields
from messages.agent import RunNode
from messages.wire import WireError

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "VIRTUAL_ENV")
"""Environment a worker gets besides what the agents' own settings may need; never the daemon's secrets."""
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "DSN", "KEY", "CREDENTIAL", "DATABASE_URL", "REDIS_URL")
_IDLE_KEPT = 2
"""Warm workers kept per agent."""


class WorkerDied(Exception):
    """The worker process ended during the call."""

    error_class = "transient"
    error_type = "worker_died"


class RemoteError(Exception):
    """What the agent raised in its process, with what supervision reads of it."""

    def __init__(self, shown: dict[str, Any]) -> None:
        super().__init__(shown.get("text", ""))
        self.error_type = str(shown.get("error_type") or shown.get("type"))
        for key in ("status_code", "status", "code", "retry_after", "sqlstate", "errno", "error_class"):
            if key in shown:
                setattr(self, key, shown[key])


class Worker:
    """One process."""

    def __init__(self, spec: AgentSpec, max_bytes: int) -> None:
        self.spec = spec
        call_read, call_write = os.pipe()
        answer_read, answer_write = os.pipe()
        command = [sys.executable, "-m", "agents.worker", spec.module, spec.qualname, spec.name, str(max_bytes)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  # a fixed program; its arguments come from the configuration
                [*command, str(call_read), str(answer_write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(call_read, answer_write),
                start_new_session=True,
            )
        except BaseException:
            os.close(call_write)
            os.close(answer_read)
            raise
        finally:
            os.close(call_read)
            os.close(answer_write)
        self._calls: BinaryIO = os.fdopen(call_write, "wb")
        self._answers: BinaryIO = os.fdopen(answer_read, "rb")
        self.killed = False
        self._fresh = True

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def call(self, call: RunNode, started: Callable[[], None], progress: Callable[[str], None]) -> bytes:
        """Make one call and return the result's JSON; blocks. Raises `RemoteError` or `WorkerDied`."""
        try:
            if self._fresh:
                self._fresh = False
                if read_frame(self._answers) is None:
                    raise EOFError
            started()
            self._calls.write(frame(run_fields(call)))
            self._calls.flush()
            while True:
                answer = read_frame(self._answers)
                if answer is None:
                    raise EOFError
                if "progress" in answer:
                    progress(answer["progress"])
                elif "error" in answer:
                    raise RemoteError(answer["error"])
                else:
                    result: bytes = answer["result"]
                    return result
        except (EOFError, OSError, ValueError, WireError) as error:
            raise WorkerDied(f"the agent's process {self._how_it_ended()}") from error

    def kill(self) -> None:
        """End the process and everything it started, now."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill, reap, close the pipes."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        for stream in (self._calls, self._answers):
            with contextlib.suppress(OSError):
                stream.close()

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "broke off the conversation"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"


class Workers:
    """The warm processes of all agents."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._idle: dict[str, deque[Worker]] = {}
        self._all: set[Worker] = set()
        self._stopped = False

    def take(self, spec: AgentSpec) -> Worker:
        """Return a worker for this agent, a warm one if there is one."""
        with self._lock:
            if self._stopped:
                raise WorkerDied("the daemon is stopping")
            idle = self._idle.get(spec.name)
            if idle:
                return idle.pop()
        worker = Worker(spec, self._max_bytes)
        with self._lock:
            self._all.add(worker)
        return worker

    def give_back(self, worker: Worker, *, healthy: bool) -> None:
        """Keep a healthy worker warm; end another."""
        with self._lock:
            idle = self._idle.setdefault(worker.spec.name, deque())
            if healthy and not worker.killed and not self._stopped and len(idle) < _IDLE_KEPT:
                idle.append(worker)
                return
            self._all.discard(worker)
        worker.close()

    def __len__(self) -> int:
        return len(self._all)

    def stop(self) -> None:
        """End all processes."""
        with self._lock:
            self._stopped = True
            idle = [worker for workers in self._idle.values() for worker in workers]
            busy = self._all.difference(idle)
            self._idle.clear()
            self._all.difference_update(idle)
        for worker in busy:
            worker.kill()  # the thread that waits for it closes it
        for worker in idle:
            worker.close()


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    for key, value in os.environ.items():
        if not key.startswith("ORCHESTRATOR_") and not any(word in key.upper() for word in _SECRET_WORDS):
            kept.setdefault(key, value)
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return kept
