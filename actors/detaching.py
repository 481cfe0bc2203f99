"""Taking an actor out of the tree that does not end by itself: its mailbox goes on, its code runs out alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pykka
from pykka import messages as pykka_messages

from actors.actor_timer import Timer
from actors.base import Actor
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from actors.ref import Stop
from messages.lifecycle import ChildFailed, ChildStopped, Terminated

if TYPE_CHECKING:
    from actors.system import ActorSystem


def detach(system: ActorSystem, actor: Actor) -> Mailbox:
    """Give the actor an order to end and nothing else; return the mailbox that has what it had not handled.

    The system has taken it out of its tables before. What it set aside for a successor comes first.
    """
    watchers, actor._watchers = actor._watchers, None  # noqa: SLF001  # the runtime's own field
    left = Mailbox()
    left.configure(actor.actor_inbox.limit, system.monotonic)
    pass_on = partial(_pass_on, system, actor.path, left)
    kept, actor._kept = actor._kept, None if actor._kept is None else []  # noqa: SLF001  # as above
    for envelope in kept or ():
        pass_on(envelope)
    actor.actor_inbox.divert(pass_on, Envelope(Stop(actor.actor_ref)))
    for watcher in watchers or ():
        watcher.actor_inbox.put(Envelope(Terminated(actor.path, "it did not end and was taken out of the tree")))
    return left


def _pass_on(system: ActorSystem, path: str, left: Mailbox, envelope: Envelope) -> None:
    """Keep what a successor should have; the rest concerned this life only, and is answered."""
    message = envelope.message
    if isinstance(message, (ChildFailed, ChildStopped)):
        system.discard(message.mailbox, message.path, "its parent has ended")
    elif isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
        if envelope.reply_to is not None:
            envelope.reply_to.set(None)
    elif isinstance(message, (Timer, Terminated)):
        return
    elif envelope.reply_to is not None:
        error = pykka.ActorDeadError(f"{path} stopped before handling the message")
        envelope.reply_to.set_exception((type(error), error, None))
    else:
        left.put(envelope)
