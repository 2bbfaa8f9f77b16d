//! `GET /v1/jobs/{id}/ws`: what happens to a job, over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use offload_common::job::JobId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::hub::{Following, Told};
use crate::live::{self, Followed};
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::routes::{Endpoint, Id};
use crate::sse;

/// After this long without an event the client is asked whether it is there; so long it may take to say so.
const PING: Duration = Duration::from_secs(15);

/// What a client that does not read may hold up its socket for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client needs to answer a close.
const PARTING: Duration = Duration::from_secs(1);

/// Clients say nothing but how they are: buffers, which each socket has, are small.
const BUFFER: usize = 1 << 10;
const LONGEST_MESSAGE: usize = 4 << 10;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}/ws", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    super::follows(Operation::new("followJobBySocket", "jobs", "Follow a job: WebSocket").description(
        "The events of `/v1/jobs/{id}/events`, each as a JSON text message with `id`, `event` and `data` (`JobEvent`). \
             The server closes with 1000 after the final event, and with 1012 when it stops: connect again with \
             `?last_event_id=`. What a client sends is ignored.",
    ))
    .problems(&[ProblemType::MalformedRequest])
    .answer(Answer::empty(101, "The socket is open."))
}

async fn handle(
    State(app): State<Arc<App>>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let job = JobId(id);
    let after = sse::last_event_id(&uri, &headers)?;
    if !is_same_origin(&headers) {
        let detail =
            "`Origin` names another host than `Host`: a page follows jobs over a WebSocket from its own host only";
        return Err(Problem::new(ProblemType::MalformedRequest, detail));
    }
    let upgrade = upgrade.map_err(|rejection| {
        let detail = format!("{rejection}; without a WebSocket, follow the job at /v1/jobs/{job}/events");
        Problem::new(ProblemType::MalformedRequest, detail)
    })?;
    let followed = live::follow(&app, job, after).await?;
    let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(0);
    let upgrade = upgrade.max_message_size(LONGEST_MESSAGE).max_frame_size(LONGEST_MESSAGE);
    let (stop, open) = (app.stop.clone(), app.sockets.token());
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(socket, followed, stop).await;
        drop(open);
    }))
}

/// Whether this comes from no page of another site: browsers let every page open sockets to everywhere, and say so in
/// `Origin` (RFC 6455, 10.2). Clients that are no browsers send none.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
}

/// Sends what happens until nothing more will, the client leaves, or the process shuts down.
async fn serve(mut socket: WebSocket, followed: Followed, stop: CancellationToken) {
    let Followed { first, mut rest } = followed;
    let code = tokio::select! {
        code = send_all(&mut socket, first, &mut rest) => code,
        () = stop.cancelled() => Some((close_code::RESTART, "this server stops; connect again")),
    };
    let Some((code, reason)) = code else { return };
    let _ = timeout(PARTING, close(socket, code, reason)).await;
}

/// Sends until it is over; answers why, unless the client has left.
async fn send_all(socket: &mut WebSocket, first: Told, rest: &mut Following) -> Option<(CloseCode, &'static str)> {
    let mut told = first;
    loop {
        for event in told.events() {
            send(socket, Message::text(live::message(event))).await?;
        }
        if told.is_last() {
            return Some((close_code::NORMAL, "the job is final"));
        }
        let mut asked = false;
        told = loop {
            tokio::select! {
                told = rest.next() => match told {
                    Some(told) => break told,
                    None => return Some((close_code::RESTART, "this server stops; connect again")),
                },
                // Pings and a close are answered by looking for what comes next.
                received = socket.recv() => match received? {
                    Ok(_) => asked = false,
                    Err(_) => return None,
                },
                () = sleep(PING) => {
                    if std::mem::replace(&mut asked, true) {
                        return None;
                    }
                    send(socket, Message::Ping(Default::default())).await?;
                }
            }
        };
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Option<()> {
    timeout(PATIENCE, socket.send(message)).await.ok()?.ok()
}

/// Says why, and waits for the client to have read it.
async fn close(mut socket: WebSocket, code: CloseCode, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    if socket.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_from_the_rest() {
        for (origin, same) in [
            (None, true),
            (Some("http://jobs.example:8080"), true),
            (Some("https://Jobs.example:8080"), true),
            (Some("http://evil.example"), false),
            (Some("http://jobs.example"), false),
            (Some("null"), false),
        ] {
            let mut headers = HeaderMap::from_iter([(HOST, "jobs.example:8080".parse().expect("a value"))]);
            headers.extend(origin.map(|origin| (ORIGIN, origin.parse().expect("a value"))));
            assert_eq!(is_same_origin(&headers), same, "{origin:?}");
        }
    }
}
