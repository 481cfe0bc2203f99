"""What is said in one moment: fields in common, yet each entry for itself."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry import Telemetry


class Lines:
    """A log in memory, of all levels."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.rows: list[Any] = []
        self.log = Telemetry(stream=self.stream, level="DEBUG", sink=self._take)

    def _take(self, rows: list[Any]) -> int:
        self.rows += rows
        return len(rows)

    def read(self) -> list[dict[str, Any]]:
        assert self.log.flush(10)
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    yield made
    made.log.close()


def test_each_entry_has_the_fields_in_common_and_its_own(lines):
    lines.log.tell({"conversation_id": "c1", "seq": 1}, [("recovered", {"seq": 2}), ("reply_sent", {"status": "ok"})])
    first, second = lines.read()
    assert (first["event"], first["conversation_id"], first["seq"]) == ("recovered", "c1", 2)
    assert (second["event"], second["conversation_id"], second["seq"]) == ("reply_sent", "c1", 1)


@pytest.mark.parametrize("field", ["seq", "status"])
def test_an_entry_that_cannot_be_told_takes_no_other_with_it(lines, field):
    """Neither lines nor rows, be it that it cannot be rendered or that it cannot be a label of a metric."""
    said = [("reply_sent", {field: number}) for number in (1, 10**5_000, 3)]
    lines.log.tell({"conversation_id": "c1"}, said)
    assert [line[field] for line in lines.read()] == [1, 3]
    assert [row.fields[field] for row in lines.rows] == [1, 3]
    assert lines.log.figures()["log_lines_unreadable"] == 1


def test_a_text_in_common_is_shown_only_where_all_that_is_said_is_for_debugging(lines):
    told = {"text": "my number is 4711"}
    lines.log.tell(dict(told), [("actor_started", {})], "debug")
    for said in (["agent_log", "reply_sent"], ["reply_sent", "agent_log"]):
        levels = {"agent_log": "debug", "reply_sent": "info"}
        ways = [(lines.log._way(event, levels[event]), {}) for event in said]
        lines.log._writer.put((1.0, dict(told), ways))
    first, *others = lines.read()
    assert first["text"] == told["text"]
    assert len(others) == 4
    assert all("4711" not in line["text"] for line in others)


def test_entries_that_find_no_room_are_all_counted() -> None:
    """The thread is held up in its output meanwhile."""
    begun, gate = threading.Event(), threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            begun.set()
            assert gate.wait(10)
            return super().write(text)

    log = Telemetry(stream=Slow(), queue_limit=1)
    try:
        log.log("recovered")
        assert begun.wait(10)
        for _ in range(3):
            log.tell({}, [("recovered", {}) for _ in range(4)])
        gate.set()
        assert log.flush(10)
        assert log.figures()["log_lines_dropped"] == 8
    finally:
        gate.set()
        log.close()
