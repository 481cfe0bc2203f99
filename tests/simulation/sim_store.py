"""Writer and reader of one daemon in virtual time: the real writer's steps, a store that is slow, fails, forgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from persistence.contract import Append, Committed, StoreUnavailable
from persistence.writer import Writer

if TYPE_CHECKING:
    from simulation.life import Life


class StoreFaults:
    """What is wrong with the store now; the world sets it, every daemon meets it."""

    def __init__(self) -> None:
        self.away_until = 0.0
        self.slow_until = 0.0
        self.unreadable_until = 0.0
        self.lose_answers = 0
        """Commits whose answer will not arrive although they are applied."""
        self.poison = 0
        """Appends that cannot be stored."""
        self.poisoned: Append | None = None

    def heal(self) -> None:
        self.__init__()  # type: ignore[misc]  # everything as at the beginning


class SimWriter(Writer):
    """The real writer, whose thread is the world."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = life.world
        self._waking: Any = None
        self._idle = False
        self.ended = False
        super().__init__(life.store, log=life.log, on_ownership_lost=life.ownership_lost, max_batch=8)

    def start(self) -> None:
        self._steps = self.steps()
        self._go_on()

    def submit(self, append: Append, done: Callable[[Any], None]) -> None:
        super().submit(append, done)
        self._wake()

    def submit_row(self, row: Any) -> bool:
        taken = super().submit_row(row)
        self._wake()
        return taken

    def stop(self, timeout: float) -> bool:
        """Commit what waits, as the real one does, but at once."""
        self._stopping = True
        while not self.ended:
            self._go_on()
        return not self._pending

    @property
    def busy(self) -> bool:
        return not self._idle and not self.ended

    def _wake(self) -> None:
        if self._idle and not self.ended:
            self._idle = False
            self._plan(self._world.chance.random() * 0.002)

    def _plan(self, delay: float) -> None:
        self._world.agenda.add(delay, self._life, "writer", self._go_on)

    def _go_on(self) -> None:
        try:
            pause = next(self._steps)
        except StopIteration:
            self.ended = True
            return
        if self._stopping:
            return  # `stop` goes on at once
        if pause is not None:
            self._plan(pause)
        elif self._pending or self._rows:
            self._plan(0.0)
        else:
            self._idle = True

    def _write(self, appends: Any, rows: Any) -> Any:
        world, faults = self._world, self._world.faults
        yield world.latency()
        if world.clock.now < faults.away_until:
            world.saw("commit found the store away")
            raise StoreUnavailable("the store is away")
        self._meet_poison(appends)
        outcomes = self._store.commit(appends, rows)
        if world.story is not None and appends:
            world.note("durable: " + ", ".join(f"{a.conversation_id}@{a.last_seq}" for a in appends))
        if len(appends) > 1:
            world.saw("a batch of several steps")
        for append, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, Committed):
                world.ledger.applied(append)
            else:
                world.saw("a step was refused: " + outcome.code)
                known = append.conversation_id in self._life.broken
                world.demand(known, "one writer", f"{append.conversation_id}@{append.last_seq}: {outcome.detail}")
        if faults.lose_answers and appends:
            faults.lose_answers -= 1
            world.saw("fault: answer of the store lost")
            raise StoreUnavailable("the answer was lost")
        yield world.latency()
        return outcomes

    def _meet_poison(self, appends: Any) -> None:
        world, faults = self._world, self._world.faults
        if faults.poison and appends and faults.poisoned is None:
            faults.poison -= 1
            faults.poisoned = world.chance.choice(appends)
        if any(append is faults.poisoned for append in appends):
            if len(appends) == 1:
                faults.poisoned = None
                self._life.broken.add(appends[0].conversation_id)
                world.saw("fault: row cannot be stored")
            raise ValueError("this row cannot be stored")


class ShiftedStore:
    """What trials change in the store, told to the ledger as well."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str]) -> None:
        self._life.store.shift_recoveries(by, conversation_ids)
        self._life.world.ledger.shifted(by, conversation_ids)


class SimReader:
    """Reads after a while and tells after another; the store may have gone on in between."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._world = life.world

    def load(self, conversation_id: str, recent: int, done: Callable[[Any], None], *, whole: bool = False) -> None:
        self._read("load", lambda: self._life.store.load(conversation_id, recent=recent, whole=whole), done)

    def find_message(self, conversation_id: str, message_id: str, done: Callable[[Any], None]) -> None:
        self._world.saw("branch: message id looked up in the store")
        self._read("look up", lambda: self._life.store.find_message(conversation_id, message_id), done)

    def find(self, key: str, done: Callable[[tuple[Any, bytes] | None], None]) -> None:
        def found(row: Any) -> None:
            done(None if row is None or isinstance(row, BaseException) else (from_json(row.body), row.body))

        self._read("cache", lambda: self._life.store.cached_result(key, self._world.clock.now_ms()), found)

    def submit(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._read("note", function, done)

    def _read(self, what: str, read: Callable[[], Any], done: Callable[[Any], None]) -> None:
        world = self._world

        def now() -> None:
            if world.clock.now < world.faults.unreadable_until:
                world.saw("fault: reading fails")
                answer: Any = StoreUnavailable("the store cannot be read")
            else:
                answer = read()
            world.agenda.add(world.latency() / 2, self._life, f"read: {what}", lambda: done(answer))

        world.agenda.add(world.latency() / 2, self._life, f"reads: {what}", now)
