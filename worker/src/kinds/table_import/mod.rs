//! `table.import`: the rows of a CSV, TSV or NDJSON file into a table, all of them with the job's success or none.
//!
//! The file is read in pieces and inserted in chunks through the job's transaction, so memory stays flat however long it
//! is. Every cell is checked before the database sees it; so mistakes are told by their lines, and all at once.

mod cell;
mod delimited;
mod layout;
mod name;
mod ndjson;
mod record;
mod rows;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use offload_common::config::ImportsConfig;
use offload_common::kind::KindSpec;
use offload_common::store::{self, Column, TableName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::record::{Content, Format, Reader, Record};
use self::rows::Rows;
use super::source::Source;
use crate::kind::{Context, JobError, JobKind};

/// A chunk is inserted when it has this many rows, or bytes of cells.
const CHUNK_ROWS: usize = 2000;
const CHUNK_BYTES: usize = 1024 * 1024;

/// What to import, and where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    source: Source,
    /// `name` or `schema.name`; the operator says which schemas are open.
    #[schemars(length(min = 1, max = 127), example = "orders".to_owned())]
    table: String,
    /// How the file is written.
    #[serde(default)]
    format: Format,
    /// What separates the fields of a CSV file; a comma unless given.
    #[serde(default)]
    #[schemars(with = "Delimiter")]
    delimiter: Option<Delimiter>,
    /// The columns of the file with their types. Unless given: those of the table, or all text where it is created.
    #[serde(default)]
    #[schemars(with = "Vec<Column>", length(min = 1, max = 1600))]
    columns: Option<Vec<Column>>,
    /// Whether to create the table if it is not there.
    #[serde(default)]
    create: bool,
    /// What happens to rows that are in the table already.
    #[serde(default)]
    mode: Mode,
}

/// A character that can separate fields.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum Delimiter {
    #[serde(rename = ",")]
    Comma,
    #[serde(rename = ";")]
    Semicolon,
    #[serde(rename = "|")]
    Bar,
    #[serde(rename = ":")]
    Colon,
    #[serde(rename = "\t")]
    Tab,
}

impl Delimiter {
    const fn byte(self) -> u8 {
        match self {
            Delimiter::Comma => b',',
            Delimiter::Semicolon => b';',
            Delimiter::Bar => b'|',
            Delimiter::Colon => b':',
            Delimiter::Tab => b'\t',
        }
    }
}

/// What happens to rows that are in the table already.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// They stay.
    #[default]
    Append,
}

/// What was imported.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Output {
    /// How many rows.
    rows: u64,
    /// Into which table.
    table: String,
}

pub(super) struct TableImport {
    schemas: Vec<String>,
}

impl TableImport {
    pub(super) fn new(config: &ImportsConfig) -> Self {
        Self { schemas: config.schemas.clone() }
    }
}

#[async_trait]
impl JobKind for TableImport {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        let description = "Imports a CSV, TSV or NDJSON file into a table; all rows, or none if any is bad.";
        KindSpec::new::<Payload, Output>("table.import", description).repeatable()
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        let Mode::Append = payload.mode;
        let table = name::table(&payload.table, &self.schemas)?;
        let length = job.file(payload.source.file).await?.bytes;
        let mut content = job.read_file(payload.source.file).await?;
        let mut reader = Reader::new(payload.format, payload.delimiter.map(Delimiter::byte));
        let mut import = Import { job, payload: &payload, table, rows: None, inserted: 0 };
        let mut read = 0;
        while let Some(piece) =
            content.try_next().await.map_err(|error| JobError::retry("storage_unavailable", error))?
        {
            read += piece.len() as u64;
            import.take(reader.push(&piece)).await?;
            job.progress(read as f64 / length.max(1) as f64, format!("{} rows", import.inserted));
        }
        import.take(reader.finish()).await?;
        import.finish().await?;
        job.progress(1.0, format!("{} rows", import.inserted));
        Ok(Output { rows: import.inserted, table: payload.table })
    }
}

/// An import under way.
struct Import<'i> {
    job: &'i Context,
    payload: &'i Payload,
    table: TableName,
    /// There once the head of the file has been read.
    rows: Option<Rows>,
    inserted: u64,
}

impl Import<'_> {
    async fn take(&mut self, records: Vec<Record>) -> Result<(), JobError> {
        for record in records {
            let Some(rows) = &mut self.rows else {
                self.rows = Some(self.begin(record).await?);
                continue;
            };
            rows.push(record)?;
            let (count, bytes) = rows.size();
            if count >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                self.insert().await?;
            }
        }
        Ok(())
    }

    /// Settles from the first record which columns the file fills. The first object of NDJSON is a row, too.
    async fn begin(&self, first: Record) -> Result<Rows, JobError> {
        let content = first.content.map_err(|why| JobError::fail("bad_rows", format!("line {}: {why}", first.line)))?;
        let declared = self.payload.columns.as_deref();
        let head = layout::head(&content, declared)?;
        let mut transaction = self.job.transaction().await?;
        let mut there = transaction.columns(&self.table).await?;
        if there.is_none() && self.payload.create {
            let columns = layout::to_create(&head, declared)?;
            transaction.create_table(&self.table, &columns).await?;
            // Others may have created it, in another shape, at the same moment.
            there = transaction.columns(&self.table).await?;
        }
        let absent = || JobError::fail("table_not_found", format!("there is no table `{}`", self.payload.table));
        let mut rows = Rows::new(layout::fit(&head, declared, &there.ok_or_else(absent)?)?);
        if let Content::Members(_) = content {
            rows.push(Record { line: first.line, content: Ok(content) })?;
        }
        Ok(rows)
    }

    async fn insert(&mut self) -> Result<(), JobError> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        let (chunk, (from, to)) = rows.take();
        if chunk.is_empty() {
            return Ok(());
        }
        let mut transaction = self.job.transaction().await?;
        let inserted = transaction.insert(&self.table, rows.columns(), chunk).await;
        self.inserted += inserted.map_err(|error| match error {
            // A constraint of the table's own: the database names it, though not the line.
            store::Error::Rejected(why) => {
                JobError::fail("database_rejected", format!("among the rows of lines {from} to {to}: {why}"))
            }
            other => other.into(),
        })?;
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), JobError> {
        match &self.rows {
            None => Err(JobError::fail("empty_file", "the file is empty; its first line names the columns")),
            Some(rows) => {
                rows.check()?;
                self.insert().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::kind::KindCatalog;
    use serde_json::{Value, json};

    const FILE: &str = "0199f6c2-7b5e-7cc3-98c4-dc0c0c07398f";

    #[test]
    fn the_schema_finds_what_is_wrong() {
        let spec = TableImport { schemas: vec![] }.spec();
        let catalog = KindCatalog::new([spec]).expect("compiles");
        let pointers = |payload: &Value| {
            let found = catalog.violations("table.import", payload).expect("known");
            found.into_iter().map(|violation| violation.pointer).collect::<Vec<_>>()
        };
        let source = json!({"file": FILE});
        let columns = json!([{"name": "id", "type": "integer"}]);
        for payload in [
            json!({"source": source, "table": "orders"}),
            json!({"source": source, "table": "orders", "format": "csv", "columns": columns, "create": true,
                   "mode": "append", "delimiter": ";"}),
        ] {
            assert_eq!(pointers(&payload), Vec::<String>::new(), "{payload}");
            serde_json::from_value::<Payload>(payload).expect("fits");
        }
        for (payload, pointer) in [
            (json!({"source": source}), "/table"),
            (json!({"source": {}, "table": "orders"}), "/source/file"),
            (json!({"source": {"file": "x"}, "table": "orders"}), "/source/file"),
            (json!({"source": source, "table": ""}), "/table"),
            (json!({"source": source, "table": "orders", "format": "xml"}), "/format"),
            (json!({"source": source, "table": "orders", "delimiter": "x"}), "/delimiter"),
            (json!({"source": source, "table": "orders", "columns": []}), "/columns"),
            (json!({"source": source, "table": "orders", "columns": [{"name": "a"}]}), "/columns/0/type"),
            (json!({"source": source, "table": "orders", "columns": [{"name": "a", "type": "x"}]}), "/columns/0/type"),
            (json!({"source": source, "table": "orders", "mode": "merge"}), "/mode"),
            (json!({"source": source, "table": "orders", "creat": true}), "/creat"),
        ] {
            assert_eq!(pointers(&payload), [pointer], "{payload}");
        }
    }
}
