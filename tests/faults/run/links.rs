//! What hangs on jobs at the end of a run: the counters and follow-ups of batches, the fires of the schedule, and callbacks.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::PgConnection;

use super::audit::Row;
use super::load::{Promise, PromisedBatch};
use super::receiver::Receiver;

const BATCHES: &str =
    "SELECT id::text, total, succeeded, failed, cancelled, finished_at IS NOT NULL, follow_up_job::text
    FROM offload.batches";

const CALLBACKS: &str = "SELECT subject::text, job_id::text FROM offload.callbacks";

/// There is one schedule.
const FIRES: &str =
    "SELECT extract(epoch FROM fire_at)::bigint, outcome, job_id::text FROM offload.fires ORDER BY fire_at";

/// The kind of the jobs that tell of an end.
const CALLBACK: &str = "callback";

/// What clients know of it.
pub(crate) struct Known<'a> {
    pub(crate) promises: &'a [Promise],
    pub(crate) batches: &'a [PromisedBatch],
    pub(crate) receiver: &'a Receiver,
}

/// A batch's row: its id, its counters, whether it is finished, and its follow-up.
type Batch = (String, i64, i64, i64, i64, bool, Option<String>);

/// What the database says of it.
pub(super) struct Links {
    batches: Vec<Batch>,
    /// By what they tell of, the jobs that do.
    callbacks: HashMap<String, Option<String>>,
    /// When each was due, in seconds, what became of it, and its job.
    fires: Vec<(i64, String, Option<String>)>,
}

impl Links {
    /// Reads it.
    pub(super) async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        let batches = sqlx::query_as(BATCHES).fetch_all(&mut *connection).await?;
        let callbacks: Vec<_> = sqlx::query_as(CALLBACKS).fetch_all(&mut *connection).await?;
        let fires = sqlx::query_as(FIRES).fetch_all(connection).await?;
        Ok(Self { batches, callbacks: callbacks.into_iter().collect(), fires })
    }

    /// How many ends were told of.
    pub(super) fn told(&self) -> u64 {
        self.callbacks.values().flatten().count() as u64
    }

    /// How many fires were recorded.
    pub(super) fn fires(&self) -> u64 {
        self.fires.len() as u64
    }

    /// The jobs that nobody submitted by themselves, and that are there for a reason.
    pub(super) fn explained(&self, jobs: &HashMap<String, Row>, known: &Known<'_>) -> HashSet<String> {
        let batches: HashSet<_> = known.batches.iter().map(|batch| batch.id.as_str()).collect();
        let of_batches =
            jobs.values().filter(|job| job.batch.as_ref().is_some_and(|batch| batches.contains(batch.as_str())));
        let follow_ups = self.batches.iter().filter_map(|batch| batch.6.clone());
        let fired = self.fires.iter().filter_map(|(_, _, job)| job.clone());
        let telling = self.callbacks.values().flatten().cloned();
        of_batches.map(|job| job.id.clone()).chain(follow_ups).chain(fired).chain(telling).collect()
    }

    /// What is wrong.
    pub(super) fn findings(&self, jobs: &HashMap<String, Row>, known: &Known<'_>) -> Vec<String> {
        let mut findings = Vec::new();
        self.batches(jobs, known, &mut findings);
        self.fired(jobs, &mut findings);
        self.callbacks(jobs, known, &mut findings);
        findings
    }

    fn batches(&self, jobs: &HashMap<String, Row>, known: &Known<'_>, findings: &mut Vec<String>) {
        let rows: HashMap<&str, &Batch> = self.batches.iter().map(|batch| (batch.0.as_str(), batch)).collect();
        let mut states: HashMap<(&str, &str), i64> = HashMap::new();
        for job in jobs.values() {
            if let Some(batch) = &job.batch {
                *states.entry((batch, &job.state)).or_default() += 1;
            }
        }
        for PromisedBatch { id, jobs: promised } in known.batches {
            let Some(batch) = rows.get(id.as_str()) else {
                findings.push(format!("batch {id} was accepted, and is not there"));
                continue;
            };
            let counted = |state| states.get(&(id.as_str(), state)).copied().unwrap_or(0);
            let (succeeded, failed) = (counted("succeeded"), counted("failed"));
            let as_asked = (batch.1, succeeded + failed, failed) == (*promised, *promised, 1);
            if !as_asked || (batch.2, batch.3, batch.4) != (succeeded, failed, 0) {
                let found = format!("{succeeded} of its jobs have succeeded and {failed} failed");
                findings.push(format!("batch {id} was accepted with {promised} jobs, {found}: {batch:?}"));
            }
            let followed = batch.6.as_ref().is_some_and(|follow_up| jobs.contains_key(follow_up));
            if !batch.5 || !followed {
                findings.push(format!("batch {id} is not finished, or nothing follows: {batch:?}"));
            }
        }
        let promised: HashSet<_> = known.batches.iter().map(|batch| &batch.id).collect();
        let strangers = self.batches.iter().filter(|batch| !promised.contains(&batch.0));
        findings.extend(strangers.map(|batch| format!("a batch is there, and no client was told so: {batch:?}")));
    }

    /// Each second has one fire, and each fire one job.
    fn fired(&self, jobs: &HashMap<String, Row>, findings: &mut Vec<String>) {
        for pair in self.fires.windows(2) {
            if pair[1].0 - pair[0].0 != 1 {
                findings.push(format!("between the fires {:?} and {:?} there is not one second", pair[0], pair[1]));
            }
        }
        let recorded: BTreeSet<_> = self.fires.iter().map(|(at, _, job)| (Some(*at), job.as_deref())).collect();
        let fired = jobs.values().filter(|job| job.fire_at.is_some());
        let there: BTreeSet<_> = fired.map(|job| (job.fire_at, Some(job.id.as_str()))).collect();
        for fire in recorded.symmetric_difference(&there) {
            findings.push(format!("the fire {fire:?} has a record or a job, and not both"));
        }
    }

    /// Each end that is to be told of is told of by one job, and has arrived, the same each time.
    fn callbacks(&self, jobs: &HashMap<String, Row>, known: &Known<'_>, findings: &mut Vec<String>) {
        let of_jobs = known.promises.iter().filter(|promise| promise.wish.callback).map(|promise| &promise.id);
        let subjects: HashSet<_> = of_jobs.chain(known.batches.iter().map(|batch| &batch.id)).collect();
        for subject in &subjects {
            let teller = self.callbacks.get(*subject).and_then(|job| jobs.get(job.as_ref()?));
            if !teller.is_some_and(|job| job.kind == CALLBACK && job.state == "succeeded") {
                findings.push(format!("the end of {subject} is not told of: {teller:?}"));
            }
            let came = known.receiver.told_of(subject);
            if came.is_empty() || came.iter().any(|body| *body != came[0]) {
                findings.push(format!("of the end of {subject} came {came:?}"));
            }
        }
        let tellers = jobs.values().filter(|job| job.kind == CALLBACK).count();
        if tellers != subjects.len() {
            findings.push(format!("{tellers} jobs tell of {} ends", subjects.len()));
        }
    }
}
