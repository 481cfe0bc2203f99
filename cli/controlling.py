"""Verbs that intervene: cancel, pause, resume a conversation; restart an actor."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from cli.options import Conversation, Json, Reason
from cli.terminal import json_line, words
from gateway.client import DaemonClient


def cancel(client: DaemonClient, *, conversation: Conversation, reason: Reason = None, as_json: Json = False) -> None:
    """End the running request with a reply that holds what is finished."""
    _told(client.control("cancel", conversation, by=me(), reason=reason), "cancelled", as_json=as_json)


def pause(client: DaemonClient, *, conversation: Conversation, reason: Reason = None, as_json: Json = False) -> None:
    """Start nothing new in a conversation until `resume`; what runs may finish and is kept."""
    _told(client.control("pause", conversation, by=me(), reason=reason), "paused", as_json=as_json)


def resume(client: DaemonClient, *, conversation: Conversation, reason: Reason = None, as_json: Json = False) -> None:
    """Go on after `pause`; agree to a plan that awaits approval; release a quarantined conversation."""
    _told(client.control("resume", conversation, by=me(), reason=reason), "resumed", as_json=as_json)


def restart(
    client: DaemonClient,
    *,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Of the actor, as `actors` shows it.")],
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Let an actor end as if it had failed; supervision starts it again."""
    _told(client.restart(path, by=me(), reason=reason), "restarting", as_json=as_json)


def me() -> str | None:
    """Return who is at the terminal, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name for this user id
        return None


def _told(answer: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        json_line(answer)
    else:
        words(f"{done}: {answer.get('conversation_id') or answer.get('path')}")
