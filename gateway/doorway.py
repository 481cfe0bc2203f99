"""What the routes share: the daemon behind the door, its rules, and the bridge to the event loop they run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Scope

from gateway.access import Access
from gateway.fanout import Fanout
from gateway.loop_bridge import LoopBridge
from gateway.ports import FrontDoor, HttpSettings, Log, silent
from gateway.problems import Problem
from gateway.protocol import SENT_ALL
from gateway.read_threads import ReadThreads
from messages.inbound import Accepted, Answer, Cancel, Pause, Refused, Resume, UserMessage

T = TypeVar("T")

ANSWER_TIMEOUT = 30.0
"""Seconds until a message is durable, whatever the store says of itself."""
PATIENCE = 4.0
"""Seconds that a sender waits for a store that does not answer."""
_LOOK_EVERY = 0.5
STOP_GRACE = 1.0
"""Seconds that it is waited for when the server stops: whoever sent it should hear that it was accepted."""


@dataclass(slots=True)
class Doorway:
    """One per HTTP app; used on the event loop's thread only, but for `configure`."""

    router: FrontDoor
    settings: HttpSettings
    metrics: Callable[[], bytes]
    version: str
    phases: Collection[str] = ()
    """Phases that a list may be filtered by; any word when empty."""
    log: Log = silent
    heartbeat: float = 15.0
    """Seconds of silence after which a stream says that it is alive: well below the idle timeouts of proxies."""
    max_streams: int = 2_000
    """More are refused: each costs a file descriptor, and a system may give a process as few as 1,024."""
    stalled: Callable[[], str | None] = lambda: None
    """Why the store confirms nothing now, once it is silent for some seconds; None while it answers."""
    access: Access = field(init=False)
    streams: int = 0
    half_closed: int = 0
    """Clients that have shut down their sending side and wait; or have gone, which is known after a minute."""
    max_half_closed: int = 250
    """More are answered at once: clients in a hurry, that have gone, must not use up all descriptors."""
    _loop: asyncio.AbstractEventLoop | None = None
    _bridge: LoopBridge | None = None
    _threads: ReadThreads | None = None
    _scraper: ReadThreads | None = None
    """For the metrics alone: they are wanted most when the store hangs, and all other threads with it."""
    _fanout: Fanout | None = None
    _closing: asyncio.Event | None = None
    _waits: dict[asyncio.Future[Any], float] = field(default_factory=dict)
    """What is waited for, and for how many seconds more when the server stops."""
    _unconfirmed: dict[asyncio.Future[Any], float] = field(default_factory=dict)
    """Senders whose messages are on their way, oldest first: each since when, on the loop's clock."""
    _looking: bool = False

    def __post_init__(self) -> None:
        """Take the rules from the settings."""
        self.configure(self.settings)

    def configure(self, settings: HttpSettings) -> None:
        """Obey new settings from the next request on."""
        self.settings = settings
        self.access = Access.from_settings(settings)

    # The loop

    def enter_loop(self) -> None:
        """Bind to the running loop; called with every request, does its work with the first."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._bridge = LoopBridge(loop)
            self._threads = ReadThreads(self._bridge)
            self._scraper = ReadThreads(self._bridge, threads=1)
            self._fanout = Fanout(lambda: self.router.feed, self._bridge)
            self._closing = asyncio.Event()

    @property
    def bridge(self) -> LoopBridge:
        """The way from other threads to the loop."""
        assert self._bridge is not None, "enter_loop comes first"
        return self._bridge

    @property
    def fanout(self) -> Fanout:
        """Where live events come from."""
        assert self._fanout is not None, "enter_loop comes first"
        return self._fanout

    @property
    def closing(self) -> asyncio.Event:
        """Set when the server stops: whoever waits ends now."""
        assert self._closing is not None, "enter_loop comes first"
        return self._closing

    def close(self) -> None:
        """End streams and waits; called on the loop."""
        if self._closing is not None:
            self._closing.set()
        for future, grace in self._waits.items():
            asyncio.get_running_loop().call_later(grace, give_up, future)
        for threads in (self._threads, self._scraper):
            if threads is not None:
                threads.stop()

    @contextmanager
    def attending(self, scope: Scope, reply: asyncio.Future[Any]) -> Iterator[None]:
        """Wait no longer for `reply` than there is room for, once the client has shut down its sending side."""
        counted = over = False

        def sent_all() -> None:
            nonlocal counted
            if over:  # the answer is on its way already
                return
            if self.half_closed >= self.max_half_closed:
                give_up(reply)
            else:
                counted = True
                self.half_closed += 1

        when_sent_all(scope, sent_all)
        try:
            yield
        finally:
            over = True
            self.half_closed -= counted

    async def in_time(self, future: asyncio.Future[T | None], seconds: float, grace: float = 0.0) -> T | None:
        """Return what `future` becomes; None when so many seconds are over, or `grace` seconds after a stop."""
        # A timer and a table, where `asyncio.wait` would take a task and an event for each of many callers at once.
        seconds = min(seconds, grace) if self.closing.is_set() else seconds
        timer = asyncio.get_running_loop().call_later(seconds, give_up, future)
        self._waits[future] = grace
        try:
            return await future
        finally:
            timer.cancel()
            del self._waits[future]

    # The daemon

    async def read(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a blocking verb of the daemon on a thread. Raises `Problem` when the store does not answer."""
        assert self._threads is not None, "enter_loop comes first"
        return await self._threads.read(function, *args, **options)

    async def scrape(self) -> bytes:
        """Return the metrics."""
        assert self._scraper is not None, "enter_loop comes first"
        return await self._scraper.read(self.metrics)

    def stats(self) -> dict[str, int]:
        """Return how many clients follow events, and how many reads wait or found no place, from any thread."""
        threads = self._threads
        return {
            "sse_clients": self.streams,
            "http_reads_waiting": 0 if threads is None else threads.waiting,
            "http_reads_refused": 0 if threads is None else threads.refused,
        }

    def operated(self, request: Request, action: str, who: Mapping[str, Any], outcome: str, **about: Any) -> None:
        """Leave the one line, and row, of what somebody has changed or tried to."""
        self.log(
            "operator_action",
            action=action,
            by=who.get("by") or sender(request),
            reason=who.get("reason"),
            outcome=outcome,
            **about,
        )

    async def submit(self, message: UserMessage | Cancel | Pause | Resume) -> Accepted:
        """Hand a message over and return the answer. Raises `Problem` when it is refused, or nobody can say yet."""
        answered: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        bridge = self.bridge

        def settle(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.router.submit(message, lambda answer: bridge.call(settle, answer))
        self._watch(answered)
        try:
            answer: Answer | None = await self.in_time(answered, ANSWER_TIMEOUT, STOP_GRACE)
        finally:
            del self._unconfirmed[answered]
        if answer is None:
            raise Problem("store_unavailable", _not_known(message, self.stalled()), outcome="unknown")
        if isinstance(answer, Refused):
            raise Problem.from_refusal(answer)
        return answer

    def _watch(self, answered: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        self._unconfirmed[answered] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Let go of who waited long enough for a store that is silent; what they sent stays on its way."""
        loop = asyncio.get_running_loop()
        self._looking = bool(self._unconfirmed)
        if self._looking:
            loop.call_later(_LOOK_EVERY, self._look)
        if self.stalled() is not None:
            latest = loop.time() - PATIENCE
            for answered, since in self._unconfirmed.items():
                if since > latest:
                    break
                give_up(answered)


def _not_known(message: UserMessage | Cancel | Pause | Resume, why: str | None) -> str:
    """Return what a sender is told whose message may be durable now, or later, or never."""
    detail = f"the store has not confirmed this in time{'' if why is None else f' ({why})'}, and still may; "
    if not isinstance(message, UserMessage):
        return detail + "look at the conversation before saying it again"
    if message.message_id is None:
        return detail + "as it had no message_id, sending it again may ask twice: look at the conversation first"
    return detail + "sending the same message_id again is safe"


def when_sent_all(scope: Scope, then: Callable[[], None]) -> None:
    """Let `then` be called once the client has shut down its sending side: at once if it has."""
    extension = scope.get("extensions", {}).get(SENT_ALL)
    if extension is not None:
        extension["call"](then)


def give_up(future: asyncio.Future[Any]) -> None:
    """Let who waits for it go on with None, unless it has come."""
    if not future.done():
        future.set_result(None)


def sender(request: Request) -> str:
    """Return who is taken to have sent a request that does not say it."""
    return f"http {request.client.host}" if request.client else "http"
