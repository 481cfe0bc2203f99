"""Prints docs/configuration.md: `python -m config --markdown`."""

from __future__ import annotations

import sys

from config import markdown

if sys.argv[1:] != ["--markdown"]:
    sys.exit("usage: python -m config --markdown")
sys.stdout.write(markdown())
