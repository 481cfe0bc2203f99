"""The dialogue at the front door: what a client may say, and what it is answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from messages.base import ConversationId, Message, MessageId, Text
from messages.plan import Plan
from messages.trace import TRACEPARENT_PATTERN, is_traceparent

BusyPolicy = Literal["enqueue", "reject", "interrupt", "rollback"]


def _traceparent(text: str) -> str:
    if not is_traceparent(text):
        message = "must be a W3C trace context: 00-<32 digits>-<16 digits>-<2 digits>, hexadecimal in lower case"
        raise ValueError(message)
    return text


class UserMessage(Message):
    """Something a person said: the beginning of a request."""

    type: Literal["user_message"] = "user_message"
    conversation_id: ConversationId
    text: Annotated[Text, Field(min_length=1)]
    message_id: MessageId | None = None
    """Idempotency key within the conversation; one is made when absent."""
    user_id: Annotated[Text, Field(max_length=200)] | None = None
    plan: Plan | None = None
    """Runs instead of a planned one."""
    busy_policy: BusyPolicy | None = None
    """What to do when a request is running; the daemon's `busy_policy` when absent."""
    traceparent: (
        Annotated[str, AfterValidator(_traceparent), Field(json_schema_extra={"pattern": TRACEPARENT_PATTERN})] | None
    ) = None
    """The sender's trace context (W3C); over HTTP the header of that name says the same."""


class Cancel(Message):
    """End the running request with a `cancelled` reply that holds what is finished."""

    type: Literal["cancel"] = "cancel"
    conversation_id: ConversationId
    by: Text | None = None
    reason: Text | None = None


class Pause(Message):
    """Start nothing new in this conversation until `resume`; what runs may finish and is kept."""

    type: Literal["pause"] = "pause"
    conversation_id: ConversationId
    by: Text | None = None
    reason: Text | None = None


class Resume(Message):
    """Go on after `pause`; agree to a plan that awaits approval; release a quarantined conversation."""

    type: Literal["resume"] = "resume"
    conversation_id: ConversationId
    by: Text | None = None
    reason: Text | None = None


Control = Cancel | Pause | Resume
Inbound = Annotated[UserMessage | Cancel | Pause | Resume, Field(discriminator="type")]


class Accepted(Message):
    """Durable: the message is journaled and will be answered exactly once."""

    conversation_id: str
    message_id: str | None = None
    request_id: str | None = None
    seq: int
    """Sequence number of the event that recorded it."""
    duplicate: bool = False
    """True when this `message_id` was accepted before: nothing new runs."""
    reply_seq: int | None = None
    """Sequence number of the reply, when it has already been sent."""


class Refused(Message):
    """Nothing happened; `code` is stable and listed in docs/errors.md."""

    code: str
    detail: str
    retry_after: float | None = None
    """Seconds after which another try makes sense."""
    problems: tuple[dict[str, Any], ...] = ()
    """Every problem found, for `invalid_plan`."""
    uncertain: bool = False
    """True when it may have happened all the same, or still may: nobody can say yet."""


Answer = Accepted | Refused
