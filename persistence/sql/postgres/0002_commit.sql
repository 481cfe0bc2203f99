-- A whole commit in one call: whoever calls it alone, outside of a transaction, has asked once and waited once.
-- Rows come as JSON, a list of objects for each table; bodies beside them, in the same order, as bytes.
-- It says FALSE and has done nothing where the caller must look closer: the epoch or the newest commit is another than
-- the caller's, or a conversation does not stand where the caller takes it to stand.

CREATE FUNCTION orchestrator_commit(
    own_epoch         BIGINT,
    known_commit      BIGINT,  -- the newest one that the caller knows of
    this_commit       BIGINT,
    lease_ms          BIGINT,
    assumed           JSON,    -- conversations with the sequence number that the caller takes for their newest
    steps             JSON,    -- of a conversation's newest step in this commit also the row of its state
    step_bodies       BYTEA[],
    snapshots         BYTEA[],
    messages          JSON,
    replies           JSON,
    results           JSON,
    result_bodies     BYTEA[],
    forget            JSON,
    memories          JSON,
    errors            JSON,
    operations        JSON,
    metrics           JSON,
    letters           JSON,
    letter_bodies     BYTEA[]
) RETURNS BOOLEAN LANGUAGE plpgsql AS $body$
DECLARE
    began CONSTANT TIMESTAMPTZ := clock_timestamp();
    one RECORD;
BEGIN
    -- Nobody but the owner changes a conversation, and whether the caller is the owner is asked after it.
    IF assumed IS NOT NULL THEN
        PERFORM FROM json_to_recordset(assumed) AS asked (id TEXT, seq BIGINT)
        WHERE asked.seq IS DISTINCT FROM coalesce(
            (SELECT s.last_seq FROM orchestrator_workflow_states s WHERE s.conversation_id = asked.id), 0);
        IF FOUND THEN
            RETURN FALSE;
        END IF;
    END IF;

    -- The row stays locked until the end of the transaction: whoever takes over waits for it, or it is another epoch's.
    UPDATE orchestrator_ownership o
    SET expires_at = (extract(epoch FROM began) * 1000)::BIGINT + lease_ms, last_commit = this_commit
    WHERE o.id = 1 AND o.epoch = own_epoch AND o.last_commit = known_commit;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;

    IF steps IS NOT NULL THEN
        WITH new AS MATERIALIZED (
            SELECT * FROM ROWS FROM (
                json_to_recordset(steps) AS (
                    conversation_id TEXT, last_seq BIGINT, first_seq BIGINT, at BIGINT, newest BOOLEAN, phase TEXT,
                    unfinished BOOLEAN, oldest_open_seq BIGINT, open_request_ids TEXT, progress BOOLEAN, user_id TEXT,
                    created_at BIGINT, snapshot_seq BIGINT),
                unnest(step_bodies),
                unnest(snapshots)
            ) AS given (
                conversation_id, last_seq, first_seq, at, newest, phase, unfinished, oldest_open_seq, open_request_ids,
                progress, user_id, created_at, snapshot_seq, body, snapshot)
        ), journal AS (
            INSERT INTO orchestrator_journal (conversation_id, last_seq, first_seq, at, body)
            SELECT conversation_id, last_seq, first_seq, at, body FROM new
        )
        INSERT INTO orchestrator_workflow_states AS old
            (conversation_id, phase, last_seq, unfinished, oldest_open_seq, open_request_ids, recoveries, user_id,
             created_at, updated_at, snapshot_seq, snapshot)
        SELECT conversation_id, phase, last_seq, unfinished, oldest_open_seq, open_request_ids,
            CASE WHEN progress THEN 0 ELSE coalesce((
                SELECT s.recoveries FROM orchestrator_workflow_states s
                WHERE s.conversation_id = new.conversation_id), 0) END,
            user_id, created_at, at, snapshot_seq, snapshot
        FROM new WHERE newest
        ON CONFLICT (conversation_id) DO UPDATE SET
            phase = excluded.phase, last_seq = excluded.last_seq, unfinished = excluded.unfinished,
            oldest_open_seq = excluded.oldest_open_seq, open_request_ids = excluded.open_request_ids,
            recoveries = excluded.recoveries, user_id = coalesce(excluded.user_id, old.user_id),
            updated_at = excluded.updated_at,
            snapshot_seq = CASE WHEN excluded.snapshot IS NULL THEN old.snapshot_seq ELSE excluded.snapshot_seq END,
            snapshot = coalesce(excluded.snapshot, old.snapshot), trimmable = TRUE;
    END IF;

    IF messages IS NOT NULL THEN
        INSERT INTO orchestrator_inbox (conversation_id, message_id, request_id, fingerprint, seq, at)
        SELECT * FROM json_to_recordset(messages) AS new (
            conversation_id TEXT, message_id TEXT, request_id TEXT, fingerprint TEXT, seq BIGINT, at BIGINT);
    END IF;

    -- One by one, by the table's key: of all at once the server makes a plan that may read the whole table.
    IF replies IS NOT NULL THEN
        FOR one IN SELECT * FROM json_to_recordset(replies) AS new (
            conversation_id TEXT, message_id TEXT, reply_seq BIGINT)
        LOOP
            UPDATE orchestrator_inbox i SET reply_seq = one.reply_seq
            WHERE i.conversation_id = one.conversation_id AND i.message_id = one.message_id;
        END LOOP;
    END IF;

    IF results IS NOT NULL THEN
        INSERT INTO orchestrator_agent_results
            (conversation_id, request_id, node_id, agent, attempt, duration_ms, cached, cache_key, created_at,
             expires_at, result)
        SELECT * FROM ROWS FROM (
            json_to_recordset(results) AS (
                conversation_id TEXT, request_id TEXT, node_id TEXT, agent TEXT, attempt BIGINT,
                duration_ms DOUBLE PRECISION, cached BOOLEAN, cache_key TEXT, created_at BIGINT, expires_at BIGINT),
            unnest(result_bodies)) AS new
        ON CONFLICT (conversation_id, request_id, node_id) DO UPDATE SET
            agent = excluded.agent, attempt = excluded.attempt, result = excluded.result,
            duration_ms = excluded.duration_ms, cached = excluded.cached, cache_key = excluded.cache_key,
            created_at = excluded.created_at, expires_at = excluded.expires_at;
    END IF;

    IF forget IS NOT NULL THEN
        FOR one IN SELECT * FROM json_to_recordset(forget) AS gone (conversation_id TEXT, request_id TEXT) LOOP
            UPDATE orchestrator_conversation_memory m SET forgotten = TRUE
            WHERE m.conversation_id = one.conversation_id AND m.request_id = one.request_id AND m.role <> 'note';
        END LOOP;
    END IF;

    IF memories IS NOT NULL THEN
        INSERT INTO orchestrator_conversation_memory (conversation_id, seq, role, request_id, text, at, forgotten)
        SELECT * FROM json_to_recordset(memories) AS new (
            conversation_id TEXT, seq BIGINT, role TEXT, request_id TEXT, text TEXT, at BIGINT, forgotten BOOLEAN)
        ON CONFLICT (conversation_id, seq, role) DO UPDATE SET
            request_id = excluded.request_id, text = excluded.text, at = excluded.at, forgotten = excluded.forgotten;
    END IF;

    IF errors IS NOT NULL THEN
        INSERT INTO orchestrator_error_logs
            (at, conversation_id, request_id, node_id, agent, attempt, error_type, error_class, message, retry_delay)
        SELECT * FROM json_to_recordset(errors) AS new (
            at BIGINT, conversation_id TEXT, request_id TEXT, node_id TEXT, agent TEXT, attempt BIGINT,
            error_type TEXT, error_class TEXT, message TEXT, retry_delay DOUBLE PRECISION);
    END IF;

    IF operations IS NOT NULL THEN
        INSERT INTO orchestrator_operation_logs (at, event, level, conversation_id, request_id, fields)
        SELECT * FROM json_to_recordset(operations) AS new (
            at BIGINT, event TEXT, level TEXT, conversation_id TEXT, request_id TEXT, fields TEXT);
    END IF;

    IF metrics IS NOT NULL THEN
        INSERT INTO orchestrator_performance_metrics (at, name, value, unit, conversation_id, agent)
        SELECT * FROM json_to_recordset(metrics) AS new (
            at BIGINT, name TEXT, value DOUBLE PRECISION, unit TEXT, conversation_id TEXT, agent TEXT);
    END IF;

    -- In this order: it is the order of their ids.
    IF letters IS NOT NULL THEN
        INSERT INTO orchestrator_dead_letters (at, address, reason, kind, body)
        SELECT at, address, reason, kind, body
        FROM ROWS FROM (
            json_to_recordset(letters) AS (at BIGINT, address TEXT, reason TEXT, kind TEXT),
            unnest(letter_bodies)) WITH ORDINALITY AS new (at, address, reason, kind, body, number)
        ORDER BY number;
    END IF;

    -- A lease that a long commit used up is given again.
    IF clock_timestamp() - began > INTERVAL '1 second' THEN
        UPDATE orchestrator_ownership o SET expires_at = (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT + lease_ms
        WHERE o.id = 1;
    END IF;
    RETURN TRUE;
END
$body$;
