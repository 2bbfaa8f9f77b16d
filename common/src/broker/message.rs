//! The message: pointers to rows. Its body is JSON, so that an operator can read it in the broker's own tools:
//!
//! ```json
//! {"v": 1, "jobs": [["0199f6c2-…", 1, 1790000000000000]]}
//! ```
//!
//! Each entry is id, epoch, and the time it was queued in microseconds since 1970. The trace context travels in the
//! `traceparent` header.

use serde::{Deserialize, Serialize};

use crate::job::{Epoch, JobId, Lane};
use crate::store::{Dispatch, Pointer};

const VERSION: u32 = 1;

/// A message to publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where to.
    pub lane: Lane,
    /// What it points at.
    pub pointers: Vec<Pointer>,
    /// The W3C `traceparent` to send along.
    pub traceparent: Option<String>,
}

/// The body is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not the JSON that this module writes.
    #[error("not an Offload message: {0}")]
    NotOurs(#[from] serde_json::Error),
    /// Written by a newer Offload.
    #[error("message format {0} is newer than this program understands")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Body {
    v: u32,
    jobs: Vec<(JobId, Epoch, i64)>,
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl Message {
    /// The body to send.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let jobs = self.pointers.iter().map(|p| (p.id, p.epoch, p.queued_at)).collect();
        serde_json::to_vec(&Body { v: VERSION, jobs }).unwrap_or_default()
    }

    /// The pointers in a received body.
    ///
    /// # Errors
    /// [`Malformed`] where the body is not one that this program understands.
    pub fn parse(body: &[u8]) -> Result<Vec<Pointer>, Malformed> {
        // The version first: what comes after it may have another shape in another version.
        let Versioned { v } = serde_json::from_slice(body)?;
        if v != VERSION {
            return Err(Malformed::Version(v));
        }
        let body: Body = serde_json::from_slice(body)?;
        Ok(body.jobs.into_iter().map(|(id, epoch, queued_at)| Pointer { id, epoch, queued_at }).collect())
    }
}

impl From<Dispatch> for Message {
    fn from(dispatch: Dispatch) -> Self {
        Self { lane: dispatch.lane, pointers: vec![dispatch.pointer], traceparent: dispatch.traceparent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Priority;

    #[test]
    fn a_body_reads_back_as_it_was_written() {
        let pointers = vec![
            Pointer { id: JobId::new(), epoch: 0, queued_at: 1_790_000_000_000_001 },
            Pointer { id: JobId::new(), epoch: i64::MAX, queued_at: -1 },
        ];
        let lane = Lane { queue: "default".into(), priority: Priority::Normal };
        let message = Message { lane, pointers: pointers.clone(), traceparent: None };
        assert_eq!(Message::parse(&message.body()).expect("ours"), pointers);
    }

    #[test]
    fn what_is_not_ours_is_told_from_what_is_newer() {
        assert!(matches!(Message::parse(b"hello"), Err(Malformed::NotOurs(_))));
        assert!(matches!(Message::parse(br#"{"v": 2, "work": {}}"#), Err(Malformed::Version(2))));
        assert!(matches!(Message::parse(br#"{"v": 1, "work": {}}"#), Err(Malformed::NotOurs(_))));
    }
}
