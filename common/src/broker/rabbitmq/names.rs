//! What queues and exchanges are called.

use lapin::types::ShortString;

use crate::broker::{Error, Topic};
use crate::job::Lane;

/// The protocol's limit for a name, in bytes.
const LONGEST: usize = 255;
/// The limit for the prefix, so that the rest of a name keeps room.
const LONGEST_PREFIX: usize = 100;

/// A queue that outlives its connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Queue {
    /// The pointers of a lane.
    Lane(Lane),
    /// What arrived and is not ours.
    Parked,
}

/// The names, under the configured prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, Error> {
        let usable = !prefix.is_empty() && prefix.len() <= LONGEST_PREFIX && !prefix.starts_with("amq.");
        if !usable {
            let rule = format!("it must have 1 to {LONGEST_PREFIX} bytes and not begin with `amq.`");
            return Err(Error::Misconfigured(format!("broker.prefix is `{prefix}`, but {rule}")));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// A queue's name: `<prefix>.<queue>.<priority>`, or `<prefix>.parked`.
    ///
    /// A name beyond the protocol's limit is cut. Lanes that share a queue for that reason lose nothing but their order:
    /// the pointers, not the queue, say which job it is.
    pub(super) fn queue(&self, queue: &Queue) -> ShortString {
        match queue {
            Queue::Lane(lane) => short(format!("{}.{lane}", self.prefix)),
            Queue::Parked => short(format!("{}.parked", self.prefix)),
        }
    }

    /// The exchange that carries signals.
    pub(super) fn signals(&self) -> ShortString {
        short(format!("{}.signals", self.prefix))
    }
}

/// The routing key of a topic.
pub(super) fn routing_key(topic: Topic) -> ShortString {
    ShortString::from(match topic {
        Topic::Cancel => "cancel",
        Topic::Changed => "changed",
    })
}

fn short(mut name: String) -> ShortString {
    name.truncate(name.floor_char_boundary(LONGEST));
    ShortString::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Priority;

    #[test]
    fn names_carry_the_prefix() {
        let names = Names::new("jobs").expect("usable");
        let lane = Lane { queue: "mail".into(), priority: Priority::High };
        assert_eq!(names.queue(&Queue::Lane(lane)).as_str(), "jobs.mail.high");
        assert_eq!(names.queue(&Queue::Parked).as_str(), "jobs.parked");
        assert_eq!(names.signals().as_str(), "jobs.signals");
    }

    #[test]
    fn a_name_never_breaks_the_limit() {
        let names = Names::new(&"p".repeat(LONGEST_PREFIX)).expect("usable");
        let lane = Lane { queue: "ü".repeat(200), priority: Priority::High };
        assert_eq!(names.queue(&Queue::Lane(lane)).as_str().len(), LONGEST);
    }

    #[test]
    fn an_unusable_prefix_is_refused_by_name() {
        for prefix in ["", "amq.jobs", &"p".repeat(LONGEST_PREFIX + 1)] {
            let error = Names::new(prefix).expect_err("unusable").to_string();
            assert!(error.contains("broker.prefix"), "{error}");
        }
    }
}
