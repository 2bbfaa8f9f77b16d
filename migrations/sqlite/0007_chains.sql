-- Jobs that run after others.

-- Of a job that has parents: how many, and what it does when one of them does not succeed. While it waits for them, `not_before` is
-- the time before which it is not to run, and `run_at` lies at the end of time, so that nothing takes it for due.
-- `followed` says that others run after this one. Such a row is linked.
ALTER TABLE offload_jobs ADD COLUMN parents INTEGER;
ALTER TABLE offload_jobs ADD COLUMN after_policy TEXT;
ALTER TABLE offload_jobs ADD COLUMN not_before INTEGER CHECK (not_before IS NULL OR state = 'scheduled');
ALTER TABLE offload_jobs ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX offload_jobs_waiting ON offload_jobs (id) WHERE not_before IS NOT NULL;

-- The parents of each job, in the order that its client gave, and what they came to, once that has been looked at. Nothing is written
-- here by the end of a parent: however many jobs follow, its end costs one row of `offload_ended_parents`.
CREATE TABLE offload_job_parents (
    job_id    BLOB    NOT NULL REFERENCES offload_jobs (id) ON DELETE CASCADE,
    place     INTEGER NOT NULL,
    parent_id BLOB    NOT NULL,
    outcome   TEXT,
    PRIMARY KEY (job_id, place)
) WITHOUT ROWID;
CREATE INDEX offload_job_parents_open ON offload_job_parents (job_id) WHERE outcome IS NULL;
CREATE INDEX offload_job_parents_children ON offload_job_parents (parent_id) WHERE outcome IS NULL;

-- Parents whose children have not all been told yet.
CREATE TABLE offload_ended_parents (
    n         INTEGER PRIMARY KEY,
    parent_id BLOB NOT NULL,
    state     TEXT NOT NULL
);
