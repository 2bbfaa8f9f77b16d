//! The schema: `migrations/sqlite/*.sql`, compiled in and applied in order, each in one transaction with its record.

use sqlx::SqliteExecutor;

use super::error::Result;
use super::rows::micros;
use super::writer::Writer;
use crate::clock;
use crate::store::Error;

/// Every migration, oldest first: name and statements. One that has been released is never changed.
pub(super) const MIGRATIONS: [(&str, &str); 8] = [
    ("0001_init", include_str!("../../../../migrations/sqlite/0001_init.sql")),
    ("0002_schedules", include_str!("../../../../migrations/sqlite/0002_schedules.sql")),
    ("0003_live", include_str!("../../../../migrations/sqlite/0003_live.sql")),
    ("0004_batches", include_str!("../../../../migrations/sqlite/0004_batches.sql")),
    ("0005_callbacks", include_str!("../../../../migrations/sqlite/0005_callbacks.sql")),
    ("0006_unique_keys", include_str!("../../../../migrations/sqlite/0006_unique_keys.sql")),
    ("0007_chains", include_str!("../../../../migrations/sqlite/0007_chains.sql")),
    ("0008_scheduled_batches", include_str!("../../../../migrations/sqlite/0008_scheduled_batches.sql")),
];

const CREATE_RECORD: &str = "-- create the record of migrations
CREATE TABLE IF NOT EXISTS offload_migrations (name TEXT NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL)";

const APPLIED: &str = "-- applied migrations
SELECT name FROM offload_migrations ORDER BY name";

const RECORD: &str = "-- record a migration
INSERT INTO offload_migrations (name, applied_at) VALUES (?1, ?2)";

/// Applies what is missing; answers the names.
pub(super) async fn migrate(writer: &Writer) -> Result<Vec<String>> {
    let mut turn = writer.turn().await?;
    sqlx::query(CREATE_RECORD).execute(turn.connection()).await?;
    let applied = applied(turn.connection()).await?;
    let mut names = Vec::new();
    for (name, statements) in MIGRATIONS {
        if !applied.iter().any(|known| known == name) {
            sqlx::raw_sql(statements).execute(turn.connection()).await?;
            sqlx::query(RECORD).bind(name).bind(micros(clock::now())).execute(turn.connection()).await?;
            names.push(name.to_owned());
        }
    }
    turn.commit().await?;
    Ok(names)
}

/// Whether the schema is the one this program needs.
pub(super) async fn check(readers: impl SqliteExecutor<'_>) -> Result<()> {
    let applied = applied(readers).await?;
    for (name, _) in MIGRATIONS {
        if !applied.iter().any(|known| known == name) {
            return Err(Error::NotMigrated(format!("migration {name} is missing")).into());
        }
    }
    Ok(())
}

async fn applied(executor: impl SqliteExecutor<'_>) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar(APPLIED).fetch_all(executor).await?)
}
