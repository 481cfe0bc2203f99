"""What agents, planner and synthesizer do, by the seed: results, every class of error, silence, answers too late."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.worker_process import WorkerDied
from agents.decorator import agent
from agents.errors import PermanentError, TransientError
from agents.registry import Registry
from agents.spec import AgentSpec
from messages.plan import NodeSpec, ResolvedPlan

NAMES = "abcde"
ROUTES = ("skip", "skip", "skip", "fail", "replan", "fallback:other")


class TooManyRequests(Exception):
    """What an HTTP client raises for a 429."""

    status_code = 429

    def __init__(self, seconds: float) -> None:
        super().__init__("429")
        self.headers = {"Retry-After": f"{seconds:g}"}


def _agents() -> list[AgentSpec]:
    @agent
    def echo(x: Any = None) -> str:
        """Say something."""
        return "echo"

    @agent
    def other(x: Any = None) -> str:
        """Say something else."""
        return "other"

    @agent(cache_ttl=60.0)
    def cached(x: Any = None) -> str:
        """Say something that may be said again."""
        return "cached"

    @agent(max_concurrency=1)
    def narrow(x: Any = None) -> str:
        """Say one thing at a time."""
        return "narrow"

    from agents.decorator import spec_of

    return [spec for spec in map(spec_of, (echo, other, cached, narrow)) if spec is not None]


REGISTRY = Registry(_agents())


def random_plan(chance: Random) -> ResolvedPlan:
    """An acyclic plan: any node may depend on any before it, with any join, any route for its failure."""
    if chance.random() < 0.08:
        return ResolvedPlan(answer="hello")
    nodes = []
    for index in range(chance.choice((1, 2, 2, 3, 3, 4, 5))):
        deps = chance.sample(NAMES[:index], chance.randint(0, min(3, index)))
        need = chance.randint(1, len(deps)) if deps else 0
        inputs: dict[str, Any] = {"x": {"$from": deps[0]}} if deps and chance.random() < 0.5 else {}
        if deps and chance.random() < 0.04:
            inputs = {"x": {"$from": f"{deps[0]}.missing"}}
        nodes.append(
            NodeSpec(
                id=NAMES[index],
                agent=chance.choice(("echo", "echo", "echo", "cached", "narrow")),
                inputs=inputs,
                depends_on=tuple(deps),
                need=need,
                timeout=chance.choice((2.0, 10.0, 300.0)),
                retries=chance.choice((0, 1, 1, 2, 3)),
                on_failure=chance.choice(ROUTES),
                on_unknown_outcome="fail" if chance.random() < 0.1 else "retry",
                approval=chance.random() < 0.06,
            )
        )
    return ResolvedPlan(nodes=tuple(nodes))


def agent_error(chance: Random) -> tuple[str, BaseException]:
    """An error of any class, and its name among the faults."""
    kind = chance.randrange(8)
    if kind == 0:
        return "agent: connection lost", ConnectionError("refused")
    if kind == 1:
        return "agent: permanent error", PermanentError("no such thing")
    if kind == 2:
        return "agent: asks to be left alone", TransientError("later", retry_after=chance.choice((3.0, 12.0, 40.0)))
    if kind == 3:
        return "agent: 429", TooManyRequests(chance.choice((2.0, 20.0)))
    if kind == 4:
        return "agent: error of unknown kind", RuntimeError("what")
    if kind == 5:
        return "agent: its process died", WorkerDied("killed by signal 9")
    if kind == 6:
        return "agent: sys.exit", SystemExit(3)
    return "agent: out of memory", MemoryError()
