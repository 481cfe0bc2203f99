"""The address of a live actor: pykka's ref, which dies with its actor, made light and quick."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

import pykka

from actors.envelope import Envelope
from actors.futures import ActorFuture

if TYPE_CHECKING:
    from actors.birth import Birth
    from actors.mailbox import Mailbox
    from actors.stop_flag import StopFlag

A = TypeVar("A", bound="Birth")


class Stop(NamedTuple):
    """Ask an actor to end. It names one life: a late one does not end the successor, who has the same mailbox."""

    ref: Any


class ActorRef(pykka.ActorRef[A]):
    """May be passed around and used from any thread."""

    __slots__ = ("_actor_weakref", "actor_class", "actor_inbox", "actor_stopped", "incarnation", "path")

    actor_class: type[A]
    actor_inbox: Mailbox  # type: ignore[assignment]  # pykka's protocol, for our own envelopes
    actor_stopped: StopFlag  # type: ignore[assignment]  # stands for the threading.Event
    path: str
    """Place in the actor tree, such as `/conversations/c1/agents/stock`."""
    incarnation: int
    """Which life of the actor at this path."""

    def __init__(self, actor: A) -> None:
        self._actor_weakref = weakref.ref(actor)
        self.actor_class = actor.__class__
        self.actor_inbox = actor.actor_inbox
        self.actor_stopped = actor.actor_stopped
        self.path = actor.path
        self.incarnation = actor.incarnation

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # computed: a string for each of 100,000 actors adds up
        """The name pykka gives to an actor; unique within its system."""
        return urn(self.path, self.incarnation)

    def is_alive(self) -> bool:
        """Return whether the actor still takes messages."""
        return not self.actor_stopped.is_set()

    def tell(self, message: Any) -> None:
        """Send a message without waiting. Raises `pykka.ActorDeadError` when the actor has ended."""
        if self.actor_stopped.is_set():
            raise pykka.ActorDeadError(f"{self} not found")
        self.actor_inbox.put(Envelope(message))

    @overload
    def ask(self, message: Any, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | pykka.Future[Any]: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | pykka.Future[Any]:
        """Send a message and return the answer, or a future of it. For tests and the console, not between actors.

        Raises `pykka.Timeout` after `timeout` seconds, `pykka.ActorDeadError` when the actor has ended, and whatever
        the actor raised.
        """
        future = self.actor_class._create_future()  # noqa: SLF001  # pykka's hook for actor types
        if self.actor_stopped.is_set():
            error = pykka.ActorDeadError(f"{self} not found")
            future.set_exception((type(error), error, None))
        else:
            self.actor_inbox.put(Envelope(message, future))
        return future.get(timeout=timeout) if block else future

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[bool]: ...

    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]:
        """Ask the actor to end after what it was sent before; the answer comes when it and all below it have ended.

        True if it was alive, False if it had ended before.
        """
        asked = self.ask(Stop(self), block=False)
        ended: ActorFuture[bool] = ActorFuture()
        ended.follow(asked, lambda timeout: _was_alive(asked, timeout))
        return ended.get(timeout=timeout) if block else ended


def urn(path: str, incarnation: int) -> str:
    """Return pykka's kind of name for an actor."""
    return f"urn:actor:{path}#{incarnation}"


def _was_alive(answer: pykka.Future[Any], timeout: float | None) -> bool:
    try:
        answer.get(timeout=timeout)
    except pykka.ActorDeadError:
        return False
    return True
