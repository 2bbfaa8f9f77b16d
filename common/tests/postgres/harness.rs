//! A migrated database, stores on it, and a connection beside them to look and meddle with.

use std::net::SocketAddr;
use std::time::Duration;

use offload_common::config::DatabaseConfig;
use offload_common::job::transition::{Decision, Event, Snapshot, decide};
use offload_common::job::{JobId, Lease, NewJob, State, WorkerId};
use offload_common::retry::RetryPolicy;
use offload_common::store::postgres::PostgresStore;
use offload_common::store::{Accepted, Claim, Finish, Pointer, Store};
use offload_common::testing::Proxy;
use offload_common::testing::database::TestDatabase;
use offload_common::testing::eventually;
use offload_common::testing::factory;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use url::Url;

/// A statement takes no longer than this.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Harness {
    pub(crate) database: TestDatabase,
}

impl Harness {
    /// An empty database.
    pub(crate) async fn empty() -> Self {
        Self { database: TestDatabase::create().await }
    }

    /// A migrated one, with a store on it.
    pub(crate) async fn start() -> (Self, PostgresStore) {
        let harness = Self::empty().await;
        let store = harness.store("first");
        store.migrate().await.expect("migrated");
        (harness, store)
    }

    /// A store, as a process called `instance` has one.
    pub(crate) fn store(&self, instance: &str) -> PostgresStore {
        open(&self.database.url(), instance)
    }

    /// A store whose connections go through a proxy.
    pub(crate) async fn behind_a_proxy(&self, instance: &str) -> (PostgresStore, Proxy) {
        let mut url = Url::parse(&self.database.url()).expect("a URL");
        let address = (url.host_str().expect("a host"), url.port().unwrap_or(5432));
        let target: SocketAddr = tokio::net::lookup_host(address).await.expect("resolved").next().expect("an address");
        let proxy = Proxy::start(target).await;
        url.set_host(Some(&proxy.addr().ip().to_string())).expect("a host");
        url.set_port(Some(proxy.addr().port())).expect("a port");
        (open(url.as_str(), instance), proxy)
    }

    /// A connection beside the stores.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.database.url()).await.expect("connected")
    }
}

fn open(url: &str, instance: &str) -> PostgresStore {
    let config = DatabaseConfig {
        url: None,
        data: "unused".into(),
        max_connections: 8,
        statement_timeout_seconds: STATEMENT_TIMEOUT.as_secs_f64(),
    };
    PostgresStore::open(&config, url, instance).expect("a URL")
}

/// Runs statements that belong to the test.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("executed");
}

/// Asks for one number.
pub(crate) async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .expect("answered")
        .try_get_unchecked::<&str, _>(0)
        .expect("a column")
        .parse()
        .expect("a number")
}

/// Waits until a query answers this number.
pub(crate) async fn until(connection: &mut PgConnection, sql: &str, expected: i64) {
    let connection = &tokio::sync::Mutex::new(connection);
    eventually(sql, || async move { (number(*connection.lock().await, sql).await == expected).then_some(()) }).await;
}

/// How many backends of this database wait for a lock.
pub(crate) const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Accepts a job that is queued at once.
pub(crate) async fn queue(store: &PostgresStore, job: NewJob) -> Pointer {
    match store.accept(&[job]).await.expect("accepted").remove(0) {
        Accepted::New { dispatch: Some(dispatch), .. } => dispatch.pointer,
        other => panic!("expected a new, queued job, not {other:?}"),
    }
}

pub(crate) fn claim_of(pointer: Pointer) -> Claim {
    let nonce = offload_common::job::Nonce::new();
    Claim { job: pointer.id, epoch: pointer.epoch, nonce, running_for: Duration::ZERO }
}

/// Accepts a job and claims it.
pub(crate) async fn running(store: &PostgresStore, worker: WorkerId) -> Lease {
    let pointer = queue(store, factory::job()).await;
    store.claim(worker, &[claim_of(pointer)]).await.expect("claimed")[0].lease().expect("granted")
}

/// Accepts a job and claims it, for a worker that has left since.
pub(crate) async fn left_running(store: &PostgresStore) -> Lease {
    let session = store.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    let lease = running(store, session.worker()).await;
    session.leave().await.expect("left");
    lease
}

/// The finish of a claimed first run that succeeded.
pub(crate) fn success(lease: Lease) -> Finish {
    let job = Snapshot {
        state: State::Running,
        attempt: 1,
        max_attempts: 5,
        losses: 0,
        cancel_requested: false,
        waits: false,
    };
    let Ok(Decision::Move(transition)) = decide(&job, &Event::Succeed, &RetryPolicy::default(), 0.5) else {
        panic!("a running job can succeed")
    };
    Finish { lease, transition, result: Some(factory::raw("1")), ran_for: Duration::ZERO, linked: false }
}

pub(crate) async fn state_of(store: &PostgresStore, id: JobId) -> State {
    store.job(factory::TENANT, id).await.expect("read").expect("it is there").state
}
