//! The SQLite store, as the suite of the port wants it.

use std::sync::Arc;

use async_trait::async_trait;
use offload_common::store::Store;
use offload_common::store::sqlite::SqliteStore;
use offload_common::store_conformance;
use offload_common::testing::store::Database;
use tempfile::TempDir;

struct Sqlite {
    store: Arc<SqliteStore>,
    _folder: TempDir,
}

#[async_trait]
impl Database for Sqlite {
    async fn fresh() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = SqliteStore::open(&folder.path().join("offload.db")).await.expect("opened");
        store.migrate().await.expect("migrated");
        Self { store: Arc::new(store), _folder: folder }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// One process uses the file at a time.
    async fn another(&self) -> Arc<dyn Store> {
        self.store()
    }
}

store_conformance!(Sqlite);
