//! Jobs in the binary format of `COPY`: <https://www.postgresql.org/docs/current/sql-copy.html>. It is how many rows get in
//! fastest: the server parses neither numbers nor times, and writes a page of rows at a time.

use chrono::{DateTime, TimeZone, Utc};
use uuid::Uuid;

use super::intake::FIRST_EPOCH;
use crate::job::{BatchId, NewJob, State};

/// The columns that [`Rows::push`] writes, in its order.
pub(super) const COPY: &str = "-- offload: copy jobs
COPY offload.jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, queued_at, timeout_ms,
    retry_policy, payload, metadata, tags, traceparent, retry_of, schedule_id, fire_at,
    batch_id, linked, unique_key) FROM STDIN (FORMAT binary)";

const COLUMNS: i16 = 23;

/// The type of `text` in `pg_type`, which never changes.
const TEXT: i32 = 25;

/// Rows on their way.
pub(super) struct Rows {
    bytes: Vec<u8>,
    /// The store's clock.
    now: DateTime<Utc>,
}

impl Rows {
    /// None yet.
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        // No flags, no extension.
        bytes.extend([0; 8]);
        Self { bytes, now }
    }

    /// Adds a job of a batch; answers when it is queued, if it is at once.
    pub(super) fn push(&mut self, job: &NewJob, batch: BatchId) -> Option<DateTime<Utc>> {
        let delayed = job.delay.and_then(|delay| self.now.checked_add_signed(chrono::TimeDelta::from_std(delay).ok()?));
        let run_at = job.run_at.or(delayed).map_or(self.now, |at| at.max(self.now));
        let queued_at = (job.admit && run_at <= self.now).then_some(self.now);
        let state = if queued_at.is_some() { State::Queued } else { State::Scheduled };
        self.bytes.extend(COLUMNS.to_be_bytes());
        self.uuid(job.id.0);
        self.text(&job.tenant);
        self.text(&job.kind);
        self.text(&job.lane.queue);
        self.text(job.lane.priority.as_str());
        self.text(state.as_str());
        self.field(&FIRST_EPOCH.to_be_bytes());
        self.field(&i32::try_from(job.max_attempts).unwrap_or(i32::MAX).to_be_bytes());
        self.time(self.now);
        self.time(run_at);
        self.optional(queued_at, Self::time);
        self.field(&i64::try_from(job.timeout.as_millis()).unwrap_or(i64::MAX).to_be_bytes());
        self.text(&serde_json::json!(job.retry_policy).to_string());
        self.text(job.payload.get());
        self.optional(job.metadata.as_deref(), |rows, metadata| rows.text(metadata.get()));
        self.texts(&job.tags);
        self.optional(job.traceparent.as_deref(), Self::text);
        self.optional(job.retry_of, |rows, job| rows.uuid(job.0));
        self.optional(job.fired_by, |rows, fire| rows.uuid(fire.schedule.0));
        self.optional(job.fired_by, |rows, fire| rows.time(fire.at));
        self.uuid(batch.0);
        self.field(&[1]);
        self.optional(job.unique.as_ref(), |rows, unique| rows.text(&unique.key));
        queued_at
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend((-1i16).to_be_bytes());
        self.bytes
    }

    fn length(&mut self, bytes: usize) {
        // A field of 2 GiB is beyond every limit on bodies; the server would refuse it by its length.
        self.bytes.extend(i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
    }

    fn field(&mut self, field: &[u8]) {
        self.length(field.len());
        self.bytes.extend(field);
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.bytes.extend((-1i32).to_be_bytes()),
        }
    }

    fn text(&mut self, text: &str) {
        self.field(text.as_bytes());
    }

    fn uuid(&mut self, id: Uuid) {
        self.field(id.as_bytes());
    }

    /// PostgreSQL counts from 2000.
    fn time(&mut self, at: DateTime<Utc>) {
        let epoch = Utc.with_ymd_and_hms(2000, 1, 1, 0, 0, 0).single().unwrap_or_default();
        self.field(&(at.timestamp_micros() - epoch.timestamp_micros()).to_be_bytes());
    }

    /// Dimensions, no nulls, the type of the elements; for each dimension its length and where it begins.
    fn texts(&mut self, texts: &[String]) {
        let mut array = Vec::new();
        let mut number = |n: i32| array.extend(n.to_be_bytes());
        number(i32::from(!texts.is_empty()));
        number(0);
        number(TEXT);
        if !texts.is_empty() {
            number(i32::try_from(texts.len()).unwrap_or(i32::MAX));
            number(1);
        }
        for text in texts {
            array.extend(i32::try_from(text.len()).unwrap_or(i32::MAX).to_be_bytes());
            array.extend(text.as_bytes());
        }
        self.field(&array);
    }
}

/// How many bytes a job takes, about.
pub(super) fn weight(job: &NewJob) -> usize {
    const REST: usize = 512;
    REST + job.payload.get().len() + job.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::factory;

    /// The conformance suite reads back what is written here; this holds the frame.
    #[test]
    fn rows_are_framed_by_a_header_and_a_trailer() {
        let now = DateTime::from_timestamp_micros(1_790_000_000_000_000).expect("a time");
        let mut rows = Rows::new(now);
        assert_eq!(rows.push(&factory::job(), BatchId::new()), Some(now));
        let bytes = rows.finish();
        assert!(bytes.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x17\0\0\0\x10"));
        assert!(bytes.ends_with(&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    }
}
