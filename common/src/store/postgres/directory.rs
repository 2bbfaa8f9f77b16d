//! What is around the jobs: files, kinds, workers.

use sqlx::postgres::PgRow;

use super::connection::Line;
use super::rows::get;
use crate::job::{FileId, WorkerId};
use crate::store::row::{count, json};
use crate::store::{Error, FileRecord, RegisteredKind, Result, Worker};

pub(super) const ADD_FILE: &str = "-- offload: add a file
INSERT INTO offload.files (id, tenant, content_type, bytes, sha256, created_at) VALUES ($1, $2, $3, $4, $5, $6)";

pub(super) const FILE: &str = "-- offload: file
SELECT id, tenant, content_type, bytes, sha256, created_at FROM offload.files WHERE id = $1 AND tenant = $2";

pub(super) const KINDS: &str = "-- offload: kinds
SELECT k.spec::text, EXISTS (SELECT FROM offload.workers w WHERE w.reaped_at IS NULL AND w.left_at IS NULL
                                                            AND k.name = ANY (w.kinds)) AS live
FROM offload.kinds k ORDER BY k.name";

pub(super) const WORKERS: &str = "-- offload: workers
SELECT w.id, w.host, w.pid, w.version, w.slots, w.queues, w.kinds, w.started_at, w.beat_at,
       (SELECT count(*) FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = w.id) AS running
FROM offload.workers w WHERE w.reaped_at IS NULL AND w.left_at IS NULL ORDER BY w.started_at, w.id";

/// Records a file; see [`crate::store::Store::add_file`].
pub(super) async fn add_file(line: &mut Line, file: &FileRecord) -> Result<()> {
    let bytes = i64::try_from(file.bytes).map_err(|_| Error::Rejected(format!("{} bytes are too many", file.bytes)))?;
    let statement = sqlx::query(ADD_FILE)
        .bind(file.id.0)
        .bind(file.tenant.as_str())
        .bind(file.content_type.as_str())
        .bind(bytes)
        .bind(file.sha256.as_str())
        .bind(file.created_at);
    line.execute(statement).await.map(drop)
}

/// Reads a file's record; see [`crate::store::Store::file`].
pub(super) async fn file(line: &mut Line, tenant: &str, id: FileId) -> Result<Option<FileRecord>> {
    let Some(row) = line.row(sqlx::query(FILE).bind(id.0).bind(tenant)).await? else { return Ok(None) };
    Ok(Some(FileRecord {
        id,
        tenant: get(&row, "tenant")?,
        content_type: get(&row, "content_type")?,
        bytes: u64::try_from(get::<i64>(&row, "bytes")?)
            .map_err(|_| Error::Corrupt("column bytes: negative".into()))?,
        sha256: get(&row, "sha256")?,
        created_at: get(&row, "created_at")?,
    }))
}

/// Registered kinds; see [`crate::store::Store::kinds`].
pub(super) async fn kinds(line: &mut Line) -> Result<Vec<RegisteredKind>> {
    let kind = |row: &PgRow| Ok(RegisteredKind { spec: json("spec", get(row, "spec")?)?, live: get(row, "live")? });
    line.rows(sqlx::query(KINDS)).await?.iter().map(kind).collect()
}

/// Live workers; see [`crate::store::Store::workers`].
pub(super) async fn workers(line: &mut Line) -> Result<Vec<Worker>> {
    let worker = |row: &PgRow| {
        Ok(Worker {
            id: WorkerId(get(row, "id")?),
            host: get(row, "host")?,
            pid: count("pid", get(row, "pid")?)?,
            version: get(row, "version")?,
            slots: count("slots", get(row, "slots")?)?,
            queues: get(row, "queues")?,
            kinds: get(row, "kinds")?,
            started_at: get(row, "started_at")?,
            beat_at: get(row, "beat_at")?,
            running: get::<i64>(row, "running")?.unsigned_abs(),
        })
    };
    line.rows(sqlx::query(WORKERS)).await?.iter().map(worker).collect()
}
