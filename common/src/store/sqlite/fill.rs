//! Putting jobs into a batch: any number, in one transaction.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection};

use super::error::Result;
use super::intake::{FIND_KEY, FIRST_EPOCH, INSERT_KEY, INSERT_STREAM};
use super::rows::{micros, string_list};
use super::writer::Writer;
use super::{callbacks, chains};
use crate::clock;
use crate::job::{BatchId, JobId, Lane, NewJob, State};
use crate::store::{Dispatch, Filled, Filling, Pages, Pointer, Target};

/// Rows of one statement.
const ROWS: usize = 500;

/// A row is an array in an array of JSON: one statement for many, whatever their number.
pub(super) const INSERT: &str = "-- insert jobs of a batch
INSERT INTO offload_jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, queued_at,
    timeout_ms, retry_policy, payload, metadata, tags, traceparent, retry_of, batch_id, linked)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, ?2, value ->> 6, ?3, value ->> 7,
    value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, unhex(value ->> 15), ?4, 1
FROM json_each(?1)";

const OPEN: &str = "-- is a batch open
SELECT NOT sealed AS open FROM offload_batches WHERE id = ?1 AND tenant = ?2";

const MAKE: &str = "-- make a batch
INSERT INTO offload_batches (id, tenant, sealed, total, metadata, follow_up, created_at, rate_since, mark_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7)";

const GROW: &str = "-- a batch has more jobs
UPDATE offload_batches SET total = total + ?2 WHERE id = ?1";

/// See [`crate::store::Batches::fill_batch`].
pub(super) async fn fill(writer: &Writer, filling: &Filling, jobs: &mut dyn Pages) -> Result<Filled> {
    let mut turn = writer.turn().await?;
    let now = clock::now();
    if let Some(refusal) = refusal(turn.connection(), filling, now).await? {
        turn.rollback().await?;
        return Ok(refusal);
    }
    let mut written = Written { now, streams: HashSet::new(), dispatches: Vec::new(), total: 0 };
    loop {
        let page = jobs.next().await?;
        if page.is_empty() {
            break;
        }
        for part in page.chunks(ROWS) {
            written.insert(turn.connection(), filling.batch(), part).await?;
            let unknown = tie(turn.connection(), &filling.tenant, part, now).await?;
            if !unknown.is_empty() {
                turn.rollback().await?;
                return Ok(Filled::Orphans(unknown));
            }
        }
    }
    conclude(turn.connection(), filling, written.total, now).await?;
    turn.commit().await?;
    Ok(Filled::Done(written.dispatches))
}

/// Why nothing is to be written, if so.
async fn refusal(connection: &mut SqliteConnection, filling: &Filling, now: DateTime<Utc>) -> Result<Option<Filled>> {
    let (tenant, batch) = (&filling.tenant, filling.batch());
    if let Some(key) = &filling.idempotency {
        let found = sqlx::query(FIND_KEY).bind(tenant).bind(&key.key).fetch_optional(&mut *connection).await?;
        if let Some(row) = found {
            let same = row.try_get::<&[u8], _>("fingerprint")? == key.fingerprint;
            let batch = BatchId(row.try_get("job_id")?);
            return Ok(Some(if same { Filled::Repeated(batch) } else { Filled::KeyReused }));
        }
        sqlx::query(INSERT_KEY)
            .bind(tenant)
            .bind(&key.key)
            .bind(&key.fingerprint[..])
            .bind(batch.0)
            .bind(micros(now))
            .execute(&mut *connection)
            .await?;
    }
    if let Target::New(_) = filling.target {
        return Ok(None);
    }
    let open: Option<bool> = sqlx::query_scalar(OPEN).bind(batch.0).bind(tenant).fetch_optional(connection).await?;
    Ok(match open {
        None => Some(Filled::Missing),
        Some(false) => Some(Filled::Sealed),
        Some(true) => None,
    })
}

/// Has jobs wait for their parents. Answers those that there are none of.
async fn tie(
    connection: &mut SqliteConnection,
    tenant: &str,
    jobs: &[NewJob],
    now: DateTime<Utc>,
) -> Result<Vec<JobId>> {
    let parents: BTreeSet<JobId> =
        jobs.iter().filter_map(|job| job.after.as_ref()).flat_map(|after| after.jobs.iter().copied()).collect();
    if parents.is_empty() {
        return Ok(Vec::new());
    }
    let unknown = chains::unknown(connection, tenant, &parents.into_iter().collect::<Vec<_>>()).await?;
    if unknown.is_empty() {
        for job in jobs {
            chains::tie(connection, job, now).await?;
        }
    }
    Ok(unknown)
}

struct Written {
    now: DateTime<Utc>,
    streams: HashSet<(Lane, String)>,
    dispatches: Vec<Dispatch>,
    total: i64,
}

impl Written {
    async fn insert(&mut self, connection: &mut SqliteConnection, batch: BatchId, jobs: &[NewJob]) -> Result<()> {
        let mut rows = Vec::with_capacity(jobs.len());
        for job in jobs {
            if self.streams.insert((job.lane.clone(), job.kind.clone())) {
                sqlx::query(INSERT_STREAM)
                    .bind(&job.lane.queue)
                    .bind(job.lane.priority.as_str())
                    .bind(&job.kind)
                    .execute(&mut *connection)
                    .await?;
            }
            rows.push(self.row(job)?);
        }
        self.total += i64::try_from(jobs.len()).unwrap_or(0);
        sqlx::query(INSERT)
            .bind(Value::Array(rows).to_string())
            .bind(FIRST_EPOCH)
            .bind(micros(self.now))
            .bind(batch.0)
            .execute(&mut *connection)
            .await?;
        for job in jobs {
            if let Some(callback) = &job.callback {
                callbacks::keep(connection, job.id.0, &job.tenant, callback).await?;
            }
        }
        Ok(())
    }

    /// The values of [`INSERT`]; notes what is queued at once.
    fn row(&mut self, job: &NewJob) -> Result<Value> {
        let delayed = job.delay.and_then(|delay| self.now.checked_add_signed(TimeDelta::from_std(delay).ok()?));
        let run_at = job.run_at.or(delayed).map_or(self.now, |at| at.max(self.now));
        let queued = job.admit && run_at <= self.now;
        let now = micros(self.now);
        if queued {
            let pointer = Pointer { id: job.id, epoch: FIRST_EPOCH, queued_at: now };
            let (lane, traceparent) = (job.lane.clone(), job.traceparent.clone());
            self.dispatches.push(Dispatch { lane, pointer, traceparent });
        }
        Ok(json!([
            job.id.0.simple().to_string(),
            job.tenant,
            job.kind,
            job.lane.queue,
            job.lane.priority.as_str(),
            if queued { State::Queued } else { State::Scheduled }.as_str(),
            job.max_attempts,
            micros(run_at),
            queued.then_some(now),
            i64::try_from(job.timeout.as_millis()).unwrap_or(i64::MAX),
            serde_json::to_string(&job.retry_policy)?,
            job.payload.get(),
            job.metadata.as_ref().map(|metadata| metadata.get()),
            string_list(&job.tags),
            job.traceparent,
            job.retry_of.map(|id| id.0.simple().to_string()),
        ]))
    }
}

async fn conclude(connection: &mut SqliteConnection, filling: &Filling, total: i64, now: DateTime<Utc>) -> Result<()> {
    let id = filling.batch().0;
    let statement = match &filling.target {
        Target::New(batch) => sqlx::query(MAKE)
            .bind(id)
            .bind(&filling.tenant)
            .bind(batch.sealed)
            .bind(total)
            .bind(batch.metadata.as_ref().map(|metadata| metadata.get()))
            .bind(batch.follow_up.as_ref().map(serde_json::to_string).transpose()?)
            .bind(micros(now)),
        Target::Open(_) => sqlx::query(GROW).bind(id).bind(total),
    };
    statement.execute(&mut *connection).await?;
    if let Target::New(batch) = &filling.target
        && let Some(callback) = &batch.callback
    {
        callbacks::keep(connection, id, &filling.tenant, callback).await?;
    }
    Ok(())
}
