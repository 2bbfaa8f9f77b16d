//! Schedules: the part of the port that keeps them and makes their fires.

mod auditing;
mod changing;
mod firing;
mod reading;

pub(super) use self::auditing::{fired as audited_jobs, fires as audited_fires, late};
#[cfg(test)]
pub(super) use self::firing::{DUE, NEXT};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::SqliteStore;
use crate::job::ScheduleId;
use crate::schedule::{Change, Schedule};
use crate::store::{
    Changed, FireRecord, Fired, IdempotencyKey, NewSchedule, NextFire, Ran, Removed, Result, ScheduleFilter, Schedules,
};

#[async_trait]
impl Schedules for SqliteStore {
    async fn add_schedule(&self, new: &NewSchedule) -> Result<Changed> {
        Ok(changing::add(&self.writer, new).await?)
    }

    async fn schedule(&self, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
        Ok(reading::one(&self.readers, tenant, id).await?)
    }

    async fn schedules(&self, filter: &ScheduleFilter) -> Result<Vec<Schedule>> {
        Ok(reading::list(&self.readers, filter).await?)
    }

    async fn change_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        expected: Option<i64>,
        change: &Change,
    ) -> Result<Changed> {
        Ok(changing::change(&self.writer, tenant, id, expected, change).await?)
    }

    async fn remove_schedule(&self, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed> {
        Ok(changing::remove(&self.writer, tenant, id, expected).await?)
    }

    async fn run_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        key: Option<&IdempotencyKey>,
        traceparent: Option<&str>,
    ) -> Result<Option<Ran>> {
        Ok(changing::run(&self.writer, tenant, id, key, traceparent).await?)
    }

    async fn fires(&self, schedule: ScheduleId, before: Option<DateTime<Utc>>, limit: u32) -> Result<Vec<FireRecord>> {
        Ok(reading::fires(&self.readers, schedule, before, limit).await?)
    }

    async fn fire(&self, limit: u32) -> Result<Fired> {
        Ok(firing::fire(&self.writer, limit).await?)
    }

    async fn next_fire(&self) -> Result<NextFire> {
        Ok(firing::next(&self.readers).await?)
    }
}
