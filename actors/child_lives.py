"""The lives of a supervising actor's children: how each is started, and what its end is to the roster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from actors.child_places import ChildPlaces, Place
from actors.child_plan import DeclinedToStart
from actors.ref import ActorRef
from actors.stop_order import StopOrder
from messages.lifecycle import RestartRequested
from supervision import children as roster_of
from supervision.children import ChildState, Outcome, StartChild
from supervision.directives import rule_for
from supervision.errors import classify


class ChildLives(ChildPlaces):
    """Tells the roster; the actions that it answers with are for who asked (actors/child_actions.py)."""

    _order: StopOrder
    _causes: deque[str]
    """The last failures, in words."""
    _jitter: Callable[[], float]

    # Starts

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

    def _up(self, child_id: str, place: Place, ref: ActorRef[Any]) -> None:
        place.ref, place.incarnation = ref, ref.incarnation
        self._alive += 1
        self._roster, _ = roster_of.started(self._roster, child_id, self.system.clock.monotonic())

    # Ends

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

    def _say(self, child_id: str, place: Place, cause: str, outcome: Outcome) -> None:
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
