"""What to do when a child has ended: restart it after a delay, leave it stopped, or escalate.

Rules, the first that applies decides:

1. A temporary child is never restarted; a transient one is not after a normal exit.
2. A permanent-class error is not retried, unless the spec says so or the child is of restart type permanent.
3. A fatal-class error is not retried, unless the spec says so.
4. An error of unknown kind is retried once, where rule 2 would stop a permanent-class one.
5. More restarts in a row than `max_restarts` escalate.
6. Otherwise it is restarted after its backoff, or after `Retry-After` where that is longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from supervision.errors import Classified, ErrorClass
from supervision.spec import ChildSpec, RestartType


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a child before this end. All times are seconds of one monotonic clock."""

    failures: int = 0
    """Ends in a row that led to a restart, this one not counted."""
    last_failure_at: float | None = None
    started_at: float = 0.0
    """When the life began that has now ended."""

    def after(self, spec: ChildSpec, now: float) -> History:
        """Return the history once this end is counted; `started_at` is to be set when the next life begins."""
        return replace(self, failures=_failures(spec, self, now) + 1, last_failure_at=now)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again."""

    after: float
    """Seconds."""
    rule: str
    """Which rule set the delay, in words a person understands."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave it stopped; its supervisor lives on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """The supervisor cannot help any more: whoever is above decides."""

    reason: str


Directive = Restart | Stop | Escalate


def decide(spec: ChildSpec, failure: Classified | None, history: History, now: float, jitter: float) -> Directive:
    """Return what becomes of the child; `failure` is None after a normal exit, `jitter` a number in [0, 1)."""
    if spec.restart is RestartType.TEMPORARY:
        return Stop(f"{_ended(failure)}; a temporary child is not restarted")
    if failure is None and spec.restart is RestartType.TRANSIENT:
        return Stop("ended normally")
    refusal = _not_worth_a_retry(spec, failure, history, now)
    if refusal is not None:
        return refusal
    k = _failures(spec, history, now)
    if spec.max_restarts is not None and k >= spec.max_restarts:
        return Escalate(f"{_ended(failure)}; {_tried(spec.max_restarts)}")
    return _restart(spec, failure, k, jitter)


def _not_worth_a_retry(
    spec: ChildSpec, failure: Classified | None, history: History, now: float
) -> Stop | Escalate | None:
    if failure is None:
        return None
    if failure.error_class is ErrorClass.FATAL and not spec.retry_fatal_errors:
        reason = f"fatal error {failure.type}: not retried"
        # What must always run and cannot is the business of whoever is above.
        return Escalate(reason) if spec.restart is RestartType.PERMANENT else Stop(reason)
    if _retries_permanent_errors(spec):
        return None
    if failure.error_class is ErrorClass.PERMANENT:
        return Stop(f"permanent error {failure.type}: it would fail again")
    if failure.once and _failures(spec, history, now) >= 1:
        return Escalate(f"error {failure.type} of unknown kind: retried once only")
    return None


def _restart(spec: ChildSpec, failure: Classified | None, k: int, jitter: float) -> Restart:
    backoff = spec.backoff
    delay = backoff.delay(k, jitter)
    what = "ended normally" if failure is None else f"{failure.error_class} error"
    number = f"retry {k + 1}" if spec.max_restarts is None else f"retry {k + 1} of {spec.max_restarts}"
    if failure is not None and failure.once and not _retries_permanent_errors(spec):
        what, number = "error of unknown kind", "retried once only"
    formula = f"backoff min({backoff.max_backoff:g}, {backoff.min_backoff:g}*{backoff.factor:g}^{k}) + jitter"
    if failure is not None and failure.retry_after is not None and failure.retry_after > delay:
        asked = f"Retry-After {failure.retry_after:g} s is longer than {formula}"
        return Restart(failure.retry_after, f"{what}, {number}: {asked}")
    return Restart(delay, f"{what}, {number}: {formula}")


def _retries_permanent_errors(spec: ChildSpec) -> bool:
    return spec.retry_permanent_errors or spec.restart is RestartType.PERMANENT


def _failures(spec: ChildSpec, history: History, now: float) -> int:
    if not spec.resets_when_quiet:
        return history.failures
    # Quiet is counted from the start of the life that ended: counted from the last failure it would hold the backoff
    # itself, and every delay longer than `reset_after` would reset the delay.
    quiet_since = history.started_at
    if history.last_failure_at is not None:
        quiet_since = max(quiet_since, history.last_failure_at)
    return 0 if now - quiet_since >= spec.backoff.reset_after else history.failures


def _ended(failure: Classified | None) -> str:
    return "ended normally" if failure is None else f"{failure.error_class} error {failure.type}"


def _tried(max_restarts: int) -> str:
    return "no restart is allowed" if max_restarts == 0 else f"restarted {max_restarts} times in a row without success"
