"""Where dead letters go: into the log and the store, where a person can find them and send them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic_core import to_json

from actors.dead_letters import DeadLetter
from actors.system import ActorSystem
from gateway.redis_payload import MAX_WORDS, Letter
from messages.agent import RunNode
from messages.conversation import Submit
from messages.failure import clip
from persistence.contract import DeadLetterRow
from persistence.writer import Writer

_LETTER_BYTES: Final = 65_536


class Burial:
    """Every method may be called from any thread, and never waits."""

    def __init__(self, system: ActorSystem, writer: Writer, log: Callable[..., None]) -> None:
        self._system = system
        self._writer = writer
        self._log = log

    def late(self, call: RunNode, what: str) -> None:
        """Take an outcome that came after its attempt was given up."""
        if "CancelledError" in what:
            return  # the end that the daemon itself asked for
        path = f"/conversations/{call.conversation_id}/agents/{call.node}"
        late = {"request_id": call.request_id, "agent": call.agent, "attempt": call.attempt, "what": what}
        self._system.dead_letters.add(path, "its attempt had been given up", late)

    def keep(self, letter: DeadLetter) -> None:
        """Log a dead letter and keep it where a person can find it."""
        message = letter.message
        redis = isinstance(message, Letter)
        kind = message.kind if redis else type(message).__name__
        self._log("dead_letter", address=letter.address, reason=letter.reason, kind=kind)
        if not (redis and message.comes_again):  # that one was kept before it was counted
            self._keep(letter.address, letter.reason, message)

    def bury(self, letter: Letter) -> bool:
        """Keep what came over Redis and was refused; False when the store could not and it can come again."""
        if letter.comes_again and not (self._writer.available and self._keep(letter.address, letter.code, letter)):
            return False
        self._system.dead_letters.add(letter.address, letter.code, letter)
        return True

    def _keep(self, address: str, reason: str, message: Any) -> bool:
        kind, written = type(message).__name__, None
        if isinstance(message, Letter):  # what was sent, and why in words
            written = message.written
            reason, kind, message = f"{message.code}: {message.detail}", message.kind, message.content
        at = self._system.clock.now_ms()
        row = DeadLetterRow(
            at=at, address=address, reason=clip(reason, MAX_WORDS), kind=kind, body=letter_body(message)
        )
        taken = self._writer.submit_row(row, written)
        if not taken and written is None:  # what comes again is no loss
            self._log("dead_letter_lost", address=address, reason=row.reason, kind=kind, size=len(row.body))
        return taken


def letter_body(message: Any) -> bytes:
    """Return a dead letter's message as JSON that a person can read, clipped, without what cannot be shown."""
    if isinstance(message, Submit):
        message = message.message
    try:
        body = to_json(message, serialize_unknown=True, inf_nan_mode="constants")
    except Exception:  # noqa: BLE001  # whatever cannot be encoded is still a dead letter: its kind is known
        body = b"null"
    return body if len(body) <= _LETTER_BYTES else to_json({"clipped": body[:_LETTER_BYTES].decode("utf-8", "replace")})
