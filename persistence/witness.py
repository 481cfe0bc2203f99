"""What this machine has seen of its stores, so that an older one in the place of a newer is noticed at start.

A store counts beats: one at each start, each clean end, and every few seconds between. After each beat the count is
noted in a small file beside the data. A store that knows fewer beats than were noted is a backup that was put back, or
a replica that was behind: what was acknowledged since is not in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

from persistence.contract import StoreIncompatible, StoreMark

FILE: Final = "orchestrator.seen"
_STORES: Final = 20
"""Stores remembered; the longest unseen is forgotten first."""


class StoreRestored(StoreIncompatible):
    """The store is older than what was seen of it; nothing of it was changed."""


class Witness:
    """The file of one data folder. A file that is lost or spoilt only means that nothing was seen."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def check(self, mark: StoreMark) -> None:
        """Raise `StoreRestored` when the store is behind what was noted of it."""
        seen = self._read().get(mark.store_id)
        if not isinstance(seen, dict):
            return
        epoch, beats = seen.get("epoch", 0), seen.get("beats", 0)
        if (mark.epoch, mark.beats) < (epoch, beats):
            raise StoreRestored(
                f"this store is older than it was: it is at epoch {mark.epoch}, beat {mark.beats}, but {self._path} "
                f"has seen epoch {epoch}, beat {beats} of it. A backup was put back, or a replica that was behind; "
                "what was acknowledged since is not in it. Nothing was changed. To go on with it all the same, "
                "start once with --accept-restored"
            )

    def note(self, mark: StoreMark) -> None:
        """Remember a mark. Not synchronised to disk, and no error of this file stops a daemon."""
        stores = self._read()
        stores.pop(mark.store_id, None)
        stores[mark.store_id] = {"epoch": mark.epoch, "beats": mark.beats}
        for old in list(stores)[:-_STORES]:
            del stores[old]
        fresh = self._path.with_name(f"{FILE}.new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(stores, file)
            fresh.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            stores = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stores if isinstance(stores, dict) else {}
