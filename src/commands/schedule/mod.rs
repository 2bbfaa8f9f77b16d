//! `offload schedule`: jobs that are submitted again and again.

mod create;
mod show;

use offload_common::job::ScheduleId;

use super::client;
use crate::cli::{ClientArgs, OneArgs, PreviewArgs, ScheduleArgs, ScheduleCommand};
use crate::client::{Answer, Client, ScheduleView};
use crate::exit::{Exit, UsageError};
use crate::output::{self, Table};

/// Does what the command line asks for.
pub(crate) async fn run(args: ScheduleArgs) -> anyhow::Result<Exit> {
    match args.command {
        ScheduleCommand::Create(args) => create::run(*args).await?,
        ScheduleCommand::List(args) => list(args).await?,
        ScheduleCommand::Show(args) => show::run(args).await?,
        ScheduleCommand::Preview(args) => preview(args).await?,
        ScheduleCommand::Run(args) => run_now(args).await?,
        ScheduleCommand::Pause(args) => pause(args, true).await?,
        ScheduleCommand::Resume(args) => pause(args, false).await?,
        ScheduleCommand::Delete(args) => delete(args).await?,
    }
    Ok(Exit::Success)
}

/// The server, and the schedule there that is meant.
async fn find(args: &OneArgs) -> anyhow::Result<(Client, ScheduleId)> {
    let client = client(&args.client.server)?;
    let id = client.schedule_id(&args.which).await?;
    let id = id.ok_or_else(|| UsageError(format!("there is no schedule called {:?}", args.which)))?;
    Ok((client, id))
}

/// When it fires, in words.
fn recurrence(schedule: &ScheduleView) -> String {
    match (&schedule.cron, schedule.every_seconds) {
        (Some(cron), _) => cron.clone(),
        (None, Some(seconds)) => format!("every {seconds} s"),
        (None, None) => String::new(),
    }
}

fn next(schedule: &ScheduleView) -> String {
    match schedule.next_at {
        _ if schedule.paused => "paused".to_owned(),
        Some(at) => at.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => "never".to_owned(),
    }
}

fn print(args: &ClientArgs, schedule: &Answer<ScheduleView>) -> std::io::Result<()> {
    if args.json {
        return output::line(schedule.raw.get());
    }
    let schedule = &schedule.value;
    output::line(format_args!("{}  {}  next {}", schedule.id, output::printable(&schedule.name), next(schedule)))
}

async fn list(args: ClientArgs) -> anyhow::Result<()> {
    let schedules = client(&args.server)?.schedules(None).await?;
    if args.json {
        for schedule in &schedules {
            output::line(schedule.raw.get())?;
        }
        return Ok(());
    }
    let mut table = Table::new(["ID", "NAME", "SUBMITS", "FIRES", "ZONE", "NEXT (UTC)"]);
    for schedule in schedules.into_iter().map(|schedule| schedule.value) {
        let (submits, fires, next) = (schedule.submits(), recurrence(&schedule), next(&schedule));
        table.row([schedule.id.to_string(), schedule.name, submits, fires, schedule.time_zone, next]);
    }
    Ok(table.print()?)
}

async fn preview(args: PreviewArgs) -> anyhow::Result<()> {
    let (client, id) = find(&args.one).await?;
    let preview = client.preview(id, args.count).await?;
    if args.one.client.json {
        return Ok(output::line(preview.raw.get())?);
    }
    let mut table = Table::new(["AT (UTC)", "LOCAL", "NOTE"]);
    for fire in preview.value.fires {
        table.row([fire.at.format("%Y-%m-%d %H:%M:%S").to_string(), fire.local, fire.note.unwrap_or_default()]);
    }
    Ok(table.print()?)
}

async fn run_now(args: OneArgs) -> anyhow::Result<()> {
    let (client, id) = find(&args).await?;
    let run = client.run_schedule(id).await?;
    if args.client.json {
        return Ok(output::line(run.raw.get())?);
    }
    let id = run.value.id;
    match (run.value.state, run.value.total) {
        (Some(state), _) => output::line(format_args!("{id}  {state}"))?,
        (None, Some(total)) => output::line(format_args!("{id}  {total} jobs"))?,
        (None, None) => output::line(id)?,
    }
    Ok(())
}

async fn pause(args: OneArgs, pause: bool) -> anyhow::Result<()> {
    let (client, id) = find(&args).await?;
    let schedule = client.pause_schedule(id, pause).await?;
    Ok(print(&args.client, &schedule)?)
}

async fn delete(args: OneArgs) -> anyhow::Result<()> {
    let (client, id) = find(&args).await?;
    client.delete_schedule(id).await?;
    if !args.client.json {
        output::line(format_args!("{id}  deleted"))?;
    }
    Ok(())
}
