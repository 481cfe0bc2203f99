"""A world without clients or trouble of its own, for stories told by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages.inbound import Answer, UserMessage
from messages.plan import NodeSpec, ResolvedPlan
from simulation.world import World

ONE_NODE = ResolvedPlan(nodes=(NodeSpec(id="a", agent="echo", timeout=10.0, retries=0),))


class QuietWorld(World):
    """Nothing goes wrong unless the test says so."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.agent_faults = self.planner_faults = 0.0
        self._crash_rates = dict.fromkeys(self._crash_rates, 0.0)
        self.mailbox_limit = 50
        self.quarantine_after = 5
        self.request_timeout = self.max_unfinished = None
        self._plan.clear()
        self._heal_at = 10**9
        self.agenda._heap.clear()
        self.clients.asks.clear()
        self.answers: dict[str, list[Answer]] = {}
        self.planner: Callable[[Any], Any] = lambda _draft: ONE_NODE
        self.boot()

    def plan(self, draft: Any) -> Any:
        return self.planner(draft)

    def say(self, message_id: str, conversation_id: str = "c", policy: Any = None) -> None:
        """Send a message; its answers are collected."""
        self.clients.policies[conversation_id, message_id] = policy or "enqueue"
        body = UserMessage(
            conversation_id=conversation_id, text=f"<{message_id}>", message_id=message_id, busy_policy=policy
        )
        assert self.life is not None
        self.life.router.submit(body, self.answers.setdefault(message_id, []).append)

    def tell(self, message: Any, path: str = "/conversations/c") -> None:
        """Tell an actor something."""
        assert self.life is not None
        ref = self.life.system.find(path)
        assert ref is not None, f"there is no {path}"
        self.life.system.tell(ref, message)

    def go_on(self, done: Callable[[], Any], seconds: float = 100.0) -> None:
        """Let the world run until `done()`; fails after so many virtual seconds."""
        end = self.clock.now + seconds
        while not done():
            assert self.clock.now < end, f"not within {seconds} s"
            self.step()
            assert self.violation is None, self.violation

    def replied(self, message_id: str, conversation_id: str = "c") -> bool:
        record = self.ledger.of(conversation_id).by_message.get(message_id)
        return record is not None and record.reply is not None
