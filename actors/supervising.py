"""The general supervising actor: carries out on the runtime what its roster decides (supervision/children.py).

Rules:

- It never waits and never loops over restarts: each start, stop and deadline is a message of its own, so that it
  answers between two restarts however fast a child fails.
- Asked to stop, escalating or failing itself, it first stops its children, the youngest first, each within its own
  shutdown timeout; then it ends. A child that does not stop in time is taken out of the tree (`ActorSystem.kill`).
- What a child had not handled goes to its next life, together with what came in between (`Address`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isinf
from typing import Any, ClassVar

from actors.address import Address
from actors.base import Actor
from actors.child_plan import (
    AddChild,
    Added,
    ChildPlan,
    ChildRow,
    CountChildren,
    Counts,
    DeclinedToStart,
    FindChild,
    GaveUp,
    ListChildren,
    NotAdded,
    RemoveChild,
    StartAgain,
)
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from actors.ref import ActorRef, Stop
from actors.stop_order import StopOrder
from messages.lifecycle import ChildFailed, ChildStopped, Crash, RestartRequested
from supervision import children as roster_of
from supervision.children import ChildState, EscalateNow, Outcome, Roster, StartChild, StopChild
from supervision.directives import rule_for
from supervision.errors import classify
from supervision.intensity import Intensity
from supervision.spec import AutoShutdown, Strategy

CAUSES_KEPT = 10
"""Failures named when a supervising actor gives up."""


@dataclass(frozen=True, slots=True)
class _StartDue:
    """The backoff before a child's next life is over."""

    id: str


@dataclass(frozen=True, slots=True)
class _StopOverdue:
    """A child had its time to stop."""

    id: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class _Finish:
    """All children have ended: so does this actor."""


@dataclass(slots=True)
class _Place:
    """What the runtime needs to know of one child."""

    plan: ChildPlan
    address: Address
    ref: ActorRef[Any] | None = None
    incarnation: int = 0


class SupervisingActor(Actor):
    """Starts `plans` in their order and keeps them running. Raises `ValueError` for plans that contradict each other.

    `stop_together` is for pools of equals: at the end all are asked at once. The defaults are OTP's.
    """

    kind: ClassVar[str] = "supervision"

    def __init__(
        self,
        plans: Iterable[ChildPlan] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity | None = None,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        stop_together: bool = False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._roster = Roster(Strategy(strategy), intensity or Intensity(), AutoShutdown(auto_shutdown))
        self._places: dict[str, _Place] = {}
        self._alive = 0
        self._order = StopOrder(together=stop_together)
        self._facts: deque[Callable[[], Outcome]] = deque()
        """Ends and failures that became known while actions were carried out."""
        self._causes: deque[str] = deque(maxlen=CAUSES_KEPT)
        self._error: BaseException | None = None
        """What this actor will fail with, once its children have ended."""
        self._finishing = False
        self._jitter = jitter
        for plan in plans:
            self._roster, _ = roster_of.added(self._roster, plan.spec)
            self._places[plan.spec.id] = self._place(plan)

    # Messages

    def on_start(self) -> None:
        """Start the children; when one cannot start, those before it are stopped and this start has failed."""
        for child_id in list(self._places):
            error = self._launch(child_id)
            if error is not None:
                self._give_up(error, f"{child_id} could not start: {error!r}")
                break
            self._pump()
        self._finish()

    def on_receive(self, message: Any) -> Any:
        """Take reports, commands and questions; see `actors/child_plan.py`."""
        reply = None
        try:
            if isinstance(message, Crash):
                raise RestartRequested(f"restart asked for by {message.by}")  # as any failure of its own
            reply = self._take(message)
            self._pump()
        except BaseException as error:
            if self._roster.ended is not None:
                raise
            self._give_up(error, f"failed itself: {error!r}")
        self._finish()
        return reply

    def may_end(self) -> bool:
        """Stop the children first."""
        if self._roster.ended is None:
            self._carry_out(roster_of.shut_down(self._roster, "it was asked to stop"))
            self._pump()
        return self._over()

    def _take(self, message: Any) -> Any:
        match message:
            case ChildFailed() | ChildStopped():
                self._ended(message)
            case _StartDue():
                self._start(message.id)
            case _StopOverdue():
                self._overdue(message)
            case _Finish():
                if self._error is not None:
                    raise self._error
                self.stop()
            case AddChild():
                return self._add(message.plan)
            case RemoveChild():
                return self._remove(message.id)
            case StartAgain():
                return self._start_again(message.id)
            case FindChild():
                place = self._places.get(message.id)
                return None if place is None else place.address
            case ListChildren():
                return self._rows()
            case CountChildren():
                return self._counts()
            case _:
                return super().on_receive(message)
        return None

    # Commands

    def _add(self, plan: ChildPlan) -> Added | NotAdded:
        child_id = plan.spec.id
        try:
            self._roster, _ = roster_of.added(self._roster, plan.spec)
        except ValueError as error:
            return NotAdded(str(error))
        place = self._places[child_id] = self._place(plan)
        raised = self._launch(child_id)
        if raised is None:
            return Added(place.address)
        self._roster, _ = roster_of.refused(self._roster, child_id)
        self._forget(child_id, "its first start failed")
        return NotAdded(f"{child_id} could not start: {raised!r}", raised)

    def _start_again(self, child_id: str) -> Added | NotAdded:
        try:
            self._roster, _ = roster_of.again(self._roster, child_id)
        except KeyError:
            return NotAdded(f"there is no child {child_id!r}")
        except ValueError as error:
            return NotAdded(str(error))
        place = self._places[child_id]
        raised = self._launch(child_id)
        if raised is None:
            return Added(place.address)
        self._carry_out(self._failed(child_id, raised))
        return NotAdded(f"{child_id} could not start: {raised!r}", raised)

    def _remove(self, child_id: str) -> bool:
        if child_id not in self._roster:
            return False
        self._carry_out(roster_of.removed(self._roster, child_id))
        if child_id not in self._roster:
            self._forget(child_id, "it was removed")
        return True

    # Carrying out

    def _pump(self) -> None:
        # A loop, not recursion: thousands of children may end in one turn.
        while self._facts or self._stop_next():
            if self._facts:
                self._carry_out(self._facts.popleft()())

    def _carry_out(self, outcome: Outcome) -> None:
        self._roster, actions = outcome
        stops = []
        for action in actions:
            match action:
                case StartChild():
                    # Through the clock even when it is due now: what came meanwhile is served first.
                    self.schedule(action.after, _StartDue(action.id), ("start", action.id))
                case StopChild():
                    stops.append(action.id)
                case EscalateNow():
                    self._error = self._error or GaveUp(f"{action.reason}; causes: {'; '.join(reversed(self._causes))}")
                    self.log("actor_escalated", path=self.path, reason=action.reason)
        alone = len(stops) == 1 and self._roster.ended is None and self._roster.group is None
        if alone:
            self._ask_to_stop(stops[0])  # its stop concerns nobody else, and waits for nobody
        else:
            self._order.add(stops)

    def _stop_next(self) -> bool:
        child_id = self._order.next()
        if child_id is None:
            return False
        self._ask_to_stop(child_id)
        return True

    def _ask_to_stop(self, child_id: str) -> None:
        place = self._places.get(child_id)
        if place is None or place.ref is None:
            self.unschedule(("start", child_id))
            self._facts.append(lambda: self._gone(child_id))
            return
        timeout = place.plan.spec.shutdown_timeout
        if timeout == 0:
            self._kill(child_id, place)
            return
        place.ref.actor_inbox.put_first(Envelope(Stop(place.ref)))
        if not isinf(timeout):
            self.schedule(timeout, _StopOverdue(child_id, place.incarnation), ("stop", child_id))

    def _overdue(self, overdue: _StopOverdue) -> None:
        place = self._places.get(overdue.id)
        if place is not None and place.ref is not None and place.incarnation == overdue.incarnation:
            self._kill(overdue.id, place)

    def _kill(self, child_id: str, place: _Place) -> None:
        assert place.ref is not None
        if self.system.kill(place.ref):
            self.log("child_killed", path=place.ref.path, timeout=self._roster.get(child_id).spec.shutdown_timeout)

    # Starts

    def _start(self, child_id: str) -> None:
        if child_id not in self._roster or self._roster.get(child_id).state is not ChildState.STARTING:
            return  # its stop was asked for while it waited
        error = self._launch(child_id)
        if error is not None:
            self._carry_out(self._failed(child_id, error))

    def _launch(self, child_id: str) -> BaseException | None:
        place = self._places[child_id]
        plan, path = place.plan, place.address.path
        there = self.system.find(path)
        if there is not None and self._is_mine(there):
            # It was started past the roster, by a subclass or by a start that was thought to have failed.
            before, place.address.mailbox = place.address.mailbox, there.actor_inbox
            before.close(there.actor_inbox.put)
            self._up(child_id, place, there)
            return None
        if place.address.mailbox.closed:
            place.address.mailbox = self._mailbox(plan)
        try:
            ref = self.system.launch(
                plan.actor_class,
                path,
                plan.args,
                plan.kwargs,
                parent=self.actor_ref,
                mailbox=place.address.mailbox,
                incarnation=place.incarnation + 1,
                rules=plan.rules,
            )
        except DeclinedToStart:
            self._roster, _ = roster_of.declined(self._roster, child_id)
            self._settle(child_id, "it declined to start")
            return None
        except BaseException as error:  # noqa: BLE001  # a failed start is a failure of the child, not of this actor
            return error
        if place.incarnation:
            restarts = self._roster.get(child_id).restarts
            self.log("actor_restarted", path=path, incarnation=ref.incarnation, restarts=restarts)
        self._up(child_id, place, ref)
        return None

    def _is_mine(self, ref: ActorRef[Any]) -> bool:
        actor = (self._children or {}).get(ref.path)
        return actor is not None and actor.actor_ref is ref

    def _up(self, child_id: str, place: _Place, ref: ActorRef[Any]) -> None:
        place.ref, place.incarnation = ref, ref.incarnation
        self._alive += 1
        self._roster, _ = roster_of.started(self._roster, child_id, self.system.clock.monotonic())

    # Ends

    def _ended(self, report: ChildFailed | ChildStopped) -> None:
        child_id = report.path[len(self.path_of("")) :]
        place = self._places.get(child_id)
        if place is None or place.ref is None or place.incarnation != report.incarnation:
            self.discard(report.mailbox, report.path)
            return
        place.ref = None
        place.address.mailbox = report.mailbox
        self._alive -= 1
        self.unschedule(("stop", child_id))
        stopping = self._roster.get(child_id).state is ChildState.STOPPING
        if isinstance(report, ChildStopped):
            self._carry_out(self._gone(child_id))
        elif stopping:
            cause = f"{report.failure.type}: {report.failure.message}"
            self.log(
                "child_failed", "error", path=report.path, cause=cause, rule="it failed while it was being stopped"
            )
            self._carry_out(self._gone(child_id))
        else:
            assert report.error is not None
            self._carry_out(self._failed(child_id, report.error))

    def _gone(self, child_id: str) -> Outcome:
        self._order.gone(child_id)
        if child_id not in self._roster:
            return self._roster, ()
        outcome = roster_of.stopped(self._roster, child_id, self.system.clock.monotonic(), self._jitter())
        self._roster = outcome[0]
        self._settle(child_id, "it was not started again")
        return outcome

    def _failed(self, child_id: str, error: BaseException) -> Outcome:
        place, now = self._places[child_id], self.system.clock.monotonic()
        classified = classify(error, now_s=self.system.clock.now_ms() / 1000)
        cause = f"{classified.type}: {classified.message}"
        self._causes.append(f"{child_id}: {cause}")
        rule = rule_for(place.plan.rules, error)
        if isinstance(error, RestartRequested):
            outcome = roster_of.restart_asked(self._roster, child_id, now)
        else:
            outcome = roster_of.failed(self._roster, child_id, classified, now, self._jitter(), rule)
        self._roster = outcome[0]
        self._say(child_id, place, cause, outcome)
        self._settle(child_id, "its actor failed and was not started again")
        return outcome

    def _say(self, child_id: str, place: _Place, cause: str, outcome: Outcome) -> None:
        start = next((a for a in outcome[1] if isinstance(a, StartChild) and a.id == child_id), None)
        child = self._roster.get(child_id) if child_id in self._roster else None
        failures = 1 if child is None else child.history.failures
        level = "warning" if failures <= place.plan.quiet_failures else "error"
        path, rule = place.address.path, None if start is None else start.rule
        self.log("child_failed", level, path=path, cause=cause, failures=failures, rule=rule)
        if child is not None and child.state is not ChildState.STOPPED:
            kind = place.plan.actor_class.kind or place.plan.actor_class.__name__
            self.system.tree.note_backing_off(path, kind, child.restarts, cause)
        else:
            self.system.tree.forget(path)

    def _settle(self, child_id: str, reason: str) -> None:
        """Close the mailbox of a child that gets no next life; forget one that the roster has forgotten."""
        roster = self._roster
        if child_id not in roster:
            self._forget(child_id, reason)
            return
        coming_back = roster.group is not None and child_id in roster.group.ids
        if roster.get(child_id).state is ChildState.STOPPED and not coming_back:
            place = self._places[child_id]
            self.discard(place.address.mailbox, place.address.path, reason)

    def _forget(self, child_id: str, reason: str) -> None:
        place = self._places.pop(child_id)
        self.discard(place.address.mailbox, place.address.path, reason)
        self.system.tree.forget(place.address.path)

    # The end

    def _give_up(self, error: BaseException, reason: str) -> None:
        self._error = error
        self._carry_out(roster_of.shut_down(self._roster, reason))
        # After an error of this actor's own its roster may lag behind what lives.
        lost = [i for i, p in self._places.items() if p.ref is not None and i not in self._roster.stopping]
        self._order.add(reversed(lost))
        self._pump()

    def _over(self) -> bool:
        return self._roster.ended is not None and not self._alive and not self._order and not self._facts

    def _finish(self) -> None:
        if self._over() and not self._finishing:
            # By a message: an error raised while somebody is being answered would be taken for the answer.
            self._finishing = True
            self.system.tell(self.actor_ref, _Finish())

    # Looking

    def _rows(self) -> tuple[ChildRow, ...]:
        rows = []
        for child in self._roster.table.values():
            place = self._places[child.spec.id]
            rows.append(
                ChildRow(
                    id=child.spec.id,
                    path=place.address.path,
                    state=child.state,
                    restart=child.spec.restart,
                    incarnation=place.incarnation,
                    restarts=child.restarts,
                    waiting=len(place.address.mailbox),
                    supervising=issubclass(place.plan.actor_class, SupervisingActor),
                )
            )
        return tuple(rows)

    def _counts(self) -> Counts:
        rows = self._rows()
        supervising = sum(row.supervising for row in rows)
        waiting = sum(row.state is ChildState.STARTING for row in rows)
        return Counts(len(rows), self._alive, waiting, supervising, len(rows) - supervising)

    def _place(self, plan: ChildPlan) -> _Place:
        if plan.address is not None:
            return _Place(plan, plan.address)
        return _Place(plan, Address(self.system, self.path_of(plan.spec.id), self._mailbox(plan)))

    def _mailbox(self, plan: ChildPlan) -> Mailbox:
        limit = self.system.mailbox_limit if plan.stash_limit is None else plan.stash_limit
        return Mailbox(limit, self.system.monotonic)
