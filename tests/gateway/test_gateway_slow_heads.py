"""A client that never finishes its head is cut off; one that finishes in time is served."""

from __future__ import annotations

import socket

import pytest

from gateway import protocol


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: "])
def test_a_head_that_does_not_end_ends_the_connection(server, monkeypatch, sent):
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.2)
    with socket.create_connection(server.address, 10) as slow:
        slow.settimeout(10)
        if sent:
            slow.sendall(sent)
        assert slow.recv(1_000) == b"", "closed without a word"


def test_a_head_that_ends_in_time_is_answered(server, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 5.0)
    with socket.create_connection(server.address, 10) as slow:
        slow.settimeout(10)
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        slow.sendall(b"Host: localhost\r\n\r\n")
        assert slow.recv(1_000).startswith(b"HTTP/1.1 200")
