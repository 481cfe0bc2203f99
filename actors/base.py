"""What an actor can do, and the hooks it may have: the base of every actor, which is pykka's with a parent.

Its fields are in actors/birth.py, how a dispatcher runs it in actors/life.py, how it ends in actors/ending.py. Rules:

- A failing `ask` answers the caller and the actor lives. Whatever else escapes (from `on_start`, a `tell`, a timer)
  ends the actor and nothing but the actor: `on_failure` runs, all below it ends, the parent is told `ChildFailed`.
- An actor has ended only when everything below it has. Children are ended at once, before the messages they still
  have; an actor asked to stop handles what it was sent before.
- What it had not handled stays in its mailbox, which goes to the parent with the report, for the successor. Without a
  parent it becomes dead letters.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import TracebackType
from typing import Any, Self, TypeVar

from actors.actor_timer import Timer
from actors.envelope import Envelope
from actors.life import Life
from actors.mailbox import Mailbox
from actors.ref import ActorRef, Stop
from messages.lifecycle import ChildFailed, ChildStopped, Terminated

A = TypeVar("A", bound="Actor")


class Actor(Life):
    """Write `on_receive(message)`, and if needed `on_start`, `on_stop`, `on_failure`; start with `spawn`."""

    # What an actor can do

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start an actor the way pykka's users do: on the process's default system, at `/user/<Class>-<n>`."""
        from actors.default_system import default_system, user_path  # noqa: PLC0415  # made only when it is used

        return default_system().launch(cls, user_path(cls), args, kwargs)

    def spawn(
        self,
        actor_class: type[A],
        name: str,
        *args: Any,
        mailbox: Mailbox | None = None,
        incarnation: int = 1,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start a child at `<path>/<name>`; `mailbox` is what its predecessor had not handled.

        Raises what the child's `__init__` raises, and `ValueError` when the path is in use.
        """
        return self.system.launch(
            actor_class,
            self.path_of(name),
            args,
            kwargs,
            parent=self.actor_ref,
            mailbox=mailbox,
            incarnation=incarnation,
        )

    def path_of(self, name: str) -> str:
        """Return where a child of that name is in the tree."""
        return f"/{name}" if self.path == "/" else f"{self.path}/{name}"

    def schedule(self, delay_s: float, message: Any, key: Hashable | None = None) -> Timer:
        """Send `message` to this actor in `delay_s` seconds, instead of what was scheduled with the same `key`.

        It is handled as if it had been told; it is never handled after it was cancelled, replaced, or the actor ended.
        """
        if key is not None:
            self.unschedule(key)
        timer = Timer(self, key, message)
        if self._timers is None:
            self._timers = {}
        self._timers[timer.key] = timer
        timer.start(delay_s)
        return timer

    def unschedule(self, key: Hashable) -> None:
        """Cancel what was scheduled with `key`, if anything."""
        timer = (self._timers or {}).get(key)
        if timer is not None:
            self.drop_timer(timer)

    def drop_timer(self, timer: Timer) -> None:
        """Cancel one timer, unless another has taken its key."""
        timers = self._timers
        if timers is not None and timers.get(timer.key) is timer:
            del timers[timer.key]
        timer.silence()

    def watch(self, ref: ActorRef[Any], *, needed: bool = False) -> None:
        """Get `Terminated` once, when the actor behind `ref` has ended; at once if it has already.

        With `needed` this actor cannot go on without it: it fails with `NeededActorEnded` instead, and is supervised.
        """
        if needed:
            self._needed = {*(self._needed or ()), ref.path}
        self.system.watch(self.actor_ref, ref)

    def unwatch(self, ref: ActorRef[Any]) -> None:
        """Watch no longer."""
        if self._needed is not None:
            self._needed.discard(ref.path)
        self.system.unwatch(self.actor_ref, ref)

    def tell_parent(self, message: Any) -> None:
        """Tell the parent; without a living one the message is a dead letter."""
        if self.parent is None:
            self.system.dead_letters.add(self.path, "there is no parent", message)
        else:
            self.system.tell(self.parent, message)

    def discard(self, mailbox: Mailbox, path: str, reason: str = "its actor was not restarted") -> None:
        """Make dead letters of what a child left behind that gets no successor; waiting asks are answered."""
        self.system.discard(mailbox, path, reason)

    def log(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Log an event of this actor."""
        self.system.tell_log(event, level, {"actor": self.path, **fields})

    def stop(self) -> None:
        """End after the messages already in the mailbox."""
        self.actor_inbox.put(Envelope(Stop(self._actor_ref)))

    def stop_now(self) -> None:
        """End with this turn; the messages in the mailbox are left to whoever is told of the end."""
        self.actor_inbox.put_first(Envelope(Stop(self._actor_ref)))

    # Hooks

    def may_end(self) -> bool:
        """Return whether this actor ends now that it was asked to; one that says no must call `stop` when it can."""
        return True

    def on_receive(self, message: Any) -> Any:
        """Handle a message. What is not handled by an override comes here and is a dead letter."""
        if isinstance(message, (ChildFailed, ChildStopped)):
            self.discard(message.mailbox, message.path)
        elif not isinstance(message, Terminated):
            self.system.dead_letters.add(self.path, "its actor does not understand it", message)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clean up after a failure, before the actor's children end; also when it was `on_start` that failed."""
