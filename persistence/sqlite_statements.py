"""Every statement of the SQLite store, named; values are always bound."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

EPOCH: Final = "SELECT epoch FROM orchestrator_ownership WHERE id = 1"
OWN: Final = """
INSERT INTO orchestrator_ownership (id, epoch, owner, since, store_id)
VALUES (1, 1, ?1, ?2, lower(hex(randomblob(16))))
ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1, owner = ?1, since = ?2
RETURNING epoch
"""

MARK: Final = "SELECT store_id, epoch, beats FROM orchestrator_ownership WHERE id = 1"
BEAT: Final = "UPDATE orchestrator_ownership SET beats = beats + 1 WHERE id = 1"

# Writing a step

SIZES: Final = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows that one statement inserts: any number of rows takes a few of them, and each stays prepared."""


@cache
def repeated(insert: str, rows: int) -> str:
    """Return an `INSERT` with `VALUES (?, ...)` as one for so many rows."""
    found = re.search(r"VALUES (\([?, ]+\))", insert)
    assert found is not None, insert
    return insert[: found.end()] + f", {found[1]}" * (rows - 1) + insert[found.end() :]


LAST_SEQS: Final = """
SELECT s.conversation_id, s.last_seq FROM json_each(?) AS asked
CROSS JOIN orchestrator_workflow_states AS s ON s.conversation_id = asked.value
"""
SAME_ENTRY: Final = """
SELECT 1 FROM orchestrator_journal
WHERE conversation_id = ? AND last_seq = ? AND first_seq = ? AND at = ? AND body = ?
"""
ENTRY: Final = (
    "INSERT INTO orchestrator_journal (conversation_id, last_seq, first_seq, at, body) VALUES (?, ?, ?, ?, ?)"
)
STATE_AS_BEFORE: Final = """
INSERT INTO orchestrator_workflow_states AS known
    (conversation_id, phase, last_seq, unfinished, oldest_open_seq, open_request_ids, user_id, created_at, updated_at,
     snapshot_seq, snapshot)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation_id) DO UPDATE SET
    phase = excluded.phase, last_seq = excluded.last_seq, unfinished = excluded.unfinished,
    oldest_open_seq = excluded.oldest_open_seq, open_request_ids = excluded.open_request_ids,
    user_id = coalesce(excluded.user_id, known.user_id), updated_at = excluded.updated_at,
    snapshot_seq = CASE WHEN excluded.snapshot IS NULL THEN known.snapshot_seq ELSE excluded.snapshot_seq END,
    snapshot = coalesce(excluded.snapshot, known.snapshot), trimmable = 1
"""
"""Of a step that is no progress: recoveries go on being counted."""
STATE: Final = f"{STATE_AS_BEFORE.rstrip()}, recoveries = 0"
INBOX: Final = """
INSERT INTO orchestrator_inbox (conversation_id, message_id, request_id, fingerprint, seq, at)
VALUES (?, ?, ?, ?, ?, ?)
"""
# A JSON list of [sequence number, conversation, message].
REPLIED: Final = """
UPDATE orchestrator_inbox AS asked SET reply_seq = json_extract(told.value, '$[0]') FROM json_each(?) AS told
WHERE asked.conversation_id = json_extract(told.value, '$[1]')
  AND asked.message_id = json_extract(told.value, '$[2]')
"""
RESULT: Final = """
INSERT OR REPLACE INTO orchestrator_agent_results
    (conversation_id, request_id, node_id, agent, attempt, result, duration_ms, cached, cache_key, created_at,
     expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
MEMORY: Final = """
INSERT OR REPLACE INTO orchestrator_conversation_memory (conversation_id, seq, role, request_id, text, at, forgotten)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
FORGET: Final = """
UPDATE orchestrator_conversation_memory SET forgotten = 1
WHERE conversation_id = ?1 AND request_id = ?2 AND role <> 'note'
"""
ERROR: Final = """
INSERT INTO orchestrator_error_logs
    (at, conversation_id, request_id, node_id, agent, attempt, error_type, error_class, message, retry_delay)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# Rows that ride along

OPERATION: Final = """
INSERT INTO orchestrator_operation_logs (at, event, level, conversation_id, request_id, fields)
VALUES (?, ?, ?, ?, ?, ?)
"""
METRIC: Final = """
INSERT INTO orchestrator_performance_metrics (at, name, value, unit, conversation_id, agent)
VALUES (?, ?, ?, ?, ?, ?)
"""
DEAD_LETTER: Final = "INSERT INTO orchestrator_dead_letters (at, address, reason, kind, body) VALUES (?, ?, ?, ?, ?)"
DROP_DEAD_LETTER: Final = "DELETE FROM orchestrator_dead_letters WHERE id = ?"

RECOVERING: Final = "UPDATE orchestrator_workflow_states SET recoveries = recoveries + 1 WHERE unfinished = 1"
# `:ids` is a JSON list, or nothing: all.
SHIFT_RECOVERIES: Final = """
UPDATE orchestrator_workflow_states SET recoveries = max(0, recoveries + :by)
WHERE unfinished = 1 AND (:ids IS NULL OR conversation_id IN (SELECT value FROM json_each(:ids)))
"""
RECOVERIES: Final = "SELECT conversation_id, recoveries FROM orchestrator_workflow_states WHERE unfinished = 1"

# Forgetting: a bounded number of rows at a time, so that a commit never waits long. A paused conversation is not
# unfinished, but its open message still needs its results.

CLEANUP: Final = {
    "orchestrator_inbox": """
        DELETE FROM orchestrator_inbox WHERE rowid IN
            (SELECT rowid FROM orchestrator_inbox WHERE at < :inbox AND reply_seq IS NOT NULL LIMIT :most)
    """,
    "orchestrator_operation_logs": """
        DELETE FROM orchestrator_operation_logs WHERE id IN
            (SELECT id FROM orchestrator_operation_logs WHERE at < :logs LIMIT :most)
    """,
    "orchestrator_error_logs": """
        DELETE FROM orchestrator_error_logs WHERE id IN
            (SELECT id FROM orchestrator_error_logs WHERE at < :logs LIMIT :most)
    """,
    "orchestrator_performance_metrics": """
        DELETE FROM orchestrator_performance_metrics WHERE id IN
            (SELECT id FROM orchestrator_performance_metrics WHERE at < :logs LIMIT :most)
    """,
    "orchestrator_dead_letters": """
        DELETE FROM orchestrator_dead_letters WHERE id IN
            (SELECT id FROM orchestrator_dead_letters WHERE at < :logs LIMIT :most)
    """,
}
# Of conversations, a number at a time, oldest first: those with nothing left to delete are passed by until their next
# step, which marks them again. `:chosen` is a JSON list.
TRIMMABLE: Final = """
SELECT conversation_id FROM orchestrator_workflow_states
WHERE trimmable = 1 AND oldest_open_seq IS NULL AND updated_at < ? ORDER BY updated_at LIMIT ?
"""
TRIM: Final = {
    "orchestrator_journal": """
        DELETE FROM orchestrator_journal WHERE rowid IN
            (SELECT j.rowid FROM json_each(:chosen) AS chosen
             CROSS JOIN orchestrator_workflow_states AS s ON s.conversation_id = chosen.value
             CROSS JOIN orchestrator_journal AS j ON j.conversation_id = s.conversation_id
             WHERE j.last_seq <= s.snapshot_seq AND s.snapshot_seq <= s.last_seq LIMIT :most)
    """,
    "orchestrator_agent_results": """
        DELETE FROM orchestrator_agent_results WHERE rowid IN
            (SELECT r.rowid FROM json_each(:chosen) AS chosen
             CROSS JOIN orchestrator_agent_results AS r ON r.conversation_id = chosen.value LIMIT :most)
    """,
}
TRIMMED: Final = """
UPDATE orchestrator_workflow_states AS s SET trimmable = 0
WHERE conversation_id IN (SELECT value FROM json_each(:chosen))
  AND NOT EXISTS (SELECT 1 FROM orchestrator_journal AS j
                  WHERE j.conversation_id = s.conversation_id AND j.last_seq <= s.snapshot_seq
                    AND s.snapshot_seq <= s.last_seq)
  AND NOT EXISTS (SELECT 1 FROM orchestrator_agent_results AS r WHERE r.conversation_id = s.conversation_id)
"""

# Reading

KNOWN: Final = """
SELECT asked.value FROM json_each(?) AS asked
WHERE EXISTS (SELECT 1 FROM orchestrator_workflow_states AS s WHERE s.conversation_id = asked.value)
   OR EXISTS (SELECT 1 FROM orchestrator_journal AS j WHERE j.conversation_id = asked.value)
"""
# One row always: without a conversation's row the last column tells whether there is a journal all the same.
LOAD_STATE: Final = """
SELECT s.last_seq, s.snapshot, s.snapshot_seq, s.oldest_open_seq, s.open_request_ids,
    CASE WHEN s.conversation_id IS NULL
        THEN EXISTS (SELECT 1 FROM orchestrator_journal AS j WHERE j.conversation_id = asked.id) END
FROM (SELECT ? AS id) AS asked LEFT JOIN orchestrator_workflow_states AS s ON s.conversation_id = asked.id
"""
ENTRIES: Final = """
SELECT first_seq, last_seq, at, body FROM orchestrator_journal
WHERE conversation_id = ? AND last_seq > ? ORDER BY last_seq LIMIT ?
"""
RESULTS: Final = """
SELECT request_id, node_id, agent, attempt, result, duration_ms, cached, cache_key, expires_at
FROM orchestrator_agent_results WHERE conversation_id = ? AND request_id = ?
"""
CACHED: Final = """
SELECT request_id, node_id, agent, attempt, result, duration_ms, cached, cache_key, expires_at
FROM orchestrator_agent_results WHERE cache_key = ? AND expires_at > ? ORDER BY expires_at DESC LIMIT 1
"""
NEWEST_NOTE: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = ? AND role = 'note' ORDER BY seq DESC LIMIT 1
"""
RECENT_MEMORY: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = ?1 AND role <> 'note' AND seq > ?2 ORDER BY seq DESC LIMIT ?3
"""
MEMORY_RANGE: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = ? AND seq BETWEEN ? AND ? ORDER BY seq, role
"""
SAID: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = ? AND seq BETWEEN ? AND ? AND role <> 'note' ORDER BY seq, role LIMIT ?
"""
UNFINISHED: Final = """
SELECT conversation_id FROM orchestrator_workflow_states WHERE unfinished = 1 ORDER BY updated_at
"""
UNREPLIED: Final = "SELECT request_id FROM orchestrator_inbox WHERE conversation_id = ? AND reply_seq IS NULL"
MESSAGE: Final = """
SELECT message_id, request_id, fingerprint, seq, reply_seq FROM orchestrator_inbox
WHERE conversation_id = ? AND message_id = ?
"""
CONVERSATION: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states WHERE conversation_id = ?
"""
CONVERSATIONS: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states
WHERE updated_at <= ?1 AND (updated_at < ?1 OR conversation_id > ?2)
ORDER BY updated_at DESC, conversation_id LIMIT ?3
"""
CONVERSATIONS_IN_PHASE: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states
WHERE phase = ?4 AND updated_at <= ?1 AND (updated_at < ?1 OR conversation_id > ?2)
ORDER BY updated_at DESC, conversation_id LIMIT ?3
"""
# A time that is none is before or behind all numbers, in the order of both indexes; there is hardly ever one.
WITHOUT_TIME: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states WHERE updated_at > 9223372036854775807 OR updated_at IS NULL
"""
WITHOUT_TIME_IN_PHASE: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states WHERE phase = ? AND (updated_at > 9223372036854775807 OR updated_at IS NULL)
"""
PHASES: Final = "SELECT phase, count(*) FROM orchestrator_workflow_states GROUP BY phase"
DEAD_LETTERS: Final = """
SELECT at, address, reason, kind, body, id FROM orchestrator_dead_letters WHERE id > ? ORDER BY id LIMIT ?
"""
