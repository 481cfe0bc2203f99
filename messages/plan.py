"""What a plan is: as a client or planner writes it (`Plan`), and as it is run (`ResolvedPlan`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from messages.base import AgentName, Json, Message, NodeId, Record, Text, record

Join = Literal["all", "any"] | dict[Literal["quorum"], Annotated[int, Field(ge=1)]]
"""How many dependencies must have succeeded before a node starts."""

Effects = Literal["read", "write"]
OnUnknownOutcome = Literal["retry", "fail"]

ON_FAILURE_PATTERN = r"^(skip|fail|replan|fallback:[A-Za-z_][A-Za-z0-9_.-]{0,63})$"
OnFailure = Annotated[str, Field(pattern=ON_FAILURE_PATTERN)]


class PlanNode(Message):
    """One agent call as a planner or client writes it; what is left out comes from the agent's own settings."""

    id: NodeId
    """Unique within the plan."""
    agent: AgentName
    """Name of a registered agent."""
    task: str = ""
    """What this call is for, in words; shown to people, not interpreted."""
    inputs: dict[str, Json] = Field(default_factory=dict)
    """Arguments by parameter name. `{"$from": "node.path"}` anywhere inside stands for a part of that node's result."""
    after: list[NodeId] = Field(default_factory=list)
    """Nodes that must be done first although no data comes from them."""
    join: Join = "all"
    """How many of the dependencies must succeed."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Seconds for one attempt."""
    retries: Annotated[int, Field(ge=0, le=1_000)] | None = None
    """Attempts after the first."""
    on_failure: OnFailure | None = None
    """What a final failure of this node means for the request."""


class Plan(Message):
    """What a planner returns and a client may send along: nodes to run, or a direct answer."""

    nodes: list[PlanNode] | None = None
    answer: Annotated[Text, Field(min_length=1)] | None = None


@record
class NodeSpec(Record):
    """A node as it is run: every setting decided, so that a change of configuration never alters work in flight."""

    id: NodeId
    agent: AgentName
    task: str = ""
    inputs: dict[str, Json] = Field(default_factory=dict)
    depends_on: tuple[NodeId, ...] = ()
    """Nodes named by `after` or by a `$from`, in order of first mention."""
    need: int = 0
    """How many of `depends_on` must succeed: all of them, one (`any`), or the quorum. 0 when there are none."""
    timeout: float
    """Seconds for one attempt."""
    retries: int
    """Attempts after the first, per agent (a fallback agent has its own)."""
    on_failure: str = "skip"
    on_unknown_outcome: OnUnknownOutcome = "retry"
    effects: Effects = "read"
    approval: bool = False
    """True when a person must agree (`resume`) before the plan that holds this node runs."""
    contract: str = ""
    """Version of the agent's contract the plan was checked against (a short hash of both schemas)."""


@record
class ResolvedPlan(Record):
    """A checked plan, ready to run; a direct `answer` has no nodes."""

    nodes: tuple[NodeSpec, ...] = ()
    answer: str | None = None
    origin: Literal["client", "planner"] = "planner"
