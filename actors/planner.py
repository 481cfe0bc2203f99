"""The planner actor: one attempt at thinking up a plan for one message.

The thinking runs off the dispatcher; the plan is checked there too. Whatever goes wrong ends this actor, and its parent
decides whether and when another attempt is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from actors.attempt import AttemptActor
from actors.call import Call
from actors.execution import Execution
from messages.planning import DraftPlan, PlanReady

Planning = Callable[[DraftPlan], Any]
"""Thinks up and checks a plan: returns a `ResolvedPlan`, or a coroutine of one; may block."""


class PlannerActor(AttemptActor):
    """Answers one `DraftPlan` with `PlanReady`."""

    kind: ClassVar[str] = "planner"

    def __init__(self, execution: Execution, planning: Planning, timeout: float) -> None:
        super().__init__()
        self._execution = execution
        self._planning = planning
        self._timeout = timeout

    def begin(self, message: Any) -> Call:
        """Start thinking."""
        assert isinstance(message, DraftPlan)

        def think() -> Any:
            return self._planning(message)

        return self._execution.run_function(think, timeout=self._timeout, done=self.finished, name=self.kind)

    def succeed(self, message: Any, value: Any) -> None:
        """Tell the parent."""
        self.tell_parent(PlanReady(message.request_id, message.attempt, value))
