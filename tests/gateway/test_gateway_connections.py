"""Connections beyond what can be afforded are refused at once, and those that are open are served on."""

from __future__ import annotations

import gc
import resource
import socket
from contextlib import ExitStack

import httpx2
import pytest
from gateway_support import FakeRouter, FakeSettings
from test_gateway_wait import until

from gateway import connections
from gateway.connections import affordable
from gateway.server import HttpServer

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def told():
    return []


@pytest.fixture
def server(monkeypatch, told):
    monkeypatch.setattr("gateway.server.affordable", lambda: 3)
    made = HttpServer(
        FakeRouter(),
        FakeSettings(),
        metrics=lambda: b"",
        version="1",
        log=lambda event, /, **fields: told.append((event, fields)),
    )
    made.start()
    yield made
    made.stop(2.0)


def connect(stack, server):
    return stack.enter_context(socket.create_connection(server.address, timeout=5))


def test_one_too_many_is_told_so_and_the_others_are_served(server, told):
    with ExitStack() as stack:
        kept = [connect(stack, server) for _ in range(3)]
        until(lambda: server.stats()["http_connections"] == 3)
        for _ in range(5):
            refused = connect(stack, server)
            answer = b"".join(iter(lambda refused=refused: refused.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"too_many_connections"' in answer
            assert b"retry-after: 1\r\n" in answer.lower()
        for each in kept:
            each.sendall(GET)
            assert each.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.stats()["http_connections"] == 3
        assert server.stats()["http_connections_refused"] == 5
    lines = [fields for event, fields in told if event == "connections_refused"]
    assert lines == [{"limit": 3, "refused": 1}], "the rest is told later, together"
    until(lambda: server.stats()["http_connections"] == 0)
    assert httpx2.get(f"{server.url}/livez", trust_env=False).status_code == 200


def test_what_was_refused_meanwhile_is_told_together(monkeypatch, told):
    now = [100.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    many = connections.Connections(1, lambda event, /, **fields: told.append((event, fields)))
    for moment in (100.0, 101.0, 109.0, 110.0):
        now[0] = moment
        many.refuse()
    assert told == [
        ("connections_refused", {"limit": 1, "refused": 1}),
        ("connections_refused", {"limit": 1, "refused": 3}),
    ]


@pytest.mark.parametrize(
    ("files", "some"), [(64, 32), (1024, 512), (4096, 3072), (65_536, 64_512), (resource.RLIM_INFINITY, 1_047_552)]
)
def test_others_are_left_as_many_files_as_they_need(monkeypatch, files, some):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (files, files))
    assert affordable() == some


def test_a_connection_that_ended_leaves_nothing_of_ours_to_the_collector(server):
    """It looks seldom: the bodies of the last requests of thousands of connections would wait for it."""

    def talk():
        for _ in range(3):
            assert httpx2.get(f"{server.url}/livez", trust_env=False).status_code == 200
        until(lambda: server.stats()["http_connections"] == 0)

    talk()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        talk()
        gc.collect()
        left = {type(each).__qualname__ for each in gc.garbage}
        assert not left & {"HttpProtocol", "RequestResponseCycle"}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
