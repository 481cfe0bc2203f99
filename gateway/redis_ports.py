"""What the Redis door needs of the daemon and its settings; nothing here loads the driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.ports import Secret
from gateway.redis_payload import Letter
from messages.inbound import Refused

Bury = Callable[[Letter], bool]
"""Keeps a dead letter; False when it could not be taken now. Never raises."""


Tell = Callable[[str, str | None, Refused], None]
"""Publishes that a message (conversation, message id) was refused. Never raises, never waits."""


Expect = Callable[[str], None]
"""Says that somebody who listens over Redis speaks to a conversation. Never raises, never waits."""


class RedisSettings(Protocol):
    """The settings the Redis door obeys; only `max_message_bytes` may change while it is open."""

    @property
    def redis_url(self) -> Secret | None:
        """Where the server is."""

    @property
    def redis_prefix(self) -> str:
        """First part of all names."""

    @property
    def redis_log_length(self) -> int:
        """Events kept in a conversation's log, about."""

    @property
    def redis_log_keep(self) -> float:
        """Seconds a log is kept after its newest event."""

    @property
    def max_message_bytes(self) -> int:
        """Largest message taken."""


class BadUrl(ValueError):
    """The URL cannot be read; the driver's words are not passed on, they can hold the password."""
