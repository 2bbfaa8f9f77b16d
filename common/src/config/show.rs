//! Printing what is in force, secrets redacted.

use toml::Value;
use url::Url;

use super::load::Loaded;
use super::origin::dotted;

/// What stands where a secret was.
pub(super) const REDACTED: &str = "REDACTED";

impl Loaded {
    /// The configuration as TOML, below a comment that says where each value that is not the default comes from.
    /// Passwords in URLs, what signs callbacks and the environments of `exec` kinds are redacted.
    ///
    /// # Errors
    /// Where a value cannot be written as TOML.
    pub fn show(&self) -> Result<String, toml::ser::Error> {
        let mut shown = self.config.clone();
        for url in [&mut shown.database.url, &mut shown.broker.url, &mut shown.files.url].into_iter().flatten() {
            *url = without_password(url);
        }
        let callbacks = &mut shown.callbacks;
        for secret in callbacks.secrets.iter_mut().chain(&mut callbacks.signing_key) {
            *secret = REDACTED.to_owned();
        }
        for value in shown.kinds.values_mut().flat_map(|kind| kind.environment.values_mut()) {
            *value = REDACTED.to_owned();
        }
        let mut text = String::new();
        for (path, origin) in self.origins.given() {
            text.push_str(&format!("# {}: {origin}\n", dotted(path)));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&toml::to_string_pretty(&Value::try_from(shown)?)?);
        Ok(text)
    }
}

/// A URL as it may be logged: its password and its query, which may hold one, are taken out.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return REDACTED.to_owned() };
    if parsed.password().is_some() && parsed.set_password(Some(REDACTED)).is_err() {
        return REDACTED.to_owned();
    }
    let secret = |name: &str| name.to_ascii_lowercase().contains("password");
    if parsed.query_pairs().any(|(name, _)| secret(&name)) {
        let pairs: Vec<_> = parsed.query_pairs().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let shown = pairs.iter().map(|(n, v)| (n.as_str(), if secret(n) { REDACTED } else { v.as_str() }));
        parsed.query_pairs_mut().clear().extend_pairs(shown);
    }
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn what_is_shown_reads_back_and_holds_no_secret() {
        let file = "[kinds.k]\ncommand = ['x']\nenvironment = { TOKEN = 'hush' }\n";
        let sources = Sources {
            file: Some(("offload.toml".into(), file.into())),
            environment: vec![
                ("DATABASE_URL".into(), "postgres://u:hush@h/d?sslmode=require".into()),
                ("AMQP_URL".into(), "amqp://u:hush@h/%2f".into()),
            ],
            ..Sources::default()
        };
        let text = load(&sources).expect("valid").show().expect("TOML");
        assert!(!text.contains("hush"), "{text}");
        assert!(text.starts_with("# broker.url: AMQP_URL\n# database.url: DATABASE_URL\n"), "{text}");
        let again = Sources { file: Some(("shown".into(), text)), ..Sources::default() };
        let config = load(&again).expect("reads back").config;
        assert_eq!(config.database.url.as_deref(), Some("postgres://u:REDACTED@h/d?sslmode=require"));
    }

    #[test]
    fn what_signs_is_not_shown() {
        let secrets = [
            (
                "OFFLOAD_CALLBACKS__SECRETS",
                "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo, whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo",
            ),
            ("OFFLOAD_CALLBACKS__SIGNING_KEY", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="),
        ];
        let environment = secrets.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let loaded = load(&Sources { environment, ..Sources::default() }).expect("valid");
        assert_eq!(loaded.config.callbacks.secrets().map(|secrets| secrets.len()), Ok(2));
        let text = loaded.show().expect("TOML");
        assert!(!text.contains("whsec_a") && !text.contains("whsk_n"), "{text}");
    }

    #[test]
    fn passwords_leave_urls_wherever_they_stand() {
        assert_eq!(without_password("postgres://h/d"), "postgres://h/d");
        assert_eq!(without_password("postgres://h/d?password=x&a=b"), "postgres://h/d?password=REDACTED&a=b");
        assert_eq!(without_password("no url"), REDACTED);
    }
}
