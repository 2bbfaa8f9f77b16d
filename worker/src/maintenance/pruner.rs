//! The pruner: what is past its retention goes, and room is made for the days to come.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::files::Files;
use offload_common::store::{self, Retention, Store};

use super::Reconcile;

// Between two passes.
const PERIOD: Duration = Duration::from_secs(60);

/// Prunes.
pub(crate) struct Pruner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) files: Files,
    pub(crate) retention: Retention,
}

#[async_trait]
impl Reconcile for Pruner {
    fn name(&self) -> &'static str {
        "pruner"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let pruned = self.store.prune(&self.retention).await?;
        if let Err(error) = self.files.forget(&pruned.files).await {
            tracing::warn!(%error, "could not delete the content of files that are past their retention");
        }
        if pruned.jobs + pruned.idempotency_keys > 0 || !pruned.files.is_empty() {
            let (jobs, files, keys) = (pruned.jobs, pruned.files.len(), pruned.idempotency_keys);
            tracing::debug!(jobs, files, keys, "removed what is past its retention");
        }
        Ok(PERIOD)
    }
}
