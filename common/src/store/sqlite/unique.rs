//! Unique keys. The index of live jobs by their keys is what makes two with one key impossible; the one writer looks before it
//! writes.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::error::Result;
use super::intake;
use super::rows::{document, state};
use crate::job::{JobId, NewJob, OnConflict, State, UniqueKey};
use crate::store::audit::UniqueUse;

pub(super) const HOLDER: &str = "-- find the live job that has a unique key
SELECT id, state FROM offload_jobs
WHERE tenant = ?1 AND kind = ?2 AND unique_key = ?3 AND state IN ('scheduled', 'queued', 'running')";

const AUDIT: &str = "-- audit, unique keys
SELECT tenant, kind, unique_key, json_group_array(lower(hex(id))) AS live FROM offload_jobs
WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'running') AND (tenant, kind, unique_key) > (?1, ?2, ?3)
GROUP BY tenant, kind, unique_key ORDER BY tenant, kind, unique_key LIMIT ?4";

/// What becomes of a job that comes for a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// The key is free for it, since this one that had it is cancelled now, if one had it.
    Takes(Option<JobId>),
    /// This one has it, and is the answer.
    Matched(JobId),
    /// This one has it, and keeps it.
    Held(JobId),
}

/// Frees a key for a job that is about to be inserted, if that is to be.
pub(super) async fn take(connection: &mut SqliteConnection, job: &NewJob, unique: &UniqueKey) -> Result<Standing> {
    let Some((holder, at)) = holder(connection, job, unique).await? else { return Ok(Standing::Takes(None)) };
    match unique.on_conflict {
        OnConflict::Return => Ok(Standing::Matched(holder)),
        OnConflict::Replace if at != State::Running => {
            intake::cancel_one(connection, &job.tenant, holder).await?;
            Ok(Standing::Takes(Some(holder)))
        }
        OnConflict::Replace | OnConflict::Refuse => Ok(Standing::Held(holder)),
    }
}

/// The live job that has a key.
pub(super) async fn holder(
    connection: &mut SqliteConnection,
    job: &NewJob,
    unique: &UniqueKey,
) -> Result<Option<(JobId, State)>> {
    let find = sqlx::query(HOLDER).bind(&job.tenant).bind(&job.kind).bind(&unique.key);
    let row = find.fetch_optional(connection).await?;
    row.map(|row| Ok((JobId(row.try_get::<Uuid, _>("id")?), state(&row)?))).transpose()
}

/// What the auditor sees of them; see [`crate::store::audit::Audit::unique_keys`]. A live row keeps others from its key by
/// being there.
pub(super) async fn used(readers: &SqlitePool, after: Option<&UniqueUse>, limit: u32) -> Result<Vec<UniqueUse>> {
    let after = after.map_or(["", "", ""], |used| [&used.tenant, &used.kind, &used.key]);
    let list = after.into_iter().fold(sqlx::query(AUDIT), |list, part| list.bind(part)).bind(limit);
    let used = |row: &SqliteRow| {
        let live: Vec<JobId> = document::<Vec<Uuid>>(row, "live")?.into_iter().map(JobId).collect();
        Ok(UniqueUse {
            tenant: row.try_get("tenant")?,
            kind: row.try_get("kind")?,
            key: row.try_get("unique_key")?,
            holder: live.first().copied(),
            live,
        })
    };
    list.fetch_all(readers).await?.iter().map(used).collect()
}
