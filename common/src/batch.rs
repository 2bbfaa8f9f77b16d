//! Grouping: many callers, one write.
//!
//! Whatever arrives while one batch is being written makes up the next, so a lone request is not delayed and a
//! crowd shares its commit. The write runs in a task of its own: a caller that goes away (a dropped HTTP request)
//! never abandons a statement half-way.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

/// Hands items to writers that take them in batches.
pub struct Batcher<I, O> {
    items: mpsc::Sender<(I, oneshot::Sender<O>)>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

/// The writers are gone: the process is shutting down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("shutting down")]
pub struct Closed;

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts `writers` tasks, each writing at most `max` items at a time. `write` answers one output per item, in
    /// order. The tasks end when every clone of the batcher has been dropped and the items are written.
    pub fn spawn<F, Fut>(writers: usize, max: usize, write: F) -> Self
    where
        F: Fn(Vec<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<O>> + Send,
    {
        let (items, queue) = mpsc::channel::<(I, oneshot::Sender<O>)>(max * writers * 4);
        let (queue, write) = (Arc::new(Mutex::new(queue)), Arc::new(write));
        for _ in 0..writers {
            let (queue, write) = (queue.clone(), write.clone());
            tokio::spawn(async move {
                loop {
                    let mut taken = Vec::new();
                    if queue.lock().await.recv_many(&mut taken, max).await == 0 {
                        break;
                    }
                    let (batch, replies): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
                    for (output, reply) in write(batch).await.into_iter().zip(replies) {
                        // A caller that went away is no concern of the others.
                        let _ = reply.send(output);
                    }
                }
            });
        }
        Self { items }
    }

    /// Waits for room, then for the batch that `item` is part of.
    pub async fn submit(&self, item: I) -> Result<O, Closed> {
        let (reply, output) = oneshot::channel();
        self.items.send((item, reply)).await.map_err(|_| Closed)?;
        output.await.map_err(|_| Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn what_arrives_during_a_write_makes_up_the_next_batch() {
        let (entered, mut sizes) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let batcher = Batcher::spawn(1, 100, move |batch: Vec<u32>| {
            let (entered, held) = (entered.clone(), held.clone());
            async move {
                entered.send(batch.len()).expect("the test listens");
                held.acquire().await.expect("open").forget();
                batch.into_iter().map(|n| n * 2).collect()
            }
        });
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(1).await }
        });
        assert_eq!(sizes.recv().await, Some(1));
        // `join!` polls in order: all four are handed over before the gate opens.
        let (rest, ()) = tokio::join!(join_all((2..=5).map(|n| batcher.submit(n))), async { gate.add_permits(2) });
        assert_eq!(first.await.expect("joined").expect("written"), 2);
        assert_eq!(rest.into_iter().map(|o| o.expect("written")).collect::<Vec<_>>(), [4, 6, 8, 10]);
        assert_eq!(sizes.recv().await, Some(4));
    }
}
