//! What a schedule submits at each fire: a job, or a batch.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::model::Schedule;
use super::template::{Filling, JobTemplate};
use super::timing::Timing;
use crate::RawJson;
use crate::callback::Callback;
use crate::job::{BatchId, FiredBy, JobId, JobPlan, Lane, NewJob, OnConflict, UniqueKey};
use crate::store::{self, IdempotencyKey, NewBatch, Target};

/// Jobs of a batch that a schedule submits, at most.
pub const MAX_BATCH_JOBS: usize = 1_000;

/// What a schedule submits, with every default resolved.
///
/// It is stored as the job alone, or as `{"batch": …}`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Template {
    /// A job.
    Job(JobTemplate),
    /// A batch of them.
    Batch {
        /// What it consists of.
        batch: BatchTemplate,
    },
}

/// A batch that is submitted again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchTemplate {
    /// Its jobs, from 1 to [`MAX_BATCH_JOBS`]. None comes for a unique key.
    pub jobs: Vec<JobTemplate>,
    /// The job that follows its end.
    pub follow_up: Option<JobTemplate>,
    /// Who is told of its end.
    pub callback: Option<Callback>,
    /// The client's own object.
    pub metadata: Option<RawJson>,
}

/// Raw JSON does not survive the buffers of an untagged enum, so the two forms are told apart by hand.
impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            batch: Option<BatchTemplate>,
        }
        let written = Box::<RawValue>::deserialize(deserializer)?;
        let form: Form = serde_json::from_str(written.get()).map_err(serde::de::Error::custom)?;
        match form.batch {
            Some(batch) => Ok(Template::Batch { batch }),
            None => serde_json::from_str(written.get()).map(Template::Job).map_err(serde::de::Error::custom),
        }
    }
}

impl Template {
    /// Every job in it; of a batch, what follows its end comes last.
    pub fn jobs(&self) -> impl Iterator<Item = &JobTemplate> {
        let (jobs, follow_up) = match self {
            Template::Job(job) => (std::slice::from_ref(job), None),
            Template::Batch { batch } => (&batch.jobs[..], batch.follow_up.as_ref()),
        };
        jobs.iter().chain(follow_up)
    }
}

/// What a fire submits, to be stored as it is.
#[derive(Clone, Debug)]
pub enum Submission {
    /// A job.
    Job(Box<NewJob>),
    /// A new batch, and its jobs.
    Batch(store::Filling, Vec<NewJob>),
}

/// What was submitted for a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Submitted {
    /// This job.
    Job(JobId),
    /// This batch.
    Batch(BatchId),
}

impl Submission {
    /// What it will be known by.
    #[must_use]
    pub fn id(&self) -> Submitted {
        match self {
            Submission::Job(job) => Submitted::Job(job.id),
            Submission::Batch(filling, _) => Submitted::Batch(filling.batch()),
        }
    }

    /// The same, due at once, on behalf of a request.
    #[must_use]
    pub fn asked_for(mut self, key: Option<&IdempotencyKey>, traceparent: Option<&str>) -> Self {
        let jobs = match &mut self {
            Submission::Job(job) => {
                job.idempotency = key.cloned();
                std::slice::from_mut(&mut **job)
            }
            Submission::Batch(filling, jobs) => {
                filling.idempotency = key.cloned();
                jobs
            }
        };
        for job in jobs {
            (job.run_at, job.traceparent) = (None, traceparent.map(str::to_owned));
        }
        self
    }
}

impl Submitted {
    /// As a store keeps it: the id of a job, or that of a batch.
    #[must_use]
    pub fn of(job: Option<Uuid>, batch: Option<Uuid>) -> Option<Self> {
        job.map(|id| Submitted::Job(JobId(id))).or_else(|| batch.map(|id| Submitted::Batch(BatchId(id))))
    }

    /// The job, if it is one.
    #[must_use]
    pub fn job(self) -> Option<JobId> {
        match self {
            Submitted::Job(id) => Some(id),
            Submitted::Batch(_) => None,
        }
    }

    /// The batch, if it is one.
    #[must_use]
    pub fn batch(self) -> Option<BatchId> {
        match self {
            Submitted::Job(_) => None,
            Submitted::Batch(id) => Some(id),
        }
    }
}

impl Schedule {
    /// What a fire submits.
    #[must_use]
    pub fn submission(&self, timing: &Timing, fire_at: DateTime<Utc>) -> Submission {
        let filling = Filling { fire_at: timing.local(fire_at), id: self.id, name: &self.name };
        let batch = match &self.definition.template {
            Template::Job(job) => return Submission::Job(Box::new(self.job(job, &filling, fire_at))),
            Template::Batch { batch } => batch,
        };
        let jobs = batch.jobs.iter().map(|job| self.job(job, &filling, fire_at)).collect();
        // It is accepted when the batch is finished, and is no job of the fire itself.
        let follow_up = |job| NewJob { run_at: None, ..self.job(job, &filling, fire_at) };
        let new = NewBatch {
            id: BatchId::new(),
            sealed: true,
            metadata: batch.metadata.clone(),
            follow_up: batch.follow_up.as_ref().map(follow_up).map(JobPlan::from),
            callback: batch.callback.clone(),
        };
        let target = Target::New(Box::new(new));
        Submission::Batch(store::Filling { tenant: self.tenant.clone(), target, idempotency: None }, jobs)
    }

    fn job(&self, template: &JobTemplate, filling: &Filling<'_>, fire_at: DateTime<Utc>) -> NewJob {
        let jitter = TimeDelta::from_std(self.definition.jitter(self.id, fire_at)).unwrap_or_default();
        NewJob {
            id: JobId::new(),
            tenant: self.tenant.clone(),
            kind: template.kind.clone(),
            lane: Lane { queue: template.queue.clone(), priority: template.priority },
            payload: template.payload_of(filling),
            run_at: Some(fire_at + jitter),
            delay: None,
            // Promotion brings it in, as everything that comes due.
            admit: false,
            max_attempts: template.max_attempts,
            timeout: std::time::Duration::from_secs(template.timeout_seconds),
            retry_policy: template.retry_policy,
            metadata: template.metadata.clone(),
            tags: template.tags.clone(),
            traceparent: None,
            retry_of: None,
            fired_by: Some(FiredBy { schedule: self.id, at: fire_at }),
            idempotency: None,
            callback: template.callback.clone(),
            unique: template.unique_key_of(filling).map(|key| UniqueKey { key, on_conflict: OnConflict::Refuse }),
            after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::factory;

    /// The first form is the one that schedules have been stored in from the beginning.
    #[test]
    fn both_forms_read_back_digit_by_digit() {
        let job = JobTemplate {
            payload: factory::raw(r#"{"n": 1.50, "batch": 12345678901234567890}"#),
            ..factory::template()
        };
        let follow_up = Some(JobTemplate { payload: factory::raw("0.10"), ..factory::template() });
        let metadata = Some(factory::raw(r#"{"b":  2.0}"#));
        let batch = BatchTemplate { jobs: vec![job.clone(); 2], follow_up, callback: None, metadata };
        for template in [Template::Job(job), Template::Batch { batch }] {
            let stored = serde_json::to_string(&template).expect("JSON");
            let read: Template = serde_json::from_str(&stored).expect("its own form");
            assert_eq!(format!("{read:?}"), format!("{template:?}"));
            assert_eq!(stored.starts_with(r#"{"batch":"#), matches!(template, Template::Batch { .. }), "{stored}");
        }
    }
}
