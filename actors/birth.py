"""What every actor has from its birth on: its place in the tree, its mailbox, its address."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pykka

from actors.envelope import Envelope
from actors.futures import ActorFuture
from actors.mailbox import Mailbox
from actors.ref import ActorRef, urn
from actors.stages import STARTING
from actors.stop_flag import StopFlag
from messages.failure import Failure
from supervision.directives import Rules

if TYPE_CHECKING:
    from actors.actor_timer import Timer
    from actors.base import Actor
    from actors.system import ActorSystem


class Birth(pykka.Actor):
    """The fields of an actor; `prepare` sets them before the actor's own `__init__`."""

    kind: ClassVar[str] = ""
    """What the tree shows; the class's name when empty."""

    system: ActorSystem
    path: str
    """Place in the tree, such as `/conversations/c1/agents/stock`."""
    parent: ActorRef[Any] | None
    """Who hears of this actor's end."""
    incarnation: int
    """Which life at this path, from 1."""

    actor_inbox: Mailbox  # type: ignore[assignment]  # pykka's protocol, for our own envelopes
    actor_stopped: StopFlag  # type: ignore[assignment]  # stands for the threading.Event

    working_on: tuple[str, float] | None = None
    """What it waits for elsewhere, and since when (monotonic seconds): the tree shows it as the current message."""
    took_ms: float | None = None
    """Milliseconds that the work took which failed, for whoever is told of it."""

    rules: tuple[Rules, ...] = ()
    """What to do about errors that escape a handler, by class; innermost first. None said: the actor ends."""

    # Set on an instance only when needed: an idle actor should cost as little as it can.
    _state: int = STARTING
    _current: Any = None
    _since: float = 0.0
    _started_at: float = 0.0
    _children: dict[str, Actor] | None = None
    _timers: dict[Hashable, Timer] | None = None
    _watchers: list[ActorRef[Any]] | None = None
    _kept: list[Envelope] | None = None
    _stop_replies: list[pykka.Future[Any]] | None = None
    _needed: set[str] | None = None
    _detached: bool = False
    _failure: Failure | None = None
    _error: BaseException | None = None

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # pykka's own would make a random id and an event for each actor; `prepare` has set all that is needed.
        if not hasattr(self, "_actor_ref"):
            from actors.default_system import default_system, user_path  # noqa: PLC0415  # made only when it is used

            self.prepare(default_system(), user_path(type(self)), None, 1, None)

    def prepare(
        self,
        system: ActorSystem,
        path: str,
        parent: ActorRef[Any] | None,
        incarnation: int,
        mailbox: Mailbox | None,
    ) -> None:
        """Set what the actor finds in its own `__init__`; the system calls this."""
        self.system = system
        self.path = path
        self.parent = parent
        self.incarnation = incarnation
        if mailbox is None:
            mailbox = self._create_actor_inbox()
            mailbox.configure(system.mailbox_limit, system.monotonic)
        self.actor_inbox = mailbox
        self.actor_stopped = StopFlag()
        # All actors of a class share the table of their attributes' names only as long as none gets a name that the
        # first ones had not: an idle conversation would take a third more.
        self._state = STARTING
        self._current = self._children = self._timers = None
        self._since = 0.0
        self._started_at = system.monotonic()
        self._actor_ref = ActorRef(self)

    @staticmethod
    def _create_actor_inbox() -> Mailbox:  # type: ignore[override]  # pykka's protocol, for our own envelopes
        return Mailbox()

    @staticmethod
    def _create_future() -> ActorFuture[Any]:
        return ActorFuture()

    @property
    def actor_ref(self) -> ActorRef[Self]:
        """The address to give to others."""
        return cast("ActorRef[Self]", self._actor_ref)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # computed: a string for each of 100,000 actors adds up
        """The name pykka gives to an actor."""
        return urn(self.path, self.incarnation)
