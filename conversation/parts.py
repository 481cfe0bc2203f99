"""Everything a supervisor is given: the outside world, so that a test can give another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors.base import Actor
from actors.quick import QuickCall
from conversation.load import Load
from messages.agent import RunNode
from messages.events import Event
from messages.inbound import BusyPolicy
from messages.synthesis import Synthesize
from persistence.contract import Append, Outcome
from supervision.errors import Types
from supervision.spec import ChildSpec
from workflow.memory import MemoryLimits
from workflow.step import Limits


class Reader(Protocol):
    """Reads the store off the dispatcher; `done` gets the value or the exception, from any thread."""

    def load(self, conversation_id: str, recent: int, done: Callable[[Any], None], *, whole: bool = False) -> None:
        """Read what is needed to wake a conversation: a `Loaded`; `whole`: by its journal alone."""

    def find_message(self, conversation_id: str, message_id: str, done: Callable[[Any], None]) -> None:
        """Look up an accepted message: an `InboxRow` or None."""


class Quick(Protocol):
    """The quick lane; see actors/quick.py."""

    def run(self, orders: Sequence[RunNode], tell: Callable[[Any], None]) -> list[QuickCall | None]:
        """Begin what may go this way; None stands for what needs an actor from the start."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a child is tried again."""

    spec: ChildSpec
    transient: Types = ()
    """Exception types of this agent that are worth a retry."""
    permanent: Types = ()
    """Exception types of this agent that are not."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The world of one supervisor; shared by all of them."""

    reader: Reader
    submit: Callable[[Append, Callable[[Outcome], None]], None]
    """Hands a step to the journal's writer; never blocks."""
    when_decided: Callable[[str, Callable[[], None]], None]
    """Calls back once no step of that conversation waits in the writer."""
    publish: Callable[[Sequence[Event]], None]
    """Passes durable events (and progress) on to whoever listens; never blocks, never raises."""
    children: Mapping[str, tuple[type[Actor], tuple[Any, ...]]]
    """Actor class and arguments by role: `planner`, `agent`, `synthesizer`."""
    policy: Callable[[str, str], RestartPolicy]
    """(role, agent name) -> when it is tried again."""
    random: Callable[[], float]
    """A number in [0, 1) for the jitter of a backoff."""
    limits: Limits = field(default_factory=Limits)
    memory_limits: MemoryLimits = field(default_factory=MemoryLimits)
    busy_policy: BusyPolicy = "enqueue"
    keep_results: bool = True
    """False: results are kept in memory only, and finished nodes run again after the daemon's end."""
    snapshot_every: int = 100
    """Events after which a snapshot is written although the turn is not over."""
    quick: Quick | None = None
    """Where attempts may begin without an actor; None: each has one from the start."""
    compose: Callable[[Synthesize], str] | None = None
    """Puts results into words at once, without waiting, without effects: then no synthesizer has to be started."""
    queue_limit: int = 1000
    """Messages of one conversation that may wait for their turn."""
    load: Load = field(default_factory=Load)
    """Counts what is unfinished over all conversations."""
    recent_rows: int = 100_000
    """Remarks read at waking, at least."""
