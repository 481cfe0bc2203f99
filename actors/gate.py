"""Lets so many calls of each agent run at once; those that wait take turns by conversation and occupy no thread."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from actors.call import Call
from agents.spec import AgentSpec

PROCESSES_PER_AGENT: Final = 2
"""`max_concurrency` of an agent with `isolation="process"` that sets none: a process costs tens of megabytes."""


class Gate:
    """For one agent, over all conversations. Within a conversation the order is first come, first served."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        """Calls at once; None: as many as come."""
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: OrderedDict[str, deque[tuple[Call, Callable[[], None]]]] = OrderedDict()
        self._admitting = False

    def enter(self, turn: str, call: Call, begin: Callable[[], None]) -> None:
        """Call `begin` now, or when there is room and it is this `turn`'s turn; never, if `call` is over by then."""
        with self._lock:
            if self.limit is not None and self._running >= self.limit:
                self._waiting.setdefault(turn, deque()).append((call, begin))
                return
            self._running += 1
        self._let_in(call, begin)

    def try_enter(self) -> bool:
        """Take a place at once, if there is one and nobody waits; `leave` gives it back."""
        with self._lock:
            if self._waiting or (self.limit is not None and self._running >= self.limit):
                return False
            self._running += 1
            return True

    def stats(self) -> dict[str, int | None]:
        """Return figures of this moment."""
        with self._lock:
            waiting = sum(not call.over for queue in self._waiting.values() for call, _ in queue)
            return {"running": self._running, "waiting": waiting, "limit": self.limit}

    def _let_in(self, call: Call, begin: Callable[[], None]) -> None:
        if call.when_over(self.leave):
            begin()
        else:
            self.leave()

    def leave(self) -> None:
        """Give a place back; whose turn it is comes in, on this thread."""
        with self._lock:
            self._running -= 1
            if self._admitting or not self._waiting:
                return
            self._admitting = True
        # One thread admits at a time, in a loop: a call may end while it is let in, and a thousand may do so in a row.
        while (following := self._next()) is not None:
            self._let_in(*following)

    def _next(self) -> tuple[Call, Callable[[], None]] | None:
        with self._lock:
            while self._waiting and (self.limit is None or self._running < self.limit):
                turn, queue = self._waiting.popitem(last=False)
                call, begin = queue.popleft()
                if queue:
                    self._waiting[turn] = queue
                if not call.over:
                    self._running += 1
                    return call, begin
            self._admitting = False
            return None


class Gates:
    """Those of all agents, made as they are needed. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def of(self, spec: AgentSpec) -> Gate:
        """Return an agent's, with the limit that it has now."""
        limit = spec.max_concurrency
        if limit is None and spec.isolation == "process":
            limit = PROCESSES_PER_AGENT
        gate = self._gates.get(spec.name)
        if gate is None:
            with self._lock:
                gate = self._gates.setdefault(spec.name, Gate(limit))
        gate.limit = limit  # another one after a reload
        return gate

    def all(self) -> list[tuple[str, Gate]]:
        """Return those there are, by the agent's name."""
        with self._lock:
            return list(self._gates.items())
