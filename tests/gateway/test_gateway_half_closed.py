"""Clients that shut down their sending side once they have sent their request, and those that are gone altogether."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time

import pytest
from gateway_support import FakeSettings
from test_gateway_wait import until

from gateway.protocol import SENT_ALL
from gateway.server import HttpServer
from messages.events import ReplySent

BODY = b'{"text": "x"}'
EVENTS = b"GET /api/v1/conversations/c1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


def post(query="", *, missing=0):
    head = f"POST /api/v1/conversations/c1/messages{query} HTTP/1.1\r\nHost: localhost\r\n"
    return (
        head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (len(BODY) + missing) + BODY
    )


@pytest.fixture
def half(server):
    """Return a function that sends something, shuts the sending side down, and returns the socket."""
    made = []

    def send(*parts):
        client = socket.create_connection(server.address, timeout=10)
        made.append(client)
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        return client

    yield send
    for client in made:
        client.close()


def everything(client):
    """Read until the server closes: an answer that never ends fails by the socket's timeout."""
    return b"".join(iter(lambda: client.recv(65_536), b""))


def waiting(server):
    return server.app.state.door.half_closed


# Answered all the same


@pytest.mark.parametrize(
    ("request_", "status"),
    [(b"GET /api/v1/conversations/c1 HTTP/1.1\r\nHost: x\r\n\r\n", 403), (LIVEZ, 200), (post(), 202)],
    ids=["refused", "looked at", "sent"],
)
def test_an_answer_comes_whole_and_then_the_end(half, router, request_, status):
    answer = everything(half(request_))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"}")


def test_an_answer_that_takes_its_time_comes_too(half, router):
    router.tick("c1")
    release = threading.Event()
    router.read_delay = lambda: release.wait(10)
    client = half(b"GET /api/v1/conversations/c1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    release.set()
    assert b'"phase":"completed"' in everything(client)


def test_the_reply_is_waited_for(half, router, server):
    client = half(post("?wait=20"))
    until(lambda: router.seq("c1") == 1 and waiting(server) == 1)
    router.reply("c1", "done")
    answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"text":"done"' in answer
    until(lambda: waiting(server) == 0 and router.feed.stats()["listeners"] == 0)


def test_a_side_that_is_shut_down_later_changes_nothing(router, server):
    with socket.create_connection(server.address, timeout=10) as client:
        client.sendall(post("?wait=20"))
        until(lambda: router.feed.stats()["listeners"] == 1 and router.seq("c1") == 1)
        assert waiting(server) == 0
        client.shutdown(socket.SHUT_WR)
        until(lambda: waiting(server) == 1)
        router.reply("c1", "done")
        assert b'"text":"done"' in everything(client)


def test_all_requests_of_one_connection_are_answered(half, router, server):
    client = half(LIVEZ, LIVEZ, post("?wait=20"), LIVEZ)
    until(lambda: router.seq("c1") == 1)
    router.reply("c1", "done")
    answers = everything(client)
    assert answers.count(b"HTTP/1.1 200 ") == 4
    assert answers.endswith(b'{"status":"alive"}')


def test_a_stream_gives_what_there_is_and_ends(half, router, server):
    for _ in range(3):
        router.tick("c1")
    answer = everything(half(EVENTS))
    assert answer.count(b"\nid: ") == 3
    assert answer.endswith(b"0\r\n\r\n")
    until(lambda: server.stats()["sse_clients"] == 0 and router.feed.stats()["listeners"] == 0)


def test_a_server_that_stops_answers_them(router):
    own = HttpServer(router, FakeSettings(), metrics=bytes, version="1")
    own.start()
    with socket.create_connection(own.address, timeout=10) as client:
        client.sendall(post("?wait=60"))
        client.shutdown(socket.SHUT_WR)
        until(lambda: waiting(own) == 1)
        own.stop(5.0)
        assert everything(client).startswith(b"HTTP/1.1 202 ")


# Not answered


@pytest.mark.parametrize("cut", [post(missing=9), LIVEZ[:-4], b""], ids=["body", "head", "nothing"])
def test_a_request_that_is_not_whole_is_none(half, router, cut):
    assert everything(half(cut)) == b""
    assert router.submitted == []


def test_what_is_whole_is_answered_before_what_is_not(half, router):
    answer = everything(half(LIVEZ, post(missing=9)))
    assert answer.count(b"HTTP/1.1 ") == 1 and answer.endswith(b'{"status":"alive"}')
    assert router.submitted == []


# Gone


@pytest.mark.skipif(not hasattr(socket, "TCP_LINGER2"), reason="the system does not let it be forgotten soon")
def test_a_client_that_closed_its_socket_is_let_go_when_its_system_says_so(router, server, monkeypatch):
    """Until then it cannot be told from one that waits: its system forgets the socket, here after a second."""
    monkeypatch.setattr("gateway.protocol.PROBE", 1)
    client = socket.create_connection(server.address, timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
    client.sendall(post("?wait=60"))
    until(lambda: router.seq("c1") == 1 and router.feed.stats()["listeners"] == 1)
    client.close()
    until(lambda: waiting(server) == 0 and router.feed.stats()["listeners"] == 0)
    assert len(router.submitted) == 1


def test_a_client_that_waits_is_not_let_go(half, router, server, monkeypatch):
    monkeypatch.setattr("gateway.protocol.PROBE", 1)
    client = half(post("?wait=60"))
    client.settimeout(2.5)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    router.reply("c1", "at last")
    assert b"at last" in everything(client)


def test_a_client_that_breaks_its_connection_off_is_let_go_at_once(router, server):
    began = time.monotonic()
    client = socket.create_connection(server.address, timeout=10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.sendall(post("?wait=60"))
    until(lambda: router.feed.stats()["listeners"] == 1 and router.seq("c1") == 1)
    client.close()
    until(lambda: router.feed.stats()["listeners"] == 0)
    assert time.monotonic() - began < 5


def test_when_too_many_wait_so_the_next_is_answered_that_it_is_accepted(half, router, server, monkeypatch):
    monkeypatch.setattr(server.app.state.door, "max_half_closed", 2)
    first, second = half(post("?wait=60")), half(post("?wait=60"))
    until(lambda: waiting(server) == 2)
    assert everything(half(post("?wait=60"))).startswith(b"HTTP/1.1 202 ")
    assert len(router.submitted) == 3
    for event in list(router.journal["c1"]):
        ids = {"request_id": event.request_id, "message_id": event.message_id}
        router.emit("c1", ReplySent, text="done", status="completed", **ids)
    assert b"HTTP/1.1 200 " in everything(first) and b"HTTP/1.1 200 " in everything(second)
    until(lambda: waiting(server) == 0)


def test_what_is_told_after_the_answer_counts_nobody(server):
    """The answer waits in a full buffer, and only then the client shuts down its sending side."""
    door = server.app.state.door
    told = []

    async def attend():
        reply = asyncio.get_running_loop().create_future()
        with door.attending({"extensions": {SENT_ALL: {"call": told.append}}}, reply):
            reply.cancel()

    asyncio.run(attend())
    told[0]()
    assert waiting(server) == 0
