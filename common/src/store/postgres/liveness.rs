//! Telling workers that are gone from those that are there.
//!
//! A worker is *silent* where its beats stopped: whatever the reason, its lease is over. It has *vanished* where its
//! advisory lock is free and none of its connections is left, which is what a process leaves that dies; one that only
//! lost a connection has others, and makes a new one within a third of a second ([`super::session`]). A server that
//! restarts, or drops everybody, makes all of them vanish at once: so only a worker judges whose own connection has lasted
//! for a while, by which time whoever is alive has come back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::intake::microseconds;
use super::rows::get;
use super::session::no_answer;
use crate::clock;
use crate::job::WorkerId;
use crate::store::{Judge, Result};

/// A worker must have been seen vanished for this long, and in every look: one that is alive has come back by then.
const VANISHED_FOR: Duration = Duration::from_millis(800);

/// Nobody knows what was between two looks that are further apart.
const UNBROKEN: Duration = Duration::from_secs(1);

/// Running rows of workers that nobody remembers are looked for this often.
const SWEEP: Duration = Duration::from_secs(10);

/// The connections of every process on this database; names are visible to all, and begin with the process's own.
macro_rules! backends {
    () => {
        "backends AS MATERIALIZED (
    SELECT a.pid, a.application_name, a.usename, a.backend_start FROM pg_stat_activity a
    WHERE a.datname = current_database()
)"
    };
}

/// The locks that workers hold.
macro_rules! locks {
    () => {
        "FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 16716973 AND l.objsubid = 2 AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    };
}

/// Whether worker `w` has vanished. The locks are looked at only for one that has no connection.
macro_rules! has_vanished {
    () => {
        concat!(
            "CASE WHEN EXISTS (SELECT FROM backends b WHERE starts_with(b.application_name, w.application_name || '/'))
        THEN false ELSE w.lock_key <> ALL (ARRAY(SELECT l.objid::bigint ",
            locks!(),
            ")) END"
        )
    };
}

/// The connections that a worker left behind which was taken for dead, and has not come back under another id: what
/// they do counts for nothing any more, and rows that they hold locked cannot be taken back.
macro_rules! left_behind {
    () => {
        "FROM offload.workers w JOIN backends b
        ON b.backend_start < w.reaped_at AND starts_with(b.application_name, w.application_name || '/')
    WHERE w.reaped_at > statement_timestamp() - interval '5 minutes' AND w.application_name <> $1
      AND b.usename = current_user
      AND NOT EXISTS (SELECT FROM offload.workers n WHERE n.application_name = w.application_name
                                                      AND n.reaped_at IS NULL AND n.left_at IS NULL)"
    };
}

/// One look at everything, cheap while nothing is the matter. Workers are *quiet* at half of the lease, `$2`.
pub(super) const LOOK: &str = concat!(
    "-- offload: look after workers
WITH ",
    backends!(),
    ", members AS MATERIALIZED (
    SELECT id, lock_key, application_name, beat_at FROM offload.workers WHERE reaped_at IS NULL AND left_at IS NULL
)
SELECT
    ARRAY(SELECT w.id FROM members w WHERE w.beat_at < statement_timestamp() - $2 * interval '1 microsecond') AS quiet,
    ARRAY(SELECT w.id FROM members w WHERE ",
    has_vanished!(),
    ") AS vanished,
    EXISTS (SELECT ",
    left_behind!(),
    ") AS left_behind,
    EXISTS (SELECT FROM offload.workers w JOIN offload.jobs j ON j.state = 'running' AND j.worker_id = w.id
            WHERE greatest(w.reaped_at, w.left_at) > statement_timestamp() - interval '5 minutes') AS orphans,
    EXISTS (SELECT FROM offload.jobs j WHERE j.state = 'queued' AND j.losses > 0
            AND j.queued_at < statement_timestamp() - interval '500 milliseconds') AS waiting"
);

/// Judged again as it is written, in one snapshot with the judge's own standing.
pub(super) const MARK: &str = concat!(
    "-- offload: mark workers that are gone
WITH ",
    backends!(),
    ", judge AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM offload.workers j
        JOIN (SELECT l.objid::bigint AS key, l.pid ",
    locks!(),
    ") held ON held.key = j.lock_key
        JOIN backends b ON b.pid = held.pid
        WHERE j.id = $1 AND j.reaped_at IS NULL AND b.backend_start < statement_timestamp() - interval '3 seconds'
    ) AS lasted
)
UPDATE offload.workers w SET reaped_at = statement_timestamp()
WHERE w.reaped_at IS NULL AND w.left_at IS NULL AND w.id <> $1 AND (
    w.id = ANY ($2) AND w.beat_at < statement_timestamp() - $4 * interval '1 microsecond'
    OR w.id = ANY ($3) AND (SELECT lasted FROM judge) AND ",
    has_vanished!(),
    ") RETURNING w.id"
);

pub(super) const TERMINATE: &str = concat!(
    "-- offload: close the connections of workers that are gone
WITH ",
    backends!(),
    "
SELECT count(pg_terminate_backend(b.pid)) ",
    left_behind!()
);

/// What one look saw.
pub(super) struct Look {
    quiet: Vec<Uuid>,
    vanished: Vec<Uuid>,
    /// Connections of workers that are gone.
    pub(super) left_behind: bool,
    /// Running rows of workers that are gone.
    pub(super) orphans: bool,
    /// Queued rows that lost a worker, and have not been started for a moment.
    pub(super) waiting: bool,
}

impl Look {
    /// Whether a worker seems to have died a moment ago.
    pub(super) fn is_suspicious(&self) -> bool {
        !self.vanished.is_empty()
    }
}

/// What a process remembers from look to look.
#[derive(Default)]
pub(super) struct Watch {
    quiet: Sightings,
    vanished: Sightings,
    swept: Mutex<Option<Instant>>,
}

impl Watch {
    /// Whether running rows of workers that nobody remembers are to be looked for now; then they count as looked for.
    pub(super) fn sweeps(&self, now: Instant) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|last| now.duration_since(last) >= SWEEP);
        if due {
            *swept = Some(now);
        }
        due
    }
}

/// Since when which workers have been seen so in every look.
#[derive(Default)]
struct Sightings(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    since: HashMap<Uuid, Instant>,
    last: Option<Instant>,
}

impl Sightings {
    /// Takes note of who is seen so now; answers who has been for `lasting`, with no more than `apart` from look to look.
    fn note(&self, now: Instant, seen: &[Uuid], lasting: Duration, apart: Duration) -> Vec<Uuid> {
        let mut sightings = self.lock();
        if sightings.last.replace(now).is_some_and(|last| now.duration_since(last) > apart) {
            sightings.since.clear();
        }
        sightings.since.retain(|worker, _| seen.contains(worker));
        let mut lasts = |worker: &&Uuid| now.duration_since(*sightings.since.entry(**worker).or_insert(now)) >= lasting;
        seen.iter().filter(|worker| lasts(worker)).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks. `own` is the name of this process: it lives, whatever became of a former membership of its own.
pub(super) async fn look(line: &mut Line, own: &str, lease: Duration) -> Result<Look> {
    let row = line.row(sqlx::query(LOOK).bind(own).bind(microseconds(lease / 2))).await?.ok_or_else(no_answer)?;
    Ok(Look {
        quiet: get(&row, "quiet")?,
        vanished: get(&row, "vanished")?,
        left_behind: get(&row, "left_behind")?,
        orphans: get(&row, "orphans")?,
        waiting: get(&row, "waiting")?,
    })
}

/// Marks the workers that are gone; answers them. A silent one has been seen quiet for the second half of its lease, by
/// this process's clock: where the database's clock jumps, or everything was suspended, whoever is alive beats first.
pub(super) async fn mark(
    line: &mut Line,
    watch: &Watch,
    look: &Look,
    judge: Judge,
    lease: Duration,
) -> Result<Vec<WorkerId>> {
    let now = clock::instant();
    let vanished = watch.vanished.note(now, &look.vanished, VANISHED_FOR, UNBROKEN);
    let quiet = watch.quiet.note(now, &look.quiet, lease / 2, UNBROKEN.max(lease / 4));
    let silent = if judge.steady { quiet } else { Vec::new() };
    if vanished.is_empty() && silent.is_empty() {
        return Ok(Vec::new());
    }
    let mark = sqlx::query(MARK).bind(judge.worker.0).bind(silent).bind(vanished).bind(microseconds(lease));
    let id = |row: &PgRow| Ok(WorkerId(get(row, "id")?));
    line.rows(mark).await?.iter().map(id).collect()
}

/// Closes the connections that workers left behind which are gone.
pub(super) async fn terminate(line: &mut Line, own: &str) -> Result<()> {
    line.rows(sqlx::query(TERMINATE).bind(own)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_millis(300);

    #[test]
    fn only_what_is_seen_in_every_look_counts() {
        let sightings = Sightings::default();
        let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
        let start = clock::instant();
        let see = |seen: &[Uuid], ms| sightings.note(start + Duration::from_millis(ms), seen, VANISHED_FOR, APART);
        for ms in [0, 200, 400] {
            assert!(see(&[a, b], ms).is_empty());
        }
        assert!(see(&[a], 600).is_empty(), "b is back");
        assert_eq!(see(&[a, b], 800), [a]);
        for ms in [1000, 1200, 1400] {
            assert_eq!(see(&[a, b], ms), [a], "b counts from its second sighting");
        }
        assert_eq!(see(&[b], 1600), [b]);
    }

    #[test]
    fn looks_that_are_far_apart_prove_nothing() {
        let sightings = Sightings::default();
        let a = Uuid::now_v7();
        let start = clock::instant();
        let see = |ms| sightings.note(start + Duration::from_millis(ms), &[a], VANISHED_FOR, APART);
        assert!(see(0).is_empty());
        assert!(see(5000).is_empty(), "it may have been there in between");
        for ms in [5200, 5400, 5600] {
            assert!(see(ms).is_empty());
        }
        assert_eq!(see(5800), [a]);
    }

    #[test]
    fn a_sweep_is_due_at_once_and_then_now_and_again() {
        let (watch, start) = (Watch::default(), clock::instant());
        assert!(watch.sweeps(start) && !watch.sweeps(start + SWEEP / 2));
        assert!(watch.sweeps(start + SWEEP) && !watch.sweeps(start + SWEEP));
    }
}
