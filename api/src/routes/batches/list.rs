//! `GET /v1/batches`: lists batches, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use offload_common::job::BatchId;
use offload_common::store::BatchFilter;
use serde_json::json;

use crate::app::App;
use crate::batch::BatchView;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::TENANT;
use crate::routes::Endpoint;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/batches", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    Operation::new("listBatches", "batches", "List batches, newest first")
        .parameter(Parameter::query("finished", "Only finished ones, or only others.", json!({ "type": "boolean" })))
        .parameter(Parameter::query("limit", "Batches per page.", limit))
        .parameter(Parameter::query("cursor", "From a `Link`; where the page begins.", json!({ "type": "string" })))
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "A page of batches.", schemas.items_of::<BatchView<'_>>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["finished", "limit", "cursor"]);
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let filter = BatchFilter {
        tenant: TENANT.to_owned(),
        finished: query.truth("finished"),
        before: query.parse("cursor", cursor),
        // One more than asked for tells whether there is a next page.
        limit: limit + 1,
    };
    query.finish()?;
    let mut batches = app.ask(app.store.batches(&filter)).await?;
    let more = batches.len() > limit as usize;
    batches.truncate(limit as usize);
    let next = batches.last().filter(|_| more).map(|batch| batch.id.0.simple().to_string());
    Ok(paging::page(batches.iter().map(BatchView::from).collect(), &uri, "cursor", next))
}

fn cursor(text: &str) -> Result<BatchId, String> {
    text.parse().map_err(|_| "must be taken from the `Link` of an earlier page".to_owned())
}
