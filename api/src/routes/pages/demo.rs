//! `GET /demo/`: the page of `examples/web`, which `offload dev` shows.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Response;

use super::asset;
use crate::app::App;
use crate::problem::Problem;
use crate::routes::Endpoint;

/// As for the other pages, and with pictures: chosen ones, and those that jobs have made.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the folder, by its path below it.
macro_rules! file {
    ($path:literal, $content_type:expr) => {
        ($path, $content_type, include_bytes!(concat!("../../../../examples/web/", $path)))
    };
}

const FILES: [(&str, &str, &[u8]); 7] = [
    file!("index.html", HTML),
    file!("demo.css", CSS),
    file!("demo.js", SCRIPT),
    file!("offload-client/index.js", SCRIPT),
    file!("offload-client/client.js", SCRIPT),
    file!("offload-client/error.js", SCRIPT),
    file!("offload-client/sse.js", SCRIPT),
];
const SAMPLE: &[u8] = include_bytes!("../../../../samples/fjord-night.jpg");

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::page("/demo/", async |State(app): State<Arc<App>>| show(&app, "index.html"))
}

pub(in crate::routes) fn parts() -> Endpoint {
    Endpoint::page("/demo/{*file}", async |State(app): State<Arc<App>>, Path(file): Path<String>| show(&app, &file))
}

fn show(app: &App, file: &str) -> Result<Response, Problem> {
    let found = FILES.into_iter().chain([("sample.jpg", "image/jpeg", SAMPLE)]).find(|(path, ..)| *path == file);
    let (_, content_type, content) = found
        .filter(|_| app.demo)
        .ok_or_else(|| Problem::not_found(format_args!("there is nothing at /demo/{file}")))?;
    let mut response = asset(content_type, content);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn the_demo_is_there_in_development_only() {
        let app = TestApp::start_with(|settings| settings.demo = true).await;
        let page = app.get("/demo/").await;
        assert_eq!((page.status, page.header("content-type")), (200, HTML));
        assert!(page.header("content-security-policy").contains("script-src 'self';"));
        for (path, content_type, _) in FILES {
            let file = app.get(&format!("/demo/{path}")).await;
            assert_eq!((file.status, file.header("content-type")), (200, content_type), "{path}");
        }
        app.get("/demo/other.js").await.problem(ProblemType::NotFound);
        let app = TestApp::start().await;
        for path in ["/demo/", "/demo/demo.js"] {
            app.get(path).await.problem(ProblemType::NotFound);
        }
    }
}
