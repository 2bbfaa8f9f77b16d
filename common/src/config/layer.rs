//! Layers: each source of configuration laid over what came before, with the origin of every value.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::origin::{ConfigError, Origin, Origins, Path, Problem};

/// The values so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) values: Table,
    pub(super) origins: Origins,
}

impl Layers {
    /// Lays a TOML file over the values; `name` stands in its origins, and `None` makes them defaults.
    pub(super) fn file(&mut self, name: Option<&str>, text: &str) -> Result<(), ConfigError> {
        let origin = |offset: usize| match name {
            None => Origin::Default,
            Some(name) => Origin::File { name: name.to_owned(), line: line(text, offset) },
        };
        let wrong = |error: toml::de::Error| Problem {
            origin: origin(error.span().map_or(0, |span| span.start)),
            path: Path::new(),
            detail: error.message().replace('\n', " "),
        };
        let values: Table = toml::from_str(text).map_err(wrong)?;
        let spans = DeTable::parse(text).map_err(wrong)?;
        note(&mut self.origins, &mut Path::new(), spans.get_ref(), &origin);
        merge(&mut self.values, values);
        Ok(())
    }

    /// Lays one value over the values.
    pub(super) fn value(&mut self, path: &[String], value: Value, origin: Origin) {
        if value.is_table() {
            self.origins.touch(path, origin);
        } else {
            self.origins.replace(path, origin);
        }
        let nested = path.iter().rev().fold(value, |inner, key| Value::Table(Table::from_iter([(key.clone(), inner)])));
        if let Value::Table(table) = nested {
            merge(&mut self.values, table);
        }
    }

    /// What is there now.
    pub(super) fn get(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.values.get(first)?, |value, key| value.get(key))
    }
}

/// Tables are merged, everything else is replaced.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn note(origins: &mut Origins, path: &mut Path, table: &DeTable<'_>, origin: &impl Fn(usize) -> Origin) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let here = origin(Spanned::span(key).start);
        match value.get_ref() {
            DeValue::Table(inner) => {
                origins.touch(path, here);
                note(origins, path, inner, origin);
            }
            _ => origins.replace(path, here),
        }
        path.pop();
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn later_layers_win_value_by_value_and_remember_their_lines() {
        let mut layers = Layers::default();
        layers.file(None, "[a]\nx = 1\ny = 2\nz = [1, 2]\n").expect("TOML");
        layers.file(Some("f.toml"), "# why\n[a]\ny = 3\nz = [9]\n").expect("TOML");
        layers.value(&path("a.x"), Value::Integer(7), Origin::Variable("A__X".into()));
        assert_eq!(layers.values, toml::toml! { a = { x = 7, y = 3, z = [9] } });
        assert_eq!(layers.origins.of(&path("a.x")).to_string(), "A__X");
        assert_eq!(layers.origins.of(&path("a.y")).to_string(), "f.toml:3");
        assert_eq!(layers.origins.of(&path("a.z")).to_string(), "f.toml:4");
    }

    #[test]
    fn a_file_that_is_no_toml_names_its_line() {
        let error = Layers::default().file(Some("f.toml"), "[a]\nx = \n").expect_err("no value");
        assert_eq!(error.problems[0].origin.to_string(), "f.toml:2");
    }
}
