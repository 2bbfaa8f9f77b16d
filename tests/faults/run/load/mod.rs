//! The load of a run: clients that submit jobs all the time, and look at some of them.

mod batch;
mod client;
mod wish;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offload_common::testing::within;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::batch::PromisedBatch;
use self::client::{Ask, Body, Client};
pub(crate) use self::wish::{ASKED_TO_FAIL, HOG, Wish};
use super::journal::Journal;
use crate::support::{Fleet, pass};

/// More than this many submissions at a time wait for an answer only while everything is away.
const MOST_AT_ONCE: usize = 300;

/// The share of jobs that are submitted once more although they were accepted, as after an answer that was lost.
const REPEATED: f64 = 0.03;

/// The share of jobs that run after others: after at most so many of the last that were accepted.
const CHAINED: f64 = 0.06;
const MOST_PARENTS: usize = 3;
const LAST: usize = 60;

/// The pause between two batches.
const BATCH: Duration = Duration::from_millis(1500);

/// The pause between two looks at a job.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that was asked for has to be accepted this long after all faults are over.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(60);

/// One request to submit a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) api: usize,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 202.
    Accepted,
    /// 503 with Retry-After.
    Unavailable,
    /// Another answer, which is a finding by itself.
    Wrong,
    /// None.
    NoAnswer,
}

/// A job that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) wish: Wish,
    pub(crate) id: String,
    /// Whether its cancellation was asked for, and a client told that it would be.
    pub(crate) cancelled: bool,
}

/// A final job as a client has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) id: String,
    pub(crate) job: Value,
}

#[derive(Default)]
pub(crate) struct Shared {
    attempts: Mutex<Vec<Attempt>>,
    promises: Mutex<Vec<Promise>>,
    batches: Mutex<Vec<PromisedBatch>>,
    sightings: Mutex<Vec<Sighting>>,
}

impl Shared {
    fn attempted(&self, attempt: Attempt) {
        lock(&self.attempts).push(attempt);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clients.
pub(crate) struct Load {
    client: Arc<Client>,
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    wishes: AtomicU64,
    hogs: AtomicBool,
    submitting: TaskTracker,
    /// Where ends are told of.
    callback: Value,
    apis: usize,
    seed: u64,
}

impl Load {
    /// Clients of a fleet's APIs.
    pub(crate) fn new(fleet: &Fleet, journal: Arc<Journal>, callback: Value, seed: u64) -> Arc<Self> {
        let client = Arc::new(Client::new(fleet.apis().to_vec(), journal.clone()));
        let (wishes, hogs) = (AtomicU64::new(0), AtomicBool::new(false));
        let (shared, submitting, apis) = (Arc::default(), TaskTracker::new(), fleet.apis().len());
        Arc::new(Self { client, journal, shared, wishes, hogs, submitting, callback, apis, seed })
    }

    /// Submits so many jobs per second until `stop` fires, and looks at some of them.
    pub(crate) async fn run(self: Arc<Self>, rate: f64, stop: CancellationToken) {
        let mut random = StdRng::seed_from_u64(self.seed ^ 0x10ad);
        let looking = tokio::spawn(self.clone().look(stop.clone()));
        let batching = tokio::spawn(self.clone().submit_batches(stop.clone()));
        let started = self.journal.timeline.now();
        for n in 1_u32.. {
            let due = started + Duration::from_secs_f64(f64::from(n) / rate);
            if stop.run_until_cancelled(self.journal.timeline.until(due)).await.is_none() {
                break;
            }
            let (key, again) = (self.next_key(), random.random_bool(REPEATED));
            let wish = Wish::draw(key, &self.callback, &mut random);
            let wish = if random.random_bool(CHAINED) { self.chained(wish, &mut random) } else { wish };
            if self.submitting.len() < MOST_AT_ONCE {
                self.submitting.spawn(self.clone().fulfil(wish, again));
            }
        }
        looking.await.expect("it does not panic");
        batching.await.expect("it does not panic");
    }

    /// Has a job run after some that were accepted, each of which may have ended, wait, or wait for others itself.
    fn chained(&self, wish: Wish, random: &mut StdRng) -> Wish {
        let promises = lock(&self.shared.promises);
        let last = promises.iter().rev().filter(|promise| promise.wish.kind != HOG).take(LAST);
        let count = random.random_range(1..=MOST_PARENTS);
        let parents = last.map(|promise| promise.id.clone()).sample(random, count);
        if parents.is_empty() {
            return wish;
        }
        self.journal.count("jobs that run after others");
        wish.behind(parents, random.random())
    }

    /// Whether a job was submitted that kills its workers.
    pub(crate) fn has_hogs(&self) -> bool {
        self.hogs.load(Ordering::Relaxed)
    }

    /// Submits such a job, and answers its id.
    pub(crate) async fn submit_hog(&self) -> String {
        self.hogs.store(true, Ordering::Relaxed);
        let wish = Wish::hog(self.next_key());
        self.submit(wish).await
    }

    fn next_key(&self) -> String {
        format!("{:x}-{}", self.seed, self.wishes.fetch_add(1, Ordering::Relaxed))
    }

    async fn submit(&self, wish: Wish) -> String {
        let api = rand::random_range(0..self.apis);
        let id = self.client.submit(api, "/v1/jobs", asked(&wish), |attempt| self.shared.attempted(attempt)).await;
        lock(&self.shared.promises).push(Promise { wish, id: id.clone(), cancelled: false });
        id
    }

    /// What one client does with one job.
    async fn fulfil(self: Arc<Self>, wish: Wish, again: bool) {
        let id = self.submit(wish.clone()).await;
        if again {
            let api = rand::random_range(0..self.apis);
            let note = |attempt| self.shared.attempted(attempt);
            let repeated = self.client.submit(api, "/v1/jobs", asked(&wish), note).await;
            if repeated != id {
                self.journal.finding(format!("key {} names both job {id} and job {repeated}", wish.key));
            }
        }
        if let Some(after) = wish.cancel_after {
            pass(after).await;
            self.cancel(&id).await;
        }
    }

    /// Submits a small batch now and again until `stop` fires.
    async fn submit_batches(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(pass(BATCH)).await.is_some() {
            if self.submitting.len() < MOST_AT_ONCE {
                self.submitting.spawn(self.clone().submit_batch());
            }
        }
    }

    async fn submit_batch(self: Arc<Self>) {
        let (api, key, (lines, jobs)) =
            (rand::random_range(0..self.apis), self.next_key(), batch::draw(&self.callback));
        let ask = Ask { key: Some(&key), body: Some(Body::Lines(&lines)) };
        // What intake owes is judged by the single jobs.
        let id = self.client.submit(api, "/v1/batches", ask, |_| ()).await;
        lock(&self.shared.batches).push(PromisedBatch { id, jobs });
    }

    /// Makes a schedule that fires every second. Answers its path.
    pub(crate) async fn schedule(&self) -> String {
        let body = batch::every_second();
        let ask = Ask { body: Some(Body::Json(&body)), ..Ask::default() };
        let made = self.client.until_answered(0, Method::POST, "/v1/schedules", ask).await;
        let id = made.body["id"].as_str().unwrap_or_else(|| panic!("{}: {}", made.status, made.body));
        format!("/v1/schedules/{id}")
    }

    /// Has a schedule fire no more.
    pub(crate) async fn pause(&self, schedule: &str) {
        let paused = self.client.until_answered(0, Method::POST, &format!("{schedule}/pause"), Ask::default()).await;
        if paused.status != StatusCode::OK {
            self.journal.finding(format!("pausing {schedule} was answered {}: {}", paused.status, paused.body));
        }
    }

    async fn cancel(&self, id: &str) {
        // Noted first: a request without an answer may have been heard.
        lock(&self.shared.promises)
            .iter_mut()
            .filter(|promise| promise.id == id)
            .for_each(|promise| promise.cancelled = true);
        let answer =
            self.client.until_answered(0, Method::POST, &format!("/v1/jobs/{id}/cancel"), Ask::default()).await;
        // 409: it had ended.
        if answer.status != StatusCode::ACCEPTED && answer.status != StatusCode::CONFLICT {
            self.journal.finding(format!("cancelling {id} was answered {}: {}", answer.status, answer.body));
        }
    }

    /// Looks at accepted jobs, and remembers those that it saw final.
    async fn look(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(pass(LOOK)).await.is_some() {
            let promises = lock(&self.shared.promises).len();
            if promises == 0 {
                continue;
            }
            let id = lock(&self.shared.promises)[rand::random_range(0..promises)].id.clone();
            let (api, path) = (rand::random_range(0..self.apis), format!("/v1/jobs/{id}"));
            match self.client.ask(api, Method::GET, &path, Ask::default()).await {
                Some(answer) if answer.status == StatusCode::OK && is_final(&answer.body) => {
                    lock(&self.shared.sightings).push(Sighting { id, job: answer.body });
                }
                Some(answer) if ![StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status) => {
                    self.journal.finding(format!("job {id} was answered {}: {}", answer.status, answer.body));
                }
                _ => {}
            }
        }
    }

    /// Once all faults are over: waits until everything that was asked for is accepted, and what was to be cancelled has
    /// been asked to be.
    pub(crate) async fn settled(&self) {
        self.submitting.close();
        let settled = within(ACCEPTED_WITHIN, async || self.submitting.is_empty().then_some(())).await;
        if settled.is_none() {
            self.journal.finding(format!("{} submissions or cancellations get no answer", self.submitting.len()));
        }
    }

    /// Every request to submit a job.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        lock(&self.shared.attempts).clone()
    }

    /// Every job that was accepted.
    pub(crate) fn promises(&self) -> Vec<Promise> {
        lock(&self.shared.promises).clone()
    }

    /// Every batch that was accepted.
    pub(crate) fn batches(&self) -> Vec<PromisedBatch> {
        lock(&self.shared.batches).clone()
    }

    /// What clients saw of jobs that were final then.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        lock(&self.shared.sightings).clone()
    }

    /// How a job looks to a client now.
    pub(crate) async fn job(&self, id: &str) -> Value {
        self.client.until_answered(0, Method::GET, &format!("/v1/jobs/{id}"), Ask::default()).await.body
    }
}

/// The request of a wish.
fn asked(wish: &Wish) -> Ask<'_> {
    Ask { key: Some(&wish.key), body: Some(Body::Json(&wish.body)) }
}

/// Whether a job has come to its end.
pub(crate) fn is_final(job: &Value) -> bool {
    ["succeeded", "failed", "cancelled"].iter().any(|state| job["state"] == **state)
}
