"""The children of one supervisor: starts what is wanted and not running, stops what is running and not wanted.

Which children and timers should exist is the core's to say (workflow/wanted.py). When one fails, supervision says
whether and when its work is tried again, and the core is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from math import isinf
from typing import Any

from pykka import ActorDeadError

from actors.base import Actor
from actors.failures import as_failure
from actors.quick import Adopt, QuickCall, QuickEnded, QuickSlow
from actors.ref import ActorRef, Stop
from conversation.parts import Parts
from messages.agent import NodeFailure, NodeResult, RunNode
from messages.failure import Failure
from messages.frozen import frozen
from messages.lifecycle import ChildFailed, ChildStopped
from messages.planning import PlannerFailed
from messages.synthesis import SynthesizerFailed
from supervision.decide import History, Restart, decide
from supervision.errors import classify
from workflow.graph import UnboundReference
from workflow.memory import Memory
from workflow.state import State
from workflow.wanted import Child, Timer, command, wanted

Verdict = NodeFailure | PlannerFailed | SynthesizerFailed


@frozen
class LookAgain:
    """A delay is over: look again at what is wanted."""

    due: int
    """When it should have been over by the wall clock, which may have been set back since."""


@frozen
class StopOverdue:
    """A child had its time to stop."""

    name: str
    incarnation: int


@frozen
class _Record:
    """One child that is at work."""

    ref: ActorRef[Any] | None
    """None while it is on the quick lane."""
    child: Child
    incarnation: int
    started_at: float
    quick: QuickCall | None = None
    """What began on the quick lane, whoever has it now."""


class Children:
    """Lives as long as its supervisor; every method is called from the supervisor's own turn."""

    def __init__(self, owner: Actor, parts: Parts, tell: Callable[[Any], None]) -> None:
        """`tell` gets what the quick lane says, from any thread."""
        self._owner = owner
        self._tell = tell
        self._parts = parts
        self._working: dict[str, _Record] = {}
        self._leaving: dict[str, _Record] = {}
        """Asked to stop: their names are free again only when they have ended."""
        self._incarnations: dict[str, int] = {}
        self._timers: dict[str, int] = {}
        self._passed: int | None = None
        """The newest due time whose delay is over, whatever the wall clock says."""
        self._context: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        """Return whether any child is alive."""
        return bool(self._working or self._leaving)

    def reconcile(self, durable: State, newest: State, memory: Memory) -> Iterator[NodeFailure]:
        """Make what runs what the durable state wants; yields what could not be started."""
        now = self._owner.system.clock.now_ms()
        timeout = self._parts.limits.request_timeout
        want = wanted(durable, self._reached(durable, now), timeout)
        # A child whose result is not durable yet is still wanted by the durable state; the newest one knows better.
        latest = want if durable is newest else wanted(newest, self._reached(newest, now))
        # What an older durable state does not want, but the newest one does, would only be started once more.
        if self._working:
            self._stop_unwanted({*want.children, *latest.children})
        if want.children and want.may_start and latest.may_start:
            orders: list[tuple[Child, RunNode]] = []
            for child in want.children:
                free = child.name not in self._working and child.name not in self._leaving
                if not free or (latest is not want and child not in latest.children):
                    continue
                try:
                    order = command(durable, child, self.context(durable, memory))
                except UnboundReference as error:
                    yield _unbound(child, error)
                    continue
                if isinstance(order, RunNode) and self._parts.quick is not None:
                    orders.append((child, order))
                else:
                    self._start(child, order)
            if orders:
                self._start_quickly(orders)
        if want.timers or self._timers:
            self._set_timers({timer.key: timer for timer in want.timers}, now)

    def look_again(self, message: LookAgain) -> None:
        """Set all timers anew at the next look: one of them has just fired."""
        self._timers.clear()
        self._passed = message.due

    def overdue(self, late: StopOverdue) -> None:
        """Take a child out of the tree that had its time to stop; its report follows at once."""
        record = self._leaving.get(late.name)
        if record is not None and record.incarnation == late.incarnation:
            assert record.ref is not None  # what has no actor is never waited for
            if self._owner.system.kill(record.ref):
                self._owner.log("child_killed", path=record.ref.path)

    def _reached(self, state: State, now: int) -> int:
        """Return the time by which it is judged whether planner or synthesizer are due."""
        request = state.request
        if self._passed is None or request is None:
            return now
        ours = self._passed in (request.planning.retry_at, request.synthesis.retry_at)
        return max(now, self._passed) if ours else now

    def stopped(self, report: ChildStopped, newest: State) -> bool:
        """Note the end of a child; return whether it is time to look again.

        It is when its name was waited for, or when its work is still wanted: what a synthesizer says during a pause is
        not taken, and the pause may be over before the synthesizer is.
        """
        name = self._name(report.path)
        self._owner.discard(report.mailbox, report.path, "this attempt is over")
        if self._is(self._working, name, report.incarnation):
            child = _over(self._working.pop(name)).child
            return child in wanted(newest, self._owner.system.clock.now_ms()).children
        if self._is(self._leaving, name, report.incarnation):
            _over(self._leaving.pop(name))
            self._owner.unschedule(("stop", name))
            return True
        return False

    def failed(self, report: ChildFailed, state: State) -> Verdict | None:
        """Judge a failure and return what the core is to be told; None when nobody waits for that child any more."""
        name = self._name(report.path)
        self._owner.discard(report.mailbox, report.path, "this attempt is over")
        if self._is(self._leaving, name, report.incarnation):
            _over(self._leaving.pop(name))
            self._owner.unschedule(("stop", name))
            return None
        if not self._is(self._working, name, report.incarnation):
            return None
        record = _over(self._working.pop(name))
        failure, retry_in, rule, failures = self._judge(record, report, state)
        if retry_in is not None:
            cause = f"{failure.type}: {failure.message}"
            self._owner.system.tree.note_backing_off(report.path, record.child.role, failures + 1, cause)
        else:
            self._owner.system.tree.forget(report.path)
        return _verdict(record.child, failure, retry_in, rule, report.took_ms)

    # Starting and stopping

    def _stop_unwanted(self, kept: set[Child]) -> None:
        for name, record in list(self._working.items()):
            if record.child not in kept:
                del self._working[name]
                if record.ref is None:
                    assert record.quick is not None
                    record.quick.abandon()
                    continue
                self._leaving[name] = record
                with suppress(ActorDeadError):  # it has ended by itself, and its report is on the way
                    record.ref.tell(Stop(record.ref))
                timeout = self._parts.policy(record.child.role, record.child.agent).spec.shutdown_timeout
                if not isinf(timeout):
                    self._owner.schedule(timeout, StopOverdue(name, record.incarnation), ("stop", name))

    def context(self, durable: State, memory: Memory) -> str:
        """Return what was said before the running request: put together once for all its children."""
        request = durable.request
        assert request is not None
        if self._context is None or self._context[0] != request.request_id:
            text = memory.context(request.text, self._parts.memory_limits, without=request.request_id)
            self._context = request.request_id, text
        return self._context[1]

    def _start(self, child: Child, message: Any) -> None:
        self._launch(child, message, self._begin(child))

    def _launch(self, child: Child, message: Any, incarnation: int, quick: QuickCall | None = None) -> None:
        actor_class, arguments = self._parts.children[child.role]
        ref = self._owner.spawn(actor_class, child.name, *arguments, incarnation=incarnation)
        self._working[child.name] = _Record(ref, child, incarnation, self._owner.system.clock.monotonic(), quick)
        self._owner.system.tell(ref, message)

    def _begin(self, child: Child) -> int:
        """Return which life of a child begins, and say so when its work is tried again."""
        incarnation = self._incarnations.get(child.name, 0) + 1
        self._incarnations[child.name] = incarnation
        if child.attempt > 1:
            self._owner.log(
                "actor_restarted",
                path=self._owner.path_of(child.name),
                kind=child.role,
                node_id=child.node or None,
                agent=child.agent or None,
                attempt=child.attempt,
                request_id=child.request_id,
            )
        return incarnation

    # The quick lane (actors/quick.py)

    def _start_quickly(self, orders: list[tuple[Child, RunNode]]) -> None:
        assert self._parts.quick is not None
        calls = self._parts.quick.run([order for _, order in orders], self._tell)
        now = self._owner.system.clock.monotonic()
        for (child, order), call in zip(orders, calls, strict=True):
            if call is None:
                self._start(child, order)
            else:
                self._working[child.name] = _Record(None, child, self._begin(child), now, call)

    def quick_ended(self, message: QuickEnded) -> list[NodeResult]:
        """Return what succeeded; what failed gets its actor, and goes the way of every failure."""
        results: list[NodeResult] = []
        for call in message.calls:
            record = self._quick(call)
            if record is None:
                if not call.adopted:
                    reason = "the attempt was over before its outcome came"
                    path = self._owner.path_of(f"agents/{call.order.node}")
                    self._owner.system.dead_letters.add(path, reason, call.outcome)
            elif isinstance(call.outcome, NodeResult):
                del self._working[record.child.name]
                results.append(call.outcome)
            else:
                self._adopt(record)
        return results

    def quick_slow(self, message: QuickSlow) -> None:
        """Give an actor to what takes its time."""
        for call in message.calls:
            record = self._quick(call)
            if record is not None and not call.over:  # else its outcome is in the mailbox already
                self._adopt(record)

    def abandon(self) -> None:
        """Give up what has no actor: this life of the supervisor is over, and nobody waits for it any more.

        Nothing may be asked of these children any more: they let go of their owner, so that it is freed at once.
        """
        for name, record in list(self._working.items()):
            if record.quick is not None:
                record.quick.abandon()
                del self._working[name]
        del self._owner, self._tell

    def _quick(self, call: QuickCall) -> _Record | None:
        """Return the record of a call that has no actor yet."""
        record = self._working.get(f"agents/{call.order.node}")
        return record if record is not None and record.ref is None and record.quick is call else None

    def _adopt(self, record: _Record) -> None:
        assert record.quick is not None
        record.quick.adopted = True
        self._launch(record.child, Adopt(record.quick), record.incarnation, record.quick)

    def _set_timers(self, timers: dict[str, Timer], now: int) -> None:
        for key in [key for key in self._timers if key not in timers]:
            self._owner.unschedule(key)
            del self._timers[key]
        for key, timer in timers.items():
            if self._timers.get(key) != timer.due:
                left = max(0.0, (timer.due - now) / 1000)
                self._owner.schedule(min(left, timer.delay), timer.message or LookAgain(timer.due), key)
                self._timers[key] = timer.due

    # Judging

    def _judge(self, record: _Record, report: ChildFailed, state: State) -> tuple[Failure, float | None, str, int]:
        child = record.child
        policy = self._parts.policy(child.role, child.agent)
        spec = policy.spec
        node = None if state.request is None else state.request.nodes.get(child.node)
        if node is not None:
            spec = replace(spec, max_restarts=node.spec.retries)  # decided when the plan was: reloads do not alter it
        assert report.error is not None
        clock = self._owner.system.clock
        classified = classify(
            report.error, transient=policy.transient, permanent=policy.permanent, now_s=clock.now_ms() / 1000
        )
        failures = _failures(child, state)
        history = History(failures=failures, started_at=record.started_at)
        directive = decide(spec, classified, history, clock.monotonic(), self._parts.random())
        if isinstance(directive, Restart):
            return as_failure(classified), directive.after, directive.rule, failures
        return as_failure(classified), None, directive.reason, failures

    def _name(self, path: str) -> str:
        return path[len(self._owner.path) + 1 :]

    @staticmethod
    def _is(records: dict[str, _Record], name: str, incarnation: int) -> bool:
        record = records.get(name)
        return record is not None and record.incarnation == incarnation


def _failures(child: Child, state: State) -> int:
    """Return the failures in a row of a child's work: they are in the journal, so they outlive the daemon."""
    request = state.request
    if request is None:
        return 0
    if child.role == "planner":
        return request.planning.failures
    if child.role == "synthesizer":
        return request.synthesis.failures
    node = request.nodes.get(child.node)
    return 0 if node is None else node.failures


def _over(record: _Record) -> _Record:
    """Give up what an actor that has ended did not come to take over."""
    if record.quick is not None:
        record.quick.abandon()
    return record


def _unbound(child: Child, error: UnboundReference) -> NodeFailure:
    failure = Failure(type="unbound_input", error_class="permanent", message=str(error))
    rule = "the plan asks for something its results do not have"
    return NodeFailure(child.request_id, child.node, child.attempt, failure, None, rule)


def _verdict(child: Child, failure: Failure, retry_in: float | None, rule: str, took_ms: float | None) -> Verdict:
    if child.role == "planner":
        return PlannerFailed(child.request_id, child.attempt, failure, retry_in)
    if child.role == "synthesizer":
        return SynthesizerFailed(child.request_id, child.attempt, failure, retry_in)
    return NodeFailure(child.request_id, child.node, child.attempt, failure, retry_in, rule, took_ms)
