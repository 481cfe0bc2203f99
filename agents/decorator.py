"""`@agent`: declares a typed function to be an agent. The function itself stays as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, overload

from agents.contract import Contract
from agents.errors import AgentDefinitionError
from agents.spec import OPTIONS, AgentSpec, check_spec, listed, unknown_option

F = TypeVar("F", bound=Callable[..., Any])

SPEC_ATTRIBUTE = "__agent_spec__"
_SEVERAL = ("examples", "transient", "permanent", "environment")


@overload
def agent(function: F, /) -> F: ...


@overload
def agent(
    *,
    name: str | None = None,
    examples: Iterable[str] = (),
    timeout: float | None = None,
    retries: int | None = None,
    min_backoff: float | None = None,
    max_backoff: float | None = None,
    transient: Iterable[type[BaseException]] = (),
    permanent: Iterable[type[BaseException]] = (),
    max_concurrency: int | None = None,
    breaker_failures: int | None = None,
    breaker_reset: float | None = None,
    cache_ttl: float | None = None,
    effects: Literal["read", "write"] = "read",
    isolation: Literal["thread", "process"] = "thread",
    memory_mb: int | None = None,
    environment: Iterable[str] = (),
    on_failure: str = "skip",
    on_unknown_outcome: Literal["retry", "fail"] = "retry",
    reply: str | None = None,
    approval: bool = False,
) -> Callable[[F], F]: ...


def agent(function: F | None = None, /, **options: Any) -> F | Callable[[F], F]:
    """Declare an agent; use it bare or with options (see `AgentSpec` for each, None meaning as configured).

    Raises `AgentDefinitionError` while the module is imported, naming the function, the option and what is right.
    """

    def declare(declared: F) -> F:
        setattr(declared, SPEC_ATTRIBUTE, make_spec(declared, options))
        return declared

    return declare if function is None else declare(function)


def make_spec(function: Callable[..., Any], options: dict[str, Any]) -> AgentSpec:
    """Return the checked spec of a function. Raises `AgentDefinitionError`."""
    if not inspect.isfunction(function):
        raise AgentDefinitionError(f"{function!r} is not a function; an agent is one, declared with def or async def")
    where = f"{function.__module__}:{function.__qualname__}"
    given = {key: value for key, value in options.items() if value is not None}
    for option in given:
        if option not in OPTIONS:
            raise AgentDefinitionError(f"@agent of {where}: {unknown_option(option)}")
    name = given.pop("name", function.__name__)
    given |= {option: listed(given[option]) for option in _SEVERAL if option in given}
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise AgentDefinitionError(f"agent {name} ({where}): it yields; an agent returns its result once")
    description = given.pop("description", None) or inspect.getdoc(function) or ""
    if not description:
        raise AgentDefinitionError(f"agent {name} ({where}): it needs a docstring; that is what a planner reads")
    spec = AgentSpec(
        name=name,
        function=function,
        module=function.__module__,
        qualname=function.__qualname__,
        description=description,
        contract=Contract(str(name), function),
        is_async=inspect.iscoroutinefunction(function),
        **given,
    )
    return check_spec(spec)


def spec_of(function: Any) -> AgentSpec | None:
    """Return the spec of a decorated function, or None."""
    spec = getattr(function, SPEC_ATTRIBUTE, None)
    return spec if isinstance(spec, AgentSpec) else None
