"""The program: `python run.py VERB`, the same as `orch VERB`. Gives the command line the verbs that need every part."""

from __future__ import annotations

import sys

from checking import check, migrate
from cli import app
from cli.commands import Commands
from daemon import VERSION
from demo import demo
from serving import local_chat, serve

COMMANDS = Commands(serve=serve, demo=demo, check=check, migrate=migrate, local_chat=local_chat, version=VERSION)


def main() -> int:
    """Run the command line; return the verb's exit code."""
    return app.main(COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
