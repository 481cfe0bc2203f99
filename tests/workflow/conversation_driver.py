"""Plans, requests and a driver for tests of the pure core: a world with no threads, no clock and no sleep."""

from __future__ import annotations

from typing import Any

from messages.agent import NodeFailure, NodeResult, RetryDue
from messages.conversation import Accept
from messages.events import Journaled
from messages.failure import Failure
from messages.plan import NodeSpec, ResolvedPlan
from messages.planning import PlannerFailed, PlanReady
from messages.synthesis import Synthesized, SynthesizerFailed
from workflow.decide import take
from workflow.state import State
from workflow.step import Limits

TRANSIENT = Failure(type="ConnectionError", error_class="transient", message="refused")
PERMANENT = Failure(type="ValueError", error_class="permanent", message="no such thing")


def node(node_id: str, *depends_on: str, **fields: Any) -> NodeSpec:
    """A node with sensible settings; `need` is all of its dependencies unless given."""
    settings: dict[str, Any] = {"agent": "echo", "timeout": 5.0, "retries": 3, "need": len(depends_on), **fields}
    return NodeSpec(id=node_id, depends_on=depends_on, **settings)


def plan(*nodes: NodeSpec, answer: str | None = None, origin: str = "client") -> ResolvedPlan:
    return ResolvedPlan(nodes=nodes, answer=answer, origin=origin)


DIAMOND = plan(node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c"))


class Conversation:
    """Feeds messages to the core as a supervisor would and remembers everything."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state = State(conversation_id="c1")
        self.limits = limits or Limits()
        self.now = 1_000_000
        self.events: list[Journaled] = []
        self.asked = 0

    def tell(self, message: Any) -> list[Journaled]:
        self.now += 1
        events, self.state = take(self.state, message, self.now, self.limits)
        self.events.extend(events)
        return events

    def ask(self, resolved: ResolvedPlan | None = None, policy: str = "enqueue", text: str = "hello") -> str:
        """Accept a message; return its request id."""
        self.asked += 1
        request_id = f"r{self.asked}"
        self.tell(Accept(f"m{self.asked}", request_id, text, None, resolved, policy))  # type: ignore[arg-type]  # tests pass plain strings
        return request_id

    @property
    def request_id(self) -> str:
        assert self.state.request is not None
        return self.state.request.request_id

    def succeed(self, node_id: str, result: Any = "ok", attempt: int | None = None) -> list[Journaled]:
        attempt = self._attempt(node_id) if attempt is None else attempt
        return self.tell(NodeResult(self.request_id, node_id, attempt, result, b'"ok"', 1.0))

    def fail(self, node_id: str, failure: Failure = PERMANENT, retry_in: float | None = None) -> list[Journaled]:
        return self.tell(NodeFailure(self.request_id, node_id, self._attempt(node_id), failure, retry_in, "test"))

    def retry(self, node_id: str) -> list[Journaled]:
        return self.tell(RetryDue(self.request_id, node_id, self._attempt(node_id) + 1))

    def draft(self, resolved: ResolvedPlan) -> list[Journaled]:
        assert self.state.request is not None
        return self.tell(PlanReady(self.request_id, self.state.request.planning.failures + 1, resolved))

    def fail_planning(self, retry_in: float | None = None) -> list[Journaled]:
        assert self.state.request is not None
        return self.tell(PlannerFailed(self.request_id, self.state.request.planning.failures + 1, TRANSIENT, retry_in))

    def synthesize(self, text: str = "the answer") -> list[Journaled]:
        assert self.state.request is not None
        return self.tell(Synthesized(self.request_id, self.state.request.synthesis.failures + 1, text))

    def fail_synthesis(self, retry_in: float | None = None) -> list[Journaled]:
        assert self.state.request is not None
        return self.tell(
            SynthesizerFailed(self.request_id, self.state.request.synthesis.failures + 1, TRANSIENT, retry_in)
        )

    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    def running(self) -> set[str]:
        assert self.state.request is not None
        return {key for key, node in self.state.request.nodes.items() if node.status == "running"}

    def _attempt(self, node_id: str) -> int:
        assert self.state.request is not None
        return self.state.request.nodes[node_id].attempts
