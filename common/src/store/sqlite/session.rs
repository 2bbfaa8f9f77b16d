//! A worker's membership.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};

use super::error::{Failure, Result};
use super::fleet::Fleet;
use super::rows::{job_id, micros, nonce};
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

/// A membership in the [`Fleet`], with a reading connection of its own: a beat waits neither for the writer nor for
/// other readers.
pub(super) struct Session {
    worker: WorkerId,
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
    Ok(Session { worker: fleet.join(info.clone()), fleet, writer, reader })
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

    async fn leave(self: Box<Self>) -> store::Result<()> {
        self.fleet.leave(self.worker);
        Ok(self.reader.close().await.map_err(Failure::from)?)
    }
}
