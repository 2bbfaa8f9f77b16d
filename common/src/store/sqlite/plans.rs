//! How SQLite goes about the statements that run all the time: none of them may look at every job, however many there
//! are.

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use super::{
    batches, callbacks, consequences, migrate, moves, prune, reads, runs, schedules, session, trails, unique, upkeep,
};

/// What SQLite says that it would do.
async fn plan(sql: &str) -> Vec<String> {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for (_, statements) in migrate::MIGRATIONS {
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    }
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let steps = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
    assert!(!steps.is_empty(), "{sql}");
    steps.iter().map(|step| step.get("detail")).collect()
}

#[tokio::test]
async fn no_statement_that_runs_all_the_time_looks_at_every_job() {
    for sql in [
        batches::ERRORS,
        batches::FAILED,
        batches::UNFINISHED,
        callbacks::CALLBACK,
        callbacks::WAITING,
        consequences::COUNT,
        moves::MOVE,
        prune::CALLBACKS,
        prune::JOBS,
        reads::DEPTHS,
        reads::FETCH,
        reads::JOB,
        reads::NEXT_DUE,
        reads::RUNNING,
        runs::CLAIM,
        runs::DECLINE,
        runs::HOLDS,
        schedules::DUE,
        schedules::NEXT,
        session::HELD,
        session::OVERDUE,
        session::TO_CANCEL,
        trails::TRAILS,
        unique::HOLDER,
        upkeep::COUNT_QUEUED,
        upkeep::DUE,
        upkeep::LOOK,
        upkeep::ORPHANS,
        upkeep::PROMOTE,
        upkeep::STEAL,
        upkeep::STEAL_SUSPECT,
        upkeep::STEAL_LOST,
    ] {
        for step in plan(sql).await {
            // A scan of a partial index is what is wanted: it holds the few rows that can be an answer.
            assert!(
                !["SCAN offload_jobs", "SCAN j", "SCAN offload_schedules"].contains(&step.as_str()),
                "{step}: {sql}"
            );
        }
    }
}

/// The head of a stream is read in order, without sorting all that is due.
#[tokio::test]
async fn the_head_of_a_backlog_is_not_sorted_out_of_all_of_it() {
    for step in plan(upkeep::DUE).await {
        assert!(!step.contains("TEMP B-TREE"), "{step}");
    }
}

/// The order of the tables matters: the other way round, everything that is due later would be looked at.
#[tokio::test]
async fn the_backlog_of_a_lane_is_seen_at_the_head_of_its_streams() {
    let plan = plan(reads::DEPTHS).await.join("; ");
    assert!(plan.contains("(queue=? AND priority=? AND kind=? AND run_at<?)"), "{plan}");
}
