//! A handler's transaction: its own statements, then the fenced finish, then the commit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::connection::BEGIN_FOR_HANDLER;
use super::error::Origin;
use super::finish;
use super::pool::{Connections, Held, Purpose};
use super::rows::get;
use super::sql::{column_type, copy_text, identifier, is_transaction_control, literal, qualified, type_name};
use crate::job::Lease;
use crate::store::{Column, Error, Finish, Finished, Result, TableName, Transaction};

/// Looked up before the transaction begins, so that the transaction holds no lock on Offload's tables while the handler
/// takes its time. It saves a zombie's work; what keeps the zombie from committing is the finish.
pub(super) const HOLDS: &str = "-- offload: does the lease hold
SELECT FROM offload.jobs j WHERE j.id = $1 AND j.epoch = $2 AND j.state = 'running'";

pub(super) const TABLE_EXISTS: &str = "-- offload: is there such a table
SELECT to_regclass($1) IS NOT NULL AS answer";

/// One creator at a time: `IF NOT EXISTS` alone fails when two run it at the same moment.
pub(super) const LOCK_TABLE_NAME: &str = "-- offload: one creator of a table at a time
SELECT pg_try_advisory_xact_lock(16716974, hashtext($1)) AS answer";

pub(super) const COLUMNS: &str = "-- offload: columns of a table
SELECT a.attname::text AS name, t.typname::text AS type
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum";

/// How often to look whether another creator of the same table is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A handler's transaction.
pub(super) struct PostgresTransaction {
    held: Held,
    connections: Arc<Connections>,
}

/// Opens one; see [`crate::store::Store::begin`].
pub(super) async fn begin(connections: &Arc<Connections>, lease: &Lease) -> Result<PostgresTransaction> {
    let mut held = connections.take(Purpose::Handler).await?;
    let holds = held.row(sqlx::query(HOLDS).bind(lease.job.0).bind(lease.epoch)).await?;
    if holds.is_none() || !lease.claimed {
        return Err(Error::Rejected(format!("job {} is not held under epoch {} any more", lease.job, lease.epoch)));
    }
    held.begin(BEGIN_FOR_HANDLER).await?;
    Ok(PostgresTransaction { held, connections: connections.clone() })
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn execute(&mut self, sql: &str, arguments: &[Value]) -> Result<u64> {
        if is_transaction_control(sql) {
            return Err(Error::Rejected("a handler's transaction is begun and ended by Offload".into()));
        }
        if arguments.is_empty() {
            return self.held.single(Origin::Handler, sql.to_owned()).await;
        }
        // The server infers the types of the parameters, and reads each argument from its text as that type: this way a
        // JSON string serves as a date, a number as a numeric, without a cast in the statement.
        let literals = arguments.iter().map(argument).collect::<Result<Vec<_>>>()?;
        self.held.single(Origin::Handler, format!("PREPARE offload_statement AS {sql}")).await?;
        let run = format!("EXECUTE offload_statement ({}); DEALLOCATE offload_statement", literals.join(", "));
        self.held.script(Origin::Handler, run).await
    }

    async fn create_table(&mut self, table: &TableName, columns: &[Column]) -> Result<()> {
        let name = qualified(table)?;
        while !self.answers(TABLE_EXISTS, &name).await? {
            if self.answers(LOCK_TABLE_NAME, &name).await? {
                let column = |c: &Column| Ok(format!("{} {}", identifier(&c.name)?, type_name(c.kind)));
                let columns = columns.iter().map(column).collect::<Result<Vec<_>>>()?.join(", ");
                let sql = format!("CREATE TABLE IF NOT EXISTS {name} ({columns})");
                return self.held.single(Origin::Handler, sql).await.map(drop);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<Column>>> {
        let name = qualified(table)?;
        if !self.answers(TABLE_EXISTS, &name).await? {
            return Ok(None);
        }
        let rows = self.held.rows(sqlx::query(COLUMNS).bind(name)).await?;
        let column = |row| Ok(Column { name: get(row, "name")?, kind: column_type(get(row, "type")?) });
        rows.iter().map(column).collect::<Result<_>>().map(Some)
    }

    async fn insert(&mut self, table: &TableName, columns: &[Column], rows: Vec<Vec<Option<String>>>) -> Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let names = columns.iter().map(|column| identifier(&column.name)).collect::<Result<Vec<_>>>()?;
        let statement = format!("COPY {} ({}) FROM STDIN", qualified(table)?, names.join(", "));
        self.held.copy_in(Origin::Handler, &statement, copy_text(&rows).as_bytes()).await
    }

    async fn finish(mut self: Box<Self>, finish: &Finish) -> Result<Finished> {
        // Only a row that this very statement updated counts: were an earlier write recognised here, its transaction would
        // have committed its writes, and this one would add them again.
        let Some(applied) = finish::apply_linked(&mut self.held, std::slice::from_ref(finish)).await?.pop().flatten()
        else {
            let outcome = finish::look_again(&mut self.held, finish).await?;
            self.held.rollback().await?;
            // Not all that it did to its session is undone.
            self.held.discard();
            return Ok(if outcome == Finished::CancelRequested { outcome } else { Finished::Lost });
        };
        match self.held.commit().await {
            Err(Error::Unavailable(reason)) => return self.recognise(finish, reason).await,
            committed => committed?,
        }
        if !matches!(self.held.cleanse().await, Ok(true)) {
            self.held.discard();
        }
        Ok(applied)
    }
}

impl PostgresTransaction {
    async fn answers(&mut self, question: &'static str, name: &str) -> Result<bool> {
        let row = self.held.row(sqlx::query(question).bind(name.to_owned())).await?;
        row.map_or(Ok(false), |row| get(&row, "answer"))
    }

    /// The reply to the commit was lost. If the row shows this finish, all of it is committed. If not, it may still come:
    /// the caller tries whatever it does next under the same epoch, and is told.
    async fn recognise(self: Box<Self>, finish: &Finish, reason: String) -> Result<Finished> {
        let Self { held, connections } = *self;
        drop(held);
        let mut held = connections.take(Purpose::Hot).await?;
        match finish::look_again(&mut held, finish).await? {
            applied @ Finished::Applied(_) => Ok(applied),
            _ => Err(Error::Unavailable(reason)),
        }
    }
}

fn argument(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("NULL".to_owned()),
        Value::String(text) => literal(text),
        other => literal(&other.to_string()),
    }
}
