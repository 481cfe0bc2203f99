"""The base of every message: frozen, strict, closed to unknown fields.

Messages are validated once, where they enter (`wire.decode`, the gateway, the store). Inside, they are built by
our own code and trusted.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

CONVERSATION_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,200}$"
NODE_ID_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
AGENT_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
MESSAGE_ID_PATTERN = r"^[!-~]{1,128}$"
"""Printable ASCII without blanks: a message id travels in headers, logs and URLs."""

ConversationId = Annotated[str, StringConstraints(pattern=CONVERSATION_ID_PATTERN)]
NodeId = Annotated[str, StringConstraints(pattern=NODE_ID_PATTERN)]
AgentName = Annotated[str, StringConstraints(pattern=AGENT_NAME_PATTERN)]
MessageId = Annotated[str, StringConstraints(pattern=MESSAGE_ID_PATTERN)]

Json = Any
"""Plain JSON data: None, bool, int, float, str, and lists and string-keyed dicts of them."""


class Message(BaseModel):
    """A frozen fact or command. Equality is by value."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
