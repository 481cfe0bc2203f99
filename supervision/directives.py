"""What an actor's own rules say about an error: stop, restart or resume; the most specific class decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum


class OnError(StrEnum):
    """What follows an error that escaped a handler."""

    STOP = "stop"
    """The actor ends and is not started again."""
    RESTART = "restart"
    """The actor ends and a new life begins, as often as its spec allows, whatever class the error is of."""
    RESUME = "resume"
    """The message is given up; the actor lives on with its state."""


Rules = Mapping[type[BaseException], OnError]


def rule_for(layers: Sequence[Rules], error: BaseException) -> OnError | None:
    """Return what the rules say; None when none of them knows the error.

    `layers` are nested rules, the innermost first. Over all of them the class nearest to the error's own wins; where
    two layers name the same class, the inner one does. A fatal error (one that is no `Exception`) is never resumed.
    """
    for kind in type(error).__mro__:
        for rules in layers:
            found = rules.get(kind)
            if found is not None:
                fatal = not isinstance(error, Exception)
                return None if fatal and found is OnError.RESUME else found
    return None
