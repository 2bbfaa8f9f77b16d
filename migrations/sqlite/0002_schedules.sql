-- One row per schedule. What a client said of it is in `definition`; the columns are what firing looks at.
CREATE TABLE offload_schedules (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    definition   TEXT    NOT NULL,
    -- Counts the changes that clients make; the ETag.
    version      INTEGER NOT NULL,
    paused       INTEGER NOT NULL,
    -- What intervals are counted from.
    anchor       INTEGER NOT NULL,
    -- The next fire that nothing has been decided about; null while paused, and after the end.
    next_at      INTEGER,
    last_fire_at INTEGER,
    last_job_id  BLOB,
    -- How many fires wait for the last job to come to its end.
    waiting      INTEGER NOT NULL,
    fired        INTEGER NOT NULL DEFAULT 0,
    caught_up    INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    run_now      INTEGER NOT NULL DEFAULT 0,
    -- Why its turn failed, and when it is tried again.
    trouble      TEXT,
    trouble_at   INTEGER,
    held_until   INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (tenant, name)
);
CREATE INDEX offload_schedules_due     ON offload_schedules (next_at)    WHERE next_at IS NOT NULL AND held_until IS NULL;
CREATE INDEX offload_schedules_held    ON offload_schedules (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX offload_schedules_waiting ON offload_schedules (id)         WHERE waiting > 0;

-- What became of each fire: the primary key is what makes a fire happen once. No reference to the schedule: records outlive
-- it, as its jobs do.
CREATE TABLE offload_fires (
    schedule_id BLOB    NOT NULL,
    fire_at     INTEGER NOT NULL,
    -- Fires in a row that were left out share a record: the last of them, and how many they are.
    through     INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    reason      TEXT,
    job_id      BLOB,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, fire_at),
    CHECK ((job_id IS NOT NULL) = (outcome IN ('fired', 'caught_up', 'run_now')))
) WITHOUT ROWID;
CREATE INDEX offload_fires_waiting ON offload_fires (schedule_id, fire_at) WHERE outcome = 'waiting';
CREATE INDEX offload_fires_age     ON offload_fires (recorded_at);

CREATE INDEX offload_jobs_schedule ON offload_jobs (schedule_id, id) WHERE schedule_id IS NOT NULL;
