"""The server's side of one connection: uvicorn's, with a deadline for request heads and our kind of 400.

A client that shuts down its sending side once it has sent its request still gets the answer, where uvicorn would close.
To us that looks as if it had closed its socket, until its system tells: asked now and then, by TCP's own keep-alive, it
resets a connection that nobody reads any more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import h11
from pydantic_core import to_json
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.connections import Connections
from gateway.problems import MEDIA_TYPE, Problem

HEAD_TIMEOUT = 15.0
"""Seconds for a request's head, and for a connection's first byte: slow senders must not hold sockets for ever."""
ABORT = "orchestrator.abort"
"""Extension of a request's scope: a function that ends its connection at once, with what was not sent."""
SENT_ALL = "orchestrator.sent_all"
"""Extension of a request's scope: a function that takes what to call once the client has shut down its sending side."""
PROBE = 10
"""Seconds between two looks whether such a client is still there. Its system forgets a closed socket after about a
minute (Linux: `tcp_fin_timeout`), and denies it only then."""
PROBES = 3
"""Unanswered ones after which its machine is taken for gone."""


class HttpProtocol(H11Protocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _unsent = 0
    _half_closed = False
    _then: Callable[[], None] | None = None
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head, unless there are too many already."""
        super().connection_made(transport)
        if isinstance(self.server_state, Connections) and self.server_state.too_many:
            self.server_state.refuse()
            detail = f"{self.server_state.most} connections are open, which is all that are taken"
            self._answer_at_once(Problem("too_many_connections", detail), b"Service Unavailable")
            return
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Take what came; time runs only while a head, or a body nobody wants any more, is incomplete."""
        super().data_received(data)
        waiting = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
        if not waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif waiting and self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT, self._too_slow)

    def handle_events(self) -> None:
        """Let whoever answers a request end its connection, and know when nothing more comes on it."""
        super().handle_events()
        if self.scope is not None:
            self.scope["extensions"] = {ABORT: {"call": self.transport.abort}, SENT_ALL: {"call": self._when_sent_all}}

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's says nothing, which closes
        """Keep the connection when an answer is due on it: the client may have shut down its sending side alone."""
        if not self._is_due():
            return False
        if not self._half_closed:
            self._half_closed = True
            _keep_alive(self.transport.get_extra_info("socket"))
            self._look = self.loop.call_later(PROBE, self._look_for_client)
            if self._then is not None:
                self._then()
        return True

    def on_response_complete(self) -> None:
        """Go on to what else was sent; after the last answer to a client that sends no more, close."""
        self._then = None
        super().on_response_complete()
        if self._half_closed and not self._is_due():
            self.transport.close()
        if self.transport.is_closing() and self.timeout_keep_alive_task is None:
            # It closes once the answer was taken; uvicorn sets no time for that.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one whose client takes none of its answer too, which a mere close would wait for."""
        unsent, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent == 0:
            super().timeout_keep_alive_handler()
        elif self._unsent == unsent:
            self.transport.abort()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be done later."""
        for timer in (self._deadline, self._look):
            if timer is not None:
                timer.cancel()
        self._then = None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        # They refer to this connection in turn: circles, which would wait for the collector.
        self.cycle = None  # type: ignore[assignment]  # as before the first request
        self.scope = None  # type: ignore[assignment]  # as above

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._answer_at_once(Problem("invalid_body", msg), b"Bad Request")

    def _answer_at_once(self, problem: Problem, reason: bytes) -> None:
        """Answer without a request that could be served, and close."""
        headers = [("content-type", MEDIA_TYPE), ("connection", "close"), *problem.headers.items()]
        parts: tuple[Any, ...] = (
            h11.Response(status_code=problem.status, headers=headers, reason=reason),
            h11.Data(data=to_json(problem.body())),
            h11.EndOfMessage(),
        )
        for part in parts:
            self.transport.write(self.conn.send(part))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: anybody may ask for an upgrade, and is served without one."""

    def _is_due(self) -> bool:
        """Return whether a request is here as a whole and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _when_sent_all(self, then: Callable[[], None]) -> None:
        if self._half_closed:
            then()
        else:
            self._then = then

    def _look_for_client(self) -> None:
        # Nobody reads from this socket any more, so nobody else is told that it was reset.
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(PROBE, self._look_for_client)

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


def _keep_alive(connection: socket.socket) -> None:
    # Of the three options a system may lack any; its own times, of hours, are then those of the whole wait.
    for name, value in (("TCP_KEEPIDLE", PROBE), ("TCP_KEEPINTVL", PROBE), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
