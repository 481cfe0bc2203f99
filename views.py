"""What a gateway sees of the daemon: submitting, live events, and reading everything there is.

Reading verbs block for the length of a query: gateways call them on threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from actors.execution import Execution
from actors.root import ROOT_PATH
from actors.system import ActorSystem
from conversation.load import Load
from conversation.plan_view import newest_request, plan_view
from conversation.why import why_all, why_request
from gateway.conversation_routes import conversation_line
from gateway.feed import Feed
from messages.events import Event, rfc3339
from messages.inbound import Answer, Cancel, Pause, Resume, UserMessage
from messages.lifecycle import Crash
from persistence.contract import ConversationRow, DeadLetterRow, Store, StoreError, StoreUnavailable
from persistence.entry import CorruptEntry
from persistence.history import quarantine_of, read_bare, read_events
from persistence.writer import Writer
from router import Router

_SHOWN = 20
_LOOKED_AT = 1_000
"""Paused conversations, newest update first, among which `status` looks for quarantined ones."""
_COUNTED = 100
"""Dead letters that `status` counts, of those that are stored: each may have 64 KiB."""
_PAGE = 500
"""Events read at once while looking back for the newest request."""

Check = Callable[[], str | Mapping[str, Any]]
"""Returns what is well, or raises with what is not."""


class Views:
    """The daemon as gateways know it (gateway/ports.py), over everything it is made of."""

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        system: ActorSystem,
        execution: Execution,
        router: Router,
        feed: Feed,
        load: Load,
        checks: Mapping[str, Check],
        about: Mapping[str, Any],
        redis: Callable[[], Mapping[str, Any]] | None = None,
        optional: Collection[str] = (),
    ) -> None:
        """`redis` gives the Redis door's figures; `optional` names checks without which messages are taken still."""
        self._store = store
        self._writer = writer
        self._system = system
        self._execution = execution
        self._router = router
        self.feed = feed
        self._load = load
        self._checks = checks
        self._about = about
        self._redis = redis
        self._optional = optional

    # Doing

    @property
    def draining(self) -> bool:
        """True while new work is refused because the daemon is about to stop."""
        return self._router.draining

    def submit(self, message: UserMessage | Cancel | Pause | Resume, answer: Callable[[Answer], None]) -> None:
        """Take a message; `answer` is called once, from any thread, when it is durable or refused."""
        self._router.submit(message, answer)

    def restart(self, path: str) -> bool:
        """Let the actor at `path` end as if it had failed; False when there is none that supervision would restart."""
        ref = self._system.find(path)
        if ref is None or path == ROOT_PATH:
            return False
        self._system.tell(ref, Crash("an operator"))
        return True

    # Conversations

    def conversation(self, conversation_id: str) -> dict[str, Any] | None:
        """Return one conversation's line and its newest request, or None."""
        row = self._store.conversation(conversation_id)
        if row is None:
            return None
        line = {
            **conversation_line(row),
            "quarantined": quarantine_of(self._store, row),
            "held_back": conversation_id in self._router.held(),
        }
        try:
            return {**line, "request": self._newest(conversation_id, row.last_seq)}
        except CorruptEntry as error:
            return {**line, "request": None, "unreadable": {"seq": error.seq, "reason": error.reason}}

    def newest_seq(self, conversation_id: str) -> int | None:
        """Return the newest sequence number, 0 when it cannot be read; None for an unknown conversation."""
        row = self._store.conversation(conversation_id)
        return None if row is None else row.last_seq

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        """Return a page of conversations, newest update first."""
        return self._store.conversations(phase=phase, after=after, limit=limit)

    def plan(self, conversation_id: str) -> dict[str, Any] | None:
        """Return the newest request's plan with each node's state, or None for an unknown conversation."""
        row = self._store.conversation(conversation_id)
        if row is None:
            return None
        newest = self._newest(conversation_id, row.last_seq)
        return {"conversation_id": conversation_id, "phase": row.phase, **(newest or {"nodes": []})}

    def why(
        self, conversation_id: str, *, request_id: str | None, after: int | None, limit: int
    ) -> dict[str, Any] | None:
        """Return trees of causes: of one request, of the newest, or with `after` of the next `limit` messages."""
        row = self._store.conversation(conversation_id)
        if row is None:
            return None
        read = partial(read_bare, self._store, conversation_id)
        if after is not None:
            return why_all(read, after, limit)
        found = why_request(read, row.last_seq, request_id)
        return {"roots": [], "left_out": 0, "next": None} if found is None else found

    def messages(self, conversation_id: str, after: int, limit: int) -> list[dict[str, Any]] | None:
        """Return what was said after sequence number `after`, or None for an unknown conversation."""
        row = self._store.conversation(conversation_id)
        if row is None:
            return None
        if after >= row.last_seq:  # also what is too large a number for a store
            return []
        said = self._store.said(conversation_id, first_seq=after + 1, last_seq=row.last_seq, limit=limit)
        return [
            {
                "seq": r.seq,
                "at": rfc3339(r.at),
                "role": r.role,
                "request_id": r.request_id,
                "text": r.text,
                "forgotten": r.forgotten,
            }
            for r in said
        ]

    def events(self, conversation_id: str, after: int, limit: int) -> list[Event] | None:
        """Return at most `limit` events after `after`, or None for an unknown conversation.

        Raises `CorruptEntry` when what comes next cannot be read.
        """
        events = read_events(self._store, conversation_id, after=after, limit=limit)
        if not events and self._store.conversation(conversation_id) is None:
            return None
        return list(events)

    def _newest(self, conversation_id: str, last_seq: int) -> dict[str, Any] | None:
        first = max(0, last_seq - _PAGE)
        while True:
            events = read_events(self._store, conversation_id, after=first, limit=last_seq - first)
            if events and events[-1].seq < last_seq:  # raises what it stopped at: the newest request may lie behind it
                read_events(self._store, conversation_id, after=events[-1].seq, limit=1)
            request_id = newest_request(events)
            whole = any(e.type == "message.accepted" and e.request_id == request_id for e in events)
            # Behind a gap at the beginning of a page there is nothing: retention has cut it, or the row says too much.
            oldest = not events or events[0].seq > first + 1
            if first == 0 or oldest or (request_id is not None and whole):
                return None if request_id is None else plan_view(events, request_id)
            first = max(0, first - _PAGE)

    def _quarantined(self) -> dict[str, Any]:
        rows = self._store.conversations(phase="paused", after=None, limit=_LOOKED_AT)
        reasons = ((row.conversation_id, quarantine_of(self._store, row)) for row in rows)
        found = [{"conversation_id": key, "reason": reason} for key, reason in reasons if reason is not None]
        return {"count": len(found), "conversations": found[:_SHOWN], "all_looked_at": len(rows) < _LOOKED_AT}

    def _letters(self) -> dict[str, Any]:
        """Count what a person has to see to: those of earlier daemons too, and none that was dropped."""
        rows = self._store.dead_letters(after=0, limit=_COUNTED + 1)
        return {"kept": min(len(rows), _COUNTED), "all_counted": len(rows) <= _COUNTED}

    # The daemon

    def actors(self) -> list[dict[str, Any]]:
        """Return one row per live actor, by path."""
        return self._system.tree.rows()

    def dead_letters(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return stored dead letters with an id above `after`, oldest first."""
        return [_letter_line(row) for row in self._store.dead_letters(after=after, limit=limit)]

    def dead_letter(self, number: int) -> dict[str, Any] | None:
        """Return one stored dead letter, or None."""
        rows = self._store.dead_letters(after=number - 1, limit=1)
        return _letter_line(rows[0]) if rows and rows[0].id == number else None

    def drop_dead_letter(self, number: int) -> bool:
        """Throw a stored dead letter away; False when there is none of that id."""
        return self._store.drop_dead_letter(number)

    def status(self) -> dict[str, Any]:
        """Return one screen of figures."""
        kinds: dict[str, int] = {}
        waiting = 0
        restarts = 0
        execution = self._execution.stats()
        agents = execution.pop("agents")
        for row in self.actors():
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
            waiting += row["mailbox"]
            restarts += row["restarts"]
        phases: dict[str, int] = {}
        letters: dict[str, Any] = {"kept": None}
        quarantined: dict[str, Any] = {"count": 0, "conversations": [], "all_looked_at": False}
        # A person looks here most when the store is away, and one that is frozen takes seconds to say so: it is asked
        # once.
        store, away = self._store_status()
        if not away:
            with suppress(StoreError):
                phases, quarantined = self._store.phase_counts(), self._quarantined()
                letters = self._letters()
        return {
            **self._about,
            "draining": self._router.draining,
            "phases": phases,
            "quarantined": quarantined,
            "conversations_live": self._router.live(),
            "conversations_working": self._router.working(),
            "conversations_held_back": len(self._router.held()),
            "requests_unfinished": self._load.total,
            "requests_limit": self._load.limit,
            "actors": kinds,
            "messages_waiting": waiting,
            "restarts_of_live_actors": restarts,
            "store": store,
            "journal": dict(self._writer.stats()),
            "execution": execution,
            "agents": agents,
            "dead_letters": {
                **letters,
                "since_start": self._system.dead_letters.total,
                **self._system.dead_letters.by_reason,
            },
            **({} if self._redis is None else {"redis": dict(self._redis())}),
            "readiness": self.readiness(away),
        }

    def readiness(self, away: str = "") -> dict[str, dict[str, Any]]:
        """Return each check by name with `ok` and `detail`; `away` is why the store is, when that is known."""
        answers: dict[str, dict[str, Any]] = {}
        for name, check in self._checks.items():
            if name == "store" and away:
                answers[name] = {"ok": False, "detail": away}
                continue
            try:
                found = check()
                answers[name] = {"ok": True, **({"detail": found} if isinstance(found, str) else found)}
            except Exception as error:  # noqa: BLE001  # whatever a check raises is its finding
                answers[name] = {"ok": False, "detail": f"{type(error).__name__}: {error}"}
                if name in self._optional:
                    answers[name]["optional"] = True
        return answers

    def _store_status(self) -> tuple[dict[str, Any], str]:
        """Return what the store says of itself, and why it is away if it is."""
        silent = self._writer.silent
        if silent is not None:  # to ask it, too, would take longer than anybody waits for this screen
            return {"available": False, "detail": silent}, f"{StoreUnavailable.__name__}: {silent}"
        try:
            health = self._store.health()
        except StoreError as error:
            return {"available": False, "detail": str(error)}, f"{type(error).__name__}: {error}"
        status = {
            "available": self._writer.available,
            "kind": health.kind,
            "durable": health.durable,
            "detail": health.detail,
            **health.figures,
        }
        return status, ""


def _letter_line(row: DeadLetterRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": rfc3339(row.at),
        "address": row.address,
        "reason": row.reason,
        "kind": row.kind,
        "body": row.body.decode("utf-8", "replace"),
        **({"damaged": row.damaged} if row.damaged else {}),
    }
