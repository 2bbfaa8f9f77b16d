//! Auditing what was promised before: accepted jobs, ledgers of those that succeeded, the records of earlier audits.

use std::time::Duration;

use serde_json::json;
use uuid::{NoContext, Timestamp, Uuid};

use super::Database;
use super::agreement::{SITUATIONS, make};
use super::steps::{
    APPLIED, Shared, accept, audit, failing, finish, finish_of, found_by, join, lazy, notes_of, plan, queue, read,
    running,
};
use crate::audit::{self, Plan, Record};
use crate::clock;
use crate::job::transition::{Event, Retry};
use crate::job::{JobId, NewJob, WorkerId};
use crate::store::Error;
use crate::store::audit::LedgerColumn;
use crate::testing::factory::{self, TENANT};

/// Removes a job as no pruning does.
async fn remove(db: &impl Database, id: JobId) {
    let (jobs, id) = (db.dialect().jobs(), db.dialect().id(id));
    db.tamper(format!("DELETE FROM {jobs} WHERE id = {id}")).await;
}

pub async fn a_job_that_is_gone_is_found_by_its_key(db: &impl Database) {
    let store = db.store();
    let keyed = |key: &str| NewJob { idempotency: factory::idempotency(key, 1), ..factory::job() };
    let lost = accept(&store, keyed("lost")).await;
    accept(&store, keyed("kept")).await;
    let foreign = NewJob { tenant: "other".to_owned(), ..keyed("lost") };
    accept(&store, foreign).await;
    assert!(audit(db, plan()).await.is_clean());
    remove(db, lost).await;
    assert_eq!(found_by(&audit(db, plan()).await, "accepted"), [lost]);
    let short = Plan { retention: Duration::ZERO, ..plan() };
    assert!(audit(db, short).await.is_clean(), "it may be past its retention");
}

pub async fn named_jobs_that_are_gone_are_found(db: &impl Database) {
    let store = db.store();
    let (kept, lost) = (accept(&store, factory::job()).await, JobId::new());
    let long_ago = Timestamp::from_unix(NoContext, clock::now().timestamp().unsigned_abs() - 30 * 86_400, 0);
    let pruned = JobId(Uuid::new_v7(long_ago));
    let outcome = audit(db, Plan { accepted: vec![kept, lost, pruned], ..plan() }).await;
    assert_eq!(found_by(&outcome, "accepted"), [lost]);
    assert!(notes_of(&outcome, "accepted").contains("1 of the named jobs are gone, and may be past"));
}

/// Jobs whose handlers wrote into a ledger, in a transaction each.
async fn written(store: &Shared, worker: WorkerId, count: usize) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for _ in 0..count {
        let lease = running(store, worker, factory::job()).await;
        let mut transaction = store.begin(&lease).await.expect("begun");
        let id = json!(lease.job.to_string());
        transaction.execute("INSERT INTO ledger (job) VALUES ($1)", &[id]).await.expect("inserted");
        let success = finish_of(store, lease, &Event::Succeed).await;
        assert_eq!(transaction.finish(&success).await.expect("committed"), APPLIED);
        jobs.push(lease.job);
    }
    jobs
}

fn ledger(kind: Option<&str>) -> Plan {
    let column = LedgerColumn { schema: None, table: "ledger".to_owned(), column: "job".to_owned() };
    Plan { ledger: Some((column, kind.map(str::to_owned))), ..plan() }
}

pub async fn a_ledger_has_a_row_for_each_success(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    for id_type in ["text", db.dialect().id_type()] {
        db.tamper(format!("CREATE TABLE ledger (job {id_type})")).await;
        // What SQLite's handlers write as text, an application may turn into bytes.
        let as_bytes = if id_type == "blob" { "UPDATE ledger SET job = unhex(job, '-')" } else { "SELECT 1" };
        let jobs = written(&store, session.worker(), 4).await;
        db.tamper(as_bytes.to_owned()).await;
        let failed = running(&store, session.worker(), factory::job()).await;
        assert_eq!(finish(&store, failed, &failing(Retry::Never)).await, APPLIED);
        let live = running(&store, session.worker(), factory::job()).await;
        let other = NewJob { kind: "other.kind".to_owned(), ..factory::job() };
        let other = running(&store, session.worker(), other).await;
        assert_eq!(finish(&store, other, &Event::Succeed).await, APPLIED);

        let meant = ledger(Some(factory::KIND));
        assert!(audit(db, meant.clone()).await.is_clean());
        assert_eq!(found_by(&audit(db, ledger(None)).await, "ledger"), [other.job], "of every kind");

        let stranger = JobId::new();
        let copied = [jobs[1], failed.job, live.job, stranger, other.job, other.job];
        let value = |id: JobId| if id_type == "text" { format!("'{id}'") } else { db.dialect().id(id) };
        for id in copied {
            db.tamper(format!("INSERT INTO ledger (job) VALUES ({})", value(id))).await;
        }
        db.tamper(format!("DELETE FROM ledger WHERE job = {}", value(jobs[2]))).await;
        let outcome = audit(db, meant.clone()).await;
        let mut wrong = vec![jobs[1], jobs[2], failed.job, live.job, stranger];
        wrong.sort_unstable();
        assert_eq!(found_by(&outcome, "ledger"), wrong);
        let said: Vec<_> = outcome.reports.iter().flat_map(|report| &report.findings).collect();
        for (id, problem) in [
            (jobs[1], "it succeeded once, and has 2 rows"),
            (jobs[2], "it succeeded, and has no row"),
            (failed.job, "it is failed, and has a row"),
            (live.job, "it is running, and has a row"),
            (stranger, "there is no such job"),
        ] {
            assert!(said.iter().any(|finding| finding.jobs == [id] && finding.problem.contains(problem)), "{said:#?}");
        }

        db.tamper("DROP TABLE ledger".to_owned()).await;
        for id in jobs.into_iter().chain([other.job]) {
            remove(db, id).await;
        }
        store.cancel(TENANT, live.job).await.expect("asked");
    }
}

pub async fn what_is_no_id_in_a_ledger_is_found(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    db.tamper("CREATE TABLE ledger (job text)".to_owned()).await;
    let [job] = written(&store, session.worker(), 1).await[..] else { panic!("one") };
    assert!(audit(db, ledger(None)).await.is_clean());
    for value in ["NULL".to_owned(), "'x'".to_owned(), format!("'{}'", job.to_string().to_uppercase())] {
        db.tamper(format!("INSERT INTO ledger (job) VALUES ({value})")).await;
    }
    let outcome = audit(db, ledger(None)).await;
    let report = outcome.reports.iter().find(|report| report.check == "ledger").expect("asked for");
    let problems: Vec<&str> = report.findings.iter().map(|finding| finding.problem.as_str()).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].contains("1 rows of the ledger hold no id"), "{problems:?}");
    assert!(problems[1..].iter().all(|problem| problem.ends_with("in the ledger is no id")), "{problems:?}");
}

pub async fn a_ledger_that_is_none_is_refused(db: &impl Database) {
    let run = async |table: &str, column: &str| {
        let column = LedgerColumn { schema: None, table: table.to_owned(), column: column.to_owned() };
        audit::run(&*db.audit().await, Plan { ledger: Some((column, None)), ..plan() }).await
    };
    db.tamper("CREATE TABLE ledger (job text)".to_owned()).await;
    for (table, column) in [("nothing", "job"), ("ledger", "nothing"), ("ledger; DROP TABLE ledger", "job"), ("", "")] {
        let refused = run(table, column).await;
        assert!(matches!(refused, Err(Error::Rejected(_))), "{table}.{column}: {refused:?}");
    }
    run("ledger", "job").await.expect("it is still there");
}

pub async fn a_ledger_of_more_than_a_page_is_read_to_its_end(db: &impl Database) {
    db.tamper("CREATE TABLE ledger (job text)".to_owned()).await;
    let mut ids: Vec<JobId> = (0..5001).map(|_| JobId::new()).collect();
    for ids in ids.chunks(1000) {
        let values: Vec<String> = ids.iter().map(|id| format!("('{id}')")).collect();
        db.tamper(format!("INSERT INTO ledger (job) VALUES {}", values.join(", "))).await;
    }
    let outcome = audit(db, ledger(None)).await;
    let report = outcome.reports.iter().find(|report| report.check == "ledger").expect("asked for");
    assert_eq!((report.looked_at, report.findings.len() as u64 + report.omitted), (5001, 5001));
    ids.sort_unstable();
    assert_eq!(report.findings[0].jobs, ids[..1]);
}

async fn recorded(db: &impl Database, before: Record) -> (Vec<JobId>, Record) {
    let outcome = audit(db, Plan { record: Some(before), ..plan() }).await;
    (found_by(&outcome, "history"), outcome.record.expect("it was asked for"))
}

pub async fn what_changes_against_the_record_is_found(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let mut jobs = Vec::new();
    for situation in SITUATIONS {
        jobs.push(make(&store, session.worker(), situation).await);
    }
    let of = |situation: &str| jobs[SITUATIONS.iter().position(|known| *known == situation).expect("known")];
    let outcome = audit(db, Plan { record: Some(Record::default()), ..plan() }).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert!(notes_of(&outcome, "history").contains("first audit"));
    let record = outcome.record.expect("it was asked for");

    // What happens in good order is none to find.
    let lazy_run = lazy(session.worker(), queue_pointer(&store, of("queued")).await);
    assert_eq!(finish(&store, lazy_run, &Event::Succeed).await, APPLIED);
    store.cancel(TENANT, of("running")).await.expect("asked");
    accept(&store, factory::job()).await;
    let (found, record) = recorded(db, record).await;
    assert!(found.is_empty(), "{found:?}");

    let dialect = db.dialect();
    let table = dialect.jobs();
    let mut wrong = Vec::new();
    for (situation, change) in [
        ("running its last attempt", "epoch = epoch - 1".to_owned()),
        ("cancelled", "epoch = epoch + 1".to_owned()),
        ("failed", format!("finished_at = {}", dialect.in_seconds(-1))),
        ("queued after a loss", "state = 'scheduled'".to_owned()),
    ] {
        let id = dialect.id(of(situation));
        db.tamper(format!("UPDATE {table} SET {change} WHERE id = {id}")).await;
        wrong.push(of(situation));
    }
    for situation in ["queued after a failure", "succeeded"] {
        remove(db, of(situation)).await;
        wrong.push(of(situation));
    }
    wrong.sort_unstable();
    let (found, kept) = recorded(db, record.clone()).await;
    assert_eq!(found, wrong);
    assert_eq!(kept, record, "what was found is found again");
    assert_eq!(recorded(db, kept).await.0, wrong);
    let (found, _) = recorded(db, Record::default()).await;
    assert!(found.is_empty(), "a new record begins with what there is: {found:?}");
}

/// The pointer of a job that is queued already.
async fn queue_pointer(store: &Shared, id: JobId) -> crate::store::Pointer {
    let job = read(store, id).await;
    let queued_at = job.queued_at.expect("queued").timestamp_micros();
    crate::store::Pointer { id, epoch: job.epoch, queued_at }
}

pub async fn what_is_past_its_retention_may_be_gone(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let done = running(&store, session.worker(), factory::job()).await;
    assert_eq!(finish(&store, done, &Event::Succeed).await, APPLIED);
    queue(&store, factory::job()).await;
    let short = |record| Plan { retention: Duration::ZERO, record: Some(record), ..plan() };
    let record = audit(db, short(Record::default())).await.record.expect("it was asked for");
    store.prune(&super::steps::KEEP_NOTHING).await.expect("pruned");
    let outcome = audit(db, short(record)).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert_eq!(outcome.record.expect("it was asked for").len(), 1);
}
