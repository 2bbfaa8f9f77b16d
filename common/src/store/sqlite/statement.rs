//! What a handler may run: one statement that reads or writes tables of the application's own. A `COMMIT` would let its
//! writes escape the fence, and Offload's own tables are nobody else's to write.

use crate::store::{Error, Result};

/// Names that begin so are not the application's.
const RESERVED: [&str; 2] = ["offload_", "sqlite_"];

/// A statement that was found harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Whether it inserts, updates or deletes rows.
    pub(super) changes_rows: bool,
}

/// Checks a statement that comes with this many arguments.
pub(super) fn check(sql: &str, arguments: usize) -> Result<Statement> {
    let tokens = tokens(sql)?;
    let word = |n: usize| match tokens.get(n) {
        Some(Token::Word(word)) => word.to_ascii_lowercase(),
        _ => String::new(),
    };
    let (first, second) = (word(0), word(1));
    let allowed = match first.as_str() {
        "select" | "insert" | "update" | "delete" | "replace" | "with" | "values" => true,
        "create" | "drop" | "alter" => matches!(second.as_str(), "table" | "index" | "unique" | "view"),
        _ => false,
    };
    if !allowed {
        return refuse(format!(
            "a job's transaction does not run `{}`; it runs SELECT, INSERT, UPDATE, DELETE, and CREATE, ALTER or DROP \
             of tables, indexes and views",
            format!("{first} {second}").trim().to_uppercase()
        ));
    }
    for (n, token) in tokens.iter().enumerate() {
        match token {
            Token::Semicolon if n + 1 < tokens.len() => {
                return refuse("one statement at a time: there is something after the semicolon".to_owned());
            }
            Token::Word(name) | Token::Quoted(name) => not_reserved(name)?,
            Token::Parameter(number) if !(1..=arguments).contains(number) => {
                return refuse(format!("the statement wants ${number}, and {arguments} arguments are given"));
            }
            _ => {}
        }
    }
    let changes_rows = match first.as_str() {
        "insert" | "update" | "delete" | "replace" => true,
        // `replace` is a function, too, but not before `into`.
        "with" => (0..tokens.len()).any(|n| match word(n).as_str() {
            "insert" | "update" | "delete" => true,
            "replace" => word(n + 1) == "into",
            _ => false,
        }),
        _ => false,
    };
    Ok(Statement { changes_rows })
}

/// Refuses a name that belongs to Offload or to SQLite.
pub(super) fn not_reserved(name: &str) -> Result<()> {
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    match RESERVED.iter().find(|prefix| begins(prefix)) {
        Some(prefix) => refuse(format!("`{name}`: names that begin with `{prefix}` are reserved")),
        None => Ok(()),
    }
}

/// A name in SQL, quoted.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::Rejected(why))
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// In any of SQLite's four kinds of quotes. A text in single quotes counts too, since SQLite takes it for a name
    /// where a name must stand.
    Quoted(&'a str),
    /// `$1`
    Parameter(usize),
    Semicolon,
    Other,
}

fn tokens(sql: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            c if c.is_whitespace() => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest[2..].find("*/").map_or(rest.len(), |end| end + 4)),
            '\'' | '"' | '`' | '[' => {
                let inner = inside_quotes(rest)?;
                (Some(Token::Quoted(inner)), inner.len() + 2)
            }
            '$' => {
                let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                let number = rest[1..=digits].parse().unwrap_or(0);
                (Some(Token::Parameter(number)), 1 + digits)
            }
            '?' => return refuse("parameters are written $1, $2, …".to_owned()),
            ';' => (Some(Token::Semicolon), 1),
            c if c.is_alphanumeric() || c == '_' => {
                let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
                let length = length.unwrap_or(rest.len());
                (Some(Token::Word(&rest[..length])), length)
            }
            c => (Some(Token::Other), c.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// What is between the quotes that `text` begins with; a doubled quote stands for itself.
fn inside_quotes(text: &str) -> Result<&str> {
    let close = if text.starts_with('[') { ']' } else { text.chars().next().unwrap_or('\'') };
    let inner = &text[1..];
    let mut from = 0;
    while let Some(found) = inner[from..].find(close) {
        let end = from + found;
        if close != ']' && inner[end + 1..].starts_with(close) {
            from = end + 2;
        } else {
            return Ok(&inner[..end]);
        }
    }
    refuse(format!("the statement ends within {close} quotes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statements_on_the_applications_own_tables_pass() {
        for (sql, changes_rows) in [
            ("INSERT INTO orders (id, note) VALUES ($1, 'it''s; COMMIT')", true),
            ("  -- a comment; COMMIT\n UPDATE orders SET n = n + 1 WHERE id = $1;", true),
            ("delete from \"the orders\"", true),
            ("WITH old AS (SELECT 1) DELETE FROM orders WHERE id IN old", true),
            ("WITH old AS (SELECT replace('a', 'a', 'b')) SELECT * FROM old", false),
            ("WITH new AS (SELECT 1) REPLACE INTO orders SELECT * FROM new", true),
            ("/* ; */ SELECT my_offload_count FROM t", false),
            ("CREATE TABLE IF NOT EXISTS orders (id INTEGER)", false),
            ("CREATE UNIQUE INDEX i ON orders (id)", false),
            ("ALTER TABLE orders ADD COLUMN note TEXT", false),
            ("DROP TABLE [orders] ; ", false),
        ] {
            assert_eq!(check(sql, 1).expect(sql), Statement { changes_rows }, "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            "COMMIT",
            "/* innocent */ rollback",
            "BEGIN",
            "PRAGMA synchronous = OFF",
            "ATTACH 'other.db' AS other",
            "CREATE TEMP TABLE t (a)",
            "CREATE TRIGGER t AFTER INSERT ON orders BEGIN SELECT 1; END",
            "INSERT INTO orders VALUES (1); COMMIT",
            "SELECT 1;; SELECT 2",
            "UPDATE offload_jobs SET state = 'succeeded'",
            "UPDATE main.\"Offload_Jobs\" SET epoch = 0",
            "INSERT INTO 'offload_jobs' VALUES (1)",
            "DELETE FROM [offload_logs]",
            "DELETE FROM `offload_logs`",
            "DELETE FROM sqlite_sequence",
            "SELECT 'open",
            "SELECT $2",
            "SELECT $0",
            "SELECT $name",
            "SELECT ?",
        ] {
            assert!(matches!(check(sql, 1), Err(Error::Rejected(_))), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(sql in "(SELECT |;|--|/\\*|'|\"|\\[|\\]|\\$[0-9]?|\\PC){0,40}") {
            let _ = check(&sql, 1);
        }

        #[test]
        fn a_quoted_name_is_one_name(name in "\\PC{1,20}") {
            let sql = format!("SELECT {}", quoted(&name));
            let inside = name.replace('"', "\"\"");
            prop_assert_eq!(tokens(&sql).expect("well-formed"), vec![Token::Word("SELECT"), Token::Quoted(&inside)]);
        }
    }
}
