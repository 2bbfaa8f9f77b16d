//! The past of jobs, for those who follow them.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use super::error::Result;
use super::rows::{document, hex_list, job_id, number, optional_time, state, time};
use crate::job::{Epoch, EventId, JobId, Said, Trail};

pub(super) const TRAILS: &str = "-- read trails
SELECT id, tenant, state, epoch, attempt, created_at, started_at, finished_at, coalesce(trail, '[]') AS trail, history
FROM offload_jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

const SAID: &str = "-- read what a handler said
SELECT epoch, n, at, level, message, fraction FROM offload_logs
WHERE job_id = ?1 AND (epoch, n) > (?2, ?3) AND epoch <= ?4 ORDER BY epoch, n LIMIT ?5";

/// See [`crate::store::Store::trails`]. The row is read first: what was said before it became what it is, is all there.
pub(super) async fn trails(
    readers: &SqlitePool,
    after: &[(JobId, Option<EventId>)],
    most: u32,
) -> Result<Vec<Option<Trail>>> {
    let ids = hex_list(after.iter().map(|(job, _)| job.0));
    let rows = sqlx::query(TRAILS).bind(ids).fetch_all(readers).await?;
    let mut found = rows.iter().map(trail).collect::<Result<HashMap<_, _>>>()?;
    let mut trails = Vec::with_capacity(after.len());
    for (job, after) in after {
        let mut trail = found.remove(job);
        if let Some(trail) = &mut trail {
            trail.said = said(readers, trail, *after, most).await?;
            trail.more = trail.said.len() > most as usize;
            trail.said.truncate(most as usize);
        }
        trails.push(trail);
    }
    Ok(trails)
}

fn trail(row: &SqliteRow) -> Result<(JobId, Trail)> {
    let job = job_id(row)?;
    let trail = Trail {
        job,
        tenant: row.try_get("tenant")?,
        state: state(row)?,
        epoch: row.try_get("epoch")?,
        attempt: number(row, "attempt")?,
        created_at: time(row.try_get("created_at")?)?,
        started_at: optional_time(row.try_get("started_at")?)?,
        finished_at: optional_time(row.try_get("finished_at")?)?,
        steps: document(row, "trail")?,
        history: document(row, "history")?,
        said: Vec::new(),
        more: false,
    };
    Ok((job, trail))
}

/// What was said after an event, and one more than asked for, which tells whether there is more.
async fn said(readers: &SqlitePool, trail: &Trail, after: Option<EventId>, most: u32) -> Result<Vec<Said>> {
    // Nothing has a lower epoch than 1.
    let (epoch, n) = after.map_or((0, 0), |id| (id.epoch, id.n));
    let asked = sqlx::query(SAID).bind(trail.job.0).bind(epoch).bind(n).bind(trail.epoch).bind(i64::from(most) + 1);
    let rows = asked.fetch_all(readers).await?;
    let read = |row: &SqliteRow| {
        Ok(Said {
            epoch: row.try_get::<Epoch, _>("epoch")?,
            n: row.try_get("n")?,
            at: time(row.try_get("at")?)?,
            level: row.try_get("level")?,
            message: row.try_get("message")?,
            fraction: row.try_get("fraction")?,
        })
    };
    rows.iter().map(read).collect()
}
