//! The worker engine over the embedded store and the in-process broker.

mod engine;

/// What `offload dev` runs on.
mod backend {
    use std::sync::Arc;

    use offload_common::broker::Broker;
    use offload_common::broker::in_process::InProcessBroker;
    use offload_common::store::Store;
    use offload_common::store::sqlite::SqliteStore;
    use tempfile::TempDir;

    pub(crate) struct Backend {
        pub(crate) store: Arc<dyn Store>,
        pub(crate) broker: Arc<dyn Broker>,
        in_process: InProcessBroker,
        _folder: TempDir,
    }

    impl Backend {
        pub(crate) async fn open() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let store = SqliteStore::open(&folder.path().join("offload.db")).await.expect("opened");
            let in_process = InProcessBroker::new();
            Self { store: Arc::new(store), broker: Arc::new(in_process.clone()), in_process, _folder: folder }
        }

        /// A store for another process, where there can be one.
        pub(crate) fn another_store(&self) -> Arc<dyn Store> {
            self.store.clone()
        }

        /// Does to consumers what the loss of their connection does.
        pub(crate) fn lose_broker(&self) {
            self.in_process.drop_connections();
        }
    }
}
