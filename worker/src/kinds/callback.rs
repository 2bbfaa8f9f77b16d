//! `callback`: tells a client of the end of a job or a batch, by a POST that follows Standard Webhooks.
//!
//! Only the stores make jobs of this kind, when what they tell of ends. Every try sends the same bytes under the same id; the
//! pauses between tries are [`callback::pause`].

use std::time::Duration;

use async_trait::async_trait;
use offload_common::callback::{self, BadSecret, MAX_ATTEMPTS, Payload, Secret, Signer, SigningKey, message_id};
use offload_common::clock;
use offload_common::config::Config;
use offload_common::job::transition::{Failure, Retry};
use offload_common::kind::KindSpec;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::http_call::{Outbound, Target, excerpt, not_sent, pause_asked};
use crate::kind::{Context, JobError, JobKind};

/// The time that a receiver has to answer, as Standard Webhooks recommends.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

pub(super) struct Delivery {
    outbound: Outbound,
    secrets: Vec<Secret>,
    key: Option<SigningKey>,
}

/// What the receiver answered.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Output {
    /// The HTTP status, 200 to 299.
    status: u16,
}

impl Delivery {
    pub(super) fn new(config: &Config) -> Result<Self, BadSecret> {
        let (secrets, key) = (config.callbacks.secrets()?, config.callbacks.signing_key()?);
        Ok(Self { outbound: Outbound::new(&config.egress), secrets, key })
    }

    /// One try, now.
    async fn deliver(&self, payload: &Payload, own: Option<&Secret>) -> Result<Output, JobError> {
        let secrets = own.map_or(self.secrets.as_slice(), std::slice::from_ref);
        let (id, timestamp) = (message_id(payload.subject), clock::now().timestamp());
        let signature = Signer { secrets, key: self.key.as_ref() }.sign(&id, timestamp, payload.body.get());
        let unsigned = "it names no secret, and this worker's configuration has none under callbacks.secrets";
        let signature = signature.ok_or_else(|| JobError::retry("callback_unsigned", unsigned))?;
        let target = self.outbound.target(&payload.url)?;
        let request = self
            .outbound
            .client()?
            .post(target.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(payload.body.get().to_owned());
        let answer = async {
            let response = request.send().await.map_err(|error| not_sent(&target, &error))?;
            judge(response, &target).await
        };
        let late = || {
            let message = format!("{target} did not answer within {} s", ANSWER_WITHIN.as_secs());
            Err(JobError::retry("http_timeout", message))
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| late())
    }
}

#[async_trait]
impl JobKind for Delivery {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        let description = "Tells a client of the end of a job or a batch.";
        let spec = KindSpec::new::<Payload, Output>(callback::KIND, description);
        KindSpec { max_attempts: MAX_ATTEMPTS, ..spec }.timeout(3 * ANSWER_WITHIN)
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        let kept = job.callback(payload.subject).await?;
        let kept = kept.ok_or_else(|| gone(payload.subject))?;
        self.deliver(&payload, kept.secret.as_ref()).await.map_err(|error| later(error, job.attempt))
    }
}

fn gone(subject: Uuid) -> JobError {
    let message = format!("what signs it is gone: the callback of {subject} is past its retention");
    JobError::fail("callback_forgotten", message)
}

/// What an answer means: 2xx that it arrived, 410 that nobody wants it any more, and everything else, a redirect too, that
/// it is to be tried again.
async fn judge(mut response: Response, target: &Target) -> Result<Output, JobError> {
    let status = response.status();
    if status.is_success() {
        return Ok(Output { status: status.as_u16() });
    }
    let asked = pause_asked(response.headers(), clock::now());
    let excerpt = excerpt(&mut response).await;
    let mut message = format!("{target} answered {status}");
    if !excerpt.is_empty() {
        message = format!("{message}: {excerpt}");
    }
    Err(match (status, asked) {
        (StatusCode::GONE, _) => JobError::fail("callback_gone", message),
        (_, Some(pause)) => JobError::retry_after("http_status", message, pause),
        (_, None) => JobError::retry("http_status", message),
    })
}

/// The pause before the next try: that of the schedule, or a longer one that the receiver asked for.
fn later(error: JobError, attempt: u32) -> JobError {
    let pause = callback::pause(attempt);
    let retry = match &error {
        JobError::Failed(Failure { retry: Retry::Backoff, .. }) => Retry::After(pause),
        JobError::Failed(Failure { retry: Retry::After(asked), .. }) => Retry::After(pause.max(*asked)),
        _ => return error,
    };
    match error {
        JobError::Failed(failure) => JobError::Failed(Failure { retry, ..failure }),
        other => other,
    }
}

#[cfg(test)]
mod tests;
