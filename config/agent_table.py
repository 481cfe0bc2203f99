"""The options of one agent as a `[agents.NAME]` table of the file says them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from config.fields import FUNCTION, Accepts, Duration, Names, Retries, Timeout, Whole, pattern


class AgentTable(BaseModel):
    """One `[agents.NAME]` table; what is set here wins over the decorator's options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    function: Annotated[str | None, pattern(FUNCTION), Accepts("module:function")] = None
    """Where the agent's function is; not needed for agents found in the modules of `agents_from`."""
    description: str | None = None
    """What a planner reads; the function's docstring when absent."""
    examples: Annotated[Names, Accepts("a list of texts")] = ()
    """Messages this agent is for."""
    timeout: Timeout | None = None
    """Seconds for one attempt."""
    retries: Retries | None = None
    """Retries after the first attempt."""
    min_backoff: Duration | None = None
    max_backoff: Duration | None = None
    transient: Annotated[Names, Accepts("a list of module:ErrorType")] = ()
    """Error types worth a retry."""
    permanent: Annotated[Names, Accepts("a list of module:ErrorType")] = ()
    """Error types never retried."""
    max_concurrency: Annotated[Whole, Field(ge=1)] | None = None
    """Calls of this agent that may run at the same time, in the whole daemon."""
    breaker_failures: Annotated[Whole, Field(ge=0, le=10_000)] | None = None
    """Transient failures in a row after which it is left alone for a while; 0: never."""
    breaker_reset: Annotated[Duration, Field(gt=0)] | None = None
    """Seconds it is left alone for, the first time."""
    cache_ttl: Duration | None = None
    """Seconds for which a result is reused for the same inputs."""
    effects: Literal["read", "write"] | None = None
    isolation: Literal["thread", "process"] | None = None
    memory_mb: Annotated[Whole, Field(ge=16)] | None = None
    """Megabytes that its process may have; only with isolation = "process"."""
    environment: Annotated[Names, Accepts("a list of names")] = ()
    """Variables of the daemon's environment that its process gets; only with isolation = "process"."""
    on_failure: Annotated[
        str | None,
        pattern(r"skip|fail|replan|fallback:[A-Za-z_][A-Za-z0-9_.-]{0,63}"),
        Accepts("skip, fail, replan or fallback:NAME"),
    ] = None
    """What a final failure means for the request."""
    on_unknown_outcome: Literal["retry", "fail"] | None = None
    """What happens to a call that a crash of the daemon cut off."""
    reply: str | None = None
    """Template of this agent's part of the answer: `{title} costs {price}`."""
    approval: bool | None = None
    """True when a person must agree before a plan with this agent runs."""
