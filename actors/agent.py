"""The agent actor: one attempt at one node, from the cache if it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from actors.attempt import AttemptActor
from actors.call import Call
from actors.execution import Execution
from agents.cache_key import cache_key
from agents.registry import Registry
from agents.spec import AgentSpec
from messages.agent import NodeResult, Progress, RunNode


class Cache(Protocol):
    """Where reusable results are looked up."""

    def find(self, key: str, done: Callable[[tuple[Any, bytes] | None], None]) -> None:
        """Call `done` with (result, JSON) or None, from any thread; a failing lookup is None."""


@dataclass(frozen=True, slots=True)
class _CacheAnswer:
    key: str
    found: tuple[Any, bytes] | None


class AgentActor(AttemptActor):
    """Answers one `RunNode` with `NodeResult`."""

    kind: ClassVar[str] = "agent"

    def __init__(self, execution: Execution, registry: Registry, cache: Cache) -> None:
        super().__init__()
        self._execution = execution
        self._registry = registry
        self._cache = cache

    def begin(self, message: Any) -> Call | None:
        """Look the result up, or start the agent."""
        assert isinstance(message, RunNode)
        spec = self._registry.get(message.agent)
        if spec.cache_ttl is None:
            return self._run(spec, message)
        key = cache_key(spec, message)

        def looked_up(found: tuple[Any, bytes] | None) -> None:
            self.system.tell(self.actor_ref, _CacheAnswer(key, found))

        self._cache.find(key, looked_up)
        return None

    def on_other(self, message: Any) -> None:
        """Take the cache's answer: a hit is the result, a miss starts the agent."""
        if not isinstance(message, _CacheAnswer):
            super().on_other(message)
        elif message.found is None:
            self._call = self._run(self._registry.get(self._command.agent), self._command, message.key)
        else:
            call, (result, body) = self._command, message.found
            self.finished(NodeResult(call.request_id, call.node, call.attempt, result, body, 0.0, cached=True))

    def succeed(self, message: Any, value: Any) -> None:  # noqa: ARG002  # the result says itself what it answers
        """Tell the parent."""
        self.tell_parent(value)

    def _run(self, spec: AgentSpec, message: RunNode, key: str | None = None) -> Call:
        def done(outcome: NodeResult | BaseException) -> None:
            if key is not None and isinstance(outcome, NodeResult):
                outcome = replace(outcome, cache_key=key, cache_ttl=spec.cache_ttl)
            self.finished(outcome)

        def progress(text: str) -> None:
            note = Progress(message.request_id, message.node, message.agent, message.attempt, text)
            if self.parent is not None:
                self.system.tell(self.parent, note)

        return self._execution.run(spec, message, done=done, progress=progress)
