"""How a tree of causes looks to a person: one line per cause, with its time after the message and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from cli.rendering import STYLES
from cli.terminal import one_line, safe

_STYLE: Final = {
    "failure": "red",
    "plan_failure": "red",
    "synthesis_failure": "red",
    "refusal": "red",
    "quarantine": "red",
    "restart": "yellow",
    "pause": "yellow",
    "skip": "dim",
    "result": "green",
}


def causes_tree(root: Mapping[str, Any]) -> Tree:
    """Return one tree; moves between phases are left out, they are in the JSON."""
    label = _label(root)
    label.append(f"  {safe(root['at'])}", style="dim")
    if root.get("message_id"):
        label.append(f"  {safe(root['message_id'])}", style="dim")
    tree = Tree(label, guide_style="dim")
    _grow(tree, root)
    return tree


def _grow(tree: Tree, item: Mapping[str, Any]) -> None:
    # The tree is at most seven levels deep, however often something was tried.
    for child in item["children"]:
        if child["kind"] == "phase":
            _grow(tree, child)
        else:
            _grow(tree.add(_label(child)), child)


def _label(item: Mapping[str, Any]) -> Text:
    kind = item["kind"]
    label = Text()
    if item["seq"] is not None and kind not in ("message", "refusal"):
        label.append(f"+{_seconds(item['after_ms'])}  ", style="dim")
    label.append(one_line(item["title"], 500), style=_STYLE.get(kind, "bold" if kind in ("message", "node") else ""))
    status = item.get("status")
    if status and kind in ("message", "node", "attempt"):
        label.append(f"  {safe(status)}", style=STYLES.get(status, ""))
    if item.get("took_ms") is not None:
        label.append(f"  took {_seconds(item['took_ms'])}", style="dim")
    if kind == "node":
        label.append(f"  {safe(item['agent'])}", style="dim")
        if item["needs"]:
            label.append(f"  needs {', '.join(map(safe, item['needs']))}", style="dim")
        if status == "given_up":
            label.append(f"  {one_line(item['reason'])}")
    if kind == "reply" and item["missing"]:
        label.append(f"  without {', '.join(safe(branch['node']) for branch in item['missing'])}")
    return label


def _seconds(milliseconds: int) -> str:
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.3f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
