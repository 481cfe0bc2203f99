"""What follows from recorded facts: which nodes start or are skipped, how failures are routed, when the reply is due.

Everything here is derived from the state alone. So a conversation that was paused, or whose daemon was killed, goes on
by the same lines as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from messages.events import Missing, NodeSkipped, NodeStarted, ReplySent
from workflow.phases import REST
from workflow.state import SETTLED, Node, NodeStatus, Phase, Request
from workflow.step import Step

DEADLINE: Final = "deadline"
"""Why a branch is missing that was not finished when the request's time was over."""
_FALLBACK: Final = "fallback:"


def go_onward(step: Step) -> None:
    """Add every event that follows from the state as it is now."""
    while True:
        state = step.state
        if state.request is None or state.quarantined is not None:
            return
        before = len(step.events)
        if _ONWARD.get(state.phase, _rest)(step) or len(step.events) == before:
            return


def start(step: Step, node_id: str, agent: str, *, recovered: bool = False) -> None:
    """Start the next attempt of a node."""
    attempt = step.node(node_id).attempts + 1
    step.add(NodeStarted, node=node_id, agent=agent, attempt=attempt, recovered=recovered)


def reply(
    step: Step,
    phase: Phase,
    status: str | None = None,
    *,
    text: str | None = None,
    because: str = "",
    forgotten: bool = False,
) -> None:
    """Send the one reply of the running request and rest in `phase` (or `failed`, when there is nothing to show)."""
    request = step.request
    missing = missing_branches(request, because)
    if because == DEADLINE:
        missing = (*missing, *_cut_off(step.state.phase, request))
    done = tuple(key for key, node in request.nodes.items() if node.status is NodeStatus.SUCCEEDED)
    doomed = _doomed_by(request) is not None
    if status is None:
        status = "failed" if doomed or (missing and not done) else "partial" if missing else "completed"
    if doomed and status == "failed":
        done = ()
    if status == "failed":
        phase = Phase.FAILED
    step.move(Phase.RESPONDING)
    step.fact(
        ReplySent,
        message_id=request.message_id,
        text=_plain_text(request, status, missing, because) if text is None else text,
        data={key: request.nodes[key].result for key in done},
        nodes=done,
        missing=missing,
        status=status,
        forgotten=forgotten,
    )
    step.move(phase, request_id=request.request_id)


def missing_branches(request: Request, because: str = "") -> tuple[Missing, ...]:
    """Return every branch the reply has to do without, with its reason."""
    missing = [
        Missing(
            node=key,
            reason=node.reason if node.status in SETTLED else because or "not finished",
            attempts=node.attempts,
        )
        for key, node in request.nodes.items()
        if node.status is not NodeStatus.SUCCEEDED
    ]
    for what, tried in (("planner", request.planning), ("synthesizer", request.synthesis)):
        if tried.given_up is not None:
            reason = f"{tried.given_up.type}: {tried.given_up.message}"
            missing.append(Missing(node=what, reason=reason, attempts=tried.failures))
    return tuple(missing)


def _cut_off(phase: Phase, request: Request) -> tuple[Missing, ...]:
    """Name the one that was at work besides the nodes."""
    if phase is Phase.PLANNING and not request.planned:
        return (Missing(node="planner", reason=DEADLINE, attempts=request.planning.failures + 1),)
    if phase is Phase.SYNTHESIZING:
        return (Missing(node="synthesizer", reason=DEADLINE, attempts=request.synthesis.failures + 1),)
    return ()


# Phases


def _rest(step: Step) -> bool:
    """Take up the next request."""
    if step.state.phase not in REST:
        return True
    request = step.request
    step.cause = request.plan_seq or request.accepted_seq
    if request.planned:
        return _run_plan(step)
    step.move(Phase.PLANNING)
    return False


def _planning(step: Step) -> bool:
    request = step.request
    if request.planned:
        return _run_plan(step)
    if request.planning.given_up is not None or _doomed_by(request) is not None:
        step.move(Phase.ERROR_HANDLING)
    else:
        # A branch that fails while a new plan is thought up does not end the thinking.
        _ask_others(step)
    return False


def _run_plan(step: Step) -> bool:
    request = step.request
    if request.answer is not None:
        reply(step, Phase.COMPLETED, text=request.answer)
    elif not request.approved and any(node.spec.approval for node in request.nodes.values()):
        step.move(Phase.AWAITING_APPROVAL)
    else:
        return _execute(step)
    return False


def _awaiting_approval(step: Step) -> bool:
    if step.request.approved:
        return _executing(step)
    if _doomed_by(step.request) is not None:
        step.move(Phase.ERROR_HANDLING)
    return False


def _executing(step: Step) -> bool:
    if _needs_routing(step):
        step.move(Phase.ERROR_HANDLING)
        return False
    return _execute(step)


def _error_handling(step: Step) -> bool:
    """Route what failed for good: fail the request, ask another agent, think again, or go on without."""
    request = step.request
    if request.synthesis.given_up is not None or (request.planning.given_up is not None and not request.nodes):
        reply(step, Phase.COMPLETED)
    elif _doomed_by(request) is not None:
        reply(step, Phase.FAILED, "failed")
    elif _wants_replan(step, request):
        step.move(Phase.PLANNING)
    else:
        _ask_others(step)
        _execute(step)
    return False


def _synthesizing(step: Step) -> bool:
    if step.request.synthesis.given_up is not None:
        step.move(Phase.ERROR_HANDLING)
    return False


_ONWARD: Final[dict[Phase, Callable[[Step], bool]]] = {
    Phase.PLANNING: _planning,
    Phase.AWAITING_APPROVAL: _awaiting_approval,
    Phase.EXECUTING_SINGLE: _executing,
    Phase.EXECUTING_PARALLEL: _executing,
    Phase.ERROR_HANDLING: _error_handling,
    Phase.SYNTHESIZING: _synthesizing,
}
"""What each phase does; it returns True when nothing can follow on what it did, so that nobody has to look."""


# Execution


def _execute(step: Step) -> bool:
    """Skip what can no longer run, start what can, and move to the phase that fits; True when nothing follows."""
    while (survey := _Survey(step.request.nodes)).hopeless:
        for node_id, reason in survey.hopeless:
            step.add(NodeSkipped, node=node_id, agent=step.node(node_id).agent, reason=reason)
    ready = survey.ready
    if not survey.open:
        if survey.succeeded:
            step.move(Phase.SYNTHESIZING)
        else:
            reply(step, Phase.FAILED, "failed")
        return False
    if ready or step.state.phase not in _EXECUTING:
        wide = survey.running + len(ready) >= step.limits.parallel_threshold
        step.move(Phase.EXECUTING_PARALLEL if wide else Phase.EXECUTING_SINGLE)
    for node_id in ready:
        start(step, node_id, step.node(node_id).agent)
    return not survey.failed


_EXECUTING: Final = frozenset({Phase.EXECUTING_SINGLE, Phase.EXECUTING_PARALLEL})
_PENDING, _RUNNING, _SUCCEEDED = NodeStatus.PENDING, NodeStatus.RUNNING, NodeStatus.SUCCEEDED
_FAILED, _SKIPPED = NodeStatus.FAILED, NodeStatus.SKIPPED


class _Survey:
    """Where the nodes of a plan stand, seen in one pass."""

    __slots__ = ("failed", "hopeless", "open", "ready", "running", "succeeded")

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.ready: list[str] = []
        """Pending, and may start."""
        self.hopeless: list[tuple[str, str]] = []
        """Pending, and never can, with the reason."""
        self.running = 0
        self.succeeded = self.failed = self.open = False
        """Whether any has succeeded, has failed, is not settled."""
        for key, node in nodes.items():
            status = node.status
            if status is _SUCCEEDED:
                self.succeeded = True
            elif status is _FAILED:
                self.failed = True
            elif status is not _SKIPPED:
                self.open = True
                if status is _RUNNING:
                    self.running += 1
                elif status is _PENDING:
                    self._look_at(key, node, nodes)

    def _look_at(self, key: str, node: Node, nodes: dict[str, Node]) -> None:
        spec = node.spec
        done = 0
        lost: list[str] = []
        for dep in spec.depends_on:
            other = nodes.get(dep)
            status = _FAILED if other is None else other.status
            if status is _SUCCEEDED:
                done += 1
            elif status is _FAILED or status is _SKIPPED:
                lost.append(dep)
        if done >= spec.need:
            self.ready.append(key)
        elif len(spec.depends_on) - len(lost) < spec.need:
            verb = "was skipped" if all(_was_skipped(nodes, dep) for dep in lost) else "failed"
            self.hopeless.append((key, f"needs {', '.join(lost)}, which {verb}"))


def _was_skipped(nodes: dict[str, Node], dep: str) -> bool:
    return dep in nodes and nodes[dep].status is NodeStatus.SKIPPED


# Routing


def _needs_routing(step: Step) -> bool:
    request = step.request
    for node in request.nodes.values():
        if node.status is _FAILED:
            break
    else:  # nearly always
        return False
    return _doomed_by(request) is not None or _wants_replan(step, request) or bool(_fallbacks(request))


def _doomed_by(request: Request) -> Node | None:
    """Return the failed node whose `on_failure` is `fail`."""
    failed = (node for node in request.nodes.values() if node.status is NodeStatus.FAILED)
    return next((node for node in failed if node.spec.on_failure == "fail"), None)


def _wants_replan(step: Step, request: Request) -> bool:
    failed = any(n.status is NodeStatus.FAILED and n.spec.on_failure == "replan" for n in request.nodes.values())
    return failed and request.planning.given_up is None and request.replans < step.limits.max_replans


def _fallbacks(request: Request) -> list[tuple[str, str]]:
    """Return (node, other agent) for failed nodes whose fallback has not been tried."""
    return [
        (key, node.spec.on_failure.removeprefix(_FALLBACK))
        for key, node in request.nodes.items()
        if node.status is NodeStatus.FAILED
        and node.spec.on_failure.startswith(_FALLBACK)
        and node.agent != node.spec.on_failure.removeprefix(_FALLBACK)
    ]


def _ask_others(step: Step) -> None:
    for node_id, agent in _fallbacks(step.request):
        step.cause = step.node(node_id).event_seq
        start(step, node_id, agent)


# Words of last resort


def _plain_text(request: Request, status: Any, missing: tuple[Missing, ...], because: str) -> str:
    """Say truthfully what happened when no synthesizer had the word."""
    parts: list[str] = []
    if because == DEADLINE:
        parts.append("The time for this request was over.")
    if status == "cancelled":
        parts.append(f"This request was ended: {because}." if because else "This request was ended.")
    elif status == "failed":
        parts.append("This could not be answered.")
    else:
        parts.append("The results could not be put into words; they are attached as data.")
    done = [key for key, node in request.nodes.items() if node.status is NodeStatus.SUCCEEDED]
    if done and status != "failed":
        parts.append(f"Finished: {', '.join(done)}.")
    tries = {1: "1 attempt"}
    parts.extend(
        f"Missing: {branch.node} ({branch.reason}; {tries.get(branch.attempts, f'{branch.attempts} attempts')})."
        for branch in missing
    )
    return " ".join(parts)
