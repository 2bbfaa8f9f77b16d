//! `table.import`, as jobs of a real worker.

use std::sync::Arc;

use futures_util::future::join_all;
use offload_common::kind::Effects;
use offload_worker::kind::AnyKind;
use serde_json::{Value, json};

use super::{failure, result, sample, upload, worker, worker_with};
use crate::engine::support::{Bench, kind};

/// A kind that runs the statement in its payload, and answers how many rows it changed.
fn statement() -> Arc<dyn AnyKind> {
    kind(Effects::Repeatable, |job, sql| {
        Box::pin(async move {
            let changed = job.transaction().await?.execute(sql.as_str().expect("a statement"), &[]).await?;
            Ok(json!(changed))
        })
    })
}

async fn changed_by(bench: &Bench, sql: &str) -> Value {
    result(bench, offload_common::testing::factory::KIND, json!(sql)).await
}

fn orders() -> Value {
    let columns = [
        ("order_id", "integer"),
        ("ordered_at", "timestamp"),
        ("customer", "text"),
        ("email", "text"),
        ("country", "text"),
        ("product", "text"),
        ("quantity", "integer"),
        ("unit_price", "numeric"),
        ("paid", "boolean"),
        ("delivered_on", "date"),
        ("note", "text"),
    ];
    columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect()
}

#[tokio::test]
async fn a_file_becomes_a_table_of_typed_columns() {
    let bench = Bench::new().await;
    let _worker = worker_with(&bench, &[statement()]);
    let file = upload(&bench, "text/csv", sample("orders.csv")).await;
    let payload = json!({"source": {"file": file}, "table": "orders", "columns": orders(), "create": true});
    let expected = json!({"rows": 1000, "table": "orders"});
    assert_eq!(result(&bench, "table.import", payload).await, expected);
    assert_eq!(changed_by(&bench, "UPDATE orders SET note = note WHERE order_id BETWEEN 10001 AND 11000").await, 1000);
    let lines = "UPDATE orders SET note = note WHERE quantity > 0 AND note LIKE '2nd floor%left door'";
    assert!(changed_by(&bench, lines).await.as_u64() > Some(0));
    assert!(changed_by(&bench, "UPDATE orders SET note = note WHERE delivered_on IS NULL").await.as_u64() > Some(0));
    // Again, appended, with the types of the table.
    let again = json!({"source": {"file": file}, "table": "public.orders"});
    assert_eq!(result(&bench, "table.import", again).await, json!({"rows": 1000, "table": "public.orders"}));
    assert_eq!(changed_by(&bench, "DELETE FROM orders").await, 2000);
}

#[tokio::test]
async fn one_bad_row_and_nothing_is_imported() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let mut file = String::from("id,name\n");
    for n in 1..=5000 {
        file += &if n == 4500 { "x,\"two\nlines\"\n".to_owned() } else { format!("{n},name {n}\n") };
    }
    let file = upload(&bench, "text/csv", (file + "7\n").into_bytes()).await;
    let columns = json!([{"name": "id", "type": "integer"}, {"name": "name", "type": "text"}]);
    let payload = json!({"source": {"file": file}, "table": "people", "columns": columns, "create": true});
    let (code, message) = failure(&bench, "table.import", payload).await;
    assert_eq!(code, "bad_rows");
    assert!(message.contains("2 bad rows") && message.contains("line 4501: column `id`"), "{message}");
    assert!(message.contains("line 5003: 1 fields where the header has 2"), "{message}");
    // The table went with the rows.
    let small = upload(&bench, "text/csv", b"id\n1\n".to_vec()).await;
    let payload = json!({"source": {"file": small}, "table": "people"});
    assert_eq!(failure(&bench, "table.import", payload).await.0, "table_not_found");
}

#[tokio::test]
async fn many_may_create_one_table_at_once() {
    let bench = Bench::new().await;
    let _worker = worker_with(&bench, &[statement()]);
    let file = upload(&bench, "application/x-ndjson", b"{\"id\":1,\"tags\":[\"a\"]}\n{\"id\":2}\n".to_vec()).await;
    let columns = json!([{"name": "id", "type": "integer"}, {"name": "tags", "type": "json"}]);
    let payload = json!({"source": {"file": file}, "table": "shared", "format": "ndjson", "columns": columns,
                         "create": true});
    let imports = (0..8).map(|_| result(&bench, "table.import", payload.clone()));
    for result in join_all(imports).await {
        assert_eq!(result["rows"], 2);
    }
    assert_eq!(changed_by(&bench, "UPDATE shared SET id = id WHERE tags IS NULL").await, 8);
}

#[tokio::test]
async fn a_file_must_fit_its_table() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let file = upload(&bench, "text/csv", b"id,name\n1,one\n".to_vec()).await;
    let empty = upload(&bench, "text/csv", b"\n".to_vec()).await;
    let create = json!({"source": {"file": file}, "table": "things", "create": true});
    assert_eq!(result(&bench, "table.import", create).await["rows"], 1);
    let other = upload(&bench, "text/csv", b"id,nme\n1,one\n".to_vec()).await;
    for (file, table, expected) in [
        (other, "things", "columns_mismatch"),
        (empty, "things", "empty_file"),
        (file, "absent", "table_not_found"),
        (file, "private.things", "schema_not_allowed"),
        (file, "offload_jobs", "invalid_table"),
    ] {
        let (code, _) = failure(&bench, "table.import", json!({"source": {"file": file}, "table": table})).await;
        assert_eq!(code, expected, "{table}");
    }
}
