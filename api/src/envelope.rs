//! Around every request: its id and span, the body of problems, panics, and the headers that every answer carries.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use offload_common::clock;
use tracing::Instrument;

use crate::linger;
use crate::problem::{MEDIA_TYPE, Problem, ProblemType};
use crate::request::{REQUEST_ID, RequestInfo};

/// Runs a request in its span, and gives its answer the form that all answers have.
pub(crate) async fn wrap(request: Request, next: Next) -> Response {
    let started = clock::instant();
    let info = RequestInfo::read(request.headers());
    let instance = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str),
        request_id = info.id,
        trace_id = info.trace_id(),
    );
    let mut request = linger::on(request);
    request.extensions_mut().insert(info.clone());

    async move {
        let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| Problem::internal().into_response());
        if let Some(problem) = problem_of(&mut response) {
            let headers = std::mem::take(response.headers_mut());
            response = problem.render(&instance, &info.id);
            keep(response.headers_mut(), headers);
        }
        let (status, latency_ms) = (response.status().as_u16(), started.elapsed().as_secs_f64() * 1e3);
        if response.status().is_server_error() {
            tracing::warn!(status, latency_ms, "answered");
        } else {
            tracing::debug!(status, latency_ms, "answered");
        }
        complete(response.headers_mut(), &info);
        response
    }
    .instrument(span)
    .await
}

/// The problem that the answer stands for: the handler's, or, where the framework answered by itself, the one that
/// fits the status.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let foreign = (status.is_client_error() || status.is_server_error())
        && response.headers().get(CONTENT_TYPE).is_none_or(|value| value != MEDIA_TYPE);
    foreign.then(|| {
        let kind = match status {
            StatusCode::NOT_FOUND => ProblemType::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => ProblemType::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => ProblemType::ContentTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemType::UnsupportedMediaType,
            status if status.is_client_error() => ProblemType::MalformedRequest,
            _ => ProblemType::Internal,
        };
        Problem::new(kind, status.canonical_reason().unwrap_or("the request was refused"))
    })
}

/// Carries over what the first form of an answer said, except about the body that it had.
fn keep(headers: &mut HeaderMap, former: HeaderMap) {
    let mut name: Option<HeaderName> = None;
    for (next, value) in former {
        name = next.or(name);
        if let Some(name) = &name
            && !name.as_str().starts_with("content-")
            && !headers.contains_key(name)
        {
            headers.append(name, value);
        }
    }
}

/// The headers that every answer carries, unless its handler chose others.
fn complete(headers: &mut HeaderMap, info: &RequestInfo) {
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(REFERRER_POLICY, "no-referrer");
    default(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    default(CACHE_CONTROL, "no-store");
    if let Ok(id) = HeaderValue::from_str(&info.id) {
        headers.insert(REQUEST_ID, id);
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Method;
    use axum::http::header::ALLOW;
    use axum::middleware;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::{Answer, TestApp, request};

    async fn through<F, T>(handler: F) -> Answer
    where
        F: axum::handler::Handler<T, ()>,
        T: 'static,
    {
        let router: Router = Router::new().route("/x", get(handler)).layer(middleware::from_fn(wrap));
        let sent = router.oneshot(request(Method::GET, "/x", &[], Body::empty())).await;
        Answer::read(sent.expect("an answer")).await
    }

    async fn panics() {
        panic!("a defect");
    }

    #[tokio::test]
    async fn a_panic_is_a_problem() {
        through(panics).await.problem(ProblemType::Internal);
    }

    #[tokio::test]
    async fn what_the_framework_answers_by_itself_is_a_problem_too() {
        let plain = async || (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], "some text");
        let answer = through(plain).await;
        answer.problem(ProblemType::MethodNotAllowed);
        assert_eq!(answer.header("allow"), "GET");
        through(async || StatusCode::URI_TOO_LONG).await.problem(ProblemType::MalformedRequest);
        through(async || StatusCode::BAD_GATEWAY).await.problem(ProblemType::Internal);
    }

    #[tokio::test]
    async fn every_answer_carries_the_same_headers() {
        let app = TestApp::start().await;
        for path in ["/livez", "/nonesuch", "/docs", "/openapi.json"] {
            let given = app.send(request(Method::GET, path, &[(REQUEST_ID, "r-1")], Body::empty())).await;
            assert_eq!(given.header(REQUEST_ID), "r-1");
            assert_eq!(given.header("x-content-type-options"), "nosniff");
            assert!(given.header("content-security-policy").contains("default-src 'none'"));
            assert_eq!(given.header("server"), "");
            assert_eq!(app.get(path).await.header(REQUEST_ID).len(), 36);
        }
    }
}
