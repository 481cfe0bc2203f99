"""The demonstration: a daemon with the sample shop, real questions through its front door, all of it shown live."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import strftime
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from cli.exit_codes import DONE, FAILED, INTERRUPTED
from cli.terminal import safe, words
from config import Settings, load_settings
from conversation.plan_view import tree_order
from examples.shop.questions import QUESTIONS
from gateway.client import DaemonClient
from serving import explain_failure, make_telemetry, running
from telemetry.logs import routed

_MARKS = {
    "pending": ("·", "dim"),
    "running": ("▶", "cyan"),
    "backing_off": ("↻", "yellow"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("-", "dim"),
}
_PLAIN_MARKS = {"·": ".", "▶": ">", "↻": "~", "✓": "+", "✗": "x", "-": "-"}


SHOP = Path(__file__).parent / "examples" / "shop" / "orchestrator.toml"


class FrontDoor(Protocol):
    """What the demonstration needs of a client: the same that any program would use."""

    def send(self, conversation_id: str, text: str) -> Mapping[str, Any]:
        """Post a message; return the 202's body."""

    def follow(self, conversation_id: str, after: int) -> Iterator[Mapping[str, Any]]:
        """Yield events after a sequence number, as they come."""


class Board:
    """One request as it is being worked on: its plan as a tree, each node with its state."""

    def __init__(self, question: str, *, plain: bool) -> None:
        self.question = question
        self.plain = plain
        self.nodes: dict[str, dict[str, Any]] = {}
        self.stories: dict[str, str] = {}
        """What happened to a node before it succeeded."""

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Note an event; return a line to say about it, if it is worth one."""
        kind = event["type"]
        say: Callable[[Mapping[str, Any]], str | None] | None = getattr(self, "_" + kind.replace(".", "_"), None)
        return None if say is None else say(event)

    def tree(self) -> Tree:
        """Draw the plan: a node stands below the last of those it waits for."""
        root = Tree(Text(self.question, style="bold"), guide_style="dim")
        branches: dict[str, Tree] = {}
        for name in tree_order(self.nodes):
            node = self.nodes[name]
            above = [branches[dep] for dep in node["depends_on"] if dep in branches]
            branches[name] = (above[-1] if above else root).add(self._label(name))
        return root

    def plan_lines(self) -> Iterator[str]:
        """Draw the plan as plain lines."""
        depth: dict[str, int] = {}
        for name in tree_order(self.nodes):
            node = self.nodes[name]
            depth[name] = 1 + max((depth.get(dep, 0) for dep in node["depends_on"]), default=0)
            after = f"  (after {', '.join(node['depends_on'])})" if node["depends_on"] else ""
            yield f"  {'  ' * depth[name]}{name}: {node['agent']}{after}"

    def _label(self, name: str) -> Text:
        node = self.nodes[name]
        mark, style = _MARKS[node["status"]]
        label = Text(f"{_PLAIN_MARKS[mark] if self.plain else mark} {name}", style=style)
        label.append(f"  {node['agent']}", style="dim")
        if node.get("note"):
            label.append(f"  {node['note']}", style=style)
        return label

    # Events

    def _plan_drafted(self, event: Mapping[str, Any]) -> None:
        for node in event["nodes"]:
            self.nodes[node["id"]] = {
                "agent": node["agent"],
                "depends_on": list(node["depends_on"]),
                "status": "pending",
                "note": "",
            }

    def _node_started(self, event: Mapping[str, Any]) -> str:
        again = event["attempt"] > 1
        self._set(event, "running", f"attempt {event['attempt']}" if again else "")
        return f"{event['node']} restarted, attempt {event['attempt']}" if again else f"{event['node']} started"

    def _node_succeeded(self, event: Mapping[str, Any]) -> str:
        story = self.stories.get(event["node"])
        again = f"; {story}, attempt {event['attempt']}" if story else ""
        self._set(event, "succeeded", f"{event['duration_ms']:.0f} ms{again}")
        return f"{event['node']} done in {event['duration_ms']:.0f} ms"

    def _node_failed(self, event: Mapping[str, Any]) -> str:
        error = event["error"]
        self.stories[event["node"]] = f"crashed ({error['type']}: {error['message']})"
        self._set(event, "failed", self.stories[event["node"]])
        return f"{event['node']} CRASHED: {error['type']}: {error['message']}"

    def _node_retrying(self, event: Mapping[str, Any]) -> str:
        self.stories[event["node"]] = f"{self.stories.get(event['node'], '')}, restarted after {event['delay']:.2f} s"
        self._set(event, "backing_off", f"{self.stories[event['node']]} ...")
        return f"{event['node']} restarts in {event['delay']:.2f} s ({event['reason']})"

    def _node_skipped(self, event: Mapping[str, Any]) -> str:
        self._set(event, "skipped", event["reason"])
        return f"{event['node']} skipped: {event['reason']}"

    def _set(self, event: Mapping[str, Any], status: str, note: str) -> None:
        if event["node"] in self.nodes:
            self.nodes[event["node"]].update(status=status, note=note, agent=event["agent"])


def demo(flags: Mapping[str, Any], *, keep: bool) -> int:
    """Run the demonstration; with a terminal, or with `keep`, the daemon stays until Ctrl-C. Returns the exit code."""
    settings = _settings(flags)
    telemetry = make_telemetry(settings, level="CRITICAL")  # what crashes is shown by the demonstration itself
    console = Console(soft_wrap=True)
    interactive = console.is_terminal and sys.stdin.isatty()
    try:
        with routed(telemetry), running(settings, telemetry) as daemon:
            assert daemon.http is not None
            url = daemon.http.url
            console.print(f"the daemon listens on {url}; its store is {settings.sqlite_path}", highlight=False)
            token = None if settings.api_token is None else settings.api_token.get_secret_value()
            with DaemonClient(url, token) as client:
                answered = show_questions(client, console, f"demo-{strftime('%Y%m%d-%H%M%S')}")
            console.print(_where_next(url, staying=keep or interactive), highlight=False)
            if keep or interactive:
                _wait_for_ctrl_c()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        explained = explain_failure(error)
        if explained is None:
            raise
        words(explained[1])
        return explained[0]
    finally:
        telemetry.close(2.0)
    return DONE if answered else FAILED


def _settings(flags: Mapping[str, Any]) -> Settings:
    """Return the shop's settings; a busy port is replaced by a free one, so that the demonstration always runs."""
    given = {key: value for key, value in flags.items() if value is not None}
    settings = load_settings({"config": SHOP, "data_dir": Path("var") / "demo", **given})
    address = settings.http_address
    if address is None or not _is_free(*address):
        return settings.model_copy(update={"http_bind": "127.0.0.1:0"})
    return settings


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _where_next(url: str, *, staying: bool) -> str:
    orch = _as_called()
    lines = [
        "",
        "where next:",
        *([] if staying else [f"  {orch} serve --config {_near(SHOP)}    # the same shop, as a daemon that stays"]),
        f"  {orch} chat --url {url}      # ask your own questions",
        f"  {orch} status --url {url}    # one screen of figures; also: actors, conversations, show, events",
        f"  curl {url}/api/v1/conversations",
        *(["the daemon stays up until Ctrl-C"] if staying else []),
    ]
    return "\n".join(lines)


def _as_called() -> str:
    """Return what was typed to come here: `make run` has the program in an environment that is not on the `PATH`."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return program.name
    python = _near(Path(sys.executable)) if sys.prefix != sys.base_prefix else Path("python")
    return f"{python} {program}"


def _near(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _wait_for_ctrl_c() -> None:
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not told.wait(1.0):
            continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_questions(door: FrontDoor, console: Console, conversation_id: str) -> bool:
    """Ask every question of the shop, show what happens, print each reply; return whether all were answered."""
    plain = not console.is_terminal
    seen = 0
    answered = True
    for question in QUESTIONS:
        console.print()
        board = Board(question.text, plain=plain)
        door.send(conversation_id, question.text)
        if plain:
            console.print(f"question: {question.text}", markup=False, highlight=False, soft_wrap=True)
        reply = None
        live: AbstractContextManager[Any] = nullcontext() if plain else Live(board.tree(), console=console)
        with live as screen:
            for event in door.follow(conversation_id, seen):
                seen = max(seen, event.get("seq", 0))
                line = board.take(event)
                if plain and event["type"] == "plan.drafted":
                    console.print("plan:", *board.plan_lines(), sep="\n", markup=False, highlight=False)
                if plain and line is not None:
                    console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
                if screen is not None:
                    screen.update(board.tree())
                if event["type"] == "reply.sent":
                    reply = event
                    break
        if reply is None:
            return False
        text = " ".join(safe(reply["text"]).split())
        console.print(f"reply: {text}", markup=False, highlight=False, soft_wrap=True)
        answered = answered and reply["status"] in ("completed", "partial")
    return answered
