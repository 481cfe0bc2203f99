"""The base of every message: frozen, strict, closed to unknown fields.

Messages are validated once, where they enter (`wire.decode`, the gateway, the store). Inside, they are built by
our own code and trusted.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticUndefined

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


M = TypeVar("M", bound=Message)

_NEW: Final = object.__new__
_SET: Final = object.__setattr__
_FORMS: Final[dict[type[Message], tuple[dict[str, Any], set[str]]]] = {}
"""Of each class, its fields in order with their defaults, and their names; filled as classes are met."""


def made(kind: type[M], fields: dict[str, Any]) -> M:
    """Return a message of our own making without validating it: a third of what the class itself takes.

    `fields` must hold every field without a plain default, and nothing that the class does not know.
    """
    form = _FORMS.get(kind) or _form(kind)
    message = _NEW(kind)
    _SET(message, "__dict__", {**form[0], **fields})
    _SET(message, "__pydantic_fields_set__", form[1])  # copied by pydantic before it is ever changed
    _SET(message, "__pydantic_extra__", None)
    _SET(message, "__pydantic_private__", None)
    return message


def _form(kind: type[Message]) -> tuple[dict[str, Any], set[str]]:
    defaults = {
        name: None if field.default is PydanticUndefined else field.default for name, field in kind.model_fields.items()
    }
    form = _FORMS[kind] = defaults, set(defaults)
    return form
