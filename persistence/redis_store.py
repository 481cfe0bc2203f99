"""The Redis store: every commit is one script, as durable as the server's append-only file.

One process owns it: a lease with a lifetime, renewed by a thread, keeps a second daemon out as long as the first gives
signs of life; the owner's mark (epoch and a token) is compared inside the same script as every write, so that a process
that lost the lease can write nothing. An owner that finds its mark gone, or the server behind what it acknowledged, has
lost the store: data that vanished is never silently begun anew.

All keys share the hash tag `{prefix}`, hence one slot: the scripts would work on a node of a Redis Cluster.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, NoReturn

from persistence import redis_rows as rows
from persistence import redis_scripts as lua
from persistence.contract import (
    Append,
    AppendRefused,
    Committed,
    Outcome,
    OwnershipLost,
    Row,
    StoreError,
    StoreHealth,
    StoreIncompatible,
    StoreMark,
    StoreOwned,
    StoreUnavailable,
)
from persistence.redis_commit_script import COMMIT
from persistence.redis_reads import RedisReads

_FORMAT = 1
"""Of the keys; a store with a higher one is left as it is."""
_CLEANED_AT_ONCE = 5_000
_LOOKED_AT_ONCE = 100
"""Conversations per cleanup script; commits go in between."""
_CLEANED = (
    "orchestrator_inbox",
    "orchestrator_journal",
    "orchestrator_agent_results",
    "orchestrator_operation_logs",
    "orchestrator_performance_metrics",
    "orchestrator_error_logs",
    "orchestrator_dead_letters",
)
"""What the cleanup script counts, in its order."""
_WRONG = b"wrong "
"""Before the commit script's words when a key of the conversation is not what it was."""
_LARGEST_COMMIT = 512 << 20
"""Bytes; more than the server takes as one value or request by default would end the connection, every time."""
_LAST_WORDS = 2.0
"""Seconds that closing waits for those who wait for the server."""
_WATCH_EVERY = 0.05
"""Seconds between two looks at somebody else's lease."""
_ASKED = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


class RedisStore(RedisReads):
    """See persistence/contract.py for what each verb promises; `lease_ttl` in seconds."""

    kind = "redis"

    def __init__(self, url: str, *, prefix: str = "orch", lease_ttl: float = 10.0) -> None:
        super().__init__(url, prefix)
        self._lease_ttl = lease_ttl
        self._write_lock = threading.RLock()
        self._token = ""
        self._epoch = 0
        self._number = 0
        self._acknowledged = 0
        self._unsure: tuple[list[Append], list[Row]] | None = None
        self._lost: str | None = None
        self._closing = threading.Event()
        self._renewer: threading.Thread | None = None

    # Life

    def open(self, owner: str) -> int:
        """Take the lease; keep it until `close`.

        A lease that is held is watched: `StoreOwned` when its owner renews it, else it is taken when it ends.
        """
        self.close()
        self._token, self._lost = uuid.uuid4().hex, None
        self._number = self._acknowledged = 0
        self._unsure = None
        self._closing = threading.Event()
        self._connect()
        try:
            self._epoch = self._own(owner)
        except BaseException:
            self._disconnect()
            raise
        self._renewer = threading.Thread(target=self._renew, args=(self._closing,), name="redis-lease", daemon=True)
        self._renewer.start()
        return self._epoch

    def mark(self) -> StoreMark | None:
        """Look over the connection at hand, or one of its own."""
        own = self._client is None
        if own:
            self._connect()
        try:
            store_id, epoch, beats = self._run("HMGET", self._owner_key, "store_id", "epoch", "beats")
        finally:
            if own:
                self._disconnect()
        return None if store_id is None else StoreMark(store_id.decode(), int(epoch), int(beats or 0))

    def beat(self) -> StoreMark | None:
        """One script."""
        self._write_once(lua.BEAT)
        return self.mark()

    def open_reading(self) -> bool:
        """Read beside the owner."""
        self.close()
        self._connect()
        form = self._run("HGET", self._owner_key, "format")
        if form is not None and int(form) > _FORMAT:
            self._disconnect()
            newer = f"{self._base} has format {int(form)}, written by a newer version; it is left as it is"
            raise StoreIncompatible(newer)
        return form is not None

    def close(self) -> None:
        """Give the lease back, so that the next owner need not wait for its end."""
        self._closing.set()
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            renewer.join(_LAST_WORDS)
        answers = renewer is None or not renewer.is_alive()
        # Who waits for a server that fell silent is not waited for: the lease ends by itself, and so do they.
        alone = self._write_lock.acquire(timeout=_LAST_WORDS)
        try:
            if self._client is not None and self._epoch and alone and answers:
                with contextlib.suppress(StoreError):  # as above
                    self._script(lua.RELEASE, self._mark(), 0)
            self._epoch = 0
            self._disconnect()
        finally:
            if alone:
                self._write_lock.release()

    def health(self) -> StoreHealth:
        """Ask the server how durable it is. Unavailable too once the ownership is lost."""
        if self._lost is not None:
            raise StoreUnavailable(self._lost)
        figures = {
            "epoch": float(self._epoch),
            "conversations": float(self._run("ZCARD", self._key("listed"))),
            "bytes": float(self._run("INFO", "memory")["used_memory"]),
        }
        lost = self._can_be_lost()
        always = "every commit is synchronised to the server's disk; nothing acknowledged is lost short of losing it"
        return StoreHealth(self.kind, durable=not lost, detail="; ".join(lost) or always, figures=figures)

    # Writing

    def commit(self, batch: Sequence[Append], rows_: Sequence[Row] = ()) -> list[Outcome]:
        """Apply a batch in one script."""
        with self._write_lock:
            asked = list(batch), list(rows_)
            arguments = [*rows.row_arguments(asked[1]), len(batch)]
            for append in batch:
                arguments.extend(rows.append_arguments(append))
            if sum(len(value) for value in arguments if not isinstance(value, int)) > _LARGEST_COMMIT:
                raise ValueError(f"one commit may hold {_LARGEST_COMMIT} bytes")
            # The very same batch again keeps its number: the server then knows that its rows are already written.
            if self._unsure != asked:
                self._number += 1
            self._unsure = asked
            answers = self._write(COMMIT, self._number, *arguments)
            self._acknowledged, self._unsure = self._number, None
            return [_outcome(append, answer) for append, answer in zip(batch, answers, strict=True)]

    def drop_dead_letter(self, dead_letter_id: int) -> bool:
        """Delete one entry."""
        return dead_letter_id > 0 and self._write_once(lua.DROP_LETTER, dead_letter_id)[0] > 0

    def count_recoveries(self) -> dict[str, int]:
        """Add one for every unfinished conversation."""
        answer = self._write_once(lua.COUNT_RECOVERIES)
        return {key.decode("utf-8", "replace"): count for key, count in zip(answer[::2], answer[1::2], strict=True)}

    def shift_recoveries(self, by: int, conversation_ids: Sequence[str] | None = None) -> None:
        """Look through all that are unfinished."""
        self._write_once(
            lua.SHIFT_RECOVERIES, by, *(["all"] if conversation_ids is None else ["these", *conversation_ids])
        )

    def cleanup(self, now: int, *, keep_journal_ms: int, keep_logs_ms: int, keep_inbox_ms: int) -> dict[str, int]:
        """Delete what has expired, a bounded number of each kind per call."""
        limits = (now - keep_journal_ms, now - keep_logs_ms, now - keep_inbox_ms)
        gone = dict.fromkeys(_CLEANED, 0)
        while True:
            *counts, looked = self._write_once(lua.CLEANUP, now, *limits, _CLEANED_AT_ONCE, _LOOKED_AT_ONCE)
            for table, count in zip(_CLEANED, counts, strict=True):
                gone[table] += count
            if looked < _LOOKED_AT_ONCE or max(gone.values()) >= _CLEANED_AT_ONCE:
                return gone

    # Ownership

    def _own(self, owner: str) -> int:
        longest = float("inf")
        while True:
            now = time.time_ns() // 1_000_000
            answer, *rest = self._script(lua.OWN, self._token, owner, now, self._lease_ms(), _FORMAT)
            if answer == b"ok":
                return int(rest[0])
            if answer == b"newer":
                newer = f"{self._base} has format {rest[0].decode()}, written by a newer version; it is left as it is"
                raise StoreIncompatible(newer)
            left = int(rest[1])
            if not 0 <= left <= longest:  # it grew: somebody lives. Without an end it is none of ours.
                raise StoreOwned(f"{self._base} is owned by another live daemon, {rest[0].decode(errors='replace')}")
            longest = left
            self._closing.wait(min(left / 1000, _WATCH_EVERY))

    def _write_once(self, script: str, *values: Any) -> list[Any]:
        """Write what must not be done twice, as it would be when it is sent again over a new connection."""
        return self._write(script, uuid.uuid4().hex, *values)

    def _write(self, script: str, *values: Any) -> list[Any]:
        with self._write_lock:
            if not self._epoch:
                raise StoreUnavailable("the store is not open")
            if self._lost is not None:
                raise OwnershipLost(self._lost)
            answer, *rest = self._script(script, self._mark(), self._acknowledged, *values)
            if answer != b"ok":
                self._lose(answer, rest)
            return list(rest)

    def _lose(self, answer: bytes, rest: Sequence[bytes]) -> NoReturn:
        if answer == b"missing":
            self._lost = (
                f"the ownership key {self._owner_key} is gone: the server lost its data (restarted without "
                "persistence, flushed, or evicted); it is not begun anew under a running daemon"
            )
        elif answer == b"behind":
            self._lost = (
                f"the server went back in time: it knows commit {int(rest[0])} of this daemon, but acknowledged "
                f"commit {self._acknowledged}; what came after is lost"
            )
        else:
            newest = rest[0].decode() if rest and rest[0] else "none"
            self._lost = f"this daemon has epoch {self._epoch}, the store has {newest}: somebody else owns it"
        raise OwnershipLost(self._lost)

    def _renew(self, closing: threading.Event) -> None:
        while not closing.wait(self._lease_ttl / 3):
            # An unreachable server is tried again; a lost ownership is said by the next write and by `health`.
            with contextlib.suppress(StoreUnavailable):
                answer, *rest = self._script(lua.RENEW, self._mark(), self._acknowledged, self._token, self._lease_ms())
                if answer != b"ok":
                    with contextlib.suppress(OwnershipLost):
                        self._lose(answer, rest)
                    return

    def _mark(self) -> str:
        return f"{self._epoch}:{self._token}"

    def _lease_ms(self) -> int:
        return max(1, round(self._lease_ttl * 1000))

    # Durability

    def _can_be_lost(self) -> list[str]:
        """Return what can lose acknowledged work on this server as it is set up now."""
        try:
            found = {key: value for name in _ASKED for key, value in self._run("CONFIG GET", name).items()}
        except StoreUnavailable:
            self._run("PING")
            return [
                "the server does not tell how durable it is (CONFIG GET is refused): take it that a crash loses work"
            ]
        said = {_text(key): _text(value) for key, value in found.items()}
        lost = []
        if said.get("appendonly") != "yes":
            lost.append("appendonly is off: a restart of the server loses all since its last dump, or everything")
        elif said.get("appendfsync") != "always":
            how = (
                "about the last second" if said.get("appendfsync") == "everysec" else "what the system had not written"
            )
            lost.append(f"appendfsync is {said.get('appendfsync')}: a crash of the machine loses {how}")
        elif said.get("no-appendfsync-on-rewrite") == "yes":
            lost.append("no-appendfsync-on-rewrite is on: a crash of the machine during a rewrite loses work")
        policy = said.get("maxmemory-policy", "")
        if policy.startswith("allkeys"):
            lost.append(f"maxmemory-policy is {policy}: a full server deletes conversations; set noeviction")
        if self._run("INFO", "replication").get("connected_slaves"):
            lost.append("a failover to a replica loses what had not reached it")
        return lost


def _outcome(append: Append, newest: bytes) -> Outcome:
    if newest == b"":
        return Committed(append.conversation_id, append.last_seq)
    if newest.startswith(_WRONG):
        detail = newest.removeprefix(_WRONG).decode("utf-8", "replace")
        return AppendRefused(append.conversation_id, append.last_seq, "poisoned", detail)
    said = newest.decode("utf-8", "replace")
    detail = f"the newest event is {said}, this step follows {append.expected_seq}"
    return AppendRefused(append.conversation_id, append.last_seq, "sequence_conflict", detail)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
