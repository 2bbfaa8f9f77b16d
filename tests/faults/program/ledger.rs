//! `fault.ledger`: takes its time, may fail, and on success leaves exactly one row, through the job's transaction.

use std::time::Duration;

use async_trait::async_trait;
use offload::{Context, JobError, JobKind, KindSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::starts::Start;

/// The table is made by the suite, without any constraint: what is written twice is to be seen.
const WRITE: &str = "INSERT INTO fault_ledger (job, attempt, process, at) VALUES ($1, $2, $3, clock_timestamp())";

/// The pause before a job is tried again whose database was away.
const AWAY: Duration = Duration::from_millis(300);

pub(crate) struct Ledger;

/// What to do before writing the row.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    /// Seconds to work.
    #[serde(default)]
    seconds: f64,
    /// So many attempts fail, with the code `asked_to_fail`, after they have written.
    #[serde(default)]
    fail_attempts: u32,
    /// Whether the row is written at the start, and the transaction held while it works.
    #[serde(default)]
    early: bool,
}

/// Which attempt wrote the row.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Output {
    attempt: u32,
}

#[async_trait]
impl JobKind for Ledger {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        KindSpec::new::<Payload, Output>("fault.ledger", "Works for a while and writes a row to a ledger.").repeatable()
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        let _start = Start::note(job);
        if payload.early {
            write(job).await?;
        }
        let work = Duration::try_from_secs_f64(payload.seconds).unwrap_or_default();
        tokio::time::sleep(work).await;
        if !payload.early {
            write(job).await?;
        }
        if job.attempt <= payload.fail_attempts {
            let message = format!("attempt {} of {} that fail on demand", job.attempt, payload.fail_attempts);
            return Err(JobError::retry("asked_to_fail", message));
        }
        Ok(Output { attempt: job.attempt })
    }
}

/// Writes the row. A database that is away costs no attempt: every attempt that is spent is one that the suite asked for.
async fn write(job: &Context) -> Result<(), JobError> {
    let row = [json!(job.id), json!(job.attempt), json!(std::process::id())];
    let written = async {
        let mut transaction = job.transaction().await?;
        transaction.execute(WRITE, &row).await?;
        Ok(())
    };
    written.await.map_err(|error| match error {
        JobError::Failed(failure) if failure.code == "database_unavailable" => JobError::snooze(AWAY),
        other => other,
    })
}
