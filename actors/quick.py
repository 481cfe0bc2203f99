"""The quick lane: async agents that answer at once need no actor of their own.

Most attempts of a fast async agent are over before an actor for them would have read its first message. Here such an
attempt begins as a bare task; those of one conversation that succeed in the same moment come back in one message, so
that they share one step of the journal. What takes longer, or fails, gets its actor, which takes the attempt over as it
is (`Adopt`): from there on it is seen, stopped and supervised like any other.

It buys about three quarters of what an attempt costs besides the agent itself (docs/performance.md).
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from actors.gate import Gate
from actors.timers import TimerHandle, TimerService
from agents.errors import AgentTimeout
from agents.spec import AgentSpec
from messages.agent import RunNode
from messages.frozen import frozen

SLOW_AFTER: Final = 0.1
"""Seconds after which an attempt gets its actor, even if the event loop has not come to it: its timeout must hold.

Shorter, and under load much would be handed over that only waits for the interpreter; longer, and a person looking at
the tree would miss what works.
"""

Tell = Callable[[Any], None]

_CLOSING: Final = threading.Lock()
"""Held for a few instructions at the end of each call: one for all is cheaper than one for each."""


@frozen
class QuickEnded:
    """These attempts have ended, each with its outcome."""

    calls: Sequence[QuickCall]


@frozen
class QuickSlow:
    """These attempts take their time: each needs its actor."""

    calls: Sequence[QuickCall]


@frozen
class Adopt:
    """The first message of an actor that takes an attempt over."""

    call: QuickCall


class Host(Protocol):
    """What the lane needs of whoever runs agents."""

    @property
    def quick_timers(self) -> TimerService:
        """What keeps the time of attempts that take longer."""

    def now(self) -> float:
        """Return seconds of the monotonic clock."""

    def admit_quick(self, spec: AgentSpec, order: RunNode) -> tuple[AgentSpec, Gate, int] | None:
        """Return the agent, its gate with a place taken, and its breaker's era; None: it is not for this lane."""

    def begin_quick(self, batch: Batch) -> None:
        """Run the attempts of a batch; `batch.flush` follows once each has made its first step."""

    def flush_quick(self, batch: Batch) -> None:
        """Let `batch.flush` follow once whatever ends in this moment has ended."""

    def stop_quick(self, work: Any) -> None:
        """Stop what `QuickCall.work` says, if anything."""

    def judge_quick(self, spec: AgentSpec, era: int, outcome: Any) -> None:
        """Tell the agent's breaker how it went."""

    def late_quick(self, order: RunNode, outcome: Any) -> None:
        """Hear of an outcome that nobody waits for any more."""


class QuickCall:
    """One attempt. It is over when it ended, when its timeout came, or when it was given up."""

    __slots__ = (
        *("_batch", "_era", "_gate", "_heir", "_host", "_timer"),
        *("adopted", "began", "order", "outcome", "over", "spec", "work"),
    )

    def __init__(self, host: Host, order: RunNode, admitted: tuple[AgentSpec, Gate, int], batch: Batch) -> None:
        self.order = order
        self.spec, self._gate, self._era = admitted
        self.outcome: Any = None
        """A `NodeResult` or an exception; None when it was given up, and before."""
        self.over = False
        self.adopted = False
        """Whether an actor has it, or is about to; for the one who began it."""
        self.work: Any = None
        """What its host stops it by; set when it has begun, and until it has ended."""
        self.began = batch.began
        self._host = host
        self._batch = batch
        self._heir: Callable[[Any], None] | None = None
        self._timer: TimerHandle | None = None

    def end(self, outcome: Any) -> None:
        """Note the outcome, and tell it unless the call is over already."""
        self.work = None
        if not self._close(outcome):
            if not isinstance(outcome, CancelledError):  # that is our own doing
                self._host.late_quick(self.order, outcome)
        elif self._heir is not None:
            self._heir(outcome)
        else:
            self._batch.ended(self, self._host)

    def abandon(self) -> None:
        """Give it up: its outcome is never told, and the work is stopped where that is possible."""
        if self._close(None):
            self._host.stop_quick(self.work)

    def adopt(self, heir: Callable[[Any], None]) -> None:
        """Tell `heir` the outcome, now if there is one; from now on the timeout holds."""
        with _CLOSING:
            if not self.over:
                self._heir = heir
                left = self.began + self.order.timeout - self._host.now()
                self._timer = self._host.quick_timers.schedule(left, self._time_out)
                return
        if self.outcome is not None:
            heir(self.outcome)

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since it began."""
        return round((self._host.now() - self.began) * 1000, 3)

    def _time_out(self) -> None:
        outcome = AgentTimeout(f"no result within {self.order.timeout:g} s")
        if self._close(outcome):
            self._host.stop_quick(self.work)
            assert self._heir is not None  # only who has one has a timer
            self._heir(outcome)

    def _close(self, outcome: Any) -> bool:
        with _CLOSING:
            if self.over:
                return False
            self.over = True
            self.outcome = outcome
        if self._timer is not None:
            self._timer.cancel()
        self._host.judge_quick(self.spec, self._era, outcome)
        self._gate.leave()
        return True


class Batch:
    """Attempts that began at the same moment, for one conversation."""

    __slots__ = ("_due", "_ready", "_tell", "began", "calls")

    def __init__(self, tell: Tell, began: float) -> None:
        self.calls: list[QuickCall] = []
        self.began = began
        self._ready: list[QuickCall] = []
        self._due = True
        """Whether `flush` will follow; at first it does."""
        self._tell = tell

    def progress(self, message: Any) -> None:
        """Pass on what an agent says while it works."""
        self._tell(message)

    def ended(self, call: QuickCall, host: Host) -> None:
        """Gather what ends in one moment."""
        self._ready.append(call)
        if not self._due:
            self._due = True
            host.flush_quick(self)

    def flush(self) -> None:
        """Tell what has ended by now."""
        ready, self._ready, self._due = self._ready, [], False
        # What has ended is let go of: it knows this batch, and would wait for the collector.
        self.calls = [call for call in self.calls if not call.over]
        if ready:
            self._tell(QuickEnded(ready))

    def slow(self) -> None:
        """Tell what has not ended by now; whoever is told has it from now on."""
        calls = [call for call in self.calls if not call.over]
        self.calls = []  # as in `flush`
        if calls:
            self._tell(QuickSlow(calls))


class QuickLane:
    """For the agents that `find` knows by name. Every method may be called from any thread."""

    def __init__(self, host: Host, find: Callable[[str], AgentSpec | None]) -> None:
        self._host = host
        self._find = find
        self._begun: deque[Batch] = deque()
        self._lock = threading.Lock()
        self._watching = False

    def run(self, orders: Sequence[RunNode], tell: Tell) -> list[QuickCall | None]:
        """Begin what may go this way, in order; None stands for what needs an actor from the start.

        `tell` gets `QuickEnded`, `QuickSlow` and `Progress`, from any thread; it must not raise.
        """
        batch = Batch(tell, self._host.now())
        made: list[QuickCall | None] = []
        for order in orders:
            spec = self._find(order.agent)
            admitted = None if spec is None else self._host.admit_quick(spec, order)
            call = None if admitted is None else QuickCall(self._host, order, admitted, batch)
            made.append(call)
            if call is not None:
                batch.calls.append(call)
        if batch.calls:
            # First: handed over before the host has seen its calls, it would have none left to begin.
            self._host.begin_quick(batch)
            self._begun.append(batch)
            if not self._watching:
                self._watch()
        return made

    def _watch(self) -> None:
        with self._lock:
            if self._watching:
                return
            self._watching = True
        self._host.quick_timers.schedule(SLOW_AFTER, self._look)

    def _look(self) -> None:
        """Hand over what has begun long enough ago; look again while there is anything left."""
        before = self._host.now() - SLOW_AFTER
        begun = self._begun
        while begun and begun[0].began <= before:
            begun.popleft().slow()
        if begun:
            self._host.quick_timers.schedule(SLOW_AFTER, self._look)
            return
        self._watching = False
        if begun:  # one came between the two lines above
            self._watch()
