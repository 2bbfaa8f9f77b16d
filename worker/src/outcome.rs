//! What the end of a handler means to its job: a pure table.

use std::any::Any;
use std::time::Duration;

use offload_common::job::transition::{Event, Failure, Retry};
use offload_common::{RawJson, panics};

use crate::kind::JobError;
use crate::run::{Hold, StopReason};
use crate::text::presentable;

/// The longest result that is kept in the row, in bytes. What is longer belongs in a file.
pub(crate) const LONGEST_RESULT: usize = 16 << 20;

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Returned(Result<RawJson, JobError>),
    /// It was told to, and dropped.
    Stopped(StopReason),
}

/// What becomes of the job.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This happened to it; with its result, if it succeeded.
    Write(Event, Option<RawJson>),
    /// Nothing is written, and its message is still good: it goes back to the broker.
    GiveBack,
    /// Nothing is written, and its message is void: the row has moved on.
    Forget,
}

/// What the end of a handler means, given what its run can still write. `timeout` is the time that it had.
pub(crate) fn outcome(ended: Ended, hold: Hold, timeout: Duration) -> Outcome {
    let claimed = match hold {
        Hold::Lost => return Outcome::Forget,
        Hold::Lazy => false,
        Hold::Claimed(_) => true,
    };
    let event = match ended {
        Ended::Returned(Ok(result)) if result.get().len() > LONGEST_RESULT => {
            let bytes = result.get().len();
            let message =
                format!("the result has {bytes} bytes, of at most {LONGEST_RESULT}; save it as a file instead");
            failed("result_too_large", message, Retry::Never)
        }
        Ended::Returned(Ok(result)) => return Outcome::Write(Event::Succeed, Some(result)),
        Ended::Returned(Err(JobError::Failed(failure))) => failed(&failure.code, failure.message, failure.retry),
        Ended::Returned(Err(JobError::Snooze(delay))) => Event::Snooze(delay),
        // The lease is here, whatever made the handler think otherwise.
        Ended::Returned(Err(JobError::LeaseLost)) => {
            failed("lease_lost", "the handler gave up: it took its lease for lost".into(), Retry::Backoff)
        }
        Ended::Stopped(StopReason::TimedOut) => {
            let message = format!("the attempt took longer than {} s", timeout.as_secs_f64());
            failed("timeout", message, Retry::Backoff)
        }
        // The row still says `queued`: a wish to cancel has ended it there and then, and for the rest the message is as
        // good as it was.
        Ended::Stopped(_) if !claimed => return Outcome::GiveBack,
        Ended::Stopped(StopReason::Cancelled) => Event::Stopped,
        Ended::Stopped(StopReason::Draining | StopReason::OutOfTouch) => Event::Release,
        // Whoever took this worker for dead takes its rows.
        Ended::Stopped(StopReason::Fenced | StopReason::LeaseLost) => return Outcome::Forget,
    };
    Outcome::Write(event, None)
}

/// The store refused the result of a job that succeeded: that is a failure then, and final, since the same would come
/// out again.
pub(crate) fn refused(why: &str) -> Event {
    failed("result_rejected", format!("the database refused what the handler came to: {why}"), Retry::Never)
}

fn failed(code: &str, message: String, retry: Retry) -> Event {
    Event::Fail(Failure { code: code.to_owned(), message: presentable(message), retry })
}

/// A panic is a failed attempt, with what it said.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> JobError {
    JobError::retry("panic", format!("the handler panicked: {}", panics::message(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::{JobId, Lease, Nonce, WorkerId};

    fn held() -> Hold {
        let (job, worker) = (JobId::new(), WorkerId::new());
        Hold::Claimed(Lease { job, epoch: 1, worker, nonce: Nonce(1), claimed: true })
    }

    fn name(ended: Ended, hold: Hold) -> String {
        match outcome(ended, hold, Duration::from_secs(9)) {
            Outcome::Write(Event::Fail(failure), None) => format!("fail {} {:?}", failure.code, failure.retry),
            Outcome::Write(event, None) => format!("{event:?}"),
            Outcome::Write(event, Some(result)) => format!("{event:?} with {result}"),
            Outcome::GiveBack => "give back".into(),
            Outcome::Forget => "forget".into(),
        }
    }

    #[test]
    fn each_end_means_what_the_protocol_says() {
        type Make = fn() -> Ended;
        let returned: [(Make, &str); 4] = [
            (
                || Ended::Returned(serde_json::value::to_raw_value(&1).map_err(|e| JobError::fail("", e))),
                "Succeed with 1",
            ),
            (|| Ended::Returned(Err(JobError::retry("away", ""))), "fail away Backoff"),
            (|| Ended::Returned(Err(JobError::snooze(Duration::from_secs(2)))), "Snooze(2s)"),
            (|| Ended::Returned(Err(JobError::LeaseLost)), "fail lease_lost Backoff"),
        ];
        for (make, expected) in returned {
            assert_eq!(name(make(), Hold::Lazy), expected);
            assert_eq!(name(make(), held()), expected);
            assert_eq!(name(make(), Hold::Lost), "forget");
        }
        let stopped = [
            (StopReason::TimedOut, "fail timeout Backoff", "fail timeout Backoff"),
            (StopReason::Cancelled, "give back", "Stopped"),
            (StopReason::Draining, "give back", "Release"),
            (StopReason::OutOfTouch, "give back", "Release"),
            (StopReason::Fenced, "give back", "forget"),
            (StopReason::LeaseLost, "give back", "forget"),
        ];
        for (reason, lazy, claimed) in stopped {
            assert_eq!(name(Ended::Stopped(reason), Hold::Lazy), lazy, "{reason:?}");
            assert_eq!(name(Ended::Stopped(reason), held()), claimed, "{reason:?}");
            assert_eq!(name(Ended::Stopped(reason), Hold::Lost), "forget", "{reason:?}");
        }
    }

    #[test]
    fn a_result_that_is_too_long_is_a_final_failure() {
        let long = serde_json::value::to_raw_value(&"x".repeat(LONGEST_RESULT)).expect("JSON");
        assert_eq!(name(Ended::Returned(Ok(long)), held()), "fail result_too_large Never");
    }
}
