//! Putting jobs into a batch: any number, in one transaction.
//!
//! Jobs that come for unique keys are written like the others, and taken out again where they did not get theirs: so locks
//! that others may wait for are held for the end of a long write only.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::connection::Line;
use super::copy::{COPY, Rows, weight};
use super::error::Origin;
use super::intake::FIRST_EPOCH;
use super::prune::NOW;
use super::rows::get;
use super::unique::{self, Contender, Settled, Standing};
use super::{callbacks, chains, consequences};
use crate::batch::parts;
use crate::job::{BatchId, JobId, NewJob};
use crate::store::{
    Dispatch, Entered, Error, Filled, Filling, HeldKey, IdempotencyKey, Pages, Pointer, Result, Target,
};

/// Bytes of one `COPY`, about: enough to be worth its round trip, and little enough to be far from every time-out.
const COPY_BYTES: usize = 4 << 20;

/// Held until the transaction ends: who asks meanwhile is told so instead of waiting for a long write.
pub(super) const LOCK_KEY: &str = "-- offload: one writer of a batch's key at a time
SELECT pg_try_advisory_xact_lock(16716975, hashtext($1 || ' ' || $2)) AS held";

/// A key that is there stays as it is, and is locked, so that no pruning comes between.
pub(super) const TAKE_KEY: &str = "-- offload: take a batch's key
INSERT INTO offload.idempotency_keys AS k (tenant, key, fingerprint, job_id, created_at)
VALUES ($1, $2, $3, $4, statement_timestamp())
ON CONFLICT (tenant, key) DO UPDATE SET created_at = k.created_at
RETURNING job_id, fingerprint, xmax = 0 AS inserted";

pub(super) const OPEN: &str = "-- offload: is a batch open
SELECT NOT sealed AS open FROM offload.batches WHERE id = $1 AND tenant = $2";

pub(super) const MAKE: &str = "-- offload: make a batch
INSERT INTO offload.batches (id, tenant, sealed, total, metadata, follow_up, created_at, rate_since, mark_at)
VALUES ($1, $2, $3, $4, $5::json, $6::json, $7, $7, $7)";

/// The row is locked at the end of the transaction only: until then its jobs go on ending.
pub(super) const GROW: &str = "-- offload: a batch has more jobs
UPDATE offload.batches SET total = total + $3 WHERE id = $1 AND tenant = $2 AND NOT sealed";

pub(super) const LEAVE_OUT: &str = "-- offload: leave jobs out of a batch
WITH untold AS (
    DELETE FROM offload.callbacks WHERE subject = ANY ($1)
)
DELETE FROM offload.jobs WHERE id = ANY ($1)";

/// In the order of their ids: the batch that is filled, and those of jobs that were replaced.
pub(super) const LOCK_BATCHES: &str = "-- offload: lock batches
SELECT b.id FROM offload.batches b
WHERE b.id = $1 OR b.id IN (SELECT j.batch_id FROM offload.jobs j WHERE j.id = ANY ($2))
ORDER BY b.id FOR UPDATE";

/// Fills a batch; see [`crate::store::Batches::fill_batch`].
pub(super) async fn fill(line: &mut Line, filling: &Filling, jobs: &mut dyn Pages) -> Result<Filled> {
    line.begin("BEGIN").await?;
    if let Some(refusal) = refusal(line, filling).await? {
        line.rollback().await?;
        return Ok(refusal);
    }
    let now = now(line).await?;
    let (mut total, mut entered, mut contenders) = (0i64, Entered::default(), Vec::new());
    let mut parents = chains::Named::default();
    loop {
        let page = jobs.next().await?;
        if page.is_empty() {
            break;
        }
        total += i64::try_from(page.len()).unwrap_or(0);
        for part in parts(&page, COPY_BYTES, weight) {
            write(line, filling.batch(), &page[part.clone()], now, &mut entered.dispatches).await?;
            parents.add(line, page[part].iter()).await?;
        }
        contenders.extend(page.iter().filter_map(Contender::of));
    }
    let unknown = parents.tie(line).await?;
    if !unknown.is_empty() {
        line.rollback().await?;
        return Ok(Filled::Orphans(unknown.into_iter().collect()));
    }
    let settled = unique::settle(line, &contenders).await?;
    if let Some(held) = held(&contenders, &settled) {
        line.rollback().await?;
        return Ok(Filled::Held(held));
    }
    total -= leave_out(line, &contenders, &settled, &mut entered).await?;
    if !settled.ended.is_empty() {
        line.rows(sqlx::query(LOCK_BATCHES).bind(filling.batch().0).bind(settled.ended.clone())).await?;
        entered.replaced = settled.ended.iter().copied().map(JobId).collect();
        consequences::follow(line, settled.ended).await?;
    }
    if !conclude(line, filling, total, now).await? {
        // It was sealed meanwhile.
        line.rollback().await?;
        return Ok(Filled::Sealed);
    }
    line.commit().await?;
    Ok(Filled::Done(entered))
}

/// Makes a batch of jobs that come for no unique key and run after nothing, in a transaction that is open. Unless it answers
/// that they are in, the caller rolls back.
pub(super) async fn make(line: &mut Line, filling: &Filling, jobs: &[NewJob]) -> Result<Filled> {
    if let Some(refusal) = refusal(line, filling).await? {
        return Ok(refusal);
    }
    let now = now(line).await?;
    let mut entered = Entered::default();
    for part in parts(jobs, COPY_BYTES, weight) {
        write(line, filling.batch(), &jobs[part], now, &mut entered.dispatches).await?;
    }
    let total = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
    conclude(line, filling, total, now).await?;
    Ok(Filled::Done(entered))
}

/// The store's clock.
async fn now(line: &mut Line) -> Result<DateTime<Utc>> {
    let row = line.row(sqlx::query(NOW)).await?;
    get(&row.ok_or_else(|| Error::Corrupt("the database knows no time".into()))?, "now")
}

/// Why nothing is to be written, if so.
async fn refusal(line: &mut Line, filling: &Filling) -> Result<Option<Filled>> {
    if let Some(key) = &filling.idempotency
        && let Some(refusal) = take_key(line, filling, key).await?
    {
        return Ok(Some(refusal));
    }
    let Target::Open(id) = &filling.target else { return Ok(None) };
    let row = line.row(sqlx::query(OPEN).bind(id.0).bind(filling.tenant.as_str())).await?;
    match row.map(|row| get(&row, "open")).transpose()? {
        None => Ok(Some(Filled::Missing)),
        Some(false) => Ok(Some(Filled::Sealed)),
        Some(true) => Ok(None),
    }
}

async fn take_key(line: &mut Line, filling: &Filling, key: &IdempotencyKey) -> Result<Option<Filled>> {
    let tenant = filling.tenant.as_str();
    let lock = line.row(sqlx::query(LOCK_KEY).bind(tenant).bind(key.key.as_str())).await?;
    if !lock.map_or(Ok(false), |row| get(&row, "held"))? {
        return Ok(Some(Filled::InFlight));
    }
    let take = sqlx::query(TAKE_KEY)
        .bind(tenant)
        .bind(key.key.as_str())
        .bind(key.fingerprint.to_vec())
        .bind(filling.batch().0);
    let row = line.row(take).await?.ok_or_else(|| Error::Corrupt("a key was neither taken nor found".into()))?;
    if get(&row, "inserted")? {
        return Ok(None);
    }
    let same = get::<&[u8]>(&row, "fingerprint")? == key.fingerprint;
    let batch = BatchId(get(&row, "job_id")?);
    Ok(Some(if same { Filled::Repeated(batch) } else { Filled::KeyReused }))
}

/// Writes jobs, and who is to be told of their ends.
async fn write(
    line: &mut Line,
    batch: BatchId,
    jobs: &[NewJob],
    now: DateTime<Utc>,
    dispatches: &mut Vec<Dispatch>,
) -> Result<()> {
    let mut rows = Rows::new(now);
    for job in jobs {
        if let Some(queued_at) = rows.push(job, batch) {
            let pointer = Pointer { id: job.id, epoch: FIRST_EPOCH, queued_at: queued_at.timestamp_micros() };
            dispatches.push(Dispatch { lane: job.lane.clone(), pointer, traceparent: job.traceparent.clone() });
        }
    }
    line.copy_in(Origin::Offload, COPY, &rows.finish()).await?;
    callbacks::keep_of_jobs(line, jobs.iter()).await
}

/// The first key that is taken, and that a job does not do without.
fn held(contenders: &[Contender], settled: &Settled) -> Option<HeldKey> {
    contenders.iter().find_map(|contender| {
        let Some(Standing::Held(by)) = settled.standing(contender.job()) else { return None };
        let by = Some(by).filter(|by| contenders.iter().all(|own| own.job() != *by));
        Some(HeldKey { kind: contender.kind().to_owned(), key: contender.unique().key.clone(), by })
    })
}

/// Takes out the jobs that another one stands for. Answers how many.
async fn leave_out(line: &mut Line, contenders: &[Contender], settled: &Settled, entered: &mut Entered) -> Result<i64> {
    let matched = |contender: &&Contender| matches!(settled.standing(contender.job()), Some(Standing::Matched(_)));
    let mut out: HashSet<Uuid> = contenders.iter().filter(matched).map(|contender| contender.job().0).collect();
    out.extend(&settled.superseded);
    if out.is_empty() {
        return Ok(0);
    }
    line.execute(sqlx::query(LEAVE_OUT).bind(out.iter().copied().collect::<Vec<_>>())).await?;
    entered.dispatches.retain(|dispatch| !out.contains(&dispatch.pointer.id.0));
    entered.matched = out.len() as u64;
    i64::try_from(out.len()).map_err(|_| Error::Rejected("more jobs than can be counted".into()))
}

async fn conclude(line: &mut Line, filling: &Filling, total: i64, now: DateTime<Utc>) -> Result<bool> {
    let (id, tenant) = (filling.batch().0, filling.tenant.as_str());
    match &filling.target {
        Target::New(batch) => {
            let follow_up = batch.follow_up.as_ref().map(serde_json::to_string).transpose();
            let follow_up = follow_up.map_err(|error| Error::Rejected(format!("the follow-up: {error}")))?;
            let make = sqlx::query(MAKE)
                .bind(id)
                .bind(tenant)
                .bind(batch.sealed)
                .bind(total)
                .bind(batch.metadata.as_deref().map(serde_json::value::RawValue::get))
                .bind(follow_up)
                .bind(now);
            line.execute(make).await?;
            callbacks::keep(line, batch.callback.iter().map(|callback| (id, tenant, callback))).await?;
            if total == 0 {
                consequences::close(line, vec![id]).await?;
            }
            Ok(true)
        }
        Target::Open(_) => Ok(line.execute(sqlx::query(GROW).bind(id).bind(tenant).bind(total)).await? == 1),
    }
}
