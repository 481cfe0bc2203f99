"""Verbs that talk: one message, a conversation from the terminal."""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import exit_codes
from cli.commands import Commands
from cli.options import Conversation, Json, client_for, duration, token_of
from cli.rendering import event_line
from cli.terminal import json_line, result, safe, words
from config import Settings, load_settings
from gateway.client import DaemonClient, Problem

PROMPT = "> "
_UNTOLD = frozenset({"message.accepted", "phase.changed", "reply.sent"})
"""Events that tell a person at the prompt nothing."""


def send(
    client: DaemonClient,
    *,
    conversation: Conversation,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message; - reads it from stdin.")],
    wait: Annotated[
        float | None,
        typer.Option("--wait", parser=duration, metavar="SECONDS", help="Wait for the reply and print it."),
    ] = None,
    message_id: Annotated[
        str | None, typer.Option("--message-id", help="Idempotency key; one is made if absent.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Who says it.")] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", exists=True, dir_okay=False, help="JSON file with the plan to run.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Send one message."""
    said = sys.stdin.read() if text == "-" else text
    began = time.monotonic()
    answer = client.send(
        conversation, said, message_id=message_id, user_id=user, plan=None if plan is None else _plan(plan), wait=wait
    )
    replied = answer.get("type") == "reply.sent"
    if as_json:
        json_line(answer)
    elif replied:
        result(answer["text"])
    else:
        result(f"accepted: message {answer['message_id']}, request {answer['request_id']}")
    if replied:
        return _outcome(answer)
    if wait is not None:
        # A daemon that is about to stop ends the wait.
        early = time.monotonic() - began < wait - 0.5
        why = "the daemon ended the wait before there was a reply" if early else f"no reply within {wait:g} seconds"
        words(f"{why}; it goes on: orch show {conversation}")
        return exit_codes.TIMED_OUT
    return exit_codes.DONE


def chat_verb(commands: Commands) -> Any:
    """Return the verb `chat`, which starts a daemon in this process when none runs."""

    def chat(
        ctx: typer.Context,
        *,
        conversation: Annotated[
            str | None, typer.Argument(metavar="[CONVERSATION]", help="Which one to go on with; a new one if absent.")
        ] = None,
    ) -> int:
        """Talk from the terminal: to the running daemon if there is one, else to one started here."""
        settings = load_settings(ctx.obj)
        name = conversation or f"chat-{uuid.uuid4().hex[:8]}"
        if settings.daemon_url is not None:
            with client_for(settings) as client:
                if settings.url is not None or client.is_alive():
                    return talk(client, name)
        # There may be one all the same, as another chat's is, on a port of its own: then it has the store.
        asked = "http_bind is off" if settings.daemon_url is None else f"no daemon answers at {settings.daemon_url}"
        words(f"{asked}: starting one in this process")
        return commands.local_chat(settings, lambda url: _talk_at(url, settings, name))

    return chat


def talk(client: DaemonClient, conversation_id: str) -> int:
    """Read messages until the input ends; print replies to stdout and what happens meanwhile to stderr."""
    last = _newest(client, conversation_id)
    words(f"conversation {conversation_id}; Ctrl-D ends")
    while (text := _read()) is not None:
        if not text.strip():
            continue
        try:
            accepted = client.send(conversation_id, text)
        except Problem as problem:
            words(f"error: {problem}")
            continue
        last = _hear(client, conversation_id, accepted["request_id"], last)
    return exit_codes.DONE


def _hear(client: DaemonClient, conversation_id: str, request_id: str, last: int) -> int:
    """Tell what happens until the request has its reply; return the newest sequence number."""
    for event in client.follow(conversation_id, last):
        last = event.get("seq", last)
        if event["type"] == "agent.progress":
            words(f"  {event['agent']}: {event['text']}")
        elif event.get("request_id") == request_id:
            if event["type"] == "reply.sent":
                result(event["text"])
                break
            if event["type"] not in _UNTOLD:
                words(f"  {event_line(event).strip()}"[:200])
    return last


def _talk_at(url: str, settings: Settings, conversation_id: str) -> int:
    with DaemonClient(url, token_of(settings)) as client:
        return talk(client, conversation_id)


def _newest(client: DaemonClient, conversation_id: str) -> int:
    try:
        return int(client.conversation(conversation_id)["seq"])
    except Problem as problem:
        if problem.code != "not_found":
            raise
        return 0


def _read() -> str | None:
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None
    try:
        return input(PROMPT)
    except EOFError:
        return None


def _plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        # Python reads more than JSON holds: NaN, numbers beyond every float, halves of surrogate pairs.
        json.dumps(plan, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, OSError, RecursionError) as error:
        raise typer.BadParameter(f"--plan {safe(path)}: {safe(error)}") from None
    if not isinstance(plan, dict):
        raise typer.BadParameter(f"--plan {safe(path)}: a plan is one JSON object")
    return plan


def _outcome(reply: dict[str, Any]) -> int:
    return exit_codes.FAILED if reply["status"] in ("failed", "cancelled") else exit_codes.DONE
