"""What the composition root gives to the command line: the verbs that need the whole program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from config import Settings


class Serve(Protocol):
    """Runs the daemon in the foreground."""

    def __call__(self, settings: Settings, reload: Callable[[], Settings]) -> int:
        """Return the exit code. `reload` reads the configuration again for SIGHUP and raises `ConfigError`."""


class Demo(Protocol):
    """Runs the demonstration."""

    def __call__(self, flags: Mapping[str, Any], *, keep: bool) -> int:
        """Return the exit code. `flags` are settings given on the command line; `keep` leaves the daemon running."""


class Check(Protocol):
    """Looks at configuration, agents and stores without starting anything."""

    def __call__(self, settings: Settings, *, as_json: bool, store: bool = False) -> int:
        """Print what was found, of the configuration or of every stored conversation; return the exit code."""


class Migrate(Protocol):
    """Brings the store's schema up to date."""

    def __call__(self, settings: Settings, *, as_json: bool, status: bool) -> int:
        """Print what was done, with `status` only what there is; return the exit code."""


class LocalChat(Protocol):
    """Runs a daemon in this process for as long as a talk lasts."""

    def __call__(self, settings: Settings, talk: Callable[[str], int]) -> int:
        """Start a daemon on a free loopback port, call `talk` with its URL, stop the daemon; return what `talk` did."""


class Chaos(Protocol):
    """Kills daemons on a scratch store and looks at what became of the work."""

    def __call__(self, *, kills: int, store: str, seed: int, as_json: bool) -> int:
        """Print a table; return the exit code. `store` is a kind."""


@dataclass(frozen=True, slots=True)
class Commands:
    """One per program."""

    serve: Serve
    demo: Demo
    check: Check
    migrate: Migrate
    local_chat: LocalChat
    chaos: Chaos
    version: str = ""
