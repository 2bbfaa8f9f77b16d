//! Requests that follow jobs: one hub per process serves them all.
//!
//! The hub listens to what other processes tell. It reads the trails of all jobs that have changed in one statement, however
//! many follow each of them, and hands everybody what is new to them. A signal may be lost, so it also goes round all
//! followed jobs, with growing pauses; and looks at each new one at once, so that what came before it is not missed. While
//! nobody follows anything, it asks nothing.
//!
//! Who is slow holds up nobody and costs no memory: what it has not fetched is read again once it has fetched the rest.

mod follower;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use offload_common::broker::{Broker, Signal, Topic};
use offload_common::clock;
use offload_common::job::{EventId, Job, JobId, Trail};
use offload_common::store::Store;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::follower::Follower;
pub(crate) use self::follower::{Following, Told};
use crate::request::TENANT;

/// The pause before followed jobs are looked at: first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looking takes a tenth of the time at most: after an answer that took long, the pause is this many times as long.
const RELIEF: u32 = 10;

/// News that have not been looked at yet; more signals than this are dropped, as a lost one only costs time.
const BACKLOG: usize = 10_000;

/// How many news, and how many jobs, are looked at together. A round over more jobs than this takes several turns.
const AT_ONCE: usize = 1_000;

/// What one look reads at most of what a job's handler said.
const PAGE: u32 = 200;

/// What the hub is told.
enum News {
    Follows(JobId, Follower),
    /// A follower has fetched what it was handed.
    Fetched(JobId),
    Left(JobId),
    Changed(Vec<JobId>),
    #[cfg(test)]
    Count(tokio::sync::oneshot::Sender<usize>),
}

/// The hub, as requests see it.
pub(crate) struct Hub {
    news: mpsc::Sender<News>,
    stop: CancellationToken,
}

impl Hub {
    /// Starts the hub. Once `stop` fires, nobody waits any longer.
    pub(crate) fn spawn(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        patience: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (news, inbox) = mpsc::channel(BACKLOG);
        let desk = Desk { store, patience, followed: BTreeMap::new(), round: Round::soon(FIRST_PAUSE) };
        tokio::spawn(desk.run(inbox));
        tokio::spawn(stop.clone().run_until_cancelled_owned(pass_on(broker, news.downgrade())));
        Self { news, stop }
    }

    /// Follows a job from this event on. The first that comes is how it stands: what there is to tell, or nothing yet.
    pub(crate) async fn follow(&self, job: JobId, after: Option<EventId>) -> Following {
        let (follower, following) = follower::pair(job, after, self.news.clone());
        // An error means that the hub is gone, which the following shows.
        let _ = self.news.send(News::Follows(job, follower)).await;
        following
    }

    /// How many follow something.
    #[cfg(test)]
    pub(crate) async fn followers(&self) -> usize {
        let (answer, count) = tokio::sync::oneshot::channel();
        assert!(self.news.send(News::Count(answer)).await.is_ok(), "the hub is there");
        count.await.expect("the hub answers")
    }

    /// Returns when the job is final or gone, when the time is up, or when the process shuts down.
    pub(crate) async fn until_final(&self, job: &Job, at_most: Duration) {
        let wait = async {
            let mut following = self.follow(job.id, Some(EventId::end_of(job.epoch))).await;
            while following.next().await.is_some_and(|told| !told.is_last()) {}
        };
        let _ = self.stop.run_until_cancelled(timeout(at_most, wait)).await;
    }
}

/// Passes on what other processes tell, for as long as the hub is there.
async fn pass_on(broker: Arc<dyn Broker>, news: mpsc::WeakSender<News>) {
    let mut signals = broker.listen(Topic::Changed).await;
    while let Some(signal) = signals.next().await {
        let Some(news) = news.upgrade() else { return };
        if let Signal::Changed(jobs) = signal {
            let _ = news.try_send(News::Changed(jobs));
        }
    }
}

/// The task behind the hub.
struct Desk {
    store: Arc<dyn Store>,
    patience: Duration,
    followed: BTreeMap<JobId, Vec<Follower>>,
    round: Round,
}

/// The round over all followed jobs.
struct Round {
    /// When its next turn is.
    next: Instant,
    pause: Duration,
    /// The last job of the turn before, unless that was the last of all.
    after: Option<JobId>,
}

impl Round {
    fn soon(pause: Duration) -> Self {
        Self { next: Instant::from_std(clock::instant() + pause), pause, after: None }
    }
}

impl Desk {
    async fn run(mut self, mut inbox: mpsc::Receiver<News>) {
        loop {
            let mut news = Vec::new();
            let receive = inbox.recv_many(&mut news, AT_ONCE);
            let received =
                if self.followed.is_empty() { Ok(receive.await) } else { timeout_at(self.round.next, receive).await };
            if received == Ok(0) {
                return;
            }
            let jobs = self.take_in(news);
            self.look(&jobs).await;
            if Instant::from_std(clock::instant()) >= self.round.next {
                self.go_round().await;
            }
        }
    }

    /// Notes who follows and who left; answers which jobs to look at right away.
    fn take_in(&mut self, news: Vec<News>) -> Vec<JobId> {
        let mut changed = Vec::new();
        for item in news {
            match item {
                News::Follows(job, follower) => {
                    if self.followed.is_empty() {
                        self.round = Round::soon(FIRST_PAUSE);
                    }
                    self.round.pause = FIRST_PAUSE;
                    self.followed.entry(job).or_default().push(follower);
                    changed.push(job);
                }
                News::Fetched(job) => {
                    changed
                        .extend(self.followed.get(&job).filter(|all| all.iter().any(Follower::is_behind)).map(|_| job));
                }
                News::Left(job) => self.forget_those_who_left(job),
                #[cfg(test)]
                News::Count(answer) => drop(answer.send(self.followed.values().map(Vec::len).sum())),
                News::Changed(jobs) => changed.extend(jobs.into_iter().filter(|job| self.followed.contains_key(job))),
            }
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// A turn of the round: it finds what no signal told of.
    async fn go_round(&mut self) {
        let asked = clock::instant();
        let rest = self.round.after.map_or(JobId(uuid::Uuid::nil()), |job| job);
        let turn: Vec<JobId> = self.followed.range(rest..).map(|(job, _)| *job).take(AT_ONCE).collect();
        turn.iter().for_each(|job| self.forget_those_who_left(*job));
        self.look(&turn).await;
        let pause = (self.round.pause * 2).min(LONGEST_PAUSE);
        self.round =
            Round { pause, after: turn.last().copied().filter(|_| turn.len() == AT_ONCE), ..Round::soon(pause) };
        self.round.next = Instant::from_std(clock::instant() + pause.max(asked.elapsed() * RELIEF));
    }

    /// Reads the trails of these jobs, and tells their followers. What could not be found out is asked again in the round.
    async fn look(&mut self, jobs: &[JobId]) {
        for part in jobs.chunks(AT_ONCE) {
            let earliest = |job: &JobId| follower::earliest(self.followed.get_mut(job)?).map(|after| (*job, after));
            let asked: Vec<_> = part.iter().filter_map(earliest).collect();
            if asked.is_empty() {
                continue;
            }
            match timeout(self.patience, self.store.trails(&asked, PAGE)).await {
                Ok(Ok(trails)) => {
                    for ((job, after), trail) in asked.into_iter().zip(trails) {
                        self.tell(job, after, trail.filter(|trail| trail.tenant == TENANT).as_ref());
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, jobs = part.len(), "followed jobs could not be read"),
                Err(_) => tracing::debug!(jobs = part.len(), "followed jobs could not be read in time"),
            }
        }
    }

    /// Tells the followers of a job what was read of it after this event.
    fn tell(&mut self, job: JobId, after: Option<EventId>, trail: Option<&Trail>) {
        let Some(followers) = self.followed.get_mut(&job) else { return };
        match trail {
            Some(trail) => {
                let events: Arc<[_]> = trail.events(after).into();
                followers.retain_mut(|follower| follower.tell(after, &events, trail));
            }
            None => followers.retain_mut(Follower::tell_that_it_is_gone),
        }
        if followers.is_empty() {
            self.followed.remove(&job);
        }
    }

    fn forget_those_who_left(&mut self, job: JobId) {
        let Some(followers) = self.followed.get_mut(&job) else { return };
        followers.retain(|follower| !follower.has_left());
        if followers.is_empty() {
            self.followed.remove(&job);
        }
    }
}
