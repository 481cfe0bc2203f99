"""The transition table: phase x message -> handler, and the phases that step may move to next. All of it, as data.

Rules:

1. A message without an entry in the present phase is illegal: it raises, changes nothing, and becomes a dead letter.
2. A step records facts first; what follows from them (`ONWARD`) is derived from the state alone, so that a resumed or
   recovered conversation goes on by the same lines.
3. Every move between phases is checked against this table, and docs/states.md is drawn from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from messages.agent import NodeFailure, NodeResult, RetryDue
from messages.conversation import Accept, Deadline, Quarantine
from messages.inbound import Cancel, Pause, Resume
from messages.lifecycle import Recovered
from messages.planning import PlannerFailed, PlanReady
from messages.synthesis import Synthesized, SynthesizerFailed
from workflow.state import Phase

Incoming = (
    Accept
    | Cancel
    | Pause
    | Resume
    | Quarantine
    | Deadline
    | Recovered
    | PlanReady
    | PlannerFailed
    | NodeResult
    | NodeFailure
    | RetryDue
    | Synthesized
    | SynthesizerFailed
)
"""Everything the core can be told."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a message does in a phase."""

    handler: str
    """Name of the function in workflow/decide.py."""
    next: frozenset[Phase]
    """Phases the message itself may move to from here; staying is always allowed."""


I, P, A = Phase.INITIALIZING, Phase.PLANNING, Phase.AWAITING_APPROVAL  # noqa: E741  # one letter a phase keeps the table readable
X1, XN, E = Phase.EXECUTING_SINGLE, Phase.EXECUTING_PARALLEL, Phase.ERROR_HANDLING
S, R, Z = Phase.SYNTHESIZING, Phase.RESPONDING, Phase.PAUSED
OK, NO, CUT = Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED

REST: Final = frozenset({I, OK, NO, CUT})
"""Phases in which nothing runs: the conversation waits for somebody to speak."""

ONWARD: Final[dict[Phase, frozenset[Phase]]] = {
    I: frozenset({P, A, X1, XN, R}),
    P: frozenset({A, X1, XN, S, R, E}),
    A: frozenset({X1, XN, S, E, R}),
    X1: frozenset({XN, S, E, R}),
    XN: frozenset({X1, S, E, R}),
    E: frozenset({P, X1, XN, S, R}),
    S: frozenset({R, E}),
    R: frozenset({OK, NO, CUT}),
    OK: frozenset({P, A, X1, XN, R}),
    NO: frozenset({P, A, X1, XN, R}),
    CUT: frozenset({P, A, X1, XN, R}),
    Z: frozenset(),
}
"""Moves that follow from recorded facts alone."""


def _rules(**handlers: frozenset[Phase]) -> dict[type[Incoming], Rule]:
    return {_MESSAGES[name]: Rule(name, following) for name, following in handlers.items()}


_MESSAGES: Final[dict[str, type[Incoming]]] = {
    "accept": Accept,
    "cancel": Cancel,
    "pause": Pause,
    "resume": Resume,
    "quarantine": Quarantine,
    "deadline": Deadline,
    "recovered": Recovered,
    "plan_ready": PlanReady,
    "planner_failed": PlannerFailed,
    "node_result": NodeResult,
    "node_failure": NodeFailure,
    "retry_due": RetryDue,
    "synthesized": Synthesized,
    "synthesizer_failed": SynthesizerFailed,
}
_STAY: Final[frozenset[Phase]] = frozenset()
_NODES: Final = {"node_result": _STAY, "node_failure": frozenset({E}), "retry_due": _STAY}
_KEPT: Final = dict.fromkeys(_NODES, _STAY)
"""Nodes that a new plan kept go on while that plan waits for approval."""
_RUNNING: Final = {
    "accept": frozenset({R}),  # interrupt and rollback end the running request
    "cancel": frozenset({R}),
    "deadline": frozenset({R}),
    "pause": frozenset({Z}),
    "quarantine": frozenset({Z}),
    "recovered": _STAY,
}
_RESTING: Final = {"accept": _STAY, "pause": frozenset({Z}), "quarantine": frozenset({Z}), "recovered": _STAY}

TABLE: Final[dict[Phase, dict[type[Incoming], Rule]]] = {
    I: _rules(**_RESTING),
    P: _rules(**_RUNNING, **_NODES, plan_ready=_STAY, planner_failed=frozenset({E})),
    A: _rules(**_RUNNING, **_KEPT, resume=_STAY),
    X1: _rules(**_RUNNING, **_NODES),
    XN: _rules(**_RUNNING, **_NODES),
    E: {},  # passed through within one step, never rested in
    S: _rules(**_RUNNING, synthesized=_STAY, synthesizer_failed=frozenset({E})),
    R: {},  # passed through within one step, never rested in
    OK: _rules(**_RESTING),
    NO: _rules(**_RESTING),
    CUT: _rules(**_RESTING),
    Z: _rules(
        accept=_STAY,
        cancel=frozenset({R}),
        deadline=_STAY,
        resume=frozenset({I, P, A, X1, XN, S, OK, NO, CUT}),
        recovered=_STAY,
        plan_ready=_STAY,
        planner_failed=_STAY,
        node_result=_STAY,
        node_failure=_STAY,
        retry_due=_STAY,
        synthesized=_STAY,
        synthesizer_failed=_STAY,
    ),
}


def next_phases(phase: Phase) -> frozenset[Phase]:
    """Return every phase that can directly follow `phase`."""
    return ONWARD[phase].union(*(rule.next for rule in TABLE[phase].values()))
