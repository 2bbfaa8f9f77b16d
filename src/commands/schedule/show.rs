//! `offload schedule show`.

use super::{find, next, recurrence};
use crate::cli::OneArgs;
use crate::output::{Table, line, printable};

/// Fires that are shown.
const FIRES: usize = 10;

/// Shows a schedule; for people, with what became of its last fires.
pub(super) async fn run(args: OneArgs) -> anyhow::Result<()> {
    let (client, id) = find(&args).await?;
    let schedule = client.schedule(id).await?;
    if args.client.json {
        return Ok(line(schedule.raw.get())?);
    }
    let schedule = schedule.value;
    line(format_args!("{}  {}", schedule.id, printable(&schedule.name)))?;
    line(format_args!("  submits   {}", printable(&schedule.submits())))?;
    line(format_args!("  fires     {} ({})", printable(&recurrence(&schedule)), printable(&schedule.time_zone)))?;
    line(format_args!("  next      {}", next(&schedule)))?;
    line(format_args!("  missed    {}", printable(&schedule.missed)))?;
    line(format_args!("  overlap   {}", printable(&schedule.overlap)))?;
    if let Some(job) = schedule.last_job_id {
        line(format_args!("  last job  {job}"))?;
    }
    if let Some(batch) = schedule.last_batch_id {
        line(format_args!("  last batch  {batch}"))?;
    }
    if let Some(problem) = &schedule.problem {
        line(format_args!("  problem   {}", printable(problem)))?;
    }
    let fires = client.fires(id, FIRES).await?;
    if fires.is_empty() {
        return Ok(());
    }
    line("")?;
    let mut table = Table::new(["FIRE (UTC)", "FIRES", "OUTCOME", "WHY", "JOB OR BATCH"]);
    for fire in fires.into_iter().map(|fire| fire.value) {
        let job = fire.job_id.map(|id| id.to_string()).or(fire.batch_id.map(|id| id.to_string())).unwrap_or_default();
        let at = fire.fire_at.format("%Y-%m-%d %H:%M:%S").to_string();
        table.row([at, fire.count.to_string(), fire.outcome, fire.reason.unwrap_or_default(), job]);
    }
    Ok(table.print()?)
}
