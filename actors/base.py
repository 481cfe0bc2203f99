"""The base of every actor: pykka's actor, run by a dispatcher, with a parent that hears of its end.

Rules:

- A failing `ask` answers the caller and the actor lives. Whatever else escapes (from `on_start`, a `tell`, a timer)
  ends the actor and nothing but the actor: `on_failure` runs, all below it ends, the parent is told `ChildFailed`.
- An actor has ended only when everything below it has. Children are ended at once, before the messages they still
  have; an actor asked to stop handles what it was sent before.
- What it had not handled stays in its mailbox, which goes to the parent with the report, for the successor. Without a
  parent it becomes dead letters.
- Nothing here knows of threads: a dispatcher calls `run_batch`, one caller at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, cast

import pykka
from pykka import messages as pykka_messages

from actors.envelope import Envelope
from actors.failures import to_failure, where
from actors.futures import ActorFuture
from actors.mailbox import Mailbox
from actors.ref import ActorRef, Stop, urn
from actors.stop_flag import StopFlag
from messages.failure import Failure
from messages.lifecycle import ChildFailed, ChildStopped, NeededActorEnded, Terminated
from supervision.directives import OnError, Rules, rule_for

if TYPE_CHECKING:
    from actors.system import ActorSystem
    from actors.timers import TimerHandle

A = TypeVar("A", bound="Actor")

STARTING: Final = 0
LIVE: Final = 1
STOPPING: Final = 2
FAILING: Final = 3
ENDED: Final = 4


class Timer:
    """A message an actor will get from itself."""

    __slots__ = ("_actor", "_handle", "key", "message")

    def __init__(self, actor: Actor, key: Hashable | None, message: Any) -> None:
        self._actor = actor
        self._handle: TimerHandle | None = None
        self.key: Hashable = self if key is None else key
        self.message = message

    def start(self, delay_s: float) -> None:
        """Begin to wait."""
        self._handle = self._actor.system.timers.schedule(delay_s, self._fire)

    def cancel(self) -> None:
        """Make sure the message is not handled, even if it is in the mailbox already."""
        self._actor.drop_timer(self)

    def silence(self) -> None:
        """Let go of the clock."""
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        self._actor.actor_inbox.put(Envelope(self))


class Actor(pykka.Actor):
    """Write `on_receive(message)`, and if needed `on_start`, `on_stop`, `on_failure`; start with `spawn`."""

    kind: ClassVar[str] = ""
    """What the tree shows; the class's name when empty."""

    system: ActorSystem
    path: str
    """Place in the tree, such as `/conversations/c1/agents/stock`."""
    parent: ActorRef[Any] | None
    """Who hears of this actor's end."""
    incarnation: int
    """Which life at this path, from 1."""

    actor_inbox: Mailbox  # type: ignore[assignment]  # pykka's protocol, for our own envelopes
    actor_stopped: StopFlag  # type: ignore[assignment]  # stands for the threading.Event

    working_on: tuple[str, float] | None = None
    """What it waits for elsewhere, and since when (monotonic seconds): the tree shows it as the current message."""

    rules: tuple[Rules, ...] = ()
    """What to do about errors that escape a handler, by class; innermost first. None said: the actor ends."""

    # Set on an instance only when needed: an idle actor should cost as little as it can.
    _state: int = STARTING
    _current: Any = None
    _since: float = 0.0
    _started_at: float = 0.0
    _children: dict[str, Actor] | None = None
    _timers: dict[Hashable, Timer] | None = None
    _watchers: list[ActorRef[Any]] | None = None
    _kept: list[Envelope] | None = None
    _stop_replies: list[pykka.Future[Any]] | None = None
    _needed: set[str] | None = None
    _detached: bool = False
    _failure: Failure | None = None
    _error: BaseException | None = None

    # Birth

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start an actor the way pykka's users do: on the process's default system, at `/user/<Class>-<n>`."""
        from actors.default_system import default_system, user_path  # noqa: PLC0415  # made only when it is used

        return default_system().launch(cls, user_path(cls), args, kwargs)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # pykka's own would make a random id and an event for each actor; `prepare` has set all that is needed.
        if not hasattr(self, "_actor_ref"):
            from actors.default_system import default_system, user_path  # noqa: PLC0415  # made only when it is used

            self.prepare(default_system(), user_path(type(self)), None, 1, None)

    def prepare(
        self,
        system: ActorSystem,
        path: str,
        parent: ActorRef[Any] | None,
        incarnation: int,
        mailbox: Mailbox | None,
    ) -> None:
        """Set what the actor finds in its own `__init__`; the system calls this."""
        self.system = system
        self.path = path
        self.parent = parent
        self.incarnation = incarnation
        if mailbox is None:
            mailbox = self._create_actor_inbox()
            mailbox.configure(system.mailbox_limit, system.monotonic)
        self.actor_inbox = mailbox
        self.actor_stopped = StopFlag()
        # All actors of a class share the table of their attributes' names only as long as none gets a name that the
        # first ones had not: an idle conversation would take a third more.
        self._state = STARTING
        self._current = self._children = self._timers = None
        self._since = 0.0
        self._started_at = system.monotonic()
        self._actor_ref = ActorRef(self)

    @staticmethod
    def _create_actor_inbox() -> Mailbox:  # type: ignore[override]  # pykka's protocol, for our own envelopes
        return Mailbox()

    @staticmethod
    def _create_future() -> ActorFuture[Any]:
        return ActorFuture()

    def _start_actor_loop(self) -> None:
        awake = type(self).on_start is not Actor.on_start
        if not awake:
            self._state = LIVE
        self.actor_inbox.attach(self, self.system.dispatcher.schedule, awake=awake)

    @property
    def actor_ref(self) -> ActorRef[Self]:
        """The address to give to others."""
        return cast("ActorRef[Self]", self._actor_ref)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # computed: a string for each of 100,000 actors adds up
        """The name pykka gives to an actor."""
        return urn(self.path, self.incarnation)

    # What an actor can do

    def spawn(
        self,
        actor_class: type[A],
        name: str,
        *args: Any,
        mailbox: Mailbox | None = None,
        incarnation: int = 1,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start a child at `<path>/<name>`; `mailbox` is what its predecessor had not handled.

        Raises what the child's `__init__` raises, and `ValueError` when the path is in use.
        """
        return self.system.launch(
            actor_class,
            self.path_of(name),
            args,
            kwargs,
            parent=self.actor_ref,
            mailbox=mailbox,
            incarnation=incarnation,
        )

    def path_of(self, name: str) -> str:
        """Return where a child of that name is in the tree."""
        return f"/{name}" if self.path == "/" else f"{self.path}/{name}"

    def schedule(self, delay_s: float, message: Any, key: Hashable | None = None) -> Timer:
        """Send `message` to this actor in `delay_s` seconds, instead of what was scheduled with the same `key`.

        It is handled as if it had been told; it is never handled after it was cancelled, replaced, or the actor ended.
        """
        if key is not None:
            self.unschedule(key)
        timer = Timer(self, key, message)
        if self._timers is None:
            self._timers = {}
        self._timers[timer.key] = timer
        timer.start(delay_s)
        return timer

    def unschedule(self, key: Hashable) -> None:
        """Cancel what was scheduled with `key`, if anything."""
        timer = (self._timers or {}).get(key)
        if timer is not None:
            self.drop_timer(timer)

    def drop_timer(self, timer: Timer) -> None:
        """Cancel one timer, unless another has taken its key."""
        timers = self._timers
        if timers is not None and timers.get(timer.key) is timer:
            del timers[timer.key]
        timer.silence()

    def watch(self, ref: ActorRef[Any], *, needed: bool = False) -> None:
        """Get `Terminated` once, when the actor behind `ref` has ended; at once if it has already.

        With `needed` this actor cannot go on without it: it fails with `NeededActorEnded` instead, and is supervised.
        """
        if needed:
            self._needed = {*(self._needed or ()), ref.path}
        self.system.watch(self.actor_ref, ref)

    def unwatch(self, ref: ActorRef[Any]) -> None:
        """Watch no longer."""
        if self._needed is not None:
            self._needed.discard(ref.path)
        self.system.unwatch(self.actor_ref, ref)

    def tell_parent(self, message: Any) -> None:
        """Tell the parent; without a living one the message is a dead letter."""
        if self.parent is None:
            self.system.dead_letters.add(self.path, "there is no parent", message)
        else:
            self.system.tell(self.parent, message)

    def discard(self, mailbox: Mailbox, path: str, reason: str = "its actor was not restarted") -> None:
        """Make dead letters of what a child left behind that gets no successor; waiting asks are answered."""
        self.system.discard(mailbox, path, reason)

    def log(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Log an event of this actor."""
        self.system.tell_log(event, level, {"actor": self.path, **fields})

    def stop(self) -> None:
        """End after the messages already in the mailbox."""
        self.actor_inbox.put(Envelope(Stop(self._actor_ref)))

    def stop_now(self) -> None:
        """End with this turn; the messages in the mailbox are left to whoever is told of the end."""
        self.actor_inbox.put_first(Envelope(Stop(self._actor_ref)))

    def may_end(self) -> bool:
        """Return whether this actor ends now that it was asked to; one that says no must call `stop` when it can."""
        return True

    def on_receive(self, message: Any) -> Any:
        """Handle a message. What is not handled by an override comes here and is a dead letter."""
        if isinstance(message, (ChildFailed, ChildStopped)):
            self.discard(message.mailbox, message.path)
        elif not isinstance(message, Terminated):
            self.system.dead_letters.add(self.path, "its actor does not understand it", message)

    # Running: called by the dispatcher

    def run_batch(self, limit: int) -> bool:
        """Handle at most `limit` messages; return True when there are more."""
        if self._state == STARTING:
            self._run_on_start()
        if self._state != LIVE:
            return self._run_ending()
        inbox = self.actor_inbox
        take = inbox.take
        now = self.system.monotonic
        for _ in range(limit):
            envelope = take()
            if envelope is None:
                break
            message = envelope.message
            self._current = message
            self._since = now()
            special = _SPECIAL.get(type(message))
            try:
                reply = self.on_receive(message) if special is None else special(self, envelope)
                if envelope.reply_to is not None:
                    envelope.reply_to.set(reply)
            except BaseException as error:  # noqa: BLE001  # the one place where an actor's errors become messages
                self._escaped(envelope, error)
            if self._state != LIVE:
                self._current = None
                return self._run_ending()
        self._current = None
        return inbox.release()

    def _run_on_start(self) -> None:
        self._since = self.system.monotonic()
        try:
            self.on_start()
        except BaseException as error:  # noqa: BLE001  # a failed start is told to the parent like any other failure
            self._fail(error)
        else:
            if self._state == STARTING:  # else it was taken out of the tree while it started
                self._state = LIVE

    def _escaped(self, envelope: Envelope, error: BaseException) -> None:
        reply_to, envelope.reply_to = envelope.reply_to, None
        if reply_to is not None and isinstance(error, Exception):
            _answer(reply_to, error)
            self.log("ask_failed", level="debug", error_type=type(error).__name__)
            return
        if reply_to is not None:
            # The caller learns that the actor ended, and does not get an exception that would end it as well.
            dead = pykka.ActorDeadError(f"{self._actor_ref} ended by {type(error).__name__}")
            dead.__cause__ = error
            _answer(reply_to, dead)
        if self.rules and rule_for(self.rules, error) is OnError.RESUME:
            self.log("actor_resumed", error_type=type(error).__name__, message_type=type(self._current).__name__)
        else:
            self._fail(error)

    # Messages of the runtime's own

    def _on_stop_message(self, envelope: Envelope) -> None:
        self._note_stop(envelope)
        message = envelope.message
        if isinstance(message, Stop) and message.ref is not self._actor_ref:
            self._answer_stops()
        elif self._detached or self.may_end():
            self._begin_end(STOPPING)

    def _on_proxy_message(self, envelope: Envelope) -> Any:
        return self._handle_receive(envelope.message)

    def _on_timer(self, envelope: Envelope) -> Any:
        timer: Timer = envelope.message
        timers = self._timers
        if timers is None or timers.get(timer.key) is not timer:
            return None  # cancelled, replaced, or of an earlier life
        del timers[timer.key]
        self._current = timer.message
        return self.on_receive(timer.message)

    def _on_terminated(self, envelope: Envelope) -> Any:
        message = envelope.message
        if self._needed is not None and message.path in self._needed:
            raise NeededActorEnded(f"{message.path} has ended: {message.reason}")
        return self.on_receive(message)

    def _on_child_report(self, envelope: Envelope) -> Any:
        self._forget_child(envelope.message.path)
        return self.on_receive(envelope.message)

    def _forget_child(self, path: str) -> None:
        # Only the parent takes children out, when it takes the report in: so none is in the table of a later life.
        children = self._children
        if children is not None:
            child = children.get(path)
            if child is not None and child._state == ENDED:  # noqa: SLF001  # same class
                self.system.release_child(self, path, child)

    # The end

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._failure = to_failure(error, now_s=self.system.clock.now_ms() / 1000)
        self.actor_stopped.set()
        self.log(
            "actor_crashed",
            level="error",
            kind=self.kind or type(self).__name__,
            incarnation=self.incarnation,
            message_type=type(self._current).__name__ if self._current is not None else None,
            error_type=self._failure.type,
            error_class=self._failure.error_class,
            error_message=self._failure.message,
            where=where(error),
        )
        self._guard("on_failure", lambda: self.on_failure(type(error), error, error.__traceback__))
        self._begin_end(FAILING)

    def _begin_end(self, state: int) -> None:
        for timer in list((self._timers or {}).values()):
            timer.silence()
        self._timers = None
        for child in self.system.close_to_children(self, state):
            child.actor_inbox.put_first(Envelope(Stop(child._actor_ref)))  # noqa: SLF001  # same class

    def _run_ending(self) -> bool:
        """Wait for the children; keep all else for the successor.

        Only `run_batch` may call this, as its last act: it lets go of the mailbox, so another thread may come at once.
        """
        if self._state == ENDED:
            return False
        inbox = self.actor_inbox
        if self._kept is None:
            self._kept = []
        while self._children and (envelope := inbox.take()) is not None:
            message = envelope.message
            if isinstance(message, (ChildFailed, ChildStopped)):
                self._forget_child(message.path)
                self.discard(message.mailbox, message.path, "its parent has ended")
            elif isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
                self._note_stop(envelope)
            else:
                self._kept.append(envelope)
        if self._children:
            return inbox.release()
        self._end()
        return False

    def _end(self) -> None:
        orderly = self._state == STOPPING
        if orderly:
            self.actor_stopped.set()
            self._guard("on_stop", self.on_stop)
        inbox = self.actor_inbox
        inbox.restore(self._sift([*(self._kept or ()), *inbox.drain()], orderly=orderly))
        self._kept = None
        inbox.detach()
        watchers = self.system.ended(self)
        lifetime = self.system.monotonic() - self._started_at
        self._report(lifetime)
        reason = "stopped" if self._failure is None else f"{self._failure.type}: {self._failure.message}"
        for watcher in watchers:
            watcher.actor_inbox.put(Envelope(Terminated(self.path, reason)))
        if orderly:
            self.log("actor_stopped", level="debug", kind=self.kind or type(self).__name__, lifetime=lifetime)
        self._error = None
        self._answer_stops()

    def mark_ended(self) -> None:
        """Record that nothing of this actor is left; the system calls this while it takes it out of its table."""
        self._state = ENDED

    def _sift(self, left: list[Envelope], *, orderly: bool) -> list[Envelope]:
        """Return what a successor should have; the rest concerned this life only, and is answered."""
        keep = []
        for envelope in left:
            message = envelope.message
            if isinstance(message, (Stop, pykka_messages._ActorStop)):  # noqa: SLF001  # pykka's own stop message
                self._note_stop(envelope)
            elif isinstance(message, (ChildFailed, ChildStopped)):
                self.discard(message.mailbox, message.path, "its parent has ended")
            elif isinstance(message, (Timer, Terminated)):
                continue
            elif orderly and envelope.reply_to is not None:
                _answer(envelope.reply_to, _dead(self._actor_ref))
            else:
                keep.append(envelope)
        return keep

    def _report(self, lifetime: float) -> None:
        inbox = self.actor_inbox
        if self._detached:
            self.system.discard(inbox, self.path, "its actor was taken out of the tree")
            return
        if self.parent is None:
            self.system.discard(inbox, self.path, "its actor has ended")
            return
        report: ChildFailed | ChildStopped
        if self._failure is None:
            report = ChildStopped(self.path, self.incarnation, inbox)
        else:
            report = ChildFailed(self.path, self.incarnation, self._failure, self._error, inbox, lifetime)
        self.parent.actor_inbox.put(Envelope(report))

    def _note_stop(self, envelope: Envelope) -> None:
        if envelope.reply_to is not None:
            if self._stop_replies is None:
                self._stop_replies = []
            self._stop_replies.append(envelope.reply_to)
            envelope.reply_to = None

    def _answer_stops(self) -> None:
        replies, self._stop_replies = self._stop_replies, None
        for reply_to in replies or ():
            reply_to.set(None)

    def _guard(self, hook: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # the actor is ending anyway; its hook must not keep it
            failure = to_failure(error)
            fields = {"error_type": failure.type, "error_class": failure.error_class, "error_message": failure.message}
            self.log("actor_hook_failed", level="error", hook=hook, where=where(error), **fields)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clean up after a failure, before the actor's children end; also when it was `on_start` that failed."""


def _answer(reply_to: pykka.Future[Any], error: BaseException) -> None:
    try:
        reply_to.set_exception((type(error), error, error.__traceback__))
    except Exception:  # noqa: BLE001  # somebody has answered already (queue.Full): the caller has what it needs
        return


def _dead(ref: pykka.ActorRef[Any]) -> pykka.ActorDeadError:
    return pykka.ActorDeadError(f"{ref} stopped before handling the message")


_SPECIAL: Final[dict[type[Any], Callable[[Any, Envelope], Any]]] = {
    Stop: Actor._on_stop_message,  # noqa: SLF001  # a table of this class's own methods
    pykka_messages._ActorStop: Actor._on_stop_message,  # noqa: SLF001  # pykka's own stop message
    pykka_messages.ProxyCall: Actor._on_proxy_message,  # noqa: SLF001  # as above
    pykka_messages.ProxyGetAttr: Actor._on_proxy_message,  # noqa: SLF001  # as above
    pykka_messages.ProxySetAttr: Actor._on_proxy_message,  # noqa: SLF001  # as above
    Timer: Actor._on_timer,  # noqa: SLF001  # as above
    ChildFailed: Actor._on_child_report,  # noqa: SLF001  # as above
    ChildStopped: Actor._on_child_report,  # noqa: SLF001  # as above
    Terminated: Actor._on_terminated,  # noqa: SLF001  # as above
}
"""Messages that the runtime looks at before `on_receive`, or instead of it. One look-up per message, by exact type."""
