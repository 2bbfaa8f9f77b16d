//! `GET /`: what this is, and where to go from here.

use super::asset;
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::page("/", async || asset("text/html; charset=utf-8", include_str!("../../../assets/landing.html")))
}
