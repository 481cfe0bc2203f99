"""How much is accepted and unfinished, over all conversations that are awake, and whether more is taken.

Each conversation says how many of its requests have no reply yet; it alone says so, and says the whole number, so that
nothing can drift, whatever crashes. A request is admitted under the lock: the bound holds exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from workflow.state import State


class Load:
    """Every method may be called from any thread."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        """Requests; None: any number. May be changed while running; what is accepted already stays accepted."""
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._total = 0

    @property
    def total(self) -> int:
        """Requests without a reply."""
        return self._total

    @property
    def full(self) -> bool:
        """Whether no more is taken now."""
        return self.limit is not None and self._total >= self.limit

    def expect(self, conversation_ids: Iterable[str]) -> None:
        """Count each of these as one until it says its number: it has unfinished work and is about to be woken."""
        for conversation_id in conversation_ids:
            self._set(conversation_id, 1)

    def admit(self, conversation_id: str) -> bool:
        """Count one more request, unless that is too many."""
        with self._lock:
            if self.full:
                return False
            self._counts[conversation_id] = self._counts.get(conversation_id, 0) + 1
            self._total += 1
            return True

    def is_unfinished(self, conversation_id: str) -> bool:
        """Return whether a conversation has requests without a reply, as far as is known."""
        return conversation_id in self._counts

    def note(self, state: State) -> None:
        """Take the number of a conversation from its newest state."""
        self._set(state.conversation_id, (state.request is not None) + len(state.queue))

    def forget(self, conversation_id: str) -> None:
        """Count nothing for a conversation that has left memory."""
        self._set(conversation_id, 0)

    def _set(self, conversation_id: str, number: int) -> None:
        with self._lock:
            before = self._counts.pop(conversation_id, 0)
            if number:
                self._counts[conversation_id] = number
            self._total += number - before
