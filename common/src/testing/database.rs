//! A PostgreSQL database for one test, gone when the test ends.

use sqlx::{Connection, PgConnection};
use url::Url;

/// An empty database on the server that `OFFLOAD_TEST_DATABASE_URL` names. Dropping it drops the database, also when
/// the test fails.
pub struct TestDatabase {
    server: Url,
    name: String,
}

impl TestDatabase {
    /// Creates one, named `offload_test_<run>_<random>`; the run is `OFFLOAD_TEST_RUN`, so that `scripts/test` finds
    /// what an aborted run left.
    ///
    /// # Panics
    /// Without a server to create it on: a test that needs PostgreSQL gets it or fails.
    pub async fn create() -> Self {
        let server = std::env::var("OFFLOAD_TEST_DATABASE_URL")
            .expect("OFFLOAD_TEST_DATABASE_URL is not set: run the tests through scripts/test, which sets it");
        let server = Url::parse(&server).expect("OFFLOAD_TEST_DATABASE_URL is a URL");
        let run = std::env::var("OFFLOAD_TEST_RUN").unwrap_or_else(|_| "local".to_owned());
        let name = format!("offload_test_{run}_{:016x}", rand::random::<u64>());
        let database = Self { server, name };
        database.on_server(format!("CREATE DATABASE {}", database.name)).await.expect("the database is created");
        database
    }

    /// Its URL, as `DATABASE_URL` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.into()
    }

    async fn on_server(&self, sql: String) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(self.server.as_str()).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // On a thread of its own: a runtime cannot block on itself, and may already be shutting down.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
                // What cannot be dropped now is dropped by scripts/test; a panic here would hide the test's own.
                let _ = runtime.block_on(self.on_server(sql));
                std::io::Result::Ok(())
            });
        });
    }
}
