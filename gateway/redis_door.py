"""The Redis door: pub/sub in, the inbox stream, events out; three links to one server, a thread for each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.ports import FrontDoor, Log, silent
from gateway.redis_events import Publisher
from gateway.redis_inbox import Inbox
from gateway.redis_link import Link, Place
from gateway.redis_ports import Bury, RedisSettings
from gateway.redis_pubsub import Listener
from gateway.redis_stream import InboxStream


class RedisDoor:
    """`start` returns at once, whether the server is there or not. Raises `BadUrl` for an address nobody can read."""

    def __init__(
        self,
        router: FrontDoor,
        settings: RedisSettings,
        *,
        bury: Bury,
        log: Log = silent,
    ) -> None:
        if settings.redis_url is None:
            raise ValueError("there is no redis_url")
        place = Place(settings.redis_url.get_secret_value())
        self._settings = settings
        self._links = {name: Link(name, place, log) for name in ("events", "inbox", "pubsub")}
        prefix = settings.redis_prefix
        self._stream = InboxStream(prefix)
        self.publisher = Publisher(
            prefix,
            self._links["events"],
            router,
            log=log,
            length=settings.redis_log_length,
            keep=settings.redis_log_keep,
        )
        shared: dict[str, Any] = {
            "bury": bury,
            "tell": self.publisher.tell,
            "expect": self.publisher.expect,
            "max_bytes": lambda: self._settings.max_message_bytes,
            "log": log,
        }
        self.inbox = Inbox(self._stream, self._links["inbox"], router, **shared)
        self.listener = Listener(prefix, self._links["pubsub"], router, **shared)
        for name, part in (("events", self.publisher), ("inbox", self.inbox), ("pubsub", self.listener)):
            self._links[name].do(part.work)

    def open(self, unfinished: list[str]) -> Mapping[str, Link]:
        """Return what somebody has to start and to start again, and listen for events from now on.

        `unfinished` are conversations whose newest events a daemon that died may not have passed on.
        """
        self.publisher.listen(unfinished)
        return MappingProxyType(self._links)

    def start(self, unfinished: list[str]) -> None:
        """Open, and start everything without supervision."""
        for link in self.open(unfinished).values():
            link.start()

    def stop(self, timeout: float = 3.0) -> bool:
        """Read nothing more, settle what is answered, send what was handed over; return whether all ended in time."""
        deadline = time.monotonic() + timeout
        ended = True
        self._links["pubsub"].stopping.set()
        for name in ("inbox", "pubsub", "events"):
            link = self._links[name]
            link.stopping.set()
            if name == "events":
                self.publisher.close()
                self.publisher.wake()
            ended = link.stop(max(0.1, deadline - time.monotonic())) and ended
        return ended

    def configure(self, settings: RedisSettings) -> None:
        """Obey a reloaded configuration; address, password, prefix and the logs' bounds stay as they are."""
        self._settings = settings

    @property
    def connected(self) -> bool:
        """Whether all three links are up."""
        return all(link.connected for link in self._links.values())

    def check(self) -> str:
        """Return what is well; raises `RuntimeError` with what is not."""
        down = {name: link for name, link in self._links.items() if not link.connected}
        if down:
            said = "; ".join(
                f"{name} not connected for {time.time() - link.since:.0f} s: {link.last_error}"
                for name, link in down.items()
            )
            raise RuntimeError(said)
        restarts = sum(int(link.state()["restarts"]) for link in self._links.values())
        waiting = f"{self._stream.pending_count or 0} pending, {self._stream.unread or 0} unread in the inbox"
        return f"connected; {waiting}; {restarts} restarts"

    def status(self) -> dict[str, Any]:
        """Return what `status` shows."""
        parts: dict[str, Any] = {"inbox": self.inbox, "pubsub": self.listener, "events": self.publisher}
        return {
            "connected": self.connected,
            "pending": self._stream.pending_count,
            "lag": self._stream.unread,
            **{name: {**self._links[name].state(), **part.state()} for name, part in parts.items()},
        }

    def gauges(self) -> dict[str | tuple[str, str], float]:
        """Return figures for the metrics page."""
        inbox, pubsub, events = self.inbox.state(), self.listener.state(), self.publisher.state()
        return {
            "redis_up": float(self.connected),
            "redis_reconnects": sum(link.reconnects for link in self._links.values()),
            "redis_inbox_pending": float(self._stream.pending_count or 0),
            "redis_inbox_lag": float(self._stream.unread or 0),
            "redis_inbox_lost": inbox["lost"],
            ("redis_received", "stream"): inbox["received"],
            ("redis_received", "pubsub"): pubsub["received"],
            ("redis_refused", "stream"): inbox["refused"],
            ("redis_refused", "pubsub"): pubsub["refused"],
            "redis_events_waiting": events["waiting"],
            "redis_events_behind": events["behind"],
            "redis_events_dropped": events["dropped"],
            "redis_events_logged": events["logged"],
        }
