"""The table of verbs, and the program around them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from cli.commands import Commands
from cli.controlling import cancel, pause, restart, resume
from cli.guarding import verb
from cli.looking import actors, conversations, dead_letters, events, show_conversation, status, why
from cli.options import Program, with_daemon, with_settings
from cli.running import chaos_verb, running_verbs
from cli.talking import chat_verb, send
from cli.terminal import result

HELP: Final = """A daemon that carries multi-agent conversations: plans agent calls, restarts what fails, loses nothing.

Without a verb it serves. Results go to stdout, words to stderr."""

DAEMON_VERBS: Final[dict[str, Callable[..., int | None]]] = {
    "send": send,
    "status": status,
    "actors": actors,
    "conversations": conversations,
    "show": show_conversation,
    "why": why,
    "events": events,
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "deadletters": dead_letters,
}


def build_app(commands: Commands) -> typer.Typer:
    """Return the program `orch`."""
    app = typer.Typer(
        name="orch",
        cls=Program,
        help=HELP,
        invoke_without_command=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    running = running_verbs(commands)

    def root(
        ctx: typer.Context,
        *,
        version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
    ) -> int | None:
        if version:
            result(f"orch {commands.version}")
            raise typer.Exit
        return running["serve"](ctx) if ctx.invoked_subcommand is None else None

    # Every setting may stand before the verb too; they are shown with the verbs they matter to.
    app.callback()(verb(with_settings(root, hidden=True)))
    for name, function in running.items():
        app.command(name, help=function.__doc__)(verb(with_settings(function)))
    chat = chat_verb(commands)
    app.command("chat", help=chat.__doc__)(verb(with_settings(chat)))
    chaos = chaos_verb(commands)
    app.command("chaos", help=chaos.__doc__)(verb(chaos))
    for name, function in DAEMON_VERBS.items():
        app.command(name, help=function.__doc__)(verb(with_daemon(function)))
    return app


def _fill_closed_streams() -> None:
    """Put the null device where a standard stream was closed (`orch status >&-`), as whoever closed it wants nothing.

    Else the next file opened, the store's say, would get its number, and whatever writes to stdout would write there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(null, null == number)  # else something that was imported has taken the number
            setattr(sys, name, os.fdopen(null, "r" if number == 0 else "w", encoding="utf-8"))


def main(commands: Commands, arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            # A terminal that cannot show a character shows its code instead of ending the program.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # suppressed where it cannot be
    try:
        build_app(commands)(args=arguments, prog_name="orch")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
