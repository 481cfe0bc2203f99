"""Stream entries between being read and being settled: one lane per conversation, only its first is under way.

So entries of one conversation are taken in the order of the stream, also when one has to wait and be tried again, and
a conversation that cannot take more holds up nobody else: the bodies of its entries are let go (the stream has them).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

from gateway.redis_payload import Inbound


@dataclass(slots=True)
class Entry:
    """One entry that is ours to settle."""

    id: str
    conversation_id: str
    message: Inbound | None
    """None while it waits so long that its body was let go."""
    failures: int = 0
    """Deliveries and tries that ended in nothing."""
    refusals: int = 0
    """Answers that told us to come again."""
    asked_at: float | None = None
    """When the daemon was asked last and has not answered yet; monotonic seconds."""


class Lanes:
    """Used by one thread."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Entry]] = {}
        self._ready: deque[Entry] = deque()
        self._later: list[tuple[float, int, Entry]] = []
        self._number = 0
        self._known: dict[str, Entry] = {}
        self._asked: dict[str, Entry] = {}
        self.loaded = 0
        """Entries whose body is in memory."""

    def __len__(self) -> int:
        """Entries that are not settled."""
        return len(self._known)

    def __contains__(self, entry_id: str) -> bool:
        """Whether an entry is ours already."""
        return entry_id in self._known

    def find(self, entry_id: str) -> Entry | None:
        """Return an entry that is not settled."""
        return self._known.get(entry_id)

    def ids(self) -> list[str]:
        """Return all that is not settled."""
        return list(self._known)

    def add(self, entry: Entry) -> None:
        """Take an entry in, behind those of its conversation."""
        self._known[entry.id] = entry
        self.loaded += entry.message is not None
        lane = self._lanes.setdefault(entry.conversation_id, deque())
        lane.append(entry)
        if len(lane) == 1:
            self._ready.append(entry)
        elif lane[0].message is None:
            self.unload(entry)

    def take(self, now: float) -> list[Entry]:
        """Return the entries whose turn it is."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heappop(self._later)[2])
        taken = {e.id: e for e in self._ready if e.id in self._known and e.id not in self._asked}
        self._ready.clear()
        return list(taken.values())

    def ask(self, entry: Entry, now: float) -> None:
        """Note that the daemon is asked."""
        entry.asked_at = now
        self._asked.pop(entry.id, None)
        self._asked[entry.id] = entry

    @property
    def asked(self) -> int:
        """Entries the daemon has not answered."""
        return len(self._asked)

    def is_asked(self, entry: Entry) -> bool:
        """Say whether the daemon owes an answer."""
        return entry.id in self._asked

    def give_back(self, entries: list[Entry]) -> None:
        """Let entries that were taken have their turn again."""
        self._ready.extend(entries)

    def overdue(self, before: float) -> list[Entry]:
        """Return the entries the daemon was asked about before a time and has not answered."""
        late = []
        for entry in self._asked.values():
            if entry.asked_at is None or entry.asked_at > before:
                break  # they are in the order of asking
            late.append(entry)
        return late

    def hold(self, entry: Entry, due: float, *, unload: bool) -> None:
        """Let the first of a lane wait until `due`, and with it all behind it."""
        self._asked.pop(entry.id, None)
        self._number += 1
        heappush(self._later, (due, self._number, entry))
        if unload:
            for one in self._lanes[entry.conversation_id]:
                self.unload(one)

    def unload(self, entry: Entry) -> None:
        """Let the body go."""
        self.loaded -= entry.message is not None
        entry.message = None

    def load(self, entry: Entry, message: Inbound) -> None:
        """Have the body back."""
        self.loaded += entry.message is None
        entry.message = message

    def settle(self, entry: Entry) -> None:
        """Forget an entry; the next one of its conversation has its turn."""
        del self._known[entry.id]
        self._asked.pop(entry.id, None)
        self.loaded -= entry.message is not None
        lane = self._lanes[entry.conversation_id]
        first = lane[0] is entry
        lane.remove(entry)
        if not lane:
            del self._lanes[entry.conversation_id]
        elif first:
            self._ready.append(lane[0])

    def due(self) -> float | None:
        """Return when the next waiting entry has its turn."""
        return self._later[0][0] if self._later else None
