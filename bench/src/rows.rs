//! Rows that are there before a measurement: copies of a job that Offload itself has written.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::http::Connection as Http;
use crate::scenarios::single;
use crate::site::Site;

/// Rows per statement.
const CHUNK: u64 = 100_000;

/// What the copies are to be like.
#[derive(Clone, Copy)]
pub(crate) enum Like {
    /// Finished, as the model is.
    Finished,
    /// Due, as the valve leaves them for promotion.
    Due,
    /// Due in a month.
    Later,
}

/// Runs a job, and fills the database with copies of it. Ends the processes that this takes.
pub(crate) async fn fill(site: &mut Site, wanted: &[(Like, u64)]) -> anyhow::Result<()> {
    if wanted.iter().all(|(_, count)| *count == 0) {
        return Ok(());
    }
    let address = site.start_api().await?;
    site.start_workers(1).await?;
    Http::open(address).await?.expect(202, &single(0)).await?;
    site.wait_for_the_last(Duration::from_millis(20)).await?;
    site.stop().await?;
    for (like, count) in wanted {
        copy(&mut site.connection, *like, *count).await?;
    }
    sqlx::raw_sql("VACUUM ANALYZE offload.jobs").execute(&mut site.connection).await?;
    Ok(())
}

async fn copy(connection: &mut PgConnection, like: Like, count: u64) -> anyhow::Result<()> {
    let columns = "SELECT column_name::text FROM information_schema.columns
        WHERE table_schema = 'offload' AND table_name = 'jobs' ORDER BY ordinal_position";
    let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&mut *connection).await?;
    let values: Vec<&str> = columns.iter().map(|column| value(column, like)).collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    let mut from = 0;
    while from < count {
        let to = (from + CHUNK).min(count) - 1;
        let insert = format!(
            "INSERT INTO offload.jobs ({columns}) SELECT {values}
             FROM (SELECT * FROM offload.jobs ORDER BY id LIMIT 1) model CROSS JOIN generate_series({from}, {to}) n"
        );
        sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut *connection).await?;
        from = to + 1;
    }
    Ok(())
}

/// What a copy has in this column. The ids are UUIDv7 of now, a thousand of them in each millisecond.
fn value(column: &str, like: Like) -> &str {
    match (column, like) {
        ("id", _) => {
            "(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint + n / 1000), 12, '0') || '7'
              || lpad(to_hex(n % 1000), 3, '0') || '8' || substr(md5(n::text || random()::text), 1, 15))::uuid"
        }
        (column, Like::Finished) => column,
        ("state", _) => "'scheduled'",
        ("epoch", _) => "1",
        ("attempt", _) => "0",
        ("worker_id" | "run_nonce" | "queued_at" | "started_at" | "finished_at" | "result", _) => "NULL",
        ("run_at", Like::Due) => "now()",
        ("run_at", Like::Later) => "now() + interval '30 days'",
        (column, _) => column,
    }
}
