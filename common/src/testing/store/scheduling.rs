//! Schedules: kept, changed, and fired once per fire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock;
use crate::job::{Job, JobId, ScheduleId, State};
use crate::schedule::{
    BatchTemplate, Change, Counts, Definition, JobTemplate, Missed, Outcome, Overlap, Reason, Recurrence, Schedule,
    Submitted, Template,
};
use crate::store::{
    Accepted, Changed, Filled, FireRecord, Fired, JobFilter, NewSchedule, Ran, Removed, ScheduleFilter, Store,
};
use crate::testing::factory::{self, TENANT};

use super::Database;
use super::steps::{KEEP_NOTHING, Shared, read, together};

fn named(name: &str, definition: Definition) -> NewSchedule {
    NewSchedule { id: ScheduleId::new(), tenant: TENANT.to_owned(), name: name.to_owned(), definition }
}

async fn make(store: &Shared, name: &str, definition: Definition) -> Schedule {
    match store.add_schedule(&named(name, definition)).await.expect("added") {
        Changed::Done(schedule) => *schedule,
        other => panic!("expected a new schedule, not {other:?}"),
    }
}

pub(super) async fn get(store: &Shared, id: ScheduleId) -> Schedule {
    store.schedule(TENANT, id).await.expect("read").expect("it is there")
}

pub(super) async fn fire(store: &Shared) -> Fired {
    let fired = store.fire(100).await.expect("fired");
    assert!(fired.troubled.is_empty(), "{fired:?}");
    fired
}

/// An hourly schedule, last seen to so many hours ago: with none, only the fire of five seconds ago is due.
pub(super) async fn due(db: &impl Database, name: &str, hours: i64, definition: Definition) -> Schedule {
    let schedule = make(&db.store(), name, definition).await;
    rewind(db, schedule.id, hours).await;
    schedule
}

async fn rewind(db: &impl Database, id: ScheduleId, hours: i64) {
    let dialect = db.dialect();
    let (anchor, next_at) = (dialect.in_seconds(-5 - 3600 * (hours + 1)), dialect.in_seconds(-5 - 3600 * hours));
    let (schedules, id) = (dialect.schedules(), dialect.id(JobId(id.0)));
    db.tamper(format!("UPDATE {schedules} SET anchor = {anchor}, next_at = {next_at} WHERE id = {id}")).await;
}

async fn jobs_of(store: &dyn Store, schedule: ScheduleId) -> Vec<Job> {
    let filter = JobFilter { schedule_id: Some(schedule.0), ..factory::filter() };
    let mut jobs = store.jobs(&filter).await.expect("listed");
    jobs.reverse();
    jobs
}

/// What became of the fires, in order: the outcome, the reason, and how many they were.
async fn told(store: &Shared, schedule: ScheduleId) -> Vec<String> {
    let mut records: Vec<FireRecord> = store.fires(schedule, None, 1000).await.expect("read");
    records.reverse();
    let tell = |record: &FireRecord| {
        let verdict = &record.verdict;
        let submits = matches!(verdict.outcome, Outcome::Fired | Outcome::CaughtUp | Outcome::RunNow);
        assert_eq!(record.submitted.is_some(), submits, "{record:?}");
        let reason = verdict.reason.map_or("", Reason::as_str);
        format!("{} {reason} {}", verdict.outcome.as_str(), verdict.count)
    };
    records.iter().map(tell).collect()
}

pub async fn a_schedule_reads_back_as_it_was_made(db: &impl Database) {
    let store = db.store();
    let definition =
        Definition { recurrence: Recurrence::Cron("*/5 * * * *".into()), jitter_seconds: 2.5, ..factory::definition() };
    let made = make(&store, "nightly", definition).await;
    let found = get(&store, made.id).await;
    assert_eq!(format!("{found:?}"), format!("{made:?}"));
    assert!(found.next_at.is_some_and(|at| at > found.created_at) && found.version == 1 && !found.paused);
    assert!(store.schedule("other", made.id).await.expect("read").is_none(), "it is the tenant's own");
    let again = store.add_schedule(&named("nightly", factory::definition())).await.expect("answered");
    assert!(matches!(again, Changed::NameTaken(id) if id == made.id), "{again:?}");
    let others = NewSchedule { tenant: "other".into(), ..named("nightly", factory::definition()) };
    assert!(matches!(store.add_schedule(&others).await.expect("added"), Changed::Done(_)));
    let second = make(&store, "hourly", factory::definition()).await;
    let list = |name: Option<&str>, before, limit| ScheduleFilter {
        tenant: TENANT.into(),
        name: name.map(str::to_owned),
        before,
        limit,
    };
    for (filter, expected) in [
        (list(None, None, 10), vec![second.id, made.id]),
        (list(None, None, 1), vec![second.id]),
        (list(None, Some(second.id), 10), vec![made.id]),
        (list(Some("nightly"), None, 10), vec![made.id]),
        (list(Some("weekly"), None, 10), vec![]),
    ] {
        let found = store.schedules(&filter).await.expect("listed");
        assert_eq!(found.iter().map(|schedule| schedule.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

pub async fn a_change_names_the_version_that_it_saw(db: &impl Database) {
    let store = db.store();
    let (made, other) =
        (make(&store, "a", factory::definition()).await, make(&store, "b", factory::definition()).await);
    let change = async |expected, name: &str, seconds| {
        let definition = Definition { recurrence: Recurrence::EverySeconds(seconds), ..factory::definition() };
        let change = Change::Define(name.to_owned(), Box::new(definition));
        store.change_schedule(TENANT, made.id, expected, &change).await.expect("answered")
    };
    let Changed::Done(second) = change(Some(1), "a", 7200).await else { panic!("it is at 1") };
    assert_eq!((second.version, second.definition.recurrence.clone()), (2, Recurrence::EverySeconds(7200)));
    assert!(second.next_at > made.next_at, "{second:?}");
    assert!(matches!(change(Some(1), "a", 60).await, Changed::Conflict(2)));
    assert!(matches!(change(None, "b", 60).await, Changed::NameTaken(id) if id == other.id));
    assert!(matches!(change(None, "c", 60).await, Changed::Done(third) if third.version == 3));
    assert_eq!(get(&store, made.id).await.name, "c");
    let missing = store.change_schedule(TENANT, ScheduleId::new(), None, &Change::Pause).await.expect("answered");
    assert!(matches!(missing, Changed::Missing), "{missing:?}");
    let remove = async |id, expected| store.remove_schedule(TENANT, id, expected).await.expect("answered");
    assert_eq!(remove(made.id, Some(2)).await, Removed::Conflict(3));
    assert_eq!(remove(made.id, Some(3)).await, Removed::Done);
    assert_eq!(remove(made.id, None).await, Removed::Missing);
    assert!(store.schedule(TENANT, made.id).await.expect("read").is_none());
}

/// Whoever is late is told so, also where the name was still free when it was looked up.
pub async fn racing_renames_give_a_name_to_one(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let mut made = Vec::new();
    for n in 0..8 {
        made.push(make(&here, &format!("{n}"), factory::definition()).await.id);
    }
    for round in 0..10 {
        let rename = |n: usize| {
            let (store, id) = (if n.is_multiple_of(2) { here.clone() } else { there.clone() }, made[n]);
            let change = Change::Define(format!("round {round}"), Box::new(factory::definition()));
            async move { store.change_schedule(TENANT, id, None, &change).await.expect("answered") }
        };
        let answers = together((0..made.len()).map(rename)).await;
        let winner = answers.iter().position(|answer| matches!(answer, Changed::Done(_))).expect("one has it");
        for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != winner) {
            assert!(matches!(answer, Changed::NameTaken(id) if *id == made[winner]), "{n}: {answer:?}");
        }
    }
}

pub async fn a_fire_submits_its_job_once(db: &impl Database) {
    let store = db.store();
    let mut definition = factory::definition();
    let payload = factory::raw(r#"{"at": "{{fire.unix}}", "n": 1.50}"#);
    definition.template = Template::Job(JobTemplate { payload, tags: vec!["nightly".into()], ..factory::template() });
    let made = due(db, "once", 0, definition).await;
    let before = get(&store, made.id).await;
    let fired = fire(&store).await;
    assert_eq!((fired.turns, fired.submitted.len()), (1, 1), "{fired:?}");
    assert_eq!(fire(&store).await.turns, 0, "it is not due any more");
    let jobs = jobs_of(&*store, made.id).await;
    let [job] = &jobs[..] else { panic!("expected one job, not {jobs:?}") };
    let fire_at = before.next_at.expect("it was due");
    assert_eq!((job.id, job.fire_at, job.schedule_id), (fired.submitted[0], Some(fire_at), Some(made.id.0)));
    assert_eq!((job.state, &job.tags[..]), (State::Scheduled, &["nightly".to_owned()][..]));
    assert_eq!(job.payload.get(), format!(r#"{{"at": "{}", "n": 1.50}}"#, fire_at.timestamp()));
    assert!(job.due, "promotion brings it in at once");
    let after = get(&store, made.id).await;
    assert_eq!((after.last_fire_at, after.last), (Some(fire_at), Some(Submitted::Job(job.id))));
    assert_eq!(after.counts, Counts { fired: 1, ..Counts::default() });
    assert!(after.next_at.is_some_and(|at| (59..=60).contains(&(at - fire_at).num_minutes())), "{after:?}");
    assert_eq!(after.version, before.version, "firing is no change of a client's");
    assert_eq!(told(&store, made.id).await, ["fired  1"]);
}

/// As after a clock that was put back, or a change that brings a fire back.
pub async fn a_fire_that_comes_again_is_not_repeated(db: &impl Database) {
    let store = db.store();
    let made = due(db, "again", 0, Definition { overlap: Overlap::Allow, ..factory::definition() }).await;
    let next_at = get(&store, made.id).await.next_at.expect("due");
    fire(&store).await;
    let dialect = db.dialect();
    let times = match dialect {
        super::Dialect::Postgres => format!("'{}'", next_at.to_rfc3339()),
        super::Dialect::Sqlite => next_at.timestamp_micros().to_string(),
    };
    let (schedules, id) = (dialect.schedules(), dialect.id(JobId(made.id.0)));
    db.tamper(format!("UPDATE {schedules} SET next_at = {times} WHERE id = {id}")).await;
    let again = fire(&store).await;
    assert_eq!((again.turns, again.submitted.len()), (1, 0), "{again:?}");
    assert_eq!(jobs_of(&*store, made.id).await.len(), 1);
    assert_eq!(get(&store, made.id).await.counts.fired, 1);
    assert!(get(&store, made.id).await.next_at.is_some_and(|at| at > next_at));
}

pub async fn racing_firers_fire_each_fire_once(db: &impl Database) {
    const SCHEDULES: usize = 12;
    let (here, there) = (db.store(), db.another().await);
    let definition = Definition { missed: Missed::All, overlap: Overlap::Allow, ..factory::definition() };
    let mut ids = Vec::new();
    for n in 0..SCHEDULES {
        ids.push(due(db, &format!("s{n}"), 3, definition.clone()).await.id);
    }
    let fired = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let mut submitted = Vec::new();
            while store.next_fire().await.expect("asked").due_in == Some(Duration::ZERO) {
                submitted.extend(store.fire(3).await.expect("fired").submitted);
            }
            submitted
        }
    }))
    .await;
    let submitted: Vec<JobId> = fired.into_iter().flatten().collect();
    assert_eq!(submitted.len(), SCHEDULES * 4, "three were missed, and one is in time");
    let mut seen = BTreeSet::new();
    for id in ids {
        let jobs = jobs_of(&*here, id).await;
        assert_eq!(jobs.len(), 4);
        assert!(jobs.iter().all(|job| seen.insert((job.schedule_id, job.fire_at))), "{jobs:?}");
    }
}

pub async fn missed_fires_go_by_their_policy(db: &impl Database) {
    let store = db.store();
    for (missed, expected) in [
        (Missed::Skip, &["skipped missed 3", "fired  1"][..]),
        (Missed::One, &["skipped missed 3", "fired  1"]),
        (Missed::All, &["skipped missed 1", "caught_up missed 1", "caught_up missed 1", "fired  1"]),
    ] {
        let definition = Definition { missed, max_missed: 3, overlap: Overlap::Allow, ..factory::definition() };
        let made = due(db, missed.as_str(), 3, definition).await;
        fire(&store).await;
        assert_eq!(told(&store, made.id).await, expected, "{missed:?}");
        let counts = get(&store, made.id).await.counts;
        let caught_up = if missed == Missed::All { 2 } else { 0 };
        assert_eq!(counts, Counts { fired: 1, caught_up, skipped: 3 - caught_up, run_now: 0 });
    }
}

pub async fn overlapping_fires_go_by_their_policy(db: &impl Database) {
    let store = db.store();
    for (overlap, expected) in [
        (Overlap::Allow, &["fired  1", "fired  1"][..]),
        (Overlap::Skip, &["fired  1", "skipped overlap 1"]),
        (Overlap::Queue, &["fired  1", "waiting overlap 1"]),
        (Overlap::CancelPrevious, &["fired  1", "fired  1"]),
    ] {
        let made = due(db, overlap.as_str(), 0, Definition { overlap, ..factory::definition() }).await;
        let first = fire(&store).await.submitted;
        // Another fire, an instant later than the first.
        rewind(db, made.id, 0).await;
        let second = fire(&store).await;
        assert_eq!(told(&store, made.id).await, expected, "{overlap:?}");
        let cancels = overlap == Overlap::CancelPrevious;
        assert_eq!(second.cancelled, if cancels { first.clone() } else { vec![] });
        let state = if cancels { State::Cancelled } else { State::Scheduled };
        assert_eq!(read(&store, first[0]).await.state, state, "{overlap:?}");
        store.remove_schedule(TENANT, made.id, None).await.expect("removed");
    }
}

pub async fn a_fire_that_waits_follows_the_job_before_it(db: &impl Database) {
    let store = db.store();
    let made = due(db, "queue", 0, Definition { overlap: Overlap::Queue, ..factory::definition() }).await;
    let first = fire(&store).await.submitted;
    for _ in 0..2 {
        rewind(db, made.id, 0).await;
        assert!(fire(&store).await.submitted.is_empty(), "the first has not ended");
    }
    let waits = get(&store, made.id).await;
    assert_eq!((waits.waiting, waits.last), (2, Some(Submitted::Job(first[0]))));
    assert!(store.next_fire().await.expect("asked").waiting);
    assert_eq!(fire(&store).await.turns, 0, "there is nothing to do yet");
    let waiting: Vec<_> = store.fires(made.id, None, 10).await.expect("read");
    let waiting: Vec<_> = waiting.iter().rev().map(|record| record.verdict.fire_at).collect();
    for fire_at in &waiting[1..] {
        let last = get(&store, made.id).await.last.and_then(Submitted::job).expect("there is one");
        store.cancel(TENANT, last).await.expect("cancelled");
        let released = fire(&store).await.submitted;
        assert_eq!(released.len(), 1, "one at a time");
        assert_eq!(read(&store, released[0]).await.fire_at.as_ref(), Some(fire_at));
    }
    assert_eq!(told(&store, made.id).await, ["fired  1", "fired overlap 1", "fired overlap 1"]);
    let after = get(&store, made.id).await;
    assert_eq!((after.waiting, after.counts.fired), (0, 3));
    assert!(!store.next_fire().await.expect("asked").waiting);
}

pub async fn a_fire_whose_key_is_taken_is_skipped(db: &impl Database) {
    let store = db.store();
    let with_key = |overlap| {
        let template = Template::Job(JobTemplate { unique_key: Some("k".into()), ..factory::template() });
        Definition { overlap, template, ..factory::definition() }
    };
    let holder = due(db, "holder", 0, with_key(Overlap::Queue)).await;
    let first = fire(&store).await.submitted[0];
    assert_eq!(read(&store, first).await.unique_key.as_deref(), Some("k"));
    rewind(db, holder.id, 0).await;
    fire(&store).await;
    // Another one that wants the key, with a second fire that is missed, beside one that wants none.
    let missed = Definition { missed: Missed::All, ..with_key(Overlap::Allow) };
    let (other, free) = (due(db, "other", 1, missed).await, due(db, "free", 0, factory::definition()).await);
    let fired = fire(&store).await;
    assert_eq!((fired.turns, fired.submitted.len()), (2, 1), "{fired:?}");
    assert_eq!(read(&store, fired.submitted[0]).await.schedule_id, Some(free.id.0));
    assert_eq!(told(&store, other.id).await, ["skipped unique_key 1", "skipped unique_key 1"]);
    let after = get(&store, other.id).await;
    assert_eq!((after.last, after.last_fire_at), (None, None));
    assert_eq!(after.counts, Counts { skipped: 2, ..Counts::default() });
    let refused = store.run_schedule(TENANT, other.id, None, None).await.expect("answered").expect("it is there");
    assert!(matches!(refused, Ran::Job(_, Accepted::Held(job)) if job == first), "{refused:?}");
    assert_eq!(told(&store, other.id).await.len(), 2, "what was asked for in vain is no fire");

    store.cancel(TENANT, first).await.expect("cancelled");
    rewind(db, other.id, 0).await;
    // Of those that come for the key at once, one has it: the fire that waited, or the other schedule's.
    let fired = fire(&store).await;
    let [taker] = fired.submitted[..] else { panic!("expected one job, not {fired:?}") };
    let (last, before) = (told(&store, holder.id).await, told(&store, other.id).await);
    let (waited, came) = (last[1].as_str(), before[2].as_str());
    let taken = ("fired overlap 1", "skipped unique_key 1");
    assert!((waited, came) == taken || (waited, came) == ("skipped unique_key 1", "fired  1"), "{waited}, {came}");
    let holders = [&holder, &other].map(|schedule| schedule.id);
    let mut last_jobs = Vec::new();
    for id in holders {
        let schedule = get(&store, id).await;
        assert_eq!(schedule.waiting, 0, "{schedule:?}");
        last_jobs.push(schedule.last);
    }
    assert!(last_jobs.contains(&Some(Submitted::Job(taker))), "{last_jobs:?}");
}

pub async fn a_schedule_in_trouble_keeps_no_other_from_its_turn(db: &impl Database) {
    let store = db.store();
    let mut ids = BTreeMap::new();
    for name in ["a", "gone", "b", "refused", "c"] {
        ids.insert(name, due(db, name, 0, factory::definition()).await.id);
    }
    let schedules = db.dialect().schedules();
    let definition = serde_json::to_string(&factory::definition()).expect("JSON");
    // A zone that this program does not know, and a kind that PostgreSQL cannot store.
    let gone = definition.replace("\"UTC\"", "\"Mars/Olympus\"");
    let refused = definition.replace(factory::KIND, "nul\\u0000");
    for (name, definition) in [("gone", gone), ("refused", refused)] {
        db.tamper(format!("UPDATE {schedules} SET definition = '{definition}' WHERE name = '{name}'")).await;
    }
    let mut fired = Fired::default();
    for _ in 0..2 {
        let more = store.fire(100).await.expect("fired");
        fired.turns += more.turns;
        fired.troubled.extend(more.troubled);
    }
    assert_eq!(fired.turns, 5, "{fired:?}");
    for name in ["a", "b", "c"] {
        assert_eq!(jobs_of(&*store, ids[name]).await.len(), 1, "{name}");
    }
    let trouble = get(&store, ids["gone"]).await.trouble.expect("it is visible");
    assert!(trouble.message.contains("Mars/Olympus"), "{trouble:?}");
    assert!(fired.troubled.iter().any(|(id, _)| *id == ids["gone"]), "{fired:?}");
    let refused = get(&store, ids["refused"]).await;
    assert!(refused.trouble.is_some() || refused.counts.fired == 1, "{refused:?}");
    assert!(store.next_fire().await.expect("asked").due_in > Some(Duration::ZERO), "it is held for a while");
    // What a client puts right is tried at once.
    let mended = Change::Define("gone".into(), Box::new(factory::definition()));
    store.change_schedule(TENANT, ids["gone"], None, &mended).await.expect("changed");
    rewind(db, ids["gone"], 0).await;
    assert_eq!(fire(&store).await.submitted.len(), 1);
    assert_eq!(get(&store, ids["gone"]).await.trouble, None);
}

/// A schedule's batch: two jobs, and one that follows.
fn batch() -> Template {
    let job = |payload| JobTemplate { payload: factory::raw(payload), ..factory::template() };
    let batch = BatchTemplate {
        jobs: vec![job(r#"{"n": 1.50, "day": "{{fire.date}}"}"#), job(r#"{"n": 2}"#)],
        follow_up: Some(job(r#"{"sum of": "{{fire.unix}}"}"#)),
        callback: None,
        metadata: Some(factory::raw(r#"{"m": 1.0}"#)),
    };
    Template::Batch { batch }
}

async fn batch_of(store: &Shared, schedule: ScheduleId) -> crate::store::Batch {
    let last = get(store, schedule).await.last.and_then(Submitted::batch).expect("it submitted a batch");
    store.batch(TENANT, last).await.expect("read").expect("it is there")
}

pub async fn a_fire_submits_its_batch_once(db: &impl Database) {
    let store = db.store();
    let definition = Definition { template: batch(), overlap: Overlap::Queue, ..factory::definition() };
    let made = due(db, "batch", 0, definition).await;
    assert_eq!(format!("{:?}", get(&store, made.id).await.definition), format!("{:?}", made.definition));
    let fire_at = get(&store, made.id).await.next_at.expect("it was due");
    let fired = fire(&store).await;
    assert_eq!((fired.turns, fired.submitted.len()), (1, 2), "{fired:?}");
    let first = batch_of(&store, made.id).await;
    assert_eq!((first.total, first.sealed, first.counts.queued), (2, true, 2));
    assert_eq!(first.metadata.as_deref().map(|metadata| metadata.get()), Some(r#"{"m": 1.0}"#));
    let jobs = jobs_of(&*store, made.id).await;
    let payloads = [format!(r#"{{"n": 1.50, "day": "{}"}}"#, fire_at.date_naive()), r#"{"n": 2}"#.to_owned()];
    assert_eq!(jobs.iter().map(|job| job.payload.get()).collect::<Vec<_>>(), payloads);
    assert!(jobs.iter().all(|job| job.batch_id == Some(first.id.0) && job.fire_at == Some(fire_at)), "{jobs:?}");
    assert!(jobs.iter().all(|job| job.state == State::Scheduled && job.due), "promotion brings them in at once");
    assert_eq!(told(&store, made.id).await, ["fired  1"]);

    // The next one waits for all of it.
    rewind(db, made.id, 0).await;
    assert!(fire(&store).await.submitted.is_empty(), "none of it has ended");
    store.cancel(TENANT, jobs[0].id).await.expect("cancelled");
    assert_eq!(fire(&store).await.turns, 0, "one of it has not ended");
    store.cancel(TENANT, jobs[1].id).await.expect("cancelled");
    let followed = store.batch(TENANT, first.id).await.expect("read").and_then(|batch| batch.follow_up);
    let followed = read(&store, followed.expect("a job follows")).await;
    assert_eq!(followed.payload.get(), format!(r#"{{"sum of": "{}"}}"#, fire_at.timestamp()));
    assert_eq!((followed.schedule_id, followed.batch_id), (None, None), "it is not of the fire");
    assert_eq!(fire(&store).await.submitted.len(), 2);
    assert_ne!(batch_of(&store, made.id).await.id, first.id);
    assert_eq!(told(&store, made.id).await, ["fired  1", "fired overlap 1"]);
    let after = get(&store, made.id).await;
    assert_eq!((after.waiting, after.counts.fired), (0, 2));

    // From now on it submits a job.
    let change = Change::Define("batch".into(), Box::new(factory::definition()));
    store.change_schedule(TENANT, made.id, None, &change).await.expect("changed");
    rewind(db, made.id, 0).await;
    assert!(fire(&store).await.submitted.is_empty(), "the batch has not ended");
    for job in &jobs_of(&*store, made.id).await {
        store.cancel(TENANT, job.id).await.expect("cancelled");
    }
    rewind(db, made.id, 0).await;
    let [job] = fire(&store).await.submitted[..] else { panic!("expected one job") };
    assert_eq!(get(&store, made.id).await.last, Some(Submitted::Job(job)));
}

pub async fn a_batch_is_cancelled_by_the_next_fire(db: &impl Database) {
    let store = db.store();
    let overlap = Overlap::CancelPrevious;
    // Two at once: their jobs are taken before their batches.
    let mut made = Vec::new();
    for name in ["a", "b"] {
        let definition = Definition { template: batch(), overlap, ..factory::definition() };
        made.push(due(db, name, 0, definition).await.id);
    }
    let mut first: BTreeSet<JobId> = fire(&store).await.submitted.into_iter().collect();
    let before = batch_of(&store, made[0]).await.id;
    for id in &made {
        rewind(db, *id, 0).await;
    }
    let fired = fire(&store).await;
    assert_eq!((fired.turns, fired.submitted.len(), fired.cancelling.len()), (2, 4, 0), "{fired:?}");
    for job in fired.cancelled {
        assert!(first.remove(&job), "{job} is of the first batches");
        assert_eq!(read(&store, job).await.state, State::Cancelled);
    }
    assert!(first.is_empty(), "{first:?}");
    let before = store.batch(TENANT, before).await.expect("read").expect("it is there");
    assert_eq!((before.counts.cancelled, before.finished_at.is_some()), (2, true));
    assert_eq!(batch_of(&store, made[0]).await.counts.queued, 2);
}

pub async fn a_batch_runs_when_it_is_asked_to(db: &impl Database) {
    let store = db.store();
    let made =
        make(&store, "now", Definition { template: batch(), jitter_seconds: 3600.0, ..factory::definition() }).await;
    let run = async |key: Option<crate::store::IdempotencyKey>| match store
        .run_schedule(TENANT, made.id, key.as_ref(), Some("00-trace"))
        .await
        .expect("answered")
    {
        Some(Ran::Batch(id, filled)) => (id, filled),
        other => panic!("expected a batch, not {other:?}"),
    };
    let (first, filled) = run(factory::idempotency("k", 1)).await;
    assert!(matches!(filled, Filled::Done(_)), "{filled:?}");
    assert!(matches!(run(factory::idempotency("k", 1)).await.1, Filled::Repeated(id) if id == first));
    assert!(matches!(run(factory::idempotency("k", 2)).await.1, Filled::KeyReused));
    let (second, _) = run(None).await;
    let jobs = jobs_of(&*store, made.id).await;
    assert_eq!(jobs.len(), 4, "once each");
    assert!(jobs.iter().all(|job| job.due), "nobody who asks waits for the jitter");
    let after = get(&store, made.id).await;
    assert_eq!((after.last, after.counts.run_now), (Some(Submitted::Batch(second)), 2));
    assert_eq!(told(&store, made.id).await, ["run_now  1", "run_now  1"]);
}

pub async fn a_paused_schedule_does_not_fire(db: &impl Database) {
    let store = db.store();
    let made = due(db, "paused", 3, factory::definition()).await;
    let Changed::Done(paused) = store.change_schedule(TENANT, made.id, None, &Change::Pause).await.expect("paused")
    else {
        panic!("it is there")
    };
    assert_eq!((paused.paused, paused.next_at), (true, None));
    assert_eq!(fire(&store).await.turns, 0);
    assert_eq!(store.next_fire().await.expect("asked").due_in, None);
    let Changed::Done(resumed) = store.change_schedule(TENANT, made.id, None, &Change::Resume).await.expect("resumed")
    else {
        panic!("it is there")
    };
    assert!(!resumed.paused && resumed.next_at.is_some_and(|at| at > resumed.updated_at));
    assert_eq!(fire(&store).await.turns, 0, "what a pause covers was not missed");
}

pub async fn a_schedule_runs_when_it_is_asked_to(db: &impl Database) {
    let store = db.store();
    let made = make(&store, "now", factory::definition()).await;
    store.change_schedule(TENANT, made.id, None, &Change::Pause).await.expect("paused");
    let key = factory::idempotency("k", 1);
    let run = async |key: Option<&crate::store::IdempotencyKey>| match store
        .run_schedule(TENANT, made.id, key, None)
        .await
        .expect("answered")
        .expect("it is there")
    {
        Ran::Job(job, accepted) => (job, accepted),
        other => panic!("expected a job, not {other:?}"),
    };
    let (job, accepted) = run(key.as_ref()).await;
    assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
    assert!(matches!(run(key.as_ref()).await.1, Accepted::Repeated(first) if first == job));
    assert!(matches!(run(factory::idempotency("k", 2).as_ref()).await.1, Accepted::KeyReused));
    let (second, _) = run(None).await;
    let jobs = jobs_of(&*store, made.id).await;
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [job, second], "also while one runs");
    assert!(jobs.iter().all(|job| job.due && job.fire_at.is_some_and(|at| at <= clock::now())), "{jobs:?}");
    assert_eq!(told(&store, made.id).await, ["run_now  1", "run_now  1"]);
    let after = get(&store, made.id).await;
    assert_eq!((after.last, after.counts.run_now), (Some(Submitted::Job(second)), 2));
    assert!(store.run_schedule(TENANT, ScheduleId::new(), None, None).await.expect("answered").is_none());
}

pub async fn jobs_and_records_outlive_their_schedule(db: &impl Database) {
    let store = db.store();
    let made = due(db, "gone", 0, factory::definition()).await;
    let fired = fire(&store).await.submitted;
    assert_eq!(store.remove_schedule(TENANT, made.id, None).await.expect("removed"), Removed::Done);
    assert_eq!(read(&store, fired[0]).await.schedule_id, Some(made.id.0));
    assert_eq!(told(&store, made.id).await, ["fired  1"]);
    assert_eq!(fire(&store).await.turns, 0);
}

pub async fn records_are_kept_for_their_retention(db: &impl Database) {
    let store = db.store();
    let made = due(db, "kept", 0, Definition { overlap: Overlap::Queue, ..factory::definition() }).await;
    fire(&store).await;
    rewind(db, made.id, 0).await;
    fire(&store).await;
    assert_eq!(told(&store, made.id).await, ["fired  1", "waiting overlap 1"]);
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert_eq!(told(&store, made.id).await, ["waiting overlap 1"], "it is to fire yet");
    store.remove_schedule(TENANT, made.id, None).await.expect("removed");
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert!(told(&store, made.id).await.is_empty(), "it never will");
}

pub async fn the_next_fire_is_known(db: &impl Database) {
    let store = db.store();
    let nothing = store.next_fire().await.expect("asked");
    assert_eq!((nothing.due_in, nothing.waiting), (None, false));
    let made = make(&store, "next", factory::definition()).await;
    let due_in = store.next_fire().await.expect("asked").due_in.expect("there is one");
    assert!((3500..=3600).contains(&due_in.as_secs()), "{due_in:?}");
    rewind(db, made.id, 0).await;
    assert_eq!(store.next_fire().await.expect("asked").due_in, Some(Duration::ZERO));
}
