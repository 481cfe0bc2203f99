"""Spans made from events: one trace for a turn, its planning and every attempt, within the trace of whoever asked."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agents import Context
from gateway import tracing
from gateway.tracing import Tracing
from messages.events import (
    MessageAccepted,
    NodeFailed,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    PlanDrafted,
    ReplySent,
)
from messages.failure import Failure
from messages.inbound import UserMessage
from messages.trace import handed_on, is_traceparent

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ERROR = Failure(type="ConnectionError", error_class="transient", message="refused")


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def traced(spans):
    tracing = Tracing(SimpleSpanProcessor(spans), version="1")
    yield tracing
    tracing.close()


def tell(traced, *events):
    for seq, (kind, at, fields) in enumerate(events, 1):
        traced.heard(kind(seq=seq, at=at, conversation_id="c", request_id="r1", **fields))


def turn(traced, traceparent=None):
    node = {"node": "n", "agent": "stock"}
    tell(
        traced,
        (MessageAccepted, 1_000, {"message_id": "m", "text": "x", "traceparent": traceparent}),
        (PlanDrafted, 1_100, {}),
        (NodeStarted, 1_200, {**node, "attempt": 1}),
        (NodeFailed, 1_300, {**node, "attempt": 1, "error": ERROR}),
        (NodeRetrying, 1_300, {**node, "attempt": 2, "delay": 0.5, "due": 1_800, "reason": "backoff"}),
        (NodeStarted, 1_800, {**node, "attempt": 2}),
        (NodeSucceeded, 1_900, {**node, "attempt": 2, "duration_ms": 99.0}),
        (ReplySent, 2_000, {"message_id": "m", "status": "completed"}),
    )


def test_a_turn_has_its_planning_and_each_attempt_below_it_with_the_journals_times(traced, spans):
    turn(traced)
    found = {(span.name, span.attributes.get("orchestrator.attempt")): span for span in spans.get_finished_spans()}
    assert set(found) == {("turn", None), ("plan", None), ("agent stock", 1), ("agent stock", 2)}
    whole = found["turn", None]
    assert (whole.start_time, whole.end_time) == (1_000_000_000, 2_000_000_000)
    assert whole.parent is None
    assert whole.attributes["orchestrator.conversation_id"] == "c"
    assert [(event.name, event.attributes["orchestrator.delay"]) for event in whole.events] == [("node.retrying", 0.5)]
    for key in (("plan", None), ("agent stock", 1), ("agent stock", 2)):
        assert found[key].parent.span_id == whole.context.span_id
        assert found[key].context.trace_id == whole.context.trace_id
    failed = found["agent stock", 1]
    assert not failed.status.is_ok
    assert failed.attributes["error.type"] == "ConnectionError"
    assert found["agent stock", 2].status.is_ok


def test_the_senders_trace_goes_on_and_agents_hand_their_own_span_on(traced, spans):
    turn(traced, GIVEN)
    found = {(span.name, span.attributes.get("orchestrator.attempt")): span for span in spans.get_finished_spans()}
    whole = found["turn", None]
    assert f"{whole.context.trace_id:032x}" == GIVEN[3:35]
    assert f"{whole.parent.span_id:016x}" == GIVEN[36:52]
    context = Context(request_id="r1", node_id="n", attempt=2, trace=GIVEN)
    span = found["agent stock", 2].context.span_id
    assert context.traceparent == f"00-{GIVEN[3:35]}-{span:016x}-01"


def test_what_an_agent_hands_on_is_a_trace_context_whatever_came_in():
    for given in (None, GIVEN):
        assert is_traceparent(handed_on("r", "n/1", given))
    for wrong in ("", "00-" + "0" * 32 + "-b7ad6b7169203331-01", GIVEN.upper(), GIVEN + "-x", "01" + GIVEN[2:]):
        assert not is_traceparent(wrong)
    with pytest.raises(ValueError, match="W3C trace context"):
        UserMessage(conversation_id="c", text="x", traceparent="nonsense")


def test_events_of_turns_nobody_saw_begin_are_passed_over_and_memory_is_bounded(traced, spans, monkeypatch):
    tell(
        traced,
        (NodeStarted, 1, {"node": "n", "agent": "a", "attempt": 1}),
        (ReplySent, 2, {"message_id": "m", "status": "failed"}),
    )
    assert spans.get_finished_spans() == ()
    monkeypatch.setattr(tracing, "_MOST", 2)
    for number in range(5):
        traced.heard(
            MessageAccepted(seq=1, at=1, conversation_id="c", request_id=f"r{number}", message_id="m", planned=True)
        )
    assert len(traced._turns) == 2
