//! Writing to a database as no part of Offload does, in the words of each backend.

use chrono::TimeDelta;

use crate::clock;
use crate::job::JobId;

/// How a backend calls what tampering names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// The table of jobs.
    #[must_use]
    pub fn jobs(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.jobs",
            Dialect::Sqlite => "offload_jobs",
        }
    }

    /// The table of schedules.
    #[must_use]
    pub fn schedules(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.schedules",
            Dialect::Sqlite => "offload_schedules",
        }
    }

    /// The table of the records of fires.
    #[must_use]
    pub fn fires(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.fires",
            Dialect::Sqlite => "offload_fires",
        }
    }

    /// The table of batches.
    #[must_use]
    pub fn batches(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.batches",
            Dialect::Sqlite => "offload_batches",
        }
    }

    /// The table of the ends that are still to be told of.
    #[must_use]
    pub fn ended_parents(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.ended_parents",
            Dialect::Sqlite => "offload_ended_parents",
        }
    }

    /// The table of the parents of jobs.
    #[must_use]
    pub fn job_parents(self) -> &'static str {
        match self {
            Dialect::Postgres => "offload.job_parents",
            Dialect::Sqlite => "offload_job_parents",
        }
    }

    /// A job's id.
    #[must_use]
    pub fn id(self, job: JobId) -> String {
        match self {
            Dialect::Postgres => format!("'{job}'::uuid"),
            Dialect::Sqlite => format!("x'{}'", job.0.simple()),
        }
    }

    /// The time that is this many seconds from now.
    #[must_use]
    pub fn in_seconds(self, seconds: i64) -> String {
        match self {
            Dialect::Postgres => format!("statement_timestamp() + interval '{seconds} seconds'"),
            Dialect::Sqlite => (clock::now() + TimeDelta::seconds(seconds)).timestamp_micros().to_string(),
        }
    }

    /// Takes away what in the schema keeps rows from contradicting themselves.
    pub(super) fn lift_constraints(self) -> &'static str {
        match self {
            Dialect::Postgres => {
                "ALTER TABLE offload.jobs DROP CONSTRAINT jobs_running_has_a_worker;
                 DO $$
                 DECLARE part regclass;
                 BEGIN
                     FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'offload.jobs'::regclass LOOP
                         EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS jobs_running_has_a_worker', part);
                     END LOOP;
                 END
                 $$"
            }
            Dialect::Sqlite => "SELECT 1",
        }
    }

    /// Takes away what keeps live jobs from having one unique key.
    pub(super) fn lift_unique_keys(self) -> &'static str {
        match self {
            Dialect::Postgres => "SELECT 1",
            Dialect::Sqlite => "DROP INDEX offload_jobs_unique",
        }
    }

    /// Takes away what keeps the rows of a job apart.
    pub(super) fn drop_primary_key(self) -> &'static str {
        match self {
            Dialect::Postgres => "ALTER TABLE offload.jobs DROP CONSTRAINT jobs_pkey",
            Dialect::Sqlite => {
                "PRAGMA foreign_keys = OFF;
                 CREATE TABLE copy AS SELECT * FROM offload_jobs;
                 DROP TABLE offload_jobs;
                 ALTER TABLE copy RENAME TO offload_jobs"
            }
        }
    }

    /// The type of a ledger's column that holds ids, other than text.
    pub(super) fn id_type(self) -> &'static str {
        match self {
            Dialect::Postgres => "uuid",
            Dialect::Sqlite => "blob",
        }
    }
}
