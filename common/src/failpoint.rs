//! Fail points: the named steps of the protocol, at which a test ends or halts a process.
//!
//! Without the feature `failpoints`, which only tests turn on, they are nothing. With it, `OFFLOAD_FAILPOINT` names one
//! point, what happens there, and the how-manieth time it is reached: `finish.after:kill:3`. `kill` is SIGKILL, as a
//! machine that loses power; `stop` is SIGSTOP, as one that hangs until somebody sends SIGCONT; `panic` is a fault of this
//! program itself, in the task that reaches the point.

/// The steps, in the order in which a job meets them.
pub const POINTS: [&str; 18] = [
    "accept.before",
    "accept.after",
    "publish.before",
    "publish.after",
    "deliver.before",
    "claim.before",
    "claim.after",
    "effect.before",
    "effect.after",
    "finish.before",
    "finish.after",
    "ack.before",
    "promote.after",
    "release.after",
    "steal.after",
    "reap.after",
    "fire.before",
    "fire.after",
];

/// A process has come to this step.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_point: &str) {}

/// A process has come to this step.
///
/// # Panics
/// Where `OFFLOAD_FAILPOINT` says so or cannot be read, or `point` is not one of [`POINTS`].
#[cfg(feature = "failpoints")]
pub fn reach(point: &str) {
    use std::sync::LazyLock;

    static ARMED: LazyLock<Option<armed::Armed>> = LazyLock::new(armed::Armed::from_environment);
    assert!(POINTS.contains(&point), "{point} is not a fail point");
    if let Some(armed) = &*ARMED {
        armed.reach(point);
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Send(Signal),
        Panic,
    }

    /// The point that this process ends or halts at.
    pub(super) struct Armed {
        point: String,
        action: Action,
        at: u32,
        reached: AtomicU32,
    }

    impl Armed {
        pub(super) fn from_environment() -> Option<Self> {
            let text = std::env::var("OFFLOAD_FAILPOINT").ok()?;
            Some(Self::parse(&text).unwrap_or_else(|| panic!("OFFLOAD_FAILPOINT={text}: not POINT:kill|stop|panic:N")))
        }

        fn parse(text: &str) -> Option<Self> {
            let mut words = text.split(':');
            let (point, action, at) = (words.next()?, words.next()?, words.next()?);
            let action = match action {
                "kill" => Action::Send(Signal::KILL),
                "stop" => Action::Send(Signal::STOP),
                "panic" => Action::Panic,
                _ => return None,
            };
            let known = super::POINTS.contains(&point) && words.next().is_none();
            let at = at.parse().ok().filter(|at| known && *at > 0)?;
            Some(Self { point: point.to_owned(), action, at, reached: AtomicU32::new(0) })
        }

        pub(super) fn reach(&self, point: &str) {
            if point == self.point && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
                match self.action {
                    Action::Send(signal) => kill_process(getpid(), signal).expect("a process may signal itself"),
                    Action::Panic => panic!("the fail point {point}"),
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_is_armed_by_its_name_its_action_and_its_count() {
            let armed = Armed::parse("finish.after:kill:3").expect("good");
            assert_eq!((armed.point.as_str(), armed.action, armed.at), ("finish.after", Action::Send(Signal::KILL), 3));
            for bad in
                ["", "finish.after", "finish.after:kill", "finish.after:kill:0", "nowhere:kill:1", "ack.before:hang:1"]
            {
                assert!(Armed::parse(bad).is_none(), "{bad}");
            }
        }
    }
}
