//! The connections of one process: how they are shared and kept.
//!
//! A connection is taken out while it is used, and put back only if every call on it ended well. A future dropped half-way,
//! an error, a time-out: each just closes it, and the next caller opens another. So nothing has to be pinged, and nothing
//! that is half-done can be met again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::{Connector, Line, State};
use crate::store::{Error, Result};

/// What a connection is wanted for; it decides who waits when all are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Accepting, fetching, claiming, finishing: short, and never kept waiting by the others.
    Hot,
    /// Reading for people, and upkeep.
    Patient,
    /// A handler's transaction, which may be open for as long as its job runs.
    Handler,
}

/// The connections of one process, made when they are first wanted.
pub(super) struct Connections {
    connector: Connector,
    /// How many there may be.
    all: Arc<Semaphore>,
    /// How many of them for anything but [`Purpose::Hot`].
    patient: Arc<Semaphore>,
    /// How many of these for [`Purpose::Handler`].
    handlers: Arc<Semaphore>,
    idle: Mutex<Vec<Line>>,
}

impl Connections {
    /// At most `limit` connections, of which one is left for the session.
    pub(super) fn new(connector: Connector, limit: u32) -> Arc<Self> {
        let all = limit.max(4) as usize - 1;
        let patient = if all < 6 { all - 1 } else { all - 2 };
        Arc::new(Self {
            connector,
            all: Arc::new(Semaphore::new(all)),
            patient: Arc::new(Semaphore::new(patient)),
            handlers: Arc::new(Semaphore::new(patient - 1)),
            idle: Mutex::new(Vec::with_capacity(all)),
        })
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Waits for its turn, and takes an idle connection or opens one.
    pub(super) async fn take(self: &Arc<Self>, purpose: Purpose) -> Result<Held> {
        let mut permits = Vec::with_capacity(3);
        if purpose == Purpose::Handler {
            // Its job's time-out is the limit of this wait: the other handlers may take all day.
            permits.push(self.handlers.clone().acquire_owned().await.map_err(|_| closed())?);
        }
        if purpose != Purpose::Hot {
            permits.push(self.permit(&self.patient).await?);
        }
        permits.push(self.permit(&self.all).await?);
        let idle = self.idle().pop();
        let line = match idle {
            Some(line) => line,
            None => self.connector.connect("work").await?,
        };
        Ok(Held { line: Some(line), home: self.clone(), _permits: permits })
    }

    async fn permit(&self, semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let waited = tokio::time::timeout(self.connector.patience(), semaphore.clone().acquire_owned()).await;
        waited
            .map_err(|_| {
                Error::Unavailable("every connection of this process is in use (database.max_connections)".into())
            })?
            .map_err(|_| closed())
    }

    /// Closes what is idle; what is in use closes when its user is done.
    pub(super) async fn close(&self) {
        for semaphore in [&self.all, &self.patient, &self.handlers] {
            semaphore.close();
        }
        let idle = std::mem::take(&mut *self.idle());
        // All at once: each may take a while where the server hangs.
        join_all(idle.into_iter().map(Line::close)).await;
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        // Nothing panics while holding it; a list of connections is whole in any case.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::Unavailable("this process is shutting down".into())
}

/// A connection that is taken out. Dropping it puts it back, or closes it.
pub(super) struct Held {
    line: Option<Line>,
    home: Arc<Connections>,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Deref for Held {
    type Target = Line;

    fn deref(&self) -> &Line {
        self.line.as_ref().expect("only dropping takes the line out")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Line {
        self.line.as_mut().expect("only dropping takes the line out")
    }
}

impl Held {
    /// Closes it rather than putting it back.
    pub(super) fn discard(mut self) {
        self.line = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        match line.state() {
            State::Ready if !self.home.all.is_closed() => self.home.idle().push(line),
            // Its siblings hang on the same server: better found out now than by one caller each.
            State::Lost => self.home.idle().clear(),
            State::Ready | State::InTransaction | State::Broken => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseConfig;

    fn connections(limit: u32) -> Arc<Connections> {
        let config =
            DatabaseConfig { url: None, data: "unused".into(), max_connections: limit, statement_timeout_seconds: 1.0 };
        // Port 1 refuses: nothing here gets as far as connecting.
        let connector = Connector::new(&config, "postgres://nobody@127.0.0.1:1/none", "test").expect("a URL");
        Connections::new(connector, limit)
    }

    #[test]
    fn whoever_is_patient_leaves_room_for_the_hot_paths() {
        for limit in [0, 4, 5, 6, 7, 8, 20] {
            let made = connections(limit);
            let [all, patient, handlers] = [&made.all, &made.patient, &made.handlers].map(|s| s.available_permits());
            assert_eq!(all as u32 + 1, limit.max(4), "one is the session's");
            assert!(handlers >= 1 && handlers < patient && patient < all, "{limit}: {all} {patient} {handlers}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_told_quickly_and_leaks_nothing() {
        let made = connections(8);
        for purpose in [Purpose::Hot, Purpose::Patient, Purpose::Handler] {
            let refused = made.take(purpose).await.map(drop);
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        }
        assert_eq!(made.all.available_permits(), 7);
        assert_eq!(made.patient.available_permits(), 5);
    }
}
