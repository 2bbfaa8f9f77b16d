//! Requests that wait for the end of a job: one hub per process serves them all.
//!
//! The hub listens to what other processes tell. A signal may be lost, so it also asks the store about all awaited jobs
//! together, with growing pauses; and about each new one at once, so that an end that came before it is not missed.
//! While nobody waits, it asks nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use offload_common::broker::{Broker, Signal, Topic};
use offload_common::clock;
use offload_common::job::JobId;
use offload_common::store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The pause before the store is asked about all awaited jobs: first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asking takes a tenth of the time at most: after an answer that took long, the pause is this many times as long.
const RELIEF: u32 = 10;

/// News that have not been looked at yet; more signals than this are dropped, as a lost one only costs time.
const BACKLOG: usize = 10_000;

/// How many news are looked at together.
const AT_ONCE: usize = 1_000;

enum News {
    Awaited(JobId, oneshot::Sender<()>),
    Changed(Vec<JobId>),
}

/// The hub, as requests see it.
pub(crate) struct Waiters {
    news: mpsc::Sender<News>,
    stop: CancellationToken,
}

impl Waiters {
    /// Starts the hub. Once `stop` fires, nobody waits any longer.
    pub(crate) fn spawn(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        patience: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (news, inbox) = mpsc::channel(BACKLOG);
        let hub = Hub { store, patience, awaited: HashMap::new() };
        tokio::spawn(hub.run(inbox));
        tokio::spawn(stop.clone().run_until_cancelled_owned(pass_on(broker, news.downgrade())));
        Self { news, stop }
    }

    /// Returns when the job is final or gone, when the time is up, or when the process shuts down.
    pub(crate) async fn until_final(&self, job: JobId, at_most: Duration) {
        let wait = async {
            let (wake, woken) = oneshot::channel();
            if self.news.send(News::Awaited(job, wake)).await.is_ok() {
                // An error means that the hub is gone: there is nothing left to wait for.
                let _ = woken.await;
            }
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

struct Hub {
    store: Arc<dyn Store>,
    patience: Duration,
    awaited: HashMap<JobId, Vec<oneshot::Sender<()>>>,
}

impl Hub {
    async fn run(mut self, mut inbox: mpsc::Receiver<News>) {
        let mut pause = FIRST_PAUSE;
        let mut round = soon(pause);
        loop {
            let mut news = Vec::new();
            let receive = inbox.recv_many(&mut news, AT_ONCE);
            let received = if self.awaited.is_empty() { Ok(receive.await) } else { timeout_at(round, receive).await };
            if received == Ok(0) {
                return;
            }
            let jobs = self.take_in(news, &mut pause, &mut round);
            self.ask(&jobs).await;
            if Instant::from_std(clock::instant()) >= round {
                let asked = clock::instant();
                self.forget_those_who_left();
                let jobs: Vec<JobId> = self.awaited.keys().copied().collect();
                self.ask(&jobs).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                round = soon(pause.max(asked.elapsed() * RELIEF));
            }
        }
    }

    /// Notes who waits; answers which jobs to ask about right away.
    fn take_in(&mut self, news: Vec<News>, pause: &mut Duration, round: &mut Instant) -> Vec<JobId> {
        let mut ask = Vec::new();
        for item in news {
            match item {
                News::Awaited(job, wake) => {
                    if self.awaited.is_empty() {
                        *round = soon(FIRST_PAUSE);
                    }
                    *pause = FIRST_PAUSE;
                    self.awaited.entry(job).or_default().push(wake);
                    ask.push(job);
                }
                News::Changed(jobs) => ask.extend(jobs.into_iter().filter(|job| self.awaited.contains_key(job))),
            }
        }
        ask.sort_unstable();
        ask.dedup();
        ask
    }

    /// Wakes those whose job is final. What could not be found out is asked again in the next round.
    async fn ask(&mut self, jobs: &[JobId]) {
        if jobs.is_empty() {
            return;
        }
        if let Ok(Ok(finished)) = timeout(self.patience, self.store.finished(jobs)).await {
            for wake in finished.iter().filter_map(|job| self.awaited.remove(job)).flatten() {
                // One who left needs no waking.
                let _ = wake.send(());
            }
        }
    }

    fn forget_those_who_left(&mut self) {
        self.awaited.retain(|_, waiting| {
            waiting.retain(|wake| !wake.is_closed());
            !waiting.is_empty()
        });
    }
}

fn soon(pause: Duration) -> Instant {
    Instant::from_std(clock::instant() + pause)
}
