"""Every statement of the Postgres store, named; values are always bound, whole columns of them where rows are many."""

from __future__ import annotations

from typing import Final

# Ownership: the advisory locks of one schema of one database. Whoever holds OWNER is alive; OPENING keeps two that
# start from taking a dead owner's place both.

OWNER: Final = 0x6F726368
OPENING: Final = OWNER + 1
TRY_LOCK: Final = "SELECT pg_try_advisory_lock(%s::int4, hashtext(coalesce(current_schema(), '')))"
UNLOCK: Final = "SELECT pg_advisory_unlock(%s::int4, hashtext(coalesce(current_schema(), '')))"
UNLOCK_ALL: Final = "SELECT pg_advisory_unlock_all()"
HOLDER: Final = """
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = %s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND objid::bigint = hashtext(coalesce(current_schema(), ''))::bigint & 4294967295
"""
END_HOLDER: Final = "SELECT pg_terminate_backend(%s)"

EXISTS: Final = "SELECT to_regclass(%s) IS NOT NULL"
APPLIED: Final = "SELECT migration_id FROM _yoyo_migration"
LEASE: Final = """
SELECT owner, expires_at - (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM orchestrator_ownership WHERE id = 1
"""
OWN: Final = """
INSERT INTO orchestrator_ownership (id, epoch, owner, since, expires_at, last_commit)
SELECT 1, 1, %s, now, now + %s, 0
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock
ON CONFLICT (id) DO UPDATE SET epoch = orchestrator_ownership.epoch + 1, owner = excluded.owner,
    since = excluded.since, expires_at = excluded.expires_at, last_commit = 0
RETURNING epoch
"""
# The row stays locked until the end of the transaction: whoever takes over waits for it, or it sees the new epoch.
EPOCH: Final = "SELECT epoch, last_commit FROM orchestrator_ownership WHERE id = 1 FOR UPDATE"
RENEW: Final = """
UPDATE orchestrator_ownership SET expires_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + %s
WHERE id = 1 AND epoch = %s
"""
RELEASE: Final = "UPDATE orchestrator_ownership SET expires_at = 0 WHERE id = 1 AND epoch = %s"

MARK: Final = "SELECT store_id, epoch, beats FROM orchestrator_ownership WHERE id = 1"
BEAT: Final = """
UPDATE orchestrator_ownership SET beats = beats + 1 WHERE id = 1 RETURNING store_id, epoch, beats
"""

# Connections

# Tables grow under plans that were made when they were small: so none reads a whole table where there is an index, and
# what such a plan seems to cost is no reason to compile it.
SETTINGS: Final = """
SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),
    set_config('idle_in_transaction_session_timeout', %s, false), set_config('application_name', 'orchestrator', false),
    set_config('client_encoding', 'UTF8', false), set_config('enable_seqscan', 'off', false),
    set_config('jit', 'off', false)
"""
READ_ONLY: Final = "SET default_transaction_read_only = on"
SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
HEALTH: Final = """
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
    pg_is_in_recovery(), pg_database_size(current_database())
"""

# Writing steps

LAST_SEQS: Final = """
SELECT conversation_id, last_seq FROM orchestrator_workflow_states WHERE conversation_id = ANY(%s::text[])
"""
SAME_ENTRIES: Final = """
SELECT asked.number FROM orchestrator_journal AS journal
JOIN unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[])
    AS asked (number, conversation_id, last_seq, first_seq, at, body)
USING (conversation_id, last_seq, first_seq, at, body)
"""
# Texts and binary arrays as persistence/postgres_rows.py makes them; the driver has no hand in it.
COMMIT: Final = "SELECT orchestrator_commit(" + ", ".join(f"${number}" for number in range(1, 20)) + ")"
DROP_DEAD_LETTER: Final = "DELETE FROM orchestrator_dead_letters WHERE id = %s"
RECOVERING: Final = """
UPDATE orchestrator_workflow_states SET recoveries = greatest(0, least(recoveries, 1000000)) + 1 WHERE unfinished
RETURNING conversation_id, recoveries
"""
SHIFT_RECOVERIES: Final = """
UPDATE orchestrator_workflow_states SET recoveries = greatest(0, least(recoveries, 1000000) + %(by)s)
WHERE unfinished AND (%(ids)s::text[] IS NULL OR conversation_id = ANY(%(ids)s::text[]))
"""

# Forgetting: a bounded number of rows at a time, so that a commit never waits long. A paused conversation is not
# unfinished, but its open message still needs its results.

CLEANUP: Final = {
    "orchestrator_inbox": """
        DELETE FROM orchestrator_inbox WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM orchestrator_inbox WHERE at < %(inbox)s AND reply_seq IS NOT NULL LIMIT %(most)s))
    """,
    "orchestrator_operation_logs": """
        DELETE FROM orchestrator_operation_logs WHERE id = ANY(ARRAY(
            SELECT id FROM orchestrator_operation_logs WHERE at < %(logs)s LIMIT %(most)s))
    """,
    "orchestrator_error_logs": """
        DELETE FROM orchestrator_error_logs WHERE id = ANY(ARRAY(
            SELECT id FROM orchestrator_error_logs WHERE at < %(logs)s LIMIT %(most)s))
    """,
    "orchestrator_performance_metrics": """
        DELETE FROM orchestrator_performance_metrics WHERE id = ANY(ARRAY(
            SELECT id FROM orchestrator_performance_metrics WHERE at < %(logs)s LIMIT %(most)s))
    """,
    "orchestrator_dead_letters": """
        DELETE FROM orchestrator_dead_letters WHERE id = ANY(ARRAY(
            SELECT id FROM orchestrator_dead_letters WHERE at < %(logs)s LIMIT %(most)s))
    """,
}
# Of conversations, a number at a time, oldest first: those with nothing left to delete are passed by until their next
# step, which marks them again.
TRIMMABLE: Final = """
SELECT conversation_id FROM orchestrator_workflow_states
WHERE trimmable AND oldest_open_seq IS NULL AND updated_at < %s ORDER BY updated_at LIMIT %s
"""
# Written so that every table is reached by its key, whatever the server knows (or not yet) of the tables' sizes: a
# subquery with a LIMIT is made for one conversation at a time.
TRIM: Final = {
    "orchestrator_journal": """
        DELETE FROM orchestrator_journal WHERE ctid = ANY(ARRAY(
            SELECT old.ctid FROM unnest(%(chosen)s::text[]) AS chosen (id)
            CROSS JOIN LATERAL (
                SELECT j.ctid FROM orchestrator_journal j WHERE j.conversation_id = chosen.id AND j.last_seq <= (
                    SELECT s.snapshot_seq FROM orchestrator_workflow_states s
                    WHERE s.conversation_id = chosen.id AND s.snapshot_seq <= s.last_seq)
                LIMIT %(most)s) AS old
            LIMIT %(most)s))
    """,
    "orchestrator_agent_results": """
        DELETE FROM orchestrator_agent_results WHERE ctid = ANY(ARRAY(
            SELECT old.ctid FROM unnest(%(chosen)s::text[]) AS chosen (id)
            CROSS JOIN LATERAL (
                SELECT r.ctid FROM orchestrator_agent_results r WHERE r.conversation_id = chosen.id LIMIT %(most)s
            ) AS old
            LIMIT %(most)s))
    """,
}
TRIMMED: Final = """
UPDATE orchestrator_workflow_states s SET trimmable = FALSE
WHERE conversation_id = ANY(%(chosen)s::text[])
  AND (SELECT 1 FROM orchestrator_journal j
       WHERE j.conversation_id = s.conversation_id AND j.last_seq <= s.snapshot_seq
         AND s.snapshot_seq <= s.last_seq LIMIT 1) IS NULL
  AND (SELECT 1 FROM orchestrator_agent_results r WHERE r.conversation_id = s.conversation_id LIMIT 1) IS NULL
"""

# Reading

KNOWN: Final = """
SELECT id FROM (SELECT unnest(%s::text[]) COLLATE "C" AS id) AS asked
WHERE (SELECT 1 FROM orchestrator_workflow_states s WHERE s.conversation_id = asked.id LIMIT 1) IS NOT NULL
   OR (SELECT 1 FROM orchestrator_journal j WHERE j.conversation_id = asked.id LIMIT 1) IS NOT NULL
"""
# Nothing where there is the conversation's row; else whether there is a journal all the same.
LEFT: Final = """
SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM orchestrator_workflow_states WHERE conversation_id = $1::text)
    THEN EXISTS (SELECT 1 FROM orchestrator_journal WHERE conversation_id = $1::text) END
"""
# One row always: without a conversation's row the last column tells whether there is a journal all the same.
LOAD_STATE: Final = """
SELECT s.last_seq, s.snapshot, s.snapshot_seq, s.oldest_open_seq, s.open_request_ids,
    CASE WHEN s.conversation_id IS NULL
        THEN EXISTS (SELECT 1 FROM orchestrator_journal j WHERE j.conversation_id = asked.id) END
FROM (SELECT %s::text COLLATE "C" AS id) AS asked
LEFT JOIN orchestrator_workflow_states s ON s.conversation_id = asked.id
"""
ENTRIES: Final = """
SELECT first_seq, last_seq, at, body FROM orchestrator_journal
WHERE conversation_id = %s AND last_seq > %s ORDER BY last_seq LIMIT %s
"""
ENTRIES_SINCE_SNAPSHOT: Final = """
SELECT first_seq, last_seq, at, body FROM orchestrator_journal
WHERE conversation_id = %(id)s AND last_seq > (
    SELECT snapshot_seq FROM orchestrator_workflow_states WHERE conversation_id = %(id)s)
ORDER BY last_seq
"""
RESULTS: Final = """
SELECT request_id, node_id, agent, attempt, result, duration_ms, cached, cache_key, expires_at
FROM orchestrator_agent_results WHERE conversation_id = %s AND request_id = ANY(%s::text[])
ORDER BY array_position(%s::text[], request_id), node_id
"""
CACHED: Final = """
SELECT request_id, node_id, agent, attempt, result, duration_ms, cached, cache_key, expires_at
FROM orchestrator_agent_results WHERE cache_key = %s AND expires_at > %s ORDER BY expires_at DESC LIMIT 1
"""
NEWEST_NOTE: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = %s AND role = 'note' ORDER BY seq DESC LIMIT 1
"""
# Since the newest note.
RECENT_MEMORY: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = %(id)s AND role <> 'note' AND seq > coalesce(
    (SELECT seq FROM orchestrator_conversation_memory WHERE conversation_id = %(id)s AND role = 'note'
     ORDER BY seq DESC LIMIT 1), 0)
ORDER BY seq DESC LIMIT %(recent)s
"""
MEMORY_RANGE: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = %s AND seq BETWEEN %s AND %s ORDER BY seq, role COLLATE "C"
"""
SAID: Final = """
SELECT seq, role, request_id, text, at, forgotten FROM orchestrator_conversation_memory
WHERE conversation_id = %s AND seq BETWEEN %s AND %s AND role <> 'note' ORDER BY seq LIMIT %s
"""
UNFINISHED: Final = """
SELECT conversation_id FROM orchestrator_workflow_states WHERE unfinished ORDER BY updated_at
"""
UNREPLIED: Final = "SELECT request_id FROM orchestrator_inbox WHERE conversation_id = %s AND reply_seq IS NULL"
MESSAGE: Final = """
SELECT message_id, request_id, fingerprint, seq, reply_seq FROM orchestrator_inbox
WHERE conversation_id = %s AND message_id = %s
"""
CONVERSATION: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states WHERE conversation_id = %s
"""
CONVERSATIONS: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states
WHERE updated_at <= %(before)s AND (updated_at < %(before)s OR conversation_id > %(seen)s)
ORDER BY updated_at DESC, conversation_id LIMIT %(limit)s
"""
CONVERSATIONS_IN_PHASE: Final = """
SELECT conversation_id, phase, last_seq, unfinished, user_id, created_at, updated_at
FROM orchestrator_workflow_states
WHERE phase = %(phase)s AND updated_at <= %(before)s AND (updated_at < %(before)s OR conversation_id > %(seen)s)
ORDER BY updated_at DESC, conversation_id LIMIT %(limit)s
"""
PHASES: Final = "SELECT phase, count(*) FROM orchestrator_workflow_states GROUP BY phase"
DEAD_LETTERS: Final = """
SELECT at, address, reason, kind, body, id FROM orchestrator_dead_letters WHERE id > %s ORDER BY id LIMIT %s
"""
