"""Figures of this moment for the metrics page, from all parts of the daemon; named as in telemetry/metrics.py."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from actors.timers import Timers
from persistence.contract import StoreError
from persistence.patient_read import PatientRead

if TYPE_CHECKING:
    from daemon import Daemon

BREAKER_STATES: Final = ("closed", "half_open", "open")
"""Their place is the value of `orchestrator_agent_breaker_state`."""

Gauges = dict[str | tuple[str, str], float]


class Figures:
    """Called for each scrape, from any thread."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        # A scrape does without them rather than without all the others.
        self._phase_counts = PatientRead(daemon.store.phase_counts, within=1.0)

    def stop(self) -> None:
        """Ask the store nothing more."""
        self._phase_counts.stop()

    def __call__(self) -> Gauges:
        """Return all there are."""
        return {**self._work(), **self._agents(), **self._actors(), **self._doors(), **self._phases()}

    def _work(self) -> Gauges:
        daemon, journal = self._daemon, self._daemon.writer.stats()
        timers = daemon.system.timers
        return {
            "conversations_live": 0 if daemon.router is None else daemon.router.live(),
            "requests_unfinished": daemon.load.total,
            "journal_pending": journal["pending"],
            "journal_commits": journal["commits"],
            "journal_appends": journal["appends"],
            "journal_commit_seconds": journal["commit_seconds"],
            "store_up": float(daemon.writer.available),
            "draining": float(daemon.router is not None and daemon.router.draining),
            "timers": len(timers) if isinstance(timers, Timers) else 0,
        }

    def _agents(self) -> Gauges:
        execution = self._daemon.execution.stats()
        figures: Gauges = {
            "threads_busy": execution["busy"],
            "threads_abandoned": execution["abandoned"],
            "worker_processes": execution["processes"],
            "breakers_open": sum(agent["breaker"] == "open" for agent in execution["agents"].values()),
        }
        for name, agent in execution["agents"].items():
            figures["agent_breaker_state", name] = BREAKER_STATES.index(agent["breaker"])
            figures["agent_calls_running", name] = agent["running"]
            figures["agent_calls_waiting", name] = agent["waiting"]
            figures["agent_threads_abandoned", name] = agent["abandoned"]
        return figures

    def _actors(self) -> Gauges:
        kinds, waiting, fullest, oldest = self._daemon.system.figures()
        figures: Gauges = {("actors_live", kind): count for kind, count in kinds.items()}
        return {
            **figures,
            "mailbox_messages": waiting,
            "mailbox_depth_max": fullest,
            "mailbox_oldest_seconds": oldest,
        }

    def _doors(self) -> Gauges:
        http, redis = self._daemon.http, self._daemon.redis
        figures: Gauges = {"sse_clients": 0}
        if http is not None:
            figures.update(http.stats())
        if redis is not None:
            figures.update(redis.gauges())
        return figures

    def _phases(self) -> Gauges:
        with suppress(StoreError):  # `store_up` says so
            return {("conversations", phase): count for phase, count in (self._phase_counts() or {}).items()}
        return {}
