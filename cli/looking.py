"""Verbs that look at a running daemon: status, actors, conversations, show, why, events, deadletters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.causes_view import causes_tree
from cli.controlling import me
from cli.options import Conversation, Json, Limit, Reason
from cli.rendering import actor_rows, conversation_view, event_line, status_view, table
from cli.terminal import json_line, json_lines, result, show, words
from gateway.client import DaemonClient

Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="FIELD=VALUE", help="Only these, such as phase=failed.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]
After = Annotated[int, typer.Option("--after", min=0, metavar="SEQ", help="Begin after this sequence number.")]


def status(client: DaemonClient, *, as_json: Json = False) -> None:
    """Show one screen: phases, actors, mailboxes, store, dead letters."""
    found = client.status()
    if as_json:
        json_line(found)
    else:
        show(status_view(found))


def actors(client: DaemonClient, *, as_json: Json = False) -> None:
    """Show the live actors: state, mailbox, current message and its age, restarts, last cause of death."""
    if as_json:
        json_lines(client.actors())
    else:
        show(actor_rows(client.actors()))


def conversations(client: DaemonClient, *, where: Where = None, limit: Limit = 50, as_json: Json = False) -> None:
    """List conversations, newest update first."""
    rows = client.conversations(phase=_phase(where or []), limit=limit)
    if as_json:
        json_lines(rows)
        return
    columns = ("conversation", "phase", "seq", "user", "updated")
    lines = (
        (row["conversation_id"], row["phase"], row["seq"], row.get("user_id"), row.get("updated_at")) for row in rows
    )
    show(table(columns, lines, right=("seq",)))


def show_conversation(client: DaemonClient, *, conversation: Conversation, as_json: Json = False) -> None:
    """Show a conversation: phase, plan with each node's state and attempts, reply, what is pending."""
    found = client.conversation(conversation)
    if as_json:
        json_line(found)
    else:
        show(conversation_view(found))


def why(
    client: DaemonClient,
    *,
    conversation: Conversation,
    request: Annotated[str | None, typer.Option("--request", metavar="ID", help="Another than the newest.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole conversation, not only one request.")] = False,
    as_json: Json = False,
) -> None:
    """Show why it came about: message, plan, nodes, attempts, failures, restarts with delay and rule, reply."""
    if everything and request is not None:
        raise typer.BadParameter("--all is the whole conversation, so it takes no --request")
    pages = client.why_all(conversation) if everything else [client.why(conversation, request)]
    for page in pages:
        if as_json:
            json_line(page)
            continue
        show(*map(causes_tree, page["roots"]))
        if page["left_out"]:
            words(f"{page['left_out']} more events are in the journal: orch events {conversation}")


def events(
    client: DaemonClient,
    *,
    conversation: Conversation,
    follow: Follow = False,
    after: After = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Most events; not with --follow.")] = None,
    as_json: Json = False,
) -> None:
    """Show the journal of a conversation, one event per line."""
    if follow and limit is not None:
        raise typer.BadParameter("--follow has no end, so it takes no --limit")
    found = client.follow(conversation, after) if follow else client.events(conversation, after=after, limit=limit)
    for event in found:
        if as_json:
            json_line(event)
        else:
            result(event_line(event))


def dead_letters(
    client: DaemonClient,
    *,
    limit: Limit = 100,
    replay: Annotated[int | None, typer.Option("--replay", metavar="ID", help="Send this one again.")] = None,
    drop: Annotated[int | None, typer.Option("--drop", metavar="ID", help="Throw this one away.")] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """List messages nobody could take, oldest first; or send one again, or throw one away."""
    if replay is not None and drop is not None:
        raise typer.BadParameter("--replay and --drop are two things; ask for one")
    if replay is not None or drop is not None:
        done = client.replay if replay is not None else client.drop
        answer = done(replay if replay is not None else drop or 0, by=me(), reason=reason)
        if as_json:
            json_line(answer)
        elif replay is not None:
            words(f"sent again: {answer['conversation_id']}, message {answer.get('message_id', 'without an id')}")
            if "letter" in answer:
                words(answer["letter"])
        else:
            words(f"dropped: {drop}")
        return
    rows = list(client.dead_letters(limit=limit))
    if as_json:
        json_lines(rows)
    elif not rows:
        words("there are none")
    else:
        lines = ((row["id"], row["at"], row["address"], row["kind"], _reason(row)) for row in rows)
        show(table(("id", "at", "address", "kind", "reason"), lines, right=("id",)))


def _reason(letter: dict[str, Any]) -> str:
    return f"unreadable: {letter['damaged']}" if "damaged" in letter else str(letter["reason"])


def _phase(where: list[str]) -> str | None:
    phases = []
    for condition in where:
        field, _, value = condition.partition("=")
        if field != "phase" or not value:
            raise typer.BadParameter(f"--where {condition!r}: only phase=NAME is known")
        phases.append(value)
    if len(set(phases)) > 1:
        raise typer.BadParameter("--where takes one phase")
    return phases[0] if phases else None
