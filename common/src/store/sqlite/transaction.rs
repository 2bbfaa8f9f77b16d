//! A handler's transaction, which may last as long as the handler likes although there is one writer.
//!
//! Its steps are remembered. They run on the writer as they come and are left there uncommitted; whoever else has waited
//! a moment for the writer rolls them back ([`super::writer`]), and they are replayed when the handler comes back. A
//! statement that then changes another number of rows than the handler was told has been overtaken by somebody else's
//! write: the transaction fails, and the job tries again. So what commits is what would have happened had the whole of it
//! run at the moment of its finish, and nobody waits for a handler, not even the handler itself (which may store a
//! file in between).
//!
//! Rows to append are checked, then spooled to a temporary database, and reach their table when a later step or the
//! finish needs them there: a long import holds the writer for its last moment only. What only the table can refuse (a
//! `UNIQUE` constraint) is refused then.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, Sqlite, SqliteConnection, SqlitePool};

use super::cells;
use super::error::{Failure, Result};
use super::runs::{End, HOLDS, end};
use super::statement::{self, quoted};
use super::writer::{Owner, Turn, Writer};
use crate::clock;
use crate::job::Lease;
use crate::store::{self, Column, Error, Finish, Finished, TableName};

/// Rows per spooled chunk, each of which is inserted by one statement.
const CHUNK: usize = 1000;

const CREATE_SPOOL: &str = "CREATE TABLE chunk (n INTEGER PRIMARY KEY, rows TEXT NOT NULL)";
const SPOOL: &str = "INSERT INTO chunk (rows) VALUES (?1) RETURNING n";
const UNSPOOL: &str = "SELECT rows FROM chunk WHERE n = ?1";

const COLUMNS: &str = "-- the columns of a table
SELECT name, type FROM pragma_table_info(?1) ORDER BY cid";

/// See the module.
pub(super) struct Transaction {
    writer: Arc<Writer>,
    owner: Owner,
    steps: Vec<Step>,
    /// How many of the steps are in place on the writer, if it is still as this transaction left it.
    done: usize,
    spool: Option<SqliteConnection>,
    /// A step failed or is under way; as in PostgreSQL, nothing can follow a failed one.
    failed: bool,
}

enum Step {
    /// A statement, and how many rows the handler was told that it changed.
    Execute { sql: String, arguments: Vec<Value>, changed: Option<u64> },
    /// A spooled chunk of rows, and the statement that appends them.
    Append { sql: String, chunk: i64 },
}

/// See [`store::Store::begin`]. The look at the lease saves a zombie's work; what keeps it from committing is the finish.
pub(super) async fn begin(writer: Arc<Writer>, readers: &SqlitePool, lease: &Lease) -> Result<Transaction> {
    let holds: bool = sqlx::query_scalar(HOLDS).bind(lease.job.0).bind(lease.epoch).fetch_one(readers).await?;
    if !holds || !lease.claimed {
        let why = format!("job {} is not held under epoch {} any more", lease.job, lease.epoch);
        return Err(Error::Rejected(why).into());
    }
    let owner = writer.owner();
    Ok(Transaction { writer, owner, steps: Vec::new(), done: 0, spool: None, failed: false })
}

impl Transaction {
    /// Begins a step: it counts as failed until it is done, also when its future is dropped in the middle.
    fn step(&mut self) -> store::Result<()> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(Error::Rejected("an earlier step of this transaction failed".to_owned()));
        }
        Ok(())
    }

    /// The writer, with every step in place.
    async fn resume(&mut self) -> Result<Turn> {
        self.step()?;
        let mut turn = match self.writer.unpark(self.owner) {
            Some(turn) => turn,
            None => {
                self.done = 0;
                self.writer.turn().await?
            }
        };
        for step in &self.steps[self.done..] {
            replay(step, turn.connection(), self.spool.as_mut()).await?;
        }
        self.done = self.steps.len();
        Ok(turn)
    }

    /// Leaves the writer until the next step.
    fn park(&mut self, turn: Turn) {
        self.failed = false;
        self.writer.park(self.owner, turn);
    }

    /// Runs a statement and remembers it.
    async fn run(&mut self, sql: String, arguments: Vec<Value>, changes_rows: bool) -> Result<u64> {
        let mut turn = self.resume().await?;
        let affected = bound(&sql, &arguments).execute(turn.connection()).await?.rows_affected();
        // SQLite's own count is that of the last statement that changed any.
        let changed = changes_rows.then_some(affected);
        self.steps.push(Step::Execute { sql, arguments, changed });
        self.done = self.steps.len();
        self.park(turn);
        Ok(changed.unwrap_or(0))
    }

    async fn append(&mut self, sql: &str, columns: &[Column], rows: &[Vec<Option<String>>]) -> Result<()> {
        // A long import is about to begin: nobody is to wait for it.
        if let Some(turn) = self.writer.unpark(self.owner) {
            turn.rollback().await?;
        }
        if self.spool.is_none() {
            self.spool = Some(open_spool().await?);
        }
        for chunk in rows.chunks(CHUNK) {
            let rows = chunk.iter().map(|row| cells::row(columns, row)).collect::<store::Result<Value>>()?;
            let Some(spool) = &mut self.spool else { continue };
            let chunk = sqlx::query_scalar(SPOOL).bind(rows.to_string()).fetch_one(spool).await?;
            self.steps.push(Step::Append { sql: sql.to_owned(), chunk });
        }
        Ok(())
    }
}

async fn replay(step: &Step, connection: &mut SqliteConnection, spool: Option<&mut SqliteConnection>) -> Result<()> {
    match (step, spool) {
        (Step::Execute { sql, arguments, changed }, _) => {
            let affected = bound(sql, arguments).execute(connection).await?.rows_affected();
            if changed.is_some_and(|told| told != affected) {
                return Err(Error::Unavailable("another write came in between; try again".to_owned()).into());
            }
        }
        (Step::Append { sql, chunk }, Some(spool)) => {
            let rows: String = sqlx::query_scalar(UNSPOOL).bind(chunk).fetch_one(spool).await?;
            sqlx::query(AssertSqlSafe(sql.as_str())).bind(rows).execute(connection).await?;
        }
        (Step::Append { .. }, None) => {
            return Err(Error::Corrupt("the spool of an import is gone".to_owned()).into());
        }
    }
    Ok(())
}

/// A database in a temporary file that has no name, and is gone with the connection.
async fn open_spool() -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename("")
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    let mut spool = options.connect().await?;
    sqlx::query(CREATE_SPOOL).execute(&mut spool).await?;
    Ok(spool)
}

/// The handler's own SQL: [`statement::check`] has seen it, and values come as arguments.
fn bound<'q>(sql: &str, arguments: &[Value]) -> Query<'q, Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    arguments.iter().fold(query, |query, argument| match argument {
        Value::Null => query.bind(None::<i64>),
        Value::Bool(truth) => query.bind(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => query.bind(integer),
            None => query.bind(number.as_f64()),
        },
        Value::String(text) => query.bind(text.clone()),
        Value::Array(_) | Value::Object(_) => query.bind(argument.to_string()),
    })
}

#[async_trait]
impl store::Transaction for Transaction {
    async fn execute(&mut self, sql: &str, arguments: &[Value]) -> store::Result<u64> {
        let statement = statement::check(sql, arguments.len()).inspect_err(|_| self.failed = true)?;
        Ok(self.run(sql.to_owned(), arguments.to_vec(), statement.changes_rows).await?)
    }

    async fn create_table(&mut self, table: &TableName, columns: &[Column]) -> store::Result<()> {
        statement::not_reserved(&table.table).inspect_err(|_| self.failed = true)?;
        let columns: Vec<String> =
            columns.iter().map(|column| format!("{} {}", quoted(&column.name), cells::declared(column.kind))).collect();
        let sql = format!("CREATE TABLE IF NOT EXISTS {} ({})", quoted(&table.table), columns.join(", "));
        self.run(sql, Vec::new(), false).await?;
        Ok(())
    }

    async fn columns(&mut self, table: &TableName) -> store::Result<Option<Vec<Column>>> {
        let mut turn = self.resume().await?;
        let rows = sqlx::query(COLUMNS).bind(&table.table).fetch_all(turn.connection()).await.map_err(Failure::from)?;
        self.park(turn);
        let column = |row: &SqliteRow| {
            let declared: String = row.try_get("type")?;
            Ok(Column { name: row.try_get("name")?, kind: cells::kind_of(&declared) })
        };
        let columns = rows.iter().map(column).collect::<Result<Vec<_>>>()?;
        Ok(Some(columns).filter(|columns| !columns.is_empty()))
    }

    async fn insert(
        &mut self,
        table: &TableName,
        columns: &[Column],
        rows: Vec<Vec<Option<String>>>,
    ) -> store::Result<u64> {
        self.step()?;
        statement::not_reserved(&table.table)?;
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let values: Vec<String> = (0..columns.len()).map(|n| format!("value ->> {n}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM json_each(?1)",
            quoted(&table.table),
            names.join(", "),
            values.join(", ")
        );
        self.append(&sql, columns, &rows).await?;
        self.failed = false;
        Ok(rows.len() as u64)
    }

    async fn finish(mut self: Box<Self>, finish: &Finish) -> store::Result<Finished> {
        let mut turn = self.resume().await?;
        let ended = end(turn.connection(), finish, clock::now()).await?;
        if let End::Moved(pointer) = ended {
            turn.commit().await?;
            return Ok(Finished::Applied(pointer));
        }
        // Also where an earlier finish of this run was written: these writes were not part of it.
        turn.rollback().await?;
        Ok(if matches!(ended, End::CancelRequested) { Finished::CancelRequested } else { Finished::Lost })
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.writer.unpark(self.owner));
    }
}
