//! Lists of jobs that are followed: the newest jobs that a filter matches, as they are, and what changes in them.
//!
//! A list is read as a whole and compared with what it was, so that nothing is missed, whatever moved its jobs. Each job is
//! written once for all who follow, and so is the way from one reading to the next.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use offload_common::job::{Job, JobId};
use offload_common::store::{self, JobFilter, Store};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use crate::newest::newest_jobs;
use crate::sse;
use crate::view::JobView;
use crate::watch::{Latest, Watched, Watches};

/// The lists that are followed here.
pub(crate) type ListWatches = Watches<Listing>;

/// A list of jobs as it is at one time.
pub(crate) struct Listing {
    /// Newest first.
    jobs: Vec<(JobId, Arc<RawValue>)>,
    mark: ListMark,
    /// The event that leads here from the list as it was before.
    step: Option<(ListMark, Arc<str>)>,
}

/// Names what is in a list: equal where all jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListMark(u64);

impl fmt::Display for ListMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ListMark {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mark = u64::from_str_radix(text, 16).ok().filter(|_| digits).map(Self);
        mark.ok_or("must be the id of an event of a list, such as 9f86d081884c7d65")
    }
}

/// An event of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobListEvent")]
pub(crate) struct ListEventView<'a> {
    /// Names what is in the list after it. No order is in it.
    id: String,
    /// What kind of event it is.
    event: ListEventName,
    /// What is in the list, or what has changed.
    data: ListEventData<'a>,
}

/// The kinds of events of a list.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "JobListEventName")]
enum ListEventName {
    /// The whole list: it takes the place of what the client has.
    List,
    /// What has changed since the event before.
    Changes,
}

/// What an event of a list tells.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "JobListEventData")]
enum ListEventData<'a> {
    /// The whole list.
    List {
        /// The jobs, newest first.
        #[schemars(with = "Vec<JobView<'static>>")]
        items: Vec<&'a RawValue>,
    },
    /// What has changed.
    Changes {
        /// Jobs that are new in the list, or are not as they were; newest first.
        #[schemars(with = "Vec<JobView<'static>>")]
        changed: Vec<&'a RawValue>,
        /// The ids of jobs that are no longer in the list: the filter matches them no more, they are gone, or newer ones have
        /// taken their places.
        removed: Vec<JobId>,
    },
}

impl Listing {
    fn new(jobs: &[Job], known: Option<&Listing>) -> Self {
        // A job is made of what can be written.
        let write = |job| to_raw_value(&JobView::from(job)).ok();
        let written = jobs.iter().filter_map(|job| Some((job.id, Arc::from(write(job)?))));
        Self::of(written.collect(), known)
    }

    fn of(jobs: Vec<(JobId, Arc<RawValue>)>, known: Option<&Listing>) -> Self {
        let hash = jobs.iter().fold(Sha256::new(), |hash, (_, text)| hash.chain_update(text.get())).finalize();
        let mark = hash.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte));
        let mut listing = Self { jobs, mark: ListMark(mark), step: None };
        listing.step = known.map(|known| (known.mark, listing.changes(known).into()));
        listing
    }

    /// The event that tells all of it.
    fn whole(&self) -> String {
        let items = self.jobs.iter().map(|(_, text)| &**text).collect();
        self.event(ListEventName::List, ListEventData::List { items })
    }

    /// The event that tells those who know the list as it was then.
    fn since(&self, known: &Listing) -> String {
        match &self.step {
            Some((mark, step)) if *mark == known.mark => step.to_string(),
            _ => self.changes(known),
        }
    }

    fn changes(&self, known: &Listing) -> String {
        let mut old: HashMap<JobId, &RawValue> = known.jobs.iter().map(|(id, text)| (*id, &**text)).collect();
        let mut changed = Vec::new();
        for (id, text) in &self.jobs {
            if old.remove(id).is_none_or(|old| old.get() != text.get()) {
                changed.push(&**text);
            }
        }
        let removed = known.jobs.iter().map(|(id, _)| *id).filter(|id| old.contains_key(id)).collect();
        self.event(ListEventName::Changes, ListEventData::Changes { changed, removed })
    }

    fn event(&self, event: ListEventName, data: ListEventData<'_>) -> String {
        let mut text = String::new();
        let view = ListEventView { id: self.mark.to_string(), event, data };
        sse::write(&mut text, view.id, view.event, &view.data);
        text
    }
}

impl fmt::Display for ListEventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListEventName::List => "list",
            ListEventName::Changes => "changes",
        })
    }
}

impl Watched for Listing {
    type Key = JobFilter;

    async fn read(store: &dyn Store, filter: &JobFilter, known: Option<&Self>) -> store::Result<Option<Self>> {
        let (jobs, _) = newest_jobs(store, filter).await?;
        Ok(Some(Self::new(&jobs, known)))
    }

    fn is_news_to(&self, known: &Self) -> bool {
        self.mark != known.mark
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// One who follows a list.
pub(crate) struct Reader {
    /// The list as it has been told.
    told: Option<Arc<Listing>>,
    list: Latest<Listing>,
}

impl Reader {
    pub(crate) fn begin(watches: &ListWatches, filter: JobFilter) -> Self {
        Self { told: None, list: watches.follow(filter, None) }
    }

    /// The event that one needs first who has seen the list up to this mark; nothing, where that is how it is. `None` once
    /// nobody reads it any more.
    pub(crate) async fn first(&mut self, seen: Option<ListMark>) -> Option<String> {
        let listing = self.list.wait_for(Option::is_some).await.ok()?.clone()?;
        let event = if seen == Some(listing.mark) { String::new() } else { listing.whole() };
        self.told = Some(listing);
        Some(event)
    }

    /// The next event; `None` once nobody reads the list any more.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let told = self.told.clone()?;
        let is_new = |listing: &Option<Arc<Listing>>| listing.as_deref().is_some_and(|list| list.mark != told.mark);
        let listing = self.list.wait_for(is_new).await.ok()?.clone()?;
        let event = listing.since(&told);
        self.told = Some(listing);
        Some(event)
    }
}

#[cfg(test)]
mod tests;
