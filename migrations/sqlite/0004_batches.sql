-- A linked job's end has consequences, written in the transaction that ends it: its batch counts it.
ALTER TABLE offload_jobs ADD COLUMN linked INTEGER NOT NULL DEFAULT 0;

-- Batches count the ends of their jobs. What is not final yet is what is left of the total.
CREATE TABLE offload_batches (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant        TEXT    NOT NULL,
    sealed        INTEGER NOT NULL,
    total         INTEGER NOT NULL,
    succeeded     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    cancelled     INTEGER NOT NULL DEFAULT 0,
    metadata      TEXT,
    -- The job that is accepted when the batch is finished, and its id once that has happened.
    follow_up     TEXT,
    follow_up_job BLOB,
    created_at    INTEGER NOT NULL,
    -- All were final for the first time. It is set once.
    finished_at   INTEGER,
    -- Two points in time with what had ended by then: the rate of the last seconds is counted from the earlier one.
    rate_since    INTEGER NOT NULL,
    rate_ended    INTEGER NOT NULL DEFAULT 0,
    mark_at       INTEGER NOT NULL,
    mark_ended    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX offload_batches_finished ON offload_batches (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX offload_jobs_batch ON offload_jobs (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX offload_jobs_batch_later ON offload_jobs (batch_id, run_at) WHERE state = 'scheduled' AND batch_id IS NOT NULL;
CREATE INDEX offload_jobs_batch_failed ON offload_jobs (batch_id, id) WHERE state = 'failed' AND batch_id IS NOT NULL;
