//! Looks at every row again and again while a run lasts: epochs only grow, and what is final stays as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use crate::support::pass;

const LOOK: Duration = Duration::from_millis(500);

const ROWS: &str = "SELECT id::text, epoch, state::text, finished_at::text FROM offload.jobs";

type Row = (String, i64, String, Option<String>);

/// What was seen of each job.
#[derive(Default)]
struct Watch {
    seen: HashMap<String, Row>,
}

/// Looks until `stop` fires, whenever the database answers.
pub(crate) async fn run(url: String, journal: Arc<Journal>, stop: CancellationToken) {
    let mut watch = Watch::default();
    while stop.run_until_cancelled(pass(LOOK)).await.is_some() {
        // A database that is away is what some runs are about.
        let _ = watch.look(&url, &journal, &stop).await;
    }
}

impl Watch {
    async fn look(&mut self, url: &str, journal: &Journal, stop: &CancellationToken) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(url).await?;
        while stop.run_until_cancelled(pass(LOOK)).await.is_some() {
            let rows: Vec<Row> = sqlx::query_as(ROWS).fetch_all(&mut connection).await?;
            self.compare(rows, journal);
        }
        connection.close().await
    }

    fn compare(&mut self, rows: Vec<Row>, journal: &Journal) {
        let mut gone: HashMap<String, Row> = std::mem::take(&mut self.seen);
        for row in rows {
            if let Some(before) = gone.remove(&row.0) {
                let is_final = before.3.is_some();
                let moved = (before.1, &before.2) != (row.1, &row.2);
                if row.1 < before.1 || (is_final && before != row) || (moved && row.1 == before.1) {
                    journal.finding(format!("job {} went from {before:?} to {row:?}", row.0));
                }
            }
            self.seen.insert(row.0.clone(), row);
        }
        gone.values().for_each(|row| journal.finding(format!("job {} was there, and is gone: {row:?}", row.0)));
    }
}
