"""Threads for agents' blocking code: bounded, and replaced when a call outlives its timeout.

Python cannot end a thread. A call that is given up leaves its thread to itself (abandoned, counted) and another takes
its place, so that capacity stays; when too many are abandoned the pool refuses new calls until some of them end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

Work = Callable[[], Any]


class PoolExhausted(Exception):
    """No thread will take this call now: too many are abandoned, none can be started, or the pool has stopped."""

    error_class = "transient"


class TooManyAbandoned(PoolExhausted):
    """This agent has left so many calls behind that it gets no more threads until some of them end."""

    error_type = "too_many_abandoned"

    def __init__(self, agent: str, abandoned: int) -> None:
        super().__init__(
            f"{abandoned} calls of {agent} were given up and still run; it is not called until some of them end"
        )


class Job:
    """One piece of work. It runs in an empty context; `done` is told its value or what it raised, in the same thread.

    `done` must not raise. `group` is what abandoned threads are counted by.
    """

    __slots__ = ("_over", "abandoned", "done", "group", "name", "running", "work")

    def __init__(self, name: str, group: str, work: Work, done: Callable[[Any], None]) -> None:
        self.name = name
        self.group = group
        self.work = work
        self.done = done
        self.running = False
        self.abandoned = False
        self._over = False


class BlockingPool:
    """Runs jobs in daemon threads, which start when they are needed and stay."""

    def __init__(self, threads: int, *, name: str = "blocking") -> None:
        self.threads = threads
        self._name = name
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        """Threads that take jobs; abandoned ones do not."""
        self._load = 0
        """Jobs that are queued, or running on a thread that is not abandoned."""
        self._abandoned = 0
        self._number = 0
        self._stopped = False
        self._members: dict[threading.Thread, Job | None] = {}
        """Every thread, abandoned ones too, with what it runs."""

    def submit(self, job: Job) -> None:
        """Run a job soon. Raises `PoolExhausted`."""
        with self._lock:
            if self._stopped:
                raise PoolExhausted("the daemon is stopping")
            if self._abandoned >= self.threads:
                raise PoolExhausted(f"{self._abandoned} threads still run calls that were given up")
            self._load += 1
            if not self._grow() and self._alive == 0:
                self._load -= 1
                raise PoolExhausted("no thread can be started")
            self._queue.put(job)

    def abandon(self, job: Job) -> bool:
        """Nobody waits for this job any more; return whether a thread is left behind with it.

        A job that has not begun never will. One that runs keeps its thread, and `done` is told when it ends.
        """
        with self._lock:
            if job.abandoned or job._over:  # noqa: SLF001  # same file
                return False
            job.abandoned = True
            if not job.running:
                return False
            self._abandoned += 1
            self._alive -= 1
            self._load -= 1
            self._grow()
            return True

    @property
    def abandoned(self) -> int:
        """Threads left behind at this moment."""
        return self._abandoned

    def stats(self) -> dict[str, int]:
        """Return figures of this moment."""
        with self._lock:
            busy = sum(job is not None for job in self._members.values()) - self._abandoned
            return {
                "threads": self._alive,
                "busy": busy,
                "abandoned": self._abandoned,
                "waiting": max(0, self._load - busy),
            }

    def abandoned_by_group(self) -> dict[str, int]:
        """Return how many threads each group has left behind."""
        counts: dict[str, int] = {}
        with self._lock:
            for job in self._members.values():
                if job is not None and job.abandoned:
                    counts[job.group] = counts.get(job.group, 0) + 1
        return counts

    def running(self) -> list[str]:
        """Return the names of the jobs that threads are at, abandoned ones too."""
        with self._lock:
            return sorted(job.name for job in self._members.values() if job is not None)

    def stop(self, timeout: float) -> list[str]:
        """Take no more jobs; return the names of those that still run after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            if not self._stopped:
                self._stopped = True
                for _ in range(self._alive):
                    self._queue.put(None)
            members = list(self._members)
        for thread in members:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.running()

    # Threads

    def _grow(self) -> bool:
        """Start a thread if jobs would wait for one; False when it cannot be started. Holds the lock."""
        if self._stopped or self._load <= self._alive or self._alive >= self.threads:
            return True
        self._number += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}-{self._number}", daemon=True)
        self._members[thread] = None
        self._alive += 1
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads; those that live go on
            del self._members[thread]
            self._alive -= 1
            return False
        return True

    def _run(self) -> None:
        thread = threading.current_thread()
        while (job := self._queue.get()) is not None:
            stay = self._serve(thread, job)
            del job  # an idle thread must not keep its last call's data alive
            if not stay:
                return
        with self._lock:
            self._alive -= 1
            del self._members[thread]

    def _serve(self, thread: threading.Thread, job: Job) -> bool:
        """Run one job; return whether this thread still belongs to the pool."""
        with self._lock:
            if job.abandoned:
                self._load -= 1
                return True
            job.running = True
            self._members[thread] = job
        process = os.getpid()
        try:
            outcome = Context().run(job.work)
        except BaseException as error:  # noqa: BLE001  # an agent may raise anything; it must not end the thread
            outcome = error
        if os.getpid() != process:
            os._exit(0)  # the agent forked and both came back: this copy has nobody to tell, and nothing to do
        stay = self._release(thread, job)
        job.done(outcome)
        del outcome  # an error knows this very frame: a circle, which would wait for the collector
        return stay

    def _release(self, thread: threading.Thread, job: Job) -> bool:
        with self._lock:
            job._over = True  # noqa: SLF001  # same file
            self._members[thread] = None
            if not job.abandoned:
                self._load -= 1
                return True
            self._abandoned -= 1
            if self._load > self._alive and self._alive < self.threads and not self._stopped:
                self._alive += 1  # its place was never taken: no thread could be started then
                return True
            del self._members[thread]
            return False
