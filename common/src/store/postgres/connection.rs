//! One connection: how it is opened and used.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, Row};

use super::error::Origin;
use crate::config::DatabaseConfig;
use crate::store::{Error, Result};

/// A statement with its arguments.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// What a call may take beyond the server's own `statement_timeout`: the time that a network may lose.
const GRACE: Duration = Duration::from_secs(5);

/// `statement_timeout` where nothing may take long.
const IMPATIENT: Duration = Duration::from_secs(2);

/// The longest name that PostgreSQL keeps, in bytes, and what this module appends to it.
const NAME_BYTES: usize = 63;
const SUFFIX_BYTES: usize = "/session".len();

/// Settings of every connection, whatever the server's or the role's own defaults are.
const SETTINGS: [(&str, &str); 12] = [
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    // A statement of a process that died ends with it, and so does what it holds locked.
    ("client_connection_check_interval", "500ms"),
    // Each statement here has one good plan: a nested loop over an index, which prunes partitions as it runs. Planned
    // anew for each call it costs more than it reads; planned by statistics of a queue that was empty a minute ago it
    // may be a scan of the whole table.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Undoes, until the transaction ends, what [`SETTINGS`] says about plans and idleness: a handler's statements are its own,
/// and how long it may take is the job's time-out.
pub(super) const BEGIN_FOR_HANDLER: &str = "-- offload: begin a handler's transaction
BEGIN; SET LOCAL plan_cache_mode = auto; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Undoes what a handler may have done to its session: settings, cursors, temporary tables, locks, subscriptions. What
/// `DISCARD ALL` would do besides is to forget the prepared statements, those of the driver too. A connection made anew
/// instead costs ten times what a small job's own statements do (measured: 15 ms to 0.3 ms).
///
/// Answers how many statements are prepared here by the driver, and how many by anybody else.
const CLEANSE: &str = "-- offload: undo what a handler did to its session
SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP;
DISCARD SEQUENCES;
SELECT count(*) FILTER (WHERE NOT from_sql) AS drivers, count(*) FILTER (WHERE from_sql) AS others
FROM pg_prepared_statements";

/// Knows how to open a connection.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    instance: String,
    patience: Duration,
}

impl Connector {
    pub(super) fn new(config: &DatabaseConfig, url: &str, instance: &str) -> Result<Self> {
        let options: PgConnectOptions =
            url.parse().map_err(|error| Error::Rejected(format!("the PostgreSQL URL cannot be read: {error}")))?;
        let timeout = Duration::try_from_secs_f64(config.statement_timeout_seconds)
            .map_err(|error| Error::Rejected(format!("database.statement_timeout_seconds: {error}")))?;
        let options = options
            .options(SETTINGS)
            .options([("statement_timeout", timeout.as_millis().to_string())])
            .disable_statement_logging();
        Ok(Self { options, instance: shortened(instance), patience: timeout + GRACE })
    }

    /// The same, for connections on which nothing may take long: a beat that hangs is a beat that is missed.
    pub(super) fn impatient(&self) -> Self {
        let timeout = IMPATIENT.min(self.patience);
        let options = self.options.clone().options([("statement_timeout", timeout.as_millis().to_string())]);
        Self { options, patience: timeout + CONNECT, ..self.clone() }
    }

    /// The same, for connections that cannot write.
    pub(super) fn read_only(&self) -> Self {
        let options = self.options.clone().options([("default_transaction_read_only", "on")]);
        Self { options, ..self.clone() }
    }

    /// The longest that a call may take, and that waiting for a connection may.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// What the names of this process's connections begin with, up to the slash.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// Opens a connection called `<instance>/<role>`.
    pub(super) async fn connect(&self, role: &str) -> Result<Line> {
        let options = self.options.clone().application_name(&format!("{}/{role}", self.instance));
        let connecting = PgConnection::connect_with(&options);
        let connection = within(CONNECT, connecting).await.map_err(|error| Origin::Offload.error(error))?;
        Ok(Line { connection, patience: self.patience, state: State::Ready })
    }
}

/// PostgreSQL cuts long names at their end; the end is what makes this one unique.
fn shortened(instance: &str) -> String {
    let mut start = instance.len().saturating_sub(NAME_BYTES - SUFFIX_BYTES);
    while !instance.is_char_boundary(start) {
        start += 1;
    }
    instance[start..].to_owned()
}

async fn within<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message)))
    })
}

/// How far a connection can be relied on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is under way.
    Ready,
    /// A transaction is open, and well so far.
    InTransaction,
    /// A call has begun. It stays at this unless the call ends well.
    Broken,
    /// The server hung up.
    Lost,
}

/// An open connection. Calls on it are bounded in time; after one that did not end well it is of no use.
pub(super) struct Line {
    connection: PgConnection,
    patience: Duration,
    state: State,
}

impl Line {
    /// Fetches what a statement of Offload's own answers.
    pub(super) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        let call = self.call(Origin::Offload)?;
        let rows = within(call.patience, statement.fetch_all(&mut *call.connection)).await;
        call.end(rows)
    }

    /// Fetches the one row that a statement answers, if it does.
    pub(super) async fn row(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Runs a statement of Offload's own for its effect; answers how many rows it touched.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64> {
        let call = self.call(Origin::Offload)?;
        let done = within(call.patience, statement.execute(&mut *call.connection)).await;
        call.end(done.map(|done| done.rows_affected()))
    }

    /// Runs a text of one or more statements that take no arguments.
    pub(super) async fn script(&mut self, origin: Origin, sql: String) -> Result<u64> {
        let call = self.call(origin)?;
        let done = within(call.patience, sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *call.connection)).await;
        call.end(done.map(|done| done.rows_affected()))
    }

    /// Runs a single statement that may be anything but several.
    pub(super) async fn single(&mut self, origin: Origin, sql: String) -> Result<u64> {
        let call = self.call(origin)?;
        let statement = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let done = within(call.patience, statement.execute(&mut *call.connection)).await;
        call.end(done.map(|done| done.rows_affected()))
    }

    /// Streams rows into a `COPY … FROM STDIN`; answers their number.
    pub(super) async fn copy_in(&mut self, origin: Origin, statement: &str, rows: &[u8]) -> Result<u64> {
        let call = self.call(origin)?;
        let connection = &mut *call.connection;
        let copying = async {
            let mut copy = connection.copy_in_raw(statement).await?;
            copy.send(rows).await?;
            copy.finish().await
        };
        let copied = within(call.patience, copying).await;
        call.end(copied)
    }

    /// Asks for nothing but an answer.
    pub(super) async fn ping(&mut self) -> Result<()> {
        let call = self.call(Origin::Offload)?;
        let pong = within(call.patience, call.connection.ping()).await;
        call.end(pong)
    }

    /// Opens a transaction with `begin`, which may set more.
    pub(super) async fn begin(&mut self, begin: &'static str) -> Result<()> {
        self.script(Origin::Offload, begin.to_owned()).await?;
        self.state = State::InTransaction;
        Ok(())
    }

    /// Commits the transaction. After an error it is not known whether it is committed.
    pub(super) async fn commit(&mut self) -> Result<()> {
        self.script(Origin::Offload, "COMMIT".to_owned()).await?;
        self.state = State::Ready;
        Ok(())
    }

    /// Rolls the transaction back.
    pub(super) async fn rollback(&mut self) -> Result<()> {
        self.script(Origin::Offload, "ROLLBACK".to_owned()).await?;
        self.state = State::Ready;
        Ok(())
    }

    /// Makes it as good as new after a handler's transaction. Answers whether it is.
    pub(super) async fn cleanse(&mut self) -> Result<bool> {
        let call = self.call(Origin::Offload)?;
        let rows = within(call.patience, sqlx::raw_sql(CLEANSE).fetch_all(&mut *call.connection)).await;
        let rows = call.end(rows)?;
        let count = |column| rows.last().and_then(|row| row.try_get_unchecked::<&str, _>(column).ok()?.parse().ok());
        Ok(count("others") == Some(0) && count("drivers") == Some(self.connection.cached_statements_size()))
    }

    /// The connection itself, for what has no method here; such a connection is not used again.
    pub(super) fn into_inner(self) -> PgConnection {
        self.connection
    }

    /// How far it can be relied on.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The server's version as PostgreSQL numbers it: 150004 is 15.4.
    pub(super) fn server_version(&self) -> u32 {
        self.connection.server_version_num().unwrap_or(0)
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        // The server frees everything when the socket closes, too.
        let _ = within(CONNECT, self.connection.close()).await;
    }

    fn call(&mut self, origin: Origin) -> Result<Call<'_>> {
        let before = self.state;
        if matches!(before, State::Broken | State::Lost) {
            return Err(Error::Rejected("an earlier statement failed: the transaction can only be rolled back".into()));
        }
        self.state = State::Broken;
        Ok(Call { connection: &mut self.connection, state: &mut self.state, patience: self.patience, before, origin })
    }
}

/// A call under way: the line counts as broken until it ends well.
struct Call<'a> {
    connection: &'a mut PgConnection,
    state: &'a mut State,
    patience: Duration,
    before: State,
    origin: Origin,
}

impl Call<'_> {
    fn end<T>(self, outcome: sqlx::Result<T>) -> Result<T> {
        *self.state = match &outcome {
            Ok(_) => self.before,
            Err(sqlx::Error::Io(_)) => State::Lost,
            // admin_shutdown, crash_shutdown: this server process ends, and so do its siblings.
            Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("57P01" | "57P02")) => {
                State::Lost
            }
            Err(_) => State::Broken,
        };
        outcome.map_err(|error| self.origin.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::database::TestDatabase;

    /// Whatever a connection is for: what hangs on the server ends there, and not only here.
    #[tokio::test]
    async fn every_connection_has_its_time_outs() {
        let database = TestDatabase::create().await;
        let config =
            DatabaseConfig { url: None, data: "unused".into(), max_connections: 8, statement_timeout_seconds: 30.0 };
        let connector = Connector::new(&config, &database.url(), "test").expect("a URL");
        async fn settings(line: &mut Line) -> [String; 2] {
            let sql =
                "SELECT current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')";
            let row = line.row(sqlx::query(sql)).await.expect("answered").expect("a row");
            [row.get(0), row.get(1)]
        }
        let mut work = connector.connect("work").await.expect("connected");
        assert_eq!(settings(&mut work).await, ["30s", "1min"]);
        let mut session = connector.impatient().connect("session").await.expect("connected");
        assert_eq!(settings(&mut session).await, ["2s", "1min"]);
        // How long a handler takes between its statements is the job's time-out.
        work.begin(BEGIN_FOR_HANDLER).await.expect("begun");
        assert_eq!(settings(&mut work).await, ["30s", "0"]);
    }

    #[test]
    fn a_long_instance_keeps_its_unique_end() {
        assert_eq!(shortened("offload-worker-1"), "offload-worker-1");
        let long = format!("{}ü-0199f6c2", "h".repeat(80));
        let kept = shortened(&long);
        assert!(kept.ends_with("hü-0199f6c2") && kept.len() + SUFFIX_BYTES <= NAME_BYTES, "{kept}");
        let on_the_boundary = format!("{}{}", "ü", "x".repeat(NAME_BYTES - SUFFIX_BYTES - 1));
        assert_eq!(shortened(&on_the_boundary), "x".repeat(NAME_BYTES - SUFFIX_BYTES - 1));
    }

    #[test]
    fn a_bad_url_is_an_error_that_says_so() {
        let config =
            DatabaseConfig { url: None, data: "unused".into(), max_connections: 8, statement_timeout_seconds: 30.0 };
        let error = Connector::new(&config, "mysql//x", "test").map(drop).expect_err("not a URL");
        assert!(error.to_string().contains("URL"), "{error}");
    }
}
