"""The quick way in: pub/sub channels, at most once, because Redis keeps nothing for who is not listening."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis

from gateway.ports import FrontDoor, Log
from gateway.redis_link import Link
from gateway.redis_payload import Inbound, Letter, from_channel, in_words, readable
from gateway.redis_ports import Bury, Expect, Tell
from messages.inbound import Answer, Refused
from messages.wire import WireError

PING_EVERY = 1.0
SILENT_FOR = 2.0
"""Seconds without a sign of the server after which the connection is given up, pings answered in between."""
MAX_OPEN = 1_000
"""Messages the daemon has not answered; more wait in the socket."""
ANSWER_WITHIN = 60.0
"""Seconds after which a message that is not answered no longer keeps others waiting."""
PATIENCE = 1.0
"""Seconds to wait for room; then a message is refused, or the server would end the connection and lose more."""


class Listener:
    """Runs on a link's thread."""

    def __init__(
        self,
        prefix: str,
        link: Link,
        router: FrontDoor,
        *,
        bury: Bury,
        tell: Tell,
        expect: Expect,
        max_bytes: Callable[[], int],
        log: Log,
    ) -> None:
        self._channel = f"{prefix}:inject"
        self._link = link
        self._router = router
        self._bury = bury
        self._tell = tell
        self._expect = expect
        self._max_bytes = max_bytes
        self._log = log
        self._lock = threading.Lock()
        self._room = threading.Condition()
        self._open: dict[int, float] = {}
        self._number = 0
        self.figures = dict.fromkeys(("received", "accepted", "refused"), 0)

    def work(self, client: Redis) -> None:
        """Listen until the link stops."""
        connection: Any = client.connection_pool.get_connection()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._channel)
            connection.send_command("PSUBSCRIBE", f"{self._channel}:*")
            confirmed = 0
            while confirmed < 2:  # a message may come in between
                response = connection.read_response()
                confirmed += response[0] in (b"subscribe", b"psubscribe")
                self._handle(response)
            self._link.up()
            heard = pinged = time.monotonic()
            while not self._link.stopping.is_set():
                now = time.monotonic()
                if connection.can_read(timeout=0.2):
                    self._handle(connection.read_response())
                    heard = time.monotonic()
                elif now - heard > SILENT_FOR:
                    raise ConnectionError(f"no answer to a ping for {now - heard:.1f} s")
                if now - pinged >= PING_EVERY:
                    connection.send_command("PING")
                    pinged = now
        finally:
            connection.disconnect()

    def _handle(self, response: Any) -> None:
        if not isinstance(response, list):
            return
        if response[0] == b"message":
            self.take(response[1], response[2], None)
        elif response[0] == b"pmessage":
            conversation_id = response[2][len(self._channel) + 1 :].decode("utf-8", "backslashreplace")
            self.take(response[2], response[3], conversation_id)

    def take(self, channel: bytes, data: bytes, conversation_id: str | None) -> None:
        """Submit one payload; `conversation_id` when it came on a conversation's own channel."""
        self._count("received")
        address = channel.decode("utf-8", "backslashreplace")
        try:
            message = from_channel(data, conversation_id, max_bytes=self._max_bytes())
        except WireError as error:
            self._refuse(address, conversation_id, None, data, Refused(code=error.code, detail=error.detail))
            return
        except Exception as error:  # noqa: BLE001  # a hostile payload must not silence the channel for the others
            refused = Refused(code="invalid_body", detail=f"{type(error).__name__} while it was decoded")
            self._refuse(address, conversation_id, None, data, refused)
            return
        number = self._enter()
        if number is None:
            detail = f"{MAX_OPEN} messages from pub/sub are not answered yet"
            self._refuse(address, message.conversation_id, message, data, Refused(code="mailbox_full", detail=detail))
            return

        def answer(answered: Answer) -> None:
            self._leave(number)
            if isinstance(answered, Refused):
                self._refuse(address, message.conversation_id, message, data, answered)
            else:
                self._count("accepted")

        self._expect(message.conversation_id)
        try:
            self._router.submit(message, answer)
        except Exception as error:  # noqa: BLE001  # as above: what the daemon could not take is kept and said
            self._leave(number)
            refused = Refused(code="internal", detail=f"{type(error).__name__}: {error}")
            self._refuse(address, message.conversation_id, message, data, refused)

    def _refuse(
        self, address: str, conversation_id: str | None, message: Inbound | None, data: bytes, refused: Refused
    ) -> None:
        self._count("refused")
        message_id = getattr(message, "message_id", None)
        self._log(
            "message_refused",
            conversation_id=None if conversation_id is None else conversation_id[:200],
            message_id=message_id,
            door="redis",
            code=refused.code,
            reason=in_words(refused)[:500],
        )
        kind = "unreadable" if message is None else message.type
        content = readable(data) if message is None else message
        if not refused.uncertain:  # else it may be recorded: sent again from its dead letter, it would run twice
            self._bury(Letter(address[:300], refused.code, in_words(refused), kind, content))
        if conversation_id is not None:
            self._tell(conversation_id, message_id, refused)

    def _enter(self) -> int | None:
        """Take one of the places for unanswered messages; None when there is none for too long."""
        with self._room:
            if len(self._open) >= MAX_OPEN:
                # An answer that was lost with an actor's life must not keep its place for ever. Oldest first.
                late = time.monotonic() - ANSWER_WITHIN
                for number in [number for number, since in self._open.items() if since < late]:
                    del self._open[number]
            if not self._room.wait_for(lambda: len(self._open) < MAX_OPEN, PATIENCE):
                return None
            self._number += 1
            self._open[self._number] = time.monotonic()
            return self._number

    def _leave(self, number: int) -> None:
        with self._room:
            self._open.pop(number, None)
            self._room.notify()

    def _count(self, what: str) -> None:
        with self._lock:
            self.figures[what] += 1

    def state(self) -> dict[str, Any]:
        """Return what `status` shows of it."""
        with self._lock:
            return dict(self.figures)
