//! The past of jobs, for those who follow them.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::finish::signed;
use super::rows::{get, get_count};
use super::runs::bounds;
use crate::job::{EventId, JobId, Said, Trail};
use crate::store::Result;
use crate::store::row::{json, parse};

/// One snapshot of rows and of what handlers said. What has never been moved has nobody who could have said anything.
pub(super) const TRAILS: &str = "-- offload: trails
SELECT j.id, j.tenant, j.state::text, j.epoch, j.attempt, j.created_at, j.started_at, j.finished_at, j.trail::text,
       j.history::text, said.said::text
FROM unnest($1::uuid[], $2::bigint[], $3::integer[]) AS w (id, epoch, n) JOIN offload.jobs j ON j.id = w.id
LEFT JOIN LATERAL (
    SELECT json_agg(to_json(s)) AS said FROM (
        SELECT l.epoch, l.n, l.at, l.level, l.message, l.fraction FROM offload.job_logs l
        WHERE j.epoch > 1 AND l.job_id = w.id AND l.job_id BETWEEN $4 AND $5 AND (l.epoch, l.n) > (w.epoch, w.n)
        ORDER BY l.epoch, l.n LIMIT $6) s) said ON true
WHERE j.id BETWEEN $4 AND $5";

/// Reads trails; see [`crate::store::Store::trails`].
pub(super) async fn trails(
    line: &mut Line,
    after: &[(JobId, Option<EventId>)],
    most: u32,
) -> Result<Vec<Option<Trail>>> {
    let ids: Vec<Uuid> = after.iter().map(|(job, _)| job.0).collect();
    let (least, greatest) = bounds(&ids);
    // Nothing has a lower epoch than 1.
    let epochs: Vec<i64> = after.iter().map(|(_, id)| id.map_or(0, |id| id.epoch)).collect();
    let ns: Vec<i32> = after.iter().map(|(_, id)| id.map_or(0, |id| signed(id.n))).collect();
    // One more than asked for tells whether there is more.
    let limit = i64::from(most) + 1;
    let statement = sqlx::query(TRAILS).bind(ids).bind(epochs).bind(ns).bind(least).bind(greatest).bind(limit);
    let rows = line.rows(statement).await?;
    let read = |row| trail(row, most as usize).map(|trail| (trail.job, trail));
    let mut found = rows.iter().map(read).collect::<Result<HashMap<_, _>>>()?;
    Ok(after.iter().map(|(job, _)| found.remove(job)).collect())
}

fn trail(row: &PgRow, most: usize) -> Result<Trail> {
    let text = |column| get::<Option<&str>>(row, column);
    let mut said: Vec<Said> = text("said")?.map_or_else(|| Ok(Vec::new()), |text| json("said", text))?;
    let more = said.len() > most;
    said.truncate(most);
    Ok(Trail {
        job: JobId(get(row, "id")?),
        tenant: get(row, "tenant")?,
        state: parse("state", get(row, "state")?)?,
        epoch: get(row, "epoch")?,
        attempt: get_count(row, "attempt")?,
        created_at: get(row, "created_at")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
        steps: text("trail")?.map_or_else(|| Ok(Vec::new()), |text| json("trail", text))?,
        history: text("history")?.map_or_else(|| Ok(Vec::new()), |text| json("history", text))?,
        said,
        more,
    })
}
