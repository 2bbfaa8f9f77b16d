//! The application's tables, as handlers write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A table of the application's, in a schema that the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The schema; stores without schemas leave it out.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// A column of an imported table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// What a column of an imported table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Any text.
    #[default]
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit floating point number.
    Float,
    /// An exact decimal number.
    Numeric,
    /// `true` or `false`.
    Boolean,
    /// A calendar date, `2026-11-23`.
    Date,
    /// A point in time, RFC 3339.
    Timestamp,
    /// A JSON document.
    Json,
}
