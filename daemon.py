"""The composition root: builds a daemon from settings, starts it, drains it. Knows every part."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from os import getpid
from typing import TYPE_CHECKING, Any

from actors.dispatcher import ThreadDispatcher
from actors.execution import Execution
from actors.root import Pulse
from actors.system import ActorSystem
from agents.registry import Registry
from agents.reimport import imported_anew
from building import (
    breaker_spec,
    build_minds,
    build_parts,
    build_store,
    modules_of,
    owner_name,
    plan_limits,
    store_address,
)
from burial import Burial
from config import Settings
from conversation.load import Load
from conversation.parts import Parts
from doors import doors_plan
from figures import Figures
from gateway.feed import Feed
from gateway.server import HttpServer
from gateway.tracing import Tracing
from housekeeping import Housekeeping
from messages.failure import clip
from messages.inbound import Refused
from messages.plan import Plan, ResolvedPlan
from persistence.contract import MetricRow, Store, StoreError, StoreUnavailable, operation_row
from persistence.patient_read import PatientRead
from persistence.reader import Reader
from persistence.witness import Witness
from persistence.writer import Writer
from planning.remembered import RememberedPlans
from planning.resolve import InvalidPlan
from router import PlanRefused, Router
from supervision.suspects import triage
from telemetry.rows import Kinds
from telemetry.systemd import ServiceManager
from telemetry.telemetry import Telemetry
from trials import Trials
from views import Check, Views
from workflow.state import Phase

if TYPE_CHECKING:
    from gateway.redis_door import RedisDoor

VERSION = "0.1.0"
_LAST_WORDS = 2.0
"""Seconds that an ending daemon waits for the store to note that it ended."""
_LOOK_EVERY = 1.0
"""Seconds between two looks whether the store still confirms what it is asked."""


class Daemon:
    """One running orchestrator.

    `start` returns when recovery has begun and the doors are open; `drain` and `stop` end it. Raises what its parts
    raise: `StoreOwned`, `StoreUnavailable`, `AgentDefinitionError`, `OSError` for a taken port.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        *,
        version: str = VERSION,
        wrap_store: Callable[[Store], Store] | None = None,
        service_manager: ServiceManager | None = None,
    ) -> None:
        self._service_manager = service_manager or ServiceManager({})
        self.settings = settings
        self.telemetry = telemetry
        self.version = version
        self.lost = threading.Event()
        """Set when another daemon has taken the store over: this one must end."""
        self.lost_reason = ""
        self.failed: str | None = None
        """Why the root of the actor tree gave up, once it has: nothing works any more, and the process must end."""
        self.epoch = 0
        self._started = False
        self._slow = False
        """Whether a message has waited for some seconds to be looked up in the store."""
        self._minds = build_minds(settings)
        self._limits = plan_limits(settings)
        self._plans = RememberedPlans()
        self.feed = Feed(telemetry.log)
        self._tracing = Tracing(version=version) if settings.tracing else None
        kind = settings.state_storage if settings.persist_conversations else "memory"
        store = build_store(settings, kind)
        self.store: Store = store if wrap_store is None else wrap_store(store)
        self._figures = Figures(self)
        # A store may have fallen silent before any commit told of it.
        self._farewell = PatientRead(self._say_farewell, within=_LAST_WORDS)
        self._witness = Witness(settings.data_dir, address=store_address(settings, kind))
        self.writer = Writer(self.store, log=telemetry.log, on_ownership_lost=self._ownership_lost)
        self.reader = Reader(self.store, log=telemetry.log)
        self.system = ActorSystem(
            dispatcher=ThreadDispatcher(threads=settings.dispatcher_threads, name="orchestrator"),
            tell=telemetry.tell,
            mailbox_limit=settings.mailbox_limit,
        )
        self._burial = Burial(self.system, self.writer, telemetry.log)
        self.execution = Execution(
            threads=settings.threads,
            max_result_bytes=settings.max_result_bytes,
            log=telemetry.log,
            on_late=self._burial.late,
            breaker=breaker_spec(settings),
            abandoned_limit=settings.abandoned_limit,
        )
        self._housekeeping = Housekeeping(
            self.store, self.reader, self.system, self._witness, settings=lambda: self.settings, log=telemetry.log
        )
        self.system.dead_letters.listen(self._burial.keep)
        self.load = Load(settings.max_unfinished)
        self._trials: Trials | None = None
        self.router: Router | None = None
        self.views: Views | None = None
        self.http: HttpServer | None = None
        self._reserved: socket.socket | None = None
        """The HTTP door's address, from before the door is there."""
        self.redis: RedisDoor | None = None

    # Life

    def start(self) -> None:
        """Take the store, take up what was unfinished, open the doors."""
        self._take_store()
        recoveries = self.store.count_recoveries()
        unfinished = self.store.unfinished()
        self.writer.start()
        self.telemetry.use_sink(self.writer.submit_rows, Kinds(operation_row, MetricRow))
        self.telemetry.collect(self._figures)
        self.execution.start()
        self._build_router()
        self._take_up(unfinished, recoveries)
        self._open_doors(unfinished)
        self._housekeeping.start()
        self._look_at_store()
        self._started = True
        address = None if self.http is None else self.http.url
        self.telemetry.log("daemon_ready", address=address, epoch=self.epoch, resumed=len(unfinished))

    def _take_store(self) -> None:
        """Own it, if it is what it was, and reserve the address that clients know it by."""
        seen = self.store.mark()
        if not self.settings.accept_restored:
            self._witness.check(seen)
        self.epoch = self.store.open(owner_name())
        self._housekeeping.beat()
        health = self.store.health()
        if not health.durable:
            self.telemetry.log(
                "caution", message=f"the {health.kind} store can lose what was acknowledged: {health.detail}"
            )
        if self.settings.http_address is not None:
            # Before recoveries are counted: a start that ends for want of its address has taken up no conversation.
            self._reserved = HttpServer.reserve(self.settings)

    def _build_router(self) -> None:
        router = self.router = Router(
            self.system,
            self._parts(),
            check_plan=self._check_plan,
            passivate_after=self.settings.passivate_after,
            admits=self._admits,
            on_failed=self._root_failed,
            pulse=self._pulse(),
        )
        checks: dict[str, Check] = {
            "store": self._check_store,
            "journal": self._check_journal,
            "agents": self._check_agents,
        }
        if self.settings.redis_url is not None:
            checks["redis"] = self._check_redis
        self.views = Views(
            store=self.store,
            writer=self.writer,
            system=self.system,
            execution=self.execution,
            router=router,
            feed=self.feed,
            checks=checks,
            load=self.load,
            about={"version": self.version, "pid": getpid(), "epoch": self.epoch, "host": socket.gethostname()},
            redis=None if self.settings.redis_url is None else self._redis_status,
            optional=("redis",),
        )
        if self.settings.redis_url is not None:
            from gateway.redis_door import RedisDoor  # noqa: PLC0415  # the driver is loaded only where it is used

            self.redis = RedisDoor(self.views, self.settings, bury=self._burial.bury, log=self.telemetry.log)
        if self._tracing is not None:
            self.feed.subscribe(None, self._tracing.heard)

    def _take_up(self, unfinished: list[str], recoveries: Mapping[str, int]) -> None:
        """Let unfinished conversations go on, but for those that may have brought the daemon down."""
        assert self.router is not None
        found = triage(recoveries, self.settings.quarantine_after)
        quarantined = {
            # The count has this start in it, which does not take it up.
            name: f"the daemon ended {recoveries[name] - 1} times in a row after it had taken this conversation up"
            for name in found.quarantined
        }
        trials = self._trials = Trials(
            self.store,
            self.reader,
            self.system,
            wake=self._wake_unless_draining,
            is_unfinished=self.load.is_unfinished,
            log=self.telemetry.log,
        )
        trials.begin(found, recoveries, self.settings.quarantine_after)
        self.router.resume_unfinished(unfinished, quarantined, found.held)

    def _open_doors(self, unfinished: list[str]) -> None:
        assert self.router is not None
        assert self.views is not None
        if self.settings.http_address is not None:
            self.http = HttpServer(
                self.views,
                self.settings,
                metrics=self.telemetry.metrics_text,
                version=self.version,
                phases=tuple(Phase),
                log=self.telemetry.log,
                stalled=lambda: self.writer.stalled or self.reader.stalled,
            )
            self.http.start(self._reserved)
        if self.redis is not None:
            self.router.supervise(doors_plan({"redis": self.redis.open(unfinished)}))

    def _wake_unless_draining(self, conversation_ids: Sequence[str]) -> None:
        if self.router is not None and not self.router.draining:
            self.router.wake(conversation_ids)

    def status_line(self) -> str:
        """Return in a few words what the daemon is about."""
        router = self.router
        if router is None:
            return "starting"
        said = f"{router.live()} conversations awake, {self.load.total} requests unfinished"
        return f"draining: {said}" if router.draining else said

    def drain(self, timeout: float, hurry: threading.Event | None = None) -> int:
        """Refuse new work and let running work end, at most `timeout` seconds; return how many are left unfinished.

        What is left is in the journal and goes on when the next daemon starts. `hurry` ends the wait.
        """
        router = self.router
        if router is None:
            return 0
        router.draining = True
        working = router.working()
        self.telemetry.log("daemon_draining", timeout=timeout, running=working)
        deadline = time.monotonic() + timeout
        hurry = hurry or threading.Event()
        while working and time.monotonic() < deadline and not hurry.wait(0.02):
            working = router.working()
        return working

    def stop(self) -> None:
        """Close the doors and the store; nothing is left running. Safe to call after a failed start."""
        if self.redis is not None:
            self.redis.stop()
        if self.http is not None:
            self.http.stop(2.0)
        if self._reserved is not None:
            self._reserved.close()
        left = self.system.stop(2.0)
        left += self.execution.stop(2.0)
        self.telemetry.flush(1.0)
        self.telemetry.use_sink(None)
        if self._tracing is not None:
            self._tracing.close()
        self.writer.stop(5.0)
        self.reader.stop(2.0)
        if self.epoch and not self.lost.is_set() and self.writer.available:  # else asking would only take its time
            with suppress(StoreError):  # then the next start has seen less
                self._farewell()
            self._farewell.stop()
        self._figures.stop()
        self.store.close()
        if left:
            self.telemetry.log("left_running", names=left[:20], count=len(left))

    def _say_farewell(self) -> None:
        self._housekeeping.beat()
        # Only an end that nobody ordered says anything against what was taken up.
        if self._trials is not None and self._started and self.failed is None:
            self._trials.farewell()

    @property
    def registry(self) -> Registry:
        """The agents of messages to come."""
        return self._minds.registry

    def reconfigure(self, settings: Settings) -> None:
        """Obey changed settings, and import agents, planner and synthesizer anew.

        Work in flight keeps what it started with, agents too. Raises `AgentDefinitionError`, and nothing has changed.
        """
        with imported_anew(modules_of(settings)):
            self._minds = build_minds(settings)
        self.settings = settings
        self._limits = plan_limits(settings)
        self.execution.breakers.default = breaker_spec(settings)
        self.execution.abandoned_limit = settings.abandoned_limit
        self.execution.bounds.result_bytes = settings.max_result_bytes
        self.load.limit = settings.max_unfinished
        if self.router is not None:
            self.router.reconfigure(self._parts(), settings.passivate_after)
        if self.http is not None:
            self.http.configure(settings)
        if self.redis is not None:
            self.redis.configure(settings)

    # Parts

    def _parts(self) -> Parts:
        return build_parts(
            self.settings,
            self._minds,
            reader=self.reader,
            writer=self.writer,
            execution=self.execution,
            load=self.load,
            publish=self.feed.publish,
        )

    def _check_plan(self, plan: Plan) -> ResolvedPlan:
        try:
            return self._plans.resolve(plan, self.registry, self._limits)
        except InvalidPlan as error:
            raise PlanRefused([asdict(problem) for problem in error.problems]) from None

    def _admits(self) -> Refused | None:
        if self.writer.available:
            return None
        detail = f"the store takes no writes now: {self.writer.last_error}"
        return Refused(code="store_unavailable", detail=detail, retry_after=2.0)

    def _look_at_store(self) -> None:
        self.writer.look()
        slow = self.reader.stalled
        if slow is not None and not self._slow and self.writer.available:
            # Its row is a commit: where nothing else is to be written it finds out whether the doors must close.
            self.telemetry.log("store_slow", error_message=slow)
        self._slow = slow is not None
        if not self.system.stopping:
            self.system.timers.schedule(_LOOK_EVERY, self._look_at_store)

    # Checks

    def _check_store(self) -> dict[str, Any]:
        if not self.writer.available:  # asking once more would only make the probe wait
            raise StoreUnavailable(str(self.writer.last_error))
        health = self.store.health()
        return {"detail": f"{health.kind}: {health.detail}", "durable": health.durable}

    def _check_journal(self) -> str:
        if not self.writer.available:
            raise RuntimeError(f"no writes are taken: {self.writer.last_error}")
        return "writes are taken"

    def _check_agents(self) -> str:
        return f"{len(self.registry.names())} agents"

    def _check_redis(self) -> str:
        if self.redis is None:
            raise RuntimeError("the Redis door is not open yet")
        return self.redis.check()

    def _redis_status(self) -> dict[str, Any]:
        return {} if self.redis is None else self.redis.status()

    # Events of the parts

    def _ownership_lost(self, reason: str) -> None:
        self.telemetry.log("ownership_lost", epoch=self.epoch, error_message=reason)
        self.lost_reason = reason
        self.lost.set()

    def _pulse(self) -> Pulse | None:
        every = self._service_manager.ping_every
        return None if every is None else Pulse(every, lambda: self._service_manager.alive(self.status_line()))

    def _root_failed(self, error: BaseException | None) -> None:
        kind, message = type(error).__name__, clip(str(error))
        self.telemetry.log("daemon_failed", error_type=kind, error_message=message)
        if self.router is not None:
            self.router.draining = True
        self.failed = f"{kind}: {message}"
