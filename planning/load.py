"""The planner that the configuration names: `contracts`, or a function of its own."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from agents.errors import ResultTooLarge
from agents.registry import Registry, load_function
from messages.failure import Failure
from messages.plan import Plan, ResolvedPlan
from messages.planning import DraftPlan
from planning.contracts_planner import ContractsPlanner
from planning.resolve import PlanLimits, resolve

_MAX_BYTES: Final = 4 << 20
"""Bytes of a plan as JSON, where nobody says otherwise."""
_MOST_TOLD: Final = 5
"""Faults of a planner's answer that are named."""


class PlanUnreadable(Exception):
    """What a planner returned is no plan."""

    error_type = "invalid_plan"


class NothingLeft(Exception):
    """There is no other way to what failed: the reply goes without it and says so."""

    error_type = "nothing_left"
    error_class = "permanent"


@dataclass(frozen=True, slots=True)
class PlanningContext:
    """What a planner may know besides the message's text."""

    conversation_id: str = "local"
    request_id: str = "local"
    user_id: str | None = None
    context: str = ""
    """The conversation so far, within `max_context_tokens`."""
    agents: Mapping[str, str] = field(default_factory=dict)
    """What each agent says it does, by name."""
    contracts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON schemas of what each agent takes, `inputs`, and gives, `result`, by name."""
    finished: Mapping[str, Any] = field(default_factory=dict)
    """Results a request that is planned anew already has, by node id."""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    """What failed before, by node id."""


class Planner(Protocol):
    """Thinks up plans."""

    def plan(self, draft: DraftPlan) -> Any:
        """Return a `Plan`, or a coroutine of one."""


class FunctionPlanner:
    """A planner that is a function `(text, context) -> Plan`, sync or async; a dict of a plan's shape will do."""

    def __init__(self, function: Callable[..., Any], registry: Registry, max_bytes: int) -> None:
        self._function = function
        self._registry = registry
        self._max_bytes = max_bytes
        self._contracts = {
            spec.name: deepcopy({"inputs": spec.contract.input_schema, "result": spec.contract.output_schema})
            for spec in registry
        }
        """Copies, for the function's hands."""

    def plan(self, draft: DraftPlan) -> Any:
        """Ask the function."""
        context = PlanningContext(
            conversation_id=draft.conversation_id,
            request_id=draft.request_id,
            user_id=draft.user_id,
            context=draft.context,
            agents=self._registry.describe(),
            contracts=self._contracts,
            finished=draft.finished,
            failed=draft.failed,
        )
        answer = self._function(draft.text, context)
        return _later(answer, self._max_bytes) if inspect.isawaitable(answer) else as_plan(answer, self._max_bytes)


class ContractsAsPlanner:
    """The contracts planner behind the same face."""

    def __init__(self, registry: Registry) -> None:
        self._planner = ContractsPlanner(registry)

    def plan(self, draft: DraftPlan) -> Plan:
        """Derive a plan. Raises `NothingLeft` where a new one was asked for and there is nothing else to try."""
        plan = self._planner.plan(draft.text, context=draft.context, user_id=draft.user_id, failed=draft.failed)
        if plan.nodes is None and draft.failed:
            raise NothingLeft("nothing else can answer this")
        return plan


def load_planner(name: str, registry: Registry, max_bytes: int = _MAX_BYTES) -> Planner:
    """Return the planner of that name, whose plans may have so many bytes. Raises `AgentDefinitionError`."""
    if name == "contracts":
        return ContractsAsPlanner(registry)
    return FunctionPlanner(load_function(name, "planner"), registry, max_bytes)


def as_plan(answer: Any, max_bytes: int = _MAX_BYTES) -> Plan:
    """Return what a planner answered as a plan. Raises `PlanUnreadable` or `ResultTooLarge`."""
    try:
        # A Plan too goes through JSON: what its inputs hold has been checked by nobody.
        plain = answer.model_dump() if isinstance(answer, Plan) else answer
        written = to_json(plain)
        if len(written) > max_bytes:
            raise ResultTooLarge(f"the planner's plan has {len(written)} bytes; at most {max_bytes} are taken")
        return Plan.model_validate(from_json(written, allow_inf_nan=False))
    except (ValidationError, ValueError) as error:
        raise PlanUnreadable(f"the planner returned {type(answer).__name__}, which is no plan: {_why(error)}") from None


def _why(error: ValueError) -> str:
    """Return what is wrong as a person is told it: this stands in the reply."""
    if not isinstance(error, ValidationError):  # what was written could not be read again: only NaN and the infinities
        return str(error) if isinstance(error, PydanticSerializationError) else "a number in it is not finite"
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in errors[:_MOST_TOLD]]
    return "; ".join(told) + (f"; and {len(errors) - _MOST_TOLD} more" if len(errors) > _MOST_TOLD else "")


def resolve_draft(planner: Planner, draft: DraftPlan, registry: Registry, limits: PlanLimits) -> Any:
    """Return the checked plan for a message, or a coroutine of it. Raises `PlanUnreadable` or `InvalidPlan`."""

    def checked(plan: Plan) -> ResolvedPlan:
        return resolve(plan, registry, limits, origin="planner", finished=draft.finished)

    async def checked_later(plan: Awaitable[Plan]) -> ResolvedPlan:
        return checked(await plan)

    plan = planner.plan(draft)
    return checked_later(plan) if inspect.isawaitable(plan) else checked(plan)


async def _later(answer: Any, max_bytes: int) -> Plan:
    return as_plan(await answer, max_bytes)
