"""Events as a stream (SSE): first from the journal, then live, without a gap and without a double.

The stream subscribes before it reads, drops live events the journal has already given, and goes back to the journal
whenever a live event does not follow the last one sent. So a client that reads slowly costs a bounded queue and misses
nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.doorway import Doorway, when_sent_all
from gateway.gate import HEAD
from gateway.problems import Problem
from gateway.protocol import ABORT
from messages.events import Event, public_json

PAGE = 500
QUEUE_LIMIT = 1_000
"""Live events kept for a client that reads slowly; more are read again from the journal."""
SEND_TIMEOUT = 60.0
"""Seconds a client may take to accept what is sent; then it is taken for gone."""
HEARTBEAT = b": alive\n\n"
BEGINNING = b"retry: 1000\n\n"
_REMEMBERED = 1_024


class Encoder:
    """Encodes each event once, however many clients follow; used on the event loop only."""

    def __init__(self) -> None:
        # By identity: the event itself is kept too, so that its id cannot be given to another one.
        self._done: OrderedDict[int, tuple[Event, bytes]] = OrderedDict()

    def encode(self, event: Event) -> bytes:
        """Return one SSE message; events that are not journaled have no id."""
        known = self._done.get(id(event))
        if known is not None:
            return known[1]
        data = public_json(event)
        message = b"id: %d\ndata: %b\n\n" % (event.seq, data) if event.seq else b"data: %b\n\n" % data
        self._done[id(event)] = (event, message)
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return message


class EventStream(Response):
    """The response that follows one conversation until the client goes or the server stops."""

    def __init__(self, door: Doorway, encoder: Encoder, conversation_id: str, after: int | None) -> None:
        """Begin after sequence number `after`; None: with what comes next."""
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._door = door
        self._encoder = encoder
        self._conversation_id = conversation_id
        self._after = after
        self._live: deque[Event] = deque()
        self._behind = False
        """True when the journal has events that are neither sent nor in `_live`."""
        self._wake = asyncio.Event()
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events; the subscription ends with this call, however it ends."""
        door = self._door
        if door.streams >= door.max_streams:
            raise Problem("too_many_streams", f"{door.streams} clients follow events, which is all that are taken")
        if scope.get(HEAD):
            await self._first_page()  # for what it refuses
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        unsubscribe = door.fanout.follow(self._conversation_id, self._arrived)
        door.streams += 1
        watch = asyncio.create_task(self._watch(receive))
        when_sent_all(scope, self._leave)
        try:
            last, page = await self._first_page()
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send(send, BEGINNING + self._encode(page))
            with suppress(Problem):  # the store is gone: the client comes back with the last id it has seen
                await self._follow(send, page[-1].seq if page else last)
            await self._send(send, b"", more=False)
        except TimeoutError:
            # It took nothing for so long that no last word would reach it; its Last-Event-ID brings it up to date.
            door.log("stream_dropped", conversation_id=self._conversation_id, timeout=SEND_TIMEOUT)
            await _abort(scope)
        finally:
            unsubscribe()
            door.streams -= 1
            watch.cancel()

    async def _first_page(self) -> tuple[int, Sequence[Event]]:
        door = self._door
        if self._after is None:
            return await self._newest(), ()
        page = await door.read(door.router.events, self._conversation_id, self._after, PAGE)
        if page is None:
            raise unknown_conversation(self._conversation_id)
        if self._after and not page and 0 < (newest := await self._newest()) < self._after:
            detail = f"the journal ends with {newest}: there is no event {self._after} any more, or there never was"
            raise Problem("ahead_of_journal", detail, seq=newest)
        self._behind = self._behind or len(page) == PAGE
        return self._after, page

    async def _newest(self) -> int:
        newest = await self._door.read(self._door.router.newest_seq, self._conversation_id)
        if newest is None:
            raise unknown_conversation(self._conversation_id)
        return newest

    async def _follow(self, send: Send, last: int) -> None:
        while not self._ended:
            while self._behind and not self._ended:
                self._behind = False  # before the read: what overflows during it must be read again
                page = await self._door.read(self._door.router.events, self._conversation_id, last, PAGE) or ()
                if page:
                    last = page[-1].seq
                    await self._send(send, self._encode(page))
                self._behind = self._behind or len(page) == PAGE
                if not self._behind and self._live and self._live[0].seq > last + 1:
                    last = self._live[0].seq - 1  # the journal no longer has what lies between
            fresh, last = self._take_live(last)
            if fresh:
                await self._send(send, self._encode(fresh))
            if not self._behind and not self._live:
                await self._rest(send)

    def _take_live(self, last: int) -> tuple[list[Event], int]:
        fresh: list[Event] = []
        while self._live:
            event = self._live[0]
            if event.seq > last + 1:
                self._behind = True
                break
            self._live.popleft()
            if event.seq == 0:
                fresh.append(event)
            elif event.seq == last + 1:
                fresh.append(event)
                last = event.seq
        return fresh, last

    async def _rest(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._door.heartbeat):
                while not self._live and not self._behind and not self._ended:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            await self._send(send, HEARTBEAT)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": body, "more_body": more})

    def _encode(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._encoder.encode(event) for event in events])

    @property
    def _ended(self) -> bool:
        return self._gone or self._door.closing.is_set()

    def _arrived(self, event: Event) -> None:
        if len(self._live) >= QUEUE_LIMIT:
            self._live.clear()
            self._behind = True
        else:
            self._live.append(event)
        self._wake.set()

    def _leave(self) -> None:
        # Most often it has gone. One that has not gets the page that is read now, and comes back with its last id.
        self._gone = True
        self._wake.set()

    async def _watch(self, receive: Receive) -> None:
        """Notice the client's going, or the server's end, while there is nothing to send."""
        closing = asyncio.create_task(self._door.closing.wait())
        try:
            while not closing.done() and not self._gone:
                message = asyncio.ensure_future(receive())
                await asyncio.wait({closing, message}, return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    message.cancel()
                elif message.result()["type"] == "http.disconnect":
                    self._gone = True
        finally:
            closing.cancel()
            self._wake.set()


async def _abort(scope: Scope) -> None:
    """End the connection with what was not sent: closed, it would wait for a client that does not read."""
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is not None:
        abort["call"]()
        await asyncio.sleep(0)  # the server notices in its next turn that there is nobody to answer


def unknown_conversation(conversation_id: str) -> Problem:
    """Return the answer for a conversation nobody has spoken in."""
    return Problem("not_found", f"there is no conversation {conversation_id}")
