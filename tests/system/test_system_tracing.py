"""Spans of a real daemon, as a collector receives them over OTLP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest
from daemon_process import diamond, eventually
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector():
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.spans = spans
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_message_with_a_trace_context_becomes_spans_of_that_trace(make_daemon, collector):
    daemon = make_daemon(tracing="true")
    daemon.environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    daemon.start()
    header = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    url = f"{daemon.url}/api/v1/conversations/c/messages?wait=10"
    body = {"text": "go", "plan": diamond("wait", 0.01)}
    assert httpx2.post(url, json=body, headers=header, trust_env=False, timeout=20).json()["status"] == "completed"
    eventually(lambda: len(collector.spans) >= 5, "a turn and four attempts")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert sorted(span.name for span in collector.spans) == ["agent wait"] * 4 + ["turn"]
    (turn,) = [span for span in collector.spans if span.name == "turn"]
    assert turn.parent_span_id.hex() == "b7ad6b7169203331"
    assert {span.parent_span_id for span in collector.spans if span is not turn} == {turn.span_id}
    assert daemon.stop() == 0
