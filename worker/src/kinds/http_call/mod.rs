//! `http.call`: one request to a URL of the payload.
//!
//! Whoever may submit jobs chooses the URL, so where it leads is checked at every hop: [`egress`] says which addresses
//! are reachable, [`target`] checks URLs, [`resolver`] the addresses behind names.

mod egress;
mod outbound;
mod request;
mod resolver;
mod response;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::RawJson;
use offload_common::config::EgressConfig;
use offload_common::kind::KindSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

pub(super) use self::outbound::{Outbound, not_sent};
use self::request::Request;
use self::response::Output;
pub(super) use self::response::{excerpt, pause_asked};
pub(super) use self::target::Target;
use crate::kind::{Context, JobError, JobKind};

/// The longest chain of redirects that is followed.
const MAX_REDIRECTS: usize = 5;

/// What to request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["body", "json"]}))]
pub(super) struct Payload {
    /// The HTTP method, in capitals; any but CONNECT and TRACE.
    #[schemars(regex(pattern = "^[A-Z][A-Z-]{0,31}$"), extend("not" = {"enum": ["CONNECT", "TRACE"]}))]
    #[schemars(example = "POST".to_owned())]
    method: String,
    /// Where to: http or https, without user name or password. Private and special addresses are refused.
    #[schemars(length(max = 8192), regex(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://"))]
    #[schemars(example = "https://api.example.com/v1/orders".to_owned())]
    url: String,
    /// Request headers. `Idempotency-Key` (the job's id) and `traceparent` are sent unless given here; headers of the
    /// connection, such as `Host` and `Content-Length`, cannot be given.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 100, "propertyNames" = {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"}))]
    headers: BTreeMap<String, String>,
    /// The body, as text.
    #[serde(default)]
    #[schemars(with = "String")]
    body: Option<String>,
    /// The body, as JSON; sent as it is, with the content type `application/json` unless `headers` has one.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "serde_json::Value", example = serde_json::json!({"item": 7}))]
    json: Option<RawJson>,
    /// Seconds that the whole call may take, redirects included.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0.1, max = 3600.0))]
    timeout_seconds: f64,
}

fn thirty() -> f64 {
    30.0
}

/// A `null` that is there is a value, not an absence.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

pub(super) struct HttpCall {
    outbound: Outbound,
    max_response_bytes: u64,
}

impl HttpCall {
    pub(super) fn new(config: &EgressConfig) -> Self {
        Self { outbound: Outbound::new(config), max_response_bytes: config.max_response_bytes }
    }

    async fn call_within(&self, seconds: f64, request: Request, target: Target) -> Result<Output, JobError> {
        let limit = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        let late = format!("{target} gave no complete answer within {seconds} s");
        let outcome = tokio::time::timeout(limit, self.call(request, target)).await;
        outcome.unwrap_or_else(|_| Err(JobError::retry("http_timeout", late)))
    }

    async fn call(&self, mut request: Request, mut target: Target) -> Result<Output, JobError> {
        let client = self.outbound.client()?;
        for _ in 0..=MAX_REDIRECTS {
            let response = request.send(client, &target).await.map_err(|error| not_sent(&target, &error))?;
            let Some(location) = response::location(&response) else {
                return response::conclude(response, &target, self.max_response_bytes).await;
            };
            let next = self.outbound.redirected(&target, &location)?;
            request.redirect(response.status(), target.same_origin(&next));
            target = next;
        }
        Err(JobError::fail("too_many_redirects", format!("more than {MAX_REDIRECTS} redirects, the last to {target}")))
    }
}

#[async_trait]
impl JobKind for HttpCall {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        let description = "Makes one HTTP request; 408, 429, 5xx, time-outs and connection errors are tried again.";
        KindSpec::new::<Payload, Output>("http.call", description)
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        let target = self.outbound.target(&payload.url)?;
        let request = Request::new(&payload, job.id, job.traceparent.as_deref())?;
        self.call_within(payload.timeout_seconds, request, target).await
    }
}
