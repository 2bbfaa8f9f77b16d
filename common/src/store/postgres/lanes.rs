//! The valve and its repair: how full lanes are, promotion into them, stealing from them.

use std::time::Duration;

use sqlx::postgres::PgRow;

use super::connection::Line;
use super::intake::microseconds;
use super::rows::{candidate, candidate_columns, get, get_lane, trail};
use super::runs::is_member;
use crate::job::{JobId, Lease, Nonce};
use crate::store::{Candidate, Dispatch, LaneDepth, Pointer, Result, Steal};

/// Every lane and kind that has scheduled rows, with the time when its next one is due: one look into the index for each,
/// however many rows there are.
macro_rules! sources {
    () => {
        "sources AS (
    (SELECT queue, priority, kind, run_at FROM offload.jobs WHERE state = 'scheduled'
     ORDER BY queue, priority, kind, run_at LIMIT 1)
    UNION ALL
    SELECT next.* FROM sources s CROSS JOIN LATERAL (
        SELECT queue, priority, kind, run_at FROM offload.jobs j
        WHERE j.state = 'scheduled' AND (j.queue, j.priority, j.kind) > (s.queue, s.priority, s.kind)
        ORDER BY queue, priority, kind, run_at LIMIT 1) next
)"
    };
}

/// Every lane that has queued rows, by one look into the index for each.
macro_rules! filled {
    () => {
        "filled AS (
    (SELECT queue, priority FROM offload.jobs WHERE state = 'queued' ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT next.* FROM filled f CROSS JOIN LATERAL (
        SELECT queue, priority FROM offload.jobs j
        WHERE j.state = 'queued' AND (j.queue, j.priority) > (f.queue, f.priority)
        ORDER BY queue, priority LIMIT 1) next
)"
    };
}

pub(super) use {filled, sources};

/// Promoters take turns, so that none counts a lane's room while another fills it.
pub(super) const TAKE_TURNS: &str = "-- offload: one promoter at a time
SELECT pg_advisory_xact_lock(16716973, 0)";

/// The order in which rows are due is the order that `queued_at` gives them. A row without a trail was due when it was
/// accepted: `queued` is what clients have seen all along, as they have of one whose trail ends so.
pub(super) const PROMOTE: &str = concat!(
    "-- offload: promote
WITH RECURSIVE ",
    sources!(),
    ", offered AS MATERIALIZED (
    SELECT DISTINCT unnest(kinds) AS kind FROM offload.workers WHERE reaped_at IS NULL AND left_at IS NULL
), ready AS MATERIALIZED (
    SELECT s.queue, s.priority, s.kind FROM sources s
    WHERE s.run_at <= statement_timestamp() AND s.kind IN (SELECT kind FROM offered)
), rooms AS MATERIALIZED (
    SELECT l.queue, l.priority, $1 - (SELECT count(*) FROM (
        SELECT FROM offload.jobs j WHERE j.state = 'queued' AND j.queue = l.queue AND j.priority = l.priority LIMIT $1) q
    ) AS room
    FROM (SELECT DISTINCT queue, priority FROM ready) l
), due AS (
    SELECT d.id, d.run_at, r.room, row_number() OVER (PARTITION BY r.queue, r.priority ORDER BY d.run_at, d.id) AS place
    FROM ready k JOIN rooms r ON r.queue = k.queue AND r.priority = k.priority CROSS JOIN LATERAL (
        SELECT j.id, j.run_at FROM offload.jobs j
        WHERE j.state = 'scheduled' AND j.queue = k.queue AND j.priority = k.priority AND j.kind = k.kind
          AND j.run_at <= statement_timestamp()
        ORDER BY j.run_at, j.id LIMIT least(r.room, $2) FOR UPDATE SKIP LOCKED) d
), chosen AS (
    SELECT id, row_number() OVER (ORDER BY run_at, id) AS n FROM due WHERE place <= room ORDER BY run_at, id LIMIT $2
)
UPDATE offload.jobs j
SET state = 'queued', epoch = j.epoch + 1, queued_at = statement_timestamp() + c.n * interval '1 microsecond',
    trail = CASE WHEN j.trail IS NOT NULL AND j.trail -> -1 ->> 'state' <> 'queued' THEN ",
    trail!("'queued'", at: "statement_timestamp()", run_at: "NULL"),
    " ELSE j.trail END
FROM chosen c WHERE j.id = c.id
RETURNING j.id, j.queue, j.priority::text, j.epoch, j.queued_at, j.traceparent"
);

pub(super) const DEPTHS: &str = concat!(
    "-- offload: depths
WITH RECURSIVE ",
    sources!(),
    ", ",
    filled!(),
    ", lanes AS (
    SELECT queue, priority, bool_or(due) AS backlog FROM (
        SELECT queue, priority, false AS due FROM filled
        UNION ALL SELECT queue, priority, run_at <= statement_timestamp() FROM sources) l
    GROUP BY queue, priority
)
SELECT l.queue, l.priority::text, l.backlog, (SELECT count(*) FROM (
    SELECT FROM offload.jobs j WHERE j.state = 'queued' AND j.queue = l.queue AND j.priority = l.priority LIMIT $1) q
) AS queued
FROM lanes l ORDER BY l.queue, l.priority"
);

pub(super) const NEXT_DUE: &str = concat!(
    "-- offload: next due
WITH RECURSIVE ",
    sources!(),
    "
SELECT ceil(extract(epoch FROM min(run_at) - statement_timestamp()) * 1000000)::bigint AS microseconds FROM sources"
);

/// At most one suspect, then what lost its worker once, then the oldest of the lanes (none, where `$4` is null). Claimed as
/// they are taken.
pub(super) const STEAL: &str = concat!(
    "-- offload: steal
WITH member AS MATERIALIZED (
    SELECT ",
    is_member!(),
    " AS lives
), suspect AS MATERIALIZED (
    SELECT j.id, j.queued_at FROM offload.jobs j
    WHERE $7 AND (SELECT lives FROM member) AND j.state = 'queued' AND j.losses >= 2 AND j.queue = ANY ($2) AND j.kind = ANY ($3)
      AND j.queued_at <= statement_timestamp() - $8 * interval '1 microsecond'
    ORDER BY j.queued_at LIMIT least($5, 1) FOR UPDATE SKIP LOCKED
), lost AS MATERIALIZED (
    SELECT j.id, j.queued_at FROM offload.jobs j
    WHERE (SELECT lives FROM member) AND j.state = 'queued' AND j.losses = 1 AND j.queue = ANY ($2) AND j.kind = ANY ($3)
      AND j.queued_at <= statement_timestamp() - $8 * interval '1 microsecond'
    ORDER BY j.queued_at LIMIT $5 FOR UPDATE SKIP LOCKED
), others AS MATERIALIZED (
    SELECT o.id, o.queued_at FROM (SELECT DISTINCT unnest($2::text[]) AS queue) q
    CROSS JOIN unnest(enum_range(NULL::offload.job_priority)) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT j.id, j.queued_at FROM offload.jobs j
        WHERE (SELECT lives FROM member) AND j.state = 'queued' AND j.losses = 0 AND j.queue = q.queue AND j.priority = p.priority
          AND j.kind = ANY ($3) AND j.queued_at <= statement_timestamp() - $4 * interval '1 microsecond'
        ORDER BY j.queued_at LIMIT $5 FOR UPDATE SKIP LOCKED) o
), chosen AS (
    SELECT id, row_number() OVER (ORDER BY turn, queued_at, id) AS n FROM (
        SELECT id, queued_at, 1 AS turn FROM suspect
        UNION ALL SELECT id, queued_at, 2 FROM lost
        UNION ALL SELECT id, queued_at, 3 FROM others) c
    ORDER BY n LIMIT $5
)
UPDATE offload.jobs j
SET state = 'running', epoch = j.epoch + 1, attempt = j.attempt + 1, worker_id = $1, run_nonce = ($6::bigint[])[c.n],
    progress = NULL, started_at = statement_timestamp(),
    trail = ",
    trail!("'running'", at: "statement_timestamp()", run_at: "NULL"),
    "
FROM chosen c WHERE j.id = c.id
RETURNING j.run_nonce, c.n, ",
    candidate_columns!()
);

/// How full the lanes are; see [`crate::store::Store::depths`].
pub(super) async fn depths(line: &mut Line, limit: u32) -> Result<Vec<LaneDepth>> {
    let depth = |row: &PgRow| {
        Ok(LaneDepth {
            lane: get_lane(row)?,
            queued: get::<i64>(row, "queued")?.unsigned_abs(),
            backlog: get(row, "backlog")?,
        })
    };
    line.rows(sqlx::query(DEPTHS).bind(i64::from(limit))).await?.iter().map(depth).collect()
}

/// When the next row is due; see [`crate::store::Store::next_due`].
pub(super) async fn next_due(line: &mut Line) -> Result<Option<Duration>> {
    let Some(row) = line.row(sqlx::query(NEXT_DUE)).await? else { return Ok(None) };
    let microseconds: Option<i64> = get(&row, "microseconds")?;
    Ok(microseconds.map(|left| Duration::from_micros(u64::try_from(left).unwrap_or(0))))
}

/// Queues due rows; see [`crate::store::Store::promote`].
pub(super) async fn promote(line: &mut Line, window: u32, limit: u32) -> Result<Vec<Dispatch>> {
    line.begin("BEGIN").await?;
    line.execute(sqlx::query(TAKE_TURNS)).await?;
    let rows = line.rows(sqlx::query(PROMOTE).bind(i64::from(window)).bind(i64::from(limit))).await?;
    line.commit().await?;
    let mut promoted = rows.iter().map(dispatch).collect::<Result<Vec<_>>>()?;
    promoted.sort_unstable_by_key(|dispatch| dispatch.pointer.queued_at);
    Ok(promoted)
}

/// What is to be published of a row that is queued now.
pub(super) fn dispatch(row: &PgRow) -> Result<Dispatch> {
    let queued_at: chrono::DateTime<chrono::Utc> = get(row, "queued_at")?;
    Ok(Dispatch {
        lane: get_lane(row)?,
        pointer: Pointer {
            id: JobId(get(row, "id")?),
            epoch: get(row, "epoch")?,
            queued_at: queued_at.timestamp_micros(),
        },
        traceparent: get(row, "traceparent")?,
    })
}

/// Takes queued rows from the database; see [`crate::store::Store::steal`].
pub(super) async fn steal(line: &mut Line, steal: &Steal) -> Result<Vec<(Candidate, Lease)>> {
    let nonces: Vec<i64> = (0..steal.limit).map(|_| Nonce::new().0).collect();
    let statement = sqlx::query(STEAL)
        .bind(steal.worker.0)
        .bind(steal.queues.clone())
        .bind(steal.kinds.clone())
        .bind(steal.older_than.map(microseconds))
        .bind(i64::from(steal.limit))
        .bind(nonces)
        .bind(steal.suspects)
        .bind(microseconds(steal.lost_older_than));
    let rows = line.rows(statement).await?;
    // They are claimed, so one that cannot be read must not take the leases of the others with it.
    let read = |row: &PgRow| {
        taken(row, steal).inspect_err(|error| tracing::error!(%error, "a stolen job cannot be read")).ok()
    };
    let mut stolen: Vec<_> = rows.iter().filter_map(read).collect();
    stolen.sort_unstable_by_key(|(place, ..)| *place);
    Ok(stolen.into_iter().map(|(_, candidate, lease)| (candidate, lease)).collect())
}

fn taken(row: &PgRow, steal: &Steal) -> Result<(i64, Candidate, Lease)> {
    let candidate = candidate(row)?;
    let nonce = Nonce(get(row, "run_nonce")?);
    let lease = Lease { job: candidate.id, epoch: candidate.epoch, worker: steal.worker, nonce, claimed: true };
    Ok((get(row, "n")?, candidate, lease))
}
