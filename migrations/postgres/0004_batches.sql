-- A linked job's end has consequences, written in the transaction that ends it: its batch counts it. The plain way of
-- ending jobs leaves such rows alone.
ALTER TABLE offload.jobs ADD COLUMN linked boolean NOT NULL DEFAULT false;

-- Batches count the ends of their jobs. What is not final yet is what is left of the total.
CREATE TABLE offload.batches (
    id            uuid        NOT NULL PRIMARY KEY,
    tenant        text        NOT NULL,
    sealed        boolean     NOT NULL,
    total         bigint      NOT NULL,
    succeeded     bigint      NOT NULL DEFAULT 0,
    failed        bigint      NOT NULL DEFAULT 0,
    cancelled     bigint      NOT NULL DEFAULT 0,
    metadata      json,
    -- The job that is accepted when the batch is finished, and its id once that has happened.
    follow_up     json,
    follow_up_job uuid,
    created_at    timestamptz NOT NULL,
    -- All were final for the first time. It is set once.
    finished_at   timestamptz,
    -- Two points in time with what had ended by then: the rate of the last seconds is counted from the earlier one.
    rate_since    timestamptz NOT NULL,
    rate_ended    bigint      NOT NULL DEFAULT 0,
    mark_at       timestamptz NOT NULL,
    mark_ended    bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Jobs of a batch that are due later, and those that failed.
CREATE INDEX jobs_batch_later ON offload.jobs (batch_id, run_at) WHERE state = 'scheduled' AND batch_id IS NOT NULL;
CREATE INDEX jobs_batch_failed ON offload.jobs (batch_id, id) WHERE state = 'failed' AND batch_id IS NOT NULL;
