//! A worker's membership.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};

use super::error::{Failure, Result};
use super::fleet::Fleet;
use super::rows::{duration_micros, job_id, micros, nonce, string_list};
use super::runs;
use super::writer::Writer;
use crate::clock;
use crate::job::{JobId, Lease, WorkerId};
use crate::store::{self, Beat, Claim, Claimed, Error, WorkerInfo};

const REGISTER_KIND: &str = "-- register a kind
INSERT INTO offload_kinds (name, spec, registered_at) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, registered_at = excluded.registered_at";

pub(super) const TO_CANCEL: &str = "-- which running jobs are to be cancelled
SELECT id FROM offload_jobs WHERE state = 'running' AND worker_id = ?1 AND cancel_requested ORDER BY id";

pub(super) const HELD: &str = "-- which leases a worker holds
SELECT id, epoch, run_nonce FROM offload_jobs WHERE state = 'running' AND worker_id = ?1 ORDER BY id";

pub(super) const OVERDUE: &str = "-- whether a worker lets work wait
SELECT EXISTS (SELECT 1 FROM offload_jobs
    WHERE state = 'queued' AND losses < 2 AND queue IN (SELECT value FROM json_each(?1))
        AND kind IN (SELECT value FROM json_each(?2)) AND queued_at < ?3)";

/// A membership in the [`Fleet`], with a reading connection of its own: a beat waits neither for the writer nor for
/// other readers.
pub(super) struct Session {
    worker: WorkerId,
    /// The queues that it serves and the kinds that it offers, as statements take them.
    serves: (String, String),
    fleet: Arc<Fleet>,
    writer: Arc<Writer>,
    reader: SqliteConnection,
}

/// See [`store::Store::join`].
pub(super) async fn join(
    fleet: Arc<Fleet>,
    writer: Arc<Writer>,
    reader: SqliteConnection,
    info: &WorkerInfo,
) -> Result<Session> {
    let mut turn = writer.turn().await?;
    let now = micros(clock::now());
    for kind in &info.kinds {
        let spec = serde_json::to_string(kind)?;
        sqlx::query(REGISTER_KIND).bind(&kind.name).bind(spec).bind(now).execute(turn.connection()).await?;
    }
    turn.commit().await?;
    let kinds: Vec<String> = info.kinds.iter().map(|kind| kind.name.clone()).collect();
    let serves = (string_list(&info.queues), string_list(&kinds));
    Ok(Session { worker: fleet.join(info.clone()), serves, fleet, writer, reader })
}

#[async_trait]
impl store::Session for Session {
    fn worker(&self) -> WorkerId {
        self.worker
    }

    /// The process sees itself.
    async fn probe(&mut self) -> store::Result<bool> {
        Ok(true)
    }

    async fn beat(&mut self) -> store::Result<Beat> {
        if !self.fleet.beat(self.worker) {
            return Ok(Beat::Fenced);
        }
        let ids = sqlx::query_scalar(TO_CANCEL).bind(self.worker.0).fetch_all(&mut self.reader).await;
        let cancel = ids.map_err(Failure::from)?.into_iter().map(JobId).collect();
        Ok(Beat::Alive { cancel })
    }

    async fn claim(&mut self, claims: &[Claim]) -> store::Result<Vec<Claimed>> {
        Ok(runs::claim(&self.writer, &self.fleet, self.worker, claims).await?)
    }

    async fn held(&mut self) -> store::Result<Vec<Lease>> {
        let rows = sqlx::query(HELD).bind(self.worker.0).fetch_all(&mut self.reader).await.map_err(Failure::from)?;
        let lease = |row: &SqliteRow| {
            let (job, epoch) = (job_id(row)?, row.try_get("epoch")?);
            let nonce = nonce(row)?.ok_or_else(|| Error::Corrupt(format!("running job {job} has no nonce")))?;
            Ok(Lease { job, epoch, worker: self.worker, nonce, claimed: true })
        };
        Ok(rows.iter().map(lease).collect::<Result<_>>()?)
    }

    async fn overdue(&mut self, older_than: Duration) -> store::Result<bool> {
        let queued_before = micros(clock::now()).saturating_sub(duration_micros(older_than));
        let (queues, kinds) = &self.serves;
        let ask = sqlx::query_scalar(OVERDUE).bind(queues).bind(kinds).bind(queued_before);
        Ok(ask.fetch_one(&mut self.reader).await.map_err(Failure::from)?)
    }

    async fn leave(self: Box<Self>) -> store::Result<()> {
        self.fleet.leave(self.worker);
        Ok(self.reader.close().await.map_err(Failure::from)?)
    }
}
