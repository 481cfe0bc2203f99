"""One call of an agent: from a `RunNode` to keyword arguments, and from what came back to data that is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.context import Context
from agents.spec import AgentSpec
from messages.agent import RunNode


def arguments(spec: AgentSpec, call: RunNode, *, progress: Callable[[str], None], deadline: float) -> dict[str, Any]:
    """Return validated keyword arguments; `deadline` is in seconds of the wall clock since the epoch.

    Raises `ContractViolation`.
    """
    bound = spec.contract.bind(call.inputs, text=call.text)
    if spec.contract.context_parameter is not None:
        bound[spec.contract.context_parameter] = Context(
            conversation_id=call.conversation_id,
            request_id=call.request_id,
            node_id=call.node,
            attempt=call.attempt,
            idempotency_key=call.idempotency_key,
            deadline=deadline,
            user_id=call.user_id,
            context=call.context,
            report=progress,
            trace=call.traceparent,
        )
    return bound


def finish(spec: AgentSpec, value: Any, max_bytes: int) -> tuple[Any, bytes]:
    """Return a result as plain data and as JSON. Raises `ContractViolation` or `ResultTooLarge`."""
    return spec.contract.encode(value, max_bytes=max_bytes)
