-- Jobs that run after others.

-- Of a job that has parents: how many, and what it does when one of them does not succeed. While it waits for them, `not_before` is
-- the time before which it is not to run, and `run_at` lies at the end of time, so that nothing takes it for due.
-- `followed` says that others run after this one. Such a row is linked.
ALTER TABLE offload.jobs
    ADD COLUMN parents integer,
    ADD COLUMN after_policy text,
    ADD COLUMN not_before timestamptz,
    ADD COLUMN followed boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT jobs_what_waits_is_scheduled CHECK (not_before IS NULL OR state = 'scheduled');
CREATE INDEX jobs_waiting ON offload.jobs (id) WHERE not_before IS NOT NULL;

-- The parents of each job, in the order that its client gave, and what they came to, once that has been looked at. Nothing is written
-- here by the end of a parent: however many jobs follow, its end costs one row of `ended_parents`.
CREATE TABLE offload.job_parents (
    job_id    uuid    NOT NULL,
    place     integer NOT NULL,
    parent_id uuid    NOT NULL,
    outcome   offload.job_state,
    PRIMARY KEY (job_id, place)
);
CREATE INDEX job_parents_open ON offload.job_parents (job_id) WHERE outcome IS NULL;
CREATE INDEX job_parents_children ON offload.job_parents (parent_id) WHERE outcome IS NULL;

-- Parents whose children have not all been told yet.
CREATE TABLE offload.ended_parents (
    n         bigint            GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id uuid              NOT NULL,
    state     offload.job_state NOT NULL
);
