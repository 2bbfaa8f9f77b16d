//! Events on their way to a client: as server-sent events, and as messages.

mod view;

use offload_common::job::{EventId, JobEvent, JobId};

pub(crate) use self::view::EventView;

use crate::app::App;
use crate::hub::{Following, Told};
use crate::problem::Problem;
use crate::sse;

/// A job that is followed, with how it stood when that began.
pub(crate) struct Followed {
    pub(crate) first: Told,
    pub(crate) rest: Following,
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

/// Events as server-sent events.
pub(crate) fn frames(events: &[JobEvent]) -> String {
    let mut text = String::new();
    for event in events {
        let view = EventView::from(event);
        sse::write(&mut text, view.id, view.event, &view.data);
    }
    text
}

/// An event as one JSON text.
pub(crate) fn message(event: &JobEvent) -> String {
    serde_json::to_string(&EventView::from(event)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
