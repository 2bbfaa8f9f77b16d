//! How events are written.

use chrono::{DateTime, Utc};
use offload_common::job::{Happening, Progress, State};

use super::*;

fn event(n: u32, what: Happening) -> JobEvent {
    JobEvent { id: EventId { epoch: 2, n }, at: DateTime::<Utc>::UNIX_EPOCH, attempt: 1, what }
}

#[test]
fn events_are_written_as_the_specification_has_them() {
    let error = Some(("boom".to_owned(), "it \"broke\"\nbadly".to_owned()));
    let run_at = Some(DateTime::<Utc>::UNIX_EPOCH);
    let log = Happening::Log { level: "info".into(), message: "id: 1-0\n\nevent: state\r".into() };
    let events = [
        event(0, Happening::State { state: State::Scheduled, run_at, error }),
        event(1, Happening::Progress(Progress { fraction: 0.5, message: None })),
        event(2, log),
    ];
    assert_eq!(
        frames(&events),
        "id: 2-0\nevent: state\ndata: {\"state\":\"scheduled\",\"attempt\":1,\"at\":\"1970-01-01T00:00:00.000000Z\",\
         \"run_at\":\"1970-01-01T00:00:00.000000Z\",\"error\":{\"code\":\"boom\",\"message\":\"it \\\"broke\\\"\\nbadly\"}}\n\n\
         id: 2-1\nevent: progress\ndata: {\"fraction\":0.5,\"attempt\":1,\"at\":\"1970-01-01T00:00:00.000000Z\"}\n\n\
         id: 2-2\nevent: log\ndata: {\"level\":\"info\",\"message\":\"id: 1-0\\n\\nevent: state\\r\",\"attempt\":1,\
         \"at\":\"1970-01-01T00:00:00.000000Z\"}\n\n"
    );
}

#[test]
fn clients_come_back_at_different_times() {
    let pauses: Vec<u64> = (0..100)
        .map(|_| {
            sse::preamble(JobId::new().0).trim().strip_prefix("retry: ").expect("a pause").parse().expect("a number")
        })
        .collect();
    assert!(pauses.iter().all(|pause| (1_000..3_000).contains(pause)));
    assert!(pauses.iter().any(|pause| *pause != pauses[0]));
}
