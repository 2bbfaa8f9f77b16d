//! The past of jobs, as those who follow them are told of it.

use std::time::Duration;

use super::Database;
use super::agreement::{SITUATIONS, events, happen, make};
use super::steps::{
    Shared, claim, claim_and_leave, failing, finish, finish_as, finish_of, join, lazy, promoted, queue, read, reap,
    running,
};
use crate::job::transition::{Event, Retry};
use crate::job::{EventId, Happening, JobEvent, JobId, NewJob, State, Trail};
use crate::store::{Finished, Report};
use crate::testing::factory;

async fn trail(store: &Shared, job: JobId, after: Option<EventId>, most: u32) -> Trail {
    store.trails(&[(job, after)], most).await.expect("read").remove(0).expect("it is there")
}

async fn told(store: &Shared, job: JobId) -> Vec<JobEvent> {
    trail(store, job, None, 1000).await.events(None)
}

fn line(event: &JobEvent) -> String {
    let JobEvent { id, attempt, what, .. } = event;
    match what {
        Happening::State { state, run_at, error } => {
            let due = if run_at.is_some() { " later" } else { "" };
            let error = error.as_ref().map(|(code, _)| format!(" after {code}")).unwrap_or_default();
            format!("{id} {state}{due}{error}, attempt {attempt}")
        }
        Happening::Progress(progress) => format!("{id} {:?}, attempt {attempt}", progress.fraction),
        Happening::Log { message, .. } => format!("{id} `{message}`, attempt {attempt}"),
    }
}

fn lines(events: &[JobEvent]) -> Vec<String> {
    events.iter().map(line).collect()
}

pub async fn a_short_run_is_told_of_by_its_row(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    assert_eq!(lines(&told(&store, pointer.id).await), ["1-0 queued, attempt 0"]);
    finish(&store, lazy(session.worker(), pointer), &Event::Succeed).await;
    let trail = trail(&store, pointer.id, None, 10).await;
    assert!(trail.steps.is_empty() && trail.is_over(), "nothing was kept for it: {trail:?}");
    let events = trail.events(None);
    assert_eq!(lines(&events), ["1-0 queued, attempt 0", "1-1 running, attempt 1", "2-0 succeeded, attempt 1"]);
    let job = read(&store, pointer.id).await;
    let times: Vec<_> = events.iter().map(|event| Some(event.at)).collect();
    // Made up here, the start may lie before the beginning.
    let started = job.started_at.max(Some(job.created_at));
    assert_eq!(times, [Some(job.created_at), started, job.finished_at]);
}

pub async fn the_whole_story_is_told_in_order(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let later = NewJob { delay: Some(Duration::from_millis(1)), ..factory::job() };
    let id = super::steps::accept(&store, later).await;
    let pointer = promoted(&store, id).await;
    let first = claim(&store, session.worker(), pointer).await;
    let said = vec![factory::line(1, "reading"), factory::progress(2, 0.5, None), factory::line(3, "writing")];
    store.report(&[Report { lease: first, said }]).await.expect("reported");
    let mut write = finish_of(&store, first, &failing(Retry::Backoff)).await;
    write.transition.delay = Some(Duration::ZERO);
    finish_as(&store, &write).await;
    let second = claim(&store, session.worker(), promoted(&store, id).await).await;
    let Finished::Applied(Some(again)) = finish(&store, second, &Event::Release).await else { panic!("not queued") };
    claim_and_leave(&store, again).await;
    let reaped = reap(&store).await;
    let third = claim(&store, session.worker(), reaped.requeued[0].pointer).await;
    store.report(&[Report { lease: third, said: vec![factory::progress(1, 1.0, None)] }]).await.expect("reported");
    finish(&store, third, &Event::Succeed).await;

    let events = told(&store, id).await;
    assert_eq!(
        lines(&events),
        [
            "1-0 scheduled later, attempt 0",
            "2-0 queued, attempt 0",
            "3-0 running, attempt 1",
            "3-1 `reading`, attempt 1",
            "3-2 0.5, attempt 1",
            "3-3 `writing`, attempt 1",
            "4-0 scheduled later after boom, attempt 1",
            "5-0 queued, attempt 1",
            "6-0 running, attempt 2",
            "7-0 queued, attempt 1",
            "8-0 running, attempt 2",
            "9-0 queued, attempt 1",
            "10-0 running, attempt 2",
            "10-1 1.0, attempt 2",
            "11-0 succeeded, attempt 2",
        ]
    );
    assert!(events.is_sorted_by_key(|event| event.at), "{events:#?}");
    // From wherever it is read on, it is the same, and page by page as well.
    for (place, event) in events.iter().enumerate() {
        let rest = trail(&store, id, Some(event.id), 1000).await;
        assert_eq!(rest.events(Some(event.id)), events[place + 1..]);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = trail(&store, id, after, 1).await;
        seen.extend(page.events(after));
        after = seen.last().map(|event: &JobEvent| event.id);
        if page.is_over() {
            break;
        }
    }
    assert_eq!(seen, events);
}

/// Whatever happens to whatever job: what has been told stays, what is told next comes behind it, and it says what the
/// row says.
pub async fn what_was_told_stays_and_what_is_new_comes_behind(db: &impl Database) {
    let store = db.store();
    for situation in SITUATIONS {
        for event in events() {
            let session = join(&store).await;
            let id = make(&store, session.worker(), situation).await;
            let before = told(&store, id).await;
            let row = read(&store, id).await;
            let _session = happen(&store, session, &row, &event).await;
            let (after, row) = (told(&store, id).await, read(&store, id).await);
            let what =
                format!("{event:?} on a row that is {situation}: {:#?} then {:#?}", lines(&before), lines(&after));
            assert_eq!(after[..before.len()], before, "{what}");
            assert!(after.is_sorted_by_key(|event| event.id), "{what}");
            let states = after.iter().rev().find_map(|event| match event.what {
                Happening::State { state, .. } => Some((state, event.attempt)),
                _ => None,
            });
            assert_eq!(states, Some((row.visible_state(), row.attempt)), "{what}");
            assert_eq!(trail(&store, id, None, 10).await.is_over(), row.state.is_final());
        }
    }
}

pub async fn many_trails_are_read_together(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let talking = running(&store, session.worker(), factory::job()).await;
    let said = (1..=5).map(|n| factory::line(n, "x")).collect();
    store.report(&[Report { lease: talking, said }]).await.expect("reported");
    let waiting = queue(&store, factory::job()).await.id;
    let gone = JobId::new();
    let after = EventId { epoch: talking.epoch, n: 2 };
    let trails = store.trails(&[(waiting, None), (gone, None), (talking.job, Some(after))], 2).await.expect("read");
    let told: Vec<_> =
        trails.iter().map(|trail| trail.as_ref().map(|trail| (trail.job, trail.said.len(), trail.more))).collect();
    assert_eq!(told, [Some((waiting, 0, false)), None, Some((talking.job, 2, true))]);
    assert_eq!(trails[0].as_ref().map(|trail| trail.tenant.as_str()), Some(factory::TENANT));
    let end = EventId::end_of(talking.epoch);
    assert!(trail(&store, talking.job, Some(end), 10).await.events(Some(end)).is_empty());
    assert!(store.trails(&[], 10).await.expect("read").is_empty());
}

/// A job that comes and goes for ever does not make its row longer for ever.
pub async fn a_trail_has_an_end(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let mut pointer = queue(&store, factory::job()).await;
    for _ in 0..crate::job::MOST_STEPS / 2 + 3 {
        let lease = claim(&store, session.worker(), pointer).await;
        let Finished::Applied(Some(again)) = finish(&store, lease, &Event::Release).await else { panic!("not queued") };
        pointer = again;
    }
    let before = trail(&store, pointer.id, None, 10).await;
    assert_eq!(before.steps.len(), crate::job::MOST_STEPS);
    finish(&store, lazy(session.worker(), pointer), &Event::Succeed).await;
    let events = told(&store, pointer.id).await;
    assert_eq!(events[..events.len() - 1], before.events(None));
    assert!(matches!(events.last().map(|event| &event.what), Some(Happening::State { state: State::Succeeded, .. })));
}
