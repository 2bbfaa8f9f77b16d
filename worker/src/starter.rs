//! Starts what has been delivered: as many as there are free slots, each validated against its row right before.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;
use std::time::Duration;

use offload_common::job::{JobId, State, Verdict, judge};
use offload_common::kind::Effects;
use offload_common::retry;
use offload_common::store::{Candidate, Error};
use offload_common::{clock, failpoint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::claiming::{self, Ready};
use crate::delivery::{Inbox, Ticket};
use crate::engine::{Engine, Place};
use crate::run::{Run, Standing};

// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Starts jobs from an inbox.
pub(crate) struct Starter {
    pub(crate) engine: Arc<Engine>,
    pub(crate) inbox: Arc<Inbox>,
}

/// A ticket with the slot that it is to run in.
struct Entrant {
    ticket: Ticket,
    slot: OwnedSemaphorePermit,
}

impl Starter {
    /// Starts jobs until `drain` fires. What has not started by then is given back.
    pub(crate) async fn run(&self, drain: &CancellationToken) {
        loop {
            let batch = tokio::select! {
                batch = self.next() => batch,
                () = drain.cancelled() => break,
            };
            let rows = tokio::select! {
                rows = self.fetch(&batch) => rows,
                () = drain.cancelled() => break,
            };
            self.start(batch, rows, drain);
        }
    }

    /// Waits until something can start, and takes as much as there are slots for.
    async fn next(&self) -> Vec<Entrant> {
        loop {
            self.engine.runs.member().await;
            let suspect = tokio::select! {
                () = self.inbox.ready() => false,
                _ = self.engine.suspects.acquire(), if self.inbox.has_parked() => true,
            };
            let Ok(slot) = self.engine.slots.clone().acquire_owned().await else { continue };
            let first = if suspect { self.inbox.unpark() } else { self.inbox.take() };
            let mut batch = HashMap::new();
            enter(&mut batch, first.and_then(|ticket| self.engine.runs.adopt(ticket)), slot);
            while let Ok(slot) = self.engine.slots.clone().try_acquire_owned() {
                let Some(ticket) = self.inbox.take() else { break };
                enter(&mut batch, self.engine.runs.adopt(ticket), slot);
            }
            if !batch.is_empty() {
                let mut batch: Vec<_> = batch.into_values().collect();
                batch.sort_by_key(|entrant| entrant.ticket.arrived);
                return batch;
            }
        }
    }

    /// Reads the rows. While the database is away, everything waits here.
    async fn fetch(&self, batch: &[Entrant]) -> Vec<Option<Candidate>> {
        failpoint::reach("deliver.before");
        let ids: Vec<JobId> = batch.iter().map(|entrant| entrant.ticket.pointer.id).collect();
        let store = &self.engine.store;
        let fetch = |ids: Vec<JobId>| async move {
            retry::until_reached("reading jobs to start", LONGEST_PAUSE, async || match store.fetch(&ids).await {
                Err(Error::Corrupt(why)) => Ok(Err(why)),
                other => other.map(Ok),
            })
            .await
        };
        if let Ok(rows) = fetch(ids.clone()).await {
            return rows;
        }
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(fetch(vec![id]).await.unwrap_or_else(|why| {
                tracing::error!(job.id = %id, why, "this job cannot be read; it stays in the database as it is");
                vec![None]
            }));
        }
        rows
    }

    /// Starts those of the batch whose rows say so.
    fn start(&self, batch: Vec<Entrant>, rows: Vec<Option<Candidate>>, drain: &CancellationToken) {
        let Standing::Member(membership) = self.engine.runs.standing() else {
            return self.inbox.put_back(batch.into_iter().map(|entrant| entrant.ticket).collect());
        };
        let (mut to_claim, mut declined) = (Vec::new(), Vec::new());
        for (entrant, row) in batch.into_iter().zip(rows) {
            match self.judge(entrant, row, &mut declined) {
                Some((ready, Verdict::ClaimFirst)) => to_claim.push(ready),
                Some((ready, _)) => {
                    let Ready { job, kind, ticket, place } = ready;
                    let run = Run::lazy(job.id, job.epoch, membership.worker, Some(ticket.receipt));
                    self.engine.launch(job, kind, run, place);
                }
                None => {}
            }
        }
        // A row that somebody holds locked holds up these, and nobody's start.
        let (engine, tasks) = (&self.engine, &self.engine.tasks);
        if !declined.is_empty() {
            tasks.spawn(claiming::decline(engine.clone(), declined));
        }
        if !to_claim.is_empty() {
            tasks.spawn(claiming::claim(engine.clone(), membership.worker, to_claim, drain.clone()));
        }
    }

    /// What is to be done with one entrant. One that is not to start is settled, parked, or added to `declined`.
    fn judge(&self, entrant: Entrant, row: Option<Candidate>, declined: &mut Vec<Ticket>) -> Option<(Ready, Verdict)> {
        let Entrant { ticket, slot } = entrant;
        let kind = row.as_ref().and_then(|job| self.engine.kinds.get(&job.kind));
        let repeatable = kind.is_some_and(|kind| kind.spec().effects == Effects::Repeatable);
        let stale = ticket.is_stale(clock::instant());
        let verdict = judge(row.as_ref(), ticket.pointer.epoch, stale, repeatable);
        let (job, kind) = match (verdict, row, kind) {
            (Verdict::Drop, row, _) => {
                if ticket.redelivered && row.is_some_and(|job| job.state == State::Running) {
                    // Its worker lost the message; perhaps it is gone.
                    self.engine.reap.notify_one();
                }
                ticket.receipt.done();
                return None;
            }
            (_, Some(job), Some(kind)) => (job, kind.clone()),
            (_, job, _) => {
                let kind = job.map(|job| job.kind).unwrap_or_default();
                tracing::debug!(job.id = %ticket.pointer.id, kind, "not a kind that this worker offers: handed back");
                declined.push(ticket);
                return None;
            }
        };
        let mut place = Place { _slot: slot, _suspect: None };
        if job.is_suspect() {
            match self.engine.suspects.clone().try_acquire_owned() {
                Ok(permit) => place._suspect = Some(permit),
                Err(_) => {
                    declined.extend(self.inbox.park(ticket).err());
                    return None;
                }
            }
        }
        Some((Ready { job, kind, ticket, place }, verdict))
    }
}

/// Adds a ticket to a batch. Of two for one job the one that was queued later stands for both.
fn enter(batch: &mut HashMap<JobId, Entrant>, ticket: Option<Ticket>, slot: OwnedSemaphorePermit) {
    let Some(ticket) = ticket else { return };
    match batch.entry(ticket.pointer.id) {
        Entry::Vacant(vacant) => _ = vacant.insert(Entrant { ticket, slot }),
        Entry::Occupied(mut entered) if entered.get().ticket.pointer.epoch < ticket.pointer.epoch => {
            entered.insert(Entrant { ticket, slot }).ticket.receipt.done();
        }
        Entry::Occupied(_) => ticket.receipt.done(),
    }
}
