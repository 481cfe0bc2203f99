"""One step in the making: collects events and keeps the state they lead to, checking every move against the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from messages.base import made
from messages.events import Journaled, PhaseChanged
from workflow.draft import Draft
from workflow.evolve import apply
from workflow.phases import ONWARD, Rule
from workflow.state import Node, Phase, Request, State


@dataclass(frozen=True, slots=True)
class Limits:
    """What the core needs to know of the configuration."""

    parallel_threshold: int = 2
    """Fewest nodes running at once that count as parallel execution."""
    max_replans: int = 2
    """New plans a request may ask for after failures."""
    request_timeout: float | None = None
    """Seconds a request may take as a whole, from when its turn comes; None: as long as it takes."""


class Step:
    """Grows by `add` and `move`, for one message or for several that come in the same moment."""

    __slots__ = ("_draft", "_rule", "cause", "events", "limits", "now", "state")

    def __init__(self, state: State, now: int, limits: Limits) -> None:
        self._draft = Draft(state)
        self.state = self._draft.state
        """The one in the making: read it anew after each event."""
        self.now = now
        self.limits = limits
        self.events: list[Journaled] = []
        self.cause: int | str | None = state.seq or None
        """What the next event follows from, unless it says otherwise."""
        self._rule: Rule | None = None

    def begin(self, rule: Rule) -> None:
        """Go on with a message that the table has this rule for."""
        self._rule = rule
        self.cause = self.state.seq or None

    @property
    def request(self) -> Request:
        """The running request."""
        assert self.state.request is not None
        return self.state.request

    def node(self, node_id: str) -> Node:
        """Return a node of the running request."""
        return self.request.nodes[node_id]

    def add(
        self, kind: type[Journaled], *, cause: int | str | None = None, request_id: str | None = None, **fields: Any
    ) -> None:
        """Append an event with the next sequence number and move the state on; later events follow from it."""
        self._append(kind, cause, request_id, fields)

    def fact(
        self, kind: type[Journaled], *, cause: int | str | None = None, request_id: str | None = None, **fields: Any
    ) -> int:
        """Add an event that what comes next in this step follows from; return its sequence number."""
        self.cause = seq = self._append(kind, cause, request_id, fields)
        return seq

    def move(self, to: Phase, *, request_id: str | None = None) -> None:
        """Change the phase; a move the table does not know is a defect of ours and raises AssertionError.

        `request_id` is whose move it is, when that is not the running request.
        """
        here = self.state.phase
        if to is here:
            return
        allowed = ONWARD[here] if self._rule is None else ONWARD[here] | self._rule.next
        assert to in allowed, f"the table has no move from {here} to {to}"
        self._rule = None
        self._append(PhaseChanged, None, request_id, {"from_phase": here._value_, "to_phase": to._value_})

    def _append(
        self, kind: type[Journaled], cause: int | str | None, request_id: str | None, fields: dict[str, Any]
    ) -> int:
        state = self.state
        if request_id is None and state.request is not None:
            request_id = state.request.request_id
        fields["seq"] = seq = state.seq + 1
        fields["at"] = self.now
        fields["conversation_id"] = state.conversation_id
        fields["request_id"] = request_id
        fields["cause"] = self.cause if cause is None else cause
        event = made(kind, fields)
        self.events.append(event)
        apply(self._draft, event)
        return seq
