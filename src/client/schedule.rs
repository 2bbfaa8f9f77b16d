//! Schedules, as a client sees and makes them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use offload_common::RawJson;
use offload_common::job::{BatchId, JobId, ScheduleId, State};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ANSWER, Answer, Client, ClientError, Result, Submission};

/// A schedule to make; what is left out gets its default.
#[derive(Debug, Serialize)]
pub(crate) struct NewSchedule {
    /// What it is called.
    pub(crate) name: String,
    /// When it fires, by a pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cron: Option<String>,
    /// Or at an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every_seconds: Option<u64>,
    /// On the clocks of this zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    /// Not before, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) starts_at: Option<String>,
    /// Not after, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ends_at: Option<String>,
    /// How far its jobs are spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jitter_seconds: Option<f64>,
    /// `skip`, `one` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<String>,
    /// With `all`, so many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_missed: Option<u32>,
    /// `allow`, `skip`, `queue` or `cancel_previous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overlap: Option<String>,
    /// The job that it submits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Submission>,
    /// Or the batch, by its fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<BTreeMap<String, RawJson>>,
}

/// A schedule. Fields that are not shown anywhere are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct ScheduleView {
    /// Its id.
    pub(crate) id: ScheduleId,
    /// What it is called.
    pub(crate) name: String,
    /// When it fires, by a pattern.
    pub(crate) cron: Option<String>,
    /// Or at an interval.
    pub(crate) every_seconds: Option<u64>,
    /// On the clocks of this zone.
    pub(crate) time_zone: String,
    /// What becomes of missed fires.
    pub(crate) missed: String,
    /// What becomes of overlapping ones.
    pub(crate) overlap: String,
    /// The job that it submits.
    pub(crate) job: Option<TemplateView>,
    /// Or the batch.
    pub(crate) batch: Option<BatchTemplateView>,
    /// Whether it fires at all for now.
    pub(crate) paused: bool,
    /// The next fire.
    pub(crate) next_at: Option<DateTime<Utc>>,
    /// The last job that it submitted.
    pub(crate) last_job_id: Option<JobId>,
    /// The last batch that it submitted.
    pub(crate) last_batch_id: Option<BatchId>,
    /// What keeps it from firing.
    pub(crate) problem: Option<String>,
}

/// What a schedule submits.
#[derive(Debug, Deserialize)]
pub(crate) struct TemplateView {
    /// The kind's name.
    pub(crate) kind: String,
}

/// A batch that a schedule submits.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchTemplateView {
    /// How many jobs it has.
    pub(crate) total: u64,
}

/// What became of a fire.
#[derive(Debug, Deserialize)]
pub(crate) struct FireView {
    /// Its nominal time; of several, the first.
    pub(crate) fire_at: DateTime<Utc>,
    /// How many they are.
    pub(crate) count: u32,
    /// What became of it.
    pub(crate) outcome: String,
    /// Why.
    pub(crate) reason: Option<String>,
    /// The job that was submitted.
    pub(crate) job_id: Option<JobId>,
    /// Or the batch.
    pub(crate) batch_id: Option<BatchId>,
}

/// What a schedule submitted when it was told to.
#[derive(Debug, Deserialize)]
pub(crate) struct RunView {
    /// The id of the job, or of the batch.
    pub(crate) id: Uuid,
    /// Where the job stands.
    pub(crate) state: Option<State>,
    /// How many jobs the batch has.
    pub(crate) total: Option<u64>,
}

/// The fires that come.
#[derive(Debug, Deserialize)]
pub(crate) struct PreviewView {
    /// In order.
    pub(crate) fires: Vec<PreviewedFire>,
}

/// A fire that comes.
#[derive(Debug, Deserialize)]
pub(crate) struct PreviewedFire {
    /// Its nominal time.
    pub(crate) at: DateTime<Utc>,
    /// What the clocks of the zone show then.
    pub(crate) local: String,
    /// Why it is then.
    pub(crate) note: Option<String>,
}

impl ScheduleView {
    /// What it submits, in a few words.
    pub(crate) fn submits(&self) -> String {
        let job = self.job.as_ref().map(|job| job.kind.clone());
        let batch = self.batch.as_ref().map(|batch| format!("a batch of {}", batch.total));
        job.or(batch).unwrap_or_default()
    }
}

impl Client {
    /// Makes a schedule.
    pub(crate) async fn create_schedule(&self, new: &NewSchedule) -> Result<Answer<ScheduleView>> {
        self.json(self.request(Method::POST, "v1/schedules")?.json(new).timeout(ANSWER)).await
    }

    /// Every schedule, newest first; with `name`, the one that is called this.
    pub(crate) async fn schedules(&self, name: Option<&str>) -> Result<Vec<Answer<ScheduleView>>> {
        let filter: Vec<(&str, String)> = name.map(|name| ("name", name.to_owned())).into_iter().collect();
        self.list("v1/schedules", &filter, usize::MAX).await
    }

    /// The id that this text is, or that the schedule of this name has; `None` if there is no such name.
    pub(crate) async fn schedule_id(&self, which: &str) -> Result<Option<ScheduleId>> {
        if let Ok(id) = which.parse() {
            return Ok(Some(id));
        }
        Ok(self.schedules(Some(which)).await?.first().map(|schedule| schedule.value.id))
    }

    /// A schedule.
    pub(crate) async fn schedule(&self, id: ScheduleId) -> Result<Answer<ScheduleView>> {
        self.json(self.request(Method::GET, &format!("v1/schedules/{id}"))?.timeout(ANSWER)).await
    }

    /// What became of its fires, latest first.
    pub(crate) async fn fires(&self, id: ScheduleId, limit: usize) -> Result<Vec<Answer<FireView>>> {
        self.list(&format!("v1/schedules/{id}/fires"), &[], limit).await
    }

    /// When it fires next.
    pub(crate) async fn preview(&self, id: ScheduleId, count: u32) -> Result<Answer<PreviewView>> {
        let request = self.request(Method::GET, &format!("v1/schedules/{id}/preview"))?;
        self.json(request.query(&[("count", count)]).timeout(ANSWER)).await
    }

    /// Submits its job or its batch now.
    pub(crate) async fn run_schedule(&self, id: ScheduleId) -> Result<Answer<RunView>> {
        self.json(self.request(Method::POST, &format!("v1/schedules/{id}/run"))?.timeout(ANSWER)).await
    }

    /// Stops it for a while, or lets it fire again.
    pub(crate) async fn pause_schedule(&self, id: ScheduleId, pause: bool) -> Result<Answer<ScheduleView>> {
        let what = if pause { "pause" } else { "resume" };
        self.json(self.request(Method::POST, &format!("v1/schedules/{id}/{what}"))?.timeout(ANSWER)).await
    }

    /// Removes it.
    pub(crate) async fn delete_schedule(&self, id: ScheduleId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &format!("v1/schedules/{id}"))?.timeout(ANSWER)).await.map(drop)
    }
}
