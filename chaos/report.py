"""What a run found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaos.boundaries import ALL
from chaos.driver import Outcome
from cli.rendering import table
from cli.terminal import json_line, show

_COLUMNS: Final = (
    "boundary",
    "kills",
    "accepted",
    "open at kill",
    "lost",
    "doubled",
    "redone",
    "holes",
    "repeated in flight",
)


@dataclass(slots=True)
class Row:
    """One boundary. `accepted` were acknowledged by a daemon killed there, `open` had no reply then."""

    boundary: str
    kills: int = 0
    accepted: int = 0
    open: int = 0
    lost: int = 0
    doubled: int = 0
    redone: int = 0
    holes: int = 0
    repeated: int = 0


def rows(outcome: Outcome) -> list[Row]:
    """Return a row for each boundary at which a daemon was killed, what belongs to none, and the sum."""
    verdict = outcome.verdict
    boundary = {life.number: life.boundary or "(no kill)" for life in outcome.lives}
    order = [str(each) for each in ALL]
    found = {name: Row(name) for name in sorted(set(boundary.values()), key=lambda n: (_place(order, n), n))}
    for life in outcome.lives:
        row = found[boundary[life.number]]
        row.kills += bool(life.boundary)
        row.accepted += verdict.accepted[life.number]
        row.open += verdict.open[life.number] if life.boundary else 0
        row.repeated += verdict.repeated[life.number]
    for finding in verdict.findings:
        name = boundary.get(finding.life, "(unknown)")
        row = found.setdefault(name, Row(name))
        field = {"hole": "holes", "ended": "lost"}.get(finding.fault, finding.fault)
        setattr(row, field, getattr(row, field) + 1)
    return [*found.values(), _sum(found.values())]


def show_report(outcome: Outcome, *, store: str, kills: int, seed: int, folder: str | None, as_json: bool) -> None:
    """Print the table and every finding to stdout; `folder` is where to look further."""
    verdict = outcome.verdict
    lines = rows(outcome)
    if as_json:
        json_line(
            {
                "store": store,
                "kills": kills,
                "seed": seed,
                "held": verdict.held,
                "seconds": round(outcome.seconds, 1),
                "rows": [asdict(row) for row in lines],
                "findings": [asdict(finding) for finding in verdict.findings],
                "folder": folder,
            }
        )
        return
    show(table(_COLUMNS, (list(asdict(row).values()) for row in lines), right=_COLUMNS[1:]))
    show(f"{store}, n {kills}, seed {seed}: {outcome.seconds:.0f} s; {'all held' if verdict.held else 'FAILED'}")
    for finding in verdict.findings[:_SHOWN]:
        show(f"{finding.fault}: {finding.conversation} life {finding.life}: {finding.text}")
    if len(verdict.findings) > _SHOWN:
        show(f"and {len(verdict.findings) - _SHOWN} more; --json shows them all")
    if folder is not None:
        show(f"ledger, logs and an SQLite store are kept in {folder}")


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the sums, for tests and programs."""
    return asdict(rows(outcome)[-1])


def _sum(found: Iterable[Row]) -> Row:
    total = Row("total")
    for row in found:
        for name in list(asdict(row))[1:]:
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return total


def _place(order: list[str], name: str) -> int:
    return next((n for n, known in enumerate(order) if name.startswith(known)), len(order))


_SHOWN: Final = 20
