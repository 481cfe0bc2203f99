"""Tries conversations of which one may bring the daemon down, some at a time, while the others are held back.

Who is tried, and who is quarantined when the daemon dies all the same, is decided in supervision/suspects.py. What is
known of it between two daemons is the recoveries that the store counts: of those held back they are taken back, of
those whose turn it is they are counted, and of those that did no harm nothing above the limit is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from actors.system import ActorSystem
from persistence.contract import Store
from persistence.reader import Reader
from supervision.suspects import Triage, to_try

TRIAL: Final = 30.0
"""Seconds that the daemon must live with those it tries; less when all of them have nothing more to do."""
_LOOK_EVERY: Final = 0.5
_AGAIN: Final = 5.0
"""Seconds until a store that could not note the outcome is asked again."""
_NAMED: Final = 20


class Trials:
    """One at most is under way, from the start of the daemon on."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        system: ActorSystem,
        *,
        wake: Callable[[Sequence[str]], None],
        is_unfinished: Callable[[str], bool],
        log: Callable[..., None],
    ) -> None:
        """`wake` takes conversations up; from any thread, as `is_unfinished` and `log`."""
        self._store = store
        self._reader = reader
        self._system = system
        self._wake = wake
        self._is_unfinished = is_unfinished
        self._log = log
        self._tried: dict[str, int] = {}
        """Those on trial, and the recoveries that the store counts of each."""
        self._held: dict[str, int] = {}
        self._left = 0.0

    def begin(self, found: Triage, recoveries: Mapping[str, int], limit: int) -> None:
        """Hold back whom `found` says; those tried have been taken up by whoever calls. Raises `StoreError`."""
        self._limit = limit
        self._tried = {name: recoveries[name] for name in found.tried}
        self._held = {name: recoveries[name] - 1 for name in found.held}
        if self._held:
            self._store.shift_recoveries(-1, found.held)
        if self._tried:
            self._start_trial()

    def _start_trial(self) -> None:
        names, held = list(self._tried), len(self._held)
        self._log("conversations_tried", names=names[:_NAMED], count=len(names), held=held, seconds=TRIAL)
        self._left = TRIAL
        self._system.timers.schedule(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Whether they have done what they had to do, or long enough no harm."""
        self._left -= _LOOK_EVERY
        if self._left > 0 and any(map(self._is_unfinished, self._tried)):
            self._system.timers.schedule(_LOOK_EVERY, self._look)
            return
        following = to_try(self._held)
        self._reader.submit(lambda: self._note(following), done=lambda failed: self._go_on(following, failed))

    def _note(self, following: Sequence[str]) -> None:
        over: dict[int, list[str]] = {}
        for name, count in self._tried.items():
            if count > self._limit:
                over.setdefault(self._limit - count, []).append(name)
        for by, names in over.items():
            self._store.shift_recoveries(by, names)
            self._tried.update(dict.fromkeys(names, self._limit))
        if following:  # before they are taken up: it is the last that this daemon may do
            self._store.shift_recoveries(1, following)

    def farewell(self) -> None:
        """Take this start's recovery back of all that were taken up, for the daemon ends in good order.

        When nothing else works on the store any more. Raises `StoreError`.
        """
        if self._held:  # of these it was taken back already; first, so that no end in between leaves them too few
            self._store.shift_recoveries(1, list(self._held))
        self._store.shift_recoveries(-1)

    def _go_on(self, following: Sequence[str], failed: Any) -> None:
        if not isinstance(failed, BaseException):
            self._tried = {name: self._held.pop(name) + 1 for name in following}
        if self._system.stopping:
            return
        if isinstance(failed, BaseException):
            self._log("error", where="trials", error_type=type(failed).__name__, error_message=str(failed))
            self._system.timers.schedule(_AGAIN, self._look)
            return
        if self._tried:
            self._wake(following)
            self._start_trial()
