//! Grouping: many callers, one write.
//!
//! Whatever arrives while one batch is being written makes up the next, so a lone request is not delayed and a
//! crowd shares its commit. The write runs in a task of its own: a caller that goes away (a dropped HTTP request)
//! never abandons a statement half-way. A write that panics costs its own batch an answer, and nobody else.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::panics;

/// Hands items to writers that take them in batches.
pub struct Batcher<I, O> {
    items: mpsc::Sender<Entry<I, O>>,
}

type Entry<I, O> = (I, oneshot::Sender<Result<O, Unanswered>>);

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

/// Why an item has no answer. Whether it was written is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The writers are gone: the process is shutting down.
    #[error("shutting down")]
    Closed,
    /// The write of its batch panicked; what it said.
    #[error("{0}")]
    Panicked(String),
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts `writers` tasks, each writing at most `max` items at a time. `write` answers one output per item, in
    /// order. The tasks end when every clone of the batcher has been dropped and the items are written.
    pub fn spawn<F, Fut>(writers: usize, max: usize, write: F) -> Self
    where
        F: Fn(Vec<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<O>> + Send,
    {
        let (items, queue) = mpsc::channel::<Entry<I, O>>(max * writers * 4);
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
                    // A caller that went away is no concern of the others.
                    match panics::caught(async { write(batch).await }).await {
                        Ok(outputs) => outputs.into_iter().zip(replies).for_each(|(o, reply)| _ = reply.send(Ok(o))),
                        Err(why) => {
                            tracing::error!(why, items = replies.len(), "a write panicked");
                            let answer = || Err(Unanswered::Panicked(why.clone()));
                            replies.into_iter().for_each(|reply| _ = reply.send(answer()));
                        }
                    }
                }
            });
        }
        Self { items }
    }

    /// Waits for room, then for the batch that `item` is part of.
    pub async fn submit(&self, item: I) -> Result<O, Unanswered> {
        let (reply, output) = oneshot::channel();
        self.items.send((item, reply)).await.map_err(|_| Unanswered::Closed)?;
        output.await.map_err(|_| Unanswered::Closed)?
    }
}

/// Divides items, in order, so that no part has more than `most` bytes, unless a single item has.
pub fn parts<T>(items: &[T], most: usize, bytes: impl Fn(&T) -> usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        let size = bytes(item);
        if index > start && sum + size > most {
            parts.push(start..index);
            (start, sum) = (index, 0);
        }
        sum += size;
    }
    if start < items.len() {
        parts.push(start..items.len());
    }
    parts
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
    #[tokio::test]
    async fn a_write_that_panics_answers_its_batch_and_the_writer_goes_on() {
        let batcher = Batcher::spawn(1, 100, |batch: Vec<u32>| async move {
            assert!(!batch.contains(&13), "unlucky");
            batch
        });
        let (a, b) = tokio::join!(batcher.submit(12), batcher.submit(13));
        let unlucky = Err(Unanswered::Panicked("a fault in this program: unlucky".into()));
        assert_eq!((a, b), (unlucky.clone(), unlucky));
        assert_eq!(batcher.submit(14).await, Ok(14));
    }

    #[test]
    fn a_part_is_bounded_in_bytes_unless_one_item_is_longer() {
        let divided = |sizes: &[usize]| parts(sizes, 10, |size| *size);
        assert_eq!(divided(&[5, 5, 1, 11, 1, 1]), [0..2, 2..3, 3..4, 4..6]);
        assert_eq!(divided(&[0, 11]), [0..1, 1..2]);
        assert!(divided(&[]).is_empty());
    }
}
