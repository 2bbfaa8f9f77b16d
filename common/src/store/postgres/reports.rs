//! What handlers say while they run: progress and log lines.

use uuid::Uuid;

use super::connection::Line;
use super::finish::{signed, storable};
use super::rows::get;
use super::runs::bounds;
use crate::job::{Epoch, JobId, LogLine, Progress};
use crate::store::{Report, Result};

/// A line that an earlier try wrote is left as it is. Only a report with progress makes a new version of the row.
pub(super) const REPORT: &str = "-- offload: report
WITH progressed AS (
    UPDATE offload.jobs j SET progress = p.progress::json
    FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS p (id, epoch, progress)
    WHERE j.id = p.id AND j.id BETWEEN $4 AND $5 AND j.epoch = p.epoch AND j.state = 'running'
)
INSERT INTO offload.job_logs (job_id, epoch, n, at, level, message)
SELECT l.* FROM unnest($6::uuid[], $7::bigint[], $8::integer[], $9::timestamptz[], $10::text[], $11::text[])
    AS l (id, epoch, n, at, level, message)
JOIN offload.jobs j ON j.id = l.id AND j.id BETWEEN $4 AND $5 AND j.epoch = l.epoch AND j.state = 'running'
ON CONFLICT DO NOTHING";

pub(super) const LOGS: &str = "-- offload: logs
SELECT epoch, n, at, level, message FROM offload.job_logs
WHERE job_id = $1 AND (epoch, n) > ($2, $3) ORDER BY epoch, n LIMIT $4";

/// Writes what handlers said; see [`crate::store::Store::report`].
pub(super) async fn report(line: &mut Line, reports: &[Report]) -> Result<()> {
    let mut reports: Vec<&Report> = reports.iter().collect();
    reports.sort_by_key(|report| report.lease.job);
    let ids: Vec<Uuid> = reports.iter().map(|report| report.lease.job.0).collect();
    let (least, greatest) = bounds(&ids);

    let (mut ids, mut epochs, mut progress) = (Vec::new(), Vec::new(), Vec::new());
    for report in &reports {
        if let Some(newest) = &report.progress {
            ids.push(report.lease.job.0);
            epochs.push(report.lease.epoch);
            progress.push(json(newest));
        }
    }
    let mut statement = sqlx::query(REPORT).bind(ids).bind(epochs).bind(progress).bind(least).bind(greatest);

    let said: Vec<_> =
        reports.iter().flat_map(|report| report.lines.iter().map(move |line| (&report.lease, line))).collect();
    statement = statement
        .bind(said.iter().map(|(lease, _)| lease.job.0).collect::<Vec<_>>())
        .bind(said.iter().map(|(lease, _)| lease.epoch).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, line)| signed(line.n)).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, line)| line.at).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, line)| line.level).collect::<Vec<_>>())
        .bind(said.iter().map(|(_, line)| storable(&line.message)).collect::<Vec<_>>());
    line.execute(statement).await.map(drop)
}

fn json(progress: &Progress) -> String {
    // JSON has no infinities; serde_json writes them as null, which would not read back.
    let fraction = if progress.fraction.is_finite() { progress.fraction } else { 0.0 };
    let message = progress.message.as_deref().map(storable);
    serde_json::json!(Progress { fraction, message }).to_string()
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
