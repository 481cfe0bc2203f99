"""A store for tests of who uses one: its commits can be held, counted and made to fail; and what listens to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from persistence.contract import Append
from persistence.memory_store import MemoryStore

SOON = 10.0


class Scripted(MemoryStore):
    """A memory store whose commits can be held, counted and made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open("test")
        self.batches: list[tuple[Append, ...]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.trouble: Callable[[Sequence[Append], Sequence[Any]], None] = lambda _batch, _rows: None

    def commit(self, batch: Sequence[Append], rows: Sequence[Any] = ()) -> list[Any]:
        self.entered.release()
        assert self.gate.wait(SOON)
        self.trouble(batch, rows)
        self.batches.append(tuple(batch))
        return super().commit(batch, rows)

    def wait_for_a_commit(self) -> None:
        assert self.entered.acquire(timeout=SOON)


class Outcomes:
    """Collects what is told to whom, and waits for a number of answers."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._arrived = threading.Semaphore(0)

    def __call__(self, outcome: Any) -> None:
        self.all.append(outcome)
        self._arrived.release()

    def wait(self, count: int) -> list[Any]:
        for _ in range(count):
            assert self._arrived.acquire(timeout=SOON), self.all
        return self.all


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    def events(self) -> list[str]:
        return [event for event, _ in self.lines]
