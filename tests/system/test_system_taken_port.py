"""Starts that end before any work is taken up again say nothing against the conversations that wait for it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from daemon_process import DaemonProcess, eventually, node


def test_starts_that_find_their_address_taken_are_no_recoveries(make_daemon: Callable[..., DaemonProcess]) -> None:
    """A service manager tries again and again: each try counted, and the conversations were put aside in the end."""
    daemon = make_daemon(quarantine_after="1").start()
    with daemon.client() as client:
        client.send("c", "go", plan={"nodes": [node("a", "held")]}, message_id="m")
    port = int(daemon.url.rpartition(":")[2])
    daemon.kill()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        for _ in range(2):
            with pytest.raises(AssertionError, match="another program listens there"):
                daemon.start()
            assert daemon.wait() == 1
    daemon.let_go()
    daemon.start()
    with daemon.client() as client:
        reply = eventually(lambda: [e for e in client.events("c") if e["type"] == "reply.sent"], "the reply")
        assert reply[0]["status"] == "completed"
    assert daemon.stop() == 0
