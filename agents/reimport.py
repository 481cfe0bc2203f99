"""Imports agents' code anew, so that a reload sees what was changed on disk; a failed attempt leaves the old in place.

What is dropped are the modules that the configuration names and, where they lie in packages, all of those packages:
what an agent's module imports from beside it is read again as well. The old modules live on for as long as somebody
uses what they hold.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

OURS: Final = frozenset(
    {
        *("actors", "agents", "chaos", "cli", "config", "conversation", "gateway", "messages", "persistence"),
        *("planning", "supervision", "synthesis", "telemetry", "workflow"),
    }
)
"""The program's own packages: never dropped whole, for what runs holds on to them."""


@contextmanager
def imported_anew(names: Iterable[str]) -> Iterator[None]:
    """Let imports within the block of these modules, and of their packages, read them from disk.

    When the block raises, everything imported within it is forgotten and the old modules are back.
    """
    dropped = _drop(set(names))
    importlib.invalidate_caches()
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in set(sys.modules) - before:
            del sys.modules[name]
        sys.modules.update(dropped)
        raise


def _drop(names: set[str]) -> dict[str, ModuleType]:
    packages = {name.partition(".")[0] for name in names if "." in name} - OURS
    packages |= {name for name in names if name not in OURS and hasattr(sys.modules.get(name), "__path__")}
    found = [name for name in sys.modules if name in names or name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in found}
