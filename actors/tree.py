"""The live tree: who is there and what they are doing, worked out when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actors.base import Actor
from actors.stages import ENDED, LIVE, STARTING


@dataclass(frozen=True, slots=True)
class Note:
    """What a supervisor knows about a child across its lives."""

    kind: str
    restarts: int
    last_cause: str | None


class Tree:
    """Rows for the console, and the notes of supervisors about children that wait for their restart.

    A note stays until it is forgotten, the actor at its path stops in order, or the actor above it ends.
    """

    def __init__(self, actors: Callable[[], list[Actor]], monotonic: Callable[[], float]) -> None:
        self._actors = actors
        self._now = monotonic
        self._lock = threading.Lock()
        self._notes: dict[str, Note] = {}
        self._below: dict[str, set[str]] = {}

    def note_backing_off(self, path: str, kind: str, restarts: int, last_cause: str | None) -> None:
        """Keep a child visible that waits for its restart; the figures are shown in its next life as well."""
        with self._lock:
            self._notes[path] = Note(kind, restarts, last_cause)
            self._below.setdefault(_above(path), set()).add(path)

    def forget(self, path: str) -> None:
        """Drop the note about a path, if there is one."""
        if self._notes:
            with self._lock:
                self._forget(path)

    def forget_below(self, path: str) -> None:
        """Drop the notes about children of a path: they are not coming back."""
        if self._notes:
            with self._lock:
                prefix = f"{path}/"  # children may have names of several parts: agents/<node>
                for above in [p for p in self._below if p == path or p.startswith(prefix)]:
                    for child in self._below.pop(above):
                        self._notes.pop(child, None)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per actor, live or waiting for its restart, by path; ages are in seconds."""
        now = self._now()
        with self._lock:
            notes = dict(self._notes)
        rows = [_row(actor, notes.pop(actor.path, None), now) for actor in self._actors()]
        rows.extend(_waiting_row(path, note) for path, note in notes.items())
        return sorted(rows, key=lambda row: str(row["path"]))

    def _forget(self, path: str) -> None:
        self._notes.pop(path, None)
        siblings = self._below.get(_above(path))
        if siblings is not None:
            siblings.discard(path)
            if not siblings:
                del self._below[_above(path)]


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _row(actor: Actor, note: Note | None, now: float) -> dict[str, Any]:
    # The actor goes on while it is looked at, so each of its fields is read once.
    current, since = actor._current, actor._since  # noqa: SLF001  # plain reads instead of bookkeeping per message
    name = None if current is None else type(current).__name__
    if name is None and actor.working_on is not None:
        name, since = actor.working_on
    age = actor.actor_inbox.oldest_age
    return {
        "path": actor.path,
        "kind": actor.kind or type(actor).__name__,
        "state": _state(actor._state, busy=name is not None),  # noqa: SLF001  # as above
        "mailbox": len(actor.actor_inbox) + len(actor._kept or ()),  # noqa: SLF001  # as above
        "oldest_age": age,
        "current": name,
        "current_age": max(0.0, now - since) if name is not None else None,
        "restarts": note.restarts if note else actor.incarnation - 1,
        "last_cause": note.last_cause if note else None,
    }


def _waiting_row(path: str, note: Note) -> dict[str, Any]:
    return {
        "path": path,
        "kind": note.kind,
        "state": "backing_off",
        "mailbox": 0,
        "oldest_age": None,
        "current": None,
        "current_age": None,
        "restarts": note.restarts,
        "last_cause": note.last_cause,
    }


def _state(state: int, *, busy: bool) -> str:
    if state == STARTING:
        return "starting"
    if state == LIVE or state >= ENDED:
        return "running" if busy else "idle"
    return "stopping"
