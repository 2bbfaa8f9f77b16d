-- At most one live job of a tenant and kind has a unique key.
ALTER TABLE offload_jobs ADD COLUMN unique_key TEXT;

CREATE UNIQUE INDEX offload_jobs_unique ON offload_jobs (tenant, kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'running');
