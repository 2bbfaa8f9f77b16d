//! `GET /docs`: a page that renders the OpenAPI document and can send requests. It is part of the program, so it works
//! without the internet.

use super::asset;
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::page("/docs", async || asset("text/html; charset=utf-8", include_str!("../../../assets/docs.html")))
}

pub(in crate::routes) fn script() -> Endpoint {
    Endpoint::page("/docs/docs.js", async || {
        asset("text/javascript; charset=utf-8", include_str!("../../../assets/docs.js"))
    })
}

pub(in crate::routes) fn style() -> Endpoint {
    Endpoint::page("/docs/pages.css", async || {
        asset("text/css; charset=utf-8", include_str!("../../../assets/pages.css"))
    })
}
