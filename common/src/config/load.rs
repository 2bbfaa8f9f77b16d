//! Loading: a pure function of a file's text, the environment and the flags.

use serde_path_to_error::Segment;
use toml::Value;

use super::layer::Layers;
use super::origin::{ConfigError, Origin, Origins, Path, Problem};
use super::{Config, environment, validate};

/// The compiled-in defaults, which are also their documentation.
pub const DEFAULT: &str = include_str!("default.toml");

/// Which process the configuration is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// `offload dev` and `demo`: the addresses of services in the environment are not looked at.
    Embedded,
    /// `offload worker`: what says where to listen is about its probes.
    Worker,
    /// Every other.
    #[default]
    Api,
}

impl Role {
    /// The key that `--listen` and `OFFLOAD_LISTEN` set.
    #[must_use]
    pub const fn listen_key(self) -> &'static str {
        match self {
            Role::Worker => "worker.listen",
            Role::Embedded | Role::Api => "server.listen",
        }
    }
}

/// What a command-line flag sets.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag, for errors.
    pub flag: &'static str,
    /// The dotted key.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// What configuration is made from, weakest first; `default.toml` lies below.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The process it is for.
    pub role: Role,
    /// A configuration file: its name and its text.
    pub file: Option<(String, String)>,
    /// Environment variables; those that mean nothing here are passed over.
    pub environment: Vec<(String, String)>,
    /// Command-line flags.
    pub flags: Vec<Override>,
}

/// A configuration that can be used, and where its values come from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Their origins.
    pub origins: Origins,
}

/// Lays the sources over each other and checks the outcome.
///
/// # Errors
/// [`ConfigError`] naming each unknown key or bad value, where it was given, and what is allowed.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers::default();
    layers.file(None, DEFAULT)?;
    if let Some((name, text)) = &sources.file {
        layers.file(Some(name), text)?;
    }
    environment::lay(&mut layers, &sources.environment, sources.role);
    for Override { flag, key, value } in &sources.flags {
        let path: Path = key.split('.').map(str::to_owned).collect();
        layers.value(&path, value.clone(), Origin::Flag((*flag).to_owned()));
    }
    let Layers { values, origins } = layers;
    let config: Config = serde_path_to_error::deserialize(Value::Table(values)).map_err(|error| {
        let path = place(error.path());
        let hint = hint(&path).map(|hint| format!("; expected {hint}")).unwrap_or_default();
        // The decoder's message may quote the value: no value of these keys is a secret, and URLs decode as any text.
        let detail = format!("{}{hint}", plain(error.inner().message()));
        Problem { origin: origins.of(&path), path, detail }
    })?;
    let problems = validate::validate(&config);
    if problems.is_empty() {
        return Ok(Loaded { config, origins });
    }
    let located = problems.into_iter().map(|(path, detail)| Problem { origin: origins.of(&path), path, detail });
    Err(ConfigError { problems: located.collect() })
}

impl Config {
    /// The defaults alone.
    #[must_use]
    pub fn defaults() -> Self {
        toml::from_str(DEFAULT).expect("default.toml is compiled in, and a test reads it")
    }
}

fn place(path: &serde_path_to_error::Path) -> Path {
    let name = |segment: &Segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Seq { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(name).collect()
}

/// The decoder's message without its Rust.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected struct ", "expected a table: "),
        (" field `", " key `"),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (rust, plain)| text.replace(rust, plain))
}

fn hint(path: &[String]) -> Option<&'static str> {
    let [section, key] = path else { return None };
    match (section.as_str(), key.as_str()) {
        (_, "listen") => Some("an address and a port such as 127.0.0.1:8080 (port 0: any free one)"),
        ("egress", "allow") => Some("networks such as 10.1.0.0/16, or 10.1.2.3/32 for one address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sources(file: &str, environment: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(("offload.toml".into(), file.into())),
            environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Sources::default()
        }
    }

    fn refused(file: &str, environment: &[(&str, &str)]) -> String {
        load(&sources(file, environment)).map(|_| ()).expect_err("wrong").to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_read_alone() {
        let loaded = load(&Sources::default()).expect("valid");
        assert_eq!(loaded.config.worker.slots, 64);
        assert_eq!(Config::defaults().server.listen.port(), 8080);
        assert_eq!(loaded.origins.given().count(), 0);
    }

    #[test]
    fn later_sources_beat_earlier_ones() {
        let file = "[worker]\nslots = 1\ndrain_seconds = 1\nqueues = ['reports']\n[queues.reports]\n";
        let mut sources = sources(file, &[("OFFLOAD_WORKER__SLOTS", "2"), ("OFFLOAD_LISTEN", "0.0.0.0:80")]);
        let flag = Override { flag: "--listen", key: "server.listen", value: "127.0.0.1:0".into() };
        sources.flags.push(flag);
        let Loaded { config, origins } = load(&sources).expect("valid");
        assert_eq!((config.worker.slots, config.worker.drain_seconds), (2, 1));
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.queues.keys().collect::<Vec<_>>(), ["default", "reports"]);
        let given: Vec<_> = origins.given().map(|(path, origin)| format!("{} {origin}", path.join("."))).collect();
        insta::assert_snapshot!(given.join("\n"), @r"
        queues.reports offload.toml:5
        server.listen --listen
        worker.drain_seconds offload.toml:3
        worker.queues offload.toml:4
        worker.slots OFFLOAD_WORKER__SLOTS
        ");
    }

    #[test]
    fn errors_name_the_value_and_where_it_was_given() {
        let worker = "[worker]\nslots = 0\nlease_seconds = 9\nqueues = ['nowhere']\n";
        let wrong = [
            refused("[worker]\n\nslot = 1\n", &[]),
            refused("[broker]\nqueue_type = 'fast'\n", &[]),
            refused("[wroker]\nslots = 1\n", &[]),
            refused("[kinds.words]\ndescription = 'no command'\n", &[]),
            refused("worker = 3\n", &[]),
            refused("[worker\n", &[]),
            refused("", &[("OFFLOAD_WORKER__SLOTS", "many")]),
            refused("", &[("OFFLOAD_WORKER__SLOT", "1")]),
            refused("", &[("OFFLOAD_LISTEN", "8080")]),
            refused("", &[("OFFLOAD_EGRESS_ALLOW", "127.0.0.0/8,elsewhere")]),
            refused("", &[("DATABASE_URL", "mysql://root:secret@db/x")]),
            refused(worker, &[]),
        ];
        insta::assert_snapshot!(wrong.join("\n").replace("the configuration is wrong", "-"));
    }

    #[test]
    fn embedded_processes_do_not_look_at_the_addresses_of_services() {
        let mut sources = sources("", &[("DATABASE_URL", "mysql://db/x"), ("AMQP_URL", "?"), ("FILES_URL", "?")]);
        sources.role = Role::Embedded;
        let config = load(&sources).expect("valid").config;
        assert_eq!((config.database.url, config.broker.url, config.files.url), (None, None, None));
    }

    #[test]
    fn empty_variables_count_as_not_set() {
        let config = load(&sources("", &[("DATABASE_URL", ""), ("OFFLOAD_WORKER__SLOTS", "")])).expect("valid").config;
        assert_eq!((config.database.url, config.worker.slots), (None, 64));
    }

    proptest! {
        #[test]
        fn no_input_makes_loading_panic(file in ".{0,200}", value in ".{0,40}") {
            let variables = [("OFFLOAD_WORKER__SLOTS", value.as_str()), ("OFFLOAD_KINDS__X", value.as_str())];
            let _ = load(&sources(&file, &variables));
        }
    }
}
