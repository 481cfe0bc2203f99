"""The facts of a conversation: what its journal holds and what clients are told, one class per event type.

Events are flat. `seq` is gap-free per conversation from 1. `text`, `result` and `data` are stored once, beside the
journal (see persistence/entry.py), so they may be absent on an event that was loaded only to be folded.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from messages.base import Json, Message, Record, fields_of, record, serializer
from messages.failure import Failure
from messages.plan import NodeSpec

ReplyStatus = Literal["completed", "partial", "failed", "cancelled"]


class Missing(Message):
    """One branch that a reply has to do without, and why."""

    node: str
    reason: str
    attempts: int


@record
class EventBase(Record):
    """Fields of every event."""

    seq: int
    """Position in the conversation's journal; 0 on events that are passed on but not journaled."""
    at: int
    """Milliseconds since the Unix epoch, UTC."""
    conversation_id: str
    request_id: str | None = None
    cause: int | str | None = None
    """Sequence number of the event, or id of the message, that led to this one."""


@record
class MessageAccepted(EventBase):
    type: Literal["message.accepted"] = "message.accepted"
    message_id: str
    text: str = ""
    user_id: str | None = None
    planned: bool = False
    """True when the client sent a plan along."""
    next: bool = False
    """True when it goes before the messages already waiting (`interrupt`, `rollback`)."""
    traceparent: str | None = None
    """The sender's trace context, if it had one."""


@record
class MessageRefused(EventBase):
    type: Literal["message.refused"] = "message.refused"
    message_id: str
    code: str
    reason: str


@record
class PlanDrafted(EventBase):
    type: Literal["plan.drafted"] = "plan.drafted"
    nodes: tuple[NodeSpec, ...] = ()
    answer: str | None = None
    origin: Literal["client", "planner"] = "planner"


@record
class PlanFailed(EventBase):
    type: Literal["plan.failed"] = "plan.failed"
    attempt: int
    error: Failure
    delay: float | None = None
    """Seconds until the planner is asked again; absent when it is given up."""
    due: int | None = None
    """When that is, in milliseconds since the Unix epoch."""


@record
class NodeStarted(EventBase):
    type: Literal["node.started"] = "node.started"
    node: str
    agent: str
    attempt: int
    recovered: bool = False
    """True when this try replaces one that the daemon's own end cut off; it uses up no retry."""


@record
class NodeSucceeded(EventBase):
    type: Literal["node.succeeded"] = "node.succeeded"
    node: str
    agent: str
    attempt: int
    duration_ms: float
    result: Json = None
    cached: bool = False


@record
class NodeFailed(EventBase):
    type: Literal["node.failed"] = "node.failed"
    node: str
    agent: str
    attempt: int
    error: Failure
    duration_ms: float | None = None
    """How long the agent was at work; None when nobody knows, as after a crash."""


@record
class NodeRetrying(EventBase):
    type: Literal["node.retrying"] = "node.retrying"
    node: str
    agent: str
    attempt: int
    """The attempt that will be made."""
    delay: float
    """Seconds between the failure and that attempt."""
    due: int
    """When that is, in milliseconds since the Unix epoch."""
    reason: str
    """The rule that set the delay, in words."""


@record
class NodeSkipped(EventBase):
    type: Literal["node.skipped"] = "node.skipped"
    node: str
    agent: str
    attempt: int = 0
    reason: str


@record
class PhaseChanged(EventBase):
    type: Literal["phase.changed"] = "phase.changed"
    from_phase: str = Field(validation_alias="from", serialization_alias="from")
    to_phase: str = Field(validation_alias="to", serialization_alias="to")


@record
class SynthesisFailed(EventBase):
    type: Literal["synthesis.failed"] = "synthesis.failed"
    attempt: int
    error: Failure
    delay: float | None = None
    due: int | None = None


@record
class ReplySent(EventBase):
    type: Literal["reply.sent"] = "reply.sent"
    message_id: str
    text: str = ""
    data: dict[str, Json] = Field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    """Nodes whose results make up `data`."""
    missing: tuple[Missing, ...] = ()
    status: ReplyStatus
    forgotten: bool = False
    """True when a `rollback` took this request out of the conversation's memory."""


@record
class ConversationPaused(EventBase):
    type: Literal["conversation.paused"] = "conversation.paused"
    by: str | None = None
    reason: str | None = None


@record
class ConversationResumed(EventBase):
    type: Literal["conversation.resumed"] = "conversation.resumed"
    by: str | None = None
    reason: str | None = None


@record
class ConversationQuarantined(EventBase):
    type: Literal["conversation.quarantined"] = "conversation.quarantined"
    reason: str


@record
class AgentProgress(EventBase):
    """Passed on to listeners, never journaled: `seq` is 0 and is not shown."""

    type: Literal["agent.progress"] = "agent.progress"
    node: str
    agent: str
    attempt: int
    text: str


Journaled = (
    MessageAccepted
    | MessageRefused
    | PlanDrafted
    | PlanFailed
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeRetrying
    | NodeSkipped
    | PhaseChanged
    | SynthesisFailed
    | ReplySent
    | ConversationPaused
    | ConversationResumed
    | ConversationQuarantined
)
Event = Journaled | AgentProgress

JOURNALED: TypeAdapter[Journaled] = TypeAdapter(Annotated[Journaled, Field(discriminator="type")])
"""Validates JSON as the event its `type` names; unknown types and fields are refused."""


@lru_cache(maxsize=1_024)
def rfc3339(at: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds; of a time without a year, the nearest."""
    try:
        second = datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a spoilt row: its list is shown all the same
        return "9999-12-31T23:59:59.999Z" if at > 0 else "0001-01-01T00:00:00.000Z"
    return f"{second}.{at % 1000:03d}Z"


def public_json(event: Event) -> bytes:
    """Return what `to_public` returns as JSON: it is sent for every event, to everybody who listens."""
    if isinstance(event, _DEEP):
        return to_json(to_public(event), inf_nan_mode="null")
    # In one pass over what is to be shown, in place of a copy as plain data and a pass over that.
    public = _head(event)
    values = event.__dict__
    for key, name in _SHOWN.get(type(event)) or _shown(type(event)):
        public[name] = values[key]
    if isinstance(event, _SPARSE):
        for key in [key for key, value in public.items() if value is None and key not in _COMMON_FIELDS]:
            del public[key]
    elif isinstance(event, PlanDrafted) and event.answer is None:
        del public["answer"]
    return to_json(public, inf_nan_mode="null")


def _shown(kind: type[Event]) -> tuple[tuple[str, str], ...]:
    """Return the fields that are particular to a kind of event, with the names they are shown by."""
    hidden = _COMMON_FIELDS | ({"nodes"} if kind is ReplySent else set())
    fields = fields_of(kind).items()
    found = _SHOWN[kind] = tuple((key, field.serialization_alias or key) for key, field in fields if key not in hidden)
    return found


_SHOWN: dict[type[Event], tuple[tuple[str, str], ...]] = {}


def to_public(event: Event) -> dict[str, Any]:
    """Return the flat JSON-ready object that clients see (INTERFACE: events out)."""
    rest: dict[str, Any] = serializer(event).to_python(
        event, mode="json", exclude=_left_out(event), exclude_none=isinstance(event, _SPARSE)
    )
    return _head(event) | rest


def _head(event: Event) -> dict[str, Any]:
    values = event.__dict__
    head: dict[str, Any] = {"type": values["type"]}
    if values["seq"]:
        head["seq"] = values["seq"]
    head["at"] = rfc3339(values["at"])
    for key in ("conversation_id", "request_id", "cause"):
        head[key] = values[key]
    return head


def _left_out(event: Event) -> set[str]:
    if isinstance(event, ReplySent):
        return _COMMON_FIELDS | {"nodes"}
    if isinstance(event, PlanDrafted) and event.answer is None:
        return _COMMON_FIELDS | {"answer"}
    return _COMMON_FIELDS


_COMMON_FIELDS = {"type", "seq", "at", "conversation_id", "request_id", "cause"}
_SPARSE = (PlanFailed, SynthesisFailed, MessageAccepted, ConversationPaused, ConversationResumed)
"""Events whose absent fields are left out; elsewhere None is a value (a result may be null)."""
_DEEP = (PlanFailed, SynthesisFailed)
"""Those of them that have fields inside of fields."""
