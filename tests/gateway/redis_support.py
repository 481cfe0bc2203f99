"""What the tests of the Redis door share: a daemon that answers at once, and a door to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway_support import FakeRouter
from pydantic import SecretStr
from redis_running import RedisServer, until

from gateway import redis_inbox
from gateway.redis_door import RedisDoor
from gateway.redis_payload import Letter


@dataclass
class DoorSettings:
    redis_url: SecretStr | None
    redis_prefix: str = "orch"
    redis_log_length: int = 1_000
    redis_log_keep: float = 60.0
    max_message_bytes: int = 65_536


@dataclass
class QuickRouter(FakeRouter):
    """Answers on the caller's thread; refuses the texts it is told to, raises for others."""

    refusals: dict[str, list[Any]] = field(default_factory=dict)
    """Text to the answers it gets first."""
    poison: str = "poison"
    mute: str = "mute"
    asked: list[str] = field(default_factory=list)

    def submit(self, message: Any, answer: Any) -> None:
        text = getattr(message, "text", "")
        self.asked.append(text)
        if text == self.poison:
            raise RuntimeError("cannot be handled")
        if text == self.mute:
            return
        if self.refusals.get(text):
            answer(self.refusals[text].pop(0))
            return
        self._take(message, answer)

    @property
    def texts(self) -> list[str]:
        return [getattr(message, "text", message.type) for message in self.submitted]


@dataclass
class OpenDoor:
    """A door and what came of it."""

    door: RedisDoor
    router: QuickRouter
    server: RedisServer
    letters: list[Letter]
    told: list[tuple[str, dict[str, Any]]]

    def names(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.told if name == event]

    def connected(self) -> OpenDoor:
        until(lambda: self.door.connected, "connected")
        return self

    def settled(self) -> bool:
        """Nothing of the inbox is left."""
        client = self.server.client()
        with contextlib.closing(client):
            return client.xlen("orch:inbox") == 0 and client.xpending("orch:inbox", "orchestrator")["pending"] == 0


@contextlib.contextmanager
def opened(
    server: RedisServer,
    router: QuickRouter | None = None,
    *,
    url: str | None = None,
    wait: bool = True,
    unfinished: tuple[str, ...] = (),
    **settings: Any,
) -> Iterator[OpenDoor]:
    letters: list[Letter] = []
    told: list[tuple[str, dict[str, Any]]] = []
    router = router or QuickRouter()

    def bury(letter: Letter) -> bool:
        letters.append(letter)
        if letter.written is not None:
            letter.written(True)
        return True

    def log(event: str, /, **fields: Any) -> None:
        told.append((event, fields))

    usual, redis_inbox.LONGEST_WAIT = redis_inbox.LONGEST_WAIT, 0.05  # so that doors close quickly
    door = RedisDoor(router, DoorSettings(SecretStr(url or server.url), **settings), bury=bury, log=log)
    door.start(list(unfinished))
    open_door = OpenDoor(door, router, server, letters, told)
    try:
        if wait:
            open_door.connected()
        yield open_door
    finally:
        ended = door.stop(5.0)
        redis_inbox.LONGEST_WAIT = usual
        assert ended, "a link did not end"
