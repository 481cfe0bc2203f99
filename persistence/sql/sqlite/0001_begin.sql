-- The six tables of the original system, and beside them journal, inbox, dead letters and ownership.
-- Times are milliseconds since the epoch. Bodies are JSON unless said otherwise.

CREATE TABLE orchestrator_ownership (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    epoch       INTEGER NOT NULL,
    owner       TEXT NOT NULL,
    since       INTEGER NOT NULL,
    store_id    TEXT NOT NULL,              -- made once; a copy of the file has the same
    beats       INTEGER NOT NULL DEFAULT 0  -- counted on at start, at the end, and every few seconds between
);

-- One row per conversation: where it stands, and its newest snapshot (msgpack with a header).
CREATE TABLE orchestrator_workflow_states (
    conversation_id  TEXT PRIMARY KEY,
    phase            TEXT NOT NULL,
    last_seq         INTEGER NOT NULL,
    unfinished       INTEGER NOT NULL,
    oldest_open_seq  INTEGER,
    open_request_ids TEXT NOT NULL DEFAULT '[]',
    recoveries       INTEGER NOT NULL DEFAULT 0,
    user_id          TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    snapshot_seq     INTEGER NOT NULL DEFAULT 0,
    snapshot         BLOB,
    trimmable        INTEGER NOT NULL DEFAULT 1 -- there may be steps or results to delete once it is old
);
CREATE INDEX orchestrator_workflow_states_unfinished
    ON orchestrator_workflow_states (updated_at) WHERE unfinished = 1;
CREATE INDEX orchestrator_workflow_states_trimmable
    ON orchestrator_workflow_states (updated_at) WHERE trimmable = 1 AND oldest_open_seq IS NULL;
CREATE INDEX orchestrator_workflow_states_newest
    ON orchestrator_workflow_states (updated_at DESC, conversation_id);
CREATE INDEX orchestrator_workflow_states_phase
    ON orchestrator_workflow_states (phase, updated_at DESC, conversation_id);

-- One row per step; a step holds the events first_seq to last_seq.
CREATE TABLE orchestrator_journal (
    conversation_id  TEXT NOT NULL,
    last_seq         INTEGER NOT NULL,
    first_seq        INTEGER NOT NULL,
    at               INTEGER NOT NULL,
    body             BLOB NOT NULL,
    PRIMARY KEY (conversation_id, last_seq)
);

-- Accepted messages, for telling repetitions.
CREATE TABLE orchestrator_inbox (
    conversation_id  TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    request_id       TEXT NOT NULL,
    fingerprint      TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    reply_seq        INTEGER,
    at               INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, message_id)
);
CREATE INDEX orchestrator_inbox_age ON orchestrator_inbox (at) WHERE reply_seq IS NOT NULL;

-- Agent results; also the cache, by cache_key until expires_at.
CREATE TABLE orchestrator_agent_results (
    conversation_id  TEXT NOT NULL,
    request_id       TEXT NOT NULL,
    node_id          TEXT NOT NULL,
    agent            TEXT NOT NULL,
    attempt          INTEGER NOT NULL,
    result           BLOB NOT NULL,
    duration_ms      REAL NOT NULL,
    cached           INTEGER NOT NULL DEFAULT 0,
    cache_key        TEXT,
    created_at       INTEGER NOT NULL,
    expires_at       INTEGER,
    PRIMARY KEY (conversation_id, request_id, node_id)
);
CREATE INDEX orchestrator_agent_results_cache
    ON orchestrator_agent_results (cache_key, expires_at) WHERE cache_key IS NOT NULL;

-- What was said (role user, assistant) and what it was condensed into (role note).
CREATE TABLE orchestrator_conversation_memory (
    conversation_id  TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    role             TEXT NOT NULL,
    request_id       TEXT NOT NULL,
    text             TEXT NOT NULL,
    at               INTEGER NOT NULL,
    forgotten        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation_id, seq, role)
);
CREATE INDEX orchestrator_conversation_memory_notes
    ON orchestrator_conversation_memory (conversation_id, seq) WHERE role = 'note';

CREATE TABLE orchestrator_operation_logs (
    id               INTEGER PRIMARY KEY,
    at               INTEGER NOT NULL,
    event            TEXT NOT NULL,
    level            TEXT NOT NULL,
    conversation_id  TEXT,
    request_id       TEXT,
    fields           TEXT NOT NULL
);
CREATE INDEX orchestrator_operation_logs_age ON orchestrator_operation_logs (at);
CREATE INDEX orchestrator_operation_logs_conversation
    ON orchestrator_operation_logs (conversation_id, at) WHERE conversation_id IS NOT NULL;

CREATE TABLE orchestrator_error_logs (
    id               INTEGER PRIMARY KEY,
    at               INTEGER NOT NULL,
    conversation_id  TEXT NOT NULL,
    request_id       TEXT,
    node_id          TEXT,
    agent            TEXT,
    attempt          INTEGER,
    error_type       TEXT NOT NULL,
    error_class      TEXT NOT NULL,
    message          TEXT NOT NULL,
    retry_delay      REAL
);
CREATE INDEX orchestrator_error_logs_age ON orchestrator_error_logs (at);
CREATE INDEX orchestrator_error_logs_agent ON orchestrator_error_logs (agent, at);

CREATE TABLE orchestrator_performance_metrics (
    id               INTEGER PRIMARY KEY,
    at               INTEGER NOT NULL,
    name             TEXT NOT NULL,
    value            REAL NOT NULL,
    unit             TEXT NOT NULL,
    conversation_id  TEXT,
    agent            TEXT
);
CREATE INDEX orchestrator_performance_metrics_name ON orchestrator_performance_metrics (name, at);
CREATE INDEX orchestrator_performance_metrics_age ON orchestrator_performance_metrics (at);

-- An id that a person has seen is never given to another letter.
CREATE TABLE orchestrator_dead_letters (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    at               INTEGER NOT NULL,
    address          TEXT NOT NULL,
    reason           TEXT NOT NULL,
    kind             TEXT NOT NULL,
    body             BLOB NOT NULL
);
CREATE INDEX orchestrator_dead_letters_age ON orchestrator_dead_letters (at);

CREATE VIEW orchestrator_errors_hourly AS
    SELECT strftime('%Y-%m-%dT%H:00Z', at / 1000, 'unixepoch') AS hour,
           agent, error_type, error_class, count(*) AS errors, count(retry_delay) AS retried
    FROM orchestrator_error_logs
    GROUP BY hour, agent, error_type, error_class;

CREATE VIEW orchestrator_performance_hourly AS
    SELECT strftime('%Y-%m-%dT%H:00Z', at / 1000, 'unixepoch') AS hour,
           name, agent, unit, count(*) AS samples, avg(value) AS mean, min(value) AS least, max(value) AS most
    FROM orchestrator_performance_metrics
    GROUP BY hour, name, agent, unit;
