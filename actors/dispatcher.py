"""The threads that run actors: one only when its mailbox has something, a bounded batch, never by two at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from actors.futures import DISPATCHED


class Runnable(Protocol):
    """What a dispatcher runs. A mailbox schedules its owner once, and not again before `run_batch` has let go."""

    path: str

    def run_batch(self, limit: int) -> bool:
        """Handle at most `limit` messages; return True when there are more."""
        ...


class Dispatcher(Protocol):
    """Who runs actors, and when. A simulated one picks the next actor from a seed, in one thread."""

    def schedule(self, actor: Any) -> None:
        """Run `actor.run_batch` soon, exactly once for each call."""
        ...

    def start(self) -> None:
        """Begin to run actors."""
        ...

    def stop(self, timeout: float) -> bool:
        """Run nothing more; return whether all that was running ended within `timeout` seconds."""
        ...

    def wait(self, done: threading.Event, timeout: float) -> bool:
        """Let actors run until `done` is set, at most `timeout` seconds; return whether it is."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """What a dispatcher thread is doing."""

    thread: str
    path: str
    seconds: float
    """Since when it has run this actor."""


class ThreadDispatcher:
    """A small pool of threads.

    An actor that waits for an answer (a blocking `ask`) does not hold up the others: while it waits another thread
    takes its place, up to `max_waiting` of them.
    """

    def __init__(self, threads: int = 2, batch: int = 64, max_waiting: int = 256, name: str = "dispatcher") -> None:
        if threads < 1 or batch < 1:
            raise ValueError(f"threads and batch must be 1 or more, not {threads} and {batch}")
        self._threads = threads
        self._batch = batch
        self._max_waiting = max_waiting
        self._name = name
        self._ready: SimpleQueue[Runnable | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._workers: dict[str, _Worker] = {}
        self._started = 0
        self._waiting = 0
        self._stopped = False
        self.escapes = 0
        """Errors that got past an actor's own containment; each would be a defect of the runtime."""
        self.schedule: Callable[[Any], None] = self._ready.put
        """Run an actor soon. It is the queue's own method: one call less for every message to an idle actor."""

    def start(self) -> None:
        """Start the threads; once they run, nothing more happens."""
        with self._lock:
            while not self._stopped and len(self._workers) < self._threads:
                self._start_worker()

    def stop(self, timeout: float) -> bool:
        """End the threads after what is ready has run; return whether all ended within `timeout` seconds."""
        with self._lock:
            self._stopped = True
            workers = list(self._workers.values())
        for _ in workers:
            self._ready.put(None)
        deadline = time.monotonic() + timeout
        me = threading.current_thread()
        for worker in workers:
            if worker.thread is not me:
                worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in workers if worker.thread is not me)

    def wait(self, done: threading.Event, timeout: float) -> bool:
        """Wait until `done` is set, at most `timeout` seconds; return whether it is."""
        with DISPATCHED.waiting():
            return done.wait(timeout)

    def running(self) -> list[Running]:
        """Return what runs now and since when, the longest first: for a watchdog."""
        now = time.monotonic()
        with self._lock:
            workers = list(self._workers.values())
        busy = [(worker.name, current) for worker in workers if (current := worker.current) is not None]
        found = [Running(name, actor.path, now - since) for name, (actor, since) in busy]
        return sorted(found, key=lambda running: -running.seconds)

    def _start_worker(self) -> None:
        self._started += 1
        worker = _Worker(f"{self._name}-{self._started}")
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=worker.name, daemon=True)
        worker.thread.start()
        self._workers[worker.name] = worker

    def _run(self, worker: _Worker) -> None:
        DISPATCHED.waiting = self._waited
        batch = self._batch
        take, give = self._ready.get, self._ready.put
        while True:
            actor = take()
            if actor is None or self._retire(worker, actor):
                break
            worker.current = (actor, time.monotonic())
            try:
                if actor.run_batch(batch):
                    give(actor)
            except BaseException:  # noqa: BLE001  # whatever happens in one actor, the thread runs the others
                self.escapes += 1
            worker.current = None
            del actor  # an ended actor must not live on in an idle thread
        with self._lock:
            self._workers.pop(worker.name, None)

    def _retire(self, worker: _Worker, actor: Runnable) -> bool:
        if len(self._workers) <= self._threads:
            return False
        with self._lock:
            surplus = len(self._workers) - self._waiting > self._threads
            if surplus:
                self._workers.pop(worker.name, None)
        if surplus:
            self._ready.put(actor)
        return surplus

    @contextmanager
    def _waited(self) -> Generator[None]:
        with self._lock:
            self._waiting += 1
            stand_in = len(self._workers) - self._waiting < self._threads and self._waiting <= self._max_waiting
            if stand_in and not self._stopped:
                # Where the machine gives no more threads, waiting goes on without a stand-in.
                with suppress(RuntimeError):
                    self._start_worker()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1


class _Worker:
    """One thread and what it runs."""

    __slots__ = ("current", "name", "thread")

    thread: threading.Thread

    def __init__(self, name: str) -> None:
        self.name = name
        self.current: tuple[Runnable, float] | None = None
