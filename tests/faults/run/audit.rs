//! The end of a run: every job that was accepted has come to one end, which it may have come to; and the ledger agrees.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row as _};

use super::links::{Known, Links};
use super::load::{ASKED_TO_FAIL, HOG, Promise, Sighting};

const JOBS: &str = "SELECT id::text, kind, state::text, attempt, max_attempts, losses, error->>'code' AS code,
    batch_id::text AS batch, extract(epoch FROM fire_at)::bigint AS fire_at,
    extract(epoch FROM started_at)::float8 AS started_at, extract(epoch FROM finished_at)::float8 AS finished_at,
    coalesce((payload->>'fail_attempts')::integer, 0) AS fail_attempts,
    coalesce((SELECT array_agg(h->>'code') FROM jsonb_array_elements(history) h), '{}') AS history FROM offload.jobs";

const LEDGER: &str = "SELECT job::text, attempt FROM fault_ledger";

/// Workers that were taken for dead.
const REAPED: &str = "SELECT pid, id::text FROM offload.workers WHERE reaped_at IS NOT NULL";

/// The codes of failures that nobody asked for.
const WORKER_LOST: &str = "worker_lost";
const AWAY: &str = "database_unavailable";
/// And that of an end without any attempt.
const GAVE_WAY: &str = "parent_not_succeeded";

/// The kind that writes to the ledger.
const LEDGER_KIND: &str = "fault.ledger";

/// Losses after which a job is given up.
const MOST_LOSSES: i32 = 3;

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) state: String,
    /// Its batch.
    pub(super) batch: Option<String>,
    /// The fire of the schedule that it is of, in seconds.
    pub(super) fire_at: Option<i64>,
    /// When its last attempt started, and when it became final, in seconds.
    started_at: Option<f64>,
    finished_at: Option<f64>,
    /// So many attempts fail on demand.
    fail_attempts: i32,
    attempt: i32,
    max_attempts: i32,
    losses: i32,
    code: Option<String>,
    /// The codes of its failed attempts.
    history: Vec<String>,
}

impl Row {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            state: row.try_get("state")?,
            batch: row.try_get("batch")?,
            fire_at: row.try_get("fire_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            fail_attempts: row.try_get("fail_attempts")?,
            attempt: row.try_get("attempt")?,
            max_attempts: row.try_get("max_attempts")?,
            losses: row.try_get("losses")?,
            code: row.try_get("code")?,
            history: row.try_get("history")?,
        })
    }
}

/// What went wrong in a run, as far as it bears on what jobs may come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// Process ids of workers that were killed, or may have been taken for dead.
    pub(crate) doomed: Vec<u32>,
    /// Process ids of workers that were told to end.
    pub(crate) left: Vec<u32>,
    /// Whether the database, or the way to it, was ever away.
    pub(crate) database_was_away: bool,
}

/// What an audit counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Audited {
    /// Jobs that clients submitted one by one.
    pub(crate) accepted: u64,
    pub(crate) batches: u64,
    /// Of the schedule.
    pub(crate) fires: u64,
    /// Ends that were told of.
    pub(crate) told: u64,
    pub(crate) lost: u64,
    pub(crate) ledger_missing: u64,
    pub(crate) ledger_doubled: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// Of the failed ones.
    pub(crate) worker_lost: u64,
    /// Workers that were taken for dead.
    pub(crate) reaped: u64,
}

impl Audited {
    fn count(&mut self, job: &Row) {
        match job.state.as_str() {
            "succeeded" => self.succeeded += 1,
            "failed" => self.failed += 1,
            "cancelled" => self.cancelled += 1,
            _ => self.lost += 1,
        }
        self.worker_lost += u64::from(job.code.as_deref() == Some(WORKER_LOST));
    }
}

/// Everything that an audit looks at.
pub(crate) struct Books {
    jobs: HashMap<String, Row>,
    ledger: Vec<(String, i32)>,
    reaped: Vec<(i64, String)>,
    links: Links,
}

impl Books {
    /// Reads them.
    pub(crate) async fn read(database_url: &str) -> sqlx::Result<Self> {
        let mut connection = PgConnection::connect(database_url).await?;
        let jobs = sqlx::query(JOBS).fetch_all(&mut connection).await?;
        let jobs = jobs.iter().map(Row::read).collect::<sqlx::Result<Vec<_>>>()?;
        let ledger = sqlx::query_as(LEDGER).fetch_all(&mut connection).await?;
        let reaped = sqlx::query_as(REAPED).fetch_all(&mut connection).await?;
        let links = Links::read(&mut connection).await?;
        connection.close().await?;
        Ok(Self { jobs: jobs.into_iter().map(|job| (job.id.clone(), job)).collect(), ledger, reaped, links })
    }

    /// Holds them against what was promised; answers what to report, and what is wrong.
    pub(crate) fn audit(&self, known: &Known<'_>, around: &Circumstances) -> (Audited, Vec<String>) {
        let mut audited = Audited {
            accepted: known.promises.len() as u64,
            batches: known.batches.len() as u64,
            fires: self.links.fires(),
            told: self.links.told(),
            reaped: self.reaped.len() as u64,
            ..Audited::default()
        };
        let mut findings = Vec::new();
        for promise in known.promises {
            let Some(job) = self.jobs.get(&promise.id) else {
                audited.lost += 1;
                findings.push(format!("job {} was accepted, and is not there", promise.id));
                continue;
            };
            audited.count(job);
            if (job.kind.as_str(), job.fail_attempts.cast_unsigned()) != (promise.wish.kind, promise.wish.fail_attempts)
            {
                findings.push(format!("job {job:?} is not what was asked for: {promise:?}"));
            }
            let gives_way = self.gives_way(promise);
            if gives_way && job.state != "cancelled" {
                findings.push(format!("one that job {} runs after has not succeeded: {job:?}", job.id));
            }
            if self.parents(promise).any(|parent| job.started_at.is_some_and(|at| parent.finished_at > Some(at))) {
                findings.push(format!("job {} started before those that it runs after had ended: {job:?}", job.id));
            }
            findings.extend(around.wrong_with(job, promise.cancelled || gives_way));
        }
        let promised: HashSet<_> = known.promises.iter().map(|promise| &promise.id).collect();
        let explained = self.links.explained(&self.jobs, known);
        for job in self.jobs.values().filter(|job| !promised.contains(&job.id)) {
            if !explained.contains(&job.id) {
                findings.push(format!("job {} is there, and no client was told so", job.id));
            }
            audited.count(job);
            findings.extend(around.wrong_with(job, false));
        }
        findings.extend(self.links.findings(&self.jobs, known));
        self.audit_ledger(&mut audited, &mut findings);
        self.audit_reaped(around, &mut findings);
        (audited, findings)
    }

    /// The jobs that a job runs after.
    fn parents(&self, promise: &Promise) -> impl Iterator<Item = &Row> {
        promise.wish.after.iter().filter_map(|parent| self.jobs.get(parent))
    }

    /// Whether a job is to be cancelled because of another.
    fn gives_way(&self, promise: &Promise) -> bool {
        promise.wish.gives_way && self.parents(promise).any(|parent| parent.state != "succeeded")
    }

    fn audit_ledger(&self, audited: &mut Audited, findings: &mut Vec<String>) {
        let mut rows: HashMap<&str, Vec<i32>> = HashMap::new();
        self.ledger.iter().for_each(|(job, attempt)| rows.entry(job).or_default().push(*attempt));
        for job in self.jobs.values() {
            let written = rows.remove(job.id.as_str()).unwrap_or_default();
            let due = job.kind == LEDGER_KIND && job.state == "succeeded";
            let expected = if due { vec![job.attempt] } else { Vec::new() };
            audited.ledger_missing += u64::from(written.is_empty() && due);
            audited.ledger_doubled += u64::from(written.len() > expected.len());
            if written != expected {
                findings.push(format!("the ledger has the attempts {written:?}, not {expected:?}, of {job:?}"));
            }
        }
        findings.extend(rows.keys().map(|job| format!("the ledger has job {job}, which is not there")));
    }

    fn audit_reaped(&self, around: &Circumstances, findings: &mut Vec<String>) {
        for (pid, worker) in &self.reaped {
            let has = |pids: &[u32]| pids.iter().any(|known| i64::from(*known) == *pid);
            // One that was told to end, and could not say goodbye to a database that was away.
            let excused = has(&around.doomed) || (has(&around.left) && around.database_was_away);
            if !excused {
                findings.push(format!("worker {worker} (process {pid}) was taken for dead, and was not"));
            }
        }
    }

    /// What clients saw of final jobs is what is there now.
    pub(crate) fn confirm(&self, sightings: &[Sighting]) -> Vec<String> {
        let differs = |sighting: &&Sighting| {
            let seen = |member: &str| sighting.job[member].clone();
            let now =
                self.jobs.get(&sighting.id).map(|job| (Value::from(job.state.as_str()), Value::from(job.attempt)));
            now != Some((seen("state"), seen("attempt")))
        };
        let changed = sightings.iter().filter(differs);
        changed
            .map(|sighting| format!("job {} was seen final, and has changed since: {}", sighting.id, sighting.job))
            .collect()
    }
}

impl Circumstances {
    /// What is wrong with how a job stands, if anything.
    fn wrong_with(&self, job: &Row, cancel_asked: bool) -> Option<String> {
        self.complaint(job, cancel_asked).map(|what| format!("job {what}: {job:?}"))
    }

    fn complaint(&self, job: &Row, cancel_asked: bool) -> Option<&'static str> {
        let failures = job.history.iter().filter(|code| *code != GAVE_WAY).count();
        let failures = i32::try_from(failures).unwrap_or(i32::MAX);
        let asked = job.history.iter().filter(|code| *code == ASKED_TO_FAIL).count();
        if asked > job.fail_attempts as usize {
            return Some("failed more often on demand than was asked for");
        }
        let legal = |code: &String| match code.as_str() {
            ASKED_TO_FAIL => true,
            AWAY => self.database_was_away,
            GAVE_WAY => job.state == "cancelled" && job.attempt == 0,
            // Only the end can be this.
            WORKER_LOST => job.code.as_deref() == Some(WORKER_LOST) && job.state != "succeeded",
            _ => false,
        };
        if !job.history.iter().all(legal) {
            return Some("has failed for no reason");
        }
        if job.losses > MOST_LOSSES || job.losses as usize > self.doomed.len() + self.left.len() {
            return Some("was lost more often than workers were");
        }
        let spent = match job.state.as_str() {
            "succeeded" => job.attempt == failures + 1 && job.attempt > job.fail_attempts,
            "failed" => job.attempt == failures,
            "cancelled" => job.attempt == failures || job.attempt == failures + 1,
            _ => return Some("is not final"),
        };
        if !spent || job.attempt > job.max_attempts {
            return Some("has spent attempts that nobody knows of");
        }
        if job.kind == HOG && job.code.as_deref() != Some(WORKER_LOST) {
            return Some("should have killed its workers");
        }
        if job.state == "cancelled" && !cancel_asked {
            return Some("is cancelled, and nobody asked for that");
        }
        let reason = match job.code.as_deref() {
            _ if job.state != "failed" => true,
            Some(ASKED_TO_FAIL | AWAY) => job.attempt == job.max_attempts,
            Some(WORKER_LOST) if job.max_attempts == 1 => job.losses == 1,
            Some(WORKER_LOST) => job.losses == MOST_LOSSES,
            _ => false,
        };
        (!reason).then_some("has failed before its time")
    }
}

/// Whether a job with a single attempt was started again while, for all that anybody knew, its handler still ran. `starts` is
/// what handlers noted, in order.
pub(crate) fn started_twice(starts: &str, promises: &[Promise]) -> Vec<String> {
    let once: HashSet<_> = promises.iter().filter(|p| p.wish.max_attempts == 1).map(|p| p.id.as_str()).collect();
    let mut running: HashMap<&str, &str> = HashMap::new();
    let mut findings = Vec::new();
    for line in starts.lines() {
        let mut words = line.split(' ');
        let (Some(what), Some(job), Some(_attempt), Some(process)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            findings.push(format!("a handler noted {line:?}"));
            continue;
        };
        if !once.contains(job) {
            continue;
        }
        match what {
            "end" => _ = running.remove(job),
            _ => {
                if let Some(other) = running.insert(job, process) {
                    findings
                        .push(format!("job {job} has one attempt, and started in {process} while it ran in {other}"));
                }
            }
        }
    }
    findings
}
