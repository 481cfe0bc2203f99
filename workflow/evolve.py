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
from workflow.state import Attempted, Node, NodeStatus, Phase, Request, State

KEPT_BY_A_REPLAN: Final = frozenset({NodeStatus.SUCCEEDED, NodeStatus.RUNNING, NodeStatus.BACKING_OFF})
"""Work that a new plan does not throw away."""


def evolve(state: State, event: Journaled) -> State:
    """Return the state after `event`."""
    return _EVOLVERS[type(event)](state, event)


def fold(state: State, events: Iterable[Journaled]) -> State:
    """Return the state after all of `events`."""
    for event in events:
        state = evolve(state, event)
    return state


# Messages


def _accepted(state: State, event: MessageAccepted) -> State:
    request = Request(
        request_id=event.request_id or "",
        message_id=event.message_id,
        accepted_seq=event.seq,
        text=event.text,
        user_id=event.user_id,
        traceparent=event.traceparent,
    )
    if state.request is None:
        return state.changed(seq=event.seq, request=request.changed(begun_at=event.at))
    queue = (request, *state.queue) if event.next else (*state.queue, request)
    return state.changed(seq=event.seq, queue=queue)


def _refused(state: State, event: MessageRefused) -> State:
    return state.changed(seq=event.seq)


def _replied(state: State, event: ReplySent) -> State:
    following, *queue = state.queue or (None,)
    if following is not None:
        following = following.changed(begun_at=event.at)
    return state.changed(seq=event.seq, turns=state.turns + 1, request=following, queue=tuple(queue))


# Planning


def _drafted(state: State, event: PlanDrafted) -> State:
    queue = tuple(_planned(r, event) if r.request_id == event.request_id else r for r in state.queue)
    request = state.request
    if request is not None and request.request_id == event.request_id:
        request = _planned(request, event)
    return state.changed(seq=event.seq, request=request, queue=queue)


def _planned(request: Request, event: PlanDrafted) -> Request:
    nodes = {key: node for key, node in request.nodes.items() if node.status in KEPT_BY_A_REPLAN}
    # Attempts of a node that was dropped go on counting if its id comes back, so that its late results stay fenced off.
    spent = {**request.spent, **{key: node.attempts for key, node in request.nodes.items() if key not in nodes}}
    for spec in event.nodes:
        if spec.id not in nodes:
            attempts = spent.get(spec.id, 0)
            nodes[spec.id] = Node(spec=spec, agent=spec.agent, attempts=attempts, plan_seq=event.seq)
    return request.changed(
        planned=True,
        answer=event.answer,
        nodes=nodes,
        spent=spent,
        planning=Attempted(),
        replanning=False,
        plan_seq=event.seq,
    )


def _plan_failed(state: State, event: PlanFailed) -> State:
    request = state.request
    if request is None:
        return state.changed(seq=event.seq)
    return state.changed(seq=event.seq, request=request.changed(planning=_tried(request.planning, event)))


def _tried(attempted: Attempted, event: PlanFailed | SynthesisFailed) -> Attempted:
    return Attempted(
        failures=attempted.failures + 1,
        retry_at=event.due,
        retry_delay=event.delay,
        given_up=event.error if event.delay is None else None,
    )


# Nodes


def _node(state: State, event: Any, **changes: Any) -> State:
    request = state.request
    if request is None or event.node not in request.nodes:
        return state.changed(seq=event.seq)
    nodes = dict(request.nodes)
    nodes[event.node] = nodes[event.node].changed(event_seq=event.seq, **changes)
    return state.changed(seq=event.seq, request=request.changed(nodes=nodes))


def _find(state: State, node_id: str) -> Node | None:
    return None if state.request is None else state.request.nodes.get(node_id)


def _started(state: State, event: NodeStarted) -> State:
    node = _find(state, event.node)
    changed_agent = node is not None and node.agent != event.agent
    failures = 0 if node is None or changed_agent else node.failures
    return _node(
        state,
        event,
        status=NodeStatus.RUNNING,
        agent=event.agent,
        attempts=event.attempt,
        failures=failures,
        retry_at=None,
        retry_delay=None,
        result=None,
    )


def _succeeded(state: State, event: NodeSucceeded) -> State:
    return _node(state, event, status=NodeStatus.SUCCEEDED, result=event.result)


def _failed(state: State, event: NodeFailed) -> State:
    node = _find(state, event.node)
    failures = 1 if node is None else node.failures + 1
    reason = f"{event.error.type}: {event.error.message}"
    return _node(state, event, status=NodeStatus.FAILED, failures=failures, failure=event.error, reason=reason)


def _retrying(state: State, event: NodeRetrying) -> State:
    return _node(state, event, status=NodeStatus.BACKING_OFF, retry_at=event.due, retry_delay=event.delay)


def _skipped(state: State, event: NodeSkipped) -> State:
    return _node(state, event, status=NodeStatus.SKIPPED, reason=event.reason)


# Phases


def _moved(state: State, event: PhaseChanged) -> State:
    to = Phase(event.to_phase)
    paused_from = state.phase if to is Phase.PAUSED else None
    request = state.request
    if request is not None and to is Phase.PLANNING and event.from_phase == Phase.ERROR_HANDLING:
        request = request.changed(planned=False, replanning=True, replans=request.replans + 1, planning=Attempted())
    quarantined = state.quarantined if to is Phase.PAUSED else None
    return state.changed(seq=event.seq, phase=to, paused_from=paused_from, quarantined=quarantined, request=request)


def _paused(state: State, event: ConversationPaused) -> State:
    return state.changed(seq=event.seq)


def _resumed(state: State, event: ConversationResumed) -> State:
    request = state.request
    if request is not None and state.phase is Phase.AWAITING_APPROVAL:
        request = request.changed(approved=True)
    return state.changed(seq=event.seq, quarantined=None, request=request)


def _quarantined(state: State, event: ConversationQuarantined) -> State:
    return state.changed(seq=event.seq, quarantined=event.reason)


# Synthesis


def _synthesis_failed(state: State, event: SynthesisFailed) -> State:
    request = state.request
    if request is None:
        return state.changed(seq=event.seq)
    return state.changed(seq=event.seq, request=request.changed(synthesis=_tried(request.synthesis, event)))


_EVOLVERS: Final[dict[type[Journaled], Callable[[State, Any], State]]] = {
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
