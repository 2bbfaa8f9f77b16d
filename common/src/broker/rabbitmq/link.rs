//! One connection, kept up: whoever needs it waits for [`Link::live`], works on it until it is lost, and comes back.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::connect::{Live, connect};
use crate::broker::Health;
use crate::{panics, retry};

/// The longest pause between attempts to connect.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The pause after a loss, so that whatever is accepted and dropped at once is not tried in a tight loop.
pub(super) const BREATH: Duration = Duration::from_millis(200);
/// Between two looks at a connection's state, for the endings that the client library does not tell of.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that comes back.
pub(super) struct Link {
    state: Arc<watch::Sender<State>>,
    close: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct State {
    live: Option<Arc<Live>>,
    health: Health,
}

impl State {
    /// For good.
    fn closed() -> Self {
        Self { live: None, health: Health::Down("it is closed".into()) }
    }
}

/// What happens to a connection.
#[derive(Debug)]
enum Change {
    Connected,
    Blocked(String),
    Unblocked,
    Lost(String),
}

/// Whether publishes make sense after a change.
fn after(change: &Change, before: &Health, connected: bool) -> Health {
    match change {
        Change::Connected => Health::Up,
        Change::Lost(why) => Health::Down(why.clone()),
        Change::Blocked(why) if connected => Health::Down(format!("blocked by an alarm of the broker ({why})")),
        Change::Unblocked if connected => Health::Up,
        Change::Blocked(_) | Change::Unblocked => before.clone(),
    }
}

impl Link {
    /// Starts connecting, and goes on until closed. `name` is what the broker's own tools show.
    pub(super) fn open(address: Address, name: String) -> Self {
        let state = State { live: None, health: Health::Down("not connected yet".into()) };
        let (state, close) = (Arc::new(watch::Sender::new(state)), CancellationToken::new());
        let (kept, closing) = (state.clone(), close.clone());
        let task = tokio::spawn(async move {
            while let Err(why) = panics::caught(keep_up(&address, &name, &kept, &closing)).await {
                tracing::error!(connection = name, why, "keeping up a connection was interrupted");
                tokio::time::sleep(BREATH).await;
            }
        });
        Self { state, close, task }
    }

    pub(super) fn health(&self) -> Health {
        self.state.borrow().health.clone()
    }

    /// The connection, once there is one.
    pub(super) async fn live(&self) -> Arc<Live> {
        self.wait(|state| state.live.is_some()).await
    }

    /// The connection, once there is one that takes publishes.
    pub(super) async fn publishable(&self) -> Arc<Live> {
        self.wait(|state| state.health == Health::Up && state.live.is_some()).await
    }

    /// Waits until publishing makes no sense, and answers why.
    pub(super) async fn unpublishable(&self) -> String {
        let mut state = self.state.subscribe();
        match state.wait_for(|state| state.health != Health::Up).await.map(|state| state.health.clone()) {
            Ok(Health::Down(why)) => why,
            Ok(Health::Up) | Err(_) => "closed".into(),
        }
    }

    async fn wait(&self, condition: impl Fn(&State) -> bool) -> Arc<Live> {
        let mut state = self.state.subscribe();
        let found = state.wait_for(condition).await.ok().and_then(|state| state.live.clone());
        match found {
            Some(live) => live,
            // The link is closed for good. Everything that waits here is being stopped by its owner.
            None => std::future::pending().await,
        }
    }

    /// Says goodbye to the broker; hangs up where that takes longer than `patience`.
    pub(super) async fn close(&self, patience: Duration) {
        self.close.cancel();
        let mut state = self.state.subscribe();
        let closed = State::closed();
        if tokio::time::timeout(patience, state.wait_for(|state| state.health == closed.health)).await.is_err() {
            self.task.abort();
            if let Some(live) = self.state.send_replace(closed).live {
                live.end();
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_up(address: &Address, name: &str, state: &watch::Sender<State>, close: &CancellationToken) {
    let change = |live: Option<Arc<Live>>, change: Change| {
        state.send_modify(|state| {
            state.health = after(&change, &state.health, live.is_some());
            state.live = live;
        });
    };
    let what = format!("RabbitMQ ({name})");
    loop {
        let attempts = retry::until_reached(&what, LONGEST_PAUSE, || connect(address, name));
        let Some(live) = close.run_until_cancelled(attempts).await.map(Arc::new) else { break };
        tracing::info!(connection = name, "connected to RabbitMQ");
        change(Some(live.clone()), Change::Connected);
        let watching = watch_over(&live, |news| change(Some(live.clone()), news));
        let why = close.run_until_cancelled(watching).await;
        if why.is_none() {
            say_goodbye(&live).await;
        }
        live.end();
        let Some(why) = why else { break };
        tracing::warn!(connection = name, why, "lost the connection to RabbitMQ");
        change(None, Change::Lost(format!("the connection was lost: {why}")));
        drop(live);
        if close.run_until_cancelled(tokio::time::sleep(BREATH)).await.is_none() {
            break;
        }
    }
    state.send_replace(State::closed());
}

/// Closes in good order. Cut short by whoever waits for the task, so that a blocked connection cannot hold it up.
async fn say_goodbye(live: &Live) {
    if let Err(error) = live.connection.close(200, "closing".into()).await {
        tracing::debug!(%error, "the connection to RabbitMQ was already gone");
    }
}

/// Passes news on until the connection is gone; answers why.
async fn watch_over(live: &Live, news: impl Fn(Change)) -> String {
    let mut events = live.connection.events_listener();
    let mut look = tokio::time::interval(LOOK);
    let gone = |error: &dyn Display| error.to_string();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(lapin::Event::ConnectionBlocked(why)) => {
                    tracing::warn!(why, "RabbitMQ blocks publishing; jobs are found in the database meanwhile");
                    news(Change::Blocked(why));
                }
                Some(lapin::Event::ConnectionUnblocked) => {
                    tracing::info!("RabbitMQ takes publishes again");
                    news(Change::Unblocked);
                }
                // Errors of single channels come here as well.
                Some(lapin::Event::Error(error)) if !live.connection.status().connected() => return gone(&error),
                Some(_) => {}
                None => return gone(&"it has ended"),
            },
            _ = look.tick() => if !live.connection.status().connected() {
                return gone(&"the broker closed it");
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(why: &str) -> Health {
        Health::Down(why.into())
    }

    #[test]
    fn an_alarm_makes_it_unhealthy_until_it_ends_or_the_connection_does() {
        let alarm = "blocked by an alarm of the broker (low on memory)";
        let blocked = Change::Blocked("low on memory".into());
        let lost = Change::Lost("gone".into());
        // before, connected, change, after
        let table = [
            (down("not connected yet"), true, &Change::Connected, Health::Up),
            (Health::Up, true, &blocked, down(alarm)),
            (down(alarm), true, &blocked, down(alarm)),
            (down(alarm), true, &Change::Unblocked, Health::Up),
            (down(alarm), false, &lost, down("gone")),
            (Health::Up, false, &lost, down("gone")),
            // News of a connection that is gone changes nothing.
            (down("gone"), false, &Change::Unblocked, down("gone")),
            (down("gone"), false, &blocked, down("gone")),
        ];
        for (before, connected, change, expected) in table {
            assert_eq!(after(change, &before, connected), expected, "{change:?} after {before:?}");
        }
    }
}
