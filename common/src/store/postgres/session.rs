//! A worker's membership, on a connection of its own.
//!
//! The connection holds a session advisory lock, which the server frees the moment the process dies: others need not wait
//! for the beats to stop. This takes a connection that stays with its client: behind a pooler, session pooling.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::{Connector, Line};
use super::intake::microseconds;
use super::rows::get;
use super::runs;
use crate::job::{JobId, Lease, Nonce, WorkerId};
use crate::store::{Beat, Claim, Claimed, Error, Result, Session, WorkerInfo};

/// Keys are drawn from a sequence, so that a new life never meets the lock of a former one.
pub(super) const NEXT_KEY: &str = "-- offload: a key for a new worker's lock
SELECT nextval('offload.worker_lock_keys')::integer AS key";

/// The first number is Offload's; `0` as the second is the promoters' turn, no worker's key.
pub(super) const LOCK: &str = "-- offload: a worker's lock
SELECT pg_try_advisory_lock(16716973, $1) AS held";

/// The lock is there before the row is, so that nobody sees the one without the other.
pub(super) const JOIN: &str = "-- offload: join
WITH registered AS (
    INSERT INTO offload.kinds AS k (name, spec, registered_at)
    SELECT s.name, s.spec::json, statement_timestamp() FROM unnest($10::text[], $11::text[]) AS s (name, spec)
    ORDER BY s.name
    ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, registered_at = excluded.registered_at
    WHERE k.spec::text <> excluded.spec::text
)
INSERT INTO offload.workers (id, lock_key, application_name, host, pid, version, slots, queues, kinds, started_at, beat_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, statement_timestamp(), statement_timestamp())";

pub(super) const BEAT: &str = "-- offload: beat
WITH beat AS (
    UPDATE offload.workers SET beat_at = statement_timestamp() WHERE id = $1 AND reaped_at IS NULL RETURNING id
)
SELECT ARRAY(SELECT j.id FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = $1 AND j.cancel_requested) AS cancel
FROM beat";

pub(super) const HELD: &str = "-- offload: rows held by a worker
SELECT id, epoch, run_nonce FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = $1";

pub(super) const OVERDUE: &str = "-- offload: whether a worker lets work wait
SELECT EXISTS (
    SELECT FROM offload.workers w CROSS JOIN unnest(w.queues) AS q (queue)
    CROSS JOIN unnest(enum_range(NULL::offload.job_priority)) AS p (priority)
    CROSS JOIN LATERAL (
        SELECT FROM offload.jobs j
        WHERE j.state = 'queued' AND j.queue = q.queue AND j.priority = p.priority AND j.losses < 2
          AND j.kind = ANY (w.kinds) AND j.queued_at < statement_timestamp() - $2 * interval '1 microsecond'
        LIMIT 1) due
    WHERE w.id = $1) AS overdue";

pub(super) const LEAVE: &str = "-- offload: leave
UPDATE offload.workers SET left_at = statement_timestamp() WHERE id = $1 AND left_at IS NULL";

/// A membership.
pub(super) struct PostgresSession {
    worker: WorkerId,
    key: i32,
    connector: Connector,
    line: Option<SessionLine>,
}

struct SessionLine {
    line: Line,
    /// A former connection of ours may still hold the lock for a moment; then it is taken with a later call.
    locked: bool,
}

/// Joins; see [`crate::store::Store::join`].
pub(super) async fn join(connector: &Connector, info: &WorkerInfo) -> Result<PostgresSession> {
    let worker = WorkerId::new();
    let connector = connector.impatient();
    let mut line = connector.connect("session").await?;
    let row = line.row(sqlx::query(NEXT_KEY)).await?.ok_or_else(no_answer)?;
    let key = get(&row, "key")?;
    let mut line = SessionLine { line, locked: false };
    line.lock(key).await?;

    let mut kinds: Vec<_> = info.kinds.iter().collect();
    kinds.sort_by(|a, b| a.name.cmp(&b.name));
    kinds.dedup_by(|a, b| a.name == b.name);
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    let specs: Vec<String> = kinds.iter().map(|kind| serde_json::json!(kind).to_string()).collect();
    let statement = sqlx::query(JOIN)
        .bind(worker.0)
        .bind(key)
        .bind(connector.instance())
        .bind(info.host.as_str())
        .bind(i64::from(info.pid))
        .bind(info.version.as_str())
        .bind(i64::from(info.slots))
        .bind(info.queues.clone())
        .bind(names.clone())
        .bind(names)
        .bind(specs);
    line.line.execute(statement).await?;
    Ok(PostgresSession { worker, key, connector, line: Some(line) })
}

pub(super) fn no_answer() -> Error {
    Error::Corrupt("a statement that always answers a row answered none".into())
}

impl SessionLine {
    async fn lock(&mut self, key: i32) -> Result<()> {
        if !self.locked {
            let row = self.line.row(sqlx::query(LOCK).bind(key)).await?.ok_or_else(no_answer)?;
            self.locked = get(&row, "held")?;
        }
        Ok(())
    }

    async fn beat(&mut self, worker: WorkerId, key: i32) -> Result<Beat> {
        self.lock(key).await?;
        let row = self.line.row(sqlx::query(BEAT).bind(worker.0)).await?;
        let Some(row) = row else { return Ok(Beat::Fenced) };
        let cancel: Vec<Uuid> = get(&row, "cancel")?;
        Ok(Beat::Alive { cancel: cancel.into_iter().map(JobId).collect() })
    }
}

impl PostgresSession {
    async fn connect(&self) -> Result<SessionLine> {
        Ok(SessionLine { line: self.connector.connect("session").await?, locked: false })
    }

    /// The connection, taken out: it is put back when all went well, so whatever else happens, the next call begins afresh.
    async fn take(&mut self) -> Result<SessionLine> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.connect().await?,
        };
        line.lock(self.key).await?;
        Ok(line)
    }
}

#[async_trait]
impl Session for PostgresSession {
    fn worker(&self) -> WorkerId {
        self.worker
    }

    async fn probe(&mut self) -> Result<bool> {
        if let Some(mut line) = self.line.take()
            && line.line.ping().await.is_ok()
            && line.lock(self.key).await.is_ok()
        {
            self.line = Some(line);
            return Ok(true);
        }
        self.line = Some(self.take().await?);
        Ok(false)
    }

    async fn beat(&mut self) -> Result<Beat> {
        if let Some(mut line) = self.line.take()
            && let Ok(beat) = line.beat(self.worker, self.key).await
        {
            self.line = Some(line);
            return Ok(beat);
        }
        // A connection that broke since the last beat is no reason to miss one.
        let mut line = self.take().await?;
        let beat = line.beat(self.worker, self.key).await?;
        self.line = Some(line);
        Ok(beat)
    }

    async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut line = self.take().await?;
        let granted = runs::claim(&mut line.line, self.worker, claims).await?;
        self.line = Some(line);
        Ok(granted)
    }

    async fn held(&mut self) -> Result<Vec<Lease>> {
        let mut line = self.take().await?;
        let rows = line.line.rows(sqlx::query(HELD).bind(self.worker.0)).await?;
        self.line = Some(line);
        let lease = |row: &PgRow| {
            Ok(Lease {
                job: JobId(get(row, "id")?),
                epoch: get(row, "epoch")?,
                worker: self.worker,
                nonce: Nonce(get(row, "run_nonce")?),
                claimed: true,
            })
        };
        rows.iter().map(lease).collect()
    }

    async fn overdue(&mut self, older_than: Duration) -> Result<bool> {
        let mut line = self.take().await?;
        let ask = sqlx::query(OVERDUE).bind(self.worker.0).bind(microseconds(older_than));
        let row = line.line.row(ask).await?.ok_or_else(no_answer)?;
        self.line = Some(line);
        get(&row, "overdue")
    }

    async fn leave(mut self: Box<Self>) -> Result<()> {
        let mut line = self.take().await?;
        line.line.execute(sqlx::query(LEAVE).bind(self.worker.0)).await?;
        // Closing frees the lock.
        line.line.close().await;
        Ok(())
    }
}
