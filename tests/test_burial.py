"""Dead letters on their way to the store: what cannot even be kept is said and counted, unless it comes again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from actors.dead_letters import DeadLetter, DeadLetters
from burial import Burial
from gateway.redis_payload import Letter


class Writer:
    """Takes rows, or does not."""

    available = True

    def __init__(self, takes: bool) -> None:
        self.takes = takes
        self.rows: list[Any] = []

    def submit_row(self, row: Any, _written: Any = None) -> bool:
        self.rows.append(row)
        return self.takes


@pytest.fixture
def told() -> list[tuple[str, dict[str, Any]]]:
    return []


def burial(writer: Writer, told: list[tuple[str, dict[str, Any]]]) -> Burial:
    system: Any = SimpleNamespace(dead_letters=DeadLetters(), clock=SimpleNamespace(now_ms=lambda: 7))
    made = Burial(system, writer, lambda event, **fields: told.append((event, fields)))  # type: ignore[arg-type]  # all it uses
    system.dead_letters.listen(made.keep)
    return made


def test_a_letter_that_cannot_be_kept_is_said_to_be_lost(told: Any) -> None:
    keeper = burial(Writer(takes=False), told)
    assert keeper.bury(Letter("orch:inject", "invalid_body", "no JSON", "unreadable", "x" * 100_000))
    lost = {"address": "orch:inject", "reason": "invalid_body: no JSON", "kind": "unreadable"}
    assert [event for event, _ in told] == ["dead_letter", "dead_letter_lost"]
    assert told[1][1].pop("size") == pytest.approx(65_536, abs=100), "clipped, as it would have been kept"
    assert told[1][1] == lost


def test_a_letter_that_comes_again_is_not_lost(told: Any) -> None:
    keeper = burial(Writer(takes=False), told)
    again = Letter("orch:inbox/1-0", "invalid_body", "no JSON", "unreadable", "x", True, lambda _kept: None)
    assert not keeper.bury(again)
    assert told == []


def test_a_letter_that_is_kept_is_no_loss(told: Any) -> None:
    writer = Writer(takes=True)
    burial(writer, told).keep(DeadLetter(1, 7, "/a", "why", {"x": 1}))
    assert [event for event, _ in told] == ["dead_letter"]
    assert [row.body for row in writer.rows] == [b'{"x":1}']
