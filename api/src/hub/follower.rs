//! One who follows a job: the hub's end, and the request's.

use std::sync::Arc;

use offload_common::job::{EventId, JobEvent, JobId, Trail};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::News;

/// What a follower is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// What happened to the job since it was told last.
    Events {
        /// Shared with the others who follow it; what this one knows comes first.
        all: Arc<[JobEvent]>,
        /// How many of them it knows.
        known: usize,
        /// Whether nothing will ever follow.
        last: bool,
    },
    /// There is no such job, or no more.
    Gone,
}

impl Told {
    /// What is new.
    pub(crate) fn events(&self) -> &[JobEvent] {
        match self {
            Told::Events { all, known, .. } => &all[*known..],
            Told::Gone => &[],
        }
    }

    /// Whether nothing will ever follow.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Told::Gone | Told::Events { last: true, .. })
    }
}

/// The hub's end.
pub(super) struct Follower {
    /// The last event that it was told.
    after: Option<EventId>,
    /// Whether it has been told nothing yet, not even that there is nothing.
    is_new: bool,
    /// Whether there is more than it has been told.
    behind: bool,
    told: mpsc::Sender<Told>,
}

/// The request's end. Dropping it ends the following.
pub(crate) struct Following {
    job: JobId,
    told: mpsc::Receiver<Told>,
    news: mpsc::Sender<News>,
}

/// Both ends, for one who knows the job up to this event.
pub(super) fn pair(job: JobId, after: Option<EventId>, news: mpsc::Sender<News>) -> (Follower, Following) {
    let (tell, told) = mpsc::channel(1);
    (Follower { after, is_new: true, behind: false, told: tell }, Following { job, told, news })
}

/// From where on these followers are to be told, if any of them can be told anything now.
pub(super) fn earliest(followers: &mut [Follower]) -> Option<Option<EventId>> {
    for follower in followers.iter_mut() {
        follower.behind |= follower.told.capacity() == 0;
    }
    followers.iter().filter(|follower| follower.told.capacity() > 0).map(|follower| follower.after).min()
}

impl Follower {
    /// Whether there is more to tell it, and it can be told.
    pub(super) fn is_behind(&self) -> bool {
        self.behind && self.told.capacity() > 0
    }

    pub(super) fn has_left(&self) -> bool {
        self.told.is_closed()
    }

    /// Tells what it does not know of these events, which were read from `start` on. Answers whether it goes on following.
    pub(super) fn tell(&mut self, start: Option<EventId>, events: &Arc<[JobEvent]>, trail: &Trail) -> bool {
        // It could not be told anything when the reading began, and lacks what comes before.
        if self.after < start {
            self.behind = true;
            return !self.has_left();
        }
        let known = events.partition_point(|event| Some(event.id) <= self.after);
        let last = trail.is_over();
        if known == events.len() && !last && !self.is_new {
            self.behind = trail.more;
            return !self.has_left();
        }
        match self.told.try_send(Told::Events { all: events.clone(), known, last }) {
            Ok(()) => {
                self.after = self.after.max(events.last().map(|event| event.id));
                (self.is_new, self.behind) = (false, trail.more);
                !last
            }
            Err(TrySendError::Full(_)) => {
                self.behind = true;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Answers whether it could not be told yet.
    pub(super) fn tell_that_it_is_gone(&mut self) -> bool {
        self.behind = true;
        matches!(self.told.try_send(Told::Gone), Err(TrySendError::Full(_)))
    }
}

impl Following {
    /// What it is told next; `None` once nobody tells any more.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let told = self.told.recv().await?;
        if !told.is_last() {
            // Lost where too much is going on; the round finds it then.
            let _ = self.news.try_send(News::Fetched(self.job));
        }
        Some(told)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.told.close();
        let _ = self.news.try_send(News::Left(self.job));
    }
}
