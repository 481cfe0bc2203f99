"""The places at which the daemon is killed, and their order in one run.

`before`: the store has not been asked yet. `inside`: it has, and does not answer yet. `after`: it has answered, and
nobody was told. `told`: those who wait are being told, the answer may or may not have left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

COMMITS: Final = ("accepted", "drafted", "started", "result", "reply", "snapshot")
"""Kinds of commit, by what a step holds: a message, a plan, nodes to start, a result, a reply with its snapshot, and a
snapshot in the middle of a turn. One step can be of several kinds."""

MOMENTS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(COMMITS, ("before", "inside", "after", "told")),
    "opening": ("inside", "after"),
    "counting": ("before", "inside", "after"),
    "waking": ("before", "after"),
    "resuming": ("before", "inside", "after"),
    "migration": ("inside", "after"),
    "cleanup": ("before", "inside", "after"),
    "random": ("any",),
}
"""Group -> its moments. `opening`, `counting` (of recoveries), `waking` (of an unfinished conversation) and `resuming`
(the first commit of a life) are the recovery itself."""

RECOVERY: Final = frozenset({"opening", "counting", "waking", "resuming"})
_LATEST: Final = 4
"""A commit boundary is hit at its first to fourth occurrence in a life: not only at what comes first."""
_RANDOM_WEIGHT: Final = 5
_IN_A_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Boundary:
    """One place at which a daemon is killed."""

    group: str
    moment: str

    def __str__(self) -> str:
        """Return its name in tables."""
        return self.group if self.moment == "any" else f"{self.group}, {self.moment}"


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill of a run: the how many-th time that this boundary is met."""

    boundary: Boundary
    occurrence: int
    chance: float
    """0 to 1: how far into a span (a commit, a migration, a random time) it falls."""


ALL: Final = tuple(Boundary(group, moment) for group, moments in MOMENTS.items() for moment in moments)


def schedule(kills: int, seed: int) -> list[Kill]:
    """Return the kills of a run. Every boundary is there once before any but the random one is there again.

    The first ones are of as many groups as possible. A recovery is killed several times in a row.
    """
    rng = Random(seed)  # noqa: S311  # a run that can be repeated, nothing secret
    found: list[Kill] = []
    while len(found) < kills:
        found.extend(_kill(boundary, rng) for boundary in _round(rng))
    found = found[:kills]
    # Nothing is unfinished when the first daemon starts.
    first = next((n for n, kill in enumerate(found) if kill.boundary.group in COMMITS), 0)
    found.insert(0, found.pop(first))
    return found


def _round(rng: Random) -> Iterator[Boundary]:
    left: dict[str, list[Boundary]] = {}
    for boundary in ALL:
        name = "recovery" if boundary.group in RECOVERY else boundary.group
        left.setdefault(name, []).append(boundary)
    left["random"] *= _RANDOM_WEIGHT
    for boundaries in left.values():
        rng.shuffle(boundaries)
    while left:
        for name in rng.sample(sorted(left), len(left)):
            for _ in range(_IN_A_ROW if name == "recovery" else 1):
                if left[name]:
                    yield left[name].pop()
            if not left[name]:
                del left[name]


def _kill(boundary: Boundary, rng: Random) -> Kill:
    occurrence = rng.randint(1, _LATEST) if boundary.group in COMMITS or boundary.group == "waking" else 1
    return Kill(boundary, occurrence, rng.random())
