"""The children of one supervisor, as in OTP: who is there, who must be stopped, who must be started, in which order.

Pure: a supervisor tells the roster what happened and carries out the actions it returns, in their order. A roster is
used up by the call it is given to, like a file position: each call changes one entry of a shared table instead of
copying thousands.

- Stops go in reverse start order, starts in start order. A start comes only after the last stop of its group was heard.
- A child that fails while its group is being restarted starts the group restart over (OTP), and counts.
- A temporary child that ends, for whatever reason, is forgotten; a transient one that ends normally is kept, stopped.
- A child that declines to start (OTP's `ignore`) is kept without a life, or forgotten if it is temporary.
- A restart that is one too many within the intensity's period stops all children and escalates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from supervision.decide import Directive, Escalate, History, Restart, Stop, decide
from supervision.directives import OnError
from supervision.errors import Classified
from supervision.intensity import Intensity, add_restart
from supervision.spec import AutoShutdown, ChildSpec, RestartType, Strategy


class ChildState(StrEnum):
    """Where a child is between birth and end."""

    STOPPED = "stopped"
    STARTING = "starting"
    """A `StartChild` was given out, its delay included; the start was not reported yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """A `StopChild` was given out; the end was not reported yet."""


ALIVE = frozenset({ChildState.STARTING, ChildState.RUNNING})


@dataclass(frozen=True, slots=True)
class Child:
    """One child and what happened to it."""

    spec: ChildSpec
    state: ChildState = ChildState.STOPPED
    history: History = field(default_factory=History)
    restarts: int = 0
    """All restarts so far; never reset."""
    removing: bool = False
    """To be forgotten as soon as it has stopped."""


@dataclass(frozen=True, slots=True)
class StopChild:
    """Ask the child to end, or cancel its start if that is still to come; then report `stopped`."""

    id: str


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start the child after so many seconds; then report `started`, or `failed`."""

    id: str
    after: float
    rule: str = ""


@dataclass(frozen=True, slots=True)
class EscalateNow:
    """The supervisor cannot help: it ends as failed, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class ShutDownNow:
    """Significant children have ended: the supervisor ends normally."""

    reason: str


Action = StopChild | StartChild | EscalateNow | ShutDownNow


@dataclass(frozen=True, slots=True)
class GroupRestart:
    """Children that start together once all of them have stopped."""

    ids: tuple[str, ...]
    due: float
    """When, in seconds of the supervisor's monotonic clock."""
    rule: str


@dataclass(frozen=True, slots=True)
class Roster:
    """All children of a supervisor, in start order. Raises `ValueError` for specs that contradict each other."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = field(default_factory=Intensity)
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    table: dict[str, Child] = field(default_factory=dict)
    """Every child by its id, in start order."""
    stopping: set[str] = field(default_factory=set)
    """The ids of those that were asked to stop: group restarts wait until none is left."""
    restarts: tuple[float, ...] = ()
    """Times of recent restarts, newest first."""
    group: GroupRestart | None = None
    """The group restart under way."""
    ended: str | None = None
    """Why this supervisor is ending, once it is."""

    @property
    def children(self) -> tuple[Child, ...]:
        """All children, in start order."""
        return tuple(self.table.values())

    def get(self, child_id: str) -> Child:
        """Return one child. Raises `KeyError`."""
        return self.table[child_id]

    def __contains__(self, child_id: object) -> bool:
        return child_id in self.table


Outcome = tuple[Roster, tuple[Action, ...]]


def added(roster: Roster, spec: ChildSpec) -> Outcome:
    """Take a new child, last in start order, and start it. Raises `ValueError` for an id that is in use."""
    if spec.id in roster:
        raise ValueError(f"the id {spec.id!r} is in use")
    if spec.significant and roster.auto_shutdown is AutoShutdown.NEVER:
        raise ValueError(f"{spec.id!r} is significant, but this supervisor never shuts down by itself")
    if roster.ended is not None:
        raise ValueError(f"this supervisor is ending: {roster.ended}")
    roster.table[spec.id] = Child(spec, ChildState.STARTING)
    return roster, (StartChild(spec.id, 0.0),)


def started(roster: Roster, child_id: str, now: float) -> Outcome:
    """Record that a child is up. One that is not wanted any more is stopped again."""
    child = roster.get(child_id)
    if child.state is not ChildState.STARTING:
        return roster, (StopChild(child_id),) if child.state is not ChildState.RUNNING else ()
    running = replace(child, state=ChildState.RUNNING, history=replace(child.history, started_at=now))
    return _put(roster, running), ()


def declined(roster: Roster, child_id: str) -> Outcome:
    """Record that a child has nothing to do and did not start: no failure, and no restart."""
    return _gone(roster, roster.get(child_id)), ()


def refused(roster: Roster, child_id: str) -> Outcome:
    """Forget a child whose very first start failed: whoever asked for it is told."""
    return _without(roster, child_id), ()


def again(roster: Roster, child_id: str) -> Outcome:
    """Start a child that is kept without a life. Raises `KeyError`, and `ValueError` for one that has a life."""
    child = roster.get(child_id)
    if roster.ended is not None:
        raise ValueError(f"this supervisor is ending: {roster.ended}")
    if child.state is not ChildState.STOPPED:
        raise ValueError(f"{child_id!r} is {child.state.value}")
    return _put(roster, replace(child, state=ChildState.STARTING)), (StartChild(child_id, 0.0, "asked for"),)


def failed(
    roster: Roster, child_id: str, failure: Classified, now: float, jitter: float, rule: OnError | None = None
) -> Outcome:
    """Record that a child crashed, or failed to start, and decide what follows; `rule` is what it asked for itself."""
    return _ended(roster, child_id, failure, now, jitter, rule)


def restart_asked(roster: Roster, child_id: str, now: float) -> Outcome:
    """Record that a child ended because a person wants it to begin anew: that counts neither for it nor for limits."""
    child = roster.get(child_id)
    if child.state is ChildState.STOPPED:
        return roster, ()
    if child.state is ChildState.STOPPING:
        return _stopped_on_request(roster, child, now)
    return _begin_anew(_put(roster, replace(child, state=ChildState.STOPPED)), child, Restart(0.0, "asked for"), now)


def stopped(roster: Roster, child_id: str, now: float, jitter: float = 0.0) -> Outcome:
    """Record that a child ended without an error: because it was asked to, or by itself."""
    return _ended(roster, child_id, None, now, jitter)


def removed(roster: Roster, child_id: str) -> Outcome:
    """Forget a child; it is stopped first if it lives."""
    child = roster.get(child_id)
    if child.state is ChildState.STOPPED:
        return _without(roster, child_id), ()
    if child.state is ChildState.STOPPING:
        return _put(roster, replace(child, removing=True)), ()
    return _put(roster, replace(child, state=ChildState.STOPPING, removing=True)), (StopChild(child_id),)


def shut_down(roster: Roster, reason: str) -> Outcome:
    """End the supervisor: stop every child, the youngest first."""
    roster, stops = _stop(roster, roster.table)
    return replace(roster, group=None, ended=reason), stops


# Ends


def _ended(
    roster: Roster, child_id: str, failure: Classified | None, now: float, jitter: float, rule: OnError | None = None
) -> Outcome:
    child = roster.get(child_id)
    if child.state is ChildState.STOPPED:
        return roster, ()
    if child.state is ChildState.STOPPING:
        return _stopped_on_request(roster, child, now)
    directive = _directive(child, failure, now, jitter, rule)
    if isinstance(directive, Restart):
        return _restart(roster, child, directive, now)
    if isinstance(directive, Escalate):
        return _escalate(_put(roster, replace(child, state=ChildState.STOPPED)), f"{child_id}: {directive.reason}")
    gone = _gone(roster, child)
    reason = _significant_end(gone, child)
    if reason is None:
        return gone, ()
    ending, stops = shut_down(gone, reason)
    return ending, (*stops, ShutDownNow(reason))


def _directive(child: Child, failure: Classified | None, now: float, jitter: float, rule: OnError | None) -> Directive:
    spec = child.spec
    if failure is not None and rule is OnError.STOP:
        return Stop("its own rules say that it stays stopped")
    if rule is OnError.RESTART:
        spec = replace(spec, retry_permanent_errors=True, retry_fatal_errors=True, quiet_resets=spec.resets_when_quiet)
    return decide(spec, failure, child.history, now, jitter)


def _stopped_on_request(roster: Roster, child: Child, now: float) -> Outcome:
    temporary = child.spec.restart is RestartType.TEMPORARY
    if child.removing or temporary:
        roster = _without(roster, child.spec.id)
    else:
        roster = _put(roster, replace(child, state=ChildState.STOPPED))
    return _start_group(roster, now)


def _gone(roster: Roster, child: Child) -> Roster:
    if child.spec.restart is RestartType.TEMPORARY:
        return _without(roster, child.spec.id)
    return _put(roster, replace(child, state=ChildState.STOPPED))


def _significant_end(roster: Roster, child: Child) -> str | None:
    if not child.spec.significant or roster.auto_shutdown is AutoShutdown.NEVER:
        return None
    if roster.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
        return f"the significant child {child.spec.id} has ended"
    if any(other.spec.significant and other.state is not ChildState.STOPPED for other in roster.table.values()):
        return None
    return "the last significant child has ended"


# Restarts


def _restart(roster: Roster, child: Child, directive: Restart, now: float) -> Outcome:
    times, allowed = add_restart(roster.restarts, now, roster.intensity)
    roster = replace(roster, restarts=times)
    if not allowed:
        limit = roster.intensity
        reason = f"{child.spec.id}: more than {limit.max_restarts} restarts within {limit.period:g} s"
        return _escalate(_put(roster, replace(child, state=ChildState.STOPPED)), reason)
    counted = replace(child, state=ChildState.STOPPED, history=child.history.after(child.spec, now))
    return _begin_anew(_put(roster, counted), child, directive, now)


def _begin_anew(roster: Roster, child: Child, directive: Restart, now: float) -> Outcome:
    due = now + directive.after
    if roster.strategy is Strategy.ONE_FOR_ONE:
        return _start(roster, (child.spec.id,), directive.after, directive.rule)
    members = list(roster.table)
    if roster.strategy is Strategy.REST_FOR_ONE:
        members = members[members.index(child.spec.id) :]
    before = frozenset() if roster.group is None else frozenset(roster.group.ids)
    ids = tuple(m for m in members if m == child.spec.id or _comes_back(roster.table[m], before))
    roster, stops = _stop(roster, members)
    roster = replace(roster, group=GroupRestart(ids, due, directive.rule))
    roster, starts = _start_group(roster, now)
    return roster, (*stops, *starts)


def _comes_back(bystander: Child, before: frozenset[str]) -> bool:
    if bystander.spec.restart is RestartType.TEMPORARY or bystander.removing:
        return False
    if bystander.state in ALIVE:
        return True
    # A bystander that is down already belongs to the restart only if an earlier one of the same group stopped it.
    return bystander.spec.id in before


def _start_group(roster: Roster, now: float) -> Outcome:
    group = roster.group
    if group is None:
        return roster, ()
    if roster.stopping:
        return roster, ()
    ids = tuple(child_id for child_id in group.ids if child_id in roster)
    return _start(replace(roster, group=None), ids, max(0.0, group.due - now), group.rule)


def _start(roster: Roster, ids: Iterable[str], after: float, rule: str) -> Outcome:
    starts: list[Action] = []
    for child_id in ids:
        child = roster.get(child_id)
        if child.state is not ChildState.STOPPED:
            continue
        roster = _put(roster, replace(child, state=ChildState.STARTING, restarts=child.restarts + 1))
        starts.append(StartChild(child_id, after, rule))
    return roster, tuple(starts)


def _stop(roster: Roster, ids: Iterable[str]) -> Outcome:
    stops = tuple(StopChild(child_id) for child_id in reversed(list(ids)) if roster.table[child_id].state in ALIVE)
    for stop in stops:
        _put(roster, replace(roster.table[stop.id], state=ChildState.STOPPING))
    return roster, stops


def _escalate(roster: Roster, reason: str) -> Outcome:
    ending, stops = shut_down(roster, reason)
    return ending, (*stops, EscalateNow(reason))


# Places


def _put(roster: Roster, changed: Child) -> Roster:
    roster.table[changed.spec.id] = changed
    if changed.state is ChildState.STOPPING:
        roster.stopping.add(changed.spec.id)
    else:
        roster.stopping.discard(changed.spec.id)
    return roster


def _without(roster: Roster, child_id: str) -> Roster:
    del roster.table[child_id]
    roster.stopping.discard(child_id)
    return roster
