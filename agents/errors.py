"""What can be wrong with an agent or its call. `error_class` is what supervision reads."""

from __future__ import annotations

from typing import Any


class AgentError(Exception):
    """Base of all errors about agents."""


class TransientError(AgentError):
    """For agents to raise: this may pass by itself. `retry_after` is how many seconds to wait at least."""

    error_class = "transient"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(AgentError):
    """For agents to raise: trying again would fail again."""

    error_class = "permanent"


class AgentDefinitionError(AgentError):
    """An agent cannot be what its declaration says."""

    error_class = "permanent"


class UnknownAgent(AgentError):
    """No agent has this name."""

    error_class = "permanent"


class AgentTimeout(AgentError):
    """An attempt took longer than its timeout."""

    error_class = "transient"
    error_type = "timeout"


class ContractViolation(AgentError):
    """A call's inputs or an agent's result do not fit its contract."""

    error_class = "permanent"
    error_type = "contract_violation"

    def __init__(self, agent: str, field: str, value: Any, problem: str) -> None:
        shown = _show(value)
        super().__init__(f"{agent}: {field}: {problem}" + (f", not {shown}" if shown else ""))
        self.agent = agent
        self.field = field
        self.problem = problem


class ResultTooLarge(AgentError):
    """What an agent, a planner or a synthesizer returned is larger than `max_result_bytes`."""

    error_class = "permanent"
    error_type = "result_too_large"


def _show(value: Any) -> str:
    """Return a clipped picture of a value, without building a large one first."""
    if value is _NOTHING:
        return ""
    if isinstance(value, (str, bytes)):
        value = value[:80]
    elif isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > 20:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a value that cannot even be shown is still wrong
        return f"a {type(value).__name__}"
    return text if len(text) <= 100 else text[:99] + "…"


_NOTHING: Any = object()
NOTHING: Any = _NOTHING
"""Stands for "there is no value to show"."""
