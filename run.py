"""The program: `python run.py VERB`, the same as `orch VERB`. Gives the command line the verbs that need every part.

Parts are imported by the verb that needs them, so that a client's verb starts as quickly as a client.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from cli import app
from cli.commands import Commands
from config import Settings

VERSION = "0.1.0"


def main() -> int:
    """Run the command line; return the verb's exit code."""
    return app.main(
        Commands(
            serve=_serve,
            demo=_demo,
            check=_check,
            migrate=_migrate,
            local_chat=_local_chat,
            chaos=_chaos,
            version=VERSION,
        )
    )


def _serve(settings: Settings, reload: Callable[[], Settings]) -> int:
    from serving import serve  # noqa: PLC0415  # see the module's text

    return serve(settings, reload)


def _demo(flags: Mapping[str, Any], *, keep: bool) -> int:
    from demo import demo  # noqa: PLC0415  # see the module's text

    return demo(flags, keep=keep)


def _check(settings: Settings, *, as_json: bool, store: bool = False) -> int:
    from checking import check  # noqa: PLC0415  # see the module's text

    return check(settings, as_json=as_json, store=store)


def _migrate(settings: Settings, *, as_json: bool, status: bool) -> int:
    from checking import migrate  # noqa: PLC0415  # see the module's text

    return migrate(settings, as_json=as_json, status=status)


def _local_chat(settings: Settings, talk: Callable[[str], int]) -> int:
    from serving import local_chat  # noqa: PLC0415  # see the module's text

    return local_chat(settings, talk)


def _chaos(*, kills: int, store: str, seed: int, as_json: bool) -> int:
    from chaos.verb import chaos  # noqa: PLC0415  # see the module's text

    return chaos(kills=kills, store=store, seed=seed, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
