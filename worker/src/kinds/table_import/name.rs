//! Which table is meant, and whether it may be written.

use offload_common::store::TableName;

use crate::kind::JobError;

/// The longest identifier of PostgreSQL, in bytes.
const MAX_IDENTIFIER: usize = 63;

/// Schemas that hold the database's own tables, or Offload's: not even an operator's configuration opens them.
const RESERVED_SCHEMAS: [&str; 3] = ["offload", "pg_catalog", "information_schema"];

/// Offload's own tables in a database without schemas.
const RESERVED_PREFIX: &str = "offload_";

/// Understands `name` or `schema.name`; `schemas` are those that the operator allows, the first for a bare name.
pub(super) fn table(text: &str, schemas: &[String]) -> Result<TableName, JobError> {
    let not_allowed = |schema: &str| {
        let allowed = if schemas.is_empty() { "none".to_owned() } else { schemas.join(", ") };
        let message = format!("tables of schema `{schema}` are not imported into; imports.schemas allows: {allowed}");
        JobError::fail("schema_not_allowed", message)
    };
    let (schema, table) = match text.split_once('.') {
        Some((schema, table)) => (schema, table),
        None => (schemas.first().ok_or_else(|| not_allowed("public"))?.as_str(), text),
    };
    for part in [schema, table] {
        identifier(part).map_err(|why| JobError::fail("invalid_table", format!("table `{text}`: {why}")))?;
    }
    if table.contains('.') {
        return Err(JobError::fail("invalid_table", format!("table `{text}`: it is `name` or `schema.name`")));
    }
    if RESERVED_SCHEMAS.contains(&schema) || !schemas.iter().any(|allowed| allowed == schema) {
        return Err(not_allowed(schema));
    }
    if table.to_ascii_lowercase().starts_with(RESERVED_PREFIX) {
        let message = format!("table `{text}`: names that begin with `{RESERVED_PREFIX}` are kept for Offload itself");
        return Err(JobError::fail("invalid_table", message));
    }
    Ok(TableName { schema: schema.to_owned(), table: table.to_owned() })
}

/// Whether a name can be that of a schema, a table or a column. Any character but a control one will do: it is quoted.
///
/// # Errors
/// Why not.
pub(super) fn identifier(name: &str) -> Result<(), String> {
    match name {
        "" => Err("a name is empty".to_owned()),
        _ if name.len() > MAX_IDENTIFIER => Err(format!("`{name}` is longer than {MAX_IDENTIFIER} bytes")),
        _ if name.chars().any(char::is_control) => Err(format!("{name:?} holds a control character")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(text: &str, schemas: &[&str]) -> Result<(String, String), String> {
        let schemas: Vec<String> = schemas.iter().map(|schema| (*schema).to_owned()).collect();
        table(text, &schemas).map(|name| (name.schema, name.table)).map_err(|error| match error {
            JobError::Failed(failure) => failure.code,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_table_is_found_in_the_schemas_that_are_allowed() {
        let found = |schema: &str, table: &str| Ok((schema.to_owned(), table.to_owned()));
        assert_eq!(understood("orders", &["public"]), found("public", "orders"));
        assert_eq!(understood("orders", &["sales", "public"]), found("sales", "orders"));
        assert_eq!(understood("public.orders", &["sales", "public"]), found("public", "orders"));
        assert_eq!(understood("Odd \"näme\"; --", &["public"]), found("public", "Odd \"näme\"; --"));
    }

    #[test]
    fn other_tables_are_refused() {
        for (text, schemas, code) in [
            ("sales.orders", &["public"][..], "schema_not_allowed"),
            ("orders", &[], "schema_not_allowed"),
            ("offload.jobs", &["public", "offload"], "schema_not_allowed"),
            ("pg_catalog.pg_class", &["pg_catalog"], "schema_not_allowed"),
            ("PUBLIC.orders", &["public"], "schema_not_allowed"),
            ("offload_jobs", &["public"], "invalid_table"),
            ("OFFLOAD_Jobs", &["public"], "invalid_table"),
            ("", &["public"], "invalid_table"),
            ("public.", &["public"], "invalid_table"),
            (".orders", &["public"], "invalid_table"),
            ("public.a.b", &["public"], "invalid_table"),
            ("a\0b", &["public"], "invalid_table"),
            ("x123456789012345678901234567890123456789012345678901234567890123", &["public"], "invalid_table"),
        ] {
            assert_eq!(understood(text, schemas), Err(code.to_owned()), "{text:?}");
        }
    }
}
