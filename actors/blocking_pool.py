"""Threads for agents' blocking code: bounded, and replaced when a call outlives its timeout.

Python cannot end a thread. A call that is given up leaves its thread to itself (abandoned, counted) and another takes
its place, so that capacity stays; when too many are abandoned the pool refuses new calls until some of them end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]


class PoolExhausted(Exception):
    """So many abandoned threads still run that no further blocking call is taken."""

    error_class = "transient"


class Job:
    """One piece of work, from `submit` to its end."""

    __slots__ = ("_state", "abandoned", "done", "name", "started", "work")

    def __init__(self, name: str, work: Work, started: Callable[[], None], done: Callable[[Any, bool], None]) -> None:
        self.name = name
        self.work = work
        self.started = started
        self.done = done
        self.abandoned = False
        self._state = "waiting"

    @property
    def running(self) -> bool:
        """Whether a thread is at it."""
        return self._state == "running"


class BlockingPool:
    """Runs jobs in daemon threads, which start when they are needed."""

    def __init__(self, threads: int, *, name: str = "blocking") -> None:
        self.threads = threads
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        """Threads that take jobs; abandoned ones do not."""
        self._idle = 0
        self._number = 0
        self._abandoned = 0
        self._stopped = False
        self._running: dict[Job, threading.Thread] = {}

    def submit(self, name: str, work: Work, *, started: Callable[[], None], done: Callable[[Any, bool], None]) -> Job:
        """Run `work` soon; `started()` is called when a thread takes it, `done(outcome, abandoned)` when it ends.

        The outcome is its value or what it raised. Raises `PoolExhausted`.
        """
        job = Job(name, work, started, done)
        with self._lock:
            if self._stopped:
                raise PoolExhausted("the pool is stopped")
            if self._abandoned >= self.threads:
                raise PoolExhausted(f"{self._abandoned} threads still run calls that were given up")
            if self._idle == 0 and self._alive < self.threads:
                self._start_thread()
            self._jobs.put(job)
        return job

    def abandon(self, job: Job) -> None:
        """Nobody waits for this job any more: one that has not begun never will, one that runs keeps its thread."""
        with self._lock:
            if job.abandoned or job._state == "done":  # noqa: SLF001  # same file
                return
            job.abandoned = True
            if job._state == "running":  # noqa: SLF001  # same file
                self._abandoned += 1
                self._alive -= 1
                if not self._stopped and not self._jobs.empty():
                    self._start_thread()

    def stats(self) -> dict[str, int]:
        """Return figures of this moment."""
        with self._lock:
            return {
                "threads": self._alive,
                "busy": len(self._running) - self._abandoned,
                "abandoned": self._abandoned,
                "waiting": self._jobs.qsize(),
            }

    def stop(self, timeout: float) -> list[str]:
        """Take no more jobs; return the names of those that still run after `timeout` seconds."""
        with self._lock:
            self._stopped = True
            threads = list(self._running.values())
            for _ in range(self._alive):
                self._jobs.put(None)
        if threads:
            share = timeout / len(threads)
            for thread in threads:
                thread.join(share)
        with self._lock:
            return sorted(job.name for job in self._running)

    def _start_thread(self) -> None:
        self._alive += 1
        self._number += 1
        threading.Thread(target=self._run, name=f"{self._name}-{self._number}", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                if job is None:
                    self._alive -= 1
                    return
                if not self._take(job):
                    continue
            job.started()
            try:
                outcome = job.work()
            except BaseException as error:  # noqa: BLE001  # an agent may raise anything; it must not end the thread
                outcome = error
            with self._lock:
                gone = self._finish(job)
            job.done(outcome, gone)
            if gone:
                return

    def _take(self, job: Job) -> bool:
        if job.abandoned:
            return False
        job._state = "running"  # noqa: SLF001  # same file
        self._running[job] = threading.current_thread()
        return True

    def _finish(self, job: Job) -> bool:
        """Note a job's end; return whether it was given up meanwhile, so that its thread is one too many."""
        job._state = "done"  # noqa: SLF001  # same file
        del self._running[job]
        self._abandoned -= job.abandoned
        return job.abandoned
