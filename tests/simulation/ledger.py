"""The referee: reads every step as it becomes durable and knows what may follow; an independent model of the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from messages.agent import RunNode
from persistence.contract import Append

if TYPE_CHECKING:
    from simulation.world import World

_RESTING = ("paused", "awaiting_approval")


@dataclass
class NodeRecord:
    """One node of one request."""

    spec: dict[str, Any]
    status: str = "pending"
    agent: str = ""
    attempt: int = 0
    failures: int = 0
    """Of the present agent."""
    retry_after: float | None = None
    error_class: str = ""
    due: int = 0
    """Wall clock before which it must not start again."""


@dataclass
class RequestRecord:
    """One accepted message."""

    request_id: str
    message_id: str
    seq: int
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    plans: int = 0
    answered_by_planner: bool = False
    planner_failures: int = 0
    trying: bool = False
    """Planner or synthesizer failed and will be asked again."""
    planner_gave_up: bool = False
    synthesizer_gave_up: bool = False
    reply: dict[str, Any] | None = None
    reply_seq: int = 0
    replied_at: float = 0.0


@dataclass
class ConversationRecord:
    """One conversation, as its durable steps say."""

    conversation_id: str
    seq: int = 0
    phase: str = "initializing"
    requests: dict[str, RequestRecord] = field(default_factory=dict)
    by_message: dict[str, RequestRecord] = field(default_factory=dict)
    waiting: list[RequestRecord] = field(default_factory=list)
    """Accepted without a reply; the first is the one that runs."""
    recoveries: int = 0
    """Boots since the last step that was progress."""


class Ledger:
    """What is durable, and every rule that can be checked step by step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.conversations: dict[str, ConversationRecord] = {}
        self._demand = world.demand
        self._at = 0
        self._called: set[tuple[str, str, int]] = set()
        self._entered: set[tuple[str, str, int]] = set()
        self.open = 0
        """Accepted messages without a reply."""

    def of(self, conversation_id: str) -> ConversationRecord:
        return self.conversations.setdefault(conversation_id, ConversationRecord(conversation_id))

    # A step

    def applied(self, append: Append) -> None:
        """Take a step that was committed; a second time (its answer was lost) it is known already."""
        talk = self.of(append.conversation_id)
        if append.last_seq <= talk.seq:
            return
        self._demand(append.expected_seq == talk.seq, "sequence", f"{append.expected_seq} follows on {talk.seq}")
        entry = from_json(append.entry[8:])
        self._demand(len(entry["events"]) == append.last_seq - append.expected_seq, "sequence", "a step has a hole")
        first = entry["events"][0]
        again = first["type"] == "node.started" and first.get("recovered", False)
        self._demand(not (again and append.progress), "quarantine", "taking up again is no progress")
        seq, self._at = append.expected_seq, append.at
        for event in entry["events"]:
            seq += 1
            self._world.saw(f"event: {event['type']}")
            request_id = event.get("request_id", entry["request_id"])
            _EVENTS[event["type"]](self, talk, event, request_id, seq)
        talk.seq = seq
        self._check_columns(talk, append)

    def _check_columns(self, talk: ConversationRecord, append: Append) -> None:
        demand = self._demand
        demand(append.phase == talk.phase, "columns", f"phase {append.phase}, events say {talk.phase}")
        running = talk.waiting[0] if talk.waiting else None
        unfinished = running is not None and talk.phase not in _RESTING
        demand(append.unfinished == unfinished, "columns", f"unfinished is {append.unfinished} in {talk.phase}")
        oldest = min((r.seq for r in talk.waiting), default=None)
        demand(append.oldest_open_seq == oldest, "columns", f"oldest open {append.oldest_open_seq}, not {oldest}")
        if append.progress:
            talk.recoveries = 0
        self._world.saw("append: progress" if append.progress else "append: recovery")

    def booted(self, recoveries: dict[str, int], unfinished: list[str]) -> None:
        """A daemon has asked the store what there is to take up."""
        talks = self.conversations.values()
        expected = {t.conversation_id for t in talks if t.waiting and t.phase not in _RESTING}
        self._demand(set(unfinished) == expected, "columns", f"unfinished: {unfinished}, not {sorted(expected)}")
        for conversation_id in sorted(expected):
            talk = self.conversations[conversation_id]
            talk.recoveries += 1
            count = recoveries.get(conversation_id)
            self._demand(count == talk.recoveries, "quarantine", f"{count} recoveries, not {talk.recoveries}")

    def shifted(self, by: int, conversation_ids: Sequence[str]) -> None:
        """What was counted of some has been changed; of those that are finished nothing is counted."""
        for conversation_id in conversation_ids:
            talk = self.conversations[conversation_id]
            if talk.waiting and talk.phase not in _RESTING:
                talk.recoveries = max(0, talk.recoveries + by)

    # Events

    def _message_accepted(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        message_id = event["message_id"]
        self._demand(message_id not in talk.by_message, "dedupe", f"{message_id} was accepted twice")
        self._demand(request_id not in talk.requests, "dedupe", f"{request_id} was used twice")
        record = RequestRecord(request_id, message_id, seq)
        policy = self._world.policy_of(talk.conversation_id, message_id)
        busy = bool(talk.waiting)
        ahead = busy and policy in ("interrupt", "rollback") and talk.phase != "paused"
        self._demand(not (busy and policy == "reject"), "busy policy", f"{message_id} should have been rejected")
        self._demand(event.get("next", False) == ahead, "busy policy", f"{message_id} ({policy}) went to a wrong place")
        talk.requests[request_id] = talk.by_message[message_id] = record
        self.open += 1
        if ahead:
            talk.waiting.insert(1, record)
            self._world.saw(f"branch: {policy}")
        else:
            talk.waiting.append(record)
            if busy:
                self._world.saw("branch: enqueued")

    def _message_refused(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        self._demand(bool(talk.waiting), "busy policy", "refused although nothing was running")
        self._world.saw("branch: busy reject")

    def _plan_drafted(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        request = talk.requests[request_id]
        request.plans += 1
        request.planner_failures = 0
        request.trying = False
        request.answered_by_planner = event.get("answer") is not None
        if request.plans > 1:
            self._world.saw("branch: replanned")
        kept = {k: n for k, n in request.nodes.items() if n.status in ("succeeded", "running", "backing_off")}
        request.spent.update({k: n.attempt for k, n in request.nodes.items() if k not in kept})
        for spec in event.get("nodes", ()):
            if spec["id"] not in kept:
                kept[spec["id"]] = NodeRecord(spec, attempt=request.spent.get(spec["id"], 0))
        request.nodes = kept

    def _plan_failed(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        request = talk.requests[request_id]
        request.planner_failures += 1
        self._demand(event["attempt"] == request.planner_failures, "attempts", "the planner's attempts have a hole")
        request.planner_gave_up = event.get("delay") is None
        request.trying = not request.planner_gave_up

    def _synthesis_failed(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        request = talk.requests[request_id]
        request.synthesizer_gave_up = event.get("delay") is None
        request.trying = not request.synthesizer_gave_up

    def _node_started(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        request, node = self._node(talk, event, request_id)
        demand = self._demand
        what = f"{request_id}/{event['node']}"
        demand(node.status != "succeeded", "no finished node runs again", what)
        demand(request.reply is None, "nothing starts after the reply", what)
        demand(event["attempt"] == node.attempt + 1, "attempts", f"{what}: {event['attempt']} follows {node.attempt}")
        done = sum(request.nodes[d].status == "succeeded" for d in node.spec["depends_on"] if d in request.nodes)
        demand(done >= node.spec["need"], "joins", f"{what} started with {done} of {node.spec['need']} done")
        if not event.get("recovered") and not self._world.clock_was_set:
            early = node.due - self._at
            demand(early <= 2, "retry delays", f"{what} started {early} ms too early")
        node.due = 0
        if event.get("recovered"):
            self._world.saw("branch: a cut off node was taken up again")
        if node.agent and node.agent != event["agent"]:
            self._world.saw("branch: fallback agent")
            node.failures = 0
        node.status, node.agent, node.attempt = "running", event["agent"], event["attempt"]

    def _node_succeeded(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        _, node = self._at_work(talk, event, request_id)
        node.status = "succeeded"
        if event.get("cached"):
            self._world.saw("branch: result from the cache")

    def _node_failed(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        _, node = self._at_work(talk, event, request_id)
        node.status = "failed"
        node.failures += 1
        error = event["error"]
        node.retry_after, node.error_class = error.get("retry_after"), error["class"]
        budget = node.spec["retries"] + 1
        what = f"{request_id}/{event['node']} failed {node.failures} times, has {budget} attempts"
        self._demand(node.failures <= budget, "retry budget", what)
        self._world.saw(f"branch: node failed, {error['class']}")
        if error["type"] == "circuit_open":
            key = (request_id, event["node"], event["attempt"])
            self._demand(key not in self._entered, "left alone", f"{what}; it was called, and said to be refused")
            told = error["class"] == "transient" and (error.get("retry_after") or 0.0) > 0.0
            self._demand(told, "left alone", f"{what}; a refusal is transient and says when to come again: {error}")
            self._world.saw("branch: an attempt failed, as its agent is left alone")
        if error["type"] in ("unknown_outcome", "unbound_input", "timeout"):
            self._world.saw(f"branch: {error['type']}")

    def _node_retrying(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        _, node = self._node(talk, event, request_id)
        cut_off = node.status == "running"  # by the daemon's end, while paused
        if not cut_off:
            wait = node.retry_after or 0.0
            self._demand(event["delay"] >= wait, "Retry-After", f"{event['delay']} s instead of {wait} s")
            self._demand(node.error_class == "transient", "retry rules", f"a {node.error_class} error is retried")
            if node.retry_after:
                self._world.saw("branch: Retry-After obeyed")
        node.status = "backing_off"
        node.due = event["due"]

    def _node_skipped(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        request, node = self._node(talk, event, request_id)
        deps = node.spec["depends_on"]
        gone = sum(d not in request.nodes or request.nodes[d].status in ("failed", "skipped") for d in deps)
        hopeless = len(deps) - gone < node.spec["need"]
        self._demand(hopeless, "joins", f"{request_id}/{event['node']} was skipped although it could still run")
        node.status = "skipped"

    def _phase_changed(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        self._demand(event["from"] == talk.phase, "phases", f"from {event['from']}, it was {talk.phase}")
        talk.phase = event["to"]
        if talk.phase == "awaiting_approval":
            self._world.saw("branch: awaits approval")

    def _reply_sent(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        demand = self._demand
        request = talk.requests.get(request_id)
        demand(request is not None, "one reply", f"a reply to {request_id}, which was never accepted")
        assert request is not None
        demand(request.reply is None, "one reply", f"{request_id} got a second reply")
        demand(talk.waiting[:1] == [request], "one reply", f"{request_id} was not the running request")
        demand(event["message_id"] == request.message_id, "one reply", "of another message")
        talk.waiting.remove(request)
        self.open -= 1
        request.reply, request.reply_seq, request.replied_at = event, seq, self._world.clock.now
        self._world.saw(f"branch: reply {event['status']}")
        overdue = any(missing["reason"] == "deadline" for missing in event.get("missing", ()))
        if overdue:
            self._world.saw("branch: the request's time was over")
            demand(self._world.request_timeout is not None, "deadline", f"{request_id} had none")
            demand(event["status"] in ("partial", "failed"), "deadline", f"{request_id} is {event['status']}")
        self._check_disclosure(request, event)
        if (
            event["status"] != "cancelled"
            and not overdue
            and not request.planner_gave_up
            and not request.answered_by_planner
        ):
            self._check_routes(request, event["status"])

    def _check_disclosure(self, request: RequestRecord, event: Any) -> None:
        missing = {branch["node"] for branch in event.get("missing", ())}
        undone = {key for key, node in request.nodes.items() if node.status != "succeeded"}
        self._demand(undone <= missing, "disclosure", f"{sorted(undone - missing)} missing without a word")
        if event["status"] == "completed":
            self._demand(not missing, "disclosure", "completed, yet branches are missing")

    def _check_routes(self, request: RequestRecord, status: str) -> None:
        demand = self._demand
        doomed = any(n.status == "failed" and n.spec["on_failure"] == "fail" for n in request.nodes.values())
        if doomed:
            demand(status == "failed", "on_failure", "a node with on_failure fail did not fail the request")
            return
        for key, node in request.nodes.items():
            demand(node.status in ("succeeded", "failed", "skipped"), "replies wait", f"{key} is {node.status}")
            route = node.spec["on_failure"]
            if node.status != "failed":
                continue
            if route.startswith("fallback:"):
                demand(node.agent == route[9:], "on_failure", f"the fallback of {key} was not asked")
            elif route == "replan":
                demand(request.plans > self._world.max_replans, "on_failure", f"{key} asked for a new plan")

    def _noted(self, talk: ConversationRecord, event: Any, request_id: str, seq: int) -> None:
        """Pauses and quarantines change the phase by an event of its own."""
        if event["type"] == "conversation.quarantined":
            self._world.saw("branch: quarantined")

    # What is asked of the ledger

    def _node(self, talk: ConversationRecord, event: Any, request_id: str) -> tuple[RequestRecord, NodeRecord]:
        request = talk.requests[request_id]
        self._demand(event["node"] in request.nodes, "plan", f"{event['node']} is not in the plan")
        return request, request.nodes[event["node"]]

    def _at_work(self, talk: ConversationRecord, event: Any, request_id: str) -> tuple[RequestRecord, NodeRecord]:
        request, node = self._node(talk, event, request_id)
        right = node.status == "running" and event["attempt"] == node.attempt
        what = (
            f"{request_id}/{event['node']}: outcome of attempt {event['attempt']}, it is {node.status}, {node.attempt}"
        )
        self._demand(right, "fences", what)
        return request, node

    def call_made(self, life: Any, call: RunNode) -> None:
        """An agent is about to run."""
        if life is not self._world.life:
            return  # it has lost the store and does not know it yet
        talk = self.of(call.conversation_id)
        request = talk.requests.get(call.request_id)
        node = None if request is None else request.nodes.get(call.node)
        what = f"{call.request_id}/{call.node}#{call.attempt}"
        durable = node is not None and node.attempt >= call.attempt
        self._demand(durable, "acts on durable states only", f"{what} runs before its start is durable")
        if node is not None and request is not None:
            self._demand(node.status != "succeeded", "no finished node runs again", what)
        key = (call.request_id, call.node, call.attempt)
        self._demand(key not in self._called, "an attempt is made once", what)
        self._called.add(key)
        self._check_context(talk, call)

    def call_entered(self, call: RunNode) -> None:
        """An agent was let run."""
        self._entered.add((call.request_id, call.node, call.attempt))

    def _check_context(self, talk: ConversationRecord, call: RunNode) -> None:
        for record in talk.requests.values():
            if record.request_id == call.request_id or record.reply is None:
                continue
            word = f"<{record.message_id}>"
            if record.reply.get("forgotten"):
                self._demand(word not in call.context, "memory", f"{call.node} is shown {word}, which was rolled back")
            elif record.reply_seq < self._request_begin(talk, call.request_id):
                self._demand(word in call.context, "memory", f"{call.node} is not shown {word}")

    @staticmethod
    def _request_begin(talk: ConversationRecord, request_id: str) -> int:
        record = talk.requests.get(request_id)
        return 0 if record is None else record.seq


_EVENTS: dict[str, Any] = {
    "message.accepted": Ledger._message_accepted,
    "message.refused": Ledger._message_refused,
    "plan.drafted": Ledger._plan_drafted,
    "plan.failed": Ledger._plan_failed,
    "node.started": Ledger._node_started,
    "node.succeeded": Ledger._node_succeeded,
    "node.failed": Ledger._node_failed,
    "node.retrying": Ledger._node_retrying,
    "node.skipped": Ledger._node_skipped,
    "phase.changed": Ledger._phase_changed,
    "synthesis.failed": Ledger._synthesis_failed,
    "reply.sent": Ledger._reply_sent,
    "conversation.paused": Ledger._noted,
    "conversation.resumed": Ledger._noted,
    "conversation.quarantined": Ledger._noted,
}
