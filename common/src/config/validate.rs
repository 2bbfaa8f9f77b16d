//! What the types cannot say: ranges, names, and values that must agree with each other.

use std::fmt::Display;

use url::Url;

use super::origin::Path;
use super::{Config, ExecKindConfig};

/// Everything that is wrong, each with its place.
pub(super) fn validate(config: &Config) -> Vec<(Path, String)> {
    let mut check = Check::default();
    server(&mut check, config);
    services(&mut check, config);
    jobs(&mut check, config);
    worker(&mut check, config);
    let callbacks = &config.callbacks;
    if let Err(error) = callbacks.secrets() {
        check.require(false, "callbacks.secrets", || error.to_string());
    }
    if let Err(error) = callbacks.signing_key() {
        check.require(false, "callbacks.signing_key", || error.to_string());
    }
    check.at_least("egress.max_response_bytes", config.egress.max_response_bytes, 1);
    let writable = |schema: &String| !schema.is_empty() && schema != "offload";
    let schemas = &config.imports.schemas;
    check.require(!schemas.is_empty() && schemas.iter().all(writable), "imports.schemas", || {
        "must name at least one schema, and not `offload`, which is Offload's own".into()
    });
    for name in config.queues.keys() {
        check.require(is_word(name), ["queues", name], || {
            "a queue's name has 1 to 63 characters of a-z, 0-9, `_` and `-`".into()
        });
    }
    for (name, kind) in &config.kinds {
        exec_kind(&mut check, config, name, kind);
    }
    check.problems
}

fn server(check: &mut Check, config: &Config) {
    let server = &config.server;
    check.at_least("server.max_body_bytes", server.max_body_bytes, 1024);
    check.between("server.max_wait_seconds", server.max_wait_seconds, 1, 3600);
    check.between("server.request_timeout_seconds", server.request_timeout_seconds, 0.1, 300.0);
}

fn services(check: &mut Check, config: &Config) {
    check.url("database.url", config.database.url.as_deref(), &["postgres", "postgresql"]);
    check.between("database.max_connections", config.database.max_connections, 4, 10_000);
    check.between("database.statement_timeout_seconds", config.database.statement_timeout_seconds, 0.1, 86_400.0);
    check.url("broker.url", config.broker.url.as_deref(), &["amqp", "amqps"]);
    let prefix = &config.broker.prefix;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    check.require((1..=64).contains(&prefix.len()) && prefix.chars().all(plain), "broker.prefix", || {
        "must have 1 to 64 letters, digits, `_`, `-` and `.`".into()
    });
    check.between("broker.publish_timeout_seconds", config.broker.publish_timeout_seconds, 0.1, 3600.0);
    check.url("files.url", config.files.url.as_deref(), &["file"]);
    check.at_least("files.max_bytes", config.files.max_bytes, 1);
    check.positive("files.retention_days", config.files.retention_days);
}

fn jobs(check: &mut Check, config: &Config) {
    let (jobs, retry) = (&config.jobs, &config.jobs.retry);
    check.at_least("jobs.max_timeout_seconds", jobs.max_timeout_seconds, 1);
    check.positive("jobs.retention_days", jobs.retention_days);
    check.positive("jobs.idempotency_hours", jobs.idempotency_hours);
    check.at_least("jobs.window", jobs.window, 1);
    check.between("jobs.retry.first_seconds", retry.first_seconds, 0.0, 31_536_000.0);
    check.between("jobs.retry.factor", retry.factor, 1.0, 1000.0);
    check.between("jobs.retry.max_seconds", retry.max_seconds, retry.first_seconds, 31_536_000.0);
    check.between("jobs.retry.jitter", retry.jitter, 0.0, 1.0);
}

fn worker(check: &mut Check, config: &Config) {
    let worker = &config.worker;
    // The broker's prefetch equals the slots, and is a 16-bit number.
    check.between("worker.slots", worker.slots, 1, u32::from(u16::MAX));
    for queue in &worker.queues {
        check.configured_queue(config, "worker.queues", queue);
    }
    check.between("worker.heartbeat_seconds", worker.heartbeat_seconds, 0.05, 3600.0);
    check.between("worker.lease_seconds", worker.lease_seconds, 0.1, 86_400.0);
    check.require(worker.lease_seconds > 2.0 * worker.heartbeat_seconds, "worker.lease_seconds", || {
        let beat = worker.heartbeat_seconds;
        format!(
            "must be more than twice worker.heartbeat_seconds ({beat}), or a late beat costs a live worker its jobs"
        )
    });
    check.between("worker.lazy_claim_seconds", worker.lazy_claim_seconds, 0.0, worker.lease_seconds);
    check.between("worker.steal_after_seconds", worker.steal_after_seconds, 0.1, 3600.0);
    check.between("worker.watchdog_seconds", worker.watchdog_seconds, 0.1, 86_400.0);
    check.between("worker.ack_after_seconds", worker.ack_after_seconds, 0.1, 1200.0);
}

fn exec_kind(check: &mut Check, config: &Config, name: &str, kind: &ExecKindConfig) {
    let place = |key| ["kinds", name, key];
    check.require(name.split('.').all(is_word) && name.len() <= 100, ["kinds", name], || {
        "a kind's name is words of a-z, 0-9, `_` and `-` joined by dots".into()
    });
    check.require(kind.command.first().is_some_and(|program| !program.is_empty()), place("command"), || {
        "must name a program, as in [\"/usr/local/bin/render\", \"--json\"]".into()
    });
    if let Some(queue) = &kind.queue {
        check.configured_queue(config, place("queue"), queue);
    }
    if let Some(attempts) = kind.max_attempts {
        check.between(place("max_attempts"), attempts, 1, 100);
    }
    if let Some(seconds) = kind.timeout_seconds {
        check.between(place("timeout_seconds"), seconds, 1, config.jobs.max_timeout_seconds);
    }
    if let Some(bytes) = kind.max_memory_bytes {
        check.at_least(place("max_memory_bytes"), bytes, 1 << 20);
    }
    if let Some(bytes) = kind.max_output_bytes {
        check.at_least(place("max_output_bytes"), bytes, 1);
    }
}

fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    (1..=63).contains(&text.len()) && text.chars().all(plain)
}

/// A place in the configuration: dotted text, or keys where one may hold a dot itself.
trait Place {
    fn path(&self) -> Path;
}

impl Place for &str {
    fn path(&self) -> Path {
        self.split('.').map(str::to_owned).collect()
    }
}

impl<const N: usize> Place for [&str; N] {
    fn path(&self) -> Path {
        self.iter().map(|key| (*key).to_owned()).collect()
    }
}

#[derive(Default)]
struct Check {
    problems: Vec<(Path, String)>,
}

impl Check {
    fn require(&mut self, holds: bool, place: impl Place, detail: impl FnOnce() -> String) {
        if !holds {
            self.problems.push((place.path(), detail()));
        }
    }

    fn at_least<T: PartialOrd + Display>(&mut self, place: impl Place, value: T, least: T) {
        self.require(value >= least, place, || format!("must be at least {least}, and is {value}"));
    }

    /// Not a number is not between any two.
    fn between<T: PartialOrd + Display>(&mut self, place: impl Place, value: T, least: T, most: T) {
        self.require(value >= least && value <= most, place, || {
            format!("must be between {least} and {most}, and is {value}")
        });
    }

    /// A duration in any unit that is more than nothing; a century of days bounds it, so that times stay representable.
    fn positive(&mut self, place: impl Place, value: f64) {
        self.require(value > 0.0 && value <= 36_500.0, place, || {
            format!("must be more than 0 and at most 36500, and is {value}")
        });
    }

    fn configured_queue(&mut self, config: &Config, place: impl Place, queue: &str) {
        self.require(config.queues.contains_key(queue), place, || {
            let known = config.queues.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("there is no queue `{queue}`; the configured queues are {known}; add it as [queues.{queue}]")
        });
    }

    /// Never repeats the value: it may hold a password.
    fn url(&mut self, place: impl Place, text: Option<&str>, schemes: &[&str]) {
        let Some(text) = text else { return };
        let allowed = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        let problem = match Url::parse(text) {
            Err(error) => Some(format!("is not a URL ({error}); expected {allowed}…")),
            Ok(url) if !schemes.contains(&url.scheme()) => {
                Some(format!("begins with {}://, and must begin with {allowed}", url.scheme()))
            }
            Ok(url) if url.scheme() == "file" && url.to_file_path().is_err() => {
                Some("must name an absolute path on this machine, such as file:///srv/offload/files".to_owned())
            }
            Ok(url) if url.scheme() != "file" && !url.has_host() => Some(format!("names no host; expected {allowed}…")),
            Ok(_) => None,
        };
        self.require(problem.is_none(), place, || problem.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::defaults();
        change(&mut config);
        validate(&config).into_iter().map(|(path, _)| path.join(".")).collect()
    }

    #[test]
    fn each_bound_is_held() {
        assert_eq!(broken(|c| c.server.max_wait_seconds = 0), ["server.max_wait_seconds"]);
        assert_eq!(broken(|c| c.database.max_connections = 3), ["database.max_connections"]);
        assert_eq!(broken(|c| c.worker.slots = 70_000), ["worker.slots"]);
        assert_eq!(broken(|c| c.worker.lease_seconds = 10.0), ["worker.lease_seconds"]);
        assert_eq!(broken(|c| c.jobs.retry.jitter = f64::NAN), ["jobs.retry.jitter"]);
        assert_eq!(broken(|c| c.jobs.retention_days = f64::INFINITY), ["jobs.retention_days"]);
        assert_eq!(broken(|c| c.imports.schemas = vec!["offload".into()]), ["imports.schemas"]);
        assert_eq!(broken(|c| c.broker.prefix = "a b".into()), ["broker.prefix"]);
        assert_eq!(broken(|c| c.queues.extend([("No".into(), Default::default())])), ["queues.No"]);
    }

    #[test]
    fn urls_are_of_the_right_sort_and_never_repeated() {
        for url in ["nothing", "mysql://u:secret@h/d", "postgres:", "postgres://u:secret@[x/d"] {
            let mut config = Config::defaults();
            config.database.url = Some(url.into());
            let problems = validate(&config);
            assert_eq!(problems.len(), 1, "{url}");
            assert!(!problems[0].1.contains("secret"), "{problems:?}");
        }
        assert_eq!(broken(|c| c.files.url = Some("file://elsewhere/x".into())), ["files.url"]);
        assert!(broken(|c| c.files.url = Some("file:///srv/files".into())).is_empty());
        assert!(broken(|c| c.broker.url = Some("amqps://u:p@h/%2f".into())).is_empty());
    }

    #[test]
    fn exec_kinds_are_checked_key_by_key() {
        let kind = |toml: &str| toml::from_str::<ExecKindConfig>(toml).expect("a kind");
        let with = |name: &str, toml: &str| broken(|c| c.kinds.extend([(name.into(), kind(toml))]));
        assert!(with("report.render", "command = ['render']").is_empty());
        assert_eq!(with("Report", "command = ['render']"), ["kinds.Report"]);
        assert_eq!(with("r", "command = []"), ["kinds.r.command"]);
        assert_eq!(with("r", "command = ['x']\nqueue = 'nowhere'"), ["kinds.r.queue"]);
        assert_eq!(with("r", "command = ['x']\nmax_attempts = 101"), ["kinds.r.max_attempts"]);
        assert_eq!(with("r", "command = ['x']\ntimeout_seconds = 0"), ["kinds.r.timeout_seconds"]);
    }
}
