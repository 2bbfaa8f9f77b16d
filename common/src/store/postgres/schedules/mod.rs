//! Schedules: the part of the port that keeps them and makes their fires.

mod auditing;
mod changing;
mod firing;
mod reading;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub(super) use self::auditing::{fired as audited_jobs, fires as audited_fires, late};

use super::PostgresStore;
use crate::job::ScheduleId;
use crate::schedule::{Change, Schedule};
use crate::store::{
    Changed, Error, FireRecord, Fired, IdempotencyKey, NewSchedule, NextFire, Ran, Removed, Result, ScheduleFilter,
    Schedules,
};

/// Every statement of this module, for the test that prepares them all.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 21] = [
    auditing::FIRED,
    auditing::FIRES,
    auditing::LATE,
    changing::ADD,
    changing::BY_NAME,
    changing::HOLD,
    changing::LAST,
    changing::REMOVE,
    changing::UPDATE,
    firing::DUE,
    firing::FACTS,
    firing::NEXT,
    firing::NOW,
    firing::RECORD,
    firing::REWRITE,
    firing::TROUBLE,
    firing::WRITE,
    reading::FIRES,
    reading::LIST,
    reading::ONE,
    super::prune::DELETE_FIRES,
];

#[async_trait]
impl Schedules for PostgresStore {
    async fn add_schedule(&self, new: &NewSchedule) -> Result<Changed> {
        changing::add(&mut *self.patient().await?, new).await
    }

    async fn schedule(&self, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
        reading::one(&mut *self.patient().await?, tenant, id).await
    }

    async fn schedules(&self, filter: &ScheduleFilter) -> Result<Vec<Schedule>> {
        reading::list(&mut *self.patient().await?, filter).await
    }

    async fn change_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        expected: Option<i64>,
        change: &Change,
    ) -> Result<Changed> {
        let changed = changing::change(&mut *self.patient().await?, tenant, id, expected, change).await;
        let (Err(Error::Rejected(_)), Change::Define(name, _)) = (&changed, change) else { return changed };
        // Somebody may have taken the name after it was found to be free.
        match changing::named(&mut *self.patient().await?, tenant, name).await? {
            Some(other) if other != id => Ok(Changed::NameTaken(other)),
            _ => changed,
        }
    }

    async fn remove_schedule(&self, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed> {
        changing::remove(&mut *self.patient().await?, tenant, id, expected).await
    }

    async fn run_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        key: Option<&IdempotencyKey>,
        traceparent: Option<&str>,
    ) -> Result<Option<Ran>> {
        changing::run(&mut *self.patient().await?, tenant, id, key, traceparent).await
    }

    async fn fires(&self, schedule: ScheduleId, before: Option<DateTime<Utc>>, limit: u32) -> Result<Vec<FireRecord>> {
        reading::fires(&mut *self.patient().await?, schedule, before, limit).await
    }

    async fn fire(&self, limit: u32) -> Result<Fired> {
        firing::fire(self, limit).await
    }

    async fn next_fire(&self) -> Result<NextFire> {
        firing::next(&mut *self.patient().await?).await
    }
}
