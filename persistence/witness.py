"""What this machine has seen of its stores, so that an older one in the place of a newer is noticed at start.

A store counts beats: one at each start, each clean end, and every few seconds between. After each beat the count is
noted in a small file beside the data. A store that knows fewer beats than were noted is a backup that was put back, or
a replica that was behind: what was acknowledged since is not in it. A server on which there is nothing any more is the
oldest of all: it was emptied, or restarted without its data.
"""

from __future__ import annotations

import contextlib
import hashlib
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

    def __init__(self, folder: Path, *, address: str = "") -> None:
        """`address` is that of a server; nothing of it can be read in the note."""
        self._path = folder.absolute() / FILE  # an agent may change the folder this process is in
        self._at = hashlib.blake2b(address.encode(), digest_size=8).hexdigest() if address else ""

    def check(self, mark: StoreMark | None) -> None:
        """Raise `StoreRestored` when the store is behind what was noted of it, or there is none where one was."""
        if mark is None:
            self._check_nothing_was_here()
            return
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

    def _check_nothing_was_here(self) -> None:
        # A file that was deleted beside this note was deleted by a person; a server can lose its data by itself.
        here = self._here(self._read())
        if here:
            raise StoreRestored(
                f"there is no store at the address where {self._path} has seen one at epoch {here[-1].get('epoch')}, "
                f"beat {here[-1].get('beats')}: the server was emptied, or restarted without its data. Nothing was "
                "changed. Put a backup back; to begin with an empty store all the same, start once with "
                "--accept-restored"
            )

    def note(self, mark: StoreMark) -> None:
        """Remember a mark. Not synchronised to disk, and no error of this file stops a daemon."""
        stores = self._read()
        stores.pop(mark.store_id, None)
        for other in self._here(stores):  # whoever let this one begin knows that the other is gone
            other["at"] = ""
        stores[mark.store_id] = {"epoch": mark.epoch, "beats": mark.beats, "at": self._at}
        for old in list(stores)[:-_STORES]:
            del stores[old]
        fresh = self._path.with_name(f"{FILE}.new")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(stores, file)
            fresh.replace(self._path)

    def _here(self, stores: dict[str, Any]) -> list[dict[str, Any]]:
        return [seen for seen in stores.values() if isinstance(seen, dict) and self._at and seen.get("at") == self._at]

    def _read(self) -> dict[str, Any]:
        try:
            stores = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stores if isinstance(stores, dict) else {}
