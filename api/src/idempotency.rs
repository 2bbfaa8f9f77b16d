//! The `Idempotency-Key` header: the same key with the same request names the same job.

use axum::http::HeaderMap;
use offload_common::store::IdempotencyKey;
use sha2::{Digest, Sha256};

use crate::problem::{Problem, ProblemType};

/// The request header.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The answer's header that tells a replay.
pub(crate) const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";

const MAX_LENGTH: usize = 255;

/// Reads the key, and ties it to the route (method and path) and the body, however it is compressed.
pub(crate) fn read(headers: &HeaderMap, route: &str, body: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(mut pending) = Pending::read(headers, route)? else { return Ok(None) };
    pending.body(body);
    Ok(Some(pending.finish()))
}

/// A key whose request's body is still on its way.
pub(crate) struct Pending {
    key: String,
    fingerprint: Sha256,
}

impl Pending {
    /// Reads the key, if there is one.
    pub(crate) fn read(headers: &HeaderMap, route: &str) -> Result<Option<Self>, Problem> {
        let invalid = |detail: &str| Problem::new(ProblemType::InvalidIdempotencyKey, detail);
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(invalid("the header Idempotency-Key is given more than once"));
        }
        let key = value
            .to_str()
            .ok()
            .and_then(|text| unquote(text.trim()))
            .filter(|key| (1..=MAX_LENGTH).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()));
        let Some(key) = key else {
            return Err(invalid("the header Idempotency-Key takes 1 to 255 visible ASCII characters, bare or quoted"));
        };
        Ok(Some(Self { key, fingerprint: Sha256::new().chain_update(route).chain_update([0]) }))
    }

    /// A further piece of the body.
    pub(crate) fn body(&mut self, piece: &[u8]) {
        self.fingerprint.update(piece);
    }

    /// The key, tied to all of it.
    pub(crate) fn finish(self) -> IdempotencyKey {
        IdempotencyKey { key: self.key, fingerprint: self.fingerprint.finalize().into() }
    }
}

/// The content of a structured field string (RFC 8941), or the bare text.
fn unquote(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut content = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(content),
            '\\' => content.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => content.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn key(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(value).expect("a header value"));
        read(&headers, "POST /", b"").ok().flatten().map(|key| key.key)
    }

    #[test]
    fn quoted_and_bare_keys_are_the_same() {
        assert_eq!(key("abc").as_deref(), Some("abc"));
        assert_eq!(key("\"abc\"").as_deref(), Some("abc"));
        assert_eq!(key(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        assert_eq!(key(&"k".repeat(255)).map(|key| key.len()), Some(255));
        for bad in ["", "\"\"", "\"abc", "\"abc\"d", "\"abc\";p=1", r#""a\bc""#, "a b", "caf\u{e9}", &"k".repeat(256)] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }

    #[test]
    fn route_and_body_make_the_fingerprint() {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k"));
        let print = |route, body| read(&headers, route, body).expect("valid").expect("given").fingerprint;
        assert_eq!(print("POST /a", b"x"), print("POST /a", b"x"));
        assert_ne!(print("POST /a", b"x"), print("POST /b", b"x"));
        assert_ne!(print("POST /a", b"x"), print("POST /a", b"y"));
    }
}
