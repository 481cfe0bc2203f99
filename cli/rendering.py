"""How things look to a person: events as lines, plans as trees, rows as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from cli.terminal import one_line, safe

STYLES: Final[dict[str, str]] = {
    "running": "cyan",
    "backing_off": "yellow",
    "succeeded": "green",
    "completed": "green",
    "failed": "red",
    "cancelled": "red",
    "quarantined": "red",
    "partial": "yellow",
    "paused": "yellow",
    "awaiting_approval": "yellow",
    "skipped": "dim",
    "pending": "dim",
    "idle": "dim",
}
_COMMON: Final = frozenset({"type", "seq", "at", "conversation_id", "request_id", "cause"})
_UNSETTLED: Final = ("pending", "running", "backing_off")
_WAY_ON: Final[dict[str, str]] = {
    "awaiting_approval": "this plan waits for a person: `orch resume {0}` agrees to it, `orch cancel {0}` refuses it",
    "paused": "`orch resume {0}` goes on, `orch cancel {0}` ends the request",
}
"""What a person can do in a phase that only a person ends."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """Return rows under headings; words that are states have their colour."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        found.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        found.add_row(*(_cell(value) for value in row))
    return found


def event_line(event: Mapping[str, Any]) -> str:
    """Return one event on one line: seq, time, type, and its own fields."""
    fields = (
        f"{key}={_plain(value)}" for key, value in event.items() if key not in _COMMON and value not in (None, "")
    )
    return " ".join([f"{event.get('seq', '-'):>5}", str(event.get("at", "")), str(event.get("type", "")), *fields])


def conversation_view(found: Mapping[str, Any]) -> RenderableType:
    """Return phase, plan with each node's state and attempts, reply, pending things."""
    request: Mapping[str, Any] = found.get("request") or {}
    parts: list[RenderableType] = [_headline(found)]
    if found.get("quarantined"):
        parts.append(Text.assemble(("quarantined  ", "bold red"), one_line(found["quarantined"])))
    if found.get("held_back"):
        parts.append(
            Text.assemble(("held back  ", "bold yellow"), "others are tried first: see conversations_tried in the log")
        )
    if broken := found.get("unreadable"):
        parts.append(Text.assemble(("unreadable  ", "bold red"), one_line(f"at {broken['seq']}: {broken['reason']}")))
    if request:
        parts.append(Text.assemble(("message  ", "bold"), one_line(request.get("text") or "")))
        parts.append(plan_tree(request))
        pending = [_pending(node) for node in request.get("nodes", ()) if node["status"] in _UNSETTLED]
        if pending and not found.get("quarantined"):  # nothing of it runs then, whatever the journal has last
            parts.append(Text.assemble(("pending  ", "bold"), "; ".join(pending)))
        if pending and (way_on := _WAY_ON.get(str(found.get("phase")))):
            parts.append(Text.assemble(("way on   ", "bold"), way_on.format(safe(found.get("conversation_id", "")))))
        parts.extend(_reply(request.get("reply")))
    return Group(*parts)


def plan_tree(request: Mapping[str, Any]) -> Tree:
    """Return the plan; a node stands below the last of those it waits for, and names the others."""
    nodes: Mapping[str, Mapping[str, Any]] = {node["id"]: node for node in request.get("nodes", ())}
    tree = Tree(Text(f"plan  {_origin(request)}", style="bold"), guide_style="dim")
    branches: dict[str, Tree] = {}
    waiting = dict(nodes)
    while waiting:
        # Every plan has an order; should one not, its nodes are shown at the top rather than not at all.
        ready = [n for n in waiting if all(d in branches for d in nodes[n]["depends_on"] if d in nodes)] or list(
            waiting
        )
        for name in ready:
            node = waiting.pop(name)
            above = [dependency for dependency in node["depends_on"] if dependency in branches]
            branches[name] = (branches[above[-1]] if above else tree).add(_node_label(node, above[:-1]))
    return tree


def status_view(status: Mapping[str, Any]) -> RenderableType:
    """Return one screen of figures: single values on top, groups below, each on a line."""
    single = {key: value for key, value in status.items() if not isinstance(value, Mapping)}
    groups = {key: value for key, value in status.items() if isinstance(value, Mapping)}
    rows = [(key.replace("_", " "), _plain(value)) for key, value in single.items()]
    rows += [(key.replace("_", " "), _group(value)) for key, value in groups.items()]
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(safe(name)), Text(safe(value)))
    return grid


def actor_rows(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return the actor tree as a table, indented by path."""
    columns = ("path", "kind", "state", "mailbox", "oldest", "current", "age", "restarts", "last cause")
    lines = (
        (
            "  " * (row["path"].count("/") - 1) + row["path"],
            row["kind"],
            row["state"],
            row["mailbox"],
            _seconds(row["oldest_age"]),
            row["current"] or "",
            _seconds(row["current_age"]),
            row["restarts"],
            one_line(row["last_cause"] or "", 80),
        )
        for row in rows
    )
    return table(columns, lines, right=("mailbox", "oldest", "age", "restarts"))


# Parts


def _headline(found: Mapping[str, Any]) -> Text:
    phase = str(found.get("phase", ""))
    line = Text.assemble((safe(found.get("conversation_id", "")), "bold"), "  ", (safe(phase), STYLES.get(phase, "")))
    line.append(f"  seq {found.get('seq', '')}", style="dim")
    if found.get("updated_at"):
        line.append(f"  {safe(found['updated_at'])}", style="dim")
    return line


def _origin(request: Mapping[str, Any]) -> str:
    if request.get("answer"):
        return "none: answered directly"
    if not request.get("nodes"):
        return "none yet"
    return f"by {request.get('origin') or 'planner'}"


def _node_label(node: Mapping[str, Any], others: Sequence[str]) -> Text:
    status = str(node["status"])
    attempts = node.get("attempts") or 0
    label = Text.assemble((safe(node["id"]), "bold"), "  ", (safe(status), STYLES.get(status, "")))
    label.append(f"  {safe(node['agent'])}", style="dim")
    label.append(f"  {_tries(attempts)}")
    if node.get("duration_ms") is not None:
        label.append(f"  {node['duration_ms']:.0f} ms", style="dim")
    if others:
        label.append(f"  (also after {', '.join(map(safe, others))})", style="dim")
    if status != "succeeded" and node.get("reason"):
        label.append(f"  {one_line(node['reason'])}", style=STYLES.get(status, ""))
    return label


def _tries(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def _pending(node: Mapping[str, Any]) -> str:
    if node["status"] == "backing_off":
        return f"{safe(node['id'])} is tried again at {safe(node.get('retry_at') or 'once')}"
    if node["status"] == "running":
        return f"{safe(node['id'])} runs"
    return f"{safe(node['id'])} waits" + (
        f" for {', '.join(map(safe, node['depends_on']))}" if node["depends_on"] else ""
    )


def _reply(reply: Mapping[str, Any] | None) -> Iterable[Text]:
    if reply is None:
        return
    status = str(reply["status"])
    yield Text.assemble(("reply    ", "bold"), (safe(status), STYLES.get(status, "")))
    yield Text(safe(reply["text"]))
    for missing in reply.get("missing", ()):
        yield Text(f"missing  {safe(missing['node'])}: {one_line(missing['reason'])} ({_tries(missing['attempts'])})")


def _cell(value: object) -> Text:
    text = safe("" if value is None else value)
    return Text(text, style=STYLES.get(text, ""))


def _group(group: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={_figure(value)}" for key, value in group.items()) or "-"


def _figure(value: object) -> str:
    if isinstance(value, Mapping) and "ok" in value:
        return "ok" if value["ok"] else f"FAILED ({one_line(value.get('detail', ''))})"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{safe(k)} {_plain(v)}" for k, v in value.items() if v not in (None, 0)) + ")"
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 100_000 else f"{value:.0f}"
    return one_line(json.dumps(value, ensure_ascii=False, default=str))


def _seconds(age: float | None) -> str:
    return "" if age is None else f"{age:.1f} s"
