"""Who brought the daemon down: all that was taken up when it died again and again is suspected, and few can be it.

Counted is how often each was taken up and made no progress before the daemon died. One that does it every time stands
beside others that only have a long call to wait for. So when some have reached the limit, half of those that lead are
tried, and the others held back: who was tried when it died again leads alone sooner or later. Pure; `trials.py` acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_NEVER_ALONE: Final = 2
"""Recoveries from which on a conversation may be one of several that did it; one death happens to everybody."""


@dataclass(frozen=True, slots=True)
class Triage:
    """What becomes of the unfinished conversations at a start; those in none of the lists are taken up as always."""

    quarantined: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    """Not taken up yet: their recovery of this start does not count."""


def triage(recoveries: Mapping[str, int], limit: int) -> Triage:
    """Decide by the recoveries without progress, this start's included.

    Whoever is beyond `limit` alone is quarantined; where there are several suspects, whoever alone is beyond what they
    all had when the trials began. All others wait meanwhile, those too that came last: any of them may be it.
    """
    suspects = {name: count for name, count in recoveries.items() if count >= _NEVER_ALONE}
    quarantined: tuple[str, ...] = ()
    if len(suspects) == 1 and _most(suspects) > limit:
        return Triage(quarantined=tuple(suspects))
    leading = _leading(suspects)
    if len(leading) == 1 and _most(suspects) > limit + 1:
        quarantined = tuple(leading)
        del suspects[leading[0]]
        leading = _leading(suspects)
    if _most(suspects) <= limit:
        return Triage(quarantined)
    tried = to_try(suspects)
    return Triage(quarantined, tried, tuple(sorted(recoveries.keys() - {*tried, *quarantined})))


def to_try(suspects: Mapping[str, int]) -> tuple[str, ...]:
    """Return whom to try next: half of those that lead.

    Only of those: beside one of fewer recoveries that did it, whoever had more would lead alone after its death.
    """
    leading = _leading(suspects)
    return tuple(leading[: max(1, len(leading) // 2)])


def _most(suspects: Mapping[str, int]) -> int:
    return max(suspects.values(), default=0)


def _leading(suspects: Mapping[str, int]) -> list[str]:
    most = _most(suspects)
    return sorted(name for name, count in suspects.items() if count == most)
