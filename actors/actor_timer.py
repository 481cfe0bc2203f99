"""What an actor schedules for itself: one message, and the clock that brings it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from actors.envelope import Envelope

if TYPE_CHECKING:
    from actors.base import Actor
    from actors.timers import TimerHandle


class Timer:
    """A message an actor will get from itself."""

    __slots__ = ("_actor", "_handle", "key", "message")

    def __init__(self, actor: Actor, key: Hashable | None, message: Any) -> None:
        self._actor = actor
        self._handle: TimerHandle | None = None
        self.key: Hashable = self if key is None else key
        self.message = message

    def start(self, delay_s: float) -> None:
        """Begin to wait."""
        self._handle = self._actor.system.timers.schedule(delay_s, self._fire)

    def cancel(self) -> None:
        """Make sure the message is not handled, even if it is in the mailbox already."""
        self._actor.drop_timer(self)

    def silence(self) -> None:
        """Let go of the clock."""
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        self._actor.actor_inbox.put(Envelope(self))
