//! A handler's transaction: its writes and the job's end, together or not at all.

use serde_json::{Value, json};

use super::Database;
use super::steps::{IMPATIENT, Shared, failing, finish_of, join, queue, read, running, together};
use crate::job::transition::{Event, Retry};
use crate::job::{Lease, State};
use crate::store::{Beat, Column, ColumnType, Error, Finished, TableName, Transaction};
use crate::testing::factory::{self, TENANT};

fn table(name: &str) -> TableName {
    TableName { schema: "public".to_owned(), table: name.to_owned() }
}

fn columns() -> Vec<Column> {
    [("id", ColumnType::Integer), ("name", ColumnType::Text)]
        .map(|(name, kind)| Column { name: name.into(), kind })
        .into()
}

fn row(id: u32, name: &str) -> Vec<Option<String>> {
    vec![Some(id.to_string()), Some(name.to_owned())]
}

/// A transaction of a running job's, with a row in `orders` that is not committed yet.
async fn with_a_row(store: &Shared, lease: &Lease) -> Box<dyn Transaction> {
    let mut transaction = store.begin(lease).await.expect("begun");
    transaction.create_table(&table("orders"), &columns()).await.expect("created");
    let inserted = transaction.insert(&table("orders"), &columns(), vec![row(1, "one")]).await;
    assert_eq!(inserted.expect("inserted"), 1);
    transaction
}

/// Runs a job that makes one statement, and answers how many rows it changed.
async fn changed_by(store: &Shared, sql: &str, arguments: &[Value]) -> u64 {
    let session = join(store).await;
    let lease = running(store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    let changed = transaction.execute(sql, arguments).await.expect("executed");
    let write = finish_of(store, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
    changed
}

/// How many rows are in `orders`.
async fn orders(store: &Shared) -> u64 {
    changed_by(store, "UPDATE orders SET id = id", &[]).await
}

/// A committed, empty `orders`.
async fn create_orders(store: &Shared) {
    let session = join(store).await;
    let lease = running(store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.create_table(&table("orders"), &columns()).await.expect("created");
    let write = finish_of(store, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
}

pub async fn writes_commit_with_the_finish(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    let lease = running(&here, session.worker(), factory::job()).await;
    let transaction = with_a_row(&here, &lease).await;
    let write = finish_of(&here, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
    let job = read(&there, lease.job).await;
    assert_eq!((job.state, job.epoch), (State::Succeeded, lease.epoch + 1));
    assert_eq!(job.result.expect("it succeeded").get(), r#"{"done": true}"#);
    assert_eq!(orders(&there).await, 1);
}

pub async fn a_dropped_transaction_leaves_nothing(db: &impl Database) {
    let store = db.store();
    create_orders(&store).await;
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    drop(with_a_row(&store, &lease).await);
    assert_eq!(read(&store, lease.job).await.state, State::Running);
    assert_eq!(orders(&store).await, 0);
    assert_eq!(super::steps::finish(&store, lease, &Event::Succeed).await, Finished::Applied(None));
}

/// A worker was presumed dead and wakes up: neither its rows nor its finish get through.
pub async fn a_zombie_cannot_commit(db: &impl Database) {
    let store = db.store();
    create_orders(&store).await;
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let write = finish_of(&store, lease, &Event::Succeed).await;
    store.reap(&IMPATIENT).await.expect("reaped");
    // The store may find the lease lost at any step from here on; it must not commit.
    let late = async {
        let mut transaction = store.begin(&lease).await?;
        transaction.insert(&table("orders"), &columns(), vec![row(1, "one")]).await?;
        transaction.finish(&write).await
    };
    assert!(matches!(late.await, Ok(Finished::Lost) | Err(_)));
    assert_eq!(read(&store, lease.job).await.state, State::Queued);
    assert_eq!(orders(&store).await, 0);
}

/// The lease is lost between the handler's writes and its finish.
pub async fn a_lease_lost_meanwhile_rolls_back(db: &impl Database) {
    let store = db.store();
    create_orders(&store).await;
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    let changed = transaction.execute("UPDATE orders SET id = id", &[]).await.expect("executed");
    assert_eq!(changed, 0);
    let write = finish_of(&store, lease, &Event::Succeed).await;
    let stale = crate::store::Finish { lease: Lease { epoch: lease.epoch - 1, ..lease }, ..write };
    transaction.insert(&table("orders"), &columns(), vec![row(1, "one")]).await.expect("inserted");
    assert_eq!(transaction.finish(&stale).await.expect("answered"), Finished::Lost);
    assert_eq!(read(&store, lease.job).await.epoch, lease.epoch, "nothing was written");
    assert_eq!(orders(&store).await, 0);
}

pub async fn a_wish_to_cancel_rolls_a_retry_back(db: &impl Database) {
    let store = db.store();
    create_orders(&store).await;
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let write = finish_of(&store, lease, &failing(Retry::Backoff)).await;
    store.cancel(TENANT, lease.job).await.expect("asked");
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.insert(&table("orders"), &columns(), vec![row(1, "one")]).await.expect("inserted");
    assert_eq!(transaction.finish(&write).await.expect("answered"), Finished::CancelRequested);
    assert_eq!(read(&store, lease.job).await.state, State::Running);
    assert_eq!(orders(&store).await, 0);
}

/// Ten jobs import into one table that none of them finds: all succeed, and no row is missing.
pub async fn racing_imports_create_one_table(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    let mut leases = Vec::new();
    for _ in 0..10 {
        leases.push(running(&here, session.worker(), factory::job()).await);
    }
    let finished = together(leases.into_iter().enumerate().map(|(n, lease)| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let transaction = with_a_row(&store, &lease).await;
            let write = finish_of(&store, lease, &Event::Succeed).await;
            transaction.finish(&write).await.expect("finished")
        }
    }))
    .await;
    assert!(finished.iter().all(|finished| *finished == Finished::Applied(None)), "{finished:?}");
    assert_eq!(orders(&here).await, 10);
}

pub async fn a_tables_columns_are_known(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    assert_eq!(transaction.columns(&table("typed")).await.expect("asked"), None);
    let every = every_type();
    transaction.create_table(&table("typed"), &every).await.expect("created");
    assert_eq!(transaction.columns(&table("typed")).await.expect("asked"), Some(every.clone()));
    transaction.create_table(&table("typed"), &columns()).await.expect("it is there already");
    assert_eq!(transaction.columns(&table("typed")).await.expect("asked"), Some(every));
    let quoted = [Column { name: "a \"quoted\" näme; --".into(), kind: ColumnType::Text }];
    transaction.create_table(&table("Odd \"table\""), &quoted).await.expect("created");
    let inserted = transaction.insert(&table("Odd \"table\""), &quoted, vec![vec![Some("x".into())]]).await;
    assert_eq!(inserted.expect("inserted"), 1);
    assert_eq!(transaction.columns(&table("Odd \"table\"")).await.expect("asked"), Some(quoted.into()));
}

fn every_type() -> Vec<Column> {
    [
        ("a_text", ColumnType::Text),
        ("an_integer", ColumnType::Integer),
        ("a_float", ColumnType::Float),
        ("a_numeric", ColumnType::Numeric),
        ("a_boolean", ColumnType::Boolean),
        ("a_date", ColumnType::Date),
        ("a_timestamp", ColumnType::Timestamp),
        ("a_json", ColumnType::Json),
    ]
    .map(|(name, kind)| Column { name: name.into(), kind })
    .into()
}

pub async fn cells_of_every_type_are_inserted(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.create_table(&table("typed"), &every_type()).await.expect("created");
    let cells = |cells: [&str; 8]| cells.map(|cell| Some(cell.to_owned())).to_vec();
    let rows = vec![
        cells(["x", "1", "1.5", "0.1", "true", "2026-11-23", "2026-11-23T13:00:00Z", "{}"]),
        cells([
            "",
            "-9223372036854775808",
            "-1e-7",
            "12345678901234567890.12345",
            "false",
            "1999-12-31",
            "2026-11-23T13:00:00.123456+02:00",
            r#"{"a": [1, "\"ü\""]}"#,
        ]),
        cells([
            "tab\t \\N \"q\" 'q' \n 🦀",
            "9223372036854775807",
            "0",
            "-1",
            "true",
            "2024-02-29",
            "2026-11-23T13:00:00-05:00",
            "null",
        ]),
        vec![None; 8],
    ];
    assert_eq!(transaction.insert(&table("typed"), &every_type(), rows).await.expect("inserted"), 4);
    let many = (0..5000).map(|n| vec![Some(n.to_string())]).collect();
    let only = vec![Column { name: "an_integer".into(), kind: ColumnType::Integer }];
    assert_eq!(transaction.insert(&table("typed"), &only, many).await.expect("inserted"), 5000);
    assert_eq!(transaction.insert(&table("typed"), &only, Vec::new()).await.expect("inserted"), 0);
    let write = finish_of(&store, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
    assert_eq!(changed_by(&store, "UPDATE typed SET a_text = a_text WHERE a_text = $1", &[json!("")]).await, 1);
    let exact = [json!("tab\t \\N \"q\" 'q' \n 🦀")];
    assert_eq!(changed_by(&store, "UPDATE typed SET a_text = a_text WHERE a_text = $1", &exact).await, 1);
    let whole = "UPDATE typed SET a_text = a_text WHERE an_integer = 9223372036854775807";
    assert_eq!(changed_by(&store, whole, &[]).await, 1);
    assert_eq!(changed_by(&store, "DELETE FROM typed WHERE a_json IS NULL", &[]).await, 5001);
}

pub async fn a_cell_that_its_type_refuses_is_rejected(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    for (kind, refused) in [
        (ColumnType::Integer, &["x", "1.5", "9223372036854775808", "1 2"][..]),
        (ColumnType::Float, &["x", "1,5"]),
        (ColumnType::Numeric, &["x", "1.2.3"]),
        (ColumnType::Boolean, &["maybe", "2"]),
        (ColumnType::Date, &["x", "2026-02-30", "2026-13-01"]),
        (ColumnType::Timestamp, &["x", "2026-11-23T25:00:00Z"]),
        (ColumnType::Json, &["x", "{\"a\":}", "{"]),
    ] {
        for cell in refused {
            let lease = running(&store, session.worker(), factory::job()).await;
            let mut transaction = store.begin(&lease).await.expect("begun");
            let column = [Column { name: "cell".into(), kind }];
            let name = table(&format!("of_{kind:?}").to_lowercase());
            transaction.create_table(&name, &column).await.expect("created");
            let answer = transaction.insert(&name, &column, vec![vec![Some((*cell).to_owned())]]).await;
            assert!(matches!(answer, Err(Error::Rejected(_))), "{kind:?} {cell:?}: {answer:?}");
        }
    }
}

pub async fn statements_take_json_arguments(db: &impl Database) {
    let store = db.store();
    create_orders(&store).await;
    let insert = "INSERT INTO orders (id, name) VALUES ($1, $2)";
    let texts = ["it's", "a \"quote\"", "$1", "größe 🦀", ""];
    for (n, text) in texts.into_iter().enumerate() {
        assert_eq!(changed_by(&store, insert, &[json!(n), json!(text)]).await, 1);
    }
    assert_eq!(changed_by(&store, insert, &[json!(7), Value::Null]).await, 1);
    let (by_id, by_name) = ("DELETE FROM orders WHERE id = $1", "DELETE FROM orders WHERE name = $1");
    assert_eq!(changed_by(&store, by_name, &[json!("it's")]).await, 1);
    assert_eq!(changed_by(&store, by_id, &[json!(3)]).await, 1);
    assert_eq!(changed_by(&store, "DELETE FROM orders WHERE name IS NULL", &[]).await, 1);
    assert_eq!(orders(&store).await, 3);
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    assert!(transaction.execute("UPDATE nothing_of_that_name SET id = 1", &[]).await.is_err());
}

/// A long transaction of one handler stops neither intake nor heartbeats.
pub async fn others_go_on_while_a_transaction_is_open(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let mut session = join(&here).await;
    let lease = running(&here, session.worker(), factory::job()).await;
    let transaction = with_a_row(&here, &lease).await;
    let queued = queue(&there, factory::job()).await;
    assert!(matches!(session.beat().await.expect("beaten"), Beat::Alive { .. }));
    let other = super::steps::claim(&there, session.worker(), queued).await;
    assert_eq!(super::steps::finish(&there, other, &Event::Succeed).await, Finished::Applied(None));
    let write = finish_of(&here, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
    assert_eq!(orders(&here).await, 1);
}
