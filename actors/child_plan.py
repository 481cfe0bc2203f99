"""What a supervising actor is told about a child, and what it answers: plans, commands, listings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.address import Address
from actors.base import Actor
from supervision.children import ChildState
from supervision.directives import Rules
from supervision.spec import ChildSpec, RestartType


class DeclinedToStart(Exception):
    """Raised by an actor's `__init__` that has nothing to do: no failure, and no restart (OTP's `ignore`)."""


class GaveUp(Exception):
    """A supervising actor could not help any more; the text lists the last causes, the newest first."""

    error_class = "transient"


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """How to make one child."""

    spec: ChildSpec
    actor_class: type[Actor]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rules, ...] = ()
    """What its errors mean, by class; innermost first. They go before the spec."""
    stash_limit: int | None = None
    """Messages kept for it while it has no life; None: the system's mailbox limit."""
    address: Address | None = None
    """Where the child is reached, for those who must know it before there is a child; None: made when it is added."""
    quiet_failures: int = 0
    """Failures in a row that are logged as warnings; those after them are errors."""


@dataclass(frozen=True, slots=True)
class AddChild:
    """Start one more child; answered with `Added` or `NotAdded`."""

    plan: ChildPlan


@dataclass(frozen=True, slots=True)
class Added:
    """The child is there; `address` reaches it in all its lives. It may have declined to start."""

    address: Address


@dataclass(frozen=True, slots=True)
class NotAdded:
    """There is no such child; `error` is what its start raised, if that was the reason."""

    reason: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class RemoveChild:
    """Stop a child and forget it; answered with whether there is one."""

    id: str


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Start a child that is kept without a life; answered with `Added` or `NotAdded`."""

    id: str


@dataclass(frozen=True, slots=True)
class FindChild:
    """Answered with the `Address` of a child, or None."""

    id: str


@dataclass(frozen=True, slots=True)
class ListChildren:
    """Answered with a tuple of `ChildRow`, in start order."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Answered with `Counts`."""


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One child as it is now."""

    id: str
    path: str
    state: ChildState
    restart: RestartType
    incarnation: int
    """Which life; 0 before the first."""
    restarts: int
    waiting: int
    """Messages in its mailbox."""
    supervising: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """Children by what they are (OTP's `count_children`)."""

    specs: int
    active: int
    """With a life."""
    waiting: int
    """Between two lives."""
    supervising: int
    workers: int
