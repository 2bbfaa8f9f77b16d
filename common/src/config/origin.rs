//! Where a value comes from, and what is wrong with it: so that an error leads to the line or the variable to change.

use std::collections::BTreeMap;
use std::fmt;

/// The place of a value: section, key, and so on down.
pub(super) type Path = Vec<String>;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the compiled-in `default.toml`.
    Default,
    /// In a configuration file.
    File {
        /// The file, as it was named.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// By a command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Every value's origin, by its place. Tables are there too, for what is missing in them.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<Path, Origin>);

impl Origins {
    /// Notes where a value comes from; what it held before is forgotten.
    pub(super) fn replace(&mut self, path: &[String], origin: Origin) {
        self.0.retain(|known, _| !known.starts_with(path));
        self.0.insert(path.to_vec(), origin);
    }

    /// Notes where a table was last touched; what it holds stays.
    pub(super) fn touch(&mut self, path: &[String], origin: Origin) {
        self.0.insert(path.to_vec(), origin);
    }

    /// The origin of a value; of a table that was given only through what it holds; of the table around what is missing.
    #[must_use]
    pub fn of(&self, path: &[String]) -> Origin {
        let within = || self.0.iter().find(|(known, _)| known.starts_with(path)).map(|(_, origin)| origin);
        let around = || (0..path.len()).rev().find_map(|length| self.0.get(&path[..length]));
        self.0.get(path).or_else(within).or_else(around).cloned().unwrap_or(Origin::Default)
    }

    /// What is not default, in order of its place.
    pub fn given(&self) -> impl Iterator<Item = (&Path, &Origin)> {
        self.0.iter().filter(|(path, origin)| **origin != Origin::Default && self.is_leaf(path))
    }

    fn is_leaf(&self, path: &Path) -> bool {
        !self.0.keys().any(|other| other.len() > path.len() && other.starts_with(path))
    }
}

/// A place as it is written in TOML.
#[must_use]
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let keys = path.iter().map(|key| if bare(key) { key.clone() } else { format!("{key:?}") });
    keys.collect::<Vec<_>>().join(".")
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where to look.
    pub origin: Origin,
    /// Which value; empty for a file that is no TOML.
    pub path: Path,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", dotted(&self.path))?;
        }
        f.write_str(&self.detail)
    }
}

/// The configuration cannot be used; everything that is known to be wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "the configuration is wrong: {only}"),
            many => {
                f.write_str("the configuration is wrong in several places:")?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_missing_value_is_looked_for_in_the_table_around_it() {
        let mut origins = Origins::default();
        origins.touch(&path("kinds.words"), Origin::File { name: "offload.toml".into(), line: 7 });
        assert_eq!(origins.of(&path("kinds.words.command")).to_string(), "offload.toml:7");
        assert_eq!(origins.of(&path("worker.slots")), Origin::Default);
    }

    #[test]
    fn a_table_that_was_given_through_one_value_is_that_values() {
        let mut origins = Origins::default();
        origins.replace(&path("kinds.words.queue"), Origin::Variable("OFFLOAD_KINDS__WORDS__QUEUE".into()));
        assert_eq!(origins.of(&path("kinds.words")).to_string(), "OFFLOAD_KINDS__WORDS__QUEUE");
    }

    #[test]
    fn replacing_a_value_forgets_what_it_held() {
        let mut origins = Origins::default();
        origins.touch(&path("a.b"), Origin::Variable("OLD".into()));
        origins.replace(&path("a"), Origin::Flag("--a".into()));
        assert_eq!(origins.of(&path("a.b")).to_string(), "--a");
    }

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(dotted(&["kinds".into(), "report.render".into()]), "kinds.\"report.render\"");
    }
}
