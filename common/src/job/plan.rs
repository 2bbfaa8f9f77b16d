//! A job that is to be accepted at some later moment.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{JobId, Lane, NewJob};
use crate::RawJson;
use crate::callback::Callback;
use crate::retry::RetryPolicy;

/// A validated job, as it is kept until something happens that it is to follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobPlan {
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// The validated payload.
    pub payload: RawJson,
    /// Not due before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// Due this long after it is accepted.
    pub delay: Option<Duration>,
    /// From 1 to 100.
    pub max_attempts: u32,
    /// The time that one attempt may take.
    pub timeout: Duration,
    /// How the delay between attempts grows.
    pub retry_policy: RetryPolicy,
    /// The client's own object.
    pub metadata: Option<RawJson>,
    /// For filters.
    pub tags: Vec<String>,
    /// The W3C `traceparent` of the request that planned it.
    pub traceparent: Option<String>,
    /// Who is told of its end.
    #[serde(default)]
    pub callback: Option<Callback>,
}

impl JobPlan {
    /// The job, accepted now. Promotion brings it in, as everything that comes due.
    #[must_use]
    pub fn job(self, tenant: &str) -> NewJob {
        NewJob {
            id: JobId::new(),
            tenant: tenant.to_owned(),
            kind: self.kind,
            lane: self.lane,
            payload: self.payload,
            run_at: self.run_at,
            delay: self.delay,
            admit: false,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry_policy: self.retry_policy,
            metadata: self.metadata,
            tags: self.tags,
            traceparent: self.traceparent,
            retry_of: None,
            fired_by: None,
            idempotency: None,
            callback: self.callback,
            unique: None,
            after: None,
        }
    }
}

impl From<NewJob> for JobPlan {
    fn from(job: NewJob) -> Self {
        Self {
            kind: job.kind,
            lane: job.lane,
            payload: job.payload,
            run_at: job.run_at,
            delay: job.delay,
            max_attempts: job.max_attempts,
            timeout: job.timeout,
            retry_policy: job.retry_policy,
            metadata: job.metadata,
            tags: job.tags,
            traceparent: job.traceparent,
            callback: job.callback,
        }
    }
}
