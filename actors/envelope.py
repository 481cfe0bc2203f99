"""A message on its way: what is said, who waits for the answer, and since when it waits itself."""

from __future__ import annotations

from typing import Any

import pykka

# pykka keeps this class private, but its refs, proxies and inboxes are built on it.
from pykka._envelope import Envelope as PykkaEnvelope


class Envelope(PykkaEnvelope[Any]):
    """pykka's envelope with the time at which a mailbox took it."""

    __slots__ = ("at",)

    at: float
    """Seconds of the system's monotonic clock; set by the mailbox."""

    def __init__(self, message: Any, reply_to: pykka.Future[Any] | None = None) -> None:
        self.message = message
        self.reply_to = reply_to
