//! The auditor's look into a ledger: a table of the application's.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Row as _, SqlitePool};
use uuid::Uuid;

use super::error::Result;
use super::rows::{hex_list, state, string_list};
use super::statement::quoted;
use crate::job::JobId;
use crate::store::Error;
use crate::store::audit::{LedgerColumn, LedgerEntry, LedgerPage};

const COLUMN: &str = "-- audit, whether a ledger is there
SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";

/// A ledger that is there. Ids are text in the API's form, or 16 bytes.
pub(super) struct LedgerTable {
    /// Quoted.
    table: String,
    /// Quoted.
    column: String,
}

impl LedgerTable {
    /// Looks it up.
    pub(super) async fn find(readers: &SqlitePool, ledger: &LedgerColumn) -> Result<Self> {
        let LedgerColumn { schema, table, column } = ledger;
        if let Some(schema) = schema {
            return Err(
                Error::Rejected(format!("SQLite has no schema `{schema}`: name the ledger as TABLE.COLUMN")).into()
            );
        }
        let there: bool = sqlx::query_scalar(COLUMN).bind(table).bind(column).fetch_one(readers).await?;
        if !there {
            return Err(Error::Rejected(format!("there is no column `{column}` in a table `{table}`")).into());
        }
        Ok(Self { table: quoted(table), column: quoted(column) })
    }

    /// Rows without a value that could be an id.
    pub(super) async fn blank(&self, readers: &SqlitePool) -> Result<u64> {
        let Self { table, column } = self;
        let sql = format!("SELECT count(*) FROM {table} WHERE typeof({column}) NOT IN ('text', 'blob')");
        let blank: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(readers).await?;
        Ok(blank.unsigned_abs())
    }

    /// Values in order, text before bytes; see [`crate::store::audit::Audit::ledger_page`]. A page begins behind a value
    /// that is written as its type and itself.
    pub(super) async fn page(&self, readers: &SqlitePool, from: Option<&str>, limit: u32) -> Result<LedgerPage> {
        let Self { table, column } = self;
        let (after, value) = match from.and_then(|from| from.split_once(':')) {
            Some(("blob", hex)) => ("> unhex(?1)", hex),
            // Bytes sort behind text.
            Some((_, text)) => ("> ?1", text),
            None => ("IS NOT NULL", ""),
        };
        let sql = format!(
            "SELECT DISTINCT typeof({column}) AS type, CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE {column} END
    AS value FROM {table} WHERE {column} {after} AND typeof({column}) IN ('text', 'blob')
ORDER BY {column} LIMIT {limit}"
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        if from.is_some() {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(readers).await?;
        let mut page = LedgerPage::default();
        for row in &rows {
            let (kind, value): (&str, &str) = (row.try_get("type")?, row.try_get("value")?);
            let id = Uuid::try_parse(value).ok();
            match id.filter(|id| kind == "blob" || id.to_string() == value) {
                Some(id) => page.jobs.push(JobId(id)),
                None => page.others.push(value.to_owned()),
            }
            page.next = Some(format!("{kind}:{value}"));
        }
        if rows.len() < limit as usize {
            page.next = None;
        }
        Ok(page)
    }

    /// What it says of these jobs; see [`crate::store::audit::Audit::in_ledger`].
    pub(super) async fn entries(&self, readers: &SqlitePool, jobs: &[JobId]) -> Result<Vec<LedgerEntry>> {
        let mut entries: HashMap<Uuid, LedgerEntry> =
            jobs.iter().map(|job| (job.0, LedgerEntry { job: *job, rows: 0, stands: None })).collect();
        let texts: Vec<String> = entries.keys().map(Uuid::to_string).collect();
        let Self { table, column } = self;
        let sql = format!(
            "SELECT CASE typeof({column}) WHEN 'blob' THEN {column} ELSE unhex({column}, '-') END AS id, count(*) AS rows,
    NULL AS kind, NULL AS state
FROM {table} WHERE {column} IN (SELECT value FROM json_each(?1) UNION ALL SELECT unhex(value) FROM json_each(?2))
GROUP BY {column}
UNION ALL
SELECT id, 0, kind, state FROM offload_jobs WHERE id IN (SELECT unhex(value) FROM json_each(?2))"
        );
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(string_list(&texts));
        let rows = statement.bind(hex_list(entries.keys().copied())).fetch_all(readers).await?;
        for row in &rows {
            let Some(entry) = entries.get_mut(&row.try_get::<Uuid, _>("id")?) else { continue };
            let found: i64 = row.try_get("rows")?;
            entry.rows += found.unsigned_abs();
            if let Some(kind) = row.try_get::<Option<String>, _>("kind")? {
                entry.stands = Some((kind, state(row)?));
            }
        }
        Ok(entries.into_values().collect())
    }
}
