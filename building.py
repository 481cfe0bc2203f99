"""From settings to what they describe: the store, the agents and minds, policies and limits, supervisors' parts."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from os import getpid
from typing import Any, NamedTuple

from actors.agent import AgentActor
from actors.blocking_pool import PoolExhausted
from actors.breakers import CircuitOpen
from actors.execution import Execution
from actors.planner import PlannerActor
from actors.synthesizer import SynthesizerActor
from agents.registry import Registry
from config import Settings
from conversation.load import Load
from conversation.parts import Parts, RestartPolicy
from messages.events import Event
from messages.planning import DraftPlan
from persistence.contract import Store
from persistence.open_store import create_store
from persistence.reader import Reader
from persistence.writer import Writer
from planning.load import Planner, load_planner, resolve_draft
from planning.resolve import PlanLimits
from supervision.backoff import Backoff
from supervision.breaker import BreakerSpec
from supervision.spec import ChildSpec, RestartType
from synthesis.load import Synthesizer, load_synthesizer
from synthesis.template import TemplateSynthesizer
from workflow.memory import MemoryLimits
from workflow.step import Limits


def restart_policy(settings: Settings, registry: Registry, role: str, agent: str) -> RestartPolicy:
    """Say when planner, synthesizer or one attempt of an agent is tried again."""
    spec = registry.find(agent) if role == "agent" else None
    backoff = Backoff(
        min_backoff=settings.base_retry_delay if spec is None or spec.min_backoff is None else spec.min_backoff,
        max_backoff=settings.max_retry_delay if spec is None or spec.max_backoff is None else spec.max_backoff,
        factor=settings.retry_base,
        random_factor=settings.random_factor,
        reset_backoff_after=settings.reset_backoff_after,
    )
    child = ChildSpec(id=role, restart=RestartType.TRANSIENT, backoff=backoff, max_restarts=settings.max_retries)
    if spec is None:
        return RestartPolicy(child)
    # Refusals of our own are transient whatever the agent says of errors: it was not called.
    ours = (CircuitOpen, PoolExhausted)
    return RestartPolicy(child, transient=(*spec.transient, *ours), permanent=tuple(spec.permanent))


def plan_limits(settings: Settings) -> PlanLimits:
    """Return what the settings say about plans."""
    return PlanLimits(max_nodes=settings.max_agent_calls, timeout=settings.agent_timeout, retries=settings.max_retries)


def breaker_spec(settings: Settings) -> BreakerSpec:
    """Return what the settings say about leaving agents alone."""
    return BreakerSpec(
        failures=settings.breaker_failures,
        window=settings.breaker_window,
        reset=settings.breaker_reset,
        max_reset=settings.breaker_max_reset,
    )


class Minds(NamedTuple):
    """What a message's way is thought up and gone with."""

    registry: Registry
    planner: Planner
    synthesizer: Synthesizer


def build_minds(settings: Settings) -> Minds:
    """Import agents, planner and synthesizer. Raises `AgentDefinitionError`."""
    registry = build_registry(settings)
    planner = load_planner(settings.planner, registry, settings.max_result_bytes)
    return Minds(registry, planner, load_synthesizer(settings.synthesizer, registry, settings.max_result_bytes))


def build_parts(
    settings: Settings,
    minds: Minds,
    *,
    reader: Reader,
    writer: Writer,
    execution: Execution,
    load: Load,
    publish: Callable[[Sequence[Event]], None],
) -> Parts:
    """Return what every supervisor works with, for messages to come."""
    registry, planner, synthesizer = minds
    limits = plan_limits(settings)

    def planning(draft: DraftPlan) -> Any:
        return resolve_draft(planner, draft, registry, limits)

    return Parts(
        reader=reader,
        submit=writer.submit,
        when_decided=writer.when_decided,
        publish=publish,
        children={
            "planner": (PlannerActor, (execution, planning, settings.agent_timeout)),
            "agent": (AgentActor, (execution, registry, reader)),
            "synthesizer": (SynthesizerActor, (execution, synthesizer.write, settings.agent_timeout)),
        },
        policy=partial(restart_policy, settings, registry),
        random=random.random,
        quick=execution.quick_lane(registry.find),
        compose=synthesizer.write if isinstance(synthesizer, TemplateSynthesizer) else None,
        limits=Limits(
            parallel_threshold=settings.parallel_threshold,
            max_replans=settings.max_replans,
            request_timeout=settings.request_timeout,
        ),
        memory_limits=MemoryLimits(
            max_context_tokens=settings.max_context_tokens,
            recent_messages=settings.recent_messages_limit,
            compression_threshold=settings.compression_threshold,
        ),
        busy_policy=settings.busy_policy,
        keep_results=settings.persist_agent_state,
        snapshot_every=settings.snapshot_every,
        queue_limit=settings.queue_limit,
        load=load,
    )


def modules_of(settings: Settings) -> set[str]:
    """Return the modules that the configuration names."""
    functions = [
        settings.planner,
        settings.synthesizer,
        *(str(t.get("function", "")) for t in settings.agents.values()),
    ]
    return {*settings.agents_from, *(name.partition(":")[0] for name in functions if ":" in name)}


def build_registry(settings: Settings) -> Registry:
    """Import the agents that the configuration names."""
    return Registry.from_config(settings.agents_from, settings.agents)


def build_store(settings: Settings, kind: str | None = None) -> Store:
    """Make the store that the configuration names; nothing is opened yet."""
    return create_store(
        kind or settings.state_storage,
        data_dir=settings.data_dir,
        redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
        redis_prefix=settings.redis_prefix,
        dsn=settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else None,
        lease_ttl=settings.lease_ttl,
    )


_SECRET = re.compile(r"(?<=//)[^/]*@|\bpassword\s*=\s*(?:'(?:\\.|[^'])*'|[^\s&]*)", re.IGNORECASE)
"""In a URL, as a parameter of one, or in a Postgres connection string."""


def store_address(settings: Settings, kind: str) -> str:
    """Return what tells one store on a server from others; nothing for a store without a server.

    Passwords are left out: a changed one changes no store, and what is noted of this must not help to guess one.
    """
    url = {"redis": settings.redis_url, "postgres": settings.postgres_dsn}.get(kind)
    return "" if url is None else f"{kind} {settings.redis_prefix} {_SECRET.sub('', url.get_secret_value())}"


def owner_name() -> str:
    """Return what tells this process from others in the store's ownership row."""
    return f"{socket.gethostname()}:{getpid()}"
