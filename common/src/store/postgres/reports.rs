//! What handlers say while they run: progress and log lines.

use uuid::Uuid;

use super::connection::Line;
use super::finish::{signed, storable};
use super::rows::get;
use super::runs::bounds;
use crate::job::{Epoch, JobId, LogLine, Progress};
use crate::store::{Report, Result};

/// The rows are locked, so that what is said under a lease is there before whatever ends it: nobody who has seen the end
/// finds more of the run later. What an earlier try wrote is left as it is. Only a report with progress makes a new version
/// of the row.
pub(super) const REPORT: &str = "-- offload: report
WITH held AS MATERIALIZED (
    SELECT j.id, j.epoch, r.progress FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS r (id, epoch, progress)
    JOIN offload.jobs j ON j.id = r.id
    WHERE j.id BETWEEN $4 AND $5 AND j.epoch = r.epoch AND j.state = 'running'
    ORDER BY j.id FOR NO KEY UPDATE OF j
), progressed AS (
    UPDATE offload.jobs j SET progress = h.progress::json FROM held h
    WHERE j.id = h.id AND j.id BETWEEN $4 AND $5 AND h.progress IS NOT NULL
)
INSERT INTO offload.job_logs (job_id, epoch, n, at, level, message, fraction)
SELECT s.* FROM unnest($6::uuid[], $7::bigint[], $8::integer[], $9::timestamptz[], $10::text[], $11::text[], $12::float8[])
    AS s (id, epoch, n, at, level, message, fraction)
JOIN held h ON h.id = s.id AND h.epoch = s.epoch
ON CONFLICT DO NOTHING";

pub(super) const LOGS: &str = "-- offload: logs
SELECT epoch, n, at, level, message FROM offload.job_logs
WHERE job_id = $1 AND (epoch, n) > ($2, $3) AND fraction IS NULL ORDER BY epoch, n LIMIT $4";

/// Writes what handlers said; see [`crate::store::Store::report`].
pub(super) async fn report(line: &mut Line, reports: &[Report]) -> Result<()> {
    let mut reports: Vec<&Report> = reports.iter().collect();
    reports.sort_by_key(|report| report.lease.job);
    let ids: Vec<Uuid> = reports.iter().map(|report| report.lease.job.0).collect();
    let (least, greatest) = bounds(&ids);
    let mut statement = sqlx::query(REPORT)
        .bind(ids)
        .bind(reports.iter().map(|report| report.lease.epoch).collect::<Vec<_>>())
        .bind(reports.iter().map(|report| report.progress().map(json)).collect::<Vec<_>>())
        .bind(least)
        .bind(greatest);

    let said: Vec<_> =
        reports.iter().flat_map(|report| report.said.iter().map(move |said| (&report.lease, said))).collect();
    statement = statement
        .bind(said.iter().map(|(lease, _)| lease.job.0).collect::<Vec<_>>())
        .bind(said.iter().map(|(lease, _)| lease.epoch).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, said)| signed(said.n)).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, said)| said.at).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, said)| said.what.level()).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, said)| storable(said.what.text())).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, said)| said.what.fraction().map(finite)).collect::<Vec<_>>());
    line.execute(statement).await.map(drop)
}

fn json(progress: &Progress) -> String {
    let message = progress.message.as_deref().map(storable);
    serde_json::json!(Progress { fraction: finite(progress.fraction), message }).to_string()
}

/// JSON has no infinities; serde_json writes them as null, which would not read back.
fn finite(fraction: f64) -> f64 {
    if fraction.is_finite() { fraction } else { 0.0 }
}

/// A job's log lines; see [`crate::store::Store::logs`].
pub(super) async fn logs(line: &mut Line, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>> {
    // Nothing has a lower epoch than this.
    let (epoch, n) = after.map_or((-1, 0), |(epoch, n)| (epoch, signed(n)));
    let statement = sqlx::query(LOGS).bind(job.0).bind(epoch).bind(n).bind(i64::from(limit));
    let rows = line.rows(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(LogLine {
                id: format!("{}-{}", get::<i64>(row, "epoch")?, get::<i32>(row, "n")?),
                at: get(row, "at")?,
                level: get(row, "level")?,
                message: get(row, "message")?,
            })
        })
        .collect()
}
