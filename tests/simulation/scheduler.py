"""The dispatcher of one daemon: tells the world who can run; the world picks by the seed, one message at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading

    from simulation.world import World


class SimulatedDispatcher:
    """Only the world's loop runs actors, so never two at once; mailboxes keep the order of each sender."""

    def __init__(self, world: World, life: Any) -> None:
        self._world = world
        self._life = life

    def schedule(self, actor: Any) -> None:
        self._world.runnable.append((self._life, actor))

    def start(self) -> None:
        """The world's loop is running."""

    def stop(self, timeout: float) -> bool:
        return True

    def wait(self, done: threading.Event, timeout: float) -> bool:
        """Go on with the world until `done`, as an orderly stop does."""
        deadline = self._world.clock.now + timeout
        while not done.is_set() and self._world.clock.now < deadline:
            self._world.step()
        return done.is_set()
