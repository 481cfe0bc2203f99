"""The dialogue between an actor and its parent: births, deaths, restarts, timers."""

from __future__ import annotations

from typing import Any

from messages.failure import Failure
from messages.frozen import frozen


@frozen
class ChildFailed:
    """A child crashed: everything that escaped it, in any way, ends here and nowhere else."""

    path: str
    incarnation: int
    """Which life of the child it was; a report about an older one is stale."""
    failure: Failure
    error: BaseException | None
    """The exception itself, for classing; never stored, logged or shown."""
    mailbox: Any
    """Messages the child had not handled, kept for its successor."""
    lifetime: float
    """Seconds the child had lived."""
    took_ms: float | None = None
    """Milliseconds that the work took which failed, if it was that."""


@frozen
class ChildStopped:
    """A child ended as it was asked to, or by itself without an error."""

    path: str
    incarnation: int
    mailbox: Any


@frozen
class Terminated:
    """A watched actor is gone (death watch)."""

    path: str
    reason: str


@frozen
class RestartChild:
    """The backoff before a child's next life is over."""

    path: str
    incarnation: int


@frozen
class Passivate:
    """Stop if you are idle: the conversation costs nothing but its rows until somebody speaks again."""


@frozen
class Recovered:
    """The state was loaded from the store: what was running when its owner ended must be taken up again."""


@frozen
class Crash:
    """A person wants this actor restarted: it ends as if it had failed, and supervision does the rest."""

    by: str


class NeededActorEnded(Exception):
    """An actor ended that the one who raises this had watched because it cannot go on without it."""

    error_class = "transient"


class RestartRequested(Exception):
    """A person asked for a restart."""

    error_class = "transient"
