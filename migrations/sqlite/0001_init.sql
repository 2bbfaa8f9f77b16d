-- Offload's tables share the file with the tables that handlers write, so each carries the prefix `offload_`.
-- Ids are 16 bytes, times are microseconds since 1970, JSON is text as it came. There is no table of workers: one process
-- uses the file at a time, and remembers its own.

CREATE TABLE offload_jobs (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant           TEXT    NOT NULL,
    owner            TEXT,
    kind             TEXT    NOT NULL,
    queue            TEXT    NOT NULL,
    priority         TEXT    NOT NULL CHECK (priority IN ('high', 'normal', 'low')),
    state            TEXT    NOT NULL
        CHECK (state IN ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    -- Counts the hand-overs. Every transition names the epoch that it saw, and adds one.
    epoch            INTEGER NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0,
    max_attempts     INTEGER NOT NULL,
    losses           INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    -- The worker and the run that claimed or finished it last.
    worker_id        BLOB,
    run_nonce        INTEGER,
    created_at       INTEGER NOT NULL,
    run_at           INTEGER NOT NULL,
    start_deadline   INTEGER,
    queued_at        INTEGER,
    started_at       INTEGER,
    finished_at      INTEGER,
    timeout_ms       INTEGER NOT NULL,
    retry_policy     TEXT    NOT NULL,
    payload          TEXT    NOT NULL,
    payload_ref      BLOB,
    result           TEXT,
    result_ref       BLOB,
    progress         TEXT,
    -- Every failed attempt, oldest first.
    history          TEXT    NOT NULL DEFAULT '[]',
    metadata         TEXT,
    tags             TEXT    NOT NULL DEFAULT '[]',
    traceparent      TEXT,
    concurrency_key  TEXT,
    batch_id         BLOB,
    schedule_id      BLOB,
    fire_at          INTEGER,
    retry_of         BLOB,
    retention        INTEGER
);

-- Each answers one question, and holds only the rows that can be an answer to it.
CREATE INDEX offload_jobs_scheduled ON offload_jobs (queue, priority, kind, run_at, id) WHERE state = 'scheduled';
CREATE INDEX offload_jobs_queued    ON offload_jobs (queue, priority, queued_at)    WHERE state = 'queued';
CREATE INDEX offload_jobs_suspects  ON offload_jobs (queued_at) WHERE state = 'queued' AND losses > 0;
CREATE INDEX offload_jobs_running   ON offload_jobs (worker_id)                     WHERE state = 'running';
CREATE INDEX offload_jobs_finished  ON offload_jobs (finished_at)                   WHERE finished_at IS NOT NULL;

-- The lanes and kinds that jobs ever had: promotion looks at the head of each, however long the backlog is.
CREATE TABLE offload_streams (
    queue    TEXT NOT NULL,
    priority TEXT NOT NULL,
    kind     TEXT NOT NULL,
    PRIMARY KEY (queue, priority, kind)
) WITHOUT ROWID;

CREATE TABLE offload_idempotency_keys (
    tenant      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    job_id      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX offload_idempotency_keys_age ON offload_idempotency_keys (created_at);

CREATE TABLE offload_logs (
    job_id  BLOB    NOT NULL REFERENCES offload_jobs (id) ON DELETE CASCADE,
    epoch   INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    level   TEXT    NOT NULL,
    message TEXT    NOT NULL,
    PRIMARY KEY (job_id, epoch, n)
) WITHOUT ROWID;

CREATE TABLE offload_files (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant       TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL
);
CREATE INDEX offload_files_age ON offload_files (created_at);

CREATE TABLE offload_kinds (
    name          TEXT    NOT NULL PRIMARY KEY,
    spec          TEXT    NOT NULL,
    registered_at INTEGER NOT NULL
) WITHOUT ROWID;
