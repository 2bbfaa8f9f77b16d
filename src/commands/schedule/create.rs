//! `offload schedule create`.

use std::collections::BTreeMap;

use anyhow::Context;
use offload_common::RawJson;
use serde::Deserialize;
use serde_json::value::to_raw_value;

use crate::cli::CreateArgs;
use crate::client::{NewSchedule, Submission};
use crate::commands::{client, submit};

/// Makes a schedule.
pub(super) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    let batch = match &args.batch {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("the file {} cannot be read", path.display()))?;
            Some(read_batch(&text).with_context(|| format!("in the file {}", path.display()))?)
        }
        None => None,
    };
    let job = match args.kind {
        Some(kind) => Some(Submission {
            queue: args.queue,
            priority: args.priority,
            max_attempts: args.max_attempts,
            timeout_seconds: args.timeout,
            tags: args.tags,
            unique_key: args.unique_key,
            ..Submission::new(&kind, submit::payload::read(&args.payload)?)
        }),
        None => None,
    };
    let new = NewSchedule {
        name: args.name,
        cron: args.cron,
        every_seconds: args.every,
        time_zone: args.time_zone,
        starts_at: args.starts_at,
        ends_at: args.ends_at,
        jitter_seconds: args.jitter,
        missed: args.missed,
        max_missed: args.max_missed,
        overlap: args.overlap,
        job,
        batch,
    };
    let made = client(&args.client.server)?.create_schedule(&new).await?;
    Ok(super::print(&args.client, &made)?)
}

/// What the first line may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    batch: BTreeMap<String, RawJson>,
}

/// The batch that a file tells, as `offload submit --batch` reads it: a job a line, behind what is common to them.
fn read_batch(text: &str) -> anyhow::Result<BTreeMap<String, RawJson>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let header = lines.peek().and_then(|(_, line)| serde_json::from_str::<Header>(line).ok());
    if header.is_some() {
        lines.next();
    }
    let read = |(n, line)| serde_json::from_str(line).with_context(|| format!("line {} is not JSON", n + 1));
    let jobs: Vec<RawJson> = lines.map(read).collect::<anyhow::Result<_>>()?;
    let mut batch = header.map(|header| header.batch).unwrap_or_default();
    batch.insert("jobs".to_owned(), to_raw_value(&jobs)?);
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(read_batch(text)?)?)
    }

    #[test]
    fn a_file_has_a_job_a_line_and_may_have_a_header() {
        for (text, batch) in [
            ("", json!({"jobs": []})),
            ("{\"kind\": \"a\"}\r\n\n{\"kind\": \"b\"}", json!({"jobs": [{"kind": "a"}, {"kind": "b"}]})),
            (
                "\n{\"batch\": {\"defaults\": {\"kind\": \"a\"}}}\n{\"payload\": 1}\n",
                json!({"defaults": {"kind": "a"}, "jobs": [{"payload": 1}]}),
            ),
            ("{\"batch\": {}, \"kind\": \"a\"}", json!({"jobs": [{"batch": {}, "kind": "a"}]})),
        ] {
            assert_eq!(read(text).expect("readable"), batch, "{text}");
        }
    }

    #[test]
    fn a_line_that_is_no_json_is_named() {
        let error = read("{}\n\n{\"kind\": }\n").expect_err("not JSON");
        assert!(format!("{error:#}").starts_with("line 3 is not JSON: "), "{error:#}");
    }
}
