"""The command line: verbs as a client of a daemon; the composition root gives those that are the daemon itself."""

from cli.app import build_app, main
from cli.commands import Commands

__all__ = ["Commands", "build_app", "main"]
