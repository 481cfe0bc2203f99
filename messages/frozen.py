"""`@frozen`: a frozen dataclass to readers and type checkers, made in a third of the time.

A frozen dataclass sets each field by a call, and a request makes some sixty objects (docs/performance.md). Here nothing
but the type checker keeps a field from being set again: what is made so is our own, and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, dataclass_transform

T = TypeVar("T")

if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def frozen(cls: type[T]) -> type[T]:
        """Make a class a dataclass with slots, compared and hashed by its fields."""

    @dataclass_transform(frozen_default=True, field_specifiers=(field,))
    def frozen_dict(cls: type[T]) -> type[T]:
        """Do the same for a class whose objects keep a `__dict__`, by which they are copied."""

else:
    frozen = dataclass(slots=True, unsafe_hash=True)
    frozen_dict = dataclass(unsafe_hash=True)


_NEW: Final = object.__new__
_SET: Final = object.__setattr__


class Changeable:
    """Copies with changes: five times as quick as `dataclasses.replace`, and the core does little else."""

    def changed(self, **changes: Any) -> Self:
        """Return the same with these fields changed; they are not checked."""
        copy = _NEW(type(self))
        fields = self.__dict__.copy()
        if changes:
            fields.update(changes)
        _SET(copy, "__dict__", fields)  # past a dataclass that forbids it
        return copy
