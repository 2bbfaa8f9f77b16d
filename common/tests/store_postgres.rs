//! The conformance suite of the store port, on PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use offload_common::config::DatabaseConfig;
use offload_common::store::Store;
use offload_common::store::audit::Audit;
use offload_common::store::postgres::{PostgresAudit, PostgresStore};
use offload_common::testing::database::TestDatabase;
use offload_common::testing::store::{Database, Dialect};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

struct Postgres {
    // Closed before the database goes.
    store: Arc<PostgresStore>,
    database: TestDatabase,
}

impl Postgres {
    fn open(database: &TestDatabase) -> PostgresStore {
        let instance = format!("conformance-{:016x}", rand::random::<u64>());
        PostgresStore::open(&config(), &database.url(), &instance).expect("a URL")
    }
}

fn config() -> DatabaseConfig {
    DatabaseConfig { url: None, data: "unused".into(), max_connections: 8, statement_timeout_seconds: 30.0 }
}

#[async_trait]
impl Database for Postgres {
    async fn fresh() -> Self {
        let database = TestDatabase::create().await;
        let store = Arc::new(Self::open(&database));
        store.migrate().await.expect("migrated");
        Self { store, database }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn another(&self) -> Arc<dyn Store> {
        Arc::new(Self::open(&self.database))
    }

    async fn audit(&self) -> Box<dyn Audit> {
        let audit = PostgresAudit::connect(&config(), &self.database.url(), "conformance-audit").await;
        Box::new(audit.expect("connected"))
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn tamper(&self, sql: String) {
        let mut connection = PgConnection::connect(&self.database.url()).await.expect("connected");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("tampered");
        connection.close().await.expect("closed");
    }
}

offload_common::store_conformance!(Postgres);
