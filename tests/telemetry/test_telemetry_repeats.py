"""A crash loop does not hide all else: of one event so many lines are written, and the rest is counted and said."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from telemetry.repeats import LINES, WINDOW, Repeats
from telemetry.telemetry import Telemetry


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


def told(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_of_one_event_only_so_many_lines_are_written_and_the_rest_is_said_when_its_window_is_over():
    stream, clock = io.StringIO(), Clock()
    telemetry = Telemetry(stream=stream, now=clock)
    for number in range(LINES + 40):
        telemetry.log("actor_crashed", kind="agent", error_message=f"failure {number}")
    for _ in range(LINES + 40):
        telemetry.log("agent_call", agent="a", success=True)
    telemetry.flush()
    events = [line["event"] for line in told(stream)]
    assert events.count("actor_crashed") == LINES
    assert events.count("agent_call") == LINES + 40, "what went well is written as ever"
    assert "log_lines_left_out" not in events
    assert b"orchestrator_log_lines_left_out_total 40.0" in telemetry.metrics_text()
    assert b'orchestrator_actor_crashes_total{kind="agent"} 140.0' in telemetry.metrics_text()
    clock.now += WINDOW
    telemetry.log("daemon_ready")
    telemetry.flush()
    (said,) = [line for line in told(stream) if line["event"] == "log_lines_left_out"]
    assert (said["of"], said["count"], said["level"]) == ("actor_crashed", 40, "warning")
    telemetry.log("actor_crashed", kind="agent")
    telemetry.flush()
    assert told(stream)[-1]["event"] == "actor_crashed", "a new window has begun"
    telemetry.close()


def test_what_was_left_out_is_said_at_the_end_too():
    stream = io.StringIO()
    telemetry = Telemetry(stream=stream, now=Clock())
    for _ in range(LINES + 5):
        telemetry.log("child_failed", path="/x")
    telemetry.close()
    assert told(stream)[-1]["event"] == "log_lines_left_out"
    assert told(stream)[-1]["count"] == 5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(-5.0, 30.0)), max_size=400))
def test_nothing_is_left_out_without_being_counted_and_said(steps):
    repeats, now, said, refused = Repeats(), 1_000.0, 0, 0
    for event, later in steps:
        now += later
        for _ in range(30):
            refused += not repeats.allows(event, now)
        said += sum(count for _, count in repeats.over(now))
    said += sum(count for _, count in repeats.over(None))
    assert said == refused == repeats.left_out
