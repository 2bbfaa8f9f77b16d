//! Following what is read as a whole: one reader in a process for each thing that is followed, however many follow it.
//!
//! What a follower has not fetched is overtaken by what is newer: it sees the thing as it is, not each step on the way.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offload_common::clock;
use offload_common::store::{self, Store};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The pause between two looks at a thing: while it moves, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looking takes a tenth of the time at most: after an answer that took long, the pause is this many times as long.
const RELIEF: u32 = 10;

/// Things of one sort that are read at once. However many are followed, other requests find connections to the database.
const READS_AT_ONCE: usize = 4;

/// Something that can be followed.
pub(crate) trait Watched: Send + Sync + Sized + 'static {
    /// What names it.
    type Key: Clone + Debug + Eq + Hash + Send + Sync + 'static;

    /// Reads it, by one who knows it as it was; `None` where it is gone.
    fn read(
        store: &dyn Store,
        key: &Self::Key,
        known: Option<&Self>,
    ) -> impl Future<Output = store::Result<Option<Self>>> + Send;

    /// Whether this is to be told to those who know that.
    fn is_news_to(&self, known: &Self) -> bool;

    /// Whether it will never change again.
    fn is_over(&self) -> bool;
}

/// A thing as it was read last; nothing before that.
pub(crate) type Latest<T> = watch::Receiver<Option<Arc<T>>>;

/// Its other end.
type Telling<T> = watch::Sender<Option<Arc<T>>>;

/// What is followed, by its name.
type Register<T> = HashMap<<T as Watched>::Key, Telling<T>>;

/// The things of one sort that are followed here.
pub(crate) struct Watches<T: Watched>(Arc<Inner<T>>);

struct Inner<T: Watched> {
    store: Arc<dyn Store>,
    patience: Duration,
    stop: CancellationToken,
    turns: Semaphore,
    watched: Mutex<Register<T>>,
}

impl<T: Watched> Watches<T> {
    pub(crate) fn new(store: Arc<dyn Store>, patience: Duration, stop: CancellationToken) -> Self {
        let turns = Semaphore::new(READS_AT_ONCE);
        Self(Arc::new(Inner { store, patience, stop, turns, watched: Mutex::default() }))
    }

    /// Follows a thing until the answer is dropped. What is known of it is only read again after a pause. The sender is gone
    /// once it is over, or it is gone itself.
    pub(crate) fn follow(&self, key: T::Key, known: Option<T>) -> Latest<T> {
        let mut watched = self.0.watched();
        if let Some(sender) = watched.get(&key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(known.map(Arc::new));
        watched.insert(key.clone(), sender.clone());
        tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(self.0.clone().read(key, sender)));
        receiver
    }
}

impl<T: Watched> Inner<T> {
    fn watched(&self) -> MutexGuard<'_, Register<T>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a thing again and again, until it is over or gone, or nobody follows it any more.
    async fn read(self: Arc<Self>, key: T::Key, sender: Telling<T>) {
        let mut pause = FIRST_PAUSE;
        let mut rest = if sender.borrow().is_some() { pause } else { Duration::ZERO };
        loop {
            sleep(rest).await;
            if self.is_left(&key, &sender) {
                return;
            }
            let asked = clock::instant();
            pause = (pause * 2).min(LONGEST_PAUSE);
            let known = sender.borrow().clone();
            let read = async {
                let _turn = self.turns.acquire().await;
                T::read(&*self.store, &key, known.as_deref()).await
            };
            match timeout(self.patience, read).await {
                Ok(Ok(Some(thing))) => {
                    let over = thing.is_over();
                    if known.is_none_or(|known| thing.is_news_to(&known)) {
                        pause = FIRST_PAUSE;
                        sender.send_replace(Some(Arc::new(thing)));
                    }
                    if over {
                        break;
                    }
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => tracing::debug!(%error, ?key, "what is followed could not be read"),
                Err(_) => tracing::debug!(?key, "what is followed could not be read in time"),
            }
            rest = pause.max(asked.elapsed() * RELIEF);
        }
        self.watched().remove(&key);
    }

    /// Forgets a thing that nobody follows; nobody can begin to in between.
    fn is_left(&self, key: &T::Key, sender: &Telling<T>) -> bool {
        let mut watched = self.watched();
        let left = sender.receiver_count() == 0;
        if left {
            watched.remove(key);
        }
        left
    }
}

#[cfg(test)]
impl<T: Watched> Watches<T> {
    /// How many things are read.
    pub(crate) fn count(&self) -> usize {
        self.0.watched().len()
    }
}
