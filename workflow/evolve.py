"""What an event changes: total, never fails, the only way a state comes about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from messages.events import (
    ConversationPaused,
    ConversationQuarantined,
    ConversationResumed,
    Journaled,
    MessageAccepted,
    MessageRefused,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    PhaseChanged,
    PlanDrafted,
    PlanFailed,
    ReplySent,
    SynthesisFailed,
)
from workflow.draft import Draft
from workflow.state import Attempted, Node, NodeStatus, Phase, Request, State

KEPT_BY_A_REPLAN: Final = frozenset({NodeStatus.SUCCEEDED, NodeStatus.RUNNING, NodeStatus.BACKING_OFF})
"""Work that a new plan does not throw away."""


def evolve(state: State, event: Journaled) -> State:
    """Return the state after `event`."""
    return fold(state, (event,))


def fold(state: State, events: Iterable[Journaled]) -> State:
    """Return the state after all of `events`."""
    draft = Draft(state)
    for event in events:
        apply(draft, event)
    return draft.state


def apply(draft: Draft, event: Journaled) -> None:
    """Change a draft as `event` says."""
    _EVOLVERS[type(event)](draft, event)
    draft.state.__dict__["seq"] = event.seq


# Messages


def _accepted(draft: Draft, event: MessageAccepted) -> None:
    state = draft.state
    request = Request(
        request_id=event.request_id or "",
        message_id=event.message_id,
        accepted_seq=event.seq,
        text=event.text,
        user_id=event.user_id,
        traceparent=event.traceparent,
        begun_at=event.at if state.request is None else None,
    )
    if state.request is None:
        draft.begin(request)
    else:
        draft.change(queue=(request, *state.queue) if event.next else (*state.queue, request))


def _refused(_draft: Draft, _event: MessageRefused) -> None:
    """Nothing but the sequence number changes."""


def _replied(draft: Draft, event: ReplySent) -> None:
    state = draft.state
    following, *queue = state.queue or (None,)
    if following is not None:
        following = following.changed(begun_at=event.at)
    draft.change(turns=state.turns + 1, request=following, queue=tuple(queue))


# Planning


def _drafted(draft: Draft, event: PlanDrafted) -> None:
    state = draft.state
    request = state.request
    if request is not None and request.request_id == event.request_id:
        draft.change_request(**_planned(request, event))
    if state.queue:
        queue = (r.changed(**_planned(r, event)) if r.request_id == event.request_id else r for r in state.queue)
        draft.change(queue=tuple(queue))


def _planned(request: Request, event: PlanDrafted) -> dict[str, Any]:
    nodes = {key: node for key, node in request.nodes.items() if node.status in KEPT_BY_A_REPLAN}
    # Attempts of a node that was dropped go on counting if its id comes back, so that its late results stay fenced off.
    spent = {**request.spent, **{key: node.attempts for key, node in request.nodes.items() if key not in nodes}}
    for spec in event.nodes:
        key = spec.id
        if key not in nodes:
            nodes[key] = Node(spec=spec, agent=spec.agent, attempts=spent.get(key, 0), plan_seq=event.seq)
    return {
        "planned": True,
        "answer": event.answer,
        "nodes": nodes,
        "spent": spent,
        "planning": _NEVER,
        "replanning": False,
        "plan_seq": event.seq,
    }


def _plan_failed(draft: Draft, event: PlanFailed) -> None:
    request = draft.state.request
    if request is not None:
        draft.change_request(planning=_tried(request.planning, event))


def _tried(attempted: Attempted, event: PlanFailed | SynthesisFailed) -> Attempted:
    return Attempted(
        failures=attempted.failures + 1,
        retry_at=event.due,
        retry_delay=event.delay,
        given_up=event.error if event.delay is None else None,
    )


_NEVER: Final = Attempted()


# Nodes


def _find(draft: Draft, node_id: str) -> Node | None:
    request = draft.state.request
    return None if request is None else request.nodes.get(node_id)


def _started(draft: Draft, event: NodeStarted) -> None:
    node = _find(draft, event.node)
    draft.change_node(
        event.node,
        event_seq=event.seq,
        status=NodeStatus.RUNNING,
        agent=event.agent,
        attempts=event.attempt,
        failures=node.failures if node is not None and node.agent == event.agent else 0,
        retry_at=None,
        retry_delay=None,
        result=None,
    )


def _succeeded(draft: Draft, event: NodeSucceeded) -> None:
    draft.change_node(event.node, event_seq=event.seq, status=NodeStatus.SUCCEEDED, result=event.result)


def _failed(draft: Draft, event: NodeFailed) -> None:
    node = _find(draft, event.node)
    draft.change_node(
        event.node,
        event_seq=event.seq,
        status=NodeStatus.FAILED,
        failures=1 if node is None else node.failures + 1,
        failure=event.error,
        reason=f"{event.error.type}: {event.error.message}",
    )


def _retrying(draft: Draft, event: NodeRetrying) -> None:
    draft.change_node(
        event.node, event_seq=event.seq, status=NodeStatus.BACKING_OFF, retry_at=event.due, retry_delay=event.delay
    )


def _skipped(draft: Draft, event: NodeSkipped) -> None:
    draft.change_node(event.node, event_seq=event.seq, status=NodeStatus.SKIPPED, reason=event.reason)


# Phases


def _moved(draft: Draft, event: PhaseChanged) -> None:
    state = draft.state
    to = _PHASES.get(event.to_phase) or Phase(event.to_phase)
    request = state.request
    if to is Phase.PLANNING and request is not None and event.from_phase == Phase.ERROR_HANDLING:
        draft.change_request(planned=False, replanning=True, replans=request.replans + 1, planning=_NEVER)
    paused = to is Phase.PAUSED
    draft.change(
        phase=to, paused_from=state.phase if paused else None, quarantined=state.quarantined if paused else None
    )


_PHASES: Final = {phase.value: phase for phase in Phase}
"""The enumeration itself takes a microsecond to find one, and a request moves five times."""


def _paused(_draft: Draft, _event: ConversationPaused) -> None:
    """Nothing but the sequence number changes; the move to another phase follows."""


def _resumed(draft: Draft, _event: ConversationResumed) -> None:
    if draft.state.phase is Phase.AWAITING_APPROVAL:
        draft.change_request(approved=True)
    draft.change(quarantined=None)


def _quarantined(draft: Draft, event: ConversationQuarantined) -> None:
    draft.change(quarantined=event.reason)


# Synthesis


def _synthesis_failed(draft: Draft, event: SynthesisFailed) -> None:
    request = draft.state.request
    if request is not None:
        draft.change_request(synthesis=_tried(request.synthesis, event))


_EVOLVERS: Final[dict[type[Journaled], Callable[[Draft, Any], None]]] = {
    MessageAccepted: _accepted,
    MessageRefused: _refused,
    PlanDrafted: _drafted,
    PlanFailed: _plan_failed,
    NodeStarted: _started,
    NodeSucceeded: _succeeded,
    NodeFailed: _failed,
    NodeRetrying: _retrying,
    NodeSkipped: _skipped,
    PhaseChanged: _moved,
    SynthesisFailed: _synthesis_failed,
    ReplySent: _replied,
    ConversationPaused: _paused,
    ConversationResumed: _resumed,
    ConversationQuarantined: _quarantined,
}
