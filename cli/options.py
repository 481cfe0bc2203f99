"""Options: those that find a daemon, and one for every setting, made from the settings' own table."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from config import SettingRow, Settings, explain, load_settings
from config.durations import parse_duration
from gateway.client import DaemonClient

NOT_FLAGS = frozenset({"agents", "api_token", "read_token", "postgres_dsn", "redis_url"})
"""Tables do not fit into a flag, and secrets would show in the list of processes."""

SWITCHES = frozenset(name for name, field in Settings.model_fields.items() if field.annotation is bool)
"""Settings whose flag may stand alone, and then says true."""

Conversation = Annotated[str, typer.Argument(metavar="CONVERSATION", help="1-200 of A-Z a-z 0-9 . _ : -")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object, or one per line.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most rows.")]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the operation log, and in a conversation's journal.")
]


class Program(TyperGroup):
    """The verbs. A flag of a setting that is true or false may stand without its value: `serve --accept-restored`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the line, each flag that stands alone given its value."""
        end = args.index("--") if "--" in args else len(args)
        after = [*args[1:end], "-"]
        alone = [
            f"{arg}=true" if arg in _SWITCH_FLAGS and (following.startswith("-") or following in self.commands) else arg
            for arg, following in zip(args[:end], after, strict=False)
        ]
        return super().parse_args(ctx, alone + args[end:])


def with_daemon(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a verb whose first parameter is a `DaemonClient` the options `--url` and `--config` instead."""

    @functools.wraps(function)
    def found(ctx: typer.Context, *args: Any, url: str | None, config: str | None, **kwargs: Any) -> int | None:
        settings = load_settings(merged(ctx, {"url": url, "config": config}), client=True)
        with client_for(settings) as client:
            return function(client, *args, **kwargs)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    _resign(
        found,
        [_context(), *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *map(_flag, ("url", "config"))],
    )
    return found


def with_settings(function: Callable[..., int | None], *, hidden: bool = False) -> Callable[..., int | None]:
    """Give a verb whose first parameter is the context one option per setting; `ctx.obj` holds the given ones."""
    names = [name for name in Settings.model_fields if name not in NOT_FLAGS]

    @functools.wraps(function)
    def found(ctx: typer.Context, **kwargs: Any) -> int | None:
        ctx.obj = merged(ctx, {name: kwargs.pop(name) for name in names})
        return function(ctx, **kwargs)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    _resign(
        found,
        [
            _context(),
            *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
            *(_flag(name, hidden=hidden) for name in names),
        ],
    )
    return found


def merged(ctx: typer.Context, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags given before the verb and after it; the nearer ones win."""
    before: Mapping[str, Any] = ctx.find_root().obj or {}
    return {**before, **{name: value for name, value in flags.items() if value is not None}}


def client_for(settings: Settings) -> DaemonClient:
    """Return a client for the configured daemon. Raises `typer.BadParameter` when there can be none."""
    url = settings.daemon_url
    if url is None:
        raise typer.BadParameter("http_bind is off, so there is no address; name the daemon with --url")
    return DaemonClient(url, token_of(settings))


def token_of(settings: Settings) -> str | None:
    """Return the token that lets do most of those that are set."""
    token = settings.api_token or settings.read_token
    return token.get_secret_value() if token else None


def duration(text: str) -> float:
    """Read `30`, `500ms`, `5m` as seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@functools.cache
def _meanings() -> dict[str, str]:
    return {row.name: row.meaning.replace("`", "") + _default(row) for row in explain(Settings())}


def _default(row: SettingRow) -> str:
    if row.default in (None, [], ()):
        return ""
    shown = str(row.default).lower() if isinstance(row.default, bool) else f"{row.default} {row.unit}".strip()
    return f" (default {shown})"


def _flag(name: str, *, hidden: bool = False) -> inspect.Parameter:
    panel = "Options" if name in ("url", "config") else "Settings"
    metavar = "[VALUE]" if name in SWITCHES else "VALUE"
    option = typer.Option(_spelt(name), help=_meanings()[name], metavar=metavar, hidden=hidden, rich_help_panel=panel)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _spelt(name: str) -> str:
    return "--" + name.replace("_", "-")


_SWITCH_FLAGS = frozenset(map(_spelt, SWITCHES))


def _context() -> inspect.Parameter:
    return inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def _resign(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Let `function` show these parameters to whoever reads its signature: the command line is built from it."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    del function.__wrapped__
