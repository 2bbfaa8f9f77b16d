//! `offload cancel`: stops jobs, whether they have started or not.

use super::{about, client};
use crate::cli::CancelArgs;
use crate::exit::Exit;
use crate::output;

/// Cancels each job. The first that cannot be cancelled ends it; those before it are.
pub(crate) async fn run(args: CancelArgs) -> anyhow::Result<Exit> {
    let client = client(&args.client.server)?;
    for id in args.ids {
        let job = client.cancel(id).await.map_err(about(id))?;
        if args.client.json {
            output::line(job.raw.get())?;
        } else if job.value.state.is_final() {
            output::line(format_args!("{id}  {}", job.value.state))?;
        } else {
            output::line(format_args!("{id}  {}, and told to stop", job.value.state))?;
        }
    }
    Ok(Exit::Success)
}
