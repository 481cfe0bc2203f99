"""Reading off the dispatcher: a few threads that look things up and call back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final

from pydantic_core import from_json

from persistence.contract import Loaded, Store

Done = Callable[[Any], None]
PATIENCE: Final = 4.0
"""Seconds a look-up may take before whoever waits for it is told that the store does not answer."""
_Waking = tuple[str, int, Done]
_Job = tuple[Callable[..., Any], tuple[Any, ...], Done, bool]
"""What to call and whom to tell; whether a message waits for it."""


class Reader:
    """`done` gets the value, or the exception that reading raised; it is called from one of the reader's threads."""

    def __init__(
        self,
        store: Store,
        *,
        threads: int = 2,
        now_ms: Callable[[], int] | None = None,
        log: Callable[..., None] | None = None,
    ) -> None:
        self._store = store
        self._log = log or _say_nothing
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._wakings: list[_Waking] = []
        self._now_ms = now_ms or _wall_clock
        self._lock = threading.Lock()
        self._stopped = False
        self._asked_at: dict[int, float] = {}
        """Since when, by thread, a look-up is under way that a message waits for."""
        self._threads = [
            threading.Thread(target=self._run, name=f"store-reader-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *args: Any, done: Done) -> None:
        """Call `function(*args)` on a reader thread. Never blocks; after `stop` nothing is called."""
        self._put(function, args, done, awaited=False)

    @property
    def stalled(self) -> str | None:
        """Why a message waits for some seconds to be looked at; None while the store answers."""
        oldest = min(list(self._asked_at.values()), default=None)
        if oldest is None or time.monotonic() - oldest < PATIENCE:
            return None
        return f"it has not answered for {PATIENCE:g} s"

    def load(self, conversation_id: str, recent: int, done: Done, *, whole: bool = False) -> None:
        """Read what is needed to wake a conversation: a `Loaded`; `whole`: by its journal alone."""
        if whole:
            self._put(_load, (self._store, conversation_id, recent, True), done)
            return
        waking = (conversation_id, recent, done)
        with self._lock:
            if self._stopped:
                return
            self._wakings.append(waking)
            # Whoever takes out the ones before takes this one out as well.
            if len(self._wakings) == 1:
                self._jobs.put((self._wake, (), _say_nothing, True))

    def find_message(self, conversation_id: str, message_id: str, done: Done) -> None:
        """Look up an accepted message: an `InboxRow` or None."""
        self._put(self._store.find_message, (conversation_id, message_id), done)

    def find(self, key: str, done: Callable[[tuple[Any, bytes] | None], None]) -> None:
        """Look up a reusable result: (result, JSON), or None when there is none or it cannot be read."""

        def found(answer: Any) -> None:
            done(None if isinstance(answer, BaseException) else answer)

        self._put(_find, (self._store, key, self._now_ms()), found)

    def stop(self, timeout: float) -> bool:
        """Finish what is asked already and end; return whether that was done within `timeout` seconds."""
        with self._lock:
            self._stopped = True
            for _ in self._threads:
                self._jobs.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _put(self, function: Callable[..., Any], args: tuple[Any, ...], done: Done, *, awaited: bool = True) -> None:
        with self._lock:
            if not self._stopped:
                self._jobs.put((function, args, done, awaited))

    def _run(self) -> None:
        me = threading.get_ident()
        while (job := self._jobs.get()) is not None:
            function, args, done, awaited = job
            if awaited:
                self._asked_at[me] = time.monotonic()
            self._do(function, args, done)
            self._asked_at.pop(me, None)

    def _do(self, function: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        try:
            answer = function(*args)
        except Exception as error:  # noqa: BLE001  # who asked is told, whatever it was
            answer = error
        self._tell(done, answer)

    def _tell(self, done: Done, answer: Any) -> None:
        try:
            done(answer)
        except Exception as error:  # noqa: BLE001  # one listener's trouble must not end the thread for the others
            failed = {"error_type": type(error).__name__, "error_message": str(error)}
            self._log("read_callback_failed", level="error", **failed)

    def _wake(self) -> None:
        """Answer all that wait to wake. Most are new: one look tells which, instead of one for each."""
        with self._lock:
            wakings, self._wakings = self._wakings, []
        absent: set[str] = set()
        if len(wakings) > 1:
            with suppress(Exception):  # each is looked at by itself then, and told what is wrong
                absent = self._store.absent([conversation_id for conversation_id, _, _ in wakings])
        for conversation_id, recent, done in wakings:
            if conversation_id in absent:
                self._tell(done, Loaded(conversation_id))
                continue
            load = (_load, (self._store, conversation_id, recent, False), done)
            with self._lock:
                shared = not self._stopped and len(wakings) > 1
                if shared:
                    self._jobs.put((*load, True))
            if not shared:
                self._do(*load)


def _load(store: Store, conversation_id: str, recent: int, whole: bool) -> Any:
    return store.load(conversation_id, recent=recent, whole=whole)


def _find(store: Store, key: str, now: int) -> tuple[Any, bytes] | None:
    row = store.cached_result(key, now)
    return None if row is None else (from_json(row.body), row.body)


def _say_nothing(*_args: Any, **_fields: Any) -> None:
    """Stand in for a log nobody wants."""


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000
