//! Putting jobs into a batch: any number, in one transaction.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::{Row, SqliteConnection};

use super::error::Result;
use super::intake::{FIND_KEY, FIRST_EPOCH, INSERT_KEY, INSERT_STREAM};
use super::rows::{micros, string_list};
use super::unique::{self, Standing};
use super::writer::Writer;
use super::{callbacks, chains, consequences};
use crate::clock;
use crate::job::{BatchId, JobId, Lane, NewJob, OnConflict, State, UniqueKey};
use crate::store::{Dispatch, Entered, Filled, Filling, HeldKey, Pages, Pointer, Target};

/// Rows of one statement.
const ROWS: usize = 500;

/// A row is an array in an array of JSON: one statement for many, whatever their number.
pub(super) const INSERT: &str = "-- insert jobs of a batch
INSERT INTO offload_jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, queued_at,
    timeout_ms, retry_policy, payload, metadata, tags, traceparent, retry_of, batch_id, linked, unique_key,
    schedule_id, fire_at)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, ?2, value ->> 6, ?3, value ->> 7,
    value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, unhex(value ->> 15), ?4, 1,
    value ->> 16, unhex(value ->> 17), value ->> 18
FROM json_each(?1)";

const LEAVE_OUT: &str = "-- leave a job out of a batch
DELETE FROM offload_jobs WHERE id = ?1";

const LEAVE_UNTOLD: &str = "-- leave out the callback of a job
DELETE FROM offload_callbacks WHERE subject = ?1";

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
    let mut written = Written::new(filling.batch(), now);
    loop {
        let page = jobs.next().await?;
        if page.is_empty() {
            break;
        }
        for part in page.chunks(ROWS) {
            // One that comes for a unique key sees those before it.
            for run in part.chunk_by(|a, b| a.unique.is_none() && b.unique.is_none()) {
                if let Some(held) = written.enter(turn.connection(), run).await? {
                    turn.rollback().await?;
                    return Ok(Filled::Held(held));
                }
            }
            let unknown = tie(turn.connection(), &filling.tenant, part, now).await?;
            if !unknown.is_empty() {
                turn.rollback().await?;
                return Ok(Filled::Orphans(unknown));
            }
        }
    }
    conclude(turn.connection(), filling, written.total, now).await?;
    turn.commit().await?;
    Ok(Filled::Done(written.entered))
}

/// Makes a batch of jobs that come for no unique key and run after nothing, within a transaction. Unless it answers that they
/// are in, the caller rolls back.
pub(super) async fn make(
    connection: &mut SqliteConnection,
    filling: &Filling,
    jobs: &[NewJob],
    now: DateTime<Utc>,
) -> Result<Filled> {
    if let Some(refusal) = refusal(connection, filling, now).await? {
        return Ok(refusal);
    }
    let mut written = Written::new(filling.batch(), now);
    for part in jobs.chunks(ROWS) {
        written.insert(connection, part).await?;
    }
    conclude(connection, filling, written.total, now).await?;
    Ok(Filled::Done(written.entered))
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
    batch: BatchId,
    now: DateTime<Utc>,
    streams: HashSet<(Lane, String)>,
    /// Those of them that have unique keys.
    unique: HashSet<JobId>,
    entered: Entered,
    total: i64,
}

impl Written {
    fn new(batch: BatchId, now: DateTime<Utc>) -> Self {
        let (streams, unique, entered) = (HashSet::new(), HashSet::new(), Entered::default());
        Self { batch, now, streams, unique, entered, total: 0 }
    }

    /// Inserts jobs: several without unique keys, or one that may come for one and be left out. Answers the key that it does
    /// not do without.
    async fn enter(&mut self, connection: &mut SqliteConnection, jobs: &[NewJob]) -> Result<Option<HeldKey>> {
        let [job @ NewJob { unique: Some(unique), .. }] = jobs else {
            return self.insert(connection, jobs).await.map(|()| None);
        };
        match self.take(connection, job, unique).await? {
            Standing::Takes(had) => {
                self.entered.replaced.extend(had);
                self.insert(connection, jobs).await?;
                self.unique.insert(job.id);
            }
            Standing::Matched(_) => self.entered.matched += 1,
            Standing::Held(by) => {
                let by = Some(by).filter(|by| !self.unique.contains(by));
                return Ok(Some(HeldKey { kind: job.kind.clone(), key: unique.key.clone(), by }));
            }
        }
        Ok(None)
    }

    /// What another one of the same request takes a key from is left out: nobody has seen it.
    async fn take(&mut self, connection: &mut SqliteConnection, job: &NewJob, unique: &UniqueKey) -> Result<Standing> {
        let own = match unique.on_conflict {
            OnConflict::Replace => unique::holder(connection, job, unique).await?.map(|(holder, _)| holder),
            OnConflict::Return | OnConflict::Refuse => None,
        };
        let Some(own) = own.filter(|own| self.unique.contains(own)) else {
            return unique::take(connection, job, unique).await;
        };
        sqlx::query(LEAVE_OUT).bind(own.0).execute(&mut *connection).await?;
        sqlx::query(LEAVE_UNTOLD).bind(own.0).execute(connection).await?;
        self.entered.dispatches.retain(|dispatch| dispatch.pointer.id != own);
        self.entered.matched += 1;
        self.total -= 1;
        Ok(Standing::Takes(None))
    }

    async fn insert(&mut self, connection: &mut SqliteConnection, jobs: &[NewJob]) -> Result<()> {
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
            .bind(self.batch.0)
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
            self.entered.dispatches.push(Dispatch { lane, pointer, traceparent });
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
            job.unique.as_ref().map(|unique| &unique.key),
            job.fired_by.map(|fire| fire.schedule.0.simple().to_string()),
            job.fired_by.map(|fire| micros(fire.at)),
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
    let Target::New(batch) = &filling.target else { return Ok(()) };
    if let Some(callback) = &batch.callback {
        callbacks::keep(connection, id, &filling.tenant, callback).await?;
    }
    if total == 0 {
        consequences::close(connection, id, now).await?;
    }
    Ok(())
}
