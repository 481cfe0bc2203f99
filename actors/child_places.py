"""What the runtime knows of each child of a supervising actor, and what is told to those who ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.address import Address
from actors.base import Actor
from actors.child_plan import ChildPlan, ChildRow, Counts
from actors.mailbox import Mailbox
from actors.ref import ActorRef
from supervision.children import ChildState, Roster


@dataclass(slots=True)
class Place:
    """One child, with a life or between two."""

    plan: ChildPlan
    address: Address
    ref: ActorRef[Any] | None = None
    incarnation: int = 0


class ChildPlaces(Actor):
    """Beside the roster, which knows what is to become of a child: who it is now, and where it is reached."""

    _roster: Roster
    _places: dict[str, Place]
    _alive: int
    """Children with a life."""

    # Places

    def _place(self, plan: ChildPlan) -> Place:
        if plan.address is not None:
            return Place(plan, plan.address)
        return Place(plan, Address(self.system, self.path_of(plan.spec.id), self._mailbox(plan)))

    def _mailbox(self, plan: ChildPlan) -> Mailbox:
        limit = self.system.mailbox_limit if plan.stash_limit is None else plan.stash_limit
        return Mailbox(limit, self.system.monotonic)

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
                    supervising=issubclass(place.plan.actor_class, ChildPlaces),
                )
            )
        return tuple(rows)

    def _counts(self) -> Counts:
        rows = self._rows()
        supervising = sum(row.supervising for row in rows)
        waiting = sum(row.state is ChildState.STARTING for row in rows)
        return Counts(len(rows), self._alive, waiting, supervising, len(rows) - supervising)
