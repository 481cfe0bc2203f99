"""Waiting for a reply: it is the answer when it comes in time, else the 202 is."""

from __future__ import annotations

import threading
import time

import httpx2
import pytest
from gateway_support import FakeRouter, FakeSettings

from gateway.server import HttpServer
from messages.events import ReplySent

MESSAGES = "/api/v1/conversations/c1/messages"


def in_background(function, *args, **kwargs):
    """Start a call; return a function that waits for its result."""
    box = []
    thread = threading.Thread(target=lambda: box.append(function(*args, **kwargs)))
    thread.start()

    def join():
        thread.join(20)
        assert box, "no answer"
        return box[0]

    return join


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.005)


def test_the_reply_is_the_answer_when_it_comes_in_time(http, router):
    join = in_background(http.post, f"{MESSAGES}?wait=10", json={"text": "x"})
    until(lambda: router.journal.get("c1"))
    router.tick("c1")
    router.reply("c1", "here you are")
    answer = join()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["type"], body["text"], body["seq"], body["request_id"]) == ("reply.sent", "here you are", 3, "r1")


def test_a_reply_that_comes_before_the_acceptance_is_heard_is_not_missed(http, router):
    """The fake journals and publishes the reply in the same breath as its answer."""
    router.echo = True
    for n in range(100):
        answer = http.post(f"{MESSAGES}?wait=10", json={"text": f"t{n}"})
        assert (answer.status_code, answer.json()["text"]) == (200, f"echo t{n}")
    assert router.feed.stats()["listeners"] == 0


def test_when_the_wait_runs_out_the_answer_is_the_acceptance(http, router):
    began = time.monotonic()
    answer = http.post(f"{MESSAGES}?wait=0.1", json={"text": "x"})
    assert 0.09 <= time.monotonic() - began < 5
    assert answer.status_code == 202
    assert answer.json() == {"conversation_id": "c1", "message_id": "m1", "request_id": "r1", "status": "accepted"}
    until(lambda: router.feed.stats()["listeners"] == 0)


def test_the_reply_to_another_message_is_not_the_answer(http, router):
    http.post(MESSAGES, json={"text": "first", "message_id": "one"})
    join = in_background(http.post, f"{MESSAGES}?wait=10", json={"text": "second", "message_id": "two"})
    until(lambda: len(router.journal["c1"]) == 2)
    first = router.journal["c1"][0]
    wrong = {"request_id": first.request_id, "message_id": "one", "text": "wrong one", "status": "completed"}
    router.emit("c1", ReplySent, **wrong)
    router.reply("c1", "right one")
    assert join().json()["text"] == "right one"


def test_a_repetition_gets_the_first_ones_result(http, router):
    """Without `wait` the same 202, with `wait` the reply that exists, or the one that is still to come."""
    body = {"text": "x", "message_id": "m"}
    first = http.post(MESSAGES, json=body)
    assert http.post(MESSAGES, json=body).json() == first.json()
    join = in_background(http.post, f"{MESSAGES}?wait=10", json=body)
    until(lambda: len(router.submitted) == 3 and router.feed.stats()["listeners"] == 1)
    router.reply("c1", "once")
    assert join().json()["text"] == "once"
    began = time.monotonic()
    late = http.post(f"{MESSAGES}?wait=10", json=body)
    assert (late.status_code, late.json()["text"]) == (200, "once") and time.monotonic() - began < 5
    assert http.post(f"{MESSAGES}?wait=0", json=body).json()["text"] == "once"
    assert http.post(MESSAGES, json=body).status_code == 202


def test_many_repetitions_at_once_get_one_answer(http, router):
    joins = [in_background(http.post, f"{MESSAGES}?wait=10", json={"text": "x", "message_id": "m"}) for _ in range(20)]
    until(lambda: len(router.submitted) == 20 and router.seq("c1") == 1)
    router.reply("c1", "once")
    assert {join().json()["text"] for join in joins} == {"once"}
    assert router.seq("c1") == 2


def test_a_stopping_server_answers_those_who_wait(router):
    own = HttpServer(router, FakeSettings(), metrics=bytes, version="1")
    own.start()
    with httpx2.Client(base_url=own.url, trust_env=False) as client:
        join = in_background(client.post, f"{MESSAGES}?wait=60", json={"text": "x"}, timeout=20)
        until(lambda: router.feed.stats()["listeners"] == 1 and router.seq("c1") == 1)
        own.stop(5.0)
        assert join().status_code == 202


def test_a_taken_port_is_a_clear_error(server):
    host, port = server.address
    second = HttpServer(FakeRouter(), FakeSettings(http_address=(host, port)), metrics=bytes, version="1")
    with pytest.raises(OSError, match=f"cannot listen on {host}:{port}: another program listens there"):
        second.start()
    second.stop()


def test_binding_beyond_loopback_needs_a_token():
    with pytest.raises(ValueError, match="api_token"):
        HttpServer(FakeRouter(), FakeSettings(http_address=("0.0.0.0", 0)), metrics=bytes, version="1")
    with pytest.raises(ValueError, match="off"):
        HttpServer(FakeRouter(), FakeSettings(http_address=None), metrics=bytes, version="1")


def test_a_server_can_be_stopped_and_its_port_taken_again(router):
    first = HttpServer(router, FakeSettings(), metrics=bytes, version="1")
    first.stop()
    first.start()
    first.stop()
    first.stop()
    again = HttpServer(router, FakeSettings(http_address=first.address), metrics=bytes, version="1")
    again.start()
    again.stop()
    assert not first._thread.is_alive() and not again._thread.is_alive()
