"""What the gateway needs of the daemon behind it, as protocols: any object with these verbs will do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from messages.events import Event
from messages.inbound import Answer, Cancel, Pause, Resume, UserMessage
from persistence.contract import ConversationRow

Unsubscribe = Callable[[], None]
"""Ends a subscription; safe to call twice and from any thread."""


class LiveFeed(Protocol):
    """Events as they happen."""

    def subscribe(
        self, conversation_id: str | None, callback: Callable[[Event], None], *, quick: bool = False
    ) -> Unsubscribe:
        """Call `callback` with every event of one conversation (None: of all), in order of `seq`.

        A `quick` callback hands over and returns at once: it runs on the publisher's own thread.
        """


class FrontDoor(Protocol):
    """The daemon as a gateway sees it. Everything but `submit` may block for the length of a query."""

    @property
    def feed(self) -> LiveFeed:
        """Live events; an event is published only when it is durable."""

    @property
    def draining(self) -> bool:
        """True while the daemon refuses new work because it is about to stop."""

    def submit(self, message: UserMessage | Cancel | Pause | Resume, answer: Callable[[Answer], None]) -> None:
        """Take a message; never blocks. `answer` is called once, from any thread, when it is durable or refused."""

    def events(self, conversation_id: str, after: int, limit: int) -> Sequence[Event] | None:
        """Return at most `limit` journaled events after `after`, oldest first; None for an unknown conversation."""

    def conversation(self, conversation_id: str) -> Mapping[str, Any] | None:
        """Return one conversation, its newest sequence number as `seq` among it; None when it is unknown."""

    def newest_seq(self, conversation_id: str) -> int | None:
        """Return the newest sequence number, 0 when it cannot be read; None for an unknown conversation."""

    def conversations(
        self, *, phase: str | None, after: tuple[int, str] | None, limit: int
    ) -> Sequence[ConversationRow]:
        """Return a page, newest update first; `after` is the (updated_at, id) of the last one already seen."""

    def plan(self, conversation_id: str) -> Mapping[str, Any] | None:
        """Return the newest request's plan with each node's state; None for an unknown conversation."""

    def why(
        self, conversation_id: str, *, request_id: str | None, after: int | None, limit: int
    ) -> Mapping[str, Any] | None:
        """Return trees of causes as `{roots, left_out, next}`; None for an unknown conversation.

        Of one request (no roots when it is unknown), of the newest one, or with `after` of the next `limit` messages.
        """

    def messages(self, conversation_id: str, after: int, limit: int) -> Sequence[Mapping[str, Any]] | None:
        """Return what was said after sequence number `after`, each with its `seq`; None for an unknown conversation."""

    def actors(self) -> Sequence[Mapping[str, Any]]:
        """Return one row per live actor, by path."""

    def restart(self, path: str) -> bool:
        """Let the actor at `path` end as if it had failed; False when there is none."""

    def dead_letters(self, after: int, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return dead letters with an `id` above `after`, oldest first."""

    def dead_letter(self, number: int) -> Mapping[str, Any] | None:
        """Return one dead letter as the list shows it, or None."""

    def drop_dead_letter(self, number: int) -> bool:
        """Throw a dead letter away; False when there is none of that id."""

    def status(self) -> Mapping[str, Any]:
        """Return one screen of figures."""

    def readiness(self) -> Mapping[str, Mapping[str, Any]]:
        """Return each check by name, with `ok` and `detail`."""


class Secret(Protocol):
    """A value that does not show itself."""

    def get_secret_value(self) -> str:
        """Return it."""


class HttpSettings(Protocol):
    """The settings the HTTP door obeys; all but the address may be changed by `HttpServer.configure`."""

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port to listen on."""

    @property
    def api_token(self) -> Secret | None:
        """The bearer token that lets do everything; when there is one, every request must carry a token."""

    @property
    def read_token(self) -> Secret | None:
        """The bearer token that lets look, and change nothing."""

    @property
    def allowed_hosts(self) -> Sequence[str]:
        """Host names requests may be addressed to, besides our own."""

    @property
    def max_message_bytes(self) -> int:
        """Largest body taken."""


class Log(Protocol):
    """Tells what happens; never waits, never raises."""

    def __call__(self, event: str, /, *, level: str | None = None, **fields: Any) -> None:
        """Tell that `event` happened."""


def silent(event: str, /, *, level: str | None = None, **fields: Any) -> None:
    """Tell nobody."""
