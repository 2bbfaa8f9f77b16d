//! At most one live job of a tenant and kind has a unique key, and a key is taken by nobody else.

use async_trait::async_trait;

use super::{Check, PAGE, Report};
use crate::store::Result;
use crate::store::audit::{Audit, Seen, UniqueUse};

const ADVICE: &str = "a job takes its unique key in the transaction that accepts it, and gives it back in the one that ends it: find \
                      out what else writes to the tables of jobs and unique keys, and cancel what there is too much of";

/// The check.
pub(super) struct Unique;

fn wrong(used: &UniqueUse) -> Option<String> {
    match (used.holder, &used.live[..]) {
        (_, [_, _, ..]) => Some(format!("{} live jobs have it", used.live.len())),
        (None, _) => Some("a live job has it, and another one could take it".to_owned()),
        (Some(holder), live) if !live.contains(&holder) => Some(format!("job {holder} keeps it, and is not live")),
        _ => None,
    }
}

#[async_trait]
impl Check for Unique {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("unique", "unique keys");
        let mut last: Option<UniqueUse> = None;
        loop {
            let page = audit.unique_keys(last.as_ref(), PAGE).await?;
            report.looked_at += page.len() as u64;
            for used in &page {
                if let Some(problem) = wrong(used) {
                    let jobs = used.holder.into_iter().filter(|holder| !used.live.contains(holder));
                    let jobs: Vec<_> = used.live.iter().copied().chain(jobs).collect();
                    report.find(
                        jobs,
                        format!("the unique key {:?} of the kind {}: {problem}", used.key, used.kind),
                        ADVICE,
                    );
                }
            }
            match page.into_iter().next_back() {
                Some(used) => last = Some(used),
                None => return Ok(report),
            }
        }
    }
}
