//! The way out: the one HTTP client, which reaches only what the egress policy allows, and follows nothing by itself.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use offload_common::config::EgressConfig;
use reqwest::{Client, redirect};

use super::egress::EgressPolicy;
use super::resolver::{self, GuardedResolver};
use super::target::Target;
use crate::kind::JobError;

/// What a connection may take, whatever the whole call may.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const USER_AGENT: &str = concat!("offload/", env!("CARGO_PKG_VERSION"));

/// A client with its policy.
pub(in crate::kinds) struct Outbound {
    policy: EgressPolicy,
    /// Made at the first call: intake knows the kinds too, and needs no trust roots for them.
    client: OnceLock<Client>,
}

impl Outbound {
    pub(in crate::kinds) fn new(config: &EgressConfig) -> Self {
        Self { policy: EgressPolicy::new(&config.allow), client: OnceLock::new() }
    }

    /// Checks a URL.
    pub(in crate::kinds) fn target(&self, url: &str) -> Result<Target, JobError> {
        Target::first(url, &self.policy)
    }

    /// Checks where a redirect leads.
    pub(super) fn redirected(&self, from: &Target, location: &str) -> Result<Target, JobError> {
        from.redirected(location, &self.policy)
    }

    pub(in crate::kinds) fn client(&self) -> Result<&Client, JobError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // An error means that the program has chosen a TLS provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .dns_resolver(Arc::new(GuardedResolver::new(self.policy.clone())))
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| JobError::retry("http_client", format!("cannot set up HTTP: {}", with_causes(&error))))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// What it means that no response came.
pub(in crate::kinds) fn not_sent(target: &Target, error: &reqwest::Error) -> JobError {
    if let Some(refused) = resolver::refusal(error) {
        return JobError::fail("egress_refused", format!("{target}: {refused}"));
    }
    let message = format!("{target}: {}", with_causes(error));
    match error {
        _ if error.is_builder() => JobError::fail("invalid_url", message),
        _ if error.is_timeout() => JobError::retry("http_timeout", message),
        _ => JobError::retry("connection", message),
    }
}

/// What the causes of an error say; the error itself says only that, and to which URL, with a query that may be secret.
fn with_causes(error: &reqwest::Error) -> String {
    let said: Vec<String> = chain(error).skip(1).map(ToString::to_string).collect();
    if said.is_empty() { "the request could not be made".to_owned() } else { said.join(": ") }
}

/// An error and its causes.
pub(super) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
}
