//! Panics: faults of this program, kept to the piece of work that met them.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// What a panic said.
#[must_use]
pub fn message(payload: &(dyn Any + Send)) -> &str {
    let said = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    said.unwrap_or("without a message")
}

/// Does `work`. What it was changing when it panicked must be whole all the same, or not be looked at again.
///
/// # Errors
/// What the panic said.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.map_err(|payload| format!("a fault in this program: {}", message(&*payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_panic_said_is_told() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let said = caught(async { panic!("number {}", 7) }).await.map(|()| 0);
        assert_eq!(said, Err("a fault in this program: number 7".into()));
        let said = caught(async { std::panic::panic_any(7) }).await.map(|()| 0);
        assert_eq!(said, Err("a fault in this program: without a message".into()));
    }
}
