"""From a plan as it was written to one that can be run: every problem named at once, every setting decided.

Checked here: the shape (workflow/graph.py), the agents, the inputs against the agents' contracts, the number of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from agents.registry import Registry
from agents.spec import AgentSpec
from messages.plan import NodeSpec, Plan, PlanNode, ResolvedPlan
from planning.input_problems import Sources, input_problems
from workflow.graph import Problem, dependencies, need, structure_problems

_MOST_TOLD: Final = 100
"""Problems named in one refusal; nobody reads more."""
_MOST_CHECKED: Final = 1_000
"""Nodes of a plan with too many that are looked into nevertheless; beyond, their number is problem enough."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What the configuration says about plans."""

    max_nodes: int = 5
    timeout: float = 60.0
    """Seconds for one attempt, where neither node nor agent says otherwise."""
    retries: int = 3


class InvalidPlan(Exception):
    """A plan that cannot be run; `problems` names everything wrong with it."""

    error_type = "invalid_plan"
    error_class = "permanent"

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = len(problems) - _MOST_TOLD
        told = [*problems[:_MOST_TOLD], *([Problem("plan", f"and {more} more problems")] if more > 0 else [])]
        super().__init__("; ".join(f"{problem.where}: {problem.problem}" for problem in told))
        self.problems = tuple(told)


def resolve(
    plan: Plan,
    registry: Registry,
    limits: PlanLimits,
    *,
    origin: Literal["client", "planner"],
    finished: Mapping[str, Any] | None = None,
) -> ResolvedPlan:
    """Return the plan as it will be run. Raises `InvalidPlan`.

    `finished` are results of an earlier plan that this one may refer to.
    """
    done = dict(finished or {})
    if (plan.nodes is None) == (plan.answer is None):
        raise InvalidPlan([Problem("plan", "a plan has either nodes or an answer")])
    if plan.nodes is None:
        return ResolvedPlan(answer=plan.answer, origin=origin)
    problems = list(_problems(plan.nodes, registry, limits, done))
    if problems:
        raise InvalidPlan(problems)
    return ResolvedPlan(
        nodes=tuple(_spec(node, registry.get(node.agent), limits) for node in plan.nodes), origin=origin
    )


def _spec(node: PlanNode, agent: AgentSpec, limits: PlanLimits) -> NodeSpec:
    """Decide every setting: what the node says, else the agent, else the configuration."""
    deps = dependencies(node)
    return NodeSpec(
        id=node.id,
        agent=node.agent,
        task=node.task,
        inputs=node.inputs,
        depends_on=deps,
        need=need(node, deps),
        timeout=float(_first(node.timeout, agent.timeout, limits.timeout)),
        retries=int(_first(node.retries, agent.retries, limits.retries)),
        on_failure=node.on_failure or agent.on_failure,
        on_unknown_outcome=agent.on_unknown_outcome,
        effects=agent.effects,
        approval=agent.approval,
        contract=agent.contract.version,
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


# Problems


def _problems(
    nodes: Sequence[PlanNode], registry: Registry, limits: PlanLimits, finished: Mapping[str, Any]
) -> Iterator[Problem]:
    if len(nodes) > limits.max_nodes:
        problem = f"has {len(nodes)} nodes; at most {limits.max_nodes} agent calls are made per request"
        yield Problem("nodes", problem)
        if len(nodes) > _MOST_CHECKED:
            return
    yield from structure_problems(nodes, finished=finished)
    sources = Sources({node.id: tuple(_agents_of(node, registry)) for node in nodes}, finished)
    for node in nodes:
        yield from _agent_problems(node, registry, sources)


def _agents_of(node: PlanNode, registry: Registry) -> Iterator[AgentSpec]:
    """Yield the agents whose result may be that of the node: the planned one and its fallback."""
    agent = registry.find(node.agent)
    if agent is not None:
        yield agent
        other = registry.find(_fallback(node, agent) or "")
        if other is not None and other is not agent:
            yield other


def _agent_problems(node: PlanNode, registry: Registry, sources: Sources) -> Iterator[Problem]:
    where = f"nodes.{node.id}"
    agent = registry.find(node.agent)
    if agent is None:
        yield Problem(f"{where}.agent", f"there is no agent {node.agent!r}{registry.closest(node.agent)}")
        return
    yield from input_problems(node, agent, sources)
    other_name = _fallback(node, agent)
    if other_name is None:
        return
    other = registry.find(other_name)
    if other is None:
        problem = f"the fallback {other_name!r} is no agent{registry.closest(other_name)}"
        yield Problem(f"{where}.on_failure", problem)
    elif other.name == agent.name:
        yield Problem(f"{where}.on_failure", "an agent cannot be its own fallback")
    else:
        for problem_there in input_problems(node, other, sources):
            yield Problem(problem_there.where, f"as fallback, {other.name}: {problem_there.problem}")


def _fallback(node: PlanNode, agent: AgentSpec) -> str | None:
    kind, _, other = (node.on_failure or agent.on_failure).partition(":")
    return other if kind == "fallback" else None
