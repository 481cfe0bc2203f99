"""Restart intensity as in OTP: more than so many restarts within a period is too many."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `max_restarts` restarts within any `period` seconds. OTP's defaults."""

    max_restarts: int = 1
    period: float = 5.0

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts must be 0 or more, not {self.max_restarts}")
        if not isfinite(self.period) or self.period <= 0:
            raise ValueError(f"period must be a positive number of seconds, not {self.period}")


def add_restart(times: tuple[float, ...], now: float, intensity: Intensity) -> tuple[tuple[float, ...], bool]:
    """Count a restart at `now`; return the restarts within the period (newest first) and whether they are allowed.

    A restart exactly one period old still counts. The tuple never grows beyond `max_restarts` + 1.
    """
    recent = (now, *(time for time in times if time >= now - intensity.period))
    return recent[: intensity.max_restarts + 1], len(recent) <= intensity.max_restarts
