"""A thread with a connection to Redis that outlives every failure: connect, work, wait, connect again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from gateway.ports import Log
from gateway.redis_ports import BadUrl
from persistence.contract import StoreUnavailable
from persistence.redis_wire import set_up as prepare

ANSWER_WITHIN = 2.0
"""Seconds for an answer of the server; a connection that is slower is given up as half-open."""
FIRST_DELAY = 0.05
LONGEST_DELAY = 1.0
"""Seconds between tries, jitter not included: short enough to be back within 2 s after the server is."""
STEADY = 5.0
"""Seconds of work after which a failure counts as the first one again."""

Jitter = Callable[[], float]
Work = Callable[[Redis], None]
_EXPECTED = (RedisError, OSError, StoreUnavailable)
"""Outages of the server and of the store; whatever else escapes the work is a defect of ours."""


class Place:
    """Where the server is and how to get in."""

    def __init__(self, url: str) -> None:
        try:
            options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]  # the driver's
        except ValueError:
            raise BadUrl("redis_url cannot be read as a redis://, rediss:// or unix:// URL") from None
        self._secret: str | None = options.get("password") or None
        self.address = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
        """For people; without user and password."""
        self._options: dict[str, Any] = {
            "socket_timeout": ANSWER_WITHIN,
            "socket_connect_timeout": ANSWER_WITHIN,
            **options,
            # Failures are the link's to handle: the driver tries nothing twice behind its back.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,  # no CLIENT SETINFO: one right less to give, and no line in the server's ACL log
            "decode_responses": False,
            "encoding": "utf-8",
        }

    def connect(self) -> Redis:
        """Return a client; it connects with its first command, and never again.

        The driver would replace an idle connection that broke without a word, and with it what the server knew.
        """
        return Redis(connection_pool=ConnectionPool(**self._options, redis_connect_func=_once(), max_connections=1))

    def clean(self, text: str) -> str:
        """Return a text without the password."""
        return text.replace(self._secret, "***") if self._secret else text


class Link:
    """Runs `work(client)` in a thread until it is halted; outages are said, and it is run again after a while.

    A defect ends the thread and is told to who started it; if nobody wants to know, it is treated like an outage.
    `work` calls `up` when the server has answered all that is needed to be of use, and returns when `stopping` is set.
    """

    def __init__(self, name: str, place: Place, log: Log, jitter: Jitter = random.random) -> None:
        self.name = name
        self.stopping = threading.Event()
        self.connected = False
        self.since = time.time()
        """When `connected` last changed; seconds since the epoch."""
        self.last_error: str | None = None
        self.reconnects = 0
        """Times the connection came back after it had been up."""
        self._place = place
        self._log = log
        self._jitter = jitter
        self._ups = 0
        self._up_at: float | None = None
        self._failures = 0
        self._told: str | None = None
        self._thread: threading.Thread | None = None
        self._work: Work | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._starts = 0
        self._ended: Callable[[BaseException], None] | None = None
        self._waits: Callable[[str | None], None] = lambda _reason: None

    def do(self, work: Work) -> None:
        """Say what to do; not while it runs."""
        self._work = work

    def start(
        self,
        ended: Callable[[BaseException], None] | None = None,
        waits: Callable[[str | None], None] = lambda _reason: None,
    ) -> None:
        """Begin, after the end of an earlier thread; nothing happens once it was stopped.

        `ended` is told of a defect, `waits` what it waits for, None when the server serves us; from any thread.
        """
        with self._lock:
            if self._closed:
                return
            self._ended, self._waits = ended, waits
            self._starts += 1
            self._thread = threading.Thread(
                target=self._run, args=(self._starts, self._thread), name=f"redis-{self.name}", daemon=True
            )
            self._thread.start()

    def halt(self) -> None:
        """Let the thread end soon; it may be started again."""
        self.stopping.set()

    def stop(self, timeout: float) -> bool:
        """End it for good; return whether it did within `timeout` seconds."""
        with self._lock:
            self._closed = True
            self.stopping.set()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def up(self) -> None:
        """Note that the server serves us."""
        if self.connected:
            return
        self.connected, self.since, self._up_at = True, time.time(), time.monotonic()
        self.reconnects += self._ups > 0
        self._ups += 1
        self._told = None
        self._waits(None)
        self._log("redis_connected", link=self.name, address=self._place.address, reconnects=self.reconnects)

    def state(self) -> dict[str, Any]:
        """Return what `status` shows of it."""
        return {
            "connected": self.connected,
            "since": round(self.since, 3),
            "last_error": self.last_error,
            "reconnects": self.reconnects,
            "restarts": max(0, self._starts - 1),
        }

    def _run(self, number: int, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # what the work has in hand belongs to one thread
        with self._lock:
            if self._closed or number != self._starts:
                return
            self.stopping.clear()
        self._waits(f"connecting to {self._place.address}")
        while not self.stopping.is_set():
            client: Redis | None = None
            try:
                client = self._place.connect()
                assert self._work is not None
                self._work(client)
            except BaseException as error:  # noqa: BLE001  # a thread that dies unnoticed shuts its door: told, or tried again
                delay = self._down(error)
                if self._ended is not None and not isinstance(error, _EXPECTED):
                    self._ended(error)
                    return
                self.stopping.wait(delay)
            finally:
                if client is not None:
                    _close(client)
        self.connected, self.since = False, time.time()

    def _down(self, error: BaseException) -> float:
        """Note a failure; return how long to wait."""
        if self.connected:
            self.connected, self.since = False, time.time()
        if self._up_at is not None and time.monotonic() - self._up_at >= STEADY:
            self._failures = 0
        self._up_at = None
        delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._failures, 10))
        delay *= 1 + 0.2 * self._jitter()
        self._failures += 1
        self._waits(f"reconnecting after {type(error).__name__}")
        self.last_error = self._place.clean(f"{type(error).__name__}: {error}")[:500]
        # An outage is said once, and again when its reason changes: refused at first, then a wrong password.
        kind = type(error).__name__
        if kind != self._told:
            self._told = kind
            level = None if isinstance(error, (RedisError, OSError)) else "error"
            said = {"error_message": self.last_error, "retry_delay": round(delay, 3)}
            self._log("redis_lost", level=level, link=self.name, **said)
        return delay


def _once() -> Callable[[Any], None]:
    """Return what sets a connection up, the first time it is asked."""
    used = False

    def set_up(connection: Any) -> None:
        nonlocal used
        if used:
            raise RedisConnectionError("the server closed the connection")
        used = True
        prepare(connection)

    return set_up


def _close(client: Redis) -> None:
    try:
        client.connection_pool.disconnect()
    except (RedisError, OSError):
        return  # it is gone already


def is_missing_group(error: ResponseError) -> bool:
    """Say whether the server knows no such consumer group (or no such stream)."""
    text = str(error)
    return "NOGROUP" in text or "no such key" in text.lower()
