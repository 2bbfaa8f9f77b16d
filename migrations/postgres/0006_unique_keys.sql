-- At most one live job of a tenant and kind has a unique key. The table of jobs is partitioned by id and cannot say so itself:
-- the primary key of this one does. A row goes in the transaction that ends its job.
ALTER TABLE offload.jobs ADD COLUMN unique_key text;

CREATE TABLE offload.unique_keys (
    tenant text NOT NULL,
    kind   text NOT NULL,
    key    text NOT NULL,
    job_id uuid NOT NULL,
    PRIMARY KEY (tenant, kind, key)
);
CREATE UNIQUE INDEX unique_keys_job ON offload.unique_keys (job_id);

-- For the auditor, which does not believe the table.
CREATE INDEX jobs_unique ON offload.jobs (tenant, kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'running');
