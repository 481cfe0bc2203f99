"""The dialogue with an agent: run this node; here is the result, or why there is none."""

from __future__ import annotations

from typing import Any

from messages.failure import Failure
from messages.frozen import frozen


@frozen
class RunNode:
    """Make one attempt at one node. Answered by `NodeResult`, or by `ChildFailed` when the attempt fails."""

    conversation_id: str
    request_id: str
    node: str
    agent: str
    attempt: int
    inputs: dict[str, Any]
    """Arguments by parameter name, every `$from` already replaced."""
    timeout: float
    """Seconds for this attempt."""
    text: str
    """The user's message, for parameters annotated `MessageText`."""
    user_id: str | None
    context: str
    contract: str
    idempotency_key: str
    """The same for every attempt of this node, so that a receiver can drop a repeated effect."""
    traceparent: str | None = None
    """The trace context the request came with."""


@frozen
class NodeResult:
    """The attempt succeeded. Fenced by (request, node, attempt): a late one is a dead letter, never a result."""

    request_id: str
    node: str
    attempt: int
    result: Any
    """Plain JSON data, checked against the output contract."""
    result_json: bytes
    """The same, encoded once; stored as it is."""
    duration_ms: float
    cached: bool = False
    cache_key: str | None = None
    """Under which the result may be reused, when the agent has a `cache_ttl`."""
    cache_ttl: float | None = None
    """Seconds it may be reused for."""


@frozen
class NodeFailure:
    """The attempt failed; `retry_in` is what supervision decided."""

    request_id: str
    node: str
    attempt: int
    failure: Failure
    retry_in: float | None
    """Seconds until the next attempt; None when no further one is made."""
    rule: str
    """Which rule decided, in words a person understands."""
    duration_ms: float | None = None
    """How long the agent was at work; None when nobody knows, as after a crash."""


@frozen
class Progress:
    """Something an agent wants people to see while it works; not journaled."""

    request_id: str
    node: str
    agent: str
    attempt: int
    text: str


@frozen
class RetryDue:
    """The delay before the next attempt of a node is over."""

    request_id: str
    node: str
    attempt: int
