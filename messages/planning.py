"""The dialogue with the planner: what shall be done about this message."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from messages.failure import Failure
from messages.frozen import frozen
from messages.plan import ResolvedPlan


@frozen
class DraftPlan:
    """Think up a plan for one message. Answered by `PlanReady` or, after a crash, `ChildFailed`."""

    conversation_id: str
    request_id: str
    attempt: int
    text: str
    user_id: str | None
    context: str
    """The conversation so far, within `max_context_tokens`."""
    finished: dict[str, Any] = field(default_factory=dict)
    """Results a replanned request already has, by node id: a new plan may refer to them and need not repeat them."""
    failed: dict[str, Failure] = field(default_factory=dict)
    """What failed before, by node id, when the request is being replanned."""


@frozen
class PlanReady:
    """A checked plan."""

    request_id: str
    attempt: int
    plan: ResolvedPlan


@frozen
class PlannerFailed:
    """The planner failed; `retry_in` is what supervision decided."""

    request_id: str
    attempt: int
    failure: Failure
    retry_in: float | None
    """Seconds until it is asked again; None when it is given up."""
