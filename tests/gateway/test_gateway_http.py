"""The HTTP door over a real socket: what is taken, and every kind of bad input."""

from __future__ import annotations

import json
import socket
import threading
import time

import msgpack
import pytest
from gateway_support import MESSAGES, problem, row

from gateway.problems import CODES, markdown
from messages.inbound import Cancel, Refused, UserMessage

JSON = {"content-type": "application/json"}


# What is taken


def test_a_message_is_accepted_with_its_ids(http, router):
    answer = http.post(MESSAGES, json={"text": "hello", "user_id": "u1"})
    assert answer.status_code == 202
    assert answer.json() == {"conversation_id": "c1", "message_id": "m1", "request_id": "r1", "status": "accepted"}
    assert router.submitted == [UserMessage(conversation_id="c1", text="hello", user_id="u1")]
    assert answer.headers["cache-control"] == "no-store"


def test_msgpack_says_the_same_as_json(http, router):
    body = msgpack.packb({"text": "hello", "type": "user_message", "conversation_id": "c1"})
    assert http.post(MESSAGES, content=body, headers={"content-type": "application/msgpack"}).status_code == 202
    assert router.submitted == [UserMessage(conversation_id="c1", text="hello")]


def test_what_looks_like_code_is_plain_data(http, router):
    """Fields of pykka's proxies, paths, SQL and dunder names have no meaning inside a text."""
    text = '\'; DROP TABLE x; -- ../../etc/passwd __class__ {"command": "pykka_call"}'
    assert http.post(MESSAGES, json={"text": text}).status_code == 202
    assert router.submitted[0].text == text


def test_control_needs_no_body_and_takes_a_reason(http, router):
    http.post(MESSAGES, json={"text": "x"})
    assert http.post("/api/v1/conversations/c1/cancel").status_code == 202
    answer = http.post("/api/v1/conversations/c1/pause", json={"reason": "lunch", "by": "me"})
    assert answer.json() == {"conversation_id": "c1", "seq": 1, "status": "accepted"}
    assert router.submitted[1] == Cancel(conversation_id="c1", by="http 127.0.0.1")
    assert (router.submitted[2].type, router.submitted[2].reason) == ("pause", "lunch")


def test_probes_metrics_and_version(http, router):
    assert http.get("/livez").json() == {"status": "alive"}
    assert http.get("/version").json()["version"] == "1.2.3"
    metrics = http.get("/metrics")
    assert (metrics.text, metrics.headers["content-type"]) == (
        "orchestrator_up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )
    ready = http.get("/readyz")
    assert ready.status_code == 200 and ready.json()["checks"]["store"] == {"ok": True, "detail": "secret path"}
    router.checks["store"] = {"ok": False, "detail": "gone"}
    failing = http.get("/readyz")
    assert failing.status_code == 503 and failing.json()["checks"]["store"]["detail"] == "gone"


def test_draining_is_said_and_new_work_refused_while_reading_goes_on(http, router):
    http.post(MESSAGES, json={"text": "x"})
    router.draining = True
    assert http.get("/readyz").status_code == 503
    refused = http.post(MESSAGES, json={"text": "y"})
    problem(refused, 503, "draining")
    assert refused.headers["retry-after"] == "5"
    assert http.get("/api/v1/conversations/c1").status_code == 200


def test_a_readiness_check_that_hangs_is_not_ready(http, router, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr("gateway.probe_routes.READY_TIMEOUT", 0.05)
    router.readiness = lambda: release.wait(10)
    try:
        answer = http.get("/readyz")
        assert answer.status_code == 503 and answer.json()["checks"]["answer"]["ok"] is False
    finally:
        release.set()


def test_actors_come_by_path_in_pages_and_one_can_be_restarted(http, router):
    router.actor_rows = [{"path": f"/a/{n}", "kind": "agent"} for n in "abc"]
    first = http.get("/api/v1/actors?limit=2").json()
    assert ([r["path"] for r in first["actors"]], first["next"]) == (["/a/a", "/a/b"], "/a/b")
    assert http.get("/api/v1/actors", params={"after": first["next"]}).json() == {
        "actors": [{"path": "/a/c", "kind": "agent"}],
        "next": None,
    }
    assert http.post("/api/v1/actors/restart", json={"path": "/conversations/c1"}).status_code == 202
    assert router.restarted == ["/conversations/c1"]
    problem(http.post("/api/v1/actors/restart", json={"path": "/nobody"}), 404, "not_found")
    problem(http.post("/api/v1/actors/restart", json={"path": 1}), 400, "invalid_field", "path")
    problem(http.post("/api/v1/actors/restart", json={}), 400, "invalid_field", "path")
    problem(http.post("/api/v1/actors/restart", json={"path": "/x", "command": "rm"}), 400, "invalid_field", "command")


def test_conversations_page_by_keyset_even_when_they_share_a_moment(http, router):
    """Every row is seen exactly once although all have the same time and new ones come in between."""
    router.rows = [row(f"c{n:02}", 1_000, "failed" if n % 2 else "completed") for n in range(25)]
    seen, cursor = [], None
    while True:
        page = http.get("/api/v1/conversations", params={"limit": 10, **({"cursor": cursor} if cursor else {})}).json()
        seen += [line["conversation_id"] for line in page["conversations"]]
        router.rows.append(row(f"new{len(seen)}", 2_000))
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [f"c{n:02}" for n in reversed(range(25))]
    failed = http.get("/api/v1/conversations?phase=failed&limit=1000").json()
    assert {line["phase"] for line in failed["conversations"]} == {"failed"} and failed["next"] is None


def test_messages_events_and_dead_letters_page_by_their_numbers(http, router):
    for n in range(5):
        http.post(MESSAGES, json={"text": f"t{n}"})
    router.letters = [{"id": n} for n in (3, 5, 9)]
    page = http.get(f"{MESSAGES}?limit=2").json()
    assert ([m["text"] for m in page["messages"]], page["next"]) == (["t0", "t1"], 2)
    assert [m["text"] for m in http.get(f"{MESSAGES}?after=4").json()["messages"]] == ["t4"]
    events = http.get("/api/v1/conversations/c1/events?after=1&limit=2").json()
    assert ([e["seq"] for e in events["events"]], events["next"]) == ([2, 3], 3)
    last = http.get("/api/v1/conversations/c1/events?after=3&limit=2").json()
    assert ([e["seq"] for e in last["events"]], last["next"]) == ([4, 5], None)
    letters = http.get("/api/v1/deadletters?limit=2").json()
    assert letters == {"dead_letters": [{"id": 3}, {"id": 5}], "next": 5}
    assert http.get("/api/v1/deadletters?after=5").json() == {"dead_letters": [{"id": 9}], "next": None}
    assert http.get("/api/v1/conversations/c1/plan").json()["nodes"] == []
    assert http.get("/api/v1/status").json()["phases"] == {"completed": 2}


# What is not


BODIES = {
    "malformed": (b'{"text": ', 400, "invalid_body", None),
    "empty": (b"", 400, "invalid_body", None),
    "not an object": (b'["text"]', 400, "invalid_body", None),
    "bare string": (b'"text"', 400, "invalid_body", None),
    "trailing bytes": (b'{"text": "x"} {}', 400, "invalid_body", None),
    "not UTF-8": (b'{"text": "\xff"}', 400, "invalid_body", None),
    "byte order mark": (b'\xef\xbb\xbf{"text": "x"}', 400, "invalid_body", None),
    "unknown field": (b'{"text": "x", "txt": 1}', 400, "invalid_field", "txt"),
    "wrong type": (b'{"text": 5}', 400, "invalid_field", "text"),
    "bool for text": (b'{"text": true}', 400, "invalid_field", "text"),
    "missing text": (b"{}", 400, "invalid_field", "text"),
    "empty text": (b'{"text": ""}', 400, "invalid_field", "text"),
    "null text": (b'{"text": null}', 400, "invalid_field", "text"),
    "NUL": (b'{"text": "a\\u0000b"}', 400, "invalid_field", "text"),
    "bad message id": (b'{"text": "x", "message_id": "a b"}', 400, "invalid_field", "message_id"),
    "another conversation": (b'{"text": "x", "conversation_id": "c2"}', 400, "invalid_field", "conversation_id"),
    "another type": (b'{"text": "x", "type": "cancel"}', 400, "invalid_field", "type"),
    "duplicate key": (b'{"text": "x", "text": "y"}', 400, "invalid_body", "text"),
    "deep nesting": (b'{"text": "x", "plan": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "invalid_body", None),
    "very deep nesting": (b'{"text":' * 20_000, 413, "too_large", None),
    "deep enough to exhaust the parser": (b'{"a":' * 10_000, 400, "invalid_body", None),
    "NaN": (
        b'{"text": "x", "plan": {"nodes": [{"id": "a", "agent": "b", "timeout": NaN}]}}',
        400,
        "invalid_body",
        None,
    ),
    "infinite": (b'{"text": "x", "plan": {"nodes": [{"id": "a", "agent": "b", "timeout": 1e999}]}}', 400, None, None),
    "lone surrogate": (b'{"text": "\\ud800"}', 400, "invalid_body", None),
    "bad plan shape": (b'{"text": "x", "plan": {"nodes": [{"id": "a"}]}}', 400, "invalid_field", None),
    "many items": (b'{"text": "x", "plan": [' + b"{}," * 12_000 + b"{}]}", 413, "too_large", None),
    "too large": (b'{"text": "' + b"x" * 70_000 + b'"}', 413, "too_large", None),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_with_its_reason_and_reaches_nobody(http, router, name):
    content, status, code, field = BODIES[name]
    answer = http.post(MESSAGES, content=content, headers=JSON)
    problem(answer, status, code or answer.json()["code"], field)
    assert router.submitted == []
    assert http.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"\x81\xa4text\xc7\x01\x05x", b"\x81\xa4text\xa1x\x00", b"\xde\xff\xff", b"\x81\x01\xa1x", b"\x82\xa1a\x01"],
)
def test_bad_msgpack_is_refused(http, router, content):
    """Extension types, trailing bytes, announced but absent items, keys that are no texts."""
    problem(http.post(MESSAGES, content=content, headers={"content-type": "application/msgpack"}), 400, "invalid_body")
    assert router.submitted == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_other_content_types_are_refused(http, router, headers):
    """Plain text and forms are what a web page may send to a stranger without being asked."""
    problem(http.post(MESSAGES, content=b'{"text": "x"}', headers=headers), 415, "unsupported_media_type")
    problem(
        http.post("/api/v1/conversations/c1/cancel", content=b'{"reason": "x"}', headers=headers),
        415,
        "unsupported_media_type",
    )
    assert router.submitted == []


def test_the_content_type_must_be_true(http):
    problem(http.post(MESSAGES, content=msgpack.packb({"text": "x"}), headers=JSON), 400, "invalid_body")
    headers = {"content-type": "application/msgpack"}
    problem(http.post(MESSAGES, content=b'{"text": "x"}', headers=headers), 400, "invalid_body")


def test_a_body_without_a_length_is_cut_off_when_it_is_too_large(http, router):
    """Nothing is held beyond the limit, and the client hears why."""

    def endless():
        for _ in range(64):
            yield b"x" * 65_536

    problem(http.post(MESSAGES, content=endless(), headers=JSON), 413, "too_large")
    assert router.submitted == []


def test_a_body_that_goes_on_and_on_is_answered_before_it_ends(server):
    """Not even a body without a length is held beyond the limit."""
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall(
            b"POST /api/v1/conversations/c1/messages HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(b"11000\r\n" + b"x" * 0x11000 + b"\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(server):
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall(
            b"POST /api/v1/conversations/c1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends_is_given_up(server, monkeypatch):
    monkeypatch.setattr("gateway.bodies.BODY_TIMEOUT", 0.1)
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall(
            b"POST /api/v1/conversations/c1/messages HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert raw.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_head_that_never_ends_is_given_up(server, monkeypatch):
    """Slow senders do not hold sockets for ever, whether they send a little or nothing."""
    monkeypatch.setattr("gateway.protocol.HEAD_TIMEOUT", 0.1)
    for beginning in (b"", b"GET /livez HTTP/1.1\r\nHost: loc"):
        with socket.create_connection(server.address, timeout=5) as raw:
            raw.sendall(beginning)
            assert raw.recv(100) == b""


def test_what_is_not_http_is_answered_as_a_problem_too(server):
    with socket.create_connection(server.address, timeout=5) as raw:
        raw.sendall(b"HELLO\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"application/problem+json" in head
    assert b'"code":"invalid_body"' in body


@pytest.mark.parametrize("bad", ["a b", "a%2Fb", "ä", "x" * 201, "%00", "a%0A", "a'", "a;b"])
@pytest.mark.parametrize("route", ["", "/plan", "/messages", "/events"])
def test_a_bad_conversation_id_is_named_on_every_route(http, bad, route):
    answer = http.get(f"/api/v1/conversations/{bad}{route}")
    if bad == "a%2Fb":
        problem(answer, 404, "not_found")  # it is a path of another shape
    else:
        problem(answer, 400, "invalid_conversation_id", "conversation_id")


@pytest.mark.parametrize("route", ["", "/plan", "/messages", "/events", "/events?after=5", "/why"])
def test_an_unknown_conversation_is_not_found_and_nothing_is_made(http, router, route):
    problem(http.get(f"/api/v1/conversations/nobody{route}"), 404, "not_found")
    problem(http.post("/api/v1/conversations/nobody/cancel"), 404, "not_found")
    assert router.journal == {}


def test_why_gives_the_newest_request_one_by_its_id_or_all_in_pages(http, router):
    for text in ("first", "second", "third"):
        http.post("/api/v1/conversations/c1/messages", json={"text": text})
        router.tick("c1")
        router.reply("c1", f"{text} answer")
    why = "/api/v1/conversations/c1/why"

    def texts(body):
        return [root["title"] for root in body["roots"]]

    newest = http.get(why).json()
    assert (newest["conversation_id"], newest["next"], newest["left_out"]) == ("c1", None, 0)
    assert texts(newest) == ['message "third"']
    [root] = newest["roots"]
    assert [child["kind"] for child in root["children"]] == ["reply"]
    assert {"kind", "seq", "at", "after_ms", "cause", "title", "children"} <= set(root)
    assert texts(http.get(f"{why}?request=r1").json()) == ['message "first"']
    problem(http.get(f"{why}?request=r9"), 404, "not_found")
    page = http.get(f"{why}?after=0&limit=2").json()
    assert texts(page) == ['message "first"', 'message "second"']
    rest = http.get(f"{why}?after={page['next']}&limit=2").json()
    assert (texts(rest), rest["next"]) == (['message "third"'], None)


@pytest.mark.parametrize("path", ["/", "/nope", "/api/v1/nope", "/api/v1/conversations/", "/docs", "/redoc"])
def test_unknown_routes_are_problems(http, path):
    problem(http.get(path), 404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET"])
def test_wrong_methods_are_problems_that_say_which_are_right(http, method):
    answer = http.request(method, "/api/v1/conversations/c1/cancel")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_all_methods_of_a_path_are_named(http):
    assert http.delete(MESSAGES).headers["allow"] == "GET, HEAD, POST"
    assert http.delete("/openapi.json").headers["allow"] == "GET, HEAD"


QUERIES = {
    "/api/v1/conversations?limit=0": "limit",
    "/api/v1/conversations?limit=1001": "limit",
    "/api/v1/conversations?limit=ten": "limit",
    "/api/v1/conversations?limit=-1": "limit",
    "/api/v1/conversations?limit=+5": "limit",
    "/api/v1/conversations?limit=%D9%A5": "limit",
    "/api/v1/conversations?limit=1e2": "limit",
    "/api/v1/conversations?limit=": "limit",
    "/api/v1/conversations?limit=5&limit=6": "limit",
    "/api/v1/conversations?limt=5": "limt",
    "/api/v1/conversations?phase=nonsense": "phase",
    "/api/v1/conversations?phase=failed'--": "phase",
    "/api/v1/conversations?cursor=%00": "cursor",
    "/api/v1/conversations?cursor=bm9wZQ==": "cursor",
    "/api/v1/conversations?cursor=MTp4IHk=": "cursor",
    "/api/v1/conversations/c1/events?limit=1001": "limit",
    "/api/v1/conversations/c1/events?after=-1": "after",
    "/api/v1/conversations/c1/events?after=99999999999999999999": "after",
    "/api/v1/conversations/c1/events?from=now&after=1": "from",
    "/api/v1/conversations/c1/why?request=a%20b": "request",
    "/api/v1/conversations/c1/why?request=r1&after=0": "request",
    "/api/v1/conversations/c1/why?limit=5": "limit",
    "/api/v1/conversations/c1/why?after=0&limit=101": "limit",
    "/api/v1/actors?after=x": "after",
    "/api/v1/deadletters?before=1": "before",
    "/api/v1/status?token=secret": "token",
    "/livez?x=1": "x",
}


@pytest.mark.parametrize("path", QUERIES)
def test_bad_and_unknown_parameters_are_named(http, path):
    """A misspelt parameter must not silently mean the default."""
    problem(http.get(path), 400, "invalid_field", QUERIES[path])


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "inf", "1e3", "3601", "", "30s"])
def test_a_bad_wait_is_refused_before_anything_is_accepted(http, router, wait):
    problem(http.post(f"{MESSAGES}?wait={wait}", json={"text": "x"}), 400, "invalid_field", "wait")
    assert router.submitted == []


REFUSALS = [
    (Refused(code="conversation_busy", detail="x"), 409, None),
    (Refused(code="message_id_conflict", detail="x"), 409, None),
    (Refused(code="wrong_state", detail="x"), 409, None),
    (Refused(code="mailbox_full", detail="x", retry_after=1.2), 429, "2"),
    (Refused(code="mailbox_full", detail="x"), 429, "1"),
    (Refused(code="store_unavailable", detail="x", retry_after=0.1), 503, "1"),
    (Refused(code="draining", detail="x"), 503, "5"),
]


@pytest.mark.parametrize(("refused", "status", "retry_after"), REFUSALS)
def test_refusals_keep_their_code_and_say_when_to_come_back(http, router, refused, status, retry_after):
    router.refuse = refused
    answer = http.post(MESSAGES, json={"text": "x"})
    problem(answer, status, refused.code)
    assert answer.headers.get("retry-after") == retry_after


def test_a_refused_plan_lists_every_problem(http, router):
    problems = ({"node": "a", "detail": "unknown agent"}, {"node": "b", "detail": "a cycle"})
    router.refuse = Refused(code="invalid_plan", detail="2 problems", problems=problems)
    body = problem(http.post(MESSAGES, json={"text": "x", "plan": {"nodes": []}}), 400, "invalid_plan")
    assert body["problems"] == list(problems)


def test_a_code_nobody_has_listed_is_a_conflict_with_its_reason(http, router):
    router.refuse = Refused(code="brand_new", detail="why")
    assert problem(http.post(MESSAGES, json={"text": "x"}), 409, "wrong_state")["reason"] == "brand_new"


def test_a_store_that_is_gone_is_said_on_every_read(http, router):
    router.store_down = True
    for path in ("/api/v1/conversations", "/api/v1/conversations/c1", "/api/v1/conversations/c1/events"):
        answer = http.get(path)
        problem(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_store_that_hangs_is_given_up(http, router, monkeypatch):
    release = threading.Event()
    router.read_delay = lambda: release.wait(10)
    monkeypatch.setattr("gateway.read_threads.READ_TIMEOUT", 0.05)
    try:
        problem(http.get("/api/v1/conversations/c1"), 503, "store_unavailable")
    finally:
        release.set()


def test_a_message_that_is_never_confirmed_is_given_up(http, router, monkeypatch):
    monkeypatch.setattr("gateway.doorway.ANSWER_TIMEOUT", 0.05)
    router.submit = lambda message, answer: None
    problem(http.post(MESSAGES, json={"text": "x"}), 503, "store_unavailable")


@pytest.fixture
def stalled(server, monkeypatch):
    """The store says nothing, and patience is short."""
    monkeypatch.setattr("gateway.doorway.PATIENCE", 0.05)
    monkeypatch.setattr("gateway.doorway._LOOK_EVERY", 0.02)
    server.app.state.door.stalled = lambda: "sqlite has confirmed nothing for 4 s"
    yield
    server.app.state.door.stalled = lambda: None


@pytest.mark.parametrize(
    ("path", "message", "advice"),
    [
        (MESSAGES, {"text": "x", "message_id": "m"}, "sending the same message_id again is safe"),
        (MESSAGES, {"text": "x"}, "sending it again may ask twice"),
        ("/api/v1/conversations/c1/cancel", {}, "look at the conversation before saying it again"),
    ],
)
def test_who_waits_for_a_silent_store_hears_soon_that_nobody_knows(http, router, stalled, path, message, advice):
    router.submit = lambda message, answer: None
    began = time.monotonic()
    answer = http.post(path, json=message)
    assert time.monotonic() - began < 5
    body = problem(answer, 503, "store_unavailable")
    assert body["outcome"] == "unknown"
    assert "sqlite has confirmed nothing for 4 s" in body["detail"]
    assert advice in body["detail"]


def test_who_is_answered_in_time_is_not_let_go_of_by_a_silent_store(http, stalled):
    assert http.post(MESSAGES, json={"text": "x"}).status_code == 202


def test_a_refusal_that_is_none_for_certain_says_so(http, router):
    router.refuse = Refused(code="store_unavailable", detail="restarted", uncertain=True)
    assert problem(http.post(MESSAGES, json={"text": "x"}), 503, "store_unavailable")["outcome"] == "unknown"
    router.refuse = Refused(code="store_unavailable", detail="away")
    assert "outcome" not in problem(http.post(MESSAGES, json={"text": "x"}), 503, "store_unavailable")


def test_a_bug_inside_is_a_500_that_tells_the_log_and_nobody_else(http, router, told):
    router.bug = True
    answer = http.post(MESSAGES, json={"text": "x"})
    body = problem(answer, 500, "internal")
    assert "secret" not in answer.text
    event, fields = next(entry for entry in told if entry[0] == "error")
    assert event == "error" and fields["error_message"] == "the secret inside"
    assert body["instance"] in fields["where"]


def test_each_request_is_told_by_its_route_never_by_its_ids(http, told):
    http.get("/api/v1/conversations/very-secret-id")
    http.get("/nope/very-secret-id")
    pause = threading.Event()
    for _ in range(2_000):  # a request is told after its answer has left
        requests = [fields for event, fields in told if event == "http_request"][-2:]  # not of the test before
        if [r["route"] for r in requests] == ["/api/v1/conversations/{conversation_id}", "unmatched"]:
            break
        pause.wait(0.005)
    assert [(r["route"], r["status"], r["code"]) for r in requests] == [
        ("/api/v1/conversations/{conversation_id}", 404, "not_found"),
        ("unmatched", 404, "not_found"),
    ]
    assert all(r["duration_ms"] >= 0 for r in requests)
    assert "very-secret-id" not in str(requests)


# What is written about it


def test_every_code_has_a_page_entry_and_the_page_is_fresh():
    """docs/errors.md is written by `python -m gateway.problems`."""
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == markdown()
    assert all(code.status in range(400, 600) for code in CODES.values())


def test_openapi_describes_every_route_with_problems_and_parameters(http):
    spec = http.get("/openapi.json").json()
    operations = [op for path in spec["paths"].values() for op in path.values()]
    assert all("default" in op["responses"] and "422" not in op["responses"] for op in operations)
    post = spec["paths"]["/api/v1/conversations/{conversation_id}/messages"]["post"]
    assert {p["name"] for p in post["parameters"]} == {"conversation_id", "wait"}
    message = spec["components"]["schemas"]["UserMessage"]
    assert message["required"] == ["text"] and "conversation_id" not in message["properties"]
    references = set(json.dumps(spec).split('"#/components/schemas/')[1:])
    assert {r.partition('"')[0] for r in references} <= set(spec["components"]["schemas"])
