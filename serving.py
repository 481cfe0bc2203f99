"""Runs a daemon in the foreground: signals, drain, exit code."""

from __future__ import annotations

import gc
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from agents.errors import AgentDefinitionError
from cli.exit_codes import BAD_CONFIGURATION, DONE, FAILED, TRY_AGAIN
from cli.terminal import words
from config import ConfigError, Problem, Settings, cautions, diff, live_names, secret_values
from daemon import VERSION, Daemon
from forked import copies_let_go
from gateway.redis_ports import BadUrl
from gateway.tracing import TracingUnavailable
from persistence.contract import Store, StoreIncompatible, StoreOwned, StoreUnavailable
from persistence.open_store import UnknownStore
from telemetry.logs import routed
from telemetry.systemd import ServiceManager
from telemetry.telemetry import Telemetry

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_OPEN_FILES = 65_536
"""As deploy/orchestrator.service has it."""
_TICK = 0.5
"""Seconds between looks at what no signal tells: whether the store is still ours."""


def serve(
    settings: Settings, reload: Callable[[], Settings], *, wrap_store: Callable[[Store], Store] | None = None
) -> int:
    """Run until SIGTERM or SIGINT; return the exit code. `wrap_store` may put something around the store."""
    _allow_open_files()
    telemetry = make_telemetry(settings)
    signals: SimpleQueue[int] = SimpleQueue()
    with routed(telemetry), _listening(signals, _HEARD), copies_let_go(_HEARD):
        telemetry.log("daemon_started", version=VERSION, store=settings.state_storage, config=_name(settings.config))
        for caution in cautions(settings):
            telemetry.log("caution", message=caution)
        code = _run(settings, telemetry, reload, signals, wrap_store)
        telemetry.log("daemon_stopped", exit_code=code)
    telemetry.close(2.0)
    return code


def _allow_open_files() -> None:
    """Raise the soft limit of open files: shells give 1,024, fewer than the event streams that are taken.

    At the limit not only connections are refused: the store cannot open its file, nor can workers be started.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # then with as many as there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def make_telemetry(settings: Settings, *, level: str | None = None) -> Telemetry:
    """Return the telemetry that the settings describe, at another level if one is given."""
    return Telemetry(
        level=level or settings.log_level,
        structured=settings.structured_logging,
        trace_all=settings.trace_all,
        secrets=secret_values(settings),
    )


@contextmanager
def running(settings: Settings, telemetry: Telemetry) -> Iterator[Daemon]:
    """Run a daemon for as long as the block lasts; it drains at the end."""
    daemon = Daemon(settings, telemetry)
    try:
        daemon.start()
        yield daemon
        daemon.drain(settings.drain_timeout)
    finally:
        daemon.stop()


def calm_collector() -> None:
    """Let the garbage collector look less often, and never at what was loaded at start: a fifth more requests.

    Measured at 256 requests at once. What a request leaves behind is freed by counting references; the collector only
    finds cycles, and a conversation leaves none (`test_conversation_forgotten.py`). What outlives one look is looked at
    once more after ten, not fifty: all stand still meanwhile, a quarter of a second and not more than one. What is
    older is looked at after twenty of these.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 20)


def explain_failure(error: Exception) -> tuple[int, str] | None:
    """Return exit code and sentence for an error that a person can do something about; None for a defect."""
    if isinstance(error, StoreOwned):
        return TRY_AGAIN, f"{error}; try again when that one has stopped"
    if isinstance(error, StoreUnavailable):
        return TRY_AGAIN, f"the store cannot be used: {error}"
    if isinstance(
        error, (AgentDefinitionError, BadUrl, UnknownStore, StoreIncompatible, ConfigError, TracingUnavailable)
    ):
        return BAD_CONFIGURATION, str(error)
    if isinstance(error, OSError):
        return FAILED, error.strerror or str(error)
    return None


def local_chat(settings: Settings, talk: Callable[[str], int]) -> int:
    """Start a daemon on a free loopback port, talk to it, stop it."""
    telemetry = make_telemetry(settings, level="ERROR")
    own = settings.model_copy(update={"http_bind": "127.0.0.1:0"})
    try:
        with routed(telemetry), running(own, telemetry) as daemon:
            assert daemon.http is not None
            return talk(daemon.http.url)
    except Exception as error:
        explained = explain_failure(error)
        if explained is None:
            raise
        words(explained[1])
        return explained[0]
    finally:
        telemetry.close(2.0)


# Running


def _run(
    settings: Settings,
    telemetry: Telemetry,
    reload: Callable[[], Settings],
    signals: SimpleQueue[int],
    wrap_store: Callable[[Store], Store] | None,
) -> int:
    daemon = None
    try:
        manager = ServiceManager()
        daemon = Daemon(settings, telemetry, wrap_store=wrap_store, service_manager=manager)
        daemon.start()
        calm_collector()
        manager.ready(daemon.status_line())
        if daemon.http is not None:
            words(f"listening on {daemon.http.url}")
        return _until_told(daemon, telemetry, reload, signals, manager)
    except Exception as error:
        explained = explain_failure(error)
        if explained is None:
            telemetry.log("daemon_failed", error_type=type(error).__name__, error_message=str(error))
            raise
        telemetry.log("daemon_failed", error_type=type(error).__name__, error_message=explained[1])
        words(explained[1])
        return explained[0]
    finally:
        if daemon is not None:
            daemon.stop()


def _until_told(
    daemon: Daemon,
    telemetry: Telemetry,
    reload: Callable[[], Settings],
    signals: SimpleQueue[int],
    manager: ServiceManager,
) -> int:
    while True:
        try:
            number = signals.get(timeout=_TICK)
        except Empty:
            if daemon.lost.is_set():
                words(f"the store is no longer ours, so nothing more is written: {daemon.lost_reason}")
                return TRY_AGAIN
            if daemon.failed is not None:
                words(f"the daemon cannot go on: {daemon.failed}")
                return FAILED
            continue
        telemetry.log("signal_received", signal=signal.Signals(number).name)
        if number == signal.SIGUSR1:
            dump_state(daemon, telemetry)
        elif number == signal.SIGHUP:
            manager.reloading()
            _reload(daemon, telemetry, reload)
            manager.ready(daemon.status_line())
        else:
            manager.stopping(f"draining, at most {daemon.settings.drain_timeout:g} s")
            _drain(daemon, signals)
            return DONE


def _drain(daemon: Daemon, signals: SimpleQueue[int]) -> None:
    """Let running work end; a second signal ends the wait, not the saving: what is recorded is recorded already."""
    hurry = threading.Event()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                if signals.get(timeout=0.1) in (signal.SIGTERM, signal.SIGINT):
                    hurry.set()
                    return
            except Empty:
                continue

    watcher = threading.Thread(target=watch, name="second-signal", daemon=True)
    watcher.start()
    left = daemon.drain(daemon.settings.drain_timeout, hurry)
    over.set()
    watcher.join(1.0)
    if left:
        words(f"{left} conversations are unfinished; they go on when the daemon starts again")


def _reload(daemon: Daemon, telemetry: Telemetry, reload: Callable[[], Settings]) -> None:
    """Take a changed configuration where that is possible while running; a bad one changes nothing."""
    try:
        fresh = reload()
        _check_nothing_vanished(daemon.settings, fresh)
    except ConfigError as error:
        telemetry.log("config_rejected", problems=[f"{p.name}: {p.says}" for p in error.problems])
        return
    changed = diff(daemon.settings, fresh)
    live = [name for name in changed if name in live_names()]
    try:
        daemon.reconfigure(daemon.settings.model_copy(update={name: getattr(fresh, name) for name in live}))
    except AgentDefinitionError as error:
        telemetry.log("config_rejected", problems=[str(error)])
        return
    telemetry.configure(level=fresh.log_level, trace_all=fresh.trace_all, secrets=secret_values(fresh))
    telemetry.log(
        "config_reloaded",
        changed=live,
        needs_restart=[name for name in changed if name not in live],
        agents=len(daemon.registry),
    )


def _check_nothing_vanished(old: Settings, fresh: Settings) -> None:
    """Refuse what a file brings about that is being replaced just now: not there yet, or empty still."""
    problems = []
    if old.config is not None and fresh.config is None:
        problems.append(Problem("config", f"{old.config}, which this daemon was started with, is not there any more"))
    if old.api_token is not None and fresh.api_token is None:
        problems.append(Problem("api_token", "it is not set any more: that anybody may ask needs a restart"))
    if problems:
        raise ConfigError(problems)


def dump_state(daemon: Daemon, telemetry: Telemetry) -> None:
    """Write the actor tree and all thread stacks to the log, a line for each part."""
    rows = daemon.system.tree.rows()
    for start in range(0, max(1, len(rows)), 50):
        telemetry.log("state_dump", actors=rows[start : start + 50])
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # the interpreter's documented way to all stacks
        stack = [f"{f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_stack(frame)]
        telemetry.log("state_dump", thread=names.get(ident, str(ident)), stack=stack[-20:])


@contextmanager
def _listening(signals: SimpleQueue[int], numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Put signals into a queue: a handler does nothing else, so it can interrupt nothing half-way."""

    def note(number: int, _frame: Any) -> None:
        signals.put(number)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)
