//! Events on their way to a client: as server-sent events, and as messages.

mod view;

use std::fmt::Write as _;

use axum::http::{HeaderMap, Uri};
use offload_common::job::{EventId, JobEvent, JobId};

pub(crate) use self::view::EventView;

use crate::app::App;
use crate::hub::{Following, Told};
use crate::problem::{FieldError, Problem};
use crate::query::Query;

/// Where a client's `EventSource` says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// The same for clients that cannot set headers.
pub(crate) const PARAMETER: &str = "last_event_id";

/// A client's `EventSource` waits this long before it connects again, and up to twice as much more, so that those of a
/// server that stopped do not come all at once.
const RETRY_MILLISECONDS: u128 = 1_000;

/// A job that is followed, with how it stood when that began.
pub(crate) struct Followed {
    pub(crate) first: Told,
    pub(crate) rest: Following,
}

/// The last event that the client has seen. The header counts more: an `EventSource` keeps the URL that it began with.
pub(crate) fn last_event_id(uri: &Uri, headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let parse = |text: &str| text.parse::<EventId>().map_err(|error| error.to_string());
    let mut query = Query::read(uri, &[PARAMETER]);
    let asked = query.parse(PARAMETER, parse);
    query.finish()?;
    let Some(header) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(asked) };
    let id = header.to_str().map_err(|_| "must be ASCII".to_owned()).and_then(parse);
    id.map(Some).map_err(|detail| Problem::parameters(vec![FieldError::parameter("Last-Event-ID", detail)]))
}

/// Follows a job from this event on, once it is known how it stands.
pub(crate) async fn follow(app: &App, job: JobId, after: Option<EventId>) -> Result<Followed, Problem> {
    let asked = tokio::time::timeout_at(app.deadline().into(), async {
        let mut rest = app.hub.follow(job, after).await;
        rest.next().await.map(|first| Followed { first, rest })
    });
    match app.stop.run_until_cancelled(asked).await {
        Some(Ok(Some(Followed { first: Told::Gone, .. }))) => {
            Err(Problem::not_found(format_args!("there is no job {job}")))
        }
        Some(Ok(Some(followed))) => Ok(followed),
        Some(Ok(None) | Err(_)) => Err(Problem::database_unavailable()),
        None => Err(Problem::shutting_down()),
    }
}

/// What a stream of server-sent events begins with.
pub(crate) fn preamble(job: JobId) -> String {
    let retry = RETRY_MILLISECONDS + job.0.as_u128() % (2 * RETRY_MILLISECONDS);
    format!("retry: {retry}\n\n")
}

/// Events as server-sent events.
pub(crate) fn frames(events: &[JobEvent]) -> String {
    let mut text = String::new();
    for event in events {
        let view = EventView::from(event);
        let data = serde_json::to_string(&view.data).unwrap_or_default();
        // JSON has no line breaks, so it is one line of data. Writing to a string cannot fail.
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", view.id, view.event);
    }
    text
}

/// An event as one JSON text.
pub(crate) fn message(event: &JobEvent) -> String {
    serde_json::to_string(&EventView::from(event)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
