-- Offload's tables live in a schema of their own, so that they can share the application's database.
-- The schema itself, and offload.migrations, are made by the migrator before this file runs.

CREATE TYPE offload.job_state AS ENUM ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled');
CREATE TYPE offload.job_priority AS ENUM ('high', 'normal', 'low');

-- One row per job, partitioned by the day that its UUIDv7 was made: finished days are dropped whole, which leaves no dead
-- rows behind. JSON is kept as text (json, not jsonb): it passes through as the client wrote it.
CREATE TABLE offload.jobs (
    id               uuid                 NOT NULL PRIMARY KEY,
    tenant           text                 NOT NULL,
    owner            text,
    kind             text                 NOT NULL,
    queue            text                 NOT NULL,
    priority         offload.job_priority NOT NULL,
    state            offload.job_state    NOT NULL,
    -- Counts the hand-overs. Every transition names the epoch that it saw, and adds one.
    epoch            bigint               NOT NULL,
    attempt          integer              NOT NULL DEFAULT 0,
    max_attempts     integer              NOT NULL,
    losses           integer              NOT NULL DEFAULT 0,
    cancel_requested boolean              NOT NULL DEFAULT false,
    -- The worker and the run that claimed or finished it last.
    worker_id        uuid,
    run_nonce        bigint,
    created_at       timestamptz          NOT NULL,
    run_at           timestamptz          NOT NULL,
    start_deadline   timestamptz,
    queued_at        timestamptz,
    started_at       timestamptz,
    finished_at      timestamptz,
    timeout_ms       bigint               NOT NULL,
    retry_policy     json                 NOT NULL,
    retention        interval,
    payload          json                 NOT NULL,
    payload_ref      uuid,
    result           json,
    result_ref       uuid,
    progress         json,
    -- The last attempt's failure, and every failed attempt (null until one fails).
    error            json,
    history          jsonb,
    metadata         json,
    tags             text[]               NOT NULL DEFAULT '{}',
    traceparent      text,
    concurrency_key  text,
    batch_id         uuid,
    schedule_id      uuid,
    fire_at          timestamptz,
    retry_of         uuid,
    CONSTRAINT jobs_running_has_a_worker CHECK (state <> 'running' OR worker_id IS NOT NULL)
) PARTITION BY RANGE (id);

-- Each index answers one question, and holds only the rows that can be an answer to it, so that jobs that succeeded
-- cost nothing.
CREATE INDEX jobs_promote ON offload.jobs (queue, priority, kind, run_at) WHERE state = 'scheduled';
CREATE INDEX jobs_steal ON offload.jobs (queue, priority, queued_at) WHERE state = 'queued';
CREATE INDEX jobs_suspects ON offload.jobs (queued_at) WHERE state = 'queued' AND losses > 0;
CREATE INDEX jobs_reap ON offload.jobs (worker_id) WHERE state = 'running';
CREATE INDEX jobs_unsuccessful ON offload.jobs (id) WHERE state IN ('failed', 'cancelled');
CREATE INDEX jobs_batch ON offload.jobs (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_schedule ON offload.jobs (schedule_id, id) WHERE schedule_id IS NOT NULL;

-- What handlers wrote. Partitioned like the jobs that the lines belong to, and dropped with them.
CREATE TABLE offload.job_logs (
    job_id  uuid        NOT NULL,
    epoch   bigint      NOT NULL,
    n       integer     NOT NULL,
    at      timestamptz NOT NULL,
    level   text        NOT NULL,
    message text        NOT NULL,
    PRIMARY KEY (job_id, epoch, n)
) PARTITION BY RANGE (job_id);

-- The safety net: rows of a day that nobody has made a partition for.
CREATE TABLE offload.jobs_default PARTITION OF offload.jobs DEFAULT
    WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
          autovacuum_vacuum_cost_delay = 0);
CREATE TABLE offload.job_logs_default PARTITION OF offload.job_logs DEFAULT;

CREATE TABLE offload.idempotency_keys (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    job_id      uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_keys_age ON offload.idempotency_keys (created_at);

CREATE TABLE offload.files (
    id           uuid        NOT NULL PRIMARY KEY,
    tenant       text        NOT NULL,
    content_type text        NOT NULL,
    bytes        bigint      NOT NULL,
    sha256       text        NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX files_age ON offload.files (created_at);

-- Every kind that a worker ever registered.
CREATE TABLE offload.kinds (
    name          text        NOT NULL PRIMARY KEY,
    spec          json        NOT NULL,
    registered_at timestamptz NOT NULL
);

-- One row per life of a worker process. While it lives, its session holds the advisory lock (16716973, lock_key).
CREATE TABLE offload.workers (
    id               uuid        NOT NULL PRIMARY KEY,
    lock_key         integer     NOT NULL,
    -- What the names of the process's connections begin with.
    application_name text        NOT NULL,
    host             text        NOT NULL,
    pid              bigint      NOT NULL,
    version          text        NOT NULL,
    slots            bigint      NOT NULL,
    queues           text[]      NOT NULL,
    kinds            text[]      NOT NULL,
    started_at       timestamptz NOT NULL,
    beat_at          timestamptz NOT NULL,
    reaped_at        timestamptz,
    left_at          timestamptz
) WITH (fillfactor = 50);

CREATE SEQUENCE offload.worker_lock_keys AS integer CYCLE;
