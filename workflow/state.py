"""The state of one conversation: frozen data, changed only by `evolve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from messages.failure import Failure
from messages.frozen import Changeable, frozen_dict
from messages.plan import NodeSpec


class Phase(StrEnum):
    """Where a conversation stands; the moves between phases are the table in workflow/phases.py."""

    INITIALIZING = "initializing"
    PLANNING = "planning"
    AWAITING_APPROVAL = "awaiting_approval"
    EXECUTING_SINGLE = "executing_single"
    EXECUTING_PARALLEL = "executing_parallel"
    ERROR_HANDLING = "error_handling"
    SYNTHESIZING = "synthesizing"
    RESPONDING = "responding"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    PAUSED = "paused"

    __hash__ = str.__hash__  # Enum's own is a Python function, and tables are looked up all the time


class NodeStatus(StrEnum):
    """What became of one node."""

    PENDING = "pending"
    """Waits for its dependencies."""
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    """Failed; its next attempt is due at `retry_at`."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Never ran: what it needed failed, or nobody needs it any more."""

    __hash__ = str.__hash__  # as above


SETTLED: Final = frozenset({NodeStatus.SUCCEEDED, NodeStatus.FAILED, NodeStatus.SKIPPED})


class _Lost:
    """The result was recorded but its body was not kept (`persist_agent_state` off): the node must run again."""

    def __repr__(self) -> str:
        return "LOST"


LOST: Final = _Lost()


@frozen_dict
class Node(Changeable):
    """One node of the plan and what became of it."""

    spec: NodeSpec
    status: NodeStatus = NodeStatus.PENDING
    agent: str = ""
    """The agent that runs it: the planned one, or the fallback."""
    attempts: int = 0
    """Every try, the first and those cut off by a crash included."""
    failures: int = 0
    """Failures of the present agent: what retries are counted against."""
    failure: Failure | None = None
    """The last one."""
    reason: str = ""
    """Why it was skipped or given up."""
    retry_at: int | None = None
    """When the next attempt is due, in milliseconds since the epoch."""
    retry_delay: float | None = None
    """The same as a delay in seconds, in case the clock is set back."""
    result: Any = None
    plan_seq: int = 0
    """Sequence number of the `plan.drafted` that brought it."""
    event_seq: int = 0
    """Sequence number of the newest event about this node."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """How often the planner or the synthesizer was tried, and when it is tried next."""

    failures: int = 0
    retry_at: int | None = None
    retry_delay: float | None = None
    given_up: Failure | None = None


@frozen_dict
class Request(Changeable):
    """One accepted message on its way to its one reply."""

    request_id: str
    message_id: str
    accepted_seq: int
    text: str = ""
    user_id: str | None = None
    planned: bool = False
    """True once there is a plan or an answer."""
    answer: str | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    """By node id, in plan order. Never changed in place."""
    spent: dict[str, int] = field(default_factory=dict)
    """Attempts made at nodes that a new plan dropped, by node id."""
    planning: Attempted = Attempted()
    synthesis: Attempted = Attempted()
    replans: int = 0
    replanning: bool = False
    """True while a new plan is being thought up because of a failure."""
    approved: bool = False
    plan_seq: int = 0
    """Sequence number of the newest `plan.drafted`."""
    begun_at: int | None = None
    """When its turn came, in milliseconds since the epoch; None while it waits."""
    traceparent: str | None = None
    """The trace context it came with."""


@frozen_dict
class State(Changeable):
    """One conversation."""

    conversation_id: str
    seq: int = 0
    """Newest sequence number."""
    phase: Phase = Phase.INITIALIZING
    paused_from: Phase | None = None
    """The phase to go back to, while paused."""
    request: Request | None = None
    """The running one."""
    queue: tuple[Request, ...] = ()
    """Accepted, waiting their turn."""
    turns: int = 0
    """Replies sent."""
    quarantined: str | None = None
    """Why this conversation is not resumed, if it is not."""
