"""The actor system: the table of all actors, and the services they share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import pykka
from pykka import messages as pykka_messages

from actors.actor_timer import Timer
from actors.base import Actor
from actors.dead_letters import DeadLetters
from actors.detaching import detach
from actors.dispatcher import Dispatcher, ThreadDispatcher
from actors.ending import Ending
from actors.envelope import Envelope
from actors.mailbox import Mailbox
from actors.ref import ActorRef, Stop
from actors.stages import STOPPING
from actors.timers import Clock, SystemClock, Timers, TimerService
from actors.tree import Tree
from messages.lifecycle import ChildFailed, ChildStopped, Terminated
from supervision.directives import Rules

A = TypeVar("A", bound=Actor)


class Log(Protocol):
    """Where log events go."""

    def __call__(self, event: str, /, *, level: str | None = None, **fields: Any) -> None:
        """Take one event. Must not block."""
        ...


Said = tuple[str, dict[str, Any]]
"""An event and its fields."""


class Tell(Protocol):
    """Where log events go that are gathered already."""

    def __call__(self, common: dict[str, Any], said: Iterable[Said], level: str | None = None, /) -> None:
        """Take events of one moment, each with the `common` fields besides its own, in dicts nobody else has."""
        ...


class ActorSystem:
    """Everything that runs together, and ends together with `stop`."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher | None = None,
        clock: Clock | None = None,
        timers: TimerService | None = None,
        log: Log | None = None,
        tell: Tell | None = None,
        mailbox_limit: int | None = 1000,
        name: str = "orchestrator",
    ) -> None:
        """`tell` does what `log` does, and is asked instead of it."""
        self.name = name
        self.clock: Clock = clock or SystemClock()
        self.monotonic = self.clock.monotonic
        """The clock's method, looked up once: it is called for every message."""
        self.mailbox_limit = mailbox_limit
        """Messages at which `offer` refuses."""
        self.dispatcher: Dispatcher = dispatcher or ThreadDispatcher(name=name)
        self.timers: TimerService = timers or Timers(self.clock, self._timer_failed)
        self.dead_letters = DeadLetters(now_ms=self.clock.now_ms)
        self.tree = Tree(self._live, self.monotonic)
        self.log_failures = 0
        """Log events that could not be written; work goes on without them."""
        self.abandoned: set[Ending] = set()
        """Actors that did not stop in time and were taken out of the tree, for as long as they still run."""
        self.stopping = False
        """Nothing new is started."""
        if tell is None and log is not None:
            tell = partial(_log_as_calls, log)
        self._tell = tell
        # Reentrant: making a list of all actors may run finalizers, and those may start or end actors.
        self._lock = threading.RLock()
        self._actors: dict[str, Actor] = {}
        self._all_ended = threading.Event()
        self.dispatcher.start()

    # Births

    def spawn(
        self,
        actor_class: type[A],
        path: str,
        *args: Any,
        parent: ActorRef[Any] | None = None,
        mailbox: Mailbox | None = None,
        incarnation: int = 1,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start an actor; `args` and `kwargs` go to its `__init__`, which runs here and now.

        Raises what `__init__` raises, `ValueError` when a live actor has this path or mailbox, and `ActorDeadError`
        when the parent or the system is ending. After an error nothing is left behind, and the mailbox is still the
        caller's.
        """
        return self.launch(actor_class, path, args, kwargs, parent=parent, mailbox=mailbox, incarnation=incarnation)

    def launch(
        self,
        actor_class: type[A],
        path: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        parent: ActorRef[Any] | None = None,
        mailbox: Mailbox | None = None,
        incarnation: int = 1,
        rules: tuple[Rules, ...] = (),
    ) -> ActorRef[A]:
        """Do what `spawn` does, for arguments that might have the names of its parameters."""
        if mailbox is not None and mailbox.attached:
            raise ValueError(f"the mailbox given to {path} belongs to a live actor")
        actor = actor_class.__new__(actor_class)
        actor.prepare(self, path, parent, incarnation, mailbox)
        if rules:
            actor.rules = rules
        self._enter(actor)
        try:
            actor.__init__(*args, **(kwargs or {}))  # type: ignore[misc]  # what a call of the class does, in two steps
            self.emit("actor_started", level="debug", actor=path, kind=actor.kind or actor_class.__name__)
            actor._start_actor_loop()  # noqa: SLF001  # pykka's hook for actor types
        except BaseException:
            self._leave_unborn(actor, given=mailbox is not None)
            raise
        return actor.actor_ref

    def _enter(self, actor: Actor) -> None:
        path = actor.path
        with self._lock:
            if self.stopping:
                raise pykka.ActorDeadError(f"cannot start {path}: the system {self.name} is stopping")
            if path in self._actors:
                raise ValueError(f"a live actor has the path {path}")
            if actor.parent is not None:
                parent = actor.parent._actor_weakref()  # noqa: SLF001  # the actor behind the ref
                if parent is None or parent._detached or parent._state >= STOPPING:  # noqa: SLF001  # the runtime's own
                    raise pykka.ActorDeadError(f"cannot start {path}: its parent {actor.parent.path} is ending")
                if parent._children is None:  # noqa: SLF001  # as above
                    parent._children = {}  # noqa: SLF001  # as above
                parent._children[path] = actor  # noqa: SLF001  # as above
            self._actors[path] = actor

    def _leave_unborn(self, actor: Actor, *, given: bool) -> None:
        actor.actor_stopped.set()
        with self._lock:
            parent = actor.parent._actor_weakref() if actor.parent is not None else None  # noqa: SLF001  # as above
            if parent is not None:
                self.release_child(parent, actor.path, actor)
            self._remove(actor)
        if parent is not None and parent._state >= STOPPING:  # noqa: SLF001  # the runtime's own field
            # It has been waiting for this child since it began to end, and has to look again.
            parent.actor_inbox.put(Envelope(ChildStopped(actor.path, actor.incarnation, Mailbox())))
        if given:
            actor.actor_inbox.detach()
        else:
            self.discard(actor.actor_inbox, actor.path, "its actor could not be made")

    # Messages

    def find(self, path: str) -> ActorRef[Any] | None:
        """Return the live actor at a path."""
        actor = self._actors.get(path)
        return actor.actor_ref if actor is not None and not actor.actor_stopped.is_set() else None

    def figures(self) -> tuple[dict[str, int], int, int, float]:
        """Return live actors by kind, messages waiting in all and in the fullest mailbox, and the oldest's seconds."""
        kinds: dict[str, int] = {}
        waiting, fullest, oldest = 0, 0, 0.0
        for actor in self._live():
            kind = actor.kind or type(actor).__name__
            kinds[kind] = kinds.get(kind, 0) + 1
            depth = len(actor.actor_inbox)
            if depth:
                waiting += depth
                fullest = max(fullest, depth)
                oldest = max(oldest, actor.actor_inbox.oldest_age or 0.0)
        return kinds, waiting, fullest, oldest

    def offer(self, ref: ActorRef[Any], message: Any) -> bool:
        """Tell an actor something from outside; False, and nothing happens, when its mailbox is full.

        Raises `pykka.ActorDeadError` when it has ended.
        """
        if ref.actor_stopped.is_set():
            raise pykka.ActorDeadError(f"{ref} not found")
        return ref.actor_inbox.offer(Envelope(message))

    def tell(self, ref: ActorRef[Any], message: Any) -> None:
        """Tell an actor something, whatever its limit; a dead letter when it has ended. Never raises."""
        if ref.actor_stopped.is_set():
            self.dead_letters.add(ref.path, "its actor has ended", message)
        else:
            ref.actor_inbox.put(Envelope(message))

    def discard(self, mailbox: Mailbox, address: str, reason: str) -> None:
        """Close a mailbox that gets no successor: dead letters of its messages and of all that come later."""
        if not mailbox.attached:
            mailbox.close(partial(self._bury, address, reason))

    def _bury(self, address: str, reason: str, envelope: Envelope) -> None:
        message = envelope.message
        if isinstance(message, (ChildFailed, ChildStopped)):
            self.discard(message.mailbox, message.path, "its parent has ended")
        elif isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
            if envelope.reply_to is not None:
                envelope.reply_to.set(None)
        elif envelope.reply_to is not None:
            error = pykka.ActorDeadError(f"{address} stopped before handling the message")
            envelope.reply_to.set_exception((type(error), error, None))
        elif not isinstance(message, (Timer, Terminated)):
            self.dead_letters.add(address, reason, message)

    # Death watch

    def watch(self, watcher: ActorRef[Any], watched: ActorRef[Any]) -> None:
        """Tell `watcher` with `Terminated` when `watched` has ended; at once if it has already."""
        with self._lock:
            actor = self._actors.get(watched.path)
            if actor is not None and actor.actor_ref is watched:
                watchers = actor._watchers or []  # noqa: SLF001  # the runtime's own field
                if watcher not in watchers:
                    actor._watchers = [*watchers, watcher]  # noqa: SLF001  # as above
                return
        watcher.actor_inbox.put(Envelope(Terminated(watched.path, "it had ended before")))

    def unwatch(self, watcher: ActorRef[Any], watched: ActorRef[Any]) -> None:
        """Tell `watcher` nothing any more."""
        with self._lock:
            actor = self._actors.get(watched.path)
            if actor is not None and actor.actor_ref is watched and actor._watchers:  # noqa: SLF001  # as above
                actor._watchers = [ref for ref in actor._watchers if ref is not watcher]  # noqa: SLF001  # as above

    def kill(self, ref: ActorRef[Any]) -> bool:
        """Take an actor, and all below it, out of the tree now; its parent is told `ChildStopped` at once.

        Code that runs cannot be ended from outside: when it comes back its actor ends, cleans up and reports to nobody.
        Until then it is in `abandoned`. What is in its mailbox, and what comes later, goes to the parent with the
        report. False when it had ended before.
        """
        with self._lock:
            actor = self._actors.get(ref.path)
            if actor is None or actor.actor_ref is not ref:
                return False
            taken = [actor]
            for each in taken:  # grows while it is walked
                taken.extend((each._children or {}).values())  # noqa: SLF001  # the runtime's own field
            for each in taken:
                if self._actors.get(each.path) is each:
                    del self._actors[each.path]
                each._detached = True  # noqa: SLF001  # the runtime's own field
                each._children = None  # noqa: SLF001  # as above
                each.actor_stopped.set()
                self.abandoned.add(each)
            parent = None if actor.parent is None else actor.parent._actor_weakref()  # noqa: SLF001  # as above
            if parent is not None:
                self.release_child(parent, actor.path, actor)
            if self.stopping and not self._actors:
                self._all_ended.set()
        self.tree.forget_below(ref.path)
        for each in taken[1:]:
            self.discard(detach(self, each), each.path, "its parent was taken out of the tree")
        left = detach(self, actor)
        if actor.parent is None:
            self.discard(left, actor.path, "its actor was taken out of the tree")
        else:
            actor.parent.actor_inbox.put(Envelope(ChildStopped(actor.path, actor.incarnation, left)))
        return True

    # Ends: called by actors

    def close_to_children(self, actor: Ending, state: int) -> list[Actor]:
        """Let the actor enter an ending state, in which no child can be added; return those it has."""
        with self._lock:
            actor._state = state  # noqa: SLF001  # the runtime's own field
            return list((actor._children or {}).values())  # noqa: SLF001  # as above

    def release_child(self, parent: Ending, path: str, child: Ending) -> None:
        """Take an ended child out of its parent's table, unless a successor is there already."""
        with self._lock:
            children = parent._children  # noqa: SLF001  # the runtime's own field
            if children is not None and children.get(path) is child:
                del children[path]

    def ended(self, actor: Ending) -> list[ActorRef[Any]]:
        """Take an actor out of the table; return who watched it."""
        with self._lock:
            self._remove(actor)
            watchers, actor._watchers = actor._watchers, None  # noqa: SLF001  # the runtime's own field
        if not actor._detached:  # noqa: SLF001  # as above
            self.tree.forget_below(actor.path)
        if actor._failure is None and not actor._detached:  # noqa: SLF001  # as above
            self.tree.forget(actor.path)
        return watchers or []

    def _remove(self, actor: Ending) -> None:
        actor.mark_ended()
        self.abandoned.discard(actor)
        if self._actors.get(actor.path) is actor:
            del self._actors[actor.path]
        if self.stopping and not self._actors:
            self._all_ended.set()

    def stop(self, timeout: float = 10.0) -> list[str]:
        """Stop all actors, children before parents, then timers and dispatcher; nothing can be started any more.

        What is in mailboxes becomes dead letters. Returns the paths of the actors that did not end within `timeout`
        seconds.
        """
        deadline = self.monotonic() + timeout
        with self._lock:
            self.stopping = True
            if not self._actors:
                self._all_ended.set()
            tops = [actor for actor in self._actors.values() if actor.parent is None]
        for actor in tops:
            actor.actor_inbox.put_first(Envelope(Stop(actor.actor_ref)))
        self.dispatcher.wait(self._all_ended, timeout)
        self.timers.stop(max(0.1, deadline - self.monotonic()))
        self.dispatcher.stop(max(0.1, deadline - self.monotonic()))
        with self._lock:
            return sorted([*self._actors, *(actor.path for actor in self.abandoned)])

    # Said

    def emit(self, event: str, /, *, level: str | None = None, **fields: Any) -> None:
        """Log an event; a log that fails is counted, and work goes on."""
        self.tell_log(event, level, fields)

    def tell_log(self, event: str, level: str | None, fields: dict[str, Any]) -> None:
        """Do what `emit` does, for fields that are gathered already."""
        self.tell_logs({}, ((event, fields),), level)

    def tell_logs(self, common: dict[str, Any], said: Sequence[Said], level: str | None = None) -> None:
        """Log several events of one moment, each with the `common` fields besides its own."""
        if self._tell is not None:
            try:
                self._tell(common, said, level)
            except Exception:  # noqa: BLE001  # a broken log must not break the work
                self.log_failures += 1

    @property
    def log(self) -> Log:
        """Where log events go; never raises."""
        return self.emit

    def _live(self) -> list[Actor]:
        with self._lock:
            return list(self._actors.values())

    def _timer_failed(self, error: BaseException) -> None:
        self.emit("timer_failed", level="error", error_type=type(error).__name__)


def _log_as_calls(log: Log, common: dict[str, Any], said: Iterable[Said], level: str | None = None) -> None:
    for event, fields in said:
        log(event, level=level, **{**common, **fields})
