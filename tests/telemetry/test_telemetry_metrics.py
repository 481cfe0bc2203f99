"""Events move metrics and make rows; what is read at a scrape comes from sources that may fail."""

from __future__ import annotations

import io
import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry import Telemetry
from telemetry.catalogue import EVENTS
from telemetry.metrics import GAUGES, MAX_VALUES, RULES
from telemetry.rows import Measurement, Operation


@pytest.fixture
def telemetry():
    made = Telemetry(stream=io.StringIO(), level="ERROR")
    yield made
    made.close()


def samples(telemetry):
    """Return every sample by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(telemetry.metrics_text().decode())
        for sample in family.samples
    }


def value(telemetry, name, **labels):
    return samples(telemetry).get((f"orchestrator_{name}", tuple(sorted(labels.items()))))


@pytest.mark.parametrize(
    ("event", "fields", "metric", "labels"),
    [
        ("agent_call", {"agent": "a", "success": True}, "agent_calls_total", {"agent": "a", "outcome": "success"}),
        ("agent_call", {"agent": "a", "cached": True}, "agent_calls_total", {"agent": "a", "outcome": "cached"}),
        (
            "agent_call",
            {"agent": "a", "success": False, "error_class": "transient"},
            "agent_calls_total",
            {"agent": "a", "outcome": "transient"},
        ),
        ("state_transition", {"to_state": "planning"}, "state_transitions_total", {"to_state": "planning"}),
        ("actor_crashed", {"kind": "agent"}, "actor_crashes_total", {"kind": "agent"}),
        ("actor_restarted", {"kind": "agent"}, "actor_restarts_total", {"kind": "agent"}),
        ("message_accepted", {}, "messages_accepted_total", {}),
        ("message_refused", {"code": "draining"}, "messages_refused_total", {"code": "draining"}),
        ("reply_sent", {"status": "partial"}, "replies_total", {"status": "partial"}),
        ("dead_letter", {"reason": "stale"}, "dead_letters_total", {"reason": "stale"}),
        ("loop_blocked", {}, "loop_blocked_total", {}),
    ],
)
def test_an_event_moves_its_metric_even_when_its_line_is_not_written(telemetry, event, fields, metric, labels):
    """Filtering the log must not blind the graphs."""
    telemetry.log(event, level="debug", **fields)
    telemetry.log(event, level="debug", **fields)
    assert value(telemetry, metric, **labels) == 2


def test_durations_become_histograms_in_seconds(telemetry):
    """Only numbers count."""
    for duration in (4.0, 40, None, "x", True):
        telemetry.log("agent_call", agent="a", duration_ms=duration)
    assert value(telemetry, "agent_call_seconds_count", agent="a") == 2
    assert value(telemetry, "agent_call_seconds_sum", agent="a") == pytest.approx(0.044)


def test_every_name_begins_with_orchestrator_and_no_label_holds_an_id(telemetry):
    """Whatever events carry."""
    for event in EVENTS:
        telemetry.log(event, conversation_id="MARK-c", request_id="MARK-r", node_id="MARK-n", actor="/MARK", seq=7)
    text = telemetry.metrics_text().decode()
    assert all(name.startswith("orchestrator_") for name, _ in samples(telemetry))
    assert "MARK" not in text


def test_a_label_takes_a_bounded_number_of_values(telemetry):
    """A text that varies must not grow the table without end; totals stay right."""
    for number in range(MAX_VALUES + 50):
        telemetry.log("dead_letter", reason=f"r{number}")
    counts = {
        labels: v for (name, labels), v in samples(telemetry).items() if name == "orchestrator_dead_letters_total"
    }
    assert len(counts) == MAX_VALUES + 1 and sum(counts.values()) == MAX_VALUES + 50
    assert counts[("reason", "other"),] == 50


@pytest.mark.parametrize("reason", [["a"], {"a": 1}, object(), None, b"x"])
def test_a_label_of_the_wrong_type_never_raises(telemetry, reason):
    """A log call never does."""
    telemetry.log("dead_letter", reason=reason)


def test_counts_are_exact_under_threads(telemetry):
    """Eight threads, one counter and a label that is new to all of them."""

    def work():
        for number in range(500):
            telemetry.log("reply_sent", level="debug", status=f"s{number % 5}")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [value(telemetry, "replies_total", status=f"s{n}") for n in range(5)] == [800] * 5


def test_sources_are_asked_at_every_scrape_and_may_fail(telemetry):
    """One broken source hides neither the others nor the page."""
    live = [3]
    telemetry.collect(
        lambda: {"conversations_live": live[0], ("conversations", "failed"): 2, "mailbox_oldest_seconds": 0.5}
    )
    telemetry.collect(lambda: {"broken": 1 // 0})
    telemetry.collect(lambda: {"bad name!": 1, "own_figure": 4})
    assert value(telemetry, "conversations_live") == 3
    live[0] = 5
    assert value(telemetry, "conversations_live") == 5
    assert value(telemetry, "conversations", phase="failed") == 2
    assert value(telemetry, "own_figure") == 4
    assert value(telemetry, "metric_source_failures_total") == 5
    assert "bad" not in telemetry.metrics_text().decode()


def test_telemetries_do_not_share_metrics(telemetry):
    """No global registry."""
    other = Telemetry(stream=io.StringIO())
    telemetry.log("message_accepted")
    assert value(other, "messages_accepted_total") == 0
    other.close()


def test_the_tables_fit_together():
    """Rules are for catalogued events and use fields that these have."""
    common = {"agent"}
    for event, rules in RULES.items():
        for rule in rules:
            assert set(rule.labels.values()) <= {*EVENTS[event].fields, *common}, event
            assert re.fullmatch(r"[a-z_]+", rule.name)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in GAUGES)


# Rows


def rows_of(*logged, **options):
    rows: list[Operation | Measurement] = []
    telemetry = Telemetry(
        stream=io.StringIO(), sink=lambda more: rows.extend(more) or len(more), now=lambda: 1.5, **options
    )
    for event, fields in logged:
        telemetry.log(event, **fields)
    telemetry.close()
    return rows


def test_stored_events_become_rows_and_measurements():
    """With the fields of the persistence records, times in milliseconds."""
    call = {"conversation_id": "c", "request_id": "r", "agent": "a", "duration_ms": 2, "success": True}
    operation, metric = rows_of(("agent_call", call), ("actor_started", {}))
    assert operation._asdict() == {
        "at": 1_500,
        "event": "agent_call",
        "level": "info",
        "conversation_id": "c",
        "request_id": "r",
        "fields": {"agent": "a", "duration_ms": 2, "success": True, "outcome": "success"},
    }
    assert metric._asdict() == {
        "at": 1_500,
        "name": "agent_call_ms",
        "value": 2.0,
        "unit": "ms",
        "conversation_id": "c",
        "agent": "a",
    }


@pytest.mark.parametrize("odd", [["a", 1], {"a": 1}, 2**70, True, 1.5, float("nan"), b"bytes", object()])
def test_columns_hold_texts_whatever_an_agent_logs_under_our_names(odd):
    """A store that cannot take one row of a batch loses all of it, dead letters too."""
    odd_call = {"conversation_id": odd, "request_id": odd, "agent": odd, "duration_ms": 1}
    operation, metric = rows_of(("agent_call", odd_call))
    columns = (operation.conversation_id, operation.request_id, metric.conversation_id, metric.agent)
    assert {type(column) for column in columns} == {str}


def test_rows_do_not_depend_on_the_level_of_the_log_but_on_what_is_notable():
    """`trace_all` off spares the store as well."""
    logged = (("state_transition", {}), ("reply_sent", {}))
    assert [row.event for row in rows_of(*logged, level="CRITICAL")] == ["state_transition", "reply_sent"]
    assert [row.event for row in rows_of(*logged, trace_all=False)] == ["reply_sent"]


def test_a_sink_that_refuses_or_fails_costs_its_rows_only():
    """They are counted; the log goes on."""
    answers = iter([1, 0])
    telemetry = Telemetry(stream=io.StringIO(), sink=lambda more: next(answers))
    for _ in range(4):
        telemetry.log("reply_sent")
        telemetry.flush(10)
    assert telemetry.figures()["operation_rows_dropped"] == 3
    telemetry.log("rows_dropped", rows=5)  # the writer's word for what it had taken
    assert telemetry.figures()["operation_rows_dropped"] == 8
    telemetry.close()


def test_a_sink_may_come_later():
    """The store is opened after the log."""
    rows: list[dict] = []
    telemetry = Telemetry(stream=io.StringIO())
    telemetry.log("reply_sent")
    telemetry.flush(10)
    telemetry.use_sink(lambda more: rows.extend(more) or len(more))
    telemetry.log("reply_sent")
    telemetry.close()
    assert len(rows) == 1 and telemetry.figures()["operation_rows_dropped"] == 0
