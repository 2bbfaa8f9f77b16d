//! What is particular to the SQLite store: one process, one writer, a schema without types.

use std::path::PathBuf;
use std::time::Duration;

use offload_common::job::transition::Transition as Outcome;
use offload_common::job::{JobId, Lease, Nonce, State};
use offload_common::store::sqlite::SqliteStore;
use offload_common::store::{
    Accepted, Beat, Claim, Column, ColumnType, Error, Finish, Finished, ReapPolicy, Store, TableName,
};
use offload_common::testing::factory;
use serde_json::json;
use tempfile::TempDir;

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("data").join("offload.db")
}

async fn open(folder: &TempDir) -> SqliteStore {
    let store = SqliteStore::open(&file(folder)).await.expect("opened");
    store.migrate().await.expect("migrated");
    store
}

/// A claimed job.
async fn running(store: &SqliteStore) -> Lease {
    let accepted = store.accept(&[factory::job()]).await.expect("accepted");
    let [Accepted::New { dispatch: Some(dispatch), .. }] = &accepted[..] else { panic!("{accepted:?}") };
    let pointer = dispatch.pointer;
    let claim = Claim { job: pointer.id, epoch: pointer.epoch, nonce: Nonce::new(), running_for: Duration::ZERO };
    let session = store.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    store.claim(session.worker(), &[claim]).await.expect("claimed")[0].lease().expect("granted")
}

fn success(lease: Lease) -> Finish {
    let transition = Outcome { to: State::Succeeded, attempt: 1, losses: 0, delay: None, failure: None };
    Finish { lease, transition, result: None, ran_for: Duration::ZERO, linked: false }
}

async fn state(store: &SqliteStore, job: JobId) -> State {
    store.job("default", job).await.expect("read").expect("there").state
}

/// Reads with a connection of the test's own.
async fn rows(folder: &TempDir, sql: &'static str) -> Vec<String> {
    use sqlx::Connection;
    let url = format!("sqlite://{}", file(folder).display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("connected");
    sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("read")
}

fn table(name: &str) -> TableName {
    TableName { schema: "public".into(), table: name.into() }
}

fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
    columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect()
}

#[tokio::test]
async fn a_second_process_is_told_whose_folder_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let Err(error) = SqliteStore::open(&file(&folder)).await else { panic!("it is in use") };
    assert!(error.to_string().contains(&folder.path().join("data").display().to_string()), "{error}");
    store.close().await;
    open(&folder).await;
}

/// The names of all migrations, in order.
fn migrations() -> Vec<String> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/sqlite")).expect("a folder");
    let name = |entry: std::fs::DirEntry| entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
    let mut names: Vec<String> = folder.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_old_schema_is_told_from_a_current_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&file(&folder)).await.expect("opened");
    assert!(matches!(store.ready().await, Err(Error::NotMigrated(_))));
    assert!(matches!(store.accept(&[factory::job()]).await, Err(Error::NotMigrated(_))));
    assert_eq!(store.migrate().await.expect("migrated"), migrations());
    assert!(store.migrate().await.expect("again").is_empty());
    store.ready().await.expect("ready");
}

#[tokio::test]
async fn what_ran_when_the_process_died_is_reaped_by_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let session = store.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    let lease = running(&store).await;
    drop((session, store));
    let store = open(&folder).await;
    let reaped = store.reap(&ReapPolicy { lease: Duration::ZERO, judge: None }).await.expect("reaped");
    assert_eq!(reaped.requeued.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), [lease.job]);
}

#[tokio::test]
async fn everybody_else_writes_while_a_handlers_transaction_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let mut session = store.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    let lease = running(&store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("CREATE TABLE orders (n INTEGER PRIMARY KEY)", &[]).await.expect("created");
    assert_eq!(transaction.execute("INSERT INTO orders VALUES ($1)", &[json!(1)]).await.expect("inserted"), 1);

    assert_eq!(session.beat().await.expect("beaten"), Beat::Alive { cancel: Vec::new() });
    store.accept(&[factory::job()]).await.expect("accepted");
    store.add_file(&factory::file()).await.expect("stored, also by the handler itself");
    let other = running(&store).await;
    assert_eq!(store.finish(&[success(other)]).await.expect("finished"), [Finished::Applied(None)]);

    assert_eq!(transaction.execute("INSERT INTO orders VALUES ($1)", &[json!(2)]).await.expect("inserted"), 1);
    assert_eq!(transaction.finish(&success(lease)).await.expect("finished"), Finished::Applied(None));
    assert_eq!(state(&store, lease.job).await, State::Succeeded);
    assert_eq!(rows(&folder, "SELECT CAST(n AS TEXT) FROM orders ORDER BY n").await, ["1", "2"]);
}

/// Two handlers take from one stock: the one that was overtaken is not told a success.
#[tokio::test]
async fn a_transaction_that_was_overtaken_fails_instead_of_lying() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let leases = [running(&store).await, running(&store).await, running(&store).await];
    let mut setup = store.begin(&leases[0]).await.expect("begun");
    setup.execute("CREATE TABLE stock (n INTEGER)", &[]).await.expect("created");
    setup.execute("INSERT INTO stock VALUES (1)", &[]).await.expect("inserted");
    setup.finish(&success(leases[0])).await.expect("finished");

    const TAKE: &str = "UPDATE stock SET n = n - 1 WHERE n > 0";
    let mut slow = store.begin(&leases[1]).await.expect("begun");
    let mut fast = store.begin(&leases[2]).await.expect("begun");
    assert_eq!(slow.execute(TAKE, &[]).await.expect("taken"), 1);
    assert_eq!(fast.execute(TAKE, &[]).await.expect("taken"), 1);
    assert_eq!(fast.finish(&success(leases[2])).await.expect("finished"), Finished::Applied(None));
    assert!(matches!(slow.finish(&success(leases[1])).await, Err(Error::Unavailable(_))));
    assert_eq!(state(&store, leases[1].job).await, State::Running);
    assert_eq!(rows(&folder, "SELECT CAST(n AS TEXT) FROM stock").await, ["0"]);
}

#[tokio::test]
async fn a_lost_lease_and_a_drop_leave_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("CREATE TABLE orders (n)", &[]).await.expect("created");
    let stale = success(Lease { epoch: lease.epoch + 1, ..lease });
    assert_eq!(transaction.finish(&stale).await.expect("answered"), Finished::Lost);
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("CREATE TABLE orders (n)", &[]).await.expect("not there yet");
    drop(transaction);
    store.accept(&[factory::job()]).await.expect("accepted");
    assert!(rows(&folder, "SELECT name FROM sqlite_schema WHERE name = 'orders'").await.is_empty());
    assert_eq!(state(&store, lease.job).await, State::Running);
}

#[tokio::test]
async fn rows_are_typed_appended_and_committed_with_the_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    let columns = columns(&[
        ("id", ColumnType::Integer),
        ("the \"price\"", ColumnType::Numeric),
        ("x", ColumnType::Float),
        ("at", ColumnType::Timestamp),
        ("doc", ColumnType::Json),
    ]);
    let orders = table("the orders");
    let mut transaction = store.begin(&lease).await.expect("begun");
    assert_eq!(transaction.columns(&orders).await.expect("read"), None);
    transaction.create_table(&orders, &columns).await.expect("created");
    transaction.create_table(&orders, &columns).await.expect("it is there");
    assert_eq!(transaction.columns(&orders).await.expect("read"), Some(columns.clone()));
    let row = |n: u32| {
        let cells = [n.to_string(), "1.10".into(), "0.1".into(), "2026-11-23T10:00:00Z".into(), "[1.0]".into()];
        cells.into_iter().map(Some).collect::<Vec<_>>()
    };
    let many = (0..2500).map(row).collect();
    assert_eq!(transaction.insert(&orders, &columns, many).await.expect("inserted"), 2500);
    assert_eq!(transaction.insert(&orders, &columns, vec![vec![None; 5]]).await.expect("inserted"), 1);
    store.accept(&[factory::job()]).await.expect("accepted meanwhile");
    let changed = transaction.execute("DELETE FROM \"the orders\" WHERE id >= 2400", &[]).await.expect("deleted");
    assert_eq!(changed, 100, "it sees the rows that were inserted before");
    assert!(rows(&folder, "SELECT name FROM sqlite_schema WHERE name = 'the orders'").await.is_empty());
    assert_eq!(transaction.finish(&success(lease)).await.expect("finished"), Finished::Applied(None));
    let types = "SELECT DISTINCT typeof(id) || typeof(\"the \"\"price\"\"\") || typeof(x) || typeof(at) || typeof(doc)
        FROM \"the orders\" ORDER BY 1";
    assert_eq!(rows(&folder, types).await, ["integertextrealtexttext", "nullnullnullnullnull"]);
    assert_eq!(rows(&folder, "SELECT CAST(count(*) AS TEXT) FROM \"the orders\"").await, ["2401"]);
    let values = "SELECT \"the \"\"price\"\"\" || ' ' || x || ' ' || at || ' ' || doc FROM \"the orders\" WHERE id = 7";
    assert_eq!(rows(&folder, values).await, ["1.10 0.1 2026-11-23T10:00:00.000000Z [1.0]"]);
}

#[tokio::test]
async fn after_a_failed_step_nothing_can_follow() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    let integers = columns(&[("n", ColumnType::Integer)]);
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.create_table(&table("t"), &integers).await.expect("created");
    let refused = transaction.insert(&table("t"), &integers, vec![vec![Some("one".into())]]).await;
    assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
    assert!(matches!(transaction.execute("SELECT 1", &[]).await, Err(Error::Rejected(_))));
    assert!(matches!(transaction.finish(&success(lease)).await, Err(Error::Rejected(_))));
    assert_eq!(state(&store, lease.job).await, State::Running);
    assert!(rows(&folder, "SELECT name FROM sqlite_schema WHERE name = 't'").await.is_empty());
}

/// Rows reach their table with the finish, and so does what only the table can refuse.
#[tokio::test]
async fn a_constraint_of_the_table_refuses_the_finish() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("CREATE TABLE t (n INTEGER UNIQUE)", &[]).await.expect("created");
    let rows_of = |n: u32| vec![vec![Some(n.to_string())]];
    let integers = columns(&[("n", ColumnType::Integer)]);
    for n in [1, 2, 1] {
        transaction.insert(&table("t"), &integers, rows_of(n)).await.expect("not looked at yet");
    }
    let Err(Error::Rejected(why)) = transaction.finish(&success(lease)).await else { panic!("1 is there twice") };
    assert!(why.contains("t.n"), "{why}");
    assert_eq!(state(&store, lease.job).await, State::Running);
    assert!(rows(&folder, "SELECT name FROM sqlite_schema WHERE name = 't'").await.is_empty());
}

#[tokio::test]
async fn a_lease_that_does_not_hold_opens_no_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    for bad in [Lease { epoch: lease.epoch - 1, ..lease }, Lease { claimed: false, ..lease }] {
        assert!(matches!(store.begin(&bad).await, Err(Error::Rejected(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn offloads_own_tables_are_out_of_reach() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let lease = running(&store).await;
    let text = columns(&[("id", ColumnType::Text)]);
    for name in ["offload_jobs", "Offload_new", "sqlite_sequence"] {
        let mut transaction = store.begin(&lease).await.expect("begun");
        assert!(matches!(transaction.create_table(&table(name), &text).await, Err(Error::Rejected(_))), "{name}");
        let mut transaction = store.begin(&lease).await.expect("begun");
        let row = vec![vec![Some("x".to_owned())]];
        assert!(matches!(transaction.insert(&table(name), &text, row).await, Err(Error::Rejected(_))), "{name}");
    }
    let mut transaction = store.begin(&lease).await.expect("begun");
    let refused = transaction.execute("UPDATE offload_jobs SET state = 'failed'", &[]).await;
    assert!(matches!(refused, Err(Error::Rejected(_))), "{refused:?}");
    let mut transaction = store.begin(&lease).await.expect("begun");
    assert!(matches!(transaction.execute("COMMIT", &[]).await, Err(Error::Rejected(_))));
}

#[tokio::test]
async fn a_write_that_is_dropped_in_the_middle_harms_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    let jobs = factory::jobs(20);
    // Polled a few times more in each round, so that it is dropped at another await.
    for polls in 0..60 {
        let mut write = Box::pin(store.accept(&jobs));
        for _ in 0..polls {
            if futures_util::poll!(&mut write).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(write);
        let fresh = factory::job();
        let accepted = store.accept(std::slice::from_ref(&fresh)).await.expect("accepted");
        assert!(matches!(accepted[..], [Accepted::New { .. }]));
        assert_eq!(state(&store, fresh.id).await, State::Queued);
    }
}
