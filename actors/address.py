"""Where a supervised child is reached in all its lives, and between them: a ref dies with its actor, this does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pykka

from actors.envelope import Envelope
from actors.futures import ActorFuture
from actors.mailbox import Mailbox

if TYPE_CHECKING:
    from actors.system import ActorSystem

STASH_FULL = "its stash was full while it waited for its restart"


class Address:
    """Safe to use from any thread.

    Between two lives messages are kept for the next one, as many as its mailbox's limit. One more is a dead letter, and
    an `ask` is answered with an error; so is all that comes when no life follows.
    """

    __slots__ = ("_system", "mailbox", "path")

    def __init__(self, system: ActorSystem, path: str, mailbox: Mailbox) -> None:
        self._system = system
        self.path = path
        self.mailbox = mailbox

    def tell(self, message: Any) -> bool:
        """Send a message; False when it is a dead letter because too many wait for the next life. Never raises."""
        if self._put(Envelope(message)):
            return True
        self._system.dead_letters.add(self.path, STASH_FULL, message)
        return False

    def ask(self, message: Any) -> pykka.Future[Any]:
        """Send a message and return a future of the answer, which comes from the next life if there is none now."""
        future: ActorFuture[Any] = ActorFuture()
        if not self._put(Envelope(message, future)):
            error = pykka.ActorDeadError(f"{self.path}: {STASH_FULL}")
            future.set_exception((type(error), error, None))
        return future

    def _put(self, envelope: Envelope) -> bool:
        mailbox = self.mailbox
        if mailbox.attached or mailbox.closed:
            mailbox.put(envelope)  # a closed one knows where its messages go
            return True
        return mailbox.offer(envelope)
