//! What the end of a program means for its job.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use offload_common::RawJson;

use super::process::Ended;
use crate::kind::JobError;
use crate::kinds::json;

/// `EX_TEMPFAIL` of `sysexits.h`: it may work another time.
const TRY_AGAIN: i32 = 75;

/// How much of an output that is no JSON its error message quotes, in characters.
const EXCERPT: usize = 200;

/// Its result, or why there is none.
pub(super) fn judge(program: &str, ended: &Ended) -> Result<RawJson, JobError> {
    if ended.status.success() {
        return result(program, &ended.output);
    }
    let mut message = format!("{program} {}", how(ended.status));
    if !ended.complaint.is_empty() {
        message = format!("{message}: {}", ended.complaint);
    }
    match ended.status.code() {
        Some(TRY_AGAIN) => Err(JobError::retry("exit_75", message)),
        _ => Err(JobError::fail("exit_status", message)),
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn result(program: &str, output: &[u8]) -> Result<RawJson, JobError> {
    let text = String::from_utf8_lossy(output);
    let text = if text.trim().is_empty() { "null".into() } else { text };
    json::storable(&text).map_err(|reason| {
        let excerpt: String = text.chars().take(EXCERPT).collect();
        let excerpt = excerpt.replace('\0', "\u{fffd}");
        JobError::fail("invalid_output", format!("{program} answered what is no JSON to keep ({reason}): {excerpt}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::transition::{Failure, Retry};

    fn outcome(raw_status: i32, output: &[u8]) -> Result<String, Failure> {
        let ended =
            Ended { status: ExitStatus::from_raw(raw_status), output: output.to_vec(), complaint: "why".to_owned() };
        judge("program", &ended).map(|json| json.get().to_owned()).map_err(|error| match error {
            JobError::Failed(failure) => failure,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn success_answers_the_output() {
        assert_eq!(outcome(0, b" {\"a\": 1.50}\n"), Ok("{\"a\": 1.50}".to_owned()));
        for nothing in [b"".as_slice(), b"\n", b" \t\r\n"] {
            assert_eq!(outcome(0, nothing), Ok("null".to_owned()));
        }
        for garbage in [b"hello".as_slice(), b"{} {}", b"{", b"\"\\u0000\"", b"\xff", b"\0"] {
            let failure = outcome(0, garbage).expect_err("no JSON");
            assert_eq!((failure.code.as_str(), failure.retry), ("invalid_output", Retry::Never));
            assert!(!failure.message.contains('\0'));
        }
    }

    #[test]
    fn the_status_says_whether_to_try_again() {
        for (raw, code, retry, message) in [
            (75 << 8, "exit_75", Retry::Backoff, "program exited with status 75: why"),
            (1 << 8, "exit_status", Retry::Never, "program exited with status 1: why"),
            (9, "exit_status", Retry::Never, "program was killed by signal 9: why"),
        ] {
            let failure = outcome(raw, b"{}").expect_err("failed");
            assert_eq!((failure.code.as_str(), failure.retry, failure.message.as_str()), (code, retry, message));
        }
    }
}
