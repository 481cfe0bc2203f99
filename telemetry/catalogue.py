"""Every log event: name, level, meaning, fields. docs/logs.md is written from this table, and code is held to it.

A name that is not here may not be logged, a field that is not here may not be given (telemetry/source_check.py).
Everything at warning or above is notable.
Fields in `COMMON` go with every event to which they apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error", "critical"]

COMMON: Final = {
    "conversation_id": "Conversation.",
    "request_id": "One accepted message on its way to its reply.",
    "node_id": "Node of the plan.",
    "agent": "Name of the agent.",
    "attempt": "Number of the attempt, from 1.",
    "actor": "Path of the actor: `/conversations/c1/agents/stock`.",
    "duration_ms": "Milliseconds it took.",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that can be logged."""

    level: Level
    """Used unless the caller says otherwise."""
    meaning: str
    fields: tuple[str, ...] = ()
    """Besides the common ones."""
    marks: frozenset[Literal["notable", "stored"]] = frozenset()
    """notable: logged even when `trace_all` is off. stored: also a row in `orchestrator_operation_logs`."""


_NOTABLE: Final = frozenset[Literal["notable", "stored"]]({"notable"})
_STORED: Final = frozenset[Literal["notable", "stored"]]({"stored"})
_BOTH: Final = _NOTABLE | _STORED

EVENTS: Final[dict[str, Event]] = {
    # The daemon
    "daemon_started": Event(
        "info", "The process began; nothing is served yet.", ("version", "pid", "store", "config"), _BOTH
    ),
    "daemon_ready": Event("info", "Recovery is done and the doors are open.", ("address", "epoch", "resumed"), _BOTH),
    "daemon_draining": Event(
        "info", "New work is refused; running work may finish.", ("reason", "timeout", "running"), _BOTH
    ),
    "left_running": Event("warning", "Actors did not end in time.", ("names", "count"), _BOTH),
    "daemon_stopped": Event("info", "The process ends.", ("exit_code", "unfinished", "drained"), _BOTH),
    "daemon_failed": Event("critical", "The daemon cannot start or go on.", ("error_type", "error_message"), _BOTH),
    "signal_received": Event("info", "A signal came in.", ("signal",), _NOTABLE),
    "caution": Event("warning", "A setting is allowed but probably not meant.", ("message",), _NOTABLE),
    "config_reloaded": Event("info", "A reload was checked and taken.", ("changed", "needs_restart", "agents"), _BOTH),
    "config_rejected": Event("error", "A reload was refused; the old settings stay.", ("problems",), _BOTH),
    "state_dump": Event(
        "info", "SIGUSR1: one line per some actors, one per thread.", ("actors", "thread", "stack"), _NOTABLE
    ),
    "loop_blocked": Event(
        "warning", "The event loop stood still: something blocks where nothing may.", ("seconds", "stack"), _BOTH
    ),
    "loop_task_failed": Event(
        "error", "A background task ended with an error.", ("task", "error_type", "error_message"), _NOTABLE
    ),
    "thread_failed": Event(
        "error", "An exception escaped a thread.", ("thread", "error_type", "error_message", "exception"), _NOTABLE
    ),
    "library_message": Event("info", "A message of a library's own logger.", ("logger", "message", "exception")),
    "log_lines_left_out": Event(
        "warning",
        "There were too many lines of one event: so many of them were not written.",
        ("of", "count", "seconds"),
        _NOTABLE,
    ),
    "log_lines_dropped": Event(
        "warning", "Log lines were lost: too many at once, or nobody reads them.", ("count", "reason"), _NOTABLE
    ),
    # Conversations
    "message_accepted": Event(
        "info", "A message is durable and will be answered.", ("message_id", "door", "seq", "duplicate"), _STORED
    ),
    "message_refused": Event(
        "warning",
        "A message was refused; its sender is told the code.",
        ("message_id", "door", "code", "reason"),
        _BOTH,
    ),
    "state_transition": Event(
        "info", "A conversation moved to another phase.", ("from_state", "to_state", "trigger", "seq"), _STORED
    ),
    "plan_drafted": Event("info", "A plan was made or came along.", ("nodes", "origin"), _STORED),
    "plan_failed": Event(
        "warning", "The planner failed.", ("error_type", "error_class", "error_message", "retry_delay"), _BOTH
    ),
    "synthesis_failed": Event(
        "warning", "The synthesizer failed.", ("error_type", "error_class", "error_message", "retry_delay"), _BOTH
    ),
    "reply_sent": Event("info", "A request has its reply.", ("message_id", "status", "missing", "seq"), _BOTH),
    "conversation_woken": Event("debug", "A conversation was loaded from the store.", ("seq", "events")),
    "conversation_passivated": Event("debug", "An idle conversation left memory.", ("seq",)),
    "conversation_paused": Event("info", "Nothing new starts in it until `resume`.", ("by", "reason"), _BOTH),
    "conversation_resumed": Event("info", "It goes on.", ("by",), _BOTH),
    "conversation_cancelled": Event("info", "Its running request was ended.", ("by", "reason"), _BOTH),
    "conversation_quarantined": Event(
        "error",
        "It brought the daemon down again and again, or cannot be read; it is not resumed.",
        ("recoveries", "reason"),
        _BOTH,
    ),
    "conversations_tried": Event(
        "warning",
        "One of several brought the daemon down again and again: these are taken up, `held` others wait.",
        ("names", "count", "held", "seconds"),
        _BOTH,
    ),
    # Agents
    "agent_registered": Event("debug", "An agent is known.", ("contract", "effects", "isolation")),
    "agent_call": Event(
        "info",
        "One attempt of an agent ended.",
        ("success", "cached", "error_type", "error_class", "error_message", "outcome"),
        _STORED,
    ),
    "agent_progress": Event("debug", "An agent says how far it is.", ("text",)),
    "agent_abandoned": Event(
        "warning", "A call ran past its timeout and its thread cannot be stopped.", ("abandoned",), _BOTH
    ),
    "late_result": Event("info", "A result came after its attempt was given up.", ("reason",), _BOTH),
    "breaker_opened": Event(
        "warning", "An agent fails so often that it is left alone.", ("seconds", "failures"), _BOTH
    ),
    "breaker_half_open": Event("info", "An agent that was left alone is tried with one call at a time.", (), _BOTH),
    "breaker_closed": Event("info", "An agent answers again.", (), _BOTH),
    "error": Event(
        "error",
        "Something failed.",
        ("error_type", "error_class", "error_message", "retry_count", "retry_delay", "rule", "exception", "where"),
        _BOTH,
    ),
    # Actors
    "actor_started": Event("debug", "An actor began a life.", ("kind", "incarnation")),
    "actor_crashed": Event(
        "error",
        "An exception escaped an actor.",
        (
            "kind",
            "incarnation",
            "error_type",
            "error_class",
            "error_message",
            "message_type",
            "lifetime",
            "where",
            "exception",
        ),
        _BOTH,
    ),
    "actor_restarted": Event(
        "info",
        "A crashed actor has its next life.",
        ("kind", "path", "incarnation", "restarts", "delay", "rule"),
        _BOTH,
    ),
    "actor_stopped": Event("debug", "An actor ended as it should.", ("kind", "incarnation", "reason", "lifetime")),
    "actor_escalated": Event(
        "error",
        "Restarts do not help; the failure goes up.",
        ("kind", "path", "restarts", "reason", "rule", "error_type", "error_message"),
        _BOTH,
    ),
    "actor_resumed": Event(
        "warning",
        "An error escaped a handler; by the actor's own rules it lives on.",
        ("error_type", "message_type"),
        _BOTH,
    ),
    "child_failed": Event(
        "warning",
        "A supervised child failed; after several failures in a row this is an error.",
        ("path", "cause", "failures", "rule"),
    ),
    "child_killed": Event(
        "warning", "A child did not stop in time and was taken out of the tree.", ("path", "timeout")
    ),
    "actor_hook_failed": Event(
        "error",
        "An ending actor's own clean-up failed.",
        ("kind", "hook", "error_type", "error_class", "error_message", "where"),
        _BOTH,
    ),
    "ask_failed": Event("debug", "An ask was answered with an error; the actor lives.", ("error_type",)),
    "dead_letter": Event("warning", "Nobody could take a message; it is kept.", ("address", "reason", "kind"), _BOTH),
    "dead_letter_lost": Event(
        "error",
        "A dead letter was not kept: as many as are held in memory wait for the store, or the daemon is stopping.",
        ("address", "reason", "kind", "size"),
        _NOTABLE,
    ),
    "dead_letter_replayed": Event("info", "A kept message was sent again.", ("id", "by"), _BOTH),
    "dead_letter_dropped": Event("info", "A kept message was thrown away.", ("id", "by"), _BOTH),
    # Stores
    "store_opened": Event("info", "The store is ours.", ("store", "epoch", "durable", "detail"), _BOTH),
    "store_unavailable": Event(
        "error",
        "The store takes no writes; they wait, new work is refused.",
        ("store", "error_message", "waiting"),
        _NOTABLE,
    ),
    "store_slow": Event(
        "warning",
        "A message waits for some seconds to be looked up in the store; whether that takes writes is found out.",
        ("error_message",),
        _BOTH,
    ),
    "store_available": Event(
        "info", "The store takes writes again.", ("store", "seconds", "retries", "waiting"), _BOTH
    ),
    "store_owned": Event("error", "Another live daemon owns the store.", ("store", "error_message"), _NOTABLE),
    "ownership_lost": Event(
        "critical", "Another daemon has taken the store over.", ("store", "epoch", "error_message"), _NOTABLE
    ),
    "append_refused": Event(
        "error", "The store refused one conversation's step.", ("code", "error_message", "seq"), _BOTH
    ),
    "append_poisoned": Event(
        "error", "One conversation's step can never be stored.", ("error_type", "error_message", "seq"), _BOTH
    ),
    "commit_callback_failed": Event(
        "error", "Whoever waited for a commit failed when told.", ("error_type", "error_message"), _BOTH
    ),
    "read_callback_failed": Event(
        "error", "Whoever asked for a reading failed when told.", ("error_type", "error_message"), _BOTH
    ),
    "rows_dropped": Event(
        "warning", "Operation rows were lost: the store cannot take one of them.", ("count", "rows"), _NOTABLE
    ),
    "migrated": Event("info", "The store's schema was brought up to date.", ("store", "migrations"), _BOTH),
    "snapshot_saved": Event("debug", "A snapshot was written.", ("seq", "size")),
    "conversation_unreadable": Event("error", "What is stored of a conversation cannot be read.", ("reason",), _BOTH),
    "snapshot_replaced": Event(
        "warning", "A snapshot cannot be read; the whole journal was.", ("seq", "reason"), _BOTH
    ),
    "recovered": Event(
        "info", "Unfinished work was taken up again.", ("phase", "seq", "events", "nodes", "recoveries"), _BOTH
    ),
    "cleaned_up": Event("debug", "Expired rows were deleted.", ("store", "rows")),
    # Doors
    "http_request": Event("info", "An HTTP request was answered.", ("method", "route", "status", "code")),
    "connections_refused": Event(
        "warning", "There are as many HTTP connections as can be afforded.", ("limit", "refused"), _NOTABLE
    ),
    "redis_connected": Event(
        "info", "A link of the Redis door is up: inbox, pubsub or events.", ("address", "link", "reconnects"), _BOTH
    ),
    "stream_dropped": Event(
        "warning",
        "A client that follows events accepted nothing for so long that it was let go.",
        ("timeout",),
    ),
    "redis_lost": Event(
        "warning",
        "Redis does not serve a link; the daemon goes on without it.",
        ("error_message", "retry_delay", "link"),
        _NOTABLE,
    ),
    "redis_gap": Event(
        "warning", "Messages on Redis were lost before they were read.", ("stream", "count", "reason"), _BOTH
    ),
    "publish_failed": Event(
        "warning", "An event could not be passed on to Redis.", ("error_message", "count"), _NOTABLE
    ),
    "operator_action": Event(
        "info",
        "Somebody asked for a change by hand; `outcome` is `done` or why it was refused.",
        ("action", "by", "reason", "outcome", "path", "id"),
        _BOTH,
    ),
}


REPEATING: Final = frozenset({"actor_restarted", "late_result"})
"""Events below warning that come in crowds when something fails again and again; bounded as warnings are."""


def level_of(name: str) -> Level:
    """Return an event's level; a name nobody catalogued is told as a warning."""
    event = EVENTS.get(name)
    return event.level if event else "warning"
