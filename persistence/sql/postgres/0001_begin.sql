-- The six tables of the original system, and beside them journal, inbox, dead letters and ownership.
-- Times are milliseconds since the epoch. Bodies are JSON unless said otherwise.
-- Texts: a NUL, which Postgres cannot store, is stored as U+0001 U+0001, and a U+0001 as U+0001 U+0002.

CREATE TABLE orchestrator_ownership (
    id          SMALLINT PRIMARY KEY CHECK (id = 1),
    epoch       BIGINT NOT NULL,
    owner       TEXT NOT NULL,
    since       BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL, -- end of the lease, by the server's clock
    last_commit BIGINT NOT NULL, -- number of this epoch's newest commit
    store_id    TEXT NOT NULL DEFAULT gen_random_uuid()::text, -- made once; a copy of the database has the same
    beats       BIGINT NOT NULL DEFAULT 0 -- counted on at start, at the end, and every few seconds between
);

-- One row per conversation: where it stands, and its newest snapshot (msgpack with a header).
CREATE TABLE orchestrator_workflow_states (
    conversation_id  TEXT COLLATE "C" PRIMARY KEY,
    phase            TEXT COLLATE "C" NOT NULL,
    last_seq         BIGINT NOT NULL,
    unfinished       BOOLEAN NOT NULL,
    oldest_open_seq  BIGINT,
    open_request_ids TEXT NOT NULL DEFAULT '[]',
    recoveries       BIGINT NOT NULL DEFAULT 0,
    user_id          TEXT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    snapshot_seq     BIGINT NOT NULL DEFAULT 0,
    snapshot         BYTEA,
    trimmable        BOOLEAN NOT NULL DEFAULT TRUE -- there may be steps or results to delete once it is old
);
CREATE INDEX orchestrator_workflow_states_unfinished
    ON orchestrator_workflow_states (updated_at) WHERE unfinished;
CREATE INDEX orchestrator_workflow_states_trimmable
    ON orchestrator_workflow_states (updated_at) WHERE trimmable AND oldest_open_seq IS NULL;
CREATE INDEX orchestrator_workflow_states_newest
    ON orchestrator_workflow_states (updated_at DESC, conversation_id);
CREATE INDEX orchestrator_workflow_states_phase
    ON orchestrator_workflow_states (phase, updated_at DESC, conversation_id);

-- One row per step; a step holds the events first_seq to last_seq.
CREATE TABLE orchestrator_journal (
    conversation_id  TEXT COLLATE "C" NOT NULL,
    last_seq         BIGINT NOT NULL,
    first_seq        BIGINT NOT NULL,
    at               BIGINT NOT NULL,
    body             BYTEA NOT NULL,
    PRIMARY KEY (conversation_id, last_seq)
);

-- Accepted messages, for telling repetitions.
CREATE TABLE orchestrator_inbox (
    conversation_id  TEXT COLLATE "C" NOT NULL,
    message_id       TEXT COLLATE "C" NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    fingerprint      TEXT NOT NULL,
    seq              BIGINT NOT NULL,
    reply_seq        BIGINT,
    at               BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, message_id)
);
CREATE INDEX orchestrator_inbox_age ON orchestrator_inbox (at) WHERE reply_seq IS NOT NULL;

-- Agent results; also the cache, by cache_key until expires_at.
CREATE TABLE orchestrator_agent_results (
    conversation_id  TEXT COLLATE "C" NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    node_id          TEXT COLLATE "C" NOT NULL,
    agent            TEXT NOT NULL,
    attempt          BIGINT NOT NULL,
    result           BYTEA NOT NULL,
    duration_ms      DOUBLE PRECISION NOT NULL,
    cached           BOOLEAN NOT NULL DEFAULT FALSE,
    cache_key        TEXT COLLATE "C",
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT,
    PRIMARY KEY (conversation_id, request_id, node_id)
);
CREATE INDEX orchestrator_agent_results_cache
    ON orchestrator_agent_results (cache_key, expires_at) WHERE cache_key IS NOT NULL;

-- What was said (role user, assistant) and what it was condensed into (role note).
CREATE TABLE orchestrator_conversation_memory (
    conversation_id  TEXT COLLATE "C" NOT NULL,
    seq              BIGINT NOT NULL,
    role             TEXT NOT NULL,
    request_id       TEXT COLLATE "C" NOT NULL,
    text             TEXT NOT NULL,
    at               BIGINT NOT NULL,
    forgotten        BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (conversation_id, seq, role)
);
CREATE INDEX orchestrator_conversation_memory_notes
    ON orchestrator_conversation_memory (conversation_id, seq) WHERE role = 'note';

CREATE TABLE orchestrator_operation_logs (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               BIGINT NOT NULL,
    event            TEXT NOT NULL,
    level            TEXT NOT NULL,
    conversation_id  TEXT COLLATE "C",
    request_id       TEXT COLLATE "C",
    fields           TEXT NOT NULL
);
CREATE INDEX orchestrator_operation_logs_age ON orchestrator_operation_logs (at);
CREATE INDEX orchestrator_operation_logs_conversation
    ON orchestrator_operation_logs (conversation_id, at) WHERE conversation_id IS NOT NULL;

CREATE TABLE orchestrator_error_logs (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               BIGINT NOT NULL,
    conversation_id  TEXT COLLATE "C" NOT NULL,
    request_id       TEXT COLLATE "C",
    node_id          TEXT COLLATE "C",
    agent            TEXT,
    attempt          BIGINT,
    error_type       TEXT NOT NULL,
    error_class      TEXT NOT NULL,
    message          TEXT NOT NULL,
    retry_delay      DOUBLE PRECISION
);
CREATE INDEX orchestrator_error_logs_age ON orchestrator_error_logs (at);
CREATE INDEX orchestrator_error_logs_agent ON orchestrator_error_logs (agent, at);

CREATE TABLE orchestrator_performance_metrics (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               BIGINT NOT NULL,
    name             TEXT NOT NULL,
    value            DOUBLE PRECISION NOT NULL,
    unit             TEXT NOT NULL,
    conversation_id  TEXT COLLATE "C",
    agent            TEXT
);
CREATE INDEX orchestrator_performance_metrics_name ON orchestrator_performance_metrics (name, at);
CREATE INDEX orchestrator_performance_metrics_age ON orchestrator_performance_metrics (at);

-- An id that a person has seen is never given to another letter.
CREATE TABLE orchestrator_dead_letters (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               BIGINT NOT NULL,
    address          TEXT NOT NULL,
    reason           TEXT NOT NULL,
    kind             TEXT NOT NULL,
    body             BYTEA NOT NULL
);
CREATE INDEX orchestrator_dead_letters_age ON orchestrator_dead_letters (at);

CREATE VIEW orchestrator_errors_hourly AS
    SELECT to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00Z"') AS hour,
           agent, error_type, error_class, count(*) AS errors, count(retry_delay) AS retried
    FROM orchestrator_error_logs
    GROUP BY hour, agent, error_type, error_class;

CREATE VIEW orchestrator_performance_hourly AS
    SELECT to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00Z"') AS hour,
           name, agent, unit, count(*) AS samples, avg(value) AS mean, min(value) AS least, max(value) AS most
    FROM orchestrator_performance_metrics
    GROUP BY hour, name, agent, unit;
