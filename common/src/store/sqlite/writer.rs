//! The one writing connection, and whose turn it is.
//!
//! SQLite has one writer at a time. A [`Turn`] is the right to be it, with a transaction begun. Whoever is dropped in
//! the middle takes the connection down with it: closing it rolls back, and the next turn opens a new one, so that an
//! abandoned statement can neither stay open nor be mistaken for the next caller's.
//!
//! A handler's transaction lasts as long as the handler likes, and must not stop everybody else's writes. It *parks*
//! its turn between two statements. Who has waited [`PATIENCE`] for the writer rolls a parked turn back and goes on; the
//! handler's transaction then replays its statements when it comes back (see [`super::transaction`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use super::error::Result;
use crate::store::Error;

/// How long a parked turn is left alone while others wait. Long enough that a handler that is busy writing replays
/// little, short enough that no client notices.
const PATIENCE: Duration = Duration::from_millis(50);

/// Names the transaction that a parked turn belongs to.
pub(super) type Owner = u64;

/// Gives out turns.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Arc<tokio::sync::Mutex<Slot>>,
    parked: Mutex<Option<(Owner, Turn)>>,
    owners: AtomicU64,
}

enum Slot {
    /// The connection, or `None` when the last user took it down.
    Open(Option<SqliteConnection>),
    Closed,
}

/// The right to write: nobody else does. Dropped without [`Turn::commit`], nothing was written.
pub(super) struct Turn {
    connection: SqliteConnection,
    slot: OwnedMutexGuard<Slot>,
}

impl Writer {
    /// Opens the connection, creating the file if it is not there.
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self> {
        let connection = options.connect().await?;
        let slot = Arc::new(tokio::sync::Mutex::new(Slot::Open(Some(connection))));
        Ok(Self { options, slot, parked: Mutex::new(None), owners: AtomicU64::new(0) })
    }

    /// Waits for the turn, first come first served, and begins a transaction.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let mut slot = self.slot().await;
        let Slot::Open(idle) = &mut *slot else {
            return Err(Error::Unavailable("the store is closed".to_owned()).into());
        };
        let connection = match idle.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let mut turn = Turn { connection, slot };
        sqlx::query("BEGIN IMMEDIATE").execute(turn.connection()).await?;
        Ok(turn)
    }

    async fn slot(&self) -> OwnedMutexGuard<Slot> {
        let slot = self.slot.clone().lock_owned();
        tokio::pin!(slot);
        loop {
            if let Ok(slot) = tokio::time::timeout(PATIENCE, &mut slot).await {
                return slot;
            }
            let parked = self.parked().take();
            if let Some((_, turn)) = parked {
                // Where it fails the connection is closed, which undoes it as well.
                let _ = turn.rollback().await;
            }
        }
    }

    /// A name to park turns under.
    pub(super) fn owner(&self) -> Owner {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// Leaves a turn, uncommitted, until its owner comes back or others want to write.
    pub(super) fn park(&self, owner: Owner, turn: Turn) {
        *self.parked() = Some((owner, turn));
    }

    /// The turn that this owner parked, unless others wanted to write meanwhile: then everything in it is undone.
    pub(super) fn unpark(&self, owner: Owner) -> Option<Turn> {
        self.parked().take_if(|(parked, _)| *parked == owner).map(|(_, turn)| turn)
    }

    /// Closes the connection; turns are refused from now on.
    pub(super) async fn close(&self) -> Result<()> {
        let mut slot = self.slot().await;
        if let Slot::Open(Some(connection)) = std::mem::replace(&mut *slot, Slot::Closed) {
            connection.close().await?;
        }
        Ok(())
    }

    fn parked(&self) -> std::sync::MutexGuard<'_, Option<(Owner, Turn)>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The connection, inside the transaction.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Makes it durable. An error leaves open whether it was.
    pub(super) async fn commit(self) -> Result<()> {
        self.end("COMMIT").await
    }

    /// Undoes it.
    pub(super) async fn rollback(self) -> Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<()> {
        sqlx::query(statement).execute(&mut self.connection).await?;
        *self.slot = Slot::Open(Some(self.connection));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::connection::writing;

    async fn writer(folder: &tempfile::TempDir) -> Writer {
        let writer = Writer::open(writing(&folder.path().join("test.db"))).await.unwrap();
        let mut turn = writer.turn().await.unwrap();
        sqlx::query("CREATE TABLE t (a)").execute(turn.connection()).await.unwrap();
        turn.commit().await.unwrap();
        writer
    }

    async fn insert(turn: &mut Turn) {
        sqlx::query("INSERT INTO t VALUES (1)").execute(turn.connection()).await.unwrap();
    }

    async fn count(writer: &Writer) -> i64 {
        let mut turn = writer.turn().await.unwrap();
        let count = sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(turn.connection()).await.unwrap();
        turn.commit().await.unwrap();
        count
    }

    #[tokio::test]
    async fn a_turn_that_is_dropped_in_the_middle_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let mut turn = writer.turn().await.unwrap();
        insert(&mut turn).await;
        drop(turn);
        assert_eq!(count(&writer).await, 0);
        let mut turn = writer.turn().await.unwrap();
        insert(&mut turn).await;
        turn.commit().await.unwrap();
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn a_parked_turn_is_as_it_was_left_while_nobody_else_writes() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let mut turn = writer.turn().await.unwrap();
        insert(&mut turn).await;
        writer.park(7, turn);
        assert!(writer.unpark(8).is_none(), "it belongs to another");
        writer.unpark(7).unwrap().commit().await.unwrap();
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn a_parked_turn_makes_way_for_who_waits() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let mut turn = writer.turn().await.unwrap();
        insert(&mut turn).await;
        writer.park(7, turn);
        assert_eq!(count(&writer).await, 0);
        assert!(writer.unpark(7).is_none());
    }

    #[tokio::test]
    async fn after_closing_turns_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        writer.close().await.unwrap();
        assert!(writer.turn().await.is_err());
    }
}
