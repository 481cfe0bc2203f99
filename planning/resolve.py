"""From a plan as it was written to one that can be run: every problem named at once, every setting decided.

Checked here: the shape (workflow/graph.py), the agents, the inputs against the agents' contracts, the number of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.registry import Registry
from agents.spec import AgentSpec
from messages.plan import NodeSpec, Plan, PlanNode, ResolvedPlan
from planning.schema_paths import can_have, can_take
from workflow.graph import REFERENCE_KEY, Problem, dependencies, need, references, source_of, structure_problems


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
        super().__init__("; ".join(f"{problem.where}: {problem.problem}" for problem in problems))
        self.problems = tuple(problems)


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
    if len(plan.nodes) > limits.max_nodes:
        problem = f"has {len(plan.nodes)} nodes; at most {limits.max_nodes} agent calls are made per request"
        raise InvalidPlan([Problem("nodes", problem)])
    problems = structure_problems(plan.nodes, finished=done)
    agents = {node.id: registry.find(node.agent) for node in plan.nodes}
    for node in plan.nodes:
        problems.extend(_agent_problems(node, registry, agents))
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


def _agent_problems(node: PlanNode, registry: Registry, agents: Mapping[str, AgentSpec | None]) -> Iterator[Problem]:
    where = f"nodes.{node.id}"
    agent = agents[node.id]
    if agent is None:
        yield Problem(f"{where}.agent", f"there is no agent {node.agent!r}{registry.closest(node.agent)}")
        return
    yield from _input_problems(where, node, agent, agents)
    on_failure = node.on_failure or agent.on_failure
    kind, _, other_name = on_failure.partition(":")
    if kind == "fallback":
        other = registry.find(other_name)
        if other is None:
            problem = f"the fallback {other_name!r} is no agent{registry.closest(other_name)}"
            yield Problem(f"{where}.on_failure", problem)
        elif other.name == agent.name:
            yield Problem(f"{where}.on_failure", "an agent cannot be its own fallback")
        else:
            for problem_there in _input_problems(where, node, other, agents):
                yield Problem(problem_there.where, f"as fallback, {other.name}: {problem_there.problem}")


def _input_problems(
    where: str, node: PlanNode, agent: AgentSpec, agents: Mapping[str, AgentSpec | None]
) -> Iterator[Problem]:
    contract = agent.contract
    properties = contract.input_schema.get("properties", {})
    definitions = contract.input_schema.get("$defs", {})
    for name, value in node.inputs.items():
        at = f"{where}.inputs.{name}"
        if name not in contract.fields:
            takes = ", ".join(contract.fields) or "no inputs"
            yield Problem(at, f"{agent.name} has no such input; it takes {takes}")
        elif not references(value):
            problem = contract.validate_field(name, value)
            if problem is not None:
                yield Problem(at, f"{problem}, not {_clip(value)}")
        else:
            target = {**properties[name], "$defs": definitions}
            yield from _reference_problems(at, value, target, agents)
    for name in sorted(contract.required() - set(node.inputs)):
        yield Problem(f"{where}.inputs.{name}", f"{agent.name} needs it, and nothing provides it")


def _reference_problems(
    at: str, value: Any, target: Mapping[str, Any], agents: Mapping[str, AgentSpec | None]
) -> Iterator[Problem]:
    for reference in references(value):
        source = agents.get(source_of(reference))
        if source is None:
            continue  # unknown nodes are named by the structure check; finished ones are checked when they are bound
        path = reference.split(".")[1:]
        schema = can_have(source.contract.output_schema, path)
        if schema is None:
            yield Problem(at, f"{source.name} gives no {'.'.join(path)!r}")
        elif isinstance(value, dict) and REFERENCE_KEY in value and not can_take(target, schema):
            yield Problem(at, f"takes another type than {reference} has")


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
