//! The environment: which variables mean which values, and how their text is read.

use toml::Value;

use super::layer::Layers;
use super::load::Role;
use super::origin::{Origin, Path};

/// The addresses of the services that processes share. A shell may hold production's, so what is embedded does not
/// look at them.
const SERVICES: [(&str, &str); 3] =
    [("DATABASE_URL", "database.url"), ("AMQP_URL", "broker.url"), ("FILES_URL", "files.url")];

const SHORT: [(&str, &str); 3] =
    [("OFFLOAD_DATA", "database.data"), ("OFFLOAD_EGRESS_ALLOW", "egress.allow"), ("OFFLOAD_LOG", "log.filter")];

const PREFIX: &str = "OFFLOAD_";

/// Lays the variables over the values. An empty variable counts as not set. Short names come first, so the long name
/// of the same value beats them.
pub(super) fn lay(layers: &mut Layers, variables: &[(String, String)], role: Role) {
    let set = |(name, value): &&(String, String)| !value.is_empty() && place(name, role).is_some();
    let mut variables: Vec<_> = variables.iter().filter(set).collect();
    variables.sort_by_key(|(name, _)| (name.contains("__"), name.clone()));
    for (name, text) in variables {
        if let Some(path) = place(name, role) {
            let value = read(text, layers.get(&path));
            layers.value(&path, value, Origin::Variable(name.clone()));
        }
    }
}

/// Which value a variable means; `None` if it is none of ours.
fn place(name: &str, role: Role) -> Option<Path> {
    let services = SERVICES.iter().filter(|_| role != Role::Embedded);
    let listen = ("OFFLOAD_LISTEN", role.listen_key());
    let short = services.chain(&SHORT).chain([&listen]).find(|(short, _)| *short == name);
    if let Some((_, key)) = short {
        return Some(key.split('.').map(str::to_owned).collect());
    }
    // Without `__` it names no value: somebody else's, such as what an orchestrator sets for a service called `offload`.
    let long = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?;
    Some(long.split("__").map(str::to_ascii_lowercase).collect())
}

/// Text is text where the value before is text, a list may be joined by commas, and everything else is TOML; what does
/// not read as TOML stays text, so that the error names it.
fn read(text: &str, before: Option<&Value>) -> Value {
    let toml = || text.parse::<Value>().unwrap_or_else(|_| Value::String(text.to_owned()));
    match before {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => toml(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_places() {
        let dotted = |name, role| place(name, role).map(|path| path.join("."));
        assert_eq!(dotted("DATABASE_URL", Role::Api).as_deref(), Some("database.url"));
        assert_eq!(dotted("DATABASE_URL", Role::Embedded), None);
        assert_eq!(dotted("OFFLOAD_LISTEN", Role::Api).as_deref(), Some("server.listen"));
        assert_eq!(dotted("OFFLOAD_LISTEN", Role::Worker).as_deref(), Some("worker.listen"));
        assert_eq!(dotted("OFFLOAD_JOBS__RETRY__FACTOR", Role::Api).as_deref(), Some("jobs.retry.factor"));
        assert_eq!(dotted("OFFLOAD_API_PORT_8080_TCP", Role::Api), None);
        assert_eq!(dotted("PATH", Role::Api), None);
    }

    #[test]
    fn text_is_read_by_what_is_expected() {
        let text = |text: &str| Value::String(text.to_owned());
        let list = Value::Array(vec![]);
        assert_eq!(read("5", Some(&text("a"))), text("5"));
        assert_eq!(read("5", Some(&Value::Integer(1))), Value::Integer(5));
        assert_eq!(read("many", Some(&Value::Integer(1))), text("many"));
        assert_eq!(read("a, b,", Some(&list)), Value::Array(vec![text("a"), text("b")]));
        assert_eq!(read("['a']", Some(&list)), Value::Array(vec![text("a")]));
        assert_eq!(read("postgres://h/d", None), text("postgres://h/d"));
    }
}
