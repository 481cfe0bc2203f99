"""Verbs that are the daemon or look at its configuration: serve, demo, check, config, migrate, chaos."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.commands import Commands
from cli.options import Json
from cli.rendering import table
from cli.terminal import json_lines, show, words
from config import cautions, explain, load_settings

Verb = Callable[..., int | None]


def running_verbs(commands: Commands) -> dict[str, Verb]:
    """Return the verbs by name; the composition root does the work."""

    def serve(ctx: typer.Context) -> int:
        """Run the daemon in the foreground until SIGTERM or SIGINT (the same without a verb)."""
        flags, here = dict(ctx.obj), Path.cwd()  # an agent may change the folder this process is in
        return commands.serve(load_settings(flags), lambda: load_settings(flags, cwd=here))

    def demo(
        ctx: typer.Context,
        *,
        keep: Annotated[bool, typer.Option("--keep", help="Leave the daemon running afterwards.")] = False,
    ) -> int:
        """Show it: the sample shop, real questions, plans, replies, and an agent that crashes and comes back."""
        return commands.demo(dict(ctx.obj), keep=keep)

    def check(
        ctx: typer.Context,
        *,
        store: Annotated[
            bool, typer.Option("--store", help="Instead: decode every stored conversation, and list what fails.")
        ] = False,
        as_json: Json = False,
    ) -> int:
        """Validate configuration, import agents, check contracts and stores; start nothing."""
        return commands.check(load_settings(ctx.obj), as_json=as_json, store=store)

    def migrate(
        ctx: typer.Context,
        *,
        status: Annotated[bool, typer.Option("--status", help="Show what is applied; change nothing.")] = False,
        as_json: Json = False,
    ) -> int:
        """Bring the SQL store's schema up to date (serve does it too)."""
        return commands.migrate(load_settings(ctx.obj), as_json=as_json, status=status)

    return {"serve": serve, "demo": demo, "check": check, "config": config, "migrate": migrate}


def chaos_verb(commands: Commands) -> Verb:
    """Return the verb `chaos`, which has no setting: its store and its daemons are its own."""

    def chaos(
        *,
        kills: Annotated[int, typer.Option("--kills", min=1, metavar="N", help="How often to kill.")] = 50,
        store: Annotated[str, typer.Option("--store", metavar="KIND", help="sqlite, postgres or redis.")] = "sqlite",
        seed: Annotated[int | None, typer.Option("--seed", help="Where and when; else a new one each time.")] = None,
        as_json: Json = False,
    ) -> int:
        """Crash test on a scratch store: kill a daemon at every boundary, restart it, look for lost or doubled work."""
        chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
        return commands.chaos(kills=kills, store=store, seed=chosen, as_json=as_json)

    return chaos


def config(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show the settings in effect: value, unit, where each came from; secrets masked."""
    settings = load_settings(ctx.obj)
    rows = explain(settings)
    if as_json:
        json_lines(asdict(row) for row in rows)
        return
    lines = ((row.name, _value(row.value), row.unit, row.origin) for row in rows)
    show(table(("setting", "value", "unit", "from"), lines))
    words(*(f"note: {caution}" for caution in cautions(settings)))


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
