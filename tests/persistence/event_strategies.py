"""Steps of events as the core could write them, for the codec properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from messages import events as e
from messages.failure import Failure
from messages.plan import NodeSpec

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
NUMBERS = st.floats(0, 1e6, allow_nan=False)
TIMES = st.integers(0, 2**45)
FAILURES = st.builds(
    Failure,
    type=TEXTS,
    error_class=st.sampled_from(["transient", "permanent", "fatal"]),
    message=TEXTS,
    retry_after=st.none() | NUMBERS,
    counted=st.booleans(),
)
SPECS = st.builds(
    NodeSpec,
    id=NAMES,
    agent=NAMES,
    task=TEXTS,
    inputs=st.dictionaries(TEXTS, JSON, max_size=2),
    depends_on=st.lists(NAMES, max_size=2).map(tuple),
    timeout=NUMBERS,
    retries=st.integers(0, 9),
    approval=st.booleans(),
)
MISSING = st.builds(e.Missing, node=NAMES, reason=TEXTS, attempts=st.integers(0, 9))
_ID = st.from_regex(r"[!-~]{1,8}", fullmatch=True)
_OPTIONAL = st.none() | TEXTS
_NODE: dict[str, Any] = {"node": NAMES, "agent": NAMES, "attempt": st.integers(0, 9)}
_AGAIN: dict[str, Any] = {"attempt": st.integers(1, 9), "error": FAILURES, "delay": st.none() | NUMBERS}
_PHASES = st.sampled_from(["idle", "planning", "executing"])

FIELDS: dict[type[Any], dict[str, Any]] = {
    e.MessageAccepted: {
        "message_id": _ID,
        "text": TEXTS,
        "user_id": _OPTIONAL,
        "planned": st.booleans(),
        "next": st.booleans(),
    },
    e.MessageRefused: {"message_id": _ID, "code": TEXTS, "reason": TEXTS},
    e.PlanDrafted: {
        "nodes": st.lists(SPECS, max_size=2).map(tuple),
        "answer": _OPTIONAL,
        "origin": st.sampled_from(["client", "planner"]),
    },
    e.PlanFailed: _AGAIN | {"due": st.none() | TIMES},
    e.NodeStarted: _NODE | {"recovered": st.booleans()},
    e.NodeSucceeded: _NODE | {"duration_ms": NUMBERS, "result": JSON, "cached": st.booleans()},
    e.NodeFailed: _NODE | {"error": FAILURES},
    e.NodeRetrying: _NODE | {"delay": NUMBERS, "due": TIMES, "reason": TEXTS},
    e.NodeSkipped: _NODE | {"reason": TEXTS},
    e.PhaseChanged: {"from_phase": _PHASES, "to_phase": _PHASES},
    e.SynthesisFailed: _AGAIN | {"due": st.none() | TIMES},
    e.ReplySent: {
        "message_id": _ID,
        "text": TEXTS,
        "missing": st.lists(MISSING, max_size=2).map(tuple),
        "status": st.sampled_from(["completed", "partial", "failed", "cancelled"]),
        "forgotten": st.booleans(),
    },
    e.ConversationPaused: {"by": _OPTIONAL, "reason": _OPTIONAL},
    e.ConversationResumed: {"by": _OPTIONAL, "reason": _OPTIONAL},
    e.ConversationQuarantined: {"reason": TEXTS},
}
"""Every journaled event, with what its own fields may hold."""


@st.composite
def steps(draw: st.DrawFn) -> list[e.Journaled]:
    """Return the events of one step; a reply shows the results of nodes that succeeded in the same step."""
    first = draw(st.integers(1, 1_000))
    at = draw(TIMES)
    made: list[e.Journaled] = []
    results: dict[tuple[str | None, str], Any] = {}
    for seq in range(first, first + draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(list(FIELDS)))
        fields = {name: draw(strategy) for name, strategy in FIELDS[kind].items()}
        request = draw(st.sampled_from(["r1", "r2"]))
        if kind is e.NodeSucceeded:
            results[request, fields["node"]] = fields["result"]
        if kind is e.ReplySent:
            fields["nodes"] = tuple(node for owner, node in results if owner == request)
            fields["data"] = {node: results[request, node] for node in fields["nodes"]}
        place = {"seq": seq, "at": at, "conversation_id": "c1", "request_id": request}
        made.append(kind(**place, cause=draw(st.none() | st.integers(1, 99) | _ID), **fields))
    return _with_newest_results(made, results)


def _with_newest_results(made: list[e.Journaled], results: dict[tuple[str | None, str], Any]) -> list[e.Journaled]:
    """One result is stored per (request, node): make all events tell the newest."""
    same: list[e.Journaled] = []
    for event in made:
        if isinstance(event, e.NodeSucceeded):
            same.append(event.changed(result=results[event.request_id, event.node]))
        elif isinstance(event, e.ReplySent):
            data = {node: results[event.request_id, node] for node in event.nodes}
            same.append(event.changed(data=data))
        else:
            same.append(event)
    return same
