//! A consumer that comes back: session after session, with events in between that say so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::link::{BREATH, LONGEST_PAUSE, Link};
use super::publish::PublishQueue;
use super::session::{Command, End, Session};
use super::topology::Topology;
use crate::broker::{Consumer, Event, Settle, Tag};
use crate::job::Lane;
use crate::{panics, retry};

/// Events that wait to be read at most; beyond, deliveries stay with the broker.
const BACKLOG: usize = 256;

/// Numbers the sessions of this process, so that a tag names its channel.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// What a consumer needs.
pub(super) struct Subscription {
    pub(super) link: Arc<Link>,
    pub(super) topology: Topology,
    pub(super) lanes: Vec<Lane>,
    pub(super) prefetch: u16,
    pub(super) publish: PublishQueue,
    /// Counts the messages that were set aside.
    pub(super) parked: Arc<AtomicU64>,
}

impl Subscription {
    /// Starts consuming in the background, until the consumer is closed or dropped or `closing` fires.
    pub(super) fn start(self, closing: &CancellationToken, tasks: &TaskTracker) -> Box<dyn Consumer> {
        let (sender, events) = mpsc::channel(BACKLOG);
        let (stop, close, settler) = (CancellationToken::new(), closing.child_token(), Arc::new(Settler::default()));
        let task = tasks.spawn(self.keep_consuming(Some(sender), settler.clone(), stop.clone(), close.clone()));
        Box::new(RabbitConsumer { events, settler, stop, close: close.drop_guard(), task })
    }

    async fn keep_consuming(
        self,
        mut events: Option<mpsc::Sender<Event>>,
        settler: Arc<Settler>,
        stop: CancellationToken,
        close: CancellationToken,
    ) {
        loop {
            let opening = retry::until_reached("the job queues", LONGEST_PAUSE, || self.open());
            let mut session = tokio::select! {
                biased;
                () = close.cancelled() => return,
                () = stop.cancelled() => return,
                session = opening => session,
            };
            if !tell(events.as_ref(), Event::Connected).await {
                return;
            }
            let mut commands = settler.begin(session.generation());
            let running = session.run(&mut events, &mut commands, &stop, &close);
            let end = panics::caught(running).await.unwrap_or_else(|why| {
                session.fail();
                End::Lost(why)
            });
            settler.end();
            let End::Lost(why) = end else { return };
            tracing::warn!(why, "consuming was interrupted; what is unsettled will be delivered again");
            if !tell(events.as_ref(), Event::Disconnected).await {
                return;
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    async fn open(&self) -> Result<Session, String> {
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        let live = self.link.live().await;
        let opened = panics::caught(Session::open(self, live.clone(), generation)).await;
        opened.inspect_err(|_| live.fail())?.map_err(|error| error.to_string())
    }
}

/// Whether anybody reads what is told.
async fn tell(events: Option<&mpsc::Sender<Event>>, event: Event) -> bool {
    match events {
        Some(events) => events.send(event).await.is_ok(),
        None => false,
    }
}

/// The settling side, whichever session is on.
#[derive(Default)]
struct Settler(Mutex<Option<(u64, mpsc::UnboundedSender<Command>)>>);

impl Settler {
    fn begin(&self, generation: u64) -> mpsc::UnboundedReceiver<Command> {
        let (sender, commands) = mpsc::unbounded_channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, sender));
        commands
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn say(&self, generation: u64, command: Command) {
        if let Some((current, commands)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner)
            && *current == generation
        {
            // A session that has just ended takes nothing more, and its tags are void.
            let _ = commands.send(command);
        }
    }
}

impl Settle for Settler {
    fn ack(&self, tag: Tag) {
        self.say(tag.generation, Command::Ack(tag.number));
    }

    fn requeue(&self, tag: Tag) {
        self.say(tag.generation, Command::Requeue(tag.number));
    }
}

struct RabbitConsumer {
    events: mpsc::Receiver<Event>,
    settler: Arc<Settler>,
    stop: CancellationToken,
    close: DropGuard,
    task: JoinHandle<()>,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    fn settle(&self) -> Arc<dyn Settle> {
        self.settler.clone()
    }

    async fn stop(&mut self) {
        self.stop.cancel();
    }

    async fn close(self: Box<Self>) {
        let Self { close, task, events, .. } = *self;
        drop((close, events));
        // It ends within the time that closing a channel may take, or with the connection.
        let _ = task.await;
    }
}
