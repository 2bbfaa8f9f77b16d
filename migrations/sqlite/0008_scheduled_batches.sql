-- A schedule may submit batches, too. What a fire submitted is a job or a batch.
ALTER TABLE offload_schedules ADD COLUMN last_batch_id BLOB;

-- SQLite changes no constraint of a table that is there.
CREATE TABLE offload_fires_with_batches (
    schedule_id BLOB    NOT NULL,
    fire_at     INTEGER NOT NULL,
    -- Fires in a row that were left out share a record: the last of them, and how many they are.
    through     INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    reason      TEXT,
    job_id      BLOB,
    batch_id    BLOB,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, fire_at),
    CHECK ((job_id IS NOT NULL) + (batch_id IS NOT NULL) = (outcome IN ('fired', 'caught_up', 'run_now')))
) WITHOUT ROWID;
INSERT INTO offload_fires_with_batches
SELECT schedule_id, fire_at, through, count, outcome, reason, job_id, NULL, recorded_at FROM offload_fires;
DROP TABLE offload_fires;
ALTER TABLE offload_fires_with_batches RENAME TO offload_fires;
CREATE INDEX offload_fires_waiting ON offload_fires (schedule_id, fire_at) WHERE outcome = 'waiting';
CREATE INDEX offload_fires_age     ON offload_fires (recorded_at);
