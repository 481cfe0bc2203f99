"""What a message means: `decide(state, message, now) -> events`, with one handler per message of the table.

A handler records what happened; workflow/onward.py derives what follows. A message that means nothing here raises one
of workflow/errors.py before anything is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from messages.agent import NodeFailure, NodeResult, RetryDue
from messages.conversation import Accept, Deadline, Quarantine
from messages.events import (
    ConversationPaused,
    ConversationQuarantined,
    ConversationResumed,
    Journaled,
    MessageAccepted,
    MessageRefused,
    NodeFailed,
    NodeRetrying,
    NodeSucceeded,
    PlanDrafted,
    PlanFailed,
    SynthesisFailed,
)
from messages.failure import Failure
from messages.inbound import Cancel, Pause, Resume
from messages.lifecycle import Recovered
from messages.planning import PlannerFailed, PlanReady
from messages.synthesis import Synthesized, SynthesizerFailed
from workflow.errors import Illegal, Stale
from workflow.onward import DEADLINE, go_onward, reply, start
from workflow.phases import TABLE, Incoming
from workflow.state import LOST, Node, NodeStatus, Phase, State
from workflow.step import Limits, Step

DEFAULT_LIMITS: Final = Limits()


def decide(state: State, message: Incoming, now: int, limits: Limits = DEFAULT_LIMITS) -> list[Journaled]:
    """Return the events that `message` causes; `now` is milliseconds since the epoch.

    Raises `Illegal`, `Stale` or `RefusedByWorkflow`, and nothing has changed then.
    """
    return take(state, message, now, limits)[0]


def take(state: State, message: Incoming, now: int, limits: Limits = DEFAULT_LIMITS) -> tuple[list[Journaled], State]:
    """Do what `decide` does and return the state the events lead to as well, which saves folding them again."""
    step = Step(state, now, limits)
    tell(step, message)
    return step.events, step.state


def tell(step: Step, message: Incoming) -> None:
    """Let a step take one more message. Raises what `decide` raises, and the step is as it was then."""
    rule = TABLE[step.state.phase].get(type(message))
    if rule is None:
        raise Illegal(f"{_say(message)} means nothing while the conversation is {step.state.phase}")
    step.begin(rule)
    HANDLERS[rule.handler](step, message)
    go_onward(step)


def _say(message: Incoming) -> str:
    return getattr(message, "type", None) or type(message).__name__


# From outside


def _accept(step: Step, message: Accept) -> None:
    state = step.state
    busy = state.request is not None
    policy = message.busy_policy
    if busy and policy == "reject":
        step.add(
            MessageRefused,
            cause=message.message_id,
            request_id=message.request_id,
            message_id=message.message_id,
            code="conversation_busy",
            reason="a request is running in this conversation and its busy policy is reject",
        )
        return
    ahead = busy and policy in ("interrupt", "rollback") and state.phase is not Phase.PAUSED
    accepted = step.fact(
        MessageAccepted,
        cause=message.message_id,
        request_id=message.request_id,
        message_id=message.message_id,
        text=message.text,
        user_id=message.user_id,
        planned=message.plan is not None,
        next=ahead,
        traceparent=message.traceparent,
    )
    if message.plan is not None:
        _draft(step, message.request_id, message.plan.nodes, message.plan.answer, "client")
    if ahead:
        step.cause = accepted
        reply(step, Phase.CANCELLED, "cancelled", forgotten=policy == "rollback", because="a newer message took over")


def _cancel(step: Step, message: Cancel) -> None:
    if step.state.request is None:
        raise Illegal("there is no running request to cancel")
    step.cause = step.request.accepted_seq
    because = (
        "cancelled" + (f" by {message.by}" if message.by else "") + (f": {message.reason}" if message.reason else "")
    )
    reply(step, Phase.CANCELLED, "cancelled", because=because)


def _pause(step: Step, message: Pause) -> None:
    step.fact(ConversationPaused, by=message.by, reason=message.reason)
    step.move(Phase.PAUSED)


def _resume(step: Step, message: Resume) -> None:
    back = step.state.paused_from
    step.fact(ConversationResumed, by=message.by, reason=message.reason)
    if back is not None:
        step.move(back)


def _quarantine(step: Step, message: Quarantine) -> None:
    step.fact(ConversationQuarantined, reason=message.reason)
    step.move(Phase.PAUSED)


def _deadline(step: Step, message: Deadline) -> None:
    """End the request with what there is; whatever still runs is not wanted by the state after that."""
    _fence_request(step, message.request_id, message)
    if step.state.phase is Phase.PAUSED:
        return  # it stays due: the timer is wanted again after resume, and a reply is not sent while paused
    step.cause = step.request.accepted_seq
    reply(step, Phase.COMPLETED, because=DEADLINE)


# Recovery


def _recovered(step: Step, _message: Recovered) -> None:
    if step.state.request is None:
        return
    for node in list(step.request.nodes.values()):
        lost = node.status is NodeStatus.SUCCEEDED and node.result is LOST
        if node.status is NodeStatus.RUNNING or lost:
            _take_up(step, node)


def _take_up(step: Step, node: Node) -> None:
    """Run a node again that its owner's end cut off; no retry is used up."""
    if node.status is NodeStatus.RUNNING and node.spec.on_unknown_outcome == "fail":
        error = Failure(
            type="unknown_outcome",
            error_class="permanent",
            message="the daemon ended during the call, and this agent's calls must not be repeated",
        )
        _fail(step, node, error)
        return
    step.cause = node.event_seq
    if step.state.phase is Phase.PAUSED:
        step.add(
            NodeRetrying,
            node=node.spec.id,
            agent=node.agent,
            attempt=node.attempts + 1,
            delay=0.0,
            due=step.now,
            reason="cut off by the end of the daemon; runs again after resume",
        )
        return
    start(step, node.spec.id, node.agent, recovered=True)


# Planner


def _plan_ready(step: Step, message: PlanReady) -> None:
    _fence_request(step, message.request_id, message)
    if step.request.planned or message.attempt != step.request.planning.failures + 1:
        raise Stale(f"the plan of attempt {message.attempt} is no longer waited for")
    step.cause = step.request.accepted_seq
    _draft(step, message.request_id, message.plan.nodes, message.plan.answer, "planner")


def _draft(step: Step, request_id: str, nodes: Any, answer: str | None, origin: str) -> None:
    step.fact(PlanDrafted, request_id=request_id, nodes=nodes, answer=answer, origin=origin)


def _planner_failed(step: Step, message: PlannerFailed) -> None:
    _fence_request(step, message.request_id, message)
    if step.request.planned or message.attempt != step.request.planning.failures + 1:
        raise Stale(f"the failure of planning attempt {message.attempt} is no longer waited for")
    step.cause = step.request.accepted_seq
    step.fact(
        PlanFailed,
        attempt=message.attempt,
        error=message.failure,
        delay=message.retry_in,
        due=_due(step, message.retry_in),
    )
    if message.retry_in is None and step.state.phase is not Phase.PAUSED:
        step.move(Phase.ERROR_HANDLING)


# Agents


def _node_result(step: Step, message: NodeResult) -> None:
    node = _fence_attempt(step, message.request_id, message.node, message.attempt)
    step.fact(
        NodeSucceeded,
        cause=node.event_seq,
        node=message.node,
        agent=node.agent,
        attempt=message.attempt,
        duration_ms=message.duration_ms,
        result=message.result,
        cached=message.cached,
    )


def _node_failure(step: Step, message: NodeFailure) -> None:
    node = _fence_attempt(step, message.request_id, message.node, message.attempt)
    _fail(step, node, message.failure, message.duration_ms)
    if message.retry_in is not None:
        step.fact(
            NodeRetrying,
            node=message.node,
            agent=node.agent,
            attempt=message.attempt + 1,
            delay=message.retry_in,
            due=_due(step, message.retry_in),
            reason=message.rule,
        )
    elif step.state.phase in (Phase.EXECUTING_SINGLE, Phase.EXECUTING_PARALLEL):
        step.move(Phase.ERROR_HANDLING)


def _fail(step: Step, node: Node, error: Failure, duration_ms: float | None = None) -> None:
    step.fact(
        NodeFailed,
        cause=node.event_seq,
        node=node.spec.id,
        agent=node.agent,
        attempt=node.attempts,
        error=error,
        duration_ms=duration_ms,
    )


def _retry_due(step: Step, message: RetryDue) -> None:
    _fence_request(step, message.request_id, message)
    node = step.request.nodes.get(message.node)
    if node is None or node.status is not NodeStatus.BACKING_OFF or message.attempt != node.attempts + 1:
        raise Stale(f"attempt {message.attempt} of node {message.node} is no longer due")
    if step.state.phase is Phase.PAUSED:
        return  # it stays due: the timer is wanted again after resume
    step.cause = node.event_seq
    start(step, message.node, node.agent)


# Synthesizer


def _synthesized(step: Step, message: Synthesized) -> None:
    _fence_synthesis(step, message.request_id, message.attempt)
    if step.state.phase is Phase.PAUSED:
        return  # asked again after resume: a reply is not sent while paused
    reply(step, Phase.COMPLETED, text=message.text)


def _synthesizer_failed(step: Step, message: SynthesizerFailed) -> None:
    _fence_synthesis(step, message.request_id, message.attempt)
    step.fact(
        SynthesisFailed,
        attempt=message.attempt,
        error=message.failure,
        delay=message.retry_in,
        due=_due(step, message.retry_in),
    )
    if message.retry_in is None and step.state.phase is not Phase.PAUSED:
        step.move(Phase.ERROR_HANDLING)


# Fences


def _fence_request(step: Step, request_id: str, message: Any) -> None:
    request = step.state.request
    if request is None or request.request_id != request_id:
        raise Stale(f"{type(message).__name__} belongs to request {request_id}, which is over")


def _fence_attempt(step: Step, request_id: str, node_id: str, attempt: int) -> Node:
    request = step.state.request
    node = None if request is None or request.request_id != request_id else request.nodes.get(node_id)
    if node is None:
        raise Stale(f"node {node_id} of request {request_id} is over")
    if node.status is not NodeStatus.RUNNING or node.attempts != attempt:
        raise Stale(f"attempt {attempt} of node {node_id} is over: it is {node.status}, attempt {node.attempts}")
    return node


def _fence_synthesis(step: Step, request_id: str, attempt: int) -> None:
    request = step.state.request
    if request is None or request.request_id != request_id or attempt != request.synthesis.failures + 1:
        raise Stale(f"synthesis attempt {attempt} of request {request_id} is over")


def _due(step: Step, delay: float | None) -> int | None:
    return None if delay is None else step.now + round(delay * 1000)


HANDLERS: Final[dict[str, Callable[[Step, Any], None]]] = {
    "accept": _accept,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "quarantine": _quarantine,
    "deadline": _deadline,
    "recovered": _recovered,
    "plan_ready": _plan_ready,
    "planner_failed": _planner_failed,
    "node_result": _node_result,
    "node_failure": _node_failure,
    "retry_due": _retry_due,
    "synthesized": _synthesized,
    "synthesizer_failed": _synthesizer_failed,
}
