"""The base of every message: frozen, strict, closed to unknown fields.

Messages are validated once, where they enter (`wire.decode`, the gateway, the store). Inside, they are built by
our own code and trusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, dataclass_transform

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, SchemaSerializer

from messages.frozen import Changeable

CONVERSATION_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,200}$"
NODE_ID_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
AGENT_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
MESSAGE_ID_PATTERN = r"^[!-~]{1,128}$"
"""Printable ASCII without blanks: a message id travels in headers, logs and URLs."""


def _no_nul(text: str) -> str:
    if "\x00" in text:
        message = "must not contain a NUL character"
        raise ValueError(message)
    return text


ConversationId = Annotated[str, StringConstraints(pattern=CONVERSATION_ID_PATTERN)]
NodeId = Annotated[str, StringConstraints(pattern=NODE_ID_PATTERN)]
AgentName = Annotated[str, StringConstraints(pattern=AGENT_NAME_PATTERN)]
MessageId = Annotated[str, StringConstraints(pattern=MESSAGE_ID_PATTERN)]
Text = Annotated[str, AfterValidator(_no_nul), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})]
"""What somebody says: any text without a NUL, which not every place it goes to can hold."""

Json = Any
"""Plain JSON data: None, bool, int, float, str, and lists and string-keyed dicts of them."""


_CONFIG: Final = ConfigDict(
    strict=True,
    extra="forbid",
    use_attribute_docstrings=True,
    validate_by_name=True,
    validate_by_alias=True,
    serialize_by_alias=True,
)


class Message(BaseModel):
    """A frozen fact or command. Equality is by value."""

    model_config = ConfigDict(**_CONFIG, frozen=True)


class Record(Changeable):
    """What the core works with all the time, checked as a `Message` is: give its classes `@record`.

    They are dataclasses: to read a field of a pydantic model takes ten times as long, for a model has to look for
    private attributes too, and a request reads four hundred (docs/performance.md).
    """


T = TypeVar("T", bound=Record)

if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
    def record(cls: type[T]) -> type[T]:
        """Make a class a frozen dataclass that pydantic checks, made by keywords."""

else:

    def record(cls: type[T]) -> type[T]:
        return dataclass(cls, frozen=True, kw_only=True, config=_CONFIG)


_NEW: Final = object.__new__
_SET: Final = object.__setattr__
_DEFAULTS: Final[dict[type[Record], dict[str, Any]]] = {}
"""Of each class, its fields in order with their defaults; filled as classes are met."""


def made(kind: type[T], fields: dict[str, Any]) -> T:
    """Return a record of our own making without validating it.

    `fields` must hold every field without a plain default, and nothing that the class does not know.
    """
    new = _NEW(kind)
    values = (_DEFAULTS.get(kind) or _defaults(kind)).copy()
    values.update(fields)
    _SET(new, "__dict__", values)
    return new


def _defaults(kind: type[Record]) -> dict[str, Any]:
    found = _DEFAULTS[kind] = {
        name: None if field.default is PydanticUndefined else field.default for name, field in fields_of(kind).items()
    }
    return found


def fields_of(kind: type[Record]) -> dict[str, FieldInfo]:
    """Return the fields of a record's class, in order."""
    fields: dict[str, FieldInfo] = kind.__pydantic_fields__  # type: ignore[attr-defined]  # `record` has put it there
    return fields


def serializer(record: Record) -> SchemaSerializer:
    """Return what writes a record."""
    found: SchemaSerializer = type(record).__pydantic_serializer__  # type: ignore[attr-defined]  # as above
    return found
