"""What a supervisor knows about a child: when it is restarted, how soon, how often, and how it is stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan

from supervision.backoff import Backoff


class RestartType(StrEnum):
    """When a child is restarted (OTP)."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Only after a failure."""
    TEMPORARY = "temporary"
    """Never."""


class Strategy(StrEnum):
    """Which siblings a restart takes along (OTP)."""

    ONE_FOR_ONE = "one_for_one"
    """None."""
    ONE_FOR_ALL = "one_for_all"
    """All."""
    REST_FOR_ONE = "rest_for_one"
    """Those started after the one that failed."""


class AutoShutdown(StrEnum):
    """When the end of significant children ends their supervisor (OTP)."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child. Raises `ValueError` naming the field when the values make no sense."""

    id: str
    restart: RestartType = RestartType.PERMANENT
    backoff: Backoff = field(default_factory=Backoff)
    max_restarts: int | None = None
    """Restarts in a row before the supervisor gives up and escalates; None: no limit but the intensity."""
    shutdown_timeout: float = 5.0
    """Seconds the child may take to stop; 0 kills at once, infinity waits for ever (OTP's brutal_kill, infinity)."""
    significant: bool = False
    """Its end by itself may end the supervisor (see `AutoShutdown`)."""
    retry_permanent_errors: bool = False
    """True for structural actors, whose next life may meet another state; False for calls, which would fail again."""
    retry_fatal_errors: bool = False
    """True when an error that would have taken a process along is treated like a transient one."""
    quiet_resets: bool | None = None
    """Whether a quiet life of `reset_after` seconds starts the count anew. None: as `retry_permanent_errors`.

    It must not for calls: one that runs into its timeout again and again was "quiet" each time and would never end.
    """

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("id must not be empty")
        # A plain string would compare equal and still never be the same: it is made the member, or refused.
        object.__setattr__(self, "restart", RestartType(self.restart))
        if self.max_restarts is not None and self.max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 or more, not {self.max_restarts}")
        if isnan(self.shutdown_timeout) or self.shutdown_timeout < 0:
            raise ValueError(f"shutdown_timeout must be 0 s or more, not {self.shutdown_timeout}")
        if self.significant and self.restart is RestartType.PERMANENT:
            raise ValueError("significant: a permanent child never ends by itself, so its end cannot be significant")

    @property
    def resets_when_quiet(self) -> bool:
        """Whether a quiet life starts the count of failures anew."""
        return self.retry_permanent_errors if self.quiet_resets is None else self.quiet_resets
