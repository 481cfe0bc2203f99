"""The dialogue with a conversation's supervisor: what the core is told besides the reports of its children."""

from __future__ import annotations

from collections.abc import Callable

from messages.frozen import frozen
from messages.inbound import Answer, BusyPolicy, Cancel, Pause, Resume, UserMessage
from messages.plan import ResolvedPlan


@frozen
class Accept:
    """Take this message: it was validated, its plan (if any) checked, and its id is new in this conversation."""

    message_id: str
    request_id: str
    text: str
    user_id: str | None
    plan: ResolvedPlan | None
    busy_policy: BusyPolicy
    traceparent: str | None = None


@frozen
class Deadline:
    """The time a request may take as a whole is over."""

    request_id: str


@frozen
class Quarantine:
    """Stop resuming this conversation: it brought the daemon down again and again without getting on."""

    reason: str


@frozen
class Submit:
    """A message from outside on its way to the supervisor, with the caller to be told."""

    message: UserMessage | Cancel | Pause | Resume
    answer: Callable[[Answer], None]
    """Called exactly once, from any thread, after the message is durable or refused."""
    message_id: str = ""
    request_id: str = ""
    plan: ResolvedPlan | None = None
    fingerprint: str = ""
    """Hash of the body, to tell a repetition from a conflict."""
