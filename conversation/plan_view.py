"""A conversation's newest request as people see it: its plan, what became of each node, its reply. Read from events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from messages.events import (
    Journaled,
    MessageAccepted,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    PhaseChanged,
    PlanDrafted,
    ReplySent,
    rfc3339,
)


def newest_request(events: Iterable[Journaled]) -> str | None:
    """Return the request that was accepted last and has begun, else the one accepted last."""
    begun = accepted = None
    for event in events:
        if isinstance(event, MessageAccepted):
            accepted = event.request_id
        elif isinstance(event, (NodeStarted, PhaseChanged, ReplySent)):
            begun = event.request_id or begun
    return begun or accepted


def plan_view(events: Iterable[Journaled], request_id: str) -> dict[str, Any]:
    """Return one request: `{request_id, message_id, text, status, nodes: [...], reply}`, ready for JSON."""
    view: dict[str, Any] = {
        "request_id": request_id,
        "message_id": None,
        "text": None,
        "origin": None,
        "status": "accepted",
        "answer": None,
        "nodes": [],
        "reply": None,
    }
    nodes: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.request_id == request_id:
            _apply(event, view, nodes)
    view["nodes"] = list(nodes.values())
    return view


def _apply(event: Journaled, view: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> None:
    match event:
        case MessageAccepted():
            view.update(message_id=event.message_id, text=event.text)
        case PlanDrafted():
            view.update(origin=event.origin, answer=event.answer)
            _redraw(event, nodes)
        case PhaseChanged():
            view["status"] = event.to_phase
        case ReplySent():
            view["reply"] = {
                "seq": event.seq,
                "status": event.status,
                "text": event.text,
                "missing": [missing.model_dump() for missing in event.missing],
            }
            for missing in event.missing:
                if missing.node in nodes and nodes[missing.node]["status"] in _UNSETTLED:  # nothing of it goes on
                    nodes[missing.node].update(status="given_up", reason=missing.reason, retry_at=None)
        case NodeStarted() | NodeSucceeded() | NodeFailed() | NodeRetrying() | NodeSkipped():
            if event.node in nodes:
                _apply_to_node(event, nodes[event.node])
        case _:
            return


_UNSETTLED: Final = frozenset({"pending", "running", "backing_off"})


def _redraw(event: PlanDrafted, nodes: dict[str, dict[str, Any]]) -> None:
    kept = {key: node for key, node in nodes.items() if node["status"] in ("succeeded", "running", "backing_off")}
    nodes.clear()
    nodes.update(kept)
    for spec in event.nodes:
        if spec.id not in nodes:
            nodes[spec.id] = {
                "id": spec.id,
                "agent": spec.agent,
                "task": spec.task,
                "inputs": spec.inputs,
                "depends_on": list(spec.depends_on),
                "need": spec.need,
                "timeout": spec.timeout,
                "retries": spec.retries,
                "on_failure": spec.on_failure,
                "status": "pending",
                "attempts": 0,
                "duration_ms": None,
                "error": None,
                "reason": None,
                "retry_at": None,
            }


def _apply_to_node(event: Any, node: dict[str, Any]) -> None:
    match event:
        case NodeStarted():
            node.update(status="running", agent=event.agent, attempts=event.attempt, retry_at=None)
        case NodeSucceeded():
            node.update(status="succeeded", duration_ms=event.duration_ms, error=None, reason=None)
        case NodeFailed():
            error = event.error.model_dump(by_alias=True, include={"type", "error_class", "message"})
            node.update(status="failed", error=error, reason=f"{event.error.type}: {event.error.message}")
        case NodeRetrying():
            node.update(status="backing_off", retry_at=rfc3339(event.due))
        case NodeSkipped():
            node.update(status="skipped", reason=event.reason)


def tree_order(nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return node ids so that each comes after what it depends on, right below the last of these where possible."""
    placed: list[str] = []

    def place(name: str) -> None:
        if name not in placed:
            placed.append(name)
            for other, node in nodes.items():
                if name in node["depends_on"] and all(d in placed or d not in nodes for d in node["depends_on"]):
                    place(other)

    for name, node in nodes.items():
        if not any(dep in nodes for dep in node["depends_on"]):
            place(name)
    placed.extend(name for name in nodes if name not in placed)
    return placed
