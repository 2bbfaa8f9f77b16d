//! `/v1/batches`.

pub(super) mod add;
pub(super) mod cancel;
pub(super) mod events;
pub(super) mod get;
pub(super) mod list;
pub(super) mod retry;
pub(super) mod seal;
pub(super) mod submit;

use std::sync::Arc;

use axum::Json;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use offload_common::broker::Signal;
use offload_common::failpoint;
use offload_common::job::BatchId;
use offload_common::store::{self, Batch, Entered, Filled, Filling, HeldKey, Target};
use serde_json::json;

use crate::app::App;
use crate::batch::{BatchView, Gathered, batch_path};
use crate::idempotency::IDEMPOTENCY_REPLAYED;
use crate::openapi::{Answer, Operation, Parameter, Schemas, batch_schema, submission_schema};
use crate::problem::{FieldError, Problem, ProblemType};
use crate::request::{RequestInfo, TENANT};
use crate::submission::unknown;

impl App {
    /// Reads a batch.
    async fn batch(&self, id: BatchId) -> Result<Batch, Problem> {
        let batch = self.ask(self.store.batch(TENANT, id)).await?;
        batch.ok_or_else(|| Problem::not_found(format_args!("there is no batch {id}")))
    }
}

impl Operation {
    /// Adds the batch that the path names.
    fn of_a_batch(self) -> Self {
        let id = Parameter::path("id", "The batch's id.", json!({ "type": "string", "format": "uuid" }));
        self.parameter(id).problems(&[ProblemType::NotFound]).asks_the_database()
    }
}

/// Writes what a request brought, and answers with the batch. The writing is a task of its own: a client that goes away does
/// not stop it in the middle.
async fn fill(app: Arc<App>, request: RequestInfo, target: Target, gathered: Gathered) -> Result<Response, Problem> {
    let Gathered { spool, refused, refusals, key, .. } = gathered;
    let filling = Filling { tenant: TENANT.to_owned(), target, idempotency: key };
    let id = filling.batch();
    let writing = tokio::spawn({
        let app = app.clone();
        async move {
            let small = spool.is_small();
            let _turn = if small { None } else { app.large_batches.acquire().await.ok() };
            // A large batch is committed long after its first rows are written: promotion brings it in.
            let admit = |lane: &_| small && app.valve.admit(lane);
            let jobs = spool.into_jobs(&request, &app.jobs, admit).await;
            let mut jobs = jobs.map_err(|error| store::Error::Unavailable(format!("the temporary file: {error}")))?;
            failpoint::reach("accept.before");
            let filled = app.store.fill_batch(&filling, &mut jobs).await;
            failpoint::reach("accept.after");
            filled
        }
    });
    let filled = writing.await.map_err(|_| Problem::internal())??;
    answer(&app, id, filled, refused, refusals).await
}

/// Answers with the batch that was filled, or says why it was not.
pub(super) async fn answer(
    app: &App,
    id: BatchId,
    filled: Filled,
    refused: u64,
    refusals: Vec<FieldError>,
) -> Result<Response, Problem> {
    let (id, replayed, matched) = match filled {
        Filled::Done(Entered { dispatches, matched, replaced }) => {
            app.publisher.send(dispatches);
            if !replaced.is_empty() {
                app.broker.signal(Signal::Changed(replaced)).await;
            }
            (id, false, matched)
        }
        Filled::Repeated(id) => (id, true, 0),
        Filled::KeyReused => {
            let detail = "this Idempotency-Key came before with another request; use a new one";
            return Err(Problem::new(ProblemType::IdempotencyKeyReused, detail));
        }
        Filled::InFlight => {
            let detail =
                "a request with this Idempotency-Key is being written now; send it again to learn what became of it";
            return Err(Problem::new(ProblemType::IdempotencyKeyInUse, detail).retry_after(1));
        }
        Filled::Orphans(missing) => {
            // They were there when the request was read.
            let error =
                |parent| FieldError::at("", format!("{}, which some of the jobs are to run after", unknown(parent)));
            return Err(Problem::validation(missing.into_iter().map(error).collect()));
        }
        Filled::Missing => return Err(Problem::not_found(format_args!("there is no batch {id}"))),
        Filled::Sealed => {
            return Err(Problem::new(ProblemType::BatchSealed, format_args!("batch {id} takes no more jobs")));
        }
        Filled::Held(HeldKey { kind, key, by }) => return Err(Problem::unique_key_held(&kind, &key, by)),
    };
    let detail = format!("the batch {id} that this Idempotency-Key named is gone: its retention has passed");
    let batch = app.batch(id).await.map_err(|problem| match problem.kind() {
        ProblemType::NotFound => Problem::new(ProblemType::Gone, detail),
        _ => problem,
    })?;
    let mut view = BatchView::from(&batch);
    view.refused = (refused > 0).then_some(refused);
    view.refusals = refusals;
    view.matched = (matched > 0).then_some(matched);
    let mut response = accepted(&view);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&batch_path(id)) {
        headers.insert(LOCATION, location);
    }
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn accepted(view: &BatchView<'_>) -> Response {
    (StatusCode::ACCEPTED, Json(view)).into_response()
}

/// The parts of the description that taking in jobs has in common.
fn takes_jobs(operation: Operation, new: bool, schemas: &mut Schemas) -> Operation {
    let text = "Accept what is good, and answer what is not in `refusals`, where else one bad job refuses all.";
    let lines = json!({ "description": "One job a line.", "type": "string", "contentMediaType": "application/json" });
    let body = json!({
        "application/json": { "schema": batch_schema(new, &submission_schema()) },
        "application/x-ndjson": { "schema": lines },
    });
    operation
        .parameter(Parameter::query("partial", text, json!({ "type": "boolean", "default": false })))
        .body(true, body)
        .reads_json()
        .idempotent()
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter, ProblemType::IdempotencyKeyInUse, ProblemType::UniqueKeyHeld])
        .problems(&[ProblemType::StorageUnavailable])
        .answer(
            Answer::json(202, "All of its jobs are committed, and will run.", schemas.of::<BatchView<'_>>())
                .header("Location", "The batch.")
                .header("Idempotency-Replayed", "`true` if the Idempotency-Key named this batch before."),
        )
}
