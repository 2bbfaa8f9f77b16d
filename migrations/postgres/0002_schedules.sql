-- One row per schedule. What a client said of it is in `definition`; the columns are what firing looks at.
CREATE TABLE offload.schedules (
    id           uuid        NOT NULL PRIMARY KEY,
    tenant       text        NOT NULL,
    name         text        NOT NULL,
    definition   json        NOT NULL,
    -- Counts the changes that clients make; the ETag.
    version      bigint      NOT NULL,
    paused       boolean     NOT NULL,
    -- What intervals are counted from.
    anchor       timestamptz NOT NULL,
    -- The next fire that nothing has been decided about; null while paused, and after the end.
    next_at      timestamptz,
    last_fire_at timestamptz,
    last_job_id  uuid,
    -- How many fires wait for the last job to come to its end.
    waiting      integer     NOT NULL,
    fired        bigint      NOT NULL DEFAULT 0,
    caught_up    bigint      NOT NULL DEFAULT 0,
    skipped      bigint      NOT NULL DEFAULT 0,
    run_now      bigint      NOT NULL DEFAULT 0,
    -- Why its turn failed, and when it is tried again.
    trouble      text,
    trouble_at   timestamptz,
    held_until   timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT schedules_name UNIQUE (tenant, name)
) WITH (fillfactor = 50);
CREATE INDEX schedules_due ON offload.schedules (next_at) WHERE next_at IS NOT NULL AND held_until IS NULL;
CREATE INDEX schedules_held ON offload.schedules (held_until) WHERE held_until IS NOT NULL;
CREATE INDEX schedules_waiting ON offload.schedules (id) WHERE waiting > 0;

-- What became of each fire: the primary key is what makes a fire happen once. No reference to the schedule: records outlive
-- it, as its jobs do.
CREATE TABLE offload.fires (
    schedule_id uuid        NOT NULL,
    fire_at     timestamptz NOT NULL,
    -- Fires in a row that were left out share a record: the last of them, and how many they are.
    through     timestamptz NOT NULL,
    count       integer     NOT NULL,
    outcome     text        NOT NULL,
    reason      text,
    job_id      uuid,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, fire_at),
    CONSTRAINT fires_submitted_have_a_job CHECK ((job_id IS NOT NULL) = (outcome IN ('fired', 'caught_up', 'run_now')))
);
CREATE INDEX fires_waiting ON offload.fires (schedule_id, fire_at) WHERE outcome = 'waiting';
CREATE INDEX fires_age ON offload.fires (recorded_at);
