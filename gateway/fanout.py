"""One subscription to the feed per conversation, however many clients follow it: each event is handed over once."""

from __future__ import annotations

from collections.abc import Callable

from gateway.loop_bridge import LoopBridge
from gateway.ports import LiveFeed, Unsubscribe
from messages.events import Event

Arrived = Callable[[Event], None]


class Fanout:
    """Used on the event loop only. A callback is called on the loop, must be quick, and must not raise."""

    def __init__(self, feed: Callable[[], LiveFeed], bridge: LoopBridge) -> None:
        self._feed = feed
        self._bridge = bridge
        self._followed: dict[str, tuple[dict[int, Arrived], Unsubscribe]] = {}
        self._number = 0

    def follow(self, conversation_id: str, arrived: Arrived) -> Unsubscribe:
        """Call `arrived` with every event of a conversation that is published from now on."""
        found = self._followed.get(conversation_id)
        if found is None:
            callbacks: dict[int, Arrived] = {}

            def pass_on(event: Event) -> None:
                for callback in callbacks.values():
                    callback(event)

            unsubscribe = self._feed().subscribe(
                conversation_id, lambda event: self._bridge.call(pass_on, event), quick=True
            )
            found = self._followed[conversation_id] = callbacks, unsubscribe
        callbacks, unsubscribe = found
        self._number += 1
        number = self._number
        callbacks[number] = arrived

        def leave() -> None:
            callbacks.pop(number, None)
            if not callbacks and self._followed.get(conversation_id) is found:
                del self._followed[conversation_id]
                unsubscribe()

        return leave
