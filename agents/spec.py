"""What is known of one agent: its function, its contract, its options."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Final, Literal

from agents.contract import Contract
from agents.errors import AgentDefinitionError
from messages.base import AGENT_NAME_PATTERN
from messages.plan import ON_FAILURE_PATTERN

Isolation = Literal["thread", "process"]
Types = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent. None means: as configured for the daemon."""

    name: str
    function: Callable[..., Any]
    module: str
    qualname: str
    description: str
    """The docstring: what a planner reads."""
    contract: Contract
    is_async: bool
    examples: tuple[str, ...] = ()
    timeout: float | None = None
    """Seconds for one attempt."""
    retries: int | None = None
    min_backoff: float | None = None
    max_backoff: float | None = None
    transient: Types = ()
    permanent: Types = ()
    max_concurrency: int | None = None
    """Calls at once, over all conversations."""
    breaker_failures: int | None = None
    """Transient failures in a row after which this agent is left alone for a while; 0: never."""
    breaker_reset: float | None = None
    """Seconds it is left alone for, the first time."""
    cache_ttl: float | None = None
    """Seconds a result may be reused for the same inputs."""
    effects: Literal["read", "write"] = "read"
    isolation: Isolation = "thread"
    memory_mb: int | None = None
    """Megabytes the agent's process may have, with what it starts each; only with `isolation="process"`."""
    environment: tuple[str, ...] = ()
    """Names of variables of the daemon's environment that the agent's process gets; only with `isolation="process"`."""
    on_failure: str = "skip"
    on_unknown_outcome: Literal["retry", "fail"] = "retry"
    reply: str | None = None
    """Sentence of the template synthesizer, with fields of the result in braces."""
    approval: bool = False
    """True: a plan with this agent waits until a person resumes it."""


OPTIONS: Final = frozenset(
    {field.name for field in fields(AgentSpec)} - {"function", "module", "qualname", "contract", "is_async"}
)
"""What a declaration may set."""


def unknown_option(option: str, *, also: Iterable[str] = ()) -> str:
    """Return the words for an option that does not exist, with the closest one that does."""
    close = get_close_matches(option, sorted(OPTIONS.union(also)), n=1)
    return f"there is no option {option!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def listed(value: Any) -> tuple[Any, ...]:
    """Return an option that takes several values as a tuple, whether one or several were given."""
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, type))
    return tuple(value) if several else (value,)


def check_spec(spec: AgentSpec) -> AgentSpec:
    """Return the spec. Raises `AgentDefinitionError` naming the option, its value and what is right."""
    for option, value, right in _faults(spec):
        where = f"agent {spec.name} ({spec.module}:{spec.qualname})"
        raise AgentDefinitionError(f"{where}: {option} is {value!r}; it takes {right}")
    return spec


def _faults(spec: AgentSpec) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(spec.name, str) or not re.fullmatch(AGENT_NAME_PATTERN, spec.name):
        yield "name", spec.name, "1-64 letters, digits and . _ -, beginning with a letter or _"
    yield from _number_faults(spec)
    yield from _text_faults(spec)
    for option in ("transient", "permanent"):
        for kind in getattr(spec, option):
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                yield option, kind, "exception types"
    for option, choices in _CHOICES.items():
        value = getattr(spec, option)
        if type(value) is not type(choices[0]) or value not in choices:
            yield option, getattr(spec, option), " or ".join(map(repr, choices))
    if not isinstance(spec.on_failure, str) or not re.fullmatch(ON_FAILURE_PATTERN, spec.on_failure):
        yield "on_failure", spec.on_failure, "'skip', 'fail', 'replan' or 'fallback:AGENT'"
    elif spec.on_failure == f"fallback:{spec.name}":
        yield "on_failure", spec.on_failure, "another agent as its fallback"
    if spec.isolation == "process" and spec.is_async:
        yield "isolation", spec.isolation, "'thread' for an async function: it has the event loop and needs neither"
    if spec.isolation == "process" and "<locals>" in spec.qualname:
        yield "isolation", spec.isolation, "'thread' for a function inside another: a process cannot import it"
    yield from _process_faults(spec)


def _process_faults(spec: AgentSpec) -> Iterator[tuple[str, Any, str]]:
    for option in ("memory_mb", "environment"):
        if getattr(spec, option) and spec.isolation != "process":
            yield (
                option,
                getattr(spec, option),
                "nothing without isolation='process': threads share what the daemon has",
            )
    for name in spec.environment:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield "environment", name, "names of environment variables"


def _text_faults(spec: AgentSpec) -> Iterator[tuple[str, Any, str]]:
    told: list[tuple[str, Any]] = [("description", spec.description), ("reply", spec.reply)]
    told += [("examples", example) for example in spec.examples]
    for option, value in told:
        if value is not None and not isinstance(value, str):
            yield option, value, "text"


def _number_faults(spec: AgentSpec) -> Iterator[tuple[str, Any, str]]:
    for option in ("timeout", "min_backoff", "max_backoff", "breaker_reset", "cache_ttl"):
        value = getattr(spec, option)
        if value is not None and _is_no_duration(value):
            yield option, value, "a positive number of seconds"
    for option, least in (("retries", 0), ("max_concurrency", 1), ("breaker_failures", 0), ("memory_mb", 16)):
        value = getattr(spec, option)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            yield option, value, f"a whole number of {least} or more"
    low, high = spec.min_backoff, spec.max_backoff
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and high < low:
        yield "max_backoff", high, f"at least min_backoff, which is {low}"


def _is_no_duration(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0


_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "effects": ("read", "write"),
    "isolation": ("thread", "process"),
    "on_unknown_outcome": ("retry", "fail"),
    "approval": (True, False),
}
