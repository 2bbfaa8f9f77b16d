-- Who is told of the end of a job or a batch, apart from its payload: it may hold a secret. The row of a job that has one is
-- linked.
CREATE TABLE offload.callbacks (
    -- The job or the batch.
    subject  uuid NOT NULL PRIMARY KEY,
    tenant   text NOT NULL,
    callback json NOT NULL,
    -- Set once, in the transaction that ended the subject, with the job that delivers it, if that end is asked for.
    fired_at timestamptz,
    job_id   uuid
);

CREATE INDEX callbacks_fired ON offload.callbacks (fired_at) WHERE fired_at IS NOT NULL;
