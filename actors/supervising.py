"""The general supervising actor: what it is told and asked, and when it ends.

What becomes of its children its roster decides (supervision/children.py); actors/child_actions.py carries that out on
the runtime, by way of their lives (actors/child_lives.py) and places (actors/child_places.py). Rules:

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
from typing import Any, ClassVar

from actors.child_actions import ChildActions, StartDue, StopOverdue
from actors.child_plan import (
    AddChild,
    Added,
    ChildPlan,
    CountChildren,
    FindChild,
    ListChildren,
    NotAdded,
    RemoveChild,
    StartAgain,
)
from actors.stop_order import StopOrder
from messages.lifecycle import ChildFailed, ChildStopped, Crash, RestartRequested
from supervision import children as roster_of
from supervision.children import Roster
from supervision.intensity import Intensity
from supervision.spec import AutoShutdown, Strategy

CAUSES_KEPT = 10
"""Failures named when a supervising actor gives up."""


@dataclass(frozen=True, slots=True)
class _Finish:
    """All children have ended: so does this actor."""


class SupervisingActor(ChildActions):
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
        self._places = {}
        self._alive = 0
        self._order = StopOrder(together=stop_together)
        self._facts = deque()
        self._causes = deque(maxlen=CAUSES_KEPT)
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
            case StartDue():
                self._start(message.id)
            case StopOverdue():
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
