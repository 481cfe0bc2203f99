"""Which children and timers should exist in a state, and the command each child is started with."""

from __future__ import annotations

from typing import Any

from messages.agent import RetryDue, RunNode
from messages.conversation import Deadline
from messages.frozen import frozen
from messages.planning import DraftPlan
from messages.synthesis import Outcome, Synthesize
from workflow.graph import bind_inputs
from workflow.onward import missing_branches
from workflow.state import Attempted, NodeStatus, Phase, Request, State


@frozen
class Child:
    """One actor that should be at work: who, on what, in which attempt."""

    role: str
    """`planner`, `agent` or `synthesizer`."""
    name: str
    """Its path below the conversation: `planner`, `agents/<node>`, `synthesizer`."""
    request_id: str
    attempt: int
    node: str = ""
    agent: str = ""


@frozen
class Timer:
    """One delay that should be running; when it is over, its message comes."""

    key: str
    due: int
    """Milliseconds since the epoch."""
    delay: float
    """The whole delay in seconds: what is left is never more than this, however the clock was set."""
    message: RetryDue | Deadline | None
    """None: the children wanted have to be looked at again."""


@frozen
class Wanted:
    """Everything that should exist beside the supervisor itself."""

    children: tuple[Child, ...] = ()
    timers: tuple[Timer, ...] = ()
    may_start: bool = True
    """False while paused: children that run may finish, none is started."""


NOTHING = Wanted()


def wanted(state: State, now: int, request_timeout: float | None = None) -> Wanted:
    """Return what should exist in `state` at `now` (milliseconds since the epoch)."""
    request = state.request
    if request is None or state.quarantined is not None:
        return NOTHING
    phase = state.paused_from or state.phase
    children: list[Child] = []
    timers: list[Timer] = []
    if phase is Phase.PLANNING and not request.planned:
        _attempted("planner", request, request.planning, now, children, timers)
    elif phase is Phase.SYNTHESIZING:
        _attempted("synthesizer", request, request.synthesis, now, children, timers)
    for key, node in request.nodes.items():
        if node.status is NodeStatus.RUNNING:
            name = f"agents/{key}"
            children.append(Child("agent", name, request.request_id, node.attempts, node=key, agent=node.agent))
        elif node.status is NodeStatus.BACKING_OFF and node.retry_at is not None:
            again = RetryDue(request_id=request.request_id, node=key, attempt=node.attempts + 1)
            timers.append(Timer(f"agents/{key}", node.retry_at, node.retry_delay or 0.0, again))
    if state.phase is Phase.PAUSED:
        return Wanted(tuple(children), (), may_start=False)
    if request_timeout is not None and request.begun_at is not None:
        due = request.begun_at + round(request_timeout * 1000)
        timers.append(Timer(f"deadline/{request.request_id}", due, request_timeout, Deadline(request.request_id)))
    return Wanted(tuple(children), tuple(timers))


def _attempted(
    role: str, request: Request, tried: Attempted, now: int, children: list[Child], timers: list[Timer]
) -> None:
    if tried.given_up is not None:
        return
    if tried.retry_at is not None and tried.retry_at > now:
        timers.append(Timer(role, tried.retry_at, tried.retry_delay or 0.0, None))
    else:
        children.append(Child(role, role, request.request_id, tried.failures + 1))


def command(state: State, child: Child, context: str) -> DraftPlan | RunNode | Synthesize:
    """Return the message `child` is started with.

    Raises `graph.UnboundReference` when a node's inputs point at something its sources do not have.
    """
    request = state.request
    assert request is not None
    if child.role == "planner":
        return DraftPlan(
            conversation_id=state.conversation_id,
            request_id=request.request_id,
            attempt=child.attempt,
            text=request.text,
            user_id=request.user_id,
            context=context,
            finished=results(request),
            failed={key: node.failure for key, node in request.nodes.items() if node.failure is not None},
        )
    if child.role == "agent":
        node = request.nodes[child.node]
        spec = node.spec
        return RunNode(
            conversation_id=state.conversation_id,
            request_id=request.request_id,
            node=child.node,
            agent=child.agent,
            attempt=child.attempt,
            inputs=bind_inputs(spec.inputs, results(request)) if spec.inputs else {},
            timeout=spec.timeout,
            text=request.text,
            user_id=request.user_id,
            context=context,
            contract=spec.contract if child.agent == spec.agent else "",
            idempotency_key=f"{request.request_id}:{child.node}:{node.plan_seq}",
            traceparent=request.traceparent,
        )
    return synthesize(state, context, child.attempt)


def synthesize(state: State, context: str, attempt: int = 1) -> Synthesize:
    """Return what the synthesizer is asked; `context` is what was said before."""
    request = state.request
    assert request is not None
    return Synthesize(
        conversation_id=state.conversation_id,
        request_id=request.request_id,
        attempt=attempt,
        text=request.text,
        context=context,
        outcomes=tuple(
            Outcome(
                node=key,
                agent=node.agent,
                task=node.spec.task,
                inputs=node.spec.inputs,
                result=node.result,
                succeeded=node.status is NodeStatus.SUCCEEDED,
            )
            for key, node in request.nodes.items()
        ),
        missing=missing_branches(request),
    )


def results(request: Request) -> dict[str, Any]:
    """Return the results at hand, by node id."""
    return {key: node.result for key, node in request.nodes.items() if node.status is NodeStatus.SUCCEEDED}
