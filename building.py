"""From settings to what they describe: the store, the agents and minds, policies and limits."""

from __future__ import annotations

import re
import socket
from os import getpid
from typing import NamedTuple

from actors.blocking_pool import PoolExhausted
from actors.breakers import CircuitOpen
from agents.registry import Registry
from config import Settings
from conversation.parts import RestartPolicy
from persistence.contract import Store
from persistence.open_store import create_store
from planning.load import Planner, load_planner
from planning.resolve import PlanLimits
from supervision.backoff import Backoff
from supervision.breaker import BreakerSpec
from supervision.spec import ChildSpec, RestartType
from synthesis.load import Synthesizer, load_synthesizer


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
