//! `/v1/jobs`.

pub(super) mod cancel;
pub(super) mod events;
pub(super) mod filter;
pub(super) mod get;
pub(super) mod list;
pub(super) mod logs;
pub(super) mod result;
pub(super) mod retry;
pub(super) mod socket;
pub(super) mod submit;

use std::time::Instant;

use axum::Json;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use offload_common::broker::Signal;
use offload_common::job::Job;
use offload_common::store::{Accepted, IdempotencyKey};

use crate::app::App;
use crate::idempotency::IDEMPOTENCY_REPLAYED;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{FieldError, Problem, ProblemType};
use crate::request::RequestInfo;
use crate::sse;
use crate::submission::{Names, Submission, UNIQUE_KEY_MATCHED, unknown};
use crate::view::{self, JobView, job_path};
use crate::waiting::Waiting;

/// The answer's header that names the job that was cancelled for this one.
const UNIQUE_KEY_REPLACED: &str = "unique-key-replaced";

/// Seconds after which looking at an unfinished job again is worth it.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Accepts a job, waits for it if the client wishes, and answers: that it is accepted, by the deadline.
async fn accept(
    app: &App,
    request: &RequestInfo,
    submission: Submission,
    key: Option<IdempotencyKey>,
    waiting: &Waiting,
    deadline: Instant,
) -> Result<Response, Problem> {
    let admit = app.valve.admit(submission.lane());
    let mut new = submission.into_job(request, &app.jobs, admit, &mut Names::new());
    new.idempotency = key;
    let mut told = None;
    let job = match app.intake.accept(new, deadline).await? {
        (new, Accepted::New { created_at, run_at, state, replaced, .. }) => {
            if let Some(replaced) = replaced {
                app.broker.signal(Signal::Changed(vec![replaced])).await;
                told = Some((UNIQUE_KEY_REPLACED, replaced.to_string()));
            }
            view::accepted(new, state, created_at, run_at)
        }
        (_, Accepted::Matched(id)) => {
            told = Some((UNIQUE_KEY_MATCHED, "true".to_owned()));
            app.job_until(deadline, id).await?
        }
        (new, Accepted::Held(id)) => {
            let key = new.unique.as_ref().map_or("", |unique| &unique.key);
            return Err(Problem::unique_key_held(&new.kind, key, Some(id)));
        }
        (_, Accepted::Repeated(id)) => {
            let detail = format!("the job {id} that this Idempotency-Key named is gone: its retention has passed");
            let job = app.job_until(deadline, id).await.map_err(|problem| match problem.kind() {
                ProblemType::NotFound => Problem::new(ProblemType::Gone, detail),
                _ => problem,
            })?;
            told = Some((IDEMPOTENCY_REPLAYED, "true".to_owned()));
            job
        }
        (_, Accepted::KeyReused) => {
            let detail = "this Idempotency-Key came before with another request; use a new one";
            return Err(Problem::new(ProblemType::IdempotencyKeyReused, detail));
        }
        (new, Accepted::Orphan(missing)) => {
            let given = new.after.map(|after| after.jobs).unwrap_or_default();
            let errors = given.into_iter().enumerate().filter(|(_, parent)| missing.contains(parent));
            let error = |(n, parent)| FieldError::at(format!("/after/{n}"), unknown(parent));
            return Err(Problem::validation(errors.map(error).collect()));
        }
    };
    let job = match waiting.at_most {
        at_most if at_most.is_zero() => job,
        // The job is accepted whatever happens to the wait.
        at_most => app.job_after(job.id, at_most).await.unwrap_or(job),
    };
    let waited = !waiting.at_most.is_zero();
    let status = if waited && job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, Json(JobView::from(&job))).into_response();
    let headers = response.headers_mut();
    set(headers, LOCATION, &job_path(job.id));
    if !job.state.is_final() {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    if let Some((name, value)) = told {
        set(headers, HeaderName::from_static(name), &value);
    }
    waiting.note(headers);
    Ok(response)
}

/// The answers of [`accept`], for the description.
fn accepts(operation: Operation, schemas: &mut Schemas) -> Operation {
    let mut answer = |status, description| {
        Answer::json(status, description, schemas.of::<JobView<'_>>())
            .header("Location", "The job.")
            .header("Idempotency-Replayed", "`true` if the Idempotency-Key named this job before.")
            .header("Unique-Key-Matched", "`true` if this is the live job that had the `unique_key` already.")
            .header("Unique-Key-Replaced", "The id of the job that was cancelled for this one.")
            .header("Preference-Applied", "Which preferences were honoured.")
    };
    let accepted = answer(202, "The job is committed, and will run.")
        .header("Retry-After", "Seconds after which looking again is worth it.");
    let finished = answer(200, "The job came to an end while the client waited.");
    operation
        .may_wait()
        .idempotent()
        .asks_the_database()
        .problems(&[ProblemType::UniqueKeyHeld])
        .answer(accepted)
        .answer(finished)
}

/// What following a job takes, however its events come; for the description.
fn follows(operation: Operation) -> Operation {
    operation
        .of_a_job()
        .parameter(sse::last_event_id_parameter("2-1"))
        .problems(&[ProblemType::InvalidParameter, ProblemType::ShuttingDown])
}

/// The state of a job, for problems that are about it.
fn describe_state(job: &Job) -> String {
    format!("job {} is {}", job.id, job.visible_state())
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
