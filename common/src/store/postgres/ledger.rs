//! The auditor's look into a ledger: a table of the application's.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::connection::Line;
use super::rows::get;
use super::sql::identifier;
use crate::job::JobId;
use crate::store::audit::{LedgerColumn, LedgerEntry, LedgerPage};
use crate::store::row::parse;
use crate::store::{Error, Result};

pub(super) const COLUMN_TYPE: &str = "-- offload: audit, the type of a ledger's column
SELECT t.typname::text AS type FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// A ledger that is there.
pub(super) struct LedgerTable {
    /// Quoted.
    table: String,
    /// Quoted.
    column: String,
    /// Ids are stored as text.
    is_text: bool,
}

impl LedgerTable {
    /// Looks it up.
    pub(super) async fn find(line: &mut Line, ledger: &LedgerColumn) -> Result<Self> {
        let table = match &ledger.schema {
            Some(schema) => format!("{}.{}", identifier(schema)?, identifier(&ledger.table)?),
            None => identifier(&ledger.table)?,
        };
        let row = line.row(sqlx::query(COLUMN_TYPE).bind(table.clone()).bind(ledger.column.clone())).await?;
        let column = identifier(&ledger.column)?;
        match row.map(|row| get::<String>(&row, "type")).transpose()?.as_deref() {
            Some("uuid") => Ok(Self { table, column, is_text: false }),
            Some("text" | "varchar") => Ok(Self { table, column, is_text: true }),
            Some(other) => Err(Error::Rejected(format!(
                "column {column} of {table} is of type {other}: a ledger holds ids as uuid or text"
            ))),
            None => Err(Error::Rejected(format!("there is no column {column} in a table {table}"))),
        }
    }

    /// Rows without a value.
    pub(super) async fn blank(&self, line: &mut Line) -> Result<u64> {
        let Self { table, column, .. } = self;
        let sql = format!(
            "-- offload: audit, blanks in a ledger\nSELECT count(*) AS blank FROM {table} WHERE {column} IS NULL"
        );
        let row = line.row(sqlx::query(AssertSqlSafe(sql))).await?;
        row.map_or(Ok(0), |row| Ok(get::<i64>(&row, "blank")?.unsigned_abs()))
    }

    /// Values in order; see [`crate::store::audit::Audit::ledger_page`].
    pub(super) async fn page(&self, line: &mut Line, from: Option<&str>, limit: u32) -> Result<LedgerPage> {
        let Self { table, column, is_text } = self;
        let kind = if *is_text { "text" } else { "uuid" };
        let after = if from.is_some() { format!("{column} > $2::{kind}") } else { format!("{column} IS NOT NULL") };
        let sql = format!(
            "-- offload: audit, values of a ledger
SELECT DISTINCT {column} AS value, {column}::text AS shown FROM {table} WHERE {after} ORDER BY {column} LIMIT $1"
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(limit));
        if let Some(from) = from {
            statement = statement.bind(from.to_owned());
        }
        let rows = line.rows(statement).await?;
        let mut page = LedgerPage::default();
        for row in &rows {
            let shown: String = get(row, "shown")?;
            match Uuid::try_parse(&shown) {
                // The form in which ids are looked for.
                Ok(id) if id.to_string() == shown => page.jobs.push(JobId(id)),
                _ => page.others.push(shown.clone()),
            }
            page.next = Some(shown);
        }
        if rows.len() < limit as usize {
            page.next = None;
        }
        Ok(page)
    }

    /// What it says of these jobs; see [`crate::store::audit::Audit::in_ledger`]. The ids are part of the text: known to the
    /// planner, they are hashed where no index helps.
    pub(super) async fn entries(&self, line: &mut Line, jobs: &[JobId]) -> Result<Vec<LedgerEntry>> {
        let mut entries: HashMap<Uuid, LedgerEntry> =
            jobs.iter().map(|job| (job.0, LedgerEntry { job: *job, rows: 0, stands: None })).collect();
        let ids: Vec<String> = entries.keys().map(Uuid::to_string).collect();
        let ids = ids.join(",");
        let Self { table, column, is_text } = self;
        let kind = if *is_text { "text" } else { "uuid" };
        let sql = format!(
            "-- offload: audit, jobs in a ledger
SELECT {column}::text::uuid AS id, count(*) AS rows, NULL AS kind, NULL AS state
FROM {table} WHERE {column} = ANY ('{{{ids}}}'::{kind}[]) GROUP BY {column}
UNION ALL
SELECT j.id, 0, j.kind, j.state::text FROM offload.jobs j WHERE j.id = ANY ('{{{ids}}}'::uuid[])"
        );
        for row in &line.rows(sqlx::query(AssertSqlSafe(sql)).persistent(false)).await? {
            let Some(entry) = entries.get_mut(&get(row, "id")?) else { continue };
            entry.rows += get::<i64>(row, "rows")?.unsigned_abs();
            if let Some(kind) = get::<Option<String>>(row, "kind")? {
                entry.stands = Some((kind, parse("state", get(row, "state")?)?));
            }
        }
        Ok(entries.into_values().collect())
    }
}
