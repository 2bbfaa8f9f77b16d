//! Unique keys: which of several jobs takes one, and what becomes of the others.
//!
//! A row of the table of keys lasts as long as its job is live: the transaction that ends the job takes it away. Who comes for a
//! key inserts a row, and by that waits for whoever is about to take it, or to give it back. Rows of jobs are locked before
//! rows of keys, these in the order of tenant, kind and key, byte by byte, and rows of batches after them: so no two
//! transactions wait for each other. What turns out otherwise on the way is begun anew behind a savepoint, which lets go of
//! the locks.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::{Line, Statement};
use super::error::Origin;
use super::rows::get;
use super::{consequences, intake, reads};
use crate::job::{JobId, NewJob, OnConflict, State, UniqueKey};
use crate::store::audit::UniqueUse;
use crate::store::row::parse;
use crate::store::{Accepted, Error, IdempotencyKey, Result};

/// Final ones may be among them: their keys are free by the time that their rows can be locked.
pub(super) const LOCK_HOLDERS: &str = "-- offload: lock jobs that have unique keys
SELECT s.n, j.id, j.state::text
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS s (tenant, kind, key, n)
JOIN offload.unique_keys k ON k.tenant = s.tenant AND k.kind = s.kind AND k.key = s.key JOIN offload.jobs j ON j.id = k.job_id
ORDER BY j.id FOR UPDATE OF j";

pub(super) const HOLDERS: &str = "-- offload: jobs that have unique keys
SELECT s.n, j.id, j.state::text
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS s (tenant, kind, key, n)
JOIN offload.unique_keys k ON k.tenant = s.tenant AND k.kind = s.kind AND k.key = s.key JOIN offload.jobs j ON j.id = k.job_id";

/// A row that is there is locked, and goes over where its job has just been cancelled for that.
pub(super) const TAKE: &str = "-- offload: take unique keys
INSERT INTO offload.unique_keys AS k (tenant, kind, key, job_id)
SELECT s.* FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS s
ON CONFLICT (tenant, kind, key) DO UPDATE SET job_id = excluded.job_id WHERE k.job_id = ANY ($5)
RETURNING job_id";

pub(super) const RELEASE: &str = "-- offload: release unique keys
WITH held AS MATERIALIZED (
    SELECT k.job_id FROM offload.unique_keys k WHERE k.job_id = ANY ($1)
    ORDER BY k.tenant COLLATE \"C\", k.kind COLLATE \"C\", k.key COLLATE \"C\" FOR UPDATE
)
DELETE FROM offload.unique_keys k USING held h WHERE k.job_id = h.job_id";

/// The keys of idempotency that jobs were written under, first of all.
pub(super) const REMEMBER: &str = "-- offload: take idempotency keys
INSERT INTO offload.idempotency_keys AS k (tenant, key, fingerprint, job_id, created_at)
SELECT s.*, statement_timestamp() FROM unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[]) AS s (tenant, key, fingerprint, job_id)
ORDER BY s.tenant, s.key
ON CONFLICT (tenant, key) DO UPDATE SET created_at = k.created_at
RETURNING tenant, key, fingerprint, job_id";

/// A request that was answered with another job is answered so again.
pub(super) const LEAD: &str = "-- offload: lead idempotency keys to other jobs
UPDATE offload.idempotency_keys k SET job_id = s.job_id
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS s (tenant, key, job_id) WHERE k.tenant = s.tenant AND k.key = s.key";

pub(super) const FORGET: &str = "-- offload: forget idempotency keys
DELETE FROM offload.idempotency_keys k USING unnest($1::text[], $2::text[]) AS s (tenant, key)
WHERE k.tenant = s.tenant AND k.key = s.key";

/// By the table of keys, and by the rows of jobs.
pub(super) const AUDIT: &str = "-- offload: audit, unique keys
SELECT u.tenant, u.kind, u.key, (array_agg(u.holder) FILTER (WHERE u.holder IS NOT NULL))[1] AS holder,
       coalesce(array_agg(u.live ORDER BY u.live) FILTER (WHERE u.live IS NOT NULL), '{}') AS live
FROM (
    SELECT k.tenant, k.kind, k.key, k.job_id AS holder, NULL::uuid AS live FROM offload.unique_keys k
    UNION ALL
    SELECT j.tenant, j.kind, j.unique_key, NULL, j.id FROM offload.jobs j
    WHERE j.unique_key IS NOT NULL AND j.state IN ('scheduled', 'queued', 'running')
) u
WHERE (u.tenant, u.kind, u.key) > ($1, $2, $3)
GROUP BY u.tenant, u.kind, u.key ORDER BY u.tenant, u.kind, u.key LIMIT $4";

/// A job that comes for a key.
pub(super) struct Contender {
    job: JobId,
    tenant: String,
    kind: String,
    unique: UniqueKey,
}

impl Contender {
    /// A job, if it comes for one.
    pub(super) fn of(job: &NewJob) -> Option<Self> {
        let unique = job.unique.clone()?;
        Some(Self { job: job.id, tenant: job.tenant.clone(), kind: job.kind.clone(), unique })
    }

    /// Which job.
    pub(super) fn job(&self) -> JobId {
        self.job
    }

    /// What it comes for.
    pub(super) fn unique(&self) -> &UniqueKey {
        &self.unique
    }

    /// Its kind.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    fn key(&self) -> Key<'_> {
        Key { tenant: &self.tenant, kind: &self.kind, key: &self.unique.key }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'a> {
    tenant: &'a str,
    kind: &'a str,
    key: &'a str,
}

/// What becomes of one that came for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes the key, from this one if another had it.
    Takes(Option<JobId>),
    /// This one has it, and is the answer.
    Matched(JobId),
    /// This one has it, and keeps it.
    Held(JobId),
}

/// What came of it.
#[derive(Default)]
pub(super) struct Settled {
    standings: HashMap<JobId, Standing>,
    /// Jobs that this transaction has cancelled. What follows from their ends is left to the caller, since it locks more.
    pub(super) ended: Vec<Uuid>,
    /// Of those that came: whose key one that came later takes.
    pub(super) superseded: Vec<Uuid>,
}

impl Settled {
    /// What becomes of a job; `None` if it did not come for a key.
    pub(super) fn standing(&self, job: JobId) -> Option<Standing> {
        self.standings.get(&job).copied()
    }
}

/// Gives out keys, in a transaction that is open.
pub(super) async fn settle(line: &mut Line, contenders: &[Contender]) -> Result<Settled> {
    if contenders.is_empty() {
        return Ok(Settled::default());
    }
    let mut contests: BTreeMap<Key<'_>, Vec<&Contender>> = BTreeMap::new();
    for contender in contenders {
        contests.entry(contender.key()).or_default().push(contender);
    }
    line.script(Origin::Offload, "SAVEPOINT unique_keys".to_owned()).await?;
    loop {
        if let Some(settled) = attempt(line, &contests).await? {
            return Ok(settled);
        }
        line.script(Origin::Offload, "ROLLBACK TO SAVEPOINT unique_keys".to_owned()).await?;
    }
}

/// `None` where somebody else was faster on the way, and all is to be looked at again.
async fn attempt(line: &mut Line, contests: &BTreeMap<Key<'_>, Vec<&Contender>>) -> Result<Option<Settled>> {
    let replaces = |group: &Vec<&Contender>| group.iter().any(|c| c.unique.on_conflict == OnConflict::Replace);
    let wanted: Vec<Key<'_>> = contests.iter().filter(|(_, group)| replaces(group)).map(|(key, _)| *key).collect();
    let replaced = vacate(line, &wanted).await?;

    let takers: Vec<JobId> = contests.values().map(|group| taker(group)).collect();
    let keys: Vec<Key<'_>> = contests.keys().copied().collect();
    let mut settled = Settled { ended: replaced.values().map(|job| job.0).collect(), ..Settled::default() };
    let taken = take(line, &keys, &takers, settled.ended.clone()).await?;
    let lost = keys.iter().zip(&takers).filter(|(_, taker)| !taken.contains(taker));
    let lost: Vec<Key<'_>> = lost.map(|(key, _)| *key).collect();
    let holders = holders(line, HOLDERS, &lost).await?;

    for ((key, group), taker) in contests.iter().zip(&takers) {
        let mut standings = if taken.contains(taker) {
            contest(None, group)
        } else {
            match holders.get(key) {
                // It was taken meanwhile by one that can be replaced.
                Some((_, State::Scheduled | State::Queued)) if replaces(group) => return Ok(None),
                Some((holder, _)) => contest(Some(*holder), group),
                None => return Err(Error::Corrupt(format!("the job that has the unique key {:?} is gone", key.key))),
            }
        };
        if let Some((_, first @ Standing::Takes(None))) = standings.first_mut() {
            *first = Standing::Takes(replaced.get(key).copied());
        }
        let superseded =
            standings.iter().filter(|(job, standing)| matches!(standing, Standing::Takes(_)) && job != taker);
        settled.superseded.extend(superseded.map(|(job, _)| job.0));
        settled.standings.extend(standings);
    }
    Ok(Some(settled))
}

/// What becomes of jobs that come for one key, in their order, where this job has it and is not to be replaced.
fn contest(before: Option<JobId>, group: &[&Contender]) -> Vec<(JobId, Standing)> {
    let mut holder = before;
    let standing = |contender: &&Contender| {
        let standing = match (holder, contender.unique.on_conflict) {
            (Some(job), OnConflict::Return) => Standing::Matched(job),
            (Some(job), OnConflict::Refuse) => Standing::Held(job),
            (Some(job), OnConflict::Replace) if holder == before => Standing::Held(job),
            (had, _) => {
                holder = Some(contender.job);
                Standing::Takes(had)
            }
        };
        (contender.job, standing)
    };
    group.iter().map(standing).collect()
}

/// Who has the key in the end, if it is free.
fn taker(group: &[&Contender]) -> JobId {
    let replacing = group.iter().rev().find(|contender| contender.unique.on_conflict == OnConflict::Replace);
    replacing.unwrap_or(&group[0]).job
}

/// Cancels the jobs that have keys, but for those that run. Answers which.
async fn vacate<'a>(line: &mut Line, keys: &[Key<'a>]) -> Result<HashMap<Key<'a>, JobId>> {
    let locked = holders(line, LOCK_HOLDERS, keys).await?;
    let waits = |state: State| matches!(state, State::Scheduled | State::Queued);
    let waiting: HashMap<_, _> =
        locked.into_iter().filter(|(_, (_, state))| waits(*state)).map(|(key, (job, _))| (key, job)).collect();
    if !waiting.is_empty() {
        let ids: Vec<Uuid> = waiting.values().map(|job| job.0).collect();
        line.execute(sqlx::query(reads::CANCEL_LINKED).bind(ids)).await?;
    }
    Ok(waiting)
}

/// Which jobs have these keys, and where they stand.
async fn holders<'a>(
    line: &mut Line,
    statement: &'static str,
    keys: &[Key<'a>],
) -> Result<HashMap<Key<'a>, (JobId, State)>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let [tenants, kinds, names] = columns(keys);
    let rows = line.rows(sqlx::query(statement).bind(tenants).bind(kinds).bind(names)).await?;
    let holder = |row: &PgRow| {
        let n = usize::try_from(get::<i64>(row, "n")? - 1).ok();
        let key = n.and_then(|n| keys.get(n)).ok_or_else(|| Error::Corrupt("a key that was not asked for".into()))?;
        Ok((*key, (JobId(get(row, "id")?), parse("state", get(row, "state")?)?)))
    };
    rows.iter().map(holder).collect()
}

/// Takes what is free or was had by jobs that have ended, in the order of the keys. Answers which jobs have one now.
async fn take(line: &mut Line, keys: &[Key<'_>], takers: &[JobId], ended: Vec<Uuid>) -> Result<HashSet<JobId>> {
    let [tenants, kinds, names] = columns(keys);
    let jobs: Vec<Uuid> = takers.iter().map(|job| job.0).collect();
    let rows = line.rows(sqlx::query(TAKE).bind(tenants).bind(kinds).bind(names).bind(jobs).bind(ended)).await?;
    rows.iter().map(|row| Ok(JobId(get(row, "job_id")?))).collect()
}

fn columns(keys: &[Key<'_>]) -> [Vec<String>; 3] {
    let column = |part: fn(&Key<'_>) -> String| keys.iter().map(part).collect();
    [column(|key| key.tenant.to_owned()), column(|key| key.kind.to_owned()), column(|key| key.key.to_owned())]
}

/// What the auditor sees of them; see [`crate::store::audit::Audit::unique_keys`].
pub(super) async fn used(line: &mut Line, after: Option<&UniqueUse>, limit: u32) -> Result<Vec<UniqueUse>> {
    let after = after.map_or(["", "", ""], |used| [&used.tenant, &used.kind, &used.key]);
    let list = after.into_iter().fold(sqlx::query(AUDIT), |list, part| list.bind(part)).bind(i64::from(limit));
    let used = |row: &PgRow| {
        Ok(UniqueUse {
            tenant: get(row, "tenant")?,
            kind: get(row, "kind")?,
            key: get(row, "key")?,
            holder: get::<Option<_>>(row, "holder")?.map(JobId),
            live: get::<Vec<Uuid>>(row, "live")?.into_iter().map(JobId).collect(),
        })
    };
    line.rows(list).await?.iter().map(used).collect()
}

/// Gives back the keys of jobs that this very transaction ended.
pub(super) async fn release(line: &mut Line, ended: &[Uuid]) -> Result<()> {
    line.execute(sqlx::query(RELEASE).bind(ended.to_vec())).await.map(drop)
}

/// Accepts jobs of which some come for keys, in a transaction that is open.
pub(super) async fn accept(line: &mut Line, jobs: &[&NewJob]) -> Result<Vec<Accepted>> {
    // One whose idempotency key has come before among them is answered as that one is.
    let mut firsts: HashMap<(&str, &str), &NewJob> = HashMap::new();
    let mut leading: Vec<&NewJob> = Vec::with_capacity(jobs.len());
    for job in jobs.iter().copied() {
        let first = job.idempotency.as_ref().map(|key| *firsts.entry((&job.tenant, &key.key)).or_insert(job));
        if first.is_none_or(|first| first.id == job.id) {
            leading.push(job);
        }
    }
    let mut answers = remember(line, &leading).await?;
    leading.retain(|job| !answers.contains_key(&job.id));

    let contenders: Vec<Contender> = leading.iter().filter_map(|job| Contender::of(job)).collect();
    let settled = settle(line, &contenders).await?;
    let (mut led, mut forgotten) = (Vec::new(), Vec::new());
    leading.retain(|job| {
        let answer = match settled.standing(job.id) {
            None | Some(Standing::Takes(_)) => return true,
            Some(Standing::Matched(other)) => {
                led.push((*job, other));
                Accepted::Matched(other)
            }
            Some(Standing::Held(other)) => {
                forgotten.push(*job);
                Accepted::Held(other)
            }
        };
        answers.insert(job.id, answer);
        false
    });
    let written = if leading.is_empty() { Vec::new() } else { intake::write(line, &leading).await? };
    for (job, accepted) in leading.iter().zip(written) {
        answers.insert(job.id, with_replaced(accepted, settled.standing(job.id)));
    }
    lead(line, &led, &forgotten).await?;
    if !settled.superseded.is_empty() {
        reads::cancel_all(line, settled.superseded).await?;
    }
    consequences::follow(line, settled.ended).await?;

    let answer = |job: &NewJob| {
        let first = job.idempotency.as_ref().and_then(|key| Some((firsts.get(&(&job.tenant, &key.key))?, key)));
        match first {
            Some((first, key)) if first.id != job.id => Some(again(first, key, answers.get(&first.id)?)),
            _ => answers.get(&job.id).cloned(),
        }
    };
    jobs.iter().map(|job| answer(job).ok_or_else(|| intake::lost(job))).collect()
}

fn with_replaced(accepted: Accepted, standing: Option<Standing>) -> Accepted {
    match (accepted, standing) {
        (Accepted::New { created_at, run_at, state, dispatch, .. }, Some(Standing::Takes(replaced))) => {
            Accepted::New { created_at, run_at, state, dispatch, replaced }
        }
        (accepted, _) => accepted,
    }
}

/// What a job is answered whose idempotency key was that of `first` before.
fn again(first: &NewJob, key: &IdempotencyKey, answer: &Accepted) -> Accepted {
    match answer {
        _ if first.idempotency.as_ref() != Some(key) => Accepted::KeyReused,
        Accepted::New { .. } => Accepted::Repeated(first.id),
        Accepted::Matched(other) => Accepted::Repeated(*other),
        other => other.clone(),
    }
}

/// Takes the idempotency keys of jobs. Answers those that came before.
async fn remember(line: &mut Line, jobs: &[&NewJob]) -> Result<HashMap<JobId, Accepted>> {
    let keyed: Vec<(&NewJob, &IdempotencyKey)> =
        jobs.iter().filter_map(|job| Some((*job, job.idempotency.as_ref()?))).collect();
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = sqlx::query(REMEMBER)
        .bind(keyed.iter().map(|(job, _)| job.tenant.clone()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|(_, key)| key.key.clone()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|(_, key)| key.fingerprint.to_vec()).collect::<Vec<_>>())
        .bind(keyed.iter().map(|(job, _)| job.id.0).collect::<Vec<_>>());
    let rows = line.rows(statement).await?;
    let mut found: HashMap<(&str, &str), &PgRow> = HashMap::with_capacity(rows.len());
    for row in &rows {
        found.insert((get(row, "tenant")?, get(row, "key")?), row);
    }
    let mut before = HashMap::new();
    for (job, key) in keyed {
        let row = found.get(&(job.tenant.as_str(), key.key.as_str())).ok_or_else(|| intake::lost(job))?;
        if get::<Uuid>(row, "job_id")? != job.id.0 {
            before.insert(job.id, intake::repeated(row, "job_id", key)?);
        }
    }
    Ok(before)
}

/// The idempotency keys of jobs that were not written lead to those that were answered for them, or nowhere.
async fn lead(line: &mut Line, led: &[(&NewJob, JobId)], forgotten: &[&NewJob]) -> Result<()> {
    fn keys<'a>(jobs: impl Iterator<Item = &'a NewJob>, statement: &'static str) -> Option<Statement<'static>> {
        let keys = jobs.filter_map(|job| Some((job.tenant.clone(), job.idempotency.as_ref()?.key.clone())));
        let (tenants, keys): (Vec<_>, Vec<_>) = keys.unzip();
        (!keys.is_empty()).then(|| sqlx::query(statement).bind(tenants).bind(keys))
    }
    if let Some(statement) = keys(led.iter().map(|(job, _)| *job), LEAD) {
        let to = led.iter().filter(|(job, _)| job.idempotency.is_some()).map(|(_, other)| other.0);
        line.execute(statement.bind(to.collect::<Vec<_>>())).await?;
    }
    if let Some(statement) = keys(forgotten.iter().copied(), FORGET) {
        line.execute(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use OnConflict::{Refuse, Replace, Return};

    fn group(policies: &[OnConflict]) -> Vec<Contender> {
        let contender = |on_conflict: &OnConflict| Contender {
            job: JobId::new(),
            tenant: "t".into(),
            kind: "k".into(),
            unique: UniqueKey { key: "u".into(), on_conflict: *on_conflict },
        };
        policies.iter().map(contender).collect()
    }

    /// What becomes of each, by its place in the group; 9 stands for the job that has the key before.
    fn outcome(taken: bool, policies: &[OnConflict]) -> Vec<(&'static str, Option<usize>)> {
        let (group, before) = (group(policies), JobId::new());
        let group: Vec<&Contender> = group.iter().collect();
        let place = |job: JobId| group.iter().position(|contender| contender.job == job).unwrap_or(9);
        let standings = contest(taken.then_some(before), &group);
        assert!(standings.iter().map(|(job, _)| *job).eq(group.iter().map(|contender| contender.job)));
        let last = standings.iter().rev().find(|(_, standing)| matches!(standing, Standing::Takes(_)));
        assert!(taken || last.is_some_and(|(job, _)| *job == taker(&group)), "{policies:?}");
        let shown = |(_, standing): &(JobId, Standing)| match standing {
            Standing::Takes(had) => ("takes", had.map(place)),
            Standing::Matched(job) => ("matched", Some(place(*job))),
            Standing::Held(job) => ("held", Some(place(*job))),
        };
        standings.iter().map(shown).collect()
    }

    #[test]
    fn of_several_that_come_at_once_the_first_takes_a_free_key_unless_a_later_one_replaces_it() {
        assert_eq!(
            outcome(false, &[Return, Return, Refuse]),
            [("takes", None), ("matched", Some(0)), ("held", Some(0))]
        );
        let replacing = outcome(false, &[Refuse, Replace, Return, Replace, Refuse]);
        let expected =
            [("takes", None), ("takes", Some(0)), ("matched", Some(1)), ("takes", Some(1)), ("held", Some(3))];
        assert_eq!(replacing, expected);
    }

    #[test]
    fn who_has_the_key_and_runs_keeps_it() {
        let expected = [("matched", Some(9)), ("held", Some(9)), ("held", Some(9))];
        assert_eq!(outcome(true, &[Return, Refuse, Replace]), expected);
    }
}
