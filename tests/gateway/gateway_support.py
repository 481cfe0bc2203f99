"""A small daemon behind the door: keeps events in lists and answers from threads of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from conversation.why import why_all, why_request
from gateway.feed import Feed
from messages.events import AgentProgress, Event, MessageAccepted, PhaseChanged, ReplySent
from messages.inbound import Accepted, Answer, Refused, UserMessage
from persistence.contract import ConversationRow, StoreUnavailable

MESSAGES = "/api/v1/conversations/c1/messages"


@dataclass
class FakeSettings:
    http_address: tuple[str, int] | None = ("127.0.0.1", 0)
    api_token: SecretStr | None = None
    read_token: SecretStr | None = None
    allowed_hosts: tuple[str, ...] = ()
    max_message_bytes: int = 65_536


@dataclass
class FakeRouter:
    """Accepts everything it is not told to refuse; replies when told to."""

    feed: Feed = field(default_factory=Feed)
    draining: bool = False
    refuse: Refused | None = None
    echo: bool = False
    """True: every message is answered at once."""
    journal: dict[str, list[Event]] = field(default_factory=dict)
    submitted: list[Any] = field(default_factory=list)
    rows: list[ConversationRow] = field(default_factory=list)
    actor_rows: list[dict[str, Any]] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    checks: dict[str, dict[str, Any]] = field(default_factory=lambda: {"store": {"ok": True, "detail": "secret path"}})
    store_down: bool = False
    bug: bool = False
    read_delay: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    ids: dict[tuple[str, str], Accepted] = field(default_factory=dict)

    # Writing

    def submit(self, message: Any, answer: Callable[[Answer], None]) -> None:
        if self.bug:
            raise RuntimeError("the secret inside")
        threading.Thread(target=self._take, args=(message, answer)).start()

    def _take(self, message: Any, answer: Callable[[Answer], None]) -> None:
        self.submitted.append(message)
        if self.draining:
            answer(Refused(code="draining", detail="about to stop", retry_after=5.0))
        elif self.refuse is not None:
            answer(self.refuse)
        elif not isinstance(message, UserMessage):
            if message.conversation_id not in self.journal:
                answer(Refused(code="not_found", detail="no such conversation"))
            else:
                answer(Accepted(conversation_id=message.conversation_id, seq=self.seq(message.conversation_id)))
        else:
            answer(self._accept(message))
            if self.echo:
                self.reply(message.conversation_id, f"echo {message.text}")

    def _accept(self, message: UserMessage) -> Accepted:
        cid = message.conversation_id
        with self.lock:
            message_id = message.message_id or f"m{len(self.submitted)}"
            known = self.ids.get((cid, message_id))
            if known is not None:
                replies = [e for e in self.journal[cid] if isinstance(e, ReplySent) and e.message_id == message_id]
                seq = replies[0].seq if replies else None
                return known.model_copy(update={"duplicate": True, "reply_seq": seq})
            request_id = f"r{len(self.ids) + 1}"
            event = self.emit(cid, MessageAccepted, request_id=request_id, message_id=message_id, text=message.text)
            accepted = Accepted(conversation_id=cid, message_id=message_id, request_id=request_id, seq=event.seq)
            self.ids[cid, message_id] = accepted
            return accepted

    def emit(self, conversation_id: str, kind: Any, **fields: Any) -> Any:
        """Journal one event, then publish it, as a supervisor does."""
        with self.lock:
            events = self.journal.setdefault(conversation_id, [])
            event = kind(seq=len(events) + 1, at=int(time.time() * 1000), conversation_id=conversation_id, **fields)
            events.append(event)
            self.feed.publish([event])
        return event

    def tick(self, conversation_id: str) -> Any:
        return self.emit(conversation_id, PhaseChanged, from_phase="planning", to_phase="executing_single")

    def progress(self, conversation_id: str, text: str) -> None:
        self.feed.publish(
            [AgentProgress(seq=0, at=1, conversation_id=conversation_id, node="n", agent="a", attempt=1, text=text)]
        )

    def reply(self, conversation_id: str, text: str) -> Any:
        """Answer the newest message."""
        with self.lock:
            accepted = [e for e in self.journal[conversation_id] if isinstance(e, MessageAccepted)][-1]
            return self.emit(
                conversation_id,
                ReplySent,
                request_id=accepted.request_id,
                message_id=accepted.message_id,
                text=text,
                status="completed",
            )

    def seq(self, conversation_id: str) -> int:
        return len(self.journal.get(conversation_id, ()))

    # Reading

    def _check(self) -> None:
        self.read_delay()
        if self.store_down:
            raise StoreUnavailable("gone fishing")

    def events(self, conversation_id: str, after: int, limit: int) -> list[Event] | None:
        self._check()
        found = self.journal.get(conversation_id)
        return None if found is None else found[after : after + limit]

    def conversation(self, conversation_id: str) -> dict[str, Any] | None:
        self._check()
        if conversation_id not in self.journal:
            return None
        return {"conversation_id": conversation_id, "phase": "completed", "seq": self.seq(conversation_id)}

    def newest_seq(self, conversation_id: str) -> int | None:
        self._check()
        return self.seq(conversation_id) if conversation_id in self.journal else None

    def conversations(self, *, phase: str | None, after: tuple[int, str] | None, limit: int) -> list[ConversationRow]:
        self._check()
        rows = sorted(self.rows, key=lambda r: (r.updated_at, r.conversation_id), reverse=True)
        rows = [r for r in rows if phase in (None, r.phase)]
        return [r for r in rows if after is None or (r.updated_at, r.conversation_id) < after][:limit]

    def plan(self, conversation_id: str) -> dict[str, Any] | None:
        self._check()
        return {"conversation_id": conversation_id, "nodes": []} if conversation_id in self.journal else None

    def why(self, conversation_id: str, *, request_id: str | None, after: int | None, limit: int) -> Any:
        self._check()
        events = self.journal.get(conversation_id)
        if events is None:
            return None

        def read(after: int, limit: int) -> list[Any]:
            return events[after : after + limit]

        if after is not None:
            return why_all(read, after, limit)
        return why_request(read, len(events), request_id) or {"roots": [], "left_out": 0, "next": None}

    def messages(self, conversation_id: str, after: int, limit: int) -> list[dict[str, Any]] | None:
        self._check()
        if conversation_id not in self.journal:
            return None
        said = [e for e in self.journal[conversation_id] if isinstance(e, (MessageAccepted, ReplySent))]
        return [{"seq": e.seq, "text": e.text} for e in said if e.seq > after][:limit]

    def actors(self) -> list[dict[str, Any]]:
        return self.actor_rows

    def restart(self, path: str) -> bool:
        if path != "/conversations/c1":
            return False
        self.restarted.append(path)
        return True

    def dead_letters(self, after: int, limit: int) -> list[dict[str, Any]]:
        return [letter for letter in self.letters if letter["id"] > after][:limit]

    def dead_letter(self, number: int) -> dict[str, Any] | None:
        return next((letter for letter in self.letters if letter["id"] == number), None)

    def drop_dead_letter(self, number: int) -> bool:
        left = [letter for letter in self.letters if letter["id"] != number]
        found, self.letters = len(left) < len(self.letters), left
        return found

    def status(self) -> dict[str, Any]:
        return {"version": "1", "phases": {"completed": 2}}

    def readiness(self) -> dict[str, dict[str, Any]]:
        return self.checks


def row(conversation_id: str, at: int, phase: str = "completed") -> ConversationRow:
    return ConversationRow(conversation_id, phase, 3, False, None, at, at)  # a record's field


def problem(response, status, code, field=None):
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] and body["title"] and body["detail"]
    if field is not None:
        assert body["field"] == field
    return body


def routes(server):
    for path, operations in server.app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{conversation_id}", "c1").replace("{number}", "1")


def letter(number, body, kind="user_message"):
    return {"id": number, "at": "t", "address": "orch:inject", "reason": "r", "kind": kind, "body": body}
