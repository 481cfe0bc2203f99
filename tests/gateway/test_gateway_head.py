"""HEAD: what GET would answer, without its body; and which methods a route says it takes."""

from __future__ import annotations

import socket

import pytest
from gateway_support import FakeSettings, letter, problem, routes
from pydantic import SecretStr
from test_gateway_wait import until

EVENTS = "/api/v1/conversations/c1/events"
SSE = {"accept": "text/event-stream"}
JSON = {"accept": "application/json"}  # events would come as a stream, which has no end
VARIES = {"date"}


@pytest.fixture
def lived(router):
    """A daemon of which every route has something to say."""
    for _ in range(3):
        router.tick("c1")
    router.letters = [letter(1, "{}")]
    return router


def test_every_route_that_is_looked_at_answers_head_as_it_answers_get(server, http, lived):
    """Made from the route table, so a new route is covered on the day it is added; the connection stays usable."""
    paths = [path for method, path in routes(server) if method == "GET"]
    assert len(paths) >= 12
    for path in [*paths, "/openapi.json"]:
        full, bare = http.get(path, headers=JSON), http.head(path, headers=JSON)
        assert bare.status_code == full.status_code == 200, path
        assert bare.content == b""
        assert len(full.content) == int(full.headers["content-length"])
        kept = [{k: v for k, v in answer.headers.items() if k not in VARIES} for answer in (full, bare)]
        assert kept[0] == kept[1], path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/api/v1/conversations/unknown", 404),
        ("/api/v1/conversations?limit=0", 400),
        ("/api/v1/conversations/c1/cancel", 405),
    ],
)
def test_what_get_is_refused_head_is_too(http, path, status):
    full, bare = http.get(path), http.head(path)
    assert (bare.status_code, bare.content) == (status, b"")
    assert bare.headers["content-type"] == "application/problem+json"
    length = int(bare.headers["content-length"])
    assert length == len(full.content) + (status == 405)  # its sentence names the method


def test_head_is_told_as_head_by_its_route(http, told, lived):
    http.head("/api/v1/conversations/c1")
    problem(http.get("/nope"), 404, "not_found")

    def lines():
        return [(f["method"], f["route"]) for event, f in told if event == "http_request"]

    until(lambda: ("GET", "unmatched") in lines())  # a request is told after its answer has left
    assert lines()[-2] == ("HEAD", "/api/v1/conversations/{conversation_id}")


def test_no_body_follows_the_head_of_an_answer(server, lived):
    with socket.create_connection(server.address, timeout=5) as client:
        client.sendall(b"HEAD /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.sendall(b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        whole = b"".join(iter(lambda: client.recv(65_536), b""))
    first, second, rest = whole.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200") and second.startswith(b"HTTP/1.1 200") and rest == b""


def test_the_head_of_a_stream_ends_at_once_and_nobody_listens(http, lived, server):
    bare = http.head(EVENTS, headers=SSE, timeout=5)
    assert (bare.status_code, bare.content) == (200, b"")
    assert bare.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in bare.headers
    assert http.head(f"{EVENTS}?from=now", headers=SSE, timeout=5).status_code == 200
    assert http.head("/api/v1/conversations/unknown/events", headers=SSE, timeout=5).status_code == 404
    assert http.head(EVENTS, headers={**SSE, "last-event-id": "x"}, timeout=5).status_code == 400
    assert server.stats()["sse_clients"] == 0
    assert lived.feed.stats()["listeners"] == 0


def test_who_may_only_look_may_ask_for_a_head(server, http, lived):
    server.configure(FakeSettings(api_token=SecretStr("operates"), read_token=SecretStr("looks")))
    assert http.head("/api/v1/status", headers={"authorization": "Bearer looks"}).status_code == 200
    assert http.head("/api/v1/status").status_code == 401
    assert http.head("/livez").status_code == 200


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE"])
def test_the_methods_of_every_route_are_named_head_among_them(server, http, method):
    for path in {path for _, path in routes(server)}:
        takes = {taken for taken, other in routes(server) if other == path}
        answer = http.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == ", ".join(sorted(takes | {"HEAD"} if "GET" in takes else takes))
