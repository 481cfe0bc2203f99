"""When an agent is left alone: a circuit breaker as data and pure functions, like every other rule of supervision.

Rules:

1. Closed: calls go through. `failures` counted failures without a success between them, all within `window`, open it.
2. Open: calls are refused for `reset` seconds, doubled by each opening without a success in between, to `max_reset`.
3. Half-open, when that time is over: one call at a time goes through. A success closes, a counted failure opens again;
   an outcome that says nothing (a permanent error, a 429, a call given up) leaves it half-open for the next one.
4. Only calls of the present state count: what was begun before an opening says nothing about now.

Nothing here waits or holds a lock: calls run side by side, whatever the state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from supervision.errors import Classified, ErrorClass


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Health(StrEnum):
    """What one outcome says about an agent."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """How patient it is. All times are seconds."""

    failures: int = 10
    """In a row until it opens; 0: never."""
    window: float = 60.0
    reset: float = 30.0
    max_reset: float = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Times are seconds of one monotonic clock."""

    state: BreakerState = BreakerState.CLOSED
    failed_at: tuple[float, ...] = ()
    """The newest counted failures since the last success, at most as many as open it."""
    until: float = 0.0
    """When an open one lets the first call through."""
    openings: int = 0
    """Since it was last closed."""
    probing: bool = False
    """True while the one call of a half-open one is under way."""
    era: int = 0
    """Grows with every change of state: by it, outcomes of older calls are told apart."""


PROBE_WAIT: Final = 1.0
"""Seconds after which a call makes sense that was refused because another one is the probe."""


def left(breaker: Breaker, now: float) -> float:
    """Return the seconds after which another try makes sense, 0 when a call would go through now."""
    if breaker.state is BreakerState.OPEN:
        return max(0.0, breaker.until - now)
    return PROBE_WAIT if breaker.probing else 0.0


def admit(breaker: Breaker, now: float) -> Breaker | None:
    """Return the breaker with one more call under way; None when the call is refused."""
    if left(breaker, now) > 0:
        return None
    if breaker.state is BreakerState.CLOSED:
        return breaker
    if breaker.state is BreakerState.OPEN:
        return replace(breaker, state=BreakerState.HALF_OPEN, probing=True, era=breaker.era + 1)
    return replace(breaker, probing=True)


def report(breaker: Breaker, spec: BreakerSpec, era: int, health: Health, now: float) -> Breaker:
    """Return the breaker after the outcome of a call that was let through in `era`."""
    if era != breaker.era or breaker.state is BreakerState.OPEN:
        return breaker
    if health is Health.NOTHING:
        return replace(breaker, probing=False) if breaker.probing else breaker
    if breaker.state is BreakerState.HALF_OPEN:
        return _open(breaker, spec, now) if health is Health.BAD else Breaker(era=breaker.era + 1)
    if health is Health.GOOD:
        return replace(breaker, failed_at=()) if breaker.failed_at else breaker
    if spec.failures == 0:
        return breaker
    failed_at = (*(at for at in breaker.failed_at if now - at < spec.window), now)[-spec.failures :]
    breaker = replace(breaker, failed_at=failed_at)
    return _open(breaker, spec, now) if len(failed_at) >= spec.failures else breaker


def health(failure: Classified | None) -> Health:
    """Return what an outcome says: a success is good, and bad is what is neither the caller's fault nor a polite no."""
    if failure is None:
        return Health.GOOD
    # Who says when to come back (429, 503 with `Retry-After`) works as it should: that is waited out, not counted.
    polite = not failure.counted or failure.retry_after is not None
    return Health.NOTHING if polite or failure.error_class is ErrorClass.PERMANENT else Health.BAD


def _open(breaker: Breaker, spec: BreakerSpec, now: float) -> Breaker:
    # Beyond 2**60 the exponent would only overflow; the maximum is reached long before.
    seconds = min(max(spec.max_reset, spec.reset), spec.reset * 2.0 ** min(breaker.openings, 60))
    return Breaker(state=BreakerState.OPEN, until=now + seconds, openings=breaker.openings + 1, era=breaker.era + 1)
