"""The default planner: derives a plan from the agents' contracts; no model is needed.

Agents that fit the message's words are picked (planning/words.py). Then it works backwards: each input an agent needs
is taken from the message (planning/in_text.py, or the input is the message's text), from the conversation (the user;
the last value mentioned, when the message itself names nothing), or from another agent whose result has a field of that
name and a fitting type, which becomes a dependency. The same message gives the same plan.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from agents.registry import Registry
from agents.spec import AgentSpec
from messages.plan import Plan, PlanNode
from planning.in_text import values_in
from planning.schema_paths import Schema, can_take, fields_of, items_of, types_of
from planning.words import Vocabulary, in_order_of

_DEEPEST: Final = 5
"""Agents in a chain that feed each other; more is a sign of contracts that feed in circles."""
_MOST_TRIES: Final = 2_000
"""Agents tried as a source while one agent is added: where many feed each other, the ways multiply."""
_LONGEST_ID: Final = 56
"""Characters of an agent's name in a node id: what is left of 64 takes a number."""


class ContractsPlanner:
    """Made once for a registry; `plan` may be called from any thread."""

    def __init__(self, registry: Registry) -> None:
        self._agents = list(registry)
        self._vocabulary = Vocabulary(self._agents)

    def plan(self, text: str, *, context: str = "", user_id: str | None = None, failed: Collection[str] = ()) -> Plan:
        """Return a plan for a message, or a direct answer that says what can be asked.

        `failed` are nodes that failed before: their agents are not asked again.
        """
        names = {*failed, *map(_agent_part, failed)}
        usable = [agent for agent in self._agents if _node_id(agent.name) not in names]
        picked = self._vocabulary.pick(text, without=[agent.name for agent in self._agents if agent not in usable])
        chosen = [pick.agent for pick in in_order_of(text, picked)]
        names_nothing = not self._vocabulary.unexplained(text, chosen)
        draft = _Draft(text, context if names_nothing else "", user_id, usable, self._vocabulary)
        for agent in chosen:
            draft.add(agent)
        return Plan(nodes=draft.nodes) if draft.nodes else Plan(answer=self._help(chosen, draft.lacking))

    def _help(self, chosen: list[AgentSpec], lacking: list[str]) -> str:
        if not self._agents:
            return "There are no agents here that could answer."
        asked = [f'"{agent.examples[0]}"' for agent in chosen or self._agents if agent.examples][:6]
        can = f" You can ask, for example: {', '.join(asked)}." if asked else ""
        if lacking:
            return f"To answer this I need to know: {', '.join(dict.fromkeys(lacking))}.{can}"
        return f"I found nothing here that answers this.{can}"


@dataclass(slots=True)
class _Draft:
    """One plan in the making."""

    text: str
    context: str
    user_id: str | None
    agents: list[AgentSpec]
    vocabulary: Vocabulary
    nodes: list[PlanNode] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """Inputs, in words, that an agent asked for itself needs and nothing gives."""
    _by_agent: dict[str, list[str]] = field(default_factory=dict)
    _tries: int = 0

    def add(self, agent: AgentSpec) -> bool:
        """Add an agent with all it needs; False, and nothing is added, when something cannot be had."""
        self._tries = 0
        return self._place(agent, ())

    def _place(self, agent: AgentSpec, above: tuple[str, ...]) -> bool:
        if agent.name in self._by_agent:
            return True
        self._tries += 1
        if agent.name in above or len(above) >= _DEEPEST or self._tries > _MOST_TRIES:
            return False
        nodes, by_agent = len(self.nodes), dict(self._by_agent)
        if self._fill(agent, above):
            return True
        del self.nodes[nodes:]  # what was placed only for the sake of this agent
        self._by_agent = by_agent
        return False

    def _fill(self, agent: AgentSpec, above: tuple[str, ...]) -> bool:
        inputs: dict[str, Any] = {}
        spread: tuple[str, list[Any]] | None = None
        recalled = 0
        for name, schema, required in _fields(agent):
            found = self._named(self.text, agent, name, schema, required=required)
            is_list = items_of(schema) is not None
            if found and is_list:
                inputs[name] = found
            elif found:
                inputs[name] = found[0]
                if len(found) > 1 and spread is None and required:
                    spread = name, found
            elif required:
                # "Reserve it" means one thing that was spoken of. Two remembered values are a change nobody asked for.
                value = self._recalled(agent, name, schema) if agent.effects != "write" or not recalled else None
                recalled += value is not None
                if value is None:
                    value = self._from_elsewhere(agent, name, schema, above)
                if value is None:
                    if not above:
                        self.lacking.append(_in_words(name, schema))
                    return False
                inputs[name] = value
        self._put(agent, inputs, spread)
        return True

    def _put(self, agent: AgentSpec, inputs: dict[str, Any], spread: tuple[str, list[Any]] | None) -> None:
        """Add the node; an input with several values in the message gets a node for each."""
        name = _node_id(agent.name)
        taken = {node.id for node in self.nodes}
        ids: list[str] = []
        values = [None] if spread is None else spread[1]
        numbers = count(1)
        for value in values:
            given = inputs if spread is None else {**inputs, spread[0]: value}
            named = (name if number == 1 else f"{name}_{number}" for number in numbers)
            ids.append(next(node_id for node_id in named if node_id not in taken))
            self.nodes.append(PlanNode(id=ids[-1], agent=agent.name, task=_task(agent), inputs=given))
        self._by_agent[agent.name] = ids

    # Where an input comes from

    def _named(self, text: str, agent: AgentSpec, name: str, schema: Schema, *, required: bool) -> list[Any]:
        """Return the values that a text names for an input; all of them together must fit when it is a list."""
        below = items_of(schema)
        if below is None:
            return values_in(text, schema, required=required, accepts=lambda value: _takes(agent, name, value))
        found = values_in(text, below, required=required, accepts=lambda _value: True)
        return found if _takes(agent, name, found) else []

    def _recalled(self, agent: AgentSpec, name: str, schema: Schema) -> Any:
        """Return the value of an input that the conversation mentioned last."""
        if not self.context or items_of(schema) is not None or self._is_user(agent, name):
            return None
        mentioned = self._named(self.context, agent, name, schema, required=False)
        return mentioned[-1] if mentioned else None

    def _from_elsewhere(self, agent: AgentSpec, name: str, schema: Schema, above: tuple[str, ...]) -> Any:
        if self._is_user(agent, name):
            return self.user_id
        return self._from_agent(agent, name, schema, above)

    def _is_user(self, agent: AgentSpec, name: str) -> bool:
        return name in ("user_id", "user") and self.user_id is not None and _takes(agent, name, self.user_id)

    def _from_agent(self, agent: AgentSpec, name: str, schema: Schema, above: tuple[str, ...]) -> Any:
        for other, path in self._providers(agent, name, schema):
            if self._place(other, (*above, agent.name)):
                return {"$from": f"{self._by_agent[other.name][0]}.{path}"}
        return None

    def _providers(self, agent: AgentSpec, name: str, schema: Schema) -> list[tuple[AgentSpec, str]]:
        """Return agents that give a field of this name and a fitting type: those already in the plan first."""
        found = []
        for other in self.agents:
            if other.name == agent.name or other.effects == "write":
                continue  # nothing is changed in passing, only to learn a value
            path = _path_to(other, name, schema)
            if path is not None:
                planned = other.name in self._by_agent
                wants = sum(required for _, _, required in _fields(other))
                spoken = self.vocabulary.score(other, self.vocabulary.unexplained(self.text, [agent]))
                found.append(((not planned, wants, path.count("."), -spoken, other.name), other, path))
        return [(other, path) for _, other, path in sorted(found, key=lambda each: each[0])]


def _fields(agent: AgentSpec) -> Iterator[tuple[str, Schema, bool]]:
    """Yield (name, schema, required) of the inputs that have to come from somewhere."""
    contract = agent.contract
    definitions = contract.input_schema.get("$defs", {})
    required = contract.required()
    for name, schema in contract.input_schema.get("properties", {}).items():
        if name not in contract.message_text:
            yield name, {**schema, "$defs": definitions}, name in required


def _path_to(agent: AgentSpec, name: str, schema: Schema) -> str | None:
    """Return the path in an agent's result to a field of this name and a fitting type, the shortest one."""
    output = agent.contract.output_schema
    fields = fields_of(output)
    if name in fields and _fits(schema, fields[name]):
        return name
    for field_name, below in [*fields.items(), ("", output)]:
        items = items_of(below)
        inner = {} if items is None or "." in field_name else fields_of(items)
        if name in inner and _fits(schema, inner[name]):
            return f"{field_name}.0.{name}" if field_name else f"0.{name}"
    return None


def _fits(target: Schema, source: Schema) -> bool:
    if not can_take(target, source) or types_of(source) == {"null"}:
        return False
    wanted, given = items_of(target), items_of(source)
    return wanted is None or given is None or can_take(wanted, given)


def _takes(agent: AgentSpec, name: str, value: Any) -> bool:
    """Return whether an input takes a value: a pattern is not all that a contract may ask for."""
    return agent.contract.validate_field(name, value) is None


def _in_words(name: str, schema: Schema) -> str:
    described = schema.get("description")
    return name.replace("_", " ") + (f" ({described})" if described else "")


def _node_id(agent: str) -> str:
    return agent.replace(".", "_")[:_LONGEST_ID]


def _agent_part(node_id: str) -> str:
    """Return the id that the first node of the same agent has."""
    return re.sub(r"_\d+$", "", node_id)


def _task(agent: AgentSpec) -> str:
    return agent.description.partition("\n")[0]
