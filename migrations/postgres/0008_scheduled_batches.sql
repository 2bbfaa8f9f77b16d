-- A schedule may submit batches, too. What a fire submitted is a job or a batch.
ALTER TABLE offload.schedules ADD COLUMN last_batch_id uuid;
ALTER TABLE offload.fires ADD COLUMN batch_id uuid;
ALTER TABLE offload.fires DROP CONSTRAINT fires_submitted_have_a_job;
-- Not validated: what is there kept to the narrower rule before.
ALTER TABLE offload.fires ADD CONSTRAINT fires_submitted_have_a_job_or_a_batch CHECK (
    num_nonnulls(job_id, batch_id) = CASE WHEN outcome IN ('fired', 'caught_up', 'run_now') THEN 1 ELSE 0 END
) NOT VALID;
