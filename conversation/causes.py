"""Why things came about: the events of a conversation as a tree of causes, each event once, below what led to it.

    message -> plan -> node -> attempt -> failure -> restart
                                       -> result
            -> reply

Only messages and control messages stand at the top. A restart stands below the failure that it answers; the attempt it
led to stands beside the earlier ones, so that the tree is never deeper than a person can read, however often something
is tried. `cause` of each item is what the journal itself says: the sequence number or message id it followed from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from messages.events import (
    ConversationPaused,
    ConversationQuarantined,
    ConversationResumed,
    Journaled,
    MessageAccepted,
    MessageRefused,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    PhaseChanged,
    PlanDrafted,
    PlanFailed,
    ReplySent,
    SynthesisFailed,
    rfc3339,
)
from messages.failure import Failure, clip

Item = dict[str, Any]
"""One line of the tree, ready for JSON: `kind`, `seq`, `at`, `after_ms`, `title`, `children`, what its kind has."""

MAX_TEXT: Final = 200
"""Characters shown of a message or a reply: the tree says why, the messages are read elsewhere."""
MAX_EVENTS: Final = 10_000
"""Events of one tree; what goes beyond is counted, not kept, so that memory stays bounded."""
_KEPT: Final = ("running", "backing_off", "succeeded")
"""States in which a new plan leaves a node alone."""


@dataclass(slots=True)
class _Request:
    """What has been seen of one request."""

    root: Item
    began_at: int
    nodes: dict[str, Item] = field(default_factory=dict)
    """The node of that id that is current: a new plan may bring another of the same id."""
    attempts: dict[str, Item] = field(default_factory=dict)
    """The newest attempt at each current node."""
    started_at: dict[str, int] = field(default_factory=dict)
    plans: int = 0
    replied: bool = False


class Causes:
    """Give it events in order of `seq` with `add`, then take `roots`."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self.roots: list[Item] = []
        self.left_out = 0
        """Events beyond `max_events`."""
        self._left = max_events
        self._requests: dict[str | None, _Request] = {}
        self._by_seq: dict[int, Item] = {}

    def add(self, event: Journaled) -> None:
        """Place one event."""
        if self.full and not isinstance(event, ReplySent):  # how it ended is worth one line more
            self.left_out += 1
            return
        self._left -= 1
        place: Callable[[Any], Item] = getattr(self, _PLACE[type(event)])
        self._by_seq[event.seq] = place(event)

    @property
    def full(self) -> bool:
        """Whether what comes is left out, but for replies."""
        return self._left <= 0

    def unanswered(self) -> frozenset[str]:
        """Return the requests whose reply has not been seen."""
        return frozenset(key for key, request in self._requests.items() if key is not None and not request.replied)

    # Roots

    def _message(self, event: MessageAccepted) -> Item:
        item = self._root(event, "message", f'message "{clip(event.text, MAX_TEXT)}"')
        item.update(message_id=event.message_id, user_id=event.user_id, status="open")
        if event.next:
            item["title"] += ", before those that waited"
        self._requests[event.request_id] = _Request(item, event.at)
        return item

    def _refusal(self, event: MessageRefused) -> Item:
        item = self._root(event, "refusal", f"message refused: {event.reason}")
        item.update(message_id=event.message_id, code=event.code, reason=event.reason)
        return item

    def _control(self, event: Any) -> Item:
        kind = _CONTROL[type(event)]
        by = getattr(event, "by", None)
        title = kind + (f" by {by}" if by else "") + (f": {event.reason}" if event.reason else "")
        item = self._root(event, kind, title)
        item.update(by=by, reason=event.reason)
        return item

    def _root(self, event: Journaled, kind: str, title: str) -> Item:
        item = _item(event, kind, title, event.at)
        item["request_id"] = event.request_id
        self.roots.append(item)
        return item

    def _request(self, event: Journaled) -> _Request:
        """Return what the event belongs to; a stand-in when its beginning is no longer in the journal."""
        request = self._requests.get(event.request_id)
        if request is None:
            root = _item(event, "forgotten", "what came before is no longer in the journal", event.at)
            root.update(seq=None, cause=None, request_id=event.request_id)
            self.roots.append(root)
            request = self._requests[event.request_id] = _Request(root, event.at)
        return request

    # Planning and words

    def _plan(self, event: PlanDrafted) -> Item:
        request = self._request(event)
        request.plans += 1
        what = "direct answer" if event.answer is not None else _count(len(event.nodes), "node")
        origin = "the client" if event.origin == "client" else "the planner"
        number = "plan" if request.plans == 1 else f"plan {request.plans}"
        item = _below(request.root, event, "plan", f"{number} by {origin}: {what}", request)
        item["origin"] = event.origin
        kept = {key: node for key, node in request.nodes.items() if node["status"] in _KEPT}
        request.nodes = kept
        for spec in event.nodes:
            if spec.id not in kept:
                node = _below(item, event, "node", f"node {spec.id}", request)
                node.update(seq=None, cause=event.seq, node=spec.id, agent=spec.agent, task=spec.task)
                node.update(needs=list(spec.depends_on), status="pending", reason=None)
                request.nodes[spec.id] = node
                request.attempts.pop(spec.id, None)
        return item

    def _plan_failure(self, event: PlanFailed) -> Item:
        return self._tried(event, "plan_failure", "planning")

    def _synthesis_failure(self, event: SynthesisFailed) -> Item:
        return self._tried(event, "synthesis_failure", "synthesis")

    def _tried(self, event: Any, kind: str, what: str) -> Item:
        request = self._request(event)
        then = "given up" if event.delay is None else f"tried again after {event.delay:g} s"
        title = f"{what} failed in attempt {event.attempt}: {_say(event.error)}; {then}"
        item = _below(request.root, event, kind, title, request)
        item.update(attempt=event.attempt, error=_error(event.error), delay=event.delay)
        return item

    def _reply(self, event: ReplySent) -> Item:
        request = self._request(event)
        item = _below(request.root, event, "reply", f"reply: {event.status}", request)
        item.update(status=event.status, text=clip(event.text, MAX_TEXT), forgotten=event.forgotten)
        item["missing"] = [missing.model_dump() for missing in event.missing]
        for missing in event.missing:
            node = request.nodes.get(missing.node)
            if node is not None and node["status"] in ("pending", "running", "backing_off"):
                node.update(status="given_up", reason=missing.reason)
                if missing.node in request.attempts and request.attempts[missing.node]["status"] == "running":
                    request.attempts[missing.node]["status"] = "given_up"
        request.replied = True
        request.root.update(status=event.status, took_ms=event.at - request.began_at)
        return item

    # Nodes

    def _attempt(self, event: NodeStarted) -> Item:
        request = self._request(event)
        node = self._node(request, event)
        again = " (the one before was cut off by the daemon's end)" if event.recovered else ""
        asked = "" if event.agent == node["agent"] else f" by {event.agent} instead"
        item = _below(node, event, "attempt", f"attempt {event.attempt}{asked}{again}", request)
        item.update(attempt=event.attempt, agent=event.agent, recovered=event.recovered, status="running")
        node.update(status="running", reason=None)
        cut_off = request.attempts.get(event.node)
        if cut_off is not None and cut_off["status"] == "running":
            cut_off["status"] = "cut_off"
        request.attempts[event.node] = item
        request.started_at[event.node] = event.at
        return item

    def _result(self, event: NodeSucceeded) -> Item:
        request = self._request(event)
        attempt = self._current(request, event)
        title = "result from the cache" if event.cached else f"result after {_span(event.duration_ms)}"
        item = _below(attempt, event, "result", title, request)
        item.update(duration_ms=event.duration_ms, cached=event.cached)
        self._ended(request, event, "succeeded")
        return item

    def _failure(self, event: NodeFailed) -> Item:
        request = self._request(event)
        attempt = self._current(request, event)
        item = _below(attempt, event, "failure", f"failed: {_say(event.error)}", request)
        item["error"] = _error(event.error)
        self._ended(request, event, "failed")
        self._node(request, event)["reason"] = f"{event.error.type}: {event.error.message}"
        return item

    def _restart(self, event: NodeRetrying) -> Item:
        request = self._request(event)
        attempt = self._current(request, event)
        failures = [child for child in attempt["children"] if child["kind"] == "failure"]
        parent = failures[-1] if failures else attempt
        item = _below(parent, event, "restart", f"restart after {event.delay:.3g} s: {event.reason}", request)
        item.update(attempt=event.attempt, delay=event.delay, due=rfc3339(event.due), rule=event.reason)
        self._node(request, event)["status"] = "backing_off"
        return item

    def _skip(self, event: NodeSkipped) -> Item:
        request = self._request(event)
        node = self._node(request, event)
        item = _below(node, event, "skip", f"skipped: {event.reason}", request)
        item["reason"] = event.reason
        node.update(status="skipped", reason=event.reason)
        return item

    def _node(self, request: _Request, event: Any) -> Item:
        node = request.nodes.get(event.node)
        if node is None:  # the plan that brought it is no longer in the journal
            node = _below(request.root, event, "node", f"node {event.node}", request)
            node.update(seq=None, cause=None, node=event.node, agent=event.agent, task="", needs=[])
            node.update(status="pending", reason=None)
            request.nodes[event.node] = node
        return node

    def _current(self, request: _Request, event: Any) -> Item:
        return request.attempts.get(event.node) or self._node(request, event)

    def _ended(self, request: _Request, event: Any, status: str) -> None:
        self._node(request, event)["status"] = status
        attempt = request.attempts.get(event.node)
        if attempt is not None:
            attempt.update(status=status, took_ms=event.at - request.started_at[event.node])

    # Phases

    def _phase(self, event: PhaseChanged) -> Item:
        """Place a move below what the journal names as its cause, unless that is another move or another's event."""
        cause = self._by_seq.get(event.cause) if isinstance(event.cause, int) else None
        title = f"{event.from_phase} -> {event.to_phase}"
        if cause is not None and cause["kind"] != "phase" and cause["request_id"] == event.request_id:
            item = _item(event, "phase", title, self._beginning(event))
            cause["children"].append(item)
        elif event.request_id is None and (before := self._newest_idle()) is not None:
            item = _item(event, "phase", title, event.at)
            before["children"].append(item)
        else:
            request = self._request(event)
            item = _below(request.root, event, "phase", title, request)
        item.update({"from": event.from_phase, "to": event.to_phase})
        return item

    def _newest_idle(self) -> Item | None:
        """Return the newest control message that belongs to no request."""
        return next((root for root in reversed(self.roots) if root["request_id"] is None), None)

    def _beginning(self, event: Journaled) -> int:
        request = self._requests.get(event.request_id)
        return event.at if request is None else request.began_at


def _item(event: Journaled, kind: str, title: str, began_at: int) -> Item:
    return {
        "kind": kind,
        "seq": event.seq,
        "at": rfc3339(event.at),
        "after_ms": event.at - began_at,
        "cause": event.cause,
        "request_id": event.request_id,
        "title": title,
        "children": [],
    }


def _below(parent: Item, event: Journaled, kind: str, title: str, request: _Request) -> Item:
    item = _item(event, kind, title, request.began_at)
    parent["children"].append(item)
    return item


def _error(error: Failure) -> Item:
    return error.model_dump(by_alias=True, include={"type", "error_class", "message", "retry_after"})


def _say(error: Failure) -> str:
    return f"{error.type} ({error.error_class}): {error.message}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


_CONTROL: Final[dict[type[Journaled], str]] = {
    ConversationPaused: "pause",
    ConversationResumed: "resume",
    ConversationQuarantined: "quarantine",
}
_PLACE: Final[dict[type[Journaled], str]] = {
    MessageAccepted: "_message",
    MessageRefused: "_refusal",
    PlanDrafted: "_plan",
    PlanFailed: "_plan_failure",
    NodeStarted: "_attempt",
    NodeSucceeded: "_result",
    NodeFailed: "_failure",
    NodeRetrying: "_restart",
    NodeSkipped: "_skip",
    PhaseChanged: "_phase",
    SynthesisFailed: "_synthesis_failure",
    ReplySent: "_reply",
    ConversationPaused: "_control",
    ConversationResumed: "_control",
    ConversationQuarantined: "_control",
}
