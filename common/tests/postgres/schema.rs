//! The schema as people and their tools see it.

use std::fmt::Write as _;

use sqlx::Row;

use crate::harness::Harness;

/// A snapshot, so that every change of the schema is seen in review. The partitions of days are left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_is_as_documented() {
    let (harness, _store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let columns = sqlx::raw_sql(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE n.nspname = 'offload' AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
           AND c.relname !~ '_([0-9]{8}|default)$'
         ORDER BY c.relname, a.attnum",
    );
    let mut listing = String::new();
    let mut last = String::new();
    for row in columns.fetch_all(&mut beside).await.expect("listed") {
        let [table, column, kind, not_null]: [String; 4] = [0, 1, 2, 3].map(|n| row.get_unchecked(n));
        if table != last {
            writeln!(listing, "{table}").expect("to a string");
            last = table;
        }
        let required = if not_null == "true" { " not null" } else { "" };
        writeln!(listing, "  {column} {kind}{required}").expect("to a string");
    }
    let indexes = sqlx::raw_sql(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'offload' AND tablename !~ '_([0-9]{8}|default)$'
         ORDER BY indexname",
    );
    for row in indexes.fetch_all(&mut beside).await.expect("listed") {
        writeln!(listing, "{}", row.get_unchecked::<String, _>(0)).expect("to a string");
    }
    insta::assert_snapshot!(listing);
}
