"""Carries out what a roster has decided about children: starts after a wait, stops in their order, giving up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import isinf

from actors.child_lives import ChildLives
from actors.child_places import Place
from actors.child_plan import GaveUp
from actors.envelope import Envelope
from actors.ref import Stop
from messages.lifecycle import ChildFailed, ChildStopped
from supervision.children import ChildState, EscalateNow, Outcome, StartChild, StopChild


@dataclass(frozen=True, slots=True)
class StartDue:
    """The backoff before a child's next life is over."""

    id: str


@dataclass(frozen=True, slots=True)
class StopOverdue:
    """A child had its time to stop."""

    id: str
    incarnation: int


class ChildActions(ChildLives):
    """An action's end comes back as a message of its own: `StartDue`, `StopOverdue`, or the child's report."""

    _facts: deque[Callable[[], Outcome]]
    """Ends and failures that became known while actions were carried out."""

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
                    self.schedule(action.after, StartDue(action.id), ("start", action.id))
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
            self.schedule(timeout, StopOverdue(child_id, place.incarnation), ("stop", child_id))

    def _kill(self, child_id: str, place: Place) -> None:
        assert place.ref is not None
        if self.system.kill(place.ref):
            self.log("child_killed", path=place.ref.path, timeout=self._roster.get(child_id).spec.shutdown_timeout)

    # What comes back

    def _start(self, child_id: str) -> None:
        if child_id not in self._roster or self._roster.get(child_id).state is not ChildState.STARTING:
            return  # its stop was asked for while it waited
        error = self._launch(child_id)
        if error is not None:
            self._carry_out(self._failed(child_id, error))

    def _overdue(self, overdue: StopOverdue) -> None:
        place = self._places.get(overdue.id)
        if place is not None and place.ref is not None and place.incarnation == overdue.incarnation:
            self._kill(overdue.id, place)

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
