"""Why the core takes no notice of a message: it was illegal, stale, or refused. Nothing has changed in any case."""

from __future__ import annotations


class NotTaken(Exception):
    """The message means nothing here; the state is as it was."""

    code = "not_taken"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Illegal(NotTaken):
    """The transition table has no entry for this message in this phase."""

    code = "wrong_state"


class Stale(NotTaken):
    """It belongs to an attempt or a request that is over: fenced off, never a result."""

    code = "stale"


class RefusedByWorkflow(NotTaken):
    """A message from outside that this conversation does not take now; its sender is told the code."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
