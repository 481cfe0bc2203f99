"""The part of the actor tree that keeps the doors' threads running: `/doors/redis` and one actor for each link."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from actors.base import Actor
from actors.child_plan import ChildPlan
from actors.supervising import SupervisingActor
from messages.lifecycle import Crash, RestartRequested
from supervision.backoff import Backoff
from supervision.intensity import Intensity
from supervision.spec import ChildSpec

_BACKOFF = Backoff(min_backoff=0.05, max_backoff=2.0, reset_backoff_after=10.0)
_FOR_EVER = Intensity(1_000, 60.0)
"""More than the backoff allows: a door that cannot be kept open must not take the daemon along."""


class Worker(Protocol):
    """A thread of a door. It outlives what is to be expected of its server; what else it raises ends it."""

    def start(self, ended: Callable[[BaseException], None], waits: Callable[[str | None], None]) -> None:
        """Begin, once an earlier thread has ended. `waits` is told what it waits for, None when it works."""

    def halt(self) -> None:
        """Let the thread end soon; it may be started again."""


@dataclass(frozen=True, slots=True)
class _Ended:
    incarnation: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class _Waits:
    incarnation: int
    reason: str | None


class DoorWorker(Actor):
    """Owns one thread: when that fails this actor fails, and supervision begins both anew."""

    kind: ClassVar[str] = "door"

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def on_start(self) -> None:
        """Start the thread."""
        mine, ref, system = self.incarnation, self.actor_ref, self.system
        self._worker.start(
            lambda error: system.tell(ref, _Ended(mine, error)),
            lambda reason: system.tell(ref, _Waits(mine, reason)),
        )

    def on_receive(self, message: Any) -> None:
        """Follow the thread; what an earlier life's thread says is over."""
        match message:
            case _Ended(incarnation, error):
                if incarnation == self.incarnation:
                    raise error
            case _Waits(incarnation, reason):
                if incarnation == self.incarnation:
                    self.working_on = None if reason is None else (reason, time.monotonic())
            case Crash():
                raise RestartRequested(f"restart asked for by {message.by}")
            case _:
                super().on_receive(message)

    def on_stop(self) -> None:
        """Take the thread along."""
        self._worker.halt()

    def on_failure(self, *_exc_info: object) -> None:
        """Take the thread along; the next life's waits for its end."""
        self._worker.halt()


class Doors(SupervisingActor):
    """Keeps what is below it running whatever happens."""

    kind: ClassVar[str] = "doors"


def doors_plan(doors: Mapping[str, Mapping[str, Worker]], jitter: Callable[[], float] = random.random) -> ChildPlan:
    """Return how the root starts `/doors`: for each door the workers that belong to it, by name."""
    groups = [
        _supervising(name, [ChildPlan(_spec(one), DoorWorker, (worker,)) for one, worker in workers.items()], jitter)
        for name, workers in doors.items()
    ]
    return _supervising("doors", groups, jitter)


def _supervising(name: str, plans: list[ChildPlan], jitter: Callable[[], float]) -> ChildPlan:
    return ChildPlan(_spec(name), Doors, (plans,), {"intensity": _FOR_EVER, "jitter": jitter})


def _spec(name: str) -> ChildSpec:
    return ChildSpec(id=name, backoff=_BACKOFF, retry_permanent_errors=True, retry_fatal_errors=True)
