//! The worker: its parts put together, its start, and its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use offload_common::broker::{Broker, Consumer, Signal, Topic};
use offload_common::clock;
use offload_common::config::{JobsConfig, WorkerConfig};
use offload_common::files::Files;
use offload_common::job::{Lane, Priority};
use offload_common::publisher::Publisher;
use offload_common::store::{Retention, Store, WorkerInfo};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claiming::CLAIMS_AT_ONCE;
use crate::compute::Compute;
use crate::delivery::{Inbox, receive};
use crate::engine::Engine;
use crate::finisher::Finisher;
use crate::heartbeat::Heartbeat;
use crate::kind::AnyKind;
use crate::maintenance::{Firer, Loops, Promoter, Pruner, Reaper, Releaser, Stealer};
use crate::probes::Probes;
use crate::reporter::Reporter;
use crate::run::{Runs, StopReason};
use crate::starter::Starter;
use crate::vitals::Vitals;
use crate::watchdog::Watchdog;

// What the end of a process may take beyond its drain time: handing back, and the last writes.
const HAND_BACK: Duration = Duration::from_secs(5);
const PARTING: Duration = Duration::from_secs(2);

/// What a worker is made of.
pub struct WorkerParts {
    /// Remembers jobs.
    pub store: Arc<dyn Store>,
    /// Carries them.
    pub broker: Arc<dyn Broker>,
    /// Publishes what is queued again.
    pub publisher: Publisher,
    /// Where handlers read and write files.
    pub files: Files,
    /// What it can run.
    pub kinds: Vec<Arc<dyn AnyKind>>,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// Its limits and times.
    pub config: WorkerConfig,
    /// The window of promotion.
    pub jobs: JobsConfig,
    /// How long things are kept.
    pub retention: Retention,
    /// The host's name, for people.
    pub host: String,
    /// The program's version, for people.
    pub version: String,
}

/// Tells a worker to end.
#[derive(Clone, Debug, Default)]
pub struct StopSignals {
    /// Let running jobs end, hand the rest back, then exit.
    pub drain: CancellationToken,
    /// Stop handlers, hand back what can be handed back at once, then exit.
    pub halt: CancellationToken,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every job that ran came to its end.
    Drained,
    /// This many jobs still ran when the drain time was over, and were handed back.
    HandedBack(usize),
    /// It was told to stop at once.
    Halted,
    /// The heartbeat's thread could not be started: the system has no room for it.
    NotStarted,
    /// This part of it died. It drained, and a supervisor is to start it again.
    Failed(&'static str),
}

/// A worker, about to run.
pub struct Worker {
    engine: Arc<Engine>,
    inbox: Arc<Inbox>,
    loops: Loops,
    draining: CancellationToken,
    parts: WorkerParts,
}

impl Worker {
    /// Puts a worker together. Call it within the runtime that jobs are to run in.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Self {
        let slots = parts.config.slots as usize;
        let kinds = parts.kinds.iter().map(|kind| (kind.spec().name.clone(), kind.clone())).collect();
        let engine = Engine {
            store: parts.store.clone(),
            publisher: parts.publisher.clone(),
            files: parts.files.clone(),
            kinds,
            runs: Runs::new(),
            vitals: Vitals::default(),
            watchdog: Watchdog::new(Duration::from_secs_f64(parts.config.watchdog_seconds), clock::instant()),
            compute: Compute::new(parts.config.compute_slots),
            finisher: Finisher::spawn(parts.store.clone(), parts.broker.clone()),
            reporter: Reporter::spawn(parts.store.clone(), parts.broker.clone()),
            slots: Arc::new(Semaphore::new(slots)),
            suspects: Arc::new(Semaphore::new(1)),
            claims: Semaphore::new(CLAIMS_AT_ONCE),
            tasks: TaskTracker::new(),
            ack_after: Duration::from_secs_f64(parts.config.ack_after_seconds),
            promote: Arc::new(Notify::new()),
            release: Arc::new(Notify::new()),
            steal: Arc::new(Notify::new()),
            rescue: AtomicBool::new(false),
            reap: Arc::new(Notify::new()),
        };
        let inbox = Arc::new(Inbox::new(prefetch(&parts.config).into(), clock::instant()));
        Self { engine: Arc::new(engine), inbox, loops: Loops::default(), draining: CancellationToken::new(), parts }
    }

    /// What tells from outside how it is doing.
    #[must_use]
    pub fn probes(&self) -> Probes {
        let (engine, inbox, broker) = (self.engine.clone(), self.inbox.clone(), self.parts.broker.clone());
        Probes::new(engine, inbox, broker, self.loops.clone(), self.draining.clone())
    }

    /// Runs until told to end, or until a part of it dies. Waits for a database or a broker that is away; needs neither to start.
    pub async fn run(self, stop: StopSignals) -> Exit {
        let leaving = CancellationToken::new();
        // Also when this future is dropped: the thread must not beat on for a worker that is gone.
        let _leave = leaving.clone().drop_guard();
        let Ok(left) = self.heartbeat().spawn(leaving.clone()) else { return Exit::NotStarted };
        let cancels = tokio::spawn(stop_cancelled(self.parts.broker.clone(), self.engine.clone()));
        self.start_upkeep();
        let working = async {
            self.engine.runs.member().await;
            self.work().await
        };
        let vitals = &self.engine.vitals;
        let ending = async {
            tokio::select! {
                () = stop.drain.cancelled() => {}
                () = stop.halt.cancelled() => {}
                () = vitals.death().cancelled() => {}
            }
        };
        tokio::pin!(ending);
        let work = tokio::select! {
            work = working => Some(work),
            () = &mut ending => None,
        };
        if work.is_some() {
            ending.await;
        }
        if let Some(part) = vitals.dead() {
            tracing::error!(
                part,
                "a part of this worker has died: it drains and ends, for a supervisor to start it again"
            );
        }
        tracing::info!("draining");
        self.draining.cancel();
        let exit = self.drain(work, &stop.halt).await;
        let exit = vitals.dead().map_or(exit, Exit::Failed);
        cancels.abort();
        leaving.cancel();
        // Others notice if it cannot.
        let _ = timeout(PARTING, left).await;
        tracing::info!(?exit, "stopped");
        exit
    }

    fn heartbeat(&self) -> Heartbeat {
        let config = &self.parts.config;
        let info = WorkerInfo {
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: self.parts.version.clone(),
            slots: config.slots,
            queues: self.parts.queues.clone(),
            kinds: self.parts.kinds.iter().map(|kind| kind.spec().clone()).collect(),
        };
        Heartbeat {
            engine: self.engine.clone(),
            info,
            period: Duration::from_secs_f64(config.heartbeat_seconds),
            lease: Duration::from_secs_f64(config.lease_seconds),
            lazy_claim: Duration::from_secs_f64(config.lazy_claim_seconds),
            main: tokio::runtime::Handle::current(),
            draining: self.draining.clone(),
        }
    }

    fn start_upkeep(&self) {
        let Self { engine, inbox, loops, parts, .. } = self;
        let (store, publisher) = (parts.store.clone(), parts.publisher.clone());
        loops.start(Promoter::new(store.clone(), publisher, parts.jobs.window), engine.promote.clone());
        let firer = Firer { store: store.clone(), broker: parts.broker.clone(), promote: engine.promote.clone() };
        loops.start(firer, Arc::default());
        let releaser = Releaser { store: store.clone(), broker: parts.broker.clone(), promote: engine.promote.clone() };
        loops.start(releaser, engine.release.clone());
        let lease = Duration::from_secs_f64(parts.config.lease_seconds);
        loops.start(Reaper { engine: engine.clone(), broker: parts.broker.clone(), lease }, engine.reap.clone());
        let stealer = Stealer {
            engine: engine.clone(),
            inbox: inbox.clone(),
            queues: parts.queues.clone(),
            patience: Duration::from_secs_f64(parts.config.steal_after_seconds),
        };
        loops.start(stealer, engine.steal.clone());
        loops.start(Pruner { store, files: parts.files.clone(), retention: parts.retention }, Arc::default());
    }

    /// Starts to consume and to start jobs.
    async fn work(&self) -> Work {
        let lanes: Vec<Lane> = self.parts.queues.iter().flat_map(|queue| lanes_of(queue)).collect();
        let consumer = self.parts.broker.consume(&lanes, prefetch(&self.parts.config)).await;
        let receiver = tokio::spawn({
            let (engine, inbox, draining) = (self.engine.clone(), self.inbox.clone(), self.draining.clone());
            let living = engine.vitals.living("the consumer");
            async move {
                let consumer = receive(consumer, &inbox, &engine.runs, &draining).await;
                if draining.is_cancelled() {
                    living.ended();
                }
                consumer
            }
        });
        let starter = Starter { engine: self.engine.clone(), inbox: self.inbox.clone() };
        let (draining, living) = (self.draining.clone(), self.engine.vitals.living("the starter"));
        let starter = tokio::spawn(async move {
            starter.run(&draining).await;
            living.ended();
        });
        Work { receiver, starter }
    }

    /// Brings everything to its end: nothing starts any more, running jobs get their time, the rest is handed back.
    async fn drain(&self, work: Option<Work>, halt: &CancellationToken) -> Exit {
        let engine = &self.engine;
        self.loops.stop().await;
        let patience = Duration::from_secs(self.parts.config.drain_seconds);
        let ending = async {
            let consumer = match work {
                Some(Work { receiver, starter }) => {
                    let _ = starter.await;
                    receiver.await.ok()
                }
                None => None,
            };
            engine.tasks.close();
            engine.tasks.wait().await;
            consumer
        };
        tokio::pin!(ending);
        let in_time = tokio::select! {
            consumer = timeout(patience, &mut ending) => consumer.ok(),
            () = halt.cancelled() => None,
        };
        let (consumer, exit) = match in_time {
            Some(consumer) => (consumer, Exit::Drained),
            None => {
                let stopped = engine.runs.stop_all(StopReason::Draining);
                let halted = halt.is_cancelled();
                let more = if halted { PARTING } else { HAND_BACK };
                let exit = if halted { Exit::Halted } else { Exit::HandedBack(stopped) };
                (timeout(more, &mut ending).await.ok().flatten(), exit)
            }
        };
        self.parts.publisher.flush(PARTING).await;
        if let Some(consumer) = consumer {
            let _ = timeout(PARTING, consumer.close()).await;
        }
        exit
    }
}

/// The tasks that bring jobs in.
struct Work {
    receiver: JoinHandle<Box<dyn Consumer>>,
    starter: JoinHandle<()>,
}

/// Deliveries that a lane may have unsettled: what waits here keeps others waiting, so no more than there are slots.
fn prefetch(config: &WorkerConfig) -> u16 {
    u16::try_from(config.slots).unwrap_or(u16::MAX)
}

fn lanes_of(queue: &str) -> impl Iterator<Item = Lane> {
    Priority::ALL.map(|priority| Lane { queue: queue.to_owned(), priority }).into_iter()
}

/// Stops the handlers of jobs that are cancelled, as it is told. The heartbeat finds those it is not told of.
async fn stop_cancelled(broker: Arc<dyn Broker>, engine: Arc<Engine>) {
    let mut signals = broker.listen(Topic::Cancel).await;
    while let Some(signal) = signals.next().await {
        if let Signal::Cancel(jobs) = signal {
            engine.runs.stop(&jobs, StopReason::Cancelled);
        }
    }
}
