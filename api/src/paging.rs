//! Lists: `{"items": […]}`, and a `Link` to the next page.

use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Serialize)]
struct Items<T> {
    items: Vec<T>,
}

/// A list that is complete.
pub(crate) fn whole<T: Serialize>(items: Vec<T>) -> Response {
    Json(Items { items }).into_response()
}

/// One page of a list. The next one is this request with parameter `name` set to `next`.
pub(crate) fn page<T: Serialize>(items: Vec<T>, uri: &Uri, name: &str, next: Option<String>) -> Response {
    let mut response = whole(items);
    let link = next.map(|next| format!("<{}>; rel=\"next\"", with_parameter(uri, name, &next)));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

fn with_parameter(uri: &Uri, name: &str, value: &str) -> String {
    let others = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).filter(|(key, _)| key != name);
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).append_pair(name, value).finish();
    format!("{}?{query}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_the_filters() {
        let uri = Uri::from_static("/v1/jobs?tag=a%26b&cursor=1&limit=2");
        assert_eq!(with_parameter(&uri, "cursor", "9"), "/v1/jobs?tag=a%26b&limit=2&cursor=9");
        assert_eq!(with_parameter(&Uri::from_static("/x"), "after", "1-2"), "/x?after=1-2");
    }
}
