//! The SQLite store, as the suite of the port wants it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::store::Store;
use offload_common::store::audit::Audit;
use offload_common::store::sqlite::SqliteStore;
use offload_common::store_conformance;
use offload_common::testing::store::{Database, Dialect};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

struct Sqlite {
    store: Arc<SqliteStore>,
    folder: TempDir,
}

#[async_trait]
impl Database for Sqlite {
    async fn fresh() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = SqliteStore::open(&folder.path().join("offload.db")).await.expect("opened");
        store.migrate().await.expect("migrated");
        Self { store: Arc::new(store), folder }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// One process uses the file at a time.
    async fn another(&self) -> Arc<dyn Store> {
        self.store()
    }

    async fn audit(&self) -> Box<dyn Audit> {
        Box::new(self.store.audit())
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn tamper(&self, sql: String) {
        let options = SqliteConnectOptions::new().filename(self.folder.path().join("offload.db"));
        let mut connection = options.busy_timeout(Duration::from_secs(30)).connect().await.expect("connected");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("tampered");
        connection.close().await.expect("closed");
    }
}

store_conformance!(Sqlite);
