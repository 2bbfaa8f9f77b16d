//! The endpoints: one file each, with its description beside its handler.

mod batches;
mod events;
mod files;
mod jobs;
mod kinds;
mod pages;
mod probes;
mod problems;
mod queues;
mod schedules;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::handler::Handler;
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use uuid::Uuid;

use crate::app::App;
use crate::compression;
use crate::envelope;
use crate::openapi::{Operation, Schemas};
use crate::problem::{Problem, ProblemType};

/// A method at a path.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// What the OpenAPI document says of it; pages for people are not in there.
    pub(crate) describe: Option<fn(&mut Schemas) -> Operation>,
    route: MethodRouter<Arc<App>>,
}

impl Endpoint {
    /// Reads.
    fn get<H, T>(path: &'static str, handler: H, describe: fn(&mut Schemas) -> Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: Method::GET, path, describe: Some(describe), route: on(MethodFilter::GET, handler) }
    }

    /// Does something.
    fn post<H, T>(path: &'static str, handler: H, describe: fn(&mut Schemas) -> Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: Method::POST, path, describe: Some(describe), route: on(MethodFilter::POST, handler) }
    }

    /// Changes something.
    fn patch<H, T>(path: &'static str, handler: H, describe: fn(&mut Schemas) -> Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: Method::PATCH, path, describe: Some(describe), route: on(MethodFilter::PATCH, handler) }
    }

    /// Removes something.
    fn delete<H, T>(path: &'static str, handler: H, describe: fn(&mut Schemas) -> Operation) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: Method::DELETE, path, describe: Some(describe), route: on(MethodFilter::DELETE, handler) }
    }

    /// Shows something to people.
    fn page<H, T>(path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: Method::GET, path, describe: None, route: on(MethodFilter::GET, handler) }
    }
}

/// Every endpoint: the router and the OpenAPI document are made from this list.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        jobs::submit::endpoint(),
        jobs::list::endpoint(),
        jobs::get::endpoint(),
        jobs::result::endpoint(),
        jobs::logs::endpoint(),
        events::endpoint(),
        jobs::events::endpoint(),
        jobs::socket::endpoint(),
        jobs::cancel::endpoint(),
        jobs::retry::endpoint(),
        schedules::create::endpoint(),
        schedules::list::endpoint(),
        schedules::get::endpoint(),
        schedules::change::endpoint(),
        schedules::remove::endpoint(),
        schedules::preview::endpoint(),
        schedules::run::endpoint(),
        schedules::pause::endpoint(),
        schedules::resume::endpoint(),
        schedules::fires::endpoint(),
        batches::submit::endpoint(),
        batches::list::endpoint(),
        batches::get::endpoint(),
        batches::events::endpoint(),
        batches::add::endpoint(),
        batches::seal::endpoint(),
        batches::cancel::endpoint(),
        batches::retry::endpoint(),
        files::upload::endpoint(),
        files::download::endpoint(),
        kinds::list::endpoint(),
        queues::list::endpoint(),
        workers::list::endpoint(),
        probes::live::endpoint(),
        probes::ready::endpoint(),
        problems::show::endpoint(),
        pages::openapi::endpoint(),
        pages::docs::endpoint(),
        pages::docs::script(),
        pages::docs::style(),
        pages::landing::endpoint(),
        pages::demo::endpoint(),
        pages::demo::parts(),
    ]
}

/// The router of every endpoint, with an answer for what is none.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut paths: BTreeMap<&str, (Vec<Method>, MethodRouter<Arc<App>>)> = BTreeMap::new();
    for Endpoint { method, path, route, .. } in endpoints() {
        let (methods, merged) = paths.entry(path).or_default();
        methods.push(method);
        *merged = std::mem::take(merged).merge(route);
    }
    let mut router = Router::new();
    for (path, (methods, route)) in paths {
        let allow = allow(&methods);
        router = router.route(path, route.fallback(async move |request: Request| other_method(&request, &allow)));
    }
    router
        .fallback(nothing_here)
        .layer(middleware::from_fn(envelope::wrap))
        .layer(compression::layer())
        .layer(middleware::from_fn(compression::tag))
        .with_state(app)
}

fn allow(methods: &[Method]) -> String {
    let mut allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) {
        allowed.push("HEAD");
    }
    allowed.push("OPTIONS");
    allowed.join(", ")
}

/// `OPTIONS` is answered; any other method that a path does not take is a problem.
fn other_method(request: &Request, allow: &str) -> Response {
    let header = HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static("OPTIONS"));
    if request.method() == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(ALLOW, header)]).into_response();
    }
    let detail = format!("{} is not allowed here; allowed are {allow}", request.method());
    Problem::new(ProblemType::MethodNotAllowed, detail).header(ALLOW, header).into_response()
}

async fn nothing_here(request: Request) -> Problem {
    Problem::not_found(format_args!("there is nothing at {}; /docs lists what there is", request.uri().path()))
}

/// The id in a path. What is no id names nothing: 404.
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, state).await.ok();
        let text = parameters.as_ref().and_then(|all| all.iter().find(|(name, _)| *name == "id")).map(|(_, id)| id);
        // The hyphenated form only: one thing has one address.
        let id = text.filter(|text| text.len() == 36).and_then(|text| Uuid::try_parse(text).ok());
        let wrong = || Problem::not_found(format_args!("`{}` is not an id", text.unwrap_or_default()));
        id.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;
    use offload_common::job::JobId;
    use tower::ServiceExt;

    use super::*;
    use crate::testing::{TestApp, request};

    #[tokio::test]
    async fn every_endpoint_takes_its_methods_and_refuses_the_others() {
        let app = TestApp::start().await;
        let id = JobId::new().to_string();
        for endpoint in endpoints() {
            let path = endpoint.path.replace("{id}", &id).replace("{name}", "validation").replace("{*file}", "demo.js");
            // Without the body: a stream of events may have no end.
            let taken = app.router.clone().oneshot(request(endpoint.method.clone(), &path, &[], Body::empty())).await;
            let status = taken.expect("the router answers").status();
            assert!(status != 405 && !status.is_server_error(), "{} {path}: {status}", endpoint.method);
            let refused = app.send(request(Method::PUT, &path, &[], Body::empty())).await;
            refused.problem(ProblemType::MethodNotAllowed);
            let options = app.send(request(Method::OPTIONS, &path, &[], Body::empty())).await;
            assert_eq!((options.status, options.body.len()), (204, 0));
            assert_eq!(options.header("allow"), refused.header("allow"));
            assert!(options.header("allow").contains(endpoint.method.as_str()), "{path}");
        }
        let both = app.send(request(Method::OPTIONS, "/v1/jobs", &[], Body::empty())).await;
        assert_eq!(both.header("allow"), "POST, GET, HEAD, OPTIONS");
    }

    #[tokio::test]
    async fn what_is_nowhere_is_a_problem() {
        let app = TestApp::start().await;
        for path in ["/nonesuch", "/v1", "/v1/jobs/", "/v1/jobs/x/y/z", "/V1/jobs", "//", "/%ff", "/v1/jobs/../../etc"]
        {
            let problem = app.get(path).await.problem(ProblemType::NotFound);
            assert_eq!(problem["instance"], path);
        }
    }
}
