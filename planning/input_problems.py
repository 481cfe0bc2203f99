"""What is wrong with a node's inputs, seen from the contract of the agent that is to take them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agents.spec import AgentSpec
from messages.plan import PlanNode
from planning.schema_paths import ANYTHING, Schema, can_have, can_take, fields_of, items_of
from workflow.graph import REFERENCE_KEY, Problem, UnboundReference, bind, references, source_of


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a `$from` may point."""

    agents: Mapping[str, tuple[AgentSpec, ...]]
    """By node id, the agents whose result may stand there: the planned one and its fallback."""
    finished: Mapping[str, Any]
    """Results that are there already, by node id."""


def input_problems(node: PlanNode, agent: AgentSpec, sources: Sources) -> Iterator[Problem]:
    """Yield every reason why `agent` cannot take the inputs of `node`."""
    contract = agent.contract
    properties = contract.input_schema.get("properties", {})
    definitions = contract.input_schema.get("$defs", {})
    where = f"nodes.{node.id}.inputs"
    for name, value in node.inputs.items():
        at = f"{where}.{name}"
        if name not in contract.fields:
            takes = ", ".join(contract.fields) or "no inputs"
            yield Problem(at, f"{agent.name} has no such input; it takes {takes}")
        elif not references(value):
            yield from _literal(at, agent, name, value)
        elif _is_known(value, sources):
            yield from _finished(at, agent, name, value, sources)
        else:
            yield from _shape(at, value, {**properties[name], "$defs": definitions}, sources)
    for name in sorted(contract.required() - set(node.inputs)):
        yield Problem(f"{where}.{name}", f"{agent.name} needs it, and nothing provides it")


def _literal(at: str, agent: AgentSpec, name: str, value: Any) -> Iterator[Problem]:
    problem = agent.contract.validate_field(name, value)
    if problem is not None:
        yield Problem(at, f"{problem}, not {_clip(value)}")


def _is_known(value: Any, sources: Sources) -> bool:
    """Return whether everything `value` refers to is there already, so that it can be checked like a literal."""
    nodes = {source_of(reference) for reference in references(value)}
    return nodes <= sources.finished.keys()


def _finished(at: str, agent: AgentSpec, name: str, value: Any, sources: Sources) -> Iterator[Problem]:
    try:
        bound = bind(value, dict(sources.finished))
    except UnboundReference as error:
        yield Problem(at, str(error))
    else:
        yield from _literal(at, agent, name, bound)


def _shape(at: str, value: Any, target: Schema, sources: Sources) -> Iterator[Problem]:
    """Yield what is plainly wrong with a value that holds references; the rest is found when they are bound."""
    if isinstance(value, dict) and REFERENCE_KEY in value:
        if isinstance(value[REFERENCE_KEY], str):
            yield from _reference(at, value[REFERENCE_KEY], target, sources)
        return
    kind: Schema = {"type": "array"} if isinstance(value, list) else {"type": "object"}
    if not isinstance(value, (list, dict)):
        kind = {"const": value}
    if not can_take(target, kind):
        yield Problem(at, f"takes another type than {_clip(value)}")
    elif isinstance(value, list):
        items = items_of(target) or ANYTHING
        for position, part in enumerate(value):
            yield from _shape(f"{at}.{position}", part, items, sources)
    elif isinstance(value, dict):
        fields = fields_of(target)
        for key, part in value.items():
            yield from _shape(f"{at}.{key}", part, fields.get(key, ANYTHING), sources)


def _reference(at: str, reference: str, target: Schema, sources: Sources) -> Iterator[Problem]:
    path = reference.split(".")[1:]
    # A node that is not in the plan is named by the structure check.
    for source in sources.agents.get(source_of(reference), ()):
        schema = can_have(source.contract.output_schema, path)
        if schema is None:
            yield Problem(at, f"{source.name} gives no {'.'.join(path)!r}")
        elif not can_take(target, schema):
            yield Problem(at, f"takes another type than {reference} has")


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
