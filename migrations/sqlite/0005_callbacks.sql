-- Who is told of the end of a job or a batch, apart from its payload: it may hold a secret. The row of a job that has one is
-- linked.
CREATE TABLE offload_callbacks (
    -- The job or the batch.
    subject  BLOB NOT NULL PRIMARY KEY CHECK (length(subject) = 16),
    tenant   TEXT NOT NULL,
    callback TEXT NOT NULL,
    -- Set once, in the transaction that ended the subject, with the job that delivers it, if that end is asked for.
    fired_at INTEGER,
    job_id   BLOB
) WITHOUT ROWID;
CREATE INDEX offload_callbacks_fired ON offload_callbacks (fired_at) WHERE fired_at IS NOT NULL;
