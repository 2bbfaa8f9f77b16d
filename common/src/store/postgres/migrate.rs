//! Bringing the schema up to date, and telling whether it is.

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};
use sqlx::{Connection, PgConnection, SqlSafeStr};

use super::connection::{Connector, Line};
use super::error::Origin;
use super::partitions;
use super::rows::get;
use crate::store::{Error, Result};

/// Where it is remembered what has been applied.
const HISTORY: &str = "offload.migrations";

/// The oldest server that will do, as PostgreSQL numbers its versions.
const OLDEST_SERVER: u32 = 150_000;

/// Every migration, oldest first. What has been released is never changed.
const MIGRATIONS: [(i64, &str, &str); 8] = [
    (1, "initial", include_str!("../../../../migrations/postgres/0001_initial.sql")),
    (2, "schedules", include_str!("../../../../migrations/postgres/0002_schedules.sql")),
    (3, "live", include_str!("../../../../migrations/postgres/0003_live.sql")),
    (4, "batches", include_str!("../../../../migrations/postgres/0004_batches.sql")),
    (5, "callbacks", include_str!("../../../../migrations/postgres/0005_callbacks.sql")),
    (6, "unique keys", include_str!("../../../../migrations/postgres/0006_unique_keys.sql")),
    (7, "chains", include_str!("../../../../migrations/postgres/0007_chains.sql")),
    (8, "scheduled batches", include_str!("../../../../migrations/postgres/0008_scheduled_batches.sql")),
];

pub(super) const VERSION: &str = "-- offload: schema version
SELECT max(version) AS version FROM offload.migrations WHERE success";

/// A session of its own, so its settings end with it: a migration may take as long as it takes.
const PATIENT: &str = "SET statement_timeout = 0; SET enable_seqscan = on; SET enable_hashjoin = on";

fn migrations() -> impl Iterator<Item = Migration> {
    MIGRATIONS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    })
}

/// Applies what is missing, each migration in a transaction of its own; see [`crate::store::Store::migrate`]. Of several
/// processes that do this at the same time, one works and the others wait for it.
pub(super) async fn migrate(connector: &Connector) -> Result<Vec<String>> {
    let mut line = connector.connect("migrate").await?;
    let found = line.server_version();
    if found < OLDEST_SERVER {
        let (major, minor) = (found / 10_000, found % 10_000);
        return Err(Error::Corrupt(format!("the server is PostgreSQL {major}.{minor}; Offload needs 15 or newer")));
    }
    line.script(Origin::Offload, PATIENT.to_owned()).await?;
    let mut connection = line.into_inner();
    let applied = apply(&mut connection).await.map_err(error)?;
    // Closing frees the lock that kept the others waiting.
    connection.close().await.map_err(|error| Origin::Offload.error(error))?;
    partitions::prepare(&mut connector.connect("migrate").await?).await?;
    Ok(applied)
}

async fn apply(connection: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    connection.lock().await?;
    connection.create_schema_if_not_exists("offload").await?;
    connection.ensure_migrations_table(HISTORY).await?;
    let before = connection.list_applied_migrations(HISTORY).await?;
    let mut applied = Vec::new();
    for migration in migrations() {
        match before.iter().find(|earlier| earlier.version == migration.version) {
            None => {
                connection.apply(HISTORY, &migration).await?;
                applied.push(format!("{:04}_{}", migration.version, migration.description));
            }
            Some(earlier) if earlier.checksum != migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version));
            }
            Some(_) => {}
        }
    }
    Ok(applied)
}

fn error(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => Origin::Offload.error(error),
        MigrateError::ExecuteMigration(error, version) => {
            Error::Rejected(format!("migration {version} failed, and nothing of it was kept: {error}"))
        }
        MigrateError::VersionMismatch(version) => {
            Error::Corrupt(format!("migration {version} was applied with another content than this program's"))
        }
        other => Error::Corrupt(other.to_string()),
    }
}

/// Whether the schema is the one that this program needs, or a newer one; see [`crate::store::Store::ready`].
pub(super) async fn ready(line: &mut Line) -> Result<()> {
    let newest = MIGRATIONS[MIGRATIONS.len() - 1].0;
    let row = line.row(sqlx::query(VERSION)).await?;
    let applied: Option<i64> = row.map(|row| get(&row, "version")).transpose()?.flatten();
    match applied {
        Some(version) if version >= newest => Ok(()),
        Some(version) => Err(Error::NotMigrated(format!("version {version} of {newest}"))),
        None => Err(Error::NotMigrated("there is none yet".into())),
    }
}
