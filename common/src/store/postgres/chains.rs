//! Jobs that run after others.
//!
//! The end of a parent is noted by one row ([`consequences`](super::consequences)), however many jobs follow it; those are told
//! of it by [`release`], a page at a time. So no transaction that ends a job takes the rows of others, and none of two can wait for
//! the other.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::finish::storable;
use super::rows::{get, trail};
use super::runs::bounds;
use super::session::no_answer;
use super::{PostgresStore, consequences};
use crate::job::transition::Failure;
use crate::job::{After, AfterPolicy, JobId, NewJob, State};
use crate::store::row::{json, parse, raw};
use crate::store::{Chains, ParentEnd, Released, Result};

/// Parents that one statement ties to their children.
const PAGE: usize = 5000;

/// Ends of parents that one pass looks at.
const ENDS: i64 = 1000;

pub(super) const NAME_PARENTS: &str = "-- offload: name the parents of jobs
INSERT INTO offload.job_parents (job_id, place, parent_id)
SELECT p.job_id, p.place, p.parent_id FROM unnest($1::uuid[], $2::integer[], $3::uuid[]) AS p (job_id, place, parent_id)";

/// Rows that this very transaction inserted.
pub(super) const WAIT: &str = "-- offload: have jobs wait for their parents
UPDATE offload.jobs j
SET parents = w.parents, after_policy = w.policy, not_before = j.run_at, run_at = timestamptz '9999-12-31 00:00:00Z',
    trail = jsonb_build_array(jsonb_build_object('epoch', j.epoch, 'state', 'scheduled', 'at', j.created_at))
FROM unnest($1::uuid[], $2::integer[], $3::text[]) AS w (id, parents, policy)
WHERE j.id = w.id AND j.id BETWEEN $4 AND $5";

/// Locked in the order of their ids, as everywhere, and until the children are there.
pub(super) const LOCK_PARENTS: &str = "-- offload: lock parents
SELECT j.id, j.state::text FROM unnest($1::uuid[], $2::text[]) AS p (id, tenant) JOIN offload.jobs j ON j.id = p.id
WHERE j.id BETWEEN $3 AND $4 AND j.tenant = p.tenant ORDER BY j.id FOR UPDATE OF j";

pub(super) const FOLLOW: &str = "-- offload: parents are followed
UPDATE offload.jobs j SET followed = true, linked = true
FROM unnest($1::uuid[]) AS p (id) WHERE j.id = p.id AND j.id BETWEEN $2 AND $3 AND NOT (j.followed AND j.linked)";

/// What ended before it was followed.
pub(super) const ENDED_BEFORE: &str = "-- offload: parents that had ended already
INSERT INTO offload.ended_parents (parent_id, state)
SELECT p.id, p.state::offload.job_state FROM unnest($1::uuid[], $2::text[]) AS p (id, state)";

pub(super) const ENDED: &str = "-- offload: parents have ended
INSERT INTO offload.ended_parents (parent_id, state)
SELECT j.id, j.state FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id
WHERE j.id BETWEEN $2 AND $3 AND j.followed";

pub(super) const KNOWN: &str = "-- offload: which jobs there are
SELECT j.id FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id
WHERE j.id BETWEEN $2 AND $3 AND j.tenant = $4";

pub(super) const LOOK: &str = "-- offload: have parents ended
SELECT EXISTS (SELECT FROM offload.ended_parents) AS some";

/// Releasers take turns, so that of two parents of a job one sees what was told of the other.
pub(super) const TAKE_TURNS: &str = "-- offload: one releaser at a time
SELECT pg_advisory_xact_lock(16716976, 0)";

/// What can be told now: children whose rows nobody holds.
pub(super) const TELL: &str = "-- offload: tell jobs of the ends of their parents
WITH ended AS MATERIALIZED (
    SELECT DISTINCT e.parent_id, e.state FROM (SELECT * FROM offload.ended_parents ORDER BY n LIMIT $1) e
), untold AS MATERIALIZED (
    SELECT p.job_id, p.place, e.state FROM ended e CROSS JOIN LATERAL (
        SELECT * FROM offload.job_parents p WHERE p.parent_id = e.parent_id AND p.outcome IS NULL LIMIT $2) p
    LIMIT $2
), held AS MATERIALIZED (
    SELECT j.id, j.after_policy FROM offload.jobs j
    WHERE j.id IN (SELECT job_id FROM untold) ORDER BY j.id FOR UPDATE SKIP LOCKED
)
UPDATE offload.job_parents p SET outcome = u.state
FROM untold u JOIN held h ON h.id = u.job_id
WHERE p.job_id = u.job_id AND p.place = u.place
RETURNING p.job_id, p.parent_id, p.outcome::text, h.after_policy";

pub(super) const FORGET: &str = "-- offload: parents that all have been told of
DELETE FROM offload.ended_parents e
WHERE e.n IN (SELECT n FROM offload.ended_parents ORDER BY n LIMIT $1)
  AND NOT EXISTS (SELECT FROM offload.job_parents p WHERE p.parent_id = e.parent_id AND p.outcome IS NULL)";

/// The rows are locked already. One without a failure proceeds, if it waits for nothing else; if it is due, it looks queued to
/// clients from now on.
pub(super) const RELEASE: &str = concat!(
    "-- offload: release jobs
UPDATE offload.jobs j
SET state = (CASE WHEN r.code IS NULL THEN 'scheduled' ELSE 'cancelled' END)::offload.job_state, epoch = j.epoch + 1,
    run_at = greatest(j.not_before, statement_timestamp()), not_before = NULL,
    finished_at = CASE WHEN r.code IS NOT NULL THEN statement_timestamp() END,
    error = CASE WHEN r.code IS NOT NULL THEN json_build_object('code', r.code, 'message', r.message,
                     'attempt', j.attempt, 'at', statement_timestamp()) END,
    history = CASE WHEN r.code IS NOT NULL THEN jsonb_build_array(jsonb_build_object('attempt', j.attempt, 'code', r.code,
                     'message', r.message, 'ended_at', statement_timestamp(), 'epoch', j.epoch + 1)) END,
    trail = CASE WHEN r.code IS NOT NULL THEN j.trail ELSE ",
    trail!(
        "CASE WHEN j.not_before > statement_timestamp() THEN 'scheduled' ELSE 'queued' END",
        at: "statement_timestamp()",
        run_at: "CASE WHEN j.not_before > statement_timestamp() THEN j.not_before END"
    ),
    " END
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (id, code, message)
WHERE j.id = r.id AND j.id BETWEEN $4 AND $5 AND j.not_before IS NOT NULL AND (r.code IS NOT NULL OR NOT EXISTS (
    SELECT FROM offload.job_parents p WHERE p.job_id = r.id AND p.outcome IS NULL))
RETURNING j.id, j.state::text, j.linked"
);

pub(super) const PARENTS: &str = "-- offload: what became of parents
SELECT q.parent_id, q.outcome::text, q.is_there AND q.bytes > $2 AS left_out,
       CASE WHEN q.bytes <= $2 THEN q.result END AS result, CASE WHEN q.bytes <= $2 THEN q.error END AS error
FROM (SELECT p.parent_id, p.place, p.outcome, j.result::text, j.error::text,
             coalesce(j.result::text, j.error::text) IS NOT NULL AS is_there,
             sum(octet_length(coalesce(j.result::text, j.error::text, ''))) OVER (ORDER BY p.place) AS bytes
      FROM offload.job_parents p LEFT JOIN offload.jobs j ON j.id = p.parent_id
      WHERE p.job_id = $1 AND p.outcome IS NOT NULL) q
ORDER BY q.place";

/// The parents of jobs that a transaction inserts, each with its tenant, in the order of their ids.
#[derive(Default)]
pub(super) struct Named(BTreeMap<Uuid, String>);

impl Named {
    /// Has those of these jobs that have parents wait for them.
    pub(super) async fn add(&mut self, line: &mut Line, jobs: impl Iterator<Item = &NewJob>) -> Result<()> {
        let (mut ids, mut counts, mut policies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut children, mut places, mut parents) = (Vec::new(), Vec::new(), Vec::new());
        for (job, After { jobs, policy }) in jobs.filter_map(|job| Some((job, job.after.as_ref()?))) {
            ids.push(job.id.0);
            counts.push(i32::try_from(jobs.len()).unwrap_or(i32::MAX));
            policies.push(policy.as_str());
            for (place, parent) in (0..).zip(jobs) {
                children.push(job.id.0);
                places.push(place);
                parents.push(parent.0);
                self.0.entry(parent.0).or_insert_with(|| job.tenant.clone());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        line.execute(sqlx::query(NAME_PARENTS).bind(children).bind(places).bind(parents)).await?;
        let (least, greatest) = bounds(&ids);
        let wait = sqlx::query(WAIT).bind(ids).bind(counts).bind(policies).bind(least).bind(greatest);
        line.execute(wait).await.map(drop)
    }

    /// Ties them to their children, as one of the last statements of the transaction: until it ends, they cannot. Answers those that
    /// there are none of.
    pub(super) async fn tie(self, line: &mut Line) -> Result<HashSet<JobId>> {
        let all: Vec<(Uuid, String)> = self.0.into_iter().collect();
        let mut unknown = HashSet::new();
        for page in all.chunks(PAGE) {
            let ids: Vec<Uuid> = page.iter().map(|(id, _)| *id).collect();
            let tenants: Vec<String> = page.iter().map(|(_, tenant)| tenant.clone()).collect();
            let (least, greatest) = bounds(&ids);
            unknown.extend(ids.iter().map(|id| JobId(*id)));
            let lock = sqlx::query(LOCK_PARENTS).bind(ids).bind(tenants).bind(least).bind(greatest);
            let (mut live, mut ended, mut states) = (Vec::new(), Vec::new(), Vec::new());
            for row in &line.rows(lock).await? {
                let (id, state): (Uuid, State) = (get(row, "id")?, parse("state", get(row, "state")?)?);
                unknown.remove(&JobId(id));
                if state.is_final() {
                    ended.push(id);
                    states.push(state.as_str());
                } else {
                    live.push(id);
                }
            }
            if !live.is_empty() {
                line.execute(sqlx::query(FOLLOW).bind(live).bind(least).bind(greatest)).await?;
            }
            if !ended.is_empty() {
                line.execute(sqlx::query(ENDED_BEFORE).bind(ended).bind(states)).await?;
            }
        }
        Ok(unknown)
    }
}

/// Notes the ends of linked jobs that are followed, in the very transaction that ended them.
pub(super) async fn ended(line: &mut Line, ended: &[Uuid]) -> Result<()> {
    let (least, greatest) = bounds(ended);
    line.execute(sqlx::query(ENDED).bind(ended.to_vec()).bind(least).bind(greatest)).await.map(drop)
}

#[async_trait]
impl Chains for PostgresStore {
    async fn unknown(&self, tenant: &str, jobs: &[JobId]) -> Result<Vec<JobId>> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let (least, greatest) = bounds(&ids);
        let known = sqlx::query(KNOWN).bind(ids).bind(least).bind(greatest).bind(tenant);
        let rows = self.patient().await?.rows(known).await?;
        let known = rows.iter().map(|row| Ok(JobId(get(row, "id")?))).collect::<Result<HashSet<_>>>()?;
        Ok(jobs.iter().filter(|job| !known.contains(job)).copied().collect())
    }

    async fn release(&self, limit: u32) -> Result<Released> {
        let mut line = self.patient().await?;
        let row = line.row(sqlx::query(LOOK)).await?.ok_or_else(no_answer)?;
        if !get::<bool>(&row, "some")? {
            return Ok(Released::default());
        }
        line.begin("BEGIN").await?;
        let released = release(&mut line, limit).await?;
        line.commit().await?;
        Ok(released)
    }

    async fn parents(&self, job: JobId, bytes: u64) -> Result<Vec<ParentEnd>> {
        let most = i64::try_from(bytes).unwrap_or(i64::MAX);
        let rows = self.patient().await?.rows(sqlx::query(PARENTS).bind(job.0).bind(most)).await?;
        rows.iter().map(parent_end).collect()
    }
}

async fn release(line: &mut Line, limit: u32) -> Result<Released> {
    line.execute(sqlx::query(TAKE_TURNS)).await?;
    let told = line.rows(sqlx::query(TELL).bind(ENDS).bind(i64::from(limit))).await?;
    line.execute(sqlx::query(FORGET).bind(ENDS)).await?;
    let mut released = Released { more: !told.is_empty(), ..Released::default() };
    let mut children: BTreeMap<Uuid, Option<Failure>> = BTreeMap::new();
    for row in &told {
        let failure = children.entry(get(row, "job_id")?).or_default();
        let Some(policy) = get::<Option<&str>>(row, "after_policy")? else { continue };
        let policy: AfterPolicy = parse("after_policy", policy)?;
        if failure.is_none() {
            *failure = policy.forsakes(JobId(get(row, "parent_id")?), parse("outcome", get(row, "outcome")?)?);
        }
    }
    if children.is_empty() {
        return Ok(released);
    }
    let ids: Vec<Uuid> = children.keys().copied().collect();
    let (least, greatest) = bounds(&ids);
    let text = |of: fn(&Failure) -> &str| children.values().map(|f| f.as_ref().map(|f| storable(of(f)))).collect();
    let (codes, messages): (Vec<_>, Vec<_>) = (text(|failure| &failure.code), text(|failure| &failure.message));
    let rows = sqlx::query(RELEASE).bind(ids).bind(codes).bind(messages).bind(least).bind(greatest);
    let mut linked = Vec::new();
    for row in &line.rows(rows).await? {
        let (id, state): (Uuid, State) = (get(row, "id")?, parse("state", get(row, "state")?)?);
        if state == State::Scheduled {
            released.proceeded += 1;
            continue;
        }
        released.cancelled.push(JobId(id));
        if get(row, "linked")? {
            linked.push(id);
        }
    }
    consequences::follow(line, linked).await?;
    Ok(released)
}

fn parent_end(row: &PgRow) -> Result<ParentEnd> {
    let result: Option<String> = get(row, "result")?;
    let error: Option<&str> = get(row, "error")?;
    Ok(ParentEnd {
        job: JobId(get(row, "parent_id")?),
        state: parse("outcome", get(row, "outcome")?)?,
        result: result.map(|text| raw("result", text)).transpose()?,
        error: error.map(|text| json("error", text)).transpose()?,
        left_out: get(row, "left_out")?,
    })
}
