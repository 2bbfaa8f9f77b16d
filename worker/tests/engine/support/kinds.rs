//! Kinds whose handlers are given by the test.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use offload_common::RawJson;
use offload_common::job::JobId;
use offload_common::kind::{Effects, KindSpec};
use offload_common::testing::factory;
use offload_worker::kind::{AnyKind, Context, JobError};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, mpsc};

type Handler = dyn for<'a> Fn(&'a Context, Value) -> BoxFuture<'a, Result<Value, JobError>> + Send + Sync;

struct Scripted {
    spec: KindSpec,
    handler: Box<Handler>,
}

#[async_trait]
impl AnyKind for Scripted {
    fn spec(&self) -> &KindSpec {
        &self.spec
    }

    async fn run(&self, job: &Context, payload: &RawJson) -> Result<RawJson, JobError> {
        let payload = serde_json::from_str(payload.get()).map_err(|e| JobError::fail("payload", e))?;
        let result = (self.handler)(job, payload).await?;
        serde_json::value::to_raw_value(&result).map_err(|e| JobError::fail("result", e))
    }
}

/// The kind of the jobs that the factory makes, with this handler.
pub(crate) fn kind<F>(effects: Effects, handler: F) -> Arc<dyn AnyKind>
where
    F: for<'a> Fn(&'a Context, Value) -> BoxFuture<'a, Result<Value, JobError>> + Send + Sync + 'static,
{
    Arc::new(Scripted { spec: KindSpec { effects, ..factory::kind(factory::KIND) }, handler: Box::new(handler) })
}

/// What a gate saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A handler started; the attempt that it is.
    Started(JobId, u32),
    /// A handler was dropped before it came to its end.
    Dropped(JobId),
}

/// Handlers that tell when they start and wait to be let through, one by one. They answer their payload.
pub(crate) struct Gate {
    seen: Mutex<mpsc::UnboundedReceiver<Seen>>,
    tell: mpsc::UnboundedSender<Seen>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        Self { seen: Mutex::new(seen), tell, open: Arc::new(Semaphore::new(0)) }
    }

    /// The kind whose handlers stop at this gate.
    pub(crate) fn kind(&self, effects: Effects) -> Arc<dyn AnyKind> {
        let (tell, open) = (self.tell.clone(), self.open.clone());
        kind(effects, move |job, payload| {
            let (tell, open) = (tell.clone(), open.clone());
            Box::pin(async move {
                tell.send(Seen::Started(job.id, job.attempt)).expect("the test listens");
                let mut inside = Inside { job: job.id, tell: Some(tell) };
                open.acquire().await.expect("never closed").forget();
                inside.tell = None;
                Ok(payload)
            })
        })
    }

    /// The next handler that starts.
    pub(crate) async fn started(&self) -> (JobId, u32) {
        match self.next().await {
            Seen::Started(job, attempt) => (job, attempt),
            Seen::Dropped(job) => panic!("expected a start, and {job} was dropped"),
        }
    }

    /// The next handler that is dropped.
    pub(crate) async fn dropped(&self) -> JobId {
        match self.next().await {
            Seen::Dropped(job) => job,
            Seen::Started(job, _) => panic!("expected a drop, and {job} started"),
        }
    }

    /// The next handler that is dropped and the next that starts, in whichever order.
    pub(crate) async fn dropped_and_started(&self) -> (JobId, JobId) {
        match (self.next().await, self.next().await) {
            (Seen::Dropped(dropped), Seen::Started(started, _))
            | (Seen::Started(started, _), Seen::Dropped(dropped)) => (dropped, started),
            other => panic!("expected one drop and one start, not {other:?}"),
        }
    }

    /// Lets so many handlers through.
    pub(crate) fn let_through(&self, handlers: usize) {
        self.open.add_permits(handlers);
    }

    /// Whether nothing happened that the test has not taken note of.
    pub(crate) async fn is_quiet(&self) -> bool {
        self.seen.lock().await.try_recv().is_err()
    }

    async fn next(&self) -> Seen {
        let next = async { self.seen.lock().await.recv().await.expect("it holds a sender itself") };
        let patience = std::time::Duration::from_secs(30);
        tokio::time::timeout(patience, next).await.expect("something happens at the gate")
    }
}

struct Inside {
    job: JobId,
    tell: Option<mpsc::UnboundedSender<Seen>>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(tell) = &self.tell {
            // The test may be over.
            let _ = tell.send(Seen::Dropped(self.job));
        }
    }
}
