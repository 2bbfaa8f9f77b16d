-- What clients follow live, and again after they lost the connection.

-- The states that a job went through before the one it has: {epoch, state, at, run_at}, oldest first. Written by the very
-- update that makes each of them, so it costs no statement; null while there is nothing to tell that the row does not say
-- by itself (accepted as due, and started by the first worker that took it).
ALTER TABLE offload.jobs ADD COLUMN trail jsonb;

-- What handlers say: log lines, and how far they have come, where `fraction` is set.
ALTER TABLE offload.job_logs ADD COLUMN fraction double precision;
