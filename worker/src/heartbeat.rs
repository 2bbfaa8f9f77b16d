//! The heartbeat: says that this worker is there, and claims lazy runs in time.
//!
//! It has a thread, a runtime and a database connection of its own, so that no handler can hold it up.

use std::sync::Arc;
use std::time::Duration;

use offload_common::store::{Beat, Session, Store, WorkerInfo};
use offload_common::{clock, retry};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::lazy_claims::{LazyClaims, Turn};
use crate::pulse::Pulse;
use crate::run::{Membership, Standing, StopReason};
use crate::strays::Strays;

// The longest pause between two tries to join.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
// A probe or the end of the membership that takes longer counts as failed; beats must not wait behind it.
const PATIENCE: Duration = Duration::from_secs(2);
// Between two probes: much less than the time after which others take a process for dead that the database sees nothing of.
const PROBE: Duration = Duration::from_millis(300);
// The least pause between two looks for runs to claim.
const SHORTEST_TURN: Duration = Duration::from_millis(5);

/// What the heartbeat works with.
pub(crate) struct Heartbeat {
    pub(crate) engine: Arc<Engine>,
    pub(crate) info: WorkerInfo,
    /// Between two beats.
    pub(crate) period: Duration,
    /// Without a beat for this long, others take this worker for dead.
    pub(crate) lease: Duration,
    /// A run that lasts this long is claimed.
    pub(crate) lazy_claim: Duration,
    /// The runtime that jobs run in.
    pub(crate) main: Handle,
    /// Fires when nothing is to start any more.
    pub(crate) draining: CancellationToken,
}

/// What is to be done when the thread ends, however it does.
struct Last(Arc<Engine>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.runs.step_back(StopReason::OutOfTouch);
        self.0.runs.abandon_claims();
    }
}

/// How a membership came to its end.
enum Over {
    Fenced,
    Stopping,
}

impl Heartbeat {
    /// Starts the thread. It beats until `stop` fires, then leaves in good order; what this answers fires after that.
    pub(crate) fn spawn(self, stop: CancellationToken) -> std::io::Result<oneshot::Receiver<()>> {
        let (left, has_left) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            let living = self.engine.vitals.living("the heartbeat");
            // Nothing may run that nobody beats for.
            let _last = Last(self.engine.clone());
            runtime.block_on(self.run(&stop));
            living.ended();
            // Nobody may be waiting any more.
            let _ = left.send(());
        })?;
        Ok(has_left)
    }

    async fn run(&self, stop: &CancellationToken) {
        loop {
            let store: &dyn Store = &*self.engine.store;
            let mut session = tokio::select! {
                session = retry::until_reached("joining", LONGEST_PAUSE, || store.join(&self.info)) => session,
                () = stop.cancelled() => return,
            };
            let worker = session.worker();
            tracing::info!(worker.id = %worker, "joined");
            match self.live(&mut *session, stop).await {
                Over::Fenced => {
                    tracing::error!(worker.id = %worker, "this worker was taken for dead; its jobs are stopped");
                    self.engine.runs.step_back(StopReason::Fenced);
                }
                Over::Stopping => {
                    if !timeout(PATIENCE, session.leave()).await.is_ok_and(|left| left.is_ok()) {
                        tracing::warn!(worker.id = %worker, "could not leave in good order; others will notice");
                    }
                    return;
                }
            }
        }
    }

    /// Beats and claims for as long as the membership lasts.
    async fn live(&self, session: &mut dyn Session, stop: &CancellationToken) -> Over {
        let mut pulse = Pulse::new(self.period, self.lease, clock::instant());
        let mut strays = Strays::default();
        self.engine.watchdog.excuse(clock::instant());
        let mut claims = LazyClaims::new(self.lease);
        let (mut probes, mut turns) = (every(PROBE), every((self.lazy_claim / 4).max(SHORTEST_TURN)));
        self.stand(session, &pulse);
        loop {
            let over = tokio::select! {
                // In this order: a claim that is not answered takes its time, and the next must not come before the beat that
                // has waited behind it.
                biased;
                () = stop.cancelled() => return Over::Stopping,
                () = tokio::time::sleep_until(pulse.next().into()) => self.beat(session, &mut pulse, &mut strays).await,
                () = self.engine.runs.doubted() => self.beat(session, &mut pulse, &mut strays).await,
                _ = probes.tick() => {
                    self.probe(session, &mut pulse).await;
                    None
                }
                () = self.claim_turn(&mut turns) => {
                    let turn = claims.turn(session, &self.engine.runs, self.lazy_claim).await;
                    self.engine.finisher.announce(claims.granted()).await;
                    (turn == Turn::NotAMember).then_some(Over::Fenced)
                }
            };
            if let Some(over) = over {
                return over;
            }
        }
    }

    /// Waits until it is time to look for runs to claim.
    async fn claim_turn(&self, turns: &mut Interval) {
        tokio::select! {
            _ = turns.tick() => {}
            () = self.engine.runs.claim_wanted() => {}
        }
    }

    /// Makes sure that the database sees this process. Where it did not, it is to beat at once: if others took it for dead,
    /// that is better known soon.
    async fn probe(&self, session: &mut dyn Session, pulse: &mut Pulse) {
        match timeout(PATIENCE, session.probe()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                tracing::info!("the connection to the database was lost, and is made again");
                pulse.hurry(clock::instant());
            }
            Ok(Err(error)) => tracing::debug!(%error, "no connection to the database"),
            Err(_) => tracing::debug!("no connection to the database in time"),
        }
    }

    async fn beat(&self, session: &mut dyn Session, pulse: &mut Pulse, strays: &mut Strays) -> Option<Over> {
        let began = clock::instant();
        let failure = match timeout(pulse.patience(began), session.beat()).await {
            Ok(Ok(Beat::Alive { cancel })) => {
                pulse.succeeded(began);
                self.stand(session, pulse);
                self.engine.runs.stop(&cancel, StopReason::Cancelled);
                if let Ok(Ok(held)) = timeout(PATIENCE, session.held()).await {
                    strays.look(held, &self.engine, &self.main);
                }
                self.guard(session).await;
                return None;
            }
            Ok(Ok(Beat::Fenced)) => return Some(Over::Fenced),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let now = clock::instant();
        pulse.failed(now);
        self.engine.watchdog.excuse(now);
        if !pulse.is_out_of_touch(now) {
            tracing::warn!(failure, "a heartbeat failed");
            self.stand(session, pulse);
        } else if self.engine.runs.standing() != Standing::Outside {
            tracing::error!(failure, "out of touch with the database; jobs are stopped before others take them over");
            self.engine.runs.step_back(StopReason::OutOfTouch);
        }
        None
    }

    /// Has the watchdog look whether work waits here that there is room for.
    async fn guard(&self, session: &mut dyn Session) {
        let (dog, now) = (&self.engine.watchdog, clock::instant());
        // Runs are counted: a slot that nobody gave back is no excuse.
        let full = self.engine.tasks.len() >= self.info.slots as usize;
        if full || self.draining.is_cancelled() {
            return dog.excuse(now);
        }
        if dog.is_idle(now)
            && let Ok(Ok(work_waits)) = timeout(PATIENCE, session.overdue(dog.limit())).await
            && dog.judge(work_waits, clock::instant())
        {
            let complaint = dog.complaint().unwrap_or_default();
            tracing::error!(worker.id = %session.worker(), complaint, "this worker is stuck; a supervisor is to restart it");
        }
    }

    fn stand(&self, session: &dyn Session, pulse: &Pulse) {
        let membership = Membership { worker: session.worker(), steady_since: pulse.steady_since() };
        self.engine.runs.stand(Standing::Member(membership));
    }
}

/// Ticks in this rhythm, and never twice in a row for having been late.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
