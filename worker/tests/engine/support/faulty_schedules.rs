//! The schedules of the faulty store: those of the real one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use offload_common::job::ScheduleId;
use offload_common::schedule::{Change, Schedule};
use offload_common::store::{
    Changed, FireRecord, Fired, IdempotencyKey, NewSchedule, NextFire, Ran, Removed, Result, ScheduleFilter, Schedules,
};

use super::faulty::Faulty;

#[async_trait]
impl Schedules for Faulty {
    async fn add_schedule(&self, new: &NewSchedule) -> Result<Changed> {
        self.store.add_schedule(new).await
    }

    async fn schedule(&self, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
        self.store.schedule(tenant, id).await
    }

    async fn schedules(&self, filter: &ScheduleFilter) -> Result<Vec<Schedule>> {
        self.store.schedules(filter).await
    }

    async fn change_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        expected: Option<i64>,
        change: &Change,
    ) -> Result<Changed> {
        self.store.change_schedule(tenant, id, expected, change).await
    }

    async fn remove_schedule(&self, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed> {
        self.store.remove_schedule(tenant, id, expected).await
    }

    async fn run_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        key: Option<&IdempotencyKey>,
        traceparent: Option<&str>,
    ) -> Result<Option<Ran>> {
        self.store.run_schedule(tenant, id, key, traceparent).await
    }

    async fn fires(&self, schedule: ScheduleId, before: Option<DateTime<Utc>>, limit: u32) -> Result<Vec<FireRecord>> {
        self.store.fires(schedule, before, limit).await
    }

    async fn fire(&self, limit: u32) -> Result<Fired> {
        self.store.fire(limit).await
    }

    async fn next_fire(&self) -> Result<NextFire> {
        self.store.next_fire().await
    }
}
