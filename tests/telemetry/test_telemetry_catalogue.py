"""The catalogue is what the docs show and what code is held to."""

from __future__ import annotations

from pathlib import Path

from telemetry.catalogue import COMMON, EVENTS, level_of
from telemetry.page import render
from telemetry.source_check import log_calls, problems, unused
from telemetry.telemetry import LEVELS

PROMISED = """
agent_call state_transition error actor_started actor_crashed actor_restarted actor_stopped actor_escalated
snapshot_saved recovered dead_letter message_accepted message_refused reply_sent daemon_started daemon_ready
daemon_draining daemon_stopped store_unavailable store_available loop_blocked config_reloaded config_rejected
conversation_quarantined agent_progress http_request
"""


def test_the_promised_names_and_fields_are_there():
    """Section 7 of the interface, and what other parts log."""
    assert set(PROMISED.split()) <= EVENTS.keys()
    assert "success" in EVENTS["agent_call"].fields and "duration_ms" in COMMON
    assert {"from_state", "to_state", "trigger"} <= set(EVENTS["state_transition"].fields)
    assert {"error_type", "error_class", "retry_count", "retry_delay"} <= set(EVENTS["error"].fields)


def test_every_entry_is_well_formed():
    """One sentence, a known level, no field twice; a warning that nobody would see is no warning."""
    for name, event in EVENTS.items():
        assert name.isidentifier() and name == name.lower()
        assert event.level in LEVELS and event.meaning.endswith(".")
        assert len(set(event.fields)) == len(event.fields) and not set(event.fields) & COMMON.keys()
        assert level_of(name) == event.level


def test_the_page_in_the_docs_is_the_catalogue():
    """Run `python -m telemetry.page > docs/logs.md` after a change of the tables."""
    page = Path(__file__).parents[2] / "docs" / "logs.md"
    assert page.read_text(encoding="utf-8") == render()


def test_names_and_fields_in_code_are_checked(tmp_path):
    """Calls of any `log` or `_log`, with the event written out, or one of two."""
    path = tmp_path / "some.py"
    path.write_text(
        'log("recovered", seq=1, level="info")\n'
        'self._log("recoverd")\n'
        'x.log("reply_sent", stattus="x", conversation_id="c")\n'
        'log("redis_lost" if a else "redis_gone")\n'
        "log(name)\nmath.log(2)\nlog.info('x')\n"
        'log("recovered", level="error")\n'
        'log("error", level="warning")\n',
        encoding="utf-8",
    )
    assert problems([path]) == [
        f"{path}:2: 'recoverd' is not in telemetry/catalogue.py",
        f"{path}:3: reply_sent has no field 'stattus'",
        f"{path}:4: 'redis_gone' is not in telemetry/catalogue.py",
        f"{path}:8: recovered is logged as error, and listed as info",
    ]
    assert [call.event for call in log_calls([path])] == [
        "recovered",
        "recoverd",
        "reply_sent",
        "redis_lost",
        "redis_gone",
        "recovered",
        "error",
    ]
    assert unused([path]) == EVENTS.keys() - {"recovered", "reply_sent", "redis_lost", "error"}


def test_our_own_calls_are_in_the_catalogue():
    """The package keeps its own rule."""
    assert problems((Path(__file__).parents[2] / "telemetry").rglob("*.py")) == []
