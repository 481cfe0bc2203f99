"""Writes docs/logs.md from the catalogue and the table of metrics: `python -m telemetry.page`."""

from __future__ import annotations

import sys
from typing import Final

from telemetry.catalogue import COMMON, EVENTS
from telemetry.metrics import GAUGES, OWN, RULES, Spread

_HEAD: Final = """# Logs and metrics

Written from `telemetry/catalogue.py` and `telemetry/metrics.py` by `python -m telemetry.page`; a test fails when this
page is stale, another when the code logs a name or a field that is not here.

## Log lines

One JSON object per line on stderr (readable text when `structured_logging` is off): `timestamp` (RFC 3339, UTC,
milliseconds), `level`, `event`, and the fields of the event. Where they apply:

"""

_RULES: Final = """
- `log_level` sets the lowest level written. With `trace_all` off, only events marked *notable* and everything at
  warning or above is written.
- Secrets are masked as `***`: fields that are named like one, passwords inside URLs, bearer tokens, and every secret
  of the configuration wherever it occurs. What people said and what agents found is written at DEBUG only.
- Control characters, escape sequences and invisible characters are taken out. A value has at most 4,096 characters.
- Writing never holds anybody up. What comes too fast, or what nobody reads, is lost, counted
  (`orchestrator_log_lines_dropped_total`, `orchestrator_log_lines_failed_total`) and said: `log_lines_dropped`.
- Of one event at warning or above, and of `actor_restarted` and `late_result`, at most 100 lines are written in ten
  seconds: a crash loop must not hide all else. What is left out is counted (`orchestrator_log_lines_left_out_total`)
  and said: `log_lines_left_out`. Tables and metrics have everything.
- Messages of libraries come as `library_message`, from WARNING upwards, or all of them when `log_level` is DEBUG.
- Events marked *stored* go to the table `orchestrator_operation_logs` as well, in batches, a second later at
  most while the store keeps up; durations of calls, requests, recoveries and snapshots to
  `orchestrator_performance_metrics`. Failures of agents, planner and synthesizer
  are in `orchestrator_error_logs`, written in the same transaction as the step they belong to.

| event | level | meaning | fields | |
|---|---|---|---|---|
"""

_METRICS: Final = """
## Metrics

`GET /metrics`, in Prometheus' text format. No label holds an id; a label takes at most 200 values, more are `other`.

| metric | type | meaning | labels |
|---|---|---|---|
"""


def render() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD]
    parts.append("| field | |\n|---|---|\n")
    parts.extend(f"| `{name}` | {meaning} |\n" for name, meaning in COMMON.items())
    parts.append(_RULES)
    for name, event in EVENTS.items():
        fields = ", ".join(f"`{field}`" for field in event.fields)
        marks = ", ".join(sorted(event.marks))
        parts.append(f"| `{name}` | {event.level} | {event.meaning} | {fields} | {marks} |\n")
    parts.append(_METRICS)
    parts.extend(sorted(_metric_lines()))
    parts.append("\nBeside these, `orchestrator_process_*`: memory, CPU, open files, start time of the process.\n")
    return "".join(parts)


def _metric_lines() -> list[str]:
    lines = []
    for rules in RULES.values():
        for rule in rules:
            name, kind = (rule.name, "histogram") if isinstance(rule, Spread) else (f"{rule.name}_total", "counter")
            lines.append(_metric_line(name, kind, rule.meaning, list(rule.labels)))
    lines.extend(_metric_line(name, "gauge", meaning, [label]) for name, (meaning, label) in GAUGES.items())
    lines.extend(_metric_line(f"{name}_total", "counter", meaning, []) for name, meaning in OWN.items())
    return lines


def _metric_line(name: str, kind: str, meaning: str, labels: list[str]) -> str:
    words = ", ".join(f"`{label}`" for label in labels if label)
    return f"| `orchestrator_{name}` | {kind} | {meaning} | {words} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
