"""The one hook for telling what happens: `log` writes a line, moves metrics, and hands a row to the store.

Whoever calls it never waits and never gets an exception. Rendering, redaction, writing and handing over rows happen in
one thread of its own, from a bounded queue; what is lost is counted and said.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TextIO

from structlog.contextvars import get_contextvars

from telemetry.catalogue import EVENTS, REPEATING, Event, level_of
from telemetry.cleaning import PLAIN, Cleaner, freeze
from telemetry.log_writer import LogWriter
from telemetry.metrics import Metrics, Source
from telemetry.rendering import moment, renderer
from telemetry.repeats import WINDOW, Repeats
from telemetry.rows import Kinds, Sink, add_rows

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_SHORT: Final = 256
"""Characters of a text that needs no second look in the caller's thread."""

_LINE, _ROW = 1, 2

Said = tuple[str, dict[str, Any]]
"""An event's name and its fields."""


class Telemetry:
    """One per daemon. `log` is what every other part is given."""

    def __init__(
        self,
        *,
        level: str = "INFO",
        structured: bool = True,
        trace_all: bool = True,
        secrets: Iterable[str] = (),
        sink: Sink | None = None,
        stream: TextIO | None = None,
        queue_limit: int = 10_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begin. `stream` is stderr unless given; `now` is the wall clock in seconds; for `sink` see telemetry/rows.py.

        `secrets` are never written, wherever they occur.
        """
        self._now = now
        self._render = renderer(structured=structured)
        self._sink = sink
        self._kinds = Kinds()
        self._rows: list[Any] = []
        self.rows_dropped = 0
        """Rows that the store, or its queue, did not take."""
        self._untold = self._unreadable = 0
        self._repeats = Repeats()
        self.metrics = Metrics(self.figures)
        self._ways: dict[tuple[str, str | None], _Way] = {}
        self.configure(level=level, trace_all=trace_all, secrets=secrets)
        self._writer = LogWriter(self, stream if stream is not None else sys.stderr, limit=queue_limit)

    def configure(
        self, *, level: str | None = None, trace_all: bool | None = None, secrets: Iterable[str] | None = None
    ) -> None:
        """Change what a reload may change; None leaves a thing as it is. Raises `ValueError` for an unknown level."""
        if level is not None:
            if level.lower() not in LEVELS:
                raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
            self.level = LEVELS[level.lower()]
        if trace_all is not None:
            self.trace_all = trace_all
        if secrets is not None:
            self._cleaner = Cleaner(secrets)
        self._ways = {}

    def use_sink(self, sink: Sink | None, kinds: Kinds | None = None) -> None:
        """Hand rows, made as `kinds`, to `sink` from now on: the store is opened after the log."""
        self._sink, self._kinds = sink, kinds or Kinds()
        self._ways = {}

    # The hook

    def log(self, event: str, /, *, level: str | None = None, **fields: Any) -> None:
        """Tell that `event` happened. Any thread; never waits, never raises.

        `level` overrides the catalogue's. Ids bound with `structlog.contextvars` in the calling context go along.
        """
        self.tell({}, ((event, fields),), level)

    def tell(self, common: dict[str, Any], said: Iterable[Said], level: str | None = None) -> None:
        """Do what `log` does for all that is said in one moment, each with the `common` fields besides its own.

        The dicts become the log's; whoever tells does not use them again.
        """
        try:
            kept: list[tuple[_Way, dict[str, Any]]] = []
            ways = self._ways
            with self.metrics.lock:
                for event, fields in said:
                    try:
                        way = ways.get((event, level)) or self._way(event, level)
                        if way.first is not None:
                            way.first(self, fields)
                        for move in way.movers:
                            move(fields)
                        if way.does:
                            kept.append((way, fields))
                    except Exception:  # noqa: BLE001  # as below; what else is said is not lost with it
                        self._untold += 1
            for way, fields in kept.copy():
                try:
                    _bound(fields)
                except Exception:  # noqa: BLE001  # as above
                    kept.remove((way, fields))
                    self._untold += 1
            if kept:
                _bound(common)
                context = get_contextvars()
                if context:
                    common = {key: freeze(value) for key, value in context.items()} | common
                self._writer.put((self._now(), common, kept), len(kept))
        except Exception:  # noqa: BLE001  # whoever tells what happens must not suffer from it; it is counted
            self._untold += 1

    def _way(self, event: str, level: str | None) -> _Way:
        # Held here, so that what was decided under settings that a reload has just replaced is not kept.
        ways = self._ways
        spec = EVENTS.get(event, _UNKNOWN)
        name = (level or level_of(event)).lower()
        number = LEVELS.get(name, logging.WARNING)
        told = self.trace_all or "notable" in spec.marks or number >= logging.WARNING
        line = _LINE if told and number >= self.level else 0
        row = _ROW if told and "stored" in spec.marks and self._sink is not None else 0
        limited = number >= logging.WARNING or event in REPEATING
        name = name if name in LEVELS else "warning"
        way = _Way(self._cleaner.text(event), name, line | row, self.metrics.movers(event), limited=limited)
        # Names come from our own code, but a mistake there must not fill the memory.
        if len(ways) < 1_000:
            ways[event, level] = way
        return way

    # Metrics

    def collect(self, source: Source) -> None:
        """Ask `source` for gauges at every scrape; see `metrics.GAUGES`."""
        self.metrics.gauges.add(source)

    def metrics_text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return self.metrics.text()

    def figures(self) -> dict[str, float]:
        """Return the telemetry's own counters: what was lost on the way."""
        return {
            "log_lines_dropped": self._writer.dropped,
            "log_lines_failed": self._writer.failed,
            "log_lines_left_out": self._repeats.left_out,
            "log_lines_unreadable": self._writer.unreadable + self._unreadable + self._untold,
            "operation_rows_dropped": self.rows_dropped,
        }

    # Life

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until everything told so far is written; False when that takes longer than `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting, within `timeout` seconds, and stop. What is told later is counted as dropped."""
        self._writer.close(timeout)

    # The writer's thread

    def render(self, item: _Item) -> list[str]:
        """Clean what was said in one moment; keep its rows; return its lines."""
        at, common, said = item
        lines: list[str] = []
        # They are in every line of it: a text that a debug line may show is not for the others.
        head = self._cleaner(common, hide=any(way.level != "debug" for way, _ in said))
        milliseconds = round(at * 1_000)
        put = self._cleaner.put
        for way, raw in said:
            try:
                entry = head.copy()
                put(entry, raw, hide=way.level != "debug")
                if way.does & _LINE and (not way.limited or self._repeats.allows(way.event, at)):
                    lines.append(
                        self._render({**entry, "event": way.event, "level": way.level, "timestamp": moment(at)})
                    )
                if way.does & _ROW:
                    add_rows(self._rows, self._kinds, milliseconds, way.event, way.level, entry)
            except Exception:  # noqa: BLE001  # what was said in the same moment is not lost with it; it is counted
                self._unreadable += 1
        return lines

    def lost(self, count: int, reason: str) -> str:
        """Return the line that says so many lines were lost."""
        fields = {"event": "log_lines_dropped", "level": "warning", "count": count, "reason": reason}
        return self._render({"timestamp": moment(self._now()), **fields})

    def left_out(self, *, last: bool) -> list[str]:
        """Return the lines that say what was left out because there was too much of it; `last`: at the end."""
        now = self._now()
        return [
            self._render(
                {
                    "timestamp": moment(now),
                    "event": "log_lines_left_out",
                    "level": "warning",
                    "of": event,
                    "count": count,
                    "seconds": WINDOW,
                }
            )
            for event, count in self._repeats.over(None if last else now)
        ]

    def batch_done(self) -> None:
        """Hand the rows gathered so far to the sink."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            taken = 0 if self._sink is None else self._sink(rows)
        except Exception:  # noqa: BLE001  # a sink's trouble must not end the log; the rows are counted as lost
            taken = 0
        self.rows_dropped += len(rows) - taken


class _Way:
    """What becomes of one event at one level under the present settings."""

    __slots__ = ("does", "event", "first", "level", "limited", "movers")

    def __init__(
        self,
        event: str,
        level: str,
        does: int,
        movers: tuple[Callable[[Mapping[str, Any]], None], ...],
        *,
        limited: bool,
    ) -> None:
        self.event = event
        """Its name, clean."""
        self.level = level
        self.does = does
        self.first = _FIRST.get(event)
        """What is done with its fields before anything else."""
        self.movers = movers
        self.limited = limited
        """Whether only so many lines of it are written in a time."""


def _add_outcome(_telemetry: Telemetry, fields: dict[str, Any]) -> None:
    if "outcome" not in fields:
        failed = not fields.get("success", True)
        done = "cached" if fields.get("cached") else "success"
        fields["outcome"] = str(fields.get("error_class") or "failed") if failed else done


def _count_dropped(telemetry: Telemetry, fields: dict[str, Any]) -> None:
    """Count rows that were taken and that the store then could not take."""
    telemetry.rows_dropped += int(fields.get("rows", 0))


_FIRST: Final[dict[str, Callable[[Telemetry, dict[str, Any]], None]]] = {
    "agent_call": _add_outcome,
    "rows_dropped": _count_dropped,
}

_Item = tuple[float, dict[str, Any], list[tuple[_Way, dict[str, Any]]]]
"""What waits for the writer: when, the fields in common, and what was said."""

_UNKNOWN: Final = Event("warning", "Nobody catalogued it.")


def _bound(fields: dict[str, Any]) -> None:
    """Copy what somebody may still change, and cut what is long."""
    for key, value in fields.items():
        kind = type(value)
        if kind not in PLAIN and (kind is not str or len(value) > _SHORT):
            fields[key] = freeze(value)
