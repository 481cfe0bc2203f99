"""OpenTelemetry spans, made from durable events: a turn, its planning, each attempt of an agent below it.

Needs the extra `otel`. Where spans go is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and
others). Nothing of it is on the way of a conversation: events are taken by a thread of its own, which drops the oldest
when it cannot follow, and what was going on when the daemon ended has no span.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from messages.events import (
    Event,
    MessageAccepted,
    NodeFailed,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    PlanDrafted,
    PlanFailed,
    ReplySent,
)
from messages.trace import attempt_name, span_of, trace_of

_MOST: Final = 10_000
"""Turns under way that are remembered; beyond, the oldest are let go without a span."""


class TracingUnavailable(Exception):
    """The packages of the extra `otel` are not installed."""


@dataclass(slots=True)
class _Turn:
    """What is under way for one request."""

    span: Any
    traceparent: str | None
    spans: dict[str, Any] = field(default_factory=dict)
    """Attempts by node, and `plan`."""


class Tracing:
    """Give it every event with `heard`, from one thread; then `close`."""

    def __init__(self, processor: Any = None, *, version: str = "") -> None:
        """`processor` takes finished spans; None: they are sent in batches over OTLP. Raises `TracingUnavailable`."""
        try:
            from opentelemetry import trace  # noqa: PLC0415  # an extra: loaded only where it is asked for
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # as above
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # as above
            from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415  # as above

            if processor is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # as above
                    OTLPSpanExporter,
                )
                from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # as above

                processor = BatchSpanProcessor(OTLPSpanExporter())
        except ImportError as error:
            words = "tracing needs the packages of the extra otel: pip install 'orchestrator[otel]'"
            raise TracingUnavailable(f"{words} ({error})") from error
        self._api = trace
        self._local = threading.local()
        local = self._local

        class Ids(IdGenerator):
            """Ids as `messages.trace` makes them."""

            def generate_span_id(self) -> int:
                return int(local.span, 16)

            def generate_trace_id(self) -> int:
                return int(local.trace, 16)

        resource = Resource.create({"service.name": "orchestrator", "service.version": version})
        self._provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("orchestrator", version)
        self._turns: OrderedDict[str, _Turn] = OrderedDict()

    def close(self) -> None:
        """Send what is finished."""
        self._provider.shutdown()

    def heard(self, event: Event) -> None:
        """Begin or end what this event begins or ends."""
        request_id = event.request_id
        if request_id is None:
            return
        if isinstance(event, MessageAccepted):
            self._begin_turn(event, request_id)
            return
        turn = self._turns.get(request_id)
        if turn is None:
            return
        match event:
            case PlanDrafted():
                self._end(turn, "plan", event, nodes=len(event.nodes), origin=event.origin)
            case PlanFailed():
                turn.span.add_event("plan.failed", _attributes(type=event.error.type), _ns(event.at))
            case NodeStarted():
                self._begin_attempt(turn, request_id, event)
            case NodeSucceeded():
                self._end(turn, event.node, event, cached=event.cached)
            case NodeFailed():
                said = {"error.type": event.error.type, "orchestrator.error_class": event.error.error_class}
                self._end(turn, event.node, event, failed=event.error.type, **said)
            case NodeRetrying():
                about = _attributes(node=event.node, attempt=event.attempt, delay=event.delay, rule=event.reason)
                turn.span.add_event("node.retrying", about, _ns(event.at))
            case ReplySent():
                self._end_turn(turn, request_id, event)

    def _begin_turn(self, event: MessageAccepted, request_id: str) -> None:
        parent = None
        if event.traceparent:
            parent = self._context(event.traceparent[3:35], event.traceparent[36:52])
        about = _attributes(conversation_id=event.conversation_id, request_id=request_id, message_id=event.message_id)
        span = self._start("turn", request_id, "turn", event.traceparent, event.at, parent, about)
        turn = self._turns[request_id] = _Turn(span, event.traceparent)
        if not event.planned:
            within = self._api.set_span_in_context(span)
            turn.spans["plan"] = self._start("plan", request_id, "plan", turn.traceparent, event.at, within, {})
        while len(self._turns) > _MOST:
            self._turns.popitem(last=False)

    def _begin_attempt(self, turn: _Turn, request_id: str, event: NodeStarted) -> None:
        within = self._api.set_span_in_context(turn.span)
        about = _attributes(node=event.node, agent=event.agent, attempt=event.attempt, recovered=event.recovered)
        what = attempt_name(event.node, event.attempt)
        name = f"agent {event.agent}"
        turn.spans[event.node] = self._start(name, request_id, what, turn.traceparent, event.at, within, about)

    def _end_turn(self, turn: _Turn, request_id: str, event: ReplySent) -> None:
        del self._turns[request_id]
        for span in turn.spans.values():
            span.end(_ns(event.at))
        turn.span.set_attributes(_attributes(status=event.status, missing=[branch.node for branch in event.missing]))
        if event.status == "failed":
            turn.span.set_status(self._api.StatusCode.ERROR, "no result")
        turn.span.end(_ns(event.at))

    def _end(self, turn: _Turn, name: str, event: Event, *, failed: str | None = None, **about: Any) -> None:
        span = turn.spans.pop(name, None)
        if span is None:
            return
        span.set_attributes(_attributes(**about))
        if failed is not None:
            span.set_status(self._api.StatusCode.ERROR, failed)
        span.end(_ns(event.at))

    def _start(
        self, name: str, request_id: str, what: str, given: str | None, at: int, parent: Any, about: dict[str, Any]
    ) -> Any:
        self._local.trace, self._local.span = trace_of(request_id, given), span_of(request_id, what)
        context = parent if parent is not None else self._api.set_span_in_context(self._api.INVALID_SPAN)
        return self._tracer.start_span(name, context, attributes=about, start_time=_ns(at))

    def _context(self, trace: str, span: str) -> Any:
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        remote = self._api.SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(remote))


def _attributes(**values: Any) -> dict[str, Any]:
    return {
        key if "." in key else f"orchestrator.{key}": value for key, value in values.items() if value not in (None, "")
    }


def _ns(at: int) -> int:
    return at * 1_000_000
