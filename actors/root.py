"""The root of the tree, `/`: above it is nobody, so when it gives up its owner is told, and has to end the process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Final

from actors.child_plan import ChildPlan
from actors.ref import ActorRef
from actors.supervising import SupervisingActor
from actors.system import ActorSystem
from messages.lifecycle import Crash
from supervision.intensity import Intensity

ROOT_PATH: Final = "/"
ROOT_INTENSITY: Final = Intensity(5, 60.0)
"""More than five restarts a minute of the few actors that all others hang on: a new process is the better restart."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the root does now and then to show that messages are handled."""

    every: float
    """Seconds."""
    beat: Callable[[], None]
    """Must neither block nor raise."""


@dataclass(frozen=True, slots=True)
class _Beat:
    """The next pulse is due."""


class Root(SupervisingActor):
    """Supervises what the daemon cannot be without.

    Its pulse goes through its mailbox and a dispatcher's thread like any message: when actors no longer run, it stops.
    """

    kind: ClassVar[str] = "root"

    def __init__(
        self,
        plans: Iterable[ChildPlan],
        on_failed: Callable[[BaseException | None], None],
        jitter: Callable[[], float] = random.random,
        pulse: Pulse | None = None,
    ) -> None:
        super().__init__(plans, intensity=ROOT_INTENSITY, jitter=jitter)
        self._on_failed = on_failed
        self._pulse = pulse

    def on_start(self) -> None:
        """Start the children, and the pulse."""
        super().on_start()
        self._next_beat()

    def on_receive(self, message: Any) -> Any:
        """Take a beat; the rest is supervision's."""
        if isinstance(message, Crash):
            self.system.dead_letters.add(self.path, "nobody would start the root again", message)
            return None
        if not isinstance(message, _Beat):
            return super().on_receive(message)
        if self._pulse is not None:
            self._pulse.beat()
        self._next_beat()
        return None

    def _next_beat(self) -> None:
        if self._pulse is not None:
            self.schedule(self._pulse.every, _Beat(), "pulse")

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Tell the owner why nothing works any more."""
        super().on_failure(exception_type, exception_value, traceback)
        self._on_failed(exception_value)


def start_root(
    system: ActorSystem,
    plans: Iterable[ChildPlan],
    on_failed: Callable[[BaseException | None], None],
    jitter: Callable[[], float] = random.random,
    pulse: Pulse | None = None,
) -> ActorRef[Root]:
    """Start the root of a system; `on_failed` is called once, from a dispatcher thread, and must not block."""
    return system.spawn(Root, ROOT_PATH, plans, on_failed, jitter, pulse)
