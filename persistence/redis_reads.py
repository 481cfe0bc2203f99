"""The connection to Redis and the reading half of its store; every read is one command or one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, RedisError
from redis.retry import Retry

from persistence import redis_read_scripts as lua
from persistence import redis_rows as rows
from persistence.contract import (
    ConversationRow,
    DeadLetterRow,
    EntryRow,
    InboxRow,
    Loaded,
    MemoryRow,
    ResultRow,
    StoreError,
    StoreUnavailable,
)
from persistence.damage import read_ids
from persistence.entry import CorruptEntry
from persistence.redis_wire import Wire, is_replica, set_up

_ANSWER_WITHIN = 5.0
"""Seconds; after that the connection is given up. A commit tried again is applied once."""


_NOT_OURS = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What unpacking raises for bytes that were changed."""


class RedisReads:
    """Reading verbs of the store contract."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._base = f"{{{prefix}}}:store"
        self._owner_key = f"{self._base}:owner"
        self._client: Redis | None = None
        self._wire: Wire | None = None
        self._secret: str | None = None

    def load(self, conversation_id: str, *, recent: int, whole: bool = False) -> Loaded:
        """Return all that is needed to wake a conversation, as of one moment."""
        found = self._script(lua.LOAD, conversation_id, recent, int(whole))
        if not found:
            return Loaded(conversation_id)
        if len(found) == 1:
            raise CorruptEntry(conversation_id, 0, found[0].decode("utf-8", "replace"))
        last_seq, snapshot, snapshot_seq, entries, results, memory, forgotten, phase, requests, wrong = found
        damaged = wrong.decode("utf-8", "replace")
        if not damaged and not whole:  # the script asks the inbox for the whole journal
            damaged = read_ids(requests)[1]
        try:
            place = int(last_seq), 0 if whole else int(snapshot_seq)
        except (ValueError, TypeError) as error:
            raise CorruptEntry(conversation_id, 0, f"its row does not say where it is: {error}") from None
        kept: tuple[tuple[ResultRow, ...], tuple[MemoryRow, ...]] = (), ()
        try:
            done = sorted((rows.result_row(one) for some in results for one in some), key=_place)
            kept = tuple(done), tuple(rows.memory_rows(memory, forgotten))
        except _NOT_OURS as error:
            damaged = damaged or f"a result or a remark is not what was written: {type(error).__name__}: {error}"
        try:
            steps = tuple(rows.entry_row(entry) for entry in entries)
        except _NOT_OURS as error:
            steps, damaged = (), f"a step is not what was written: {type(error).__name__}: {error}"
        said = rows.phase_name(phase) if whole else ""
        return Loaded(conversation_id, place[0], None if whole else snapshot, place[1], steps, *kept, said, damaged)

    def absent(self, conversation_ids: Sequence[str]) -> set[str]:
        """Return those of which nothing is stored."""
        known = self._script(lua.KNOWN, *conversation_ids)
        return {name for name, there in zip(conversation_ids, known, strict=True) if not there}

    def unfinished(self) -> list[str]:
        """Return the conversations with unfinished work, oldest update first."""
        return [key.decode("utf-8", "replace") for key in self._run("ZRANGE", self._key("unfinished"), 0, -1)]

    def find_message(self, conversation_id: str, message_id: str) -> InboxRow | None:
        """Return the accepted message of that id."""
        found = self._run("HGET", self._key("inbox", conversation_id), message_id, of=conversation_id)
        try:
            return None if found is None else rows.inbox_row(found)
        except _NOT_OURS as error:
            raise CorruptEntry(conversation_id, 0, f"message {message_id} is not what was written: {error!r}") from None

    def cached_result(self, cache_key: str, now: int) -> ResultRow | None:
        """Return a reusable result that has not expired."""
        found = self._script(lua.CACHED, cache_key, now)
        return None if found is None else rows.result_row(found)

    def entries(self, conversation_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Return the steps that hold the next `limit` events after `after`; a step holds at least one."""
        key = self._key("journal", conversation_id)
        found = self._run("XRANGE", key, max(0, after) + 1, "+", "COUNT", limit, of=conversation_id)
        try:
            return [rows.entry_row(entry) for entry in found]
        except _NOT_OURS as error:
            raise CorruptEntry(conversation_id, after + 1, f"a step is not what was written: {error!r}") from None

    def results(self, conversation_id: str, request_ids: Sequence[str]) -> list[ResultRow]:
        """Return all results of these requests."""
        packed = [
            one
            for request_id in dict.fromkeys(request_ids)
            for one in self._run("HVALS", self._key("results", f"{conversation_id}/{request_id}"), of=conversation_id)
        ]
        try:
            return sorted(map(rows.result_row, packed), key=_place)
        except _NOT_OURS as error:
            raise CorruptEntry(conversation_id, 0, f"a result is not what was written: {error!r}") from None

    def memory(self, conversation_id: str, *, first_seq: int, last_seq: int) -> list[MemoryRow]:
        """Return what was said and noted in a range, oldest first."""
        return self._memory(first_seq, lua.MEMORY, conversation_id, first_seq, last_seq)

    def said(self, conversation_id: str, *, first_seq: int, last_seq: int, limit: int) -> list[MemoryRow]:
        """Return the first of what was said in a range, oldest first."""
        return self._memory(first_seq, lua.SAID, conversation_id, first_seq, last_seq, limit)

    def _memory(self, first_seq: int, script: str, conversation_id: str, *values: int) -> list[MemoryRow]:
        found, forgotten = self._script(script, conversation_id, *values, of=conversation_id)
        try:
            return rows.memory_rows(found, forgotten)
        except _NOT_OURS as error:
            raise CorruptEntry(conversation_id, first_seq, f"a remark is not what was written: {error}") from None

    def conversation(self, conversation_id: str) -> ConversationRow | None:
        """Return one line of the list."""
        fields = ("phase", "last_seq", "unfinished", "user_id", "created_at", "updated_at")
        found = self._run("HMGET", self._key("state", conversation_id), *fields, of=conversation_id)
        return None if found == [None] * len(fields) else rows.conversation_row([conversation_id.encode(), *found])

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        index = ":listed" if phase is None else f":phase:{phase}"
        if after is None:
            return [rows.conversation_row(found) for found in self._script(lua.LISTED, index, "-inf", limit)]
        # The index begins at the time of the one seen last: those of the same time up to it are passed over. They are
        # asked for anew with a larger page rather than by an offset, which would slip when one of them moves.
        asked, place = limit + 16, (-after[0], after[1])
        while True:
            found = [rows.conversation_row(line) for line in self._script(lua.LISTED, index, -after[0], asked)]
            page = [row for row in found if (-row.updated_at, row.conversation_id) > place]
            if len(page) >= limit or len(found) < asked:
                return page[:limit]
            asked *= 4

    def phase_counts(self) -> dict[str, int]:
        """Return how many conversations are in each phase."""
        counts = self._run("HGETALL", self._key("phases"))
        return {rows.phase_name(phase): int(count) if count.isdigit() else 0 for phase, count in counts.items()}

    def dead_letters(self, *, after: int, limit: int) -> list[DeadLetterRow]:
        """Return dead letters with an id above `after`, oldest first."""
        found = self._run("XRANGE", self._key("letters"), max(0, after) + 1, "+", "COUNT", limit)
        return [rows.letter_row(letter) for letter in found]

    # Connection

    def _connect(self) -> None:
        """Make the client; it connects when it is used, and again after every failure. Raises `StoreError`."""
        try:
            options: dict[str, Any] = parse_url(self._url)  # type: ignore[no-untyped-call]  # the driver's
        except ValueError:
            # The driver's words can hold a part of the URL, and so of the password.
            raise StoreError("redis_url cannot be read as a redis://, rediss:// or unix:// URL") from None
        self._secret = options.get("password") or None
        options = {"socket_timeout": _ANSWER_WITHIN, "socket_connect_timeout": _ANSWER_WITHIN, **options}
        # One new connection at once, for when the server was restarted since the last use; longer waits are the
        # writer's. RESP2, because scripts answer in it on every server.
        retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        options |= {"retry": retry, "protocol": 2, "decode_responses": False, "encoding": "utf-8"}
        options |= {"redis_connect_func": set_up}
        self._client, self._wire = Redis(connection_pool=ConnectionPool(**options)), Wire(ConnectionPool(**options))

    def _disconnect(self) -> None:
        client, wire, self._client, self._wire = self._client, self._wire, None, None
        if client is not None:
            client.connection_pool.disconnect()
        if wire is not None:
            wire.close()

    def _key(self, table: str, *parts: str) -> str:
        return ":".join((self._base, table, *parts))

    def _run(self, *command: Any, of: str | None = None) -> Any:
        try:
            return self._connected().execute_command(*command)  # type: ignore[no-untyped-call]  # the driver's
        except DataError:  # a value that no server would ever take
            raise
        except RedisError as error:
            raise self._trouble(error, of) from None

    def _script(self, script: str, *values: Any, of: str | None = None) -> Any:
        wire = self._wire
        if wire is None:
            raise StoreUnavailable("the store is not open")
        try:
            return wire.call(script, (self._owner_key,), values)
        except DataError:  # as above
            raise
        except RedisError as error:
            raise self._trouble(error, of) from None

    def _connected(self) -> Redis:
        client = self._client
        if client is None:
            raise StoreUnavailable("the store is not open")
        return client

    def _trouble(self, error: RedisError, of: str | None) -> Exception:
        if of is not None and "WRONGTYPE" in str(error):  # trying again would find the same
            return CorruptEntry(of, 0, f"one of its keys is of another kind: {error}")
        client, wire = self._client, self._wire
        if is_replica(error) and client is not None and wire is not None:
            client.connection_pool.disconnect(inuse_connections=False)
            wire.renew()  # not this one alone: the others would go on reading there
        return self._unavailable(error)

    def _unavailable(self, error: RedisError) -> StoreUnavailable:
        """Return a driver's error as the contract's: whatever the server says, no step is refused for it."""
        text = f"{type(error).__name__}: {error}"
        return StoreUnavailable(text.replace(self._secret, "***") if self._secret else text)


def _place(row: ResultRow) -> tuple[str, str]:
    return row.request_id, row.node
