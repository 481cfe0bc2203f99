"""The daemon's Prometheus metrics: which events count towards which, and what is read when somebody asks.

Names begin with `orchestrator_`; no ids in labels, and no label takes more than `MAX_VALUES` values.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

MAX_VALUES: Final = 200
"""Values of one label; more are counted as `other`, so that no text that varies grows the table without end."""

_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BOUNDS: Final = (*map(str, _SECONDS), "+Inf")


@dataclass(frozen=True, slots=True)
class Count:
    """A counter moved by an event; a label's value is the event's field of that name unless said otherwise."""

    name: str
    meaning: str
    labels: Mapping[str, str]
    """Label to field."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram of an event's `duration_ms`, in seconds."""

    name: str
    meaning: str
    labels: Mapping[str, str]


_Rules = Mapping[str, tuple[Count | Spread, ...]]

RULES: Final[_Rules] = {
    "agent_call": (
        Count("agent_calls", "Attempts of agents.", {"agent": "agent", "outcome": "outcome"}),
        Spread("agent_call_seconds", "How long attempts of agents took.", {"agent": "agent"}),
    ),
    "state_transition": (Count("state_transitions", "Moves between phases.", {"to_state": "to_state"}),),
    "actor_started": (Count("actor_starts", "Lives of actors begun.", {"kind": "kind"}),),
    "actor_crashed": (Count("actor_crashes", "Exceptions that escaped an actor.", {"kind": "kind"}),),
    "actor_restarted": (Count("actor_restarts", "Next lives of crashed actors.", {"kind": "kind"}),),
    "actor_escalated": (Count("actor_escalations", "Failures that restarts did not help.", {"kind": "kind"}),),
    "message_accepted": (Count("messages_accepted", "Messages accepted.", {}),),
    "message_refused": (Count("messages_refused", "Messages refused.", {"code": "code"}),),
    "reply_sent": (
        Count("replies", "Replies sent.", {"status": "status"}),
        Spread("request_seconds", "From the accepted message to its reply.", {}),
    ),
    "dead_letter": (Count("dead_letters", "Messages nobody could take.", {"reason": "reason"}),),
    "dead_letter_lost": (Count("dead_letters_lost", "Dead letters that could not even be kept.", {}),),
    "error": (Count("errors", "Failures.", {"error_class": "error_class"}),),
    "recovered": (Count("recoveries", "Conversations taken up again with unfinished work.", {}),),
    "conversation_quarantined": (Count("quarantines", "Conversations no longer resumed.", {}),),
    "snapshot_saved": (Count("snapshots", "Snapshots written.", {}),),
    "store_unavailable": (Count("store_outages", "Times the store took no writes.", {}),),
    "append_refused": (Count("appends_refused", "Steps the store refused.", {"code": "code"}),),
    "loop_blocked": (Count("loop_blocked", "Times the event loop stood still.", {}),),
    "agent_abandoned": (Count("calls_abandoned", "Calls whose thread could not be stopped.", {"agent": "agent"}),),
    "breaker_opened": (Count("breaker_openings", "Times an agent was left alone.", {"agent": "agent"}),),
    "redis_lost": (Count("redis_outages", "Times Redis did not answer.", {}),),
    "redis_gap": (Count("redis_gaps", "Times messages on Redis were lost before they were read.", {}),),
    "config_reloaded": (Count("config_reloads", "Reloads taken.", {}),),
    "config_rejected": (Count("config_rejections", "Reloads refused.", {}),),
    "http_request": (
        Count("http_requests", "HTTP requests.", {"method": "method", "route": "route", "status": "status"}),
        Spread("http_request_seconds", "How long HTTP requests took.", {"route": "route"}),
    ),
}
"""Event to what it moves."""

GAUGES: Final[dict[str, tuple[str, str]]] = {
    "conversations_live": ("Conversations in memory.", ""),
    "requests_unfinished": ("Accepted requests without a reply, of conversations in memory.", ""),
    "conversations": ("Conversations in the store.", "phase"),
    "actors_live": ("Actors alive.", "kind"),
    "mailbox_messages": ("Messages waiting in all mailboxes.", ""),
    "mailbox_depth_max": ("Messages waiting in the fullest mailbox.", ""),
    "mailbox_oldest_seconds": ("Age of the oldest message waiting.", ""),
    "journal_commits": ("Commits since the start.", ""),
    "journal_appends": ("Steps committed since the start.", ""),
    "journal_commit_seconds": ("Seconds spent in commits since the start.", ""),
    "journal_pending": ("Steps that wait for a commit.", ""),
    "worker_processes": ("Processes of agents.", ""),
    "store_up": ("1 when the store takes writes.", ""),
    "redis_up": ("1 when Redis answers.", ""),
    "redis_reconnects": ("Connections to Redis that came back, since the start.", ""),
    "redis_inbox_pending": ("Entries of the inbox stream that are read and not settled.", ""),
    "redis_inbox_lag": ("Entries of the inbox stream that are not read.", ""),
    "redis_inbox_lost": ("Entries of the inbox stream that vanished before they were settled.", ""),
    "redis_received": ("Messages that came over Redis.", "way"),
    "redis_refused": ("Messages over Redis that were refused.", "way"),
    "redis_events_waiting": ("Events to be sent to Redis.", ""),
    "redis_events_behind": ("Conversations whose log on Redis is behind their journal.", ""),
    "redis_events_dropped": ("Progress events that were not sent to Redis.", ""),
    "redis_events_logged": ("Events appended to logs on Redis.", ""),
    "threads_busy": ("Threads of blocking agents at work.", ""),
    "threads_abandoned": ("Threads of calls given up that go on all the same.", ""),
    "breakers_open": ("Agents left alone at present.", ""),
    "agent_breaker_state": ("0 closed: called as usual; 1 half-open: one call tries; 2 open: left alone.", "agent"),
    "agent_calls_running": ("Calls of an agent under way.", "agent"),
    "agent_calls_waiting": ("Calls that wait because of an agent's max_concurrency.", "agent"),
    "agent_threads_abandoned": ("Threads and tasks of an agent's calls given up that go on all the same.", "agent"),
    "timers": ("Timers running.", ""),
    "sse_clients": ("Clients that follow events.", ""),
    "http_connections": ("Connections of HTTP clients.", ""),
    "http_connections_refused": ("Connections of HTTP clients refused because of too many, since the start.", ""),
    "http_reads_waiting": ("Reads of HTTP clients that wait for a thread, those given up among them.", ""),
    "http_reads_refused": ("Reads of HTTP clients refused because too many waited, since the start.", ""),
    "draining": ("1 while the daemon stops.", ""),
}
"""What a source may report to `Metrics.collect`: meaning, and the label if the name has one."""

Source = Callable[[], Mapping[str | tuple[str, str], float]]
"""Called at every scrape, from the scraper's thread: values by name of `GAUGES`, or by (name, label value)."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")


class Metrics:
    """One registry of our own; its movers are cheap."""

    def __init__(self, own: Callable[[], Mapping[str, float]]) -> None:
        """`own` gives the telemetry's own counters at each scrape."""
        self.registry = CollectorRegistry(auto_describe=False)
        self.lock = threading.RLock()
        """To be held while movers are called: once for all that is told in one moment.

        Reentrant: the collector may come meanwhile, and let go of something that logs when it is let go of.
        """
        self._movers = {event: tuple(_mover(rule, self.lock) for rule in rules) for event, rules in RULES.items()}
        self.gauges = Gauges(own)
        self.registry.register(_Moved([mover for movers in self._movers.values() for mover in movers]))
        self.registry.register(self.gauges)
        ProcessCollector(namespace="orchestrator", registry=self.registry)

    def movers(self, event: str) -> tuple[_Counter | _Histogram, ...]:
        """Return what an event moves, to be called with its fields while `lock` is held."""
        return self._movers.get(event, ())

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Mover:
    """One metric and how an event's fields move it.

    A request moves a dozen: they are tallied here, and made the library's only when somebody asks, in a third of the
    time that its own counters take.
    """

    def __init__(self, rule: Count | Spread, lock: threading.RLock) -> None:
        self.name = f"orchestrator_{rule.name}"
        self.meaning = rule.meaning
        self.labels = tuple(rule.labels)
        self._fields = tuple(rule.labels.values())
        self._only = self._fields[0] if len(self._fields) == 1 else None
        self._tallies: dict[Any, list[float]] = {}
        """By the fields as they come, or the only one; several of them can share the tally of a label's text."""
        self._shown: dict[tuple[str, ...], list[float]] = {}
        self._seen: tuple[set[str], ...] = tuple(set() for _ in self._fields)
        self._lock = lock
        if not self._fields:
            self._tally(())

    def shown(self) -> list[tuple[tuple[str, ...], list[float]]]:
        """Return labels and tallies as of this moment."""
        with self._lock:
            # A copy: what logs when the collector lets go of it may come meanwhile, with labels of its own.
            return [(labels, list(tally)) for labels, tally in self._shown.copy().items()]

    def _found(self, fields: Mapping[str, Any]) -> list[float] | None:
        try:
            if self._only is not None:  # as nearly always
                only = fields.get(self._only)
                return self._tallies.get(only) or self._tally((only,))
            key = tuple([fields.get(name) for name in self._fields])
            return self._tallies.get(key) or self._tally(key)
        except TypeError:  # a label's value that cannot be a key cannot be a label either
            return None

    def _tally(self, key: tuple[Any, ...]) -> list[float]:
        labels = tuple(self._label(value, seen) for value, seen in zip(key, self._seen, strict=True))
        tally = self._shown.setdefault(labels, self._nothing())
        # Beyond the bound the way to `other` is not remembered, or it would grow without end itself.
        if "other" not in labels:
            self._tallies[key if self._only is None else key[0]] = tally
        return tally

    @staticmethod
    def _nothing() -> list[float]:
        return [0]

    @staticmethod
    def _label(value: Any, seen: set[str]) -> str:
        text = "unknown" if value is None else str(value)[:100] if isinstance(value, (str, int, float)) else "unknown"
        if text not in seen:
            if len(seen) >= MAX_VALUES:
                return "other"
            seen.add(text)
        return text


class _Counter(_Mover):
    def __call__(self, fields: Mapping[str, Any]) -> None:
        tally = self._found(fields)
        if tally is not None:
            tally[0] += 1

    def family(self) -> Metric:
        """Return it as the library's."""
        family = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, (count,) in self.shown():
            family.add_metric(labels, count)
        return family


class _Histogram(_Mover):
    """Its tally: of each bucket what is in no smaller one, then the sum."""

    def __call__(self, fields: Mapping[str, Any]) -> None:
        duration = fields.get("duration_ms")
        if type(duration) is not float and type(duration) is not int:
            return
        tally = self._found(fields)
        if tally is not None:
            seconds = duration / 1_000
            tally[bisect_left(_SECONDS, seconds)] += 1
            tally[-1] += seconds

    @staticmethod
    def _nothing() -> list[float]:
        return [0] * (len(_SECONDS) + 2)

    def family(self) -> Metric:
        """Return it as the library's."""
        family = HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, (*counts, total) in self.shown():
            family.add_metric(labels, list(zip(_BOUNDS, accumulate(counts), strict=True)), sum_value=total)
        return family


def _mover(rule: Count | Spread, lock: threading.RLock) -> _Counter | _Histogram:
    return _Counter(rule, lock) if isinstance(rule, Count) else _Histogram(rule, lock)


class _Moved(Collector):
    """Shows what events have moved."""

    def __init__(self, movers: Sequence[_Counter | _Histogram]) -> None:
        self._movers = movers

    def collect(self) -> Iterator[Metric]:
        """Yield one family for each."""
        for mover in self._movers:
            yield mover.family()


class Gauges(Collector):
    """Asks its sources at every scrape; a source that fails is left out and counted, the others are shown."""

    def __init__(self, own: Callable[[], Mapping[str, float]]) -> None:
        self._own = own
        self._sources: tuple[Source, ...] = ()
        self.failures = 0

    def add(self, source: Source) -> None:
        """Ask `source` at every scrape from now on."""
        self._sources = (*self._sources, source)

    def collect(self) -> Iterator[Metric]:
        """Yield one family per name."""
        values: dict[str, dict[str, float]] = {}
        for source in self._sources:
            try:
                for key, value in source().items():
                    name, label = key if isinstance(key, tuple) else (key, "")
                    values.setdefault(name, {})[label] = float(value)
            except Exception:  # noqa: BLE001  # one broken source must not hide all the others; it is counted
                self.failures += 1
        for name, by_label in sorted(values.items()):
            if not _NAME.fullmatch(name):
                continue
            meaning, label_name = GAUGES.get(name, ("Reported by the daemon.", ""))
            family = GaugeMetricFamily(f"orchestrator_{name}", meaning, labels=[label_name] if label_name else [])
            for label, value in by_label.items():
                family.add_metric([label] if label_name else [], value)
            yield family
        for name, value in {**self._own(), "metric_source_failures": self.failures}.items():
            yield CounterMetricFamily(f"orchestrator_{name}", OWN[name], value=value)


OWN: Final = {
    "log_lines_dropped": "Log entries dropped because too many came at once.",
    "log_lines_left_out": "Log lines not written because there were too many of the same event.",
    "log_lines_failed": "Log lines that could not be written.",
    "log_lines_unreadable": "Log entries that could not be rendered.",
    "operation_rows_dropped": "Operation and metric rows that the store, or its queue, did not take.",
    "metric_source_failures": "Failures of sources of metrics.",
}
"""The telemetry's own counters."""
