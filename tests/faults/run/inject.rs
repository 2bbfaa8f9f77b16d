//! Makes faults happen, and puts everything right again.

use std::sync::Arc;
use std::time::Duration;

use offload_common::testing::{Proxy, within};
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;
use sqlx::{Connection, Executor};

use super::fault::{BrokerFault, DatabaseFault, Fault, NetworkFault, Service};
use super::journal::{Journal, Lasting, Reach};
use super::load::{Load, is_final};
use super::receiver::Receiver;
use crate::support::node::Life;
use crate::support::{Fleet, Node, Role, pass};

/// How long an armed process is waited for to come to its step.
const STEP: Duration = Duration::from_secs(8);

/// How long the job that kills its workers may take to come to its end: dozens that stood beside it are suspects with it, and a
/// process runs one of those at a time.
const HOG: Duration = Duration::from_secs(180);

/// Between two of several in a row.
const PAUSE: Duration = Duration::from_millis(300);
const SHORT_PAUSE: Duration = Duration::from_millis(150);

/// What comes this much later makes connecting, which is a dozen of round trips, last for as long as a short lease.
const SLOW_TO_CONNECT: Duration = Duration::from_millis(100);

/// Locks against every writer; and some rows that writers want.
const LOCK_TABLE: &str = "BEGIN; LOCK TABLE offload.jobs IN SHARE ROW EXCLUSIVE MODE";
const LOCK_ROWS: &str =
    "BEGIN; SELECT FROM offload.jobs WHERE state IN ('queued', 'running') LIMIT 20 FOR UPDATE SKIP LOCKED";

/// A run under way.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) journal: Arc<Journal>,
    pub(crate) load: Arc<Load>,
    pub(crate) receiver: Receiver,
}

impl World {
    /// Makes a fault happen, and waits until it is over.
    pub(crate) async fn inject(&self, fault: Fault, mut random: StdRng) {
        let family = fault.family();
        self.journal.count(format!("fault.{family}"));
        match fault {
            Fault::Kill(role) => {
                let (place, node) = self.pick(role, &mut random);
                let mut life = node.life().await;
                let _lasting = self.begin(&family, node, process(role, place));
                life.kill().await;
                life.start(&[]).await;
            }
            Fault::Stop(role, lasts) => {
                let (place, node) = self.pick(role, &mut random);
                let mut life = node.life().await;
                let _lasting = self.begin(&family, node, process(role, place));
                self.pause_process(&mut life, lasts).await;
            }
            Fault::Point { role, point, stop, nth } => {
                let (place, node) = self.pick(role, &mut random);
                let _lasting = self.begin(&family, node, process(role, place));
                self.step(node, point, stop, nth).await;
            }
            Fault::Halt => {
                let (_, node) = self.pick(Role::Worker, &mut random);
                let mut life = node.life().await;
                let _lasting = self.begin(&family, node, Reach::Nobody);
                self.halt(&mut life).await;
                life.start(&[]).await;
            }
            Fault::Roll(role) => {
                for (place, node) in self.of(role).iter().enumerate() {
                    let mut life = node.life().await;
                    let _lasting = self.begin(&family, node, process(role, place));
                    life.leave();
                    life.signal(Signal::TERM);
                    self.ends_with(&mut life, &[0]).await;
                    life.start(&[]).await;
                }
            }
            Fault::Hog => {
                let _lasting = self.journal.begin(&family, family.clone(), Reach::Nobody);
                let id = self.load.submit_hog().await;
                let ended = within(HOG, async || is_final(&self.load.job(&id).await).then_some(())).await;
                if ended.is_none() {
                    self.journal.finding(format!("job {id}, which kills its workers, does not come to its end"));
                }
            }
            Fault::Broker(fault) => self.inject_broker(&family, fault).await,
            Fault::Database(fault) => self.inject_database(&family, fault).await,
            Fault::Network { role, to, how, lasts } => {
                let (place, node) = self.pick(role, &mut random);
                let reach =
                    if (role, to) == (Role::Api, Service::Database) { Reach::DatabaseOf(place) } else { Reach::Nobody };
                let _alone = node.network.lock().await;
                let _lasting = self.begin(&family, node, reach);
                self.inject_network(node, to, how, lasts).await;
            }
        }
    }

    fn of(&self, role: Role) -> &[Arc<Node>] {
        match role {
            Role::Api => self.fleet.apis(),
            Role::Worker => self.fleet.workers(),
        }
    }

    /// One process of a role, and its place among them.
    fn pick(&self, role: Role, random: &mut StdRng) -> (usize, &Node) {
        let nodes = self.of(role);
        let place = random.random_range(0..nodes.len());
        (place, &nodes[place])
    }

    fn begin(&self, family: &str, node: &Node, reach: Reach) -> Lasting<'_> {
        self.journal.begin(family, node.name(), reach)
    }

    async fn pause_process(&self, life: &mut Life<'_>, lasts: Duration) {
        life.doom();
        life.signal(Signal::STOP);
        pass(lasts).await;
        life.signal(Signal::CONT);
    }

    /// Arms a process, and waits until it has come to its step. Somebody else starts it again.
    async fn step(&self, node: &Node, point: &'static str, stop: Option<Duration>, nth: u32) {
        let action = if stop.is_some() { "stop" } else { "kill" };
        let mut life = node.life().await;
        life.kill().await;
        life.start(&[("OFFLOAD_FAILPOINT", format!("{point}:{action}:{nth}"))]).await;
        let armed = life.id();
        life.doom();
        drop(life);
        match point {
            // Something to steal, and somebody to reap.
            "steal.after" => self.fleet.site.rabbitmq().write().await.delete_queues(&self.fleet.name).await,
            "reap.after" => {
                let other = self.fleet.workers().iter().find(|other| other.number != node.number);
                let mut life = other.expect("there are several").life().await;
                life.kill().await;
                life.start(&[]).await;
            }
            _ => {}
        }
        let reached = within(STEP, async || {
            let mut life = node.life().await;
            let is_over = life.id() != armed || !life.is_running();
            (is_over || life.is_stopped()).then_some((is_over, life))
        });
        match reached.await {
            Some((false, mut life)) => {
                self.journal.count(format!("step.{point}"));
                pass(stop.unwrap_or_default()).await;
                life.signal(Signal::CONT);
            }
            Some((true, _)) => self.journal.count(format!("step.{point}")),
            None => {
                let mut life = node.life().await;
                if life.id() == armed {
                    life.kill().await;
                    life.start(&[]).await;
                }
            }
        }
    }

    async fn halt(&self, life: &mut Life<'_>) {
        life.leave();
        life.signal(Signal::TERM);
        // A second signal too soon after the first would be one with it.
        let process = life.process();
        let told = async || process.written().iter().any(|line| line.contains("draining; a second")).then_some(());
        within(Duration::from_secs(5), told).await;
        life.signal(Signal::TERM);
        // It may have drained before the second.
        self.ends_with(life, &[0, 3]).await;
    }

    async fn ends_with(&self, life: &mut Life<'_>, codes: &[i32]) {
        let (name, doomed) = (life.name(), life.is_doomed());
        let status = life.ended().await;
        if !doomed && !status.code().is_some_and(|code| codes.contains(&code)) {
            self.journal.finding(format!("{name} was told to end, and ended with {status}"));
        }
    }

    async fn inject_broker(&self, family: &str, fault: BrokerFault) {
        let mut rabbitmq = self.fleet.site.rabbitmq().write().await;
        let _lasting = self.journal.begin(family, format!("{fault:?}"), Reach::Nobody);
        match fault {
            BrokerFault::Restart => {
                rabbitmq.stop().await;
                rabbitmq.start().await;
            }
            BrokerFault::Stop(lasts) => {
                rabbitmq.stop().await;
                pass(lasts).await;
                rabbitmq.start().await;
            }
            BrokerFault::Wipe => {
                rabbitmq.wipe();
                rabbitmq.start().await;
            }
            BrokerFault::DeleteQueues(times) => {
                for _ in 0..times {
                    rabbitmq.delete_queues(&self.fleet.name).await;
                    pass(PAUSE).await;
                }
            }
            BrokerFault::Alarm(lasts) => {
                rabbitmq.alarm(true).await;
                pass(lasts).await;
                rabbitmq.alarm(false).await;
            }
            BrokerFault::CloseConnections(times) => rabbitmq.close_connections(times, SHORT_PAUSE).await,
            BrokerFault::CancelConsumers(times) => {
                for _ in 0..times {
                    rabbitmq.cancel_consumers().await;
                    pass(PAUSE).await;
                }
            }
        }
    }

    async fn inject_database(&self, family: &str, fault: DatabaseFault) {
        let mut postgres = self.fleet.site.postgres().write().await;
        let reach =
            if matches!(fault, DatabaseFault::Lock { table: false, .. }) { Reach::Nobody } else { Reach::Database };
        let _lasting = self.journal.begin(family, format!("{fault:?}"), reach);
        match fault {
            DatabaseFault::Restart(shutdown) => {
                postgres.stop(shutdown).await;
                postgres.start().await;
            }
            DatabaseFault::Stop(lasts) => {
                postgres.stop(crate::support::Shutdown::Fast).await;
                pass(lasts).await;
                postgres.start().await;
            }
            DatabaseFault::Crash => postgres.crash(&self.fleet.name).await,
            DatabaseFault::Terminate(times) => {
                for _ in 0..times {
                    postgres.terminate_sessions(&self.fleet.name).await;
                    pass(PAUSE).await;
                }
            }
            DatabaseFault::Lock { table, lasts } => {
                let mut connection = postgres.connect(&self.fleet.name).await;
                connection.execute(if table { LOCK_TABLE } else { LOCK_ROWS }).await.expect("locked");
                pass(lasts).await;
                connection.close().await.expect("closed");
            }
        }
    }

    async fn inject_network(&self, node: &Node, to: Service, how: NetworkFault, lasts: Duration) {
        let doom = async || {
            // A way that is slow is one all the same, unless it takes a short lease to connect again after another fault.
            let is_passable = matches!(how, NetworkFault::Slow(delay) if delay < SLOW_TO_CONNECT);
            if node.role == Role::Worker && to == Service::Database && !is_passable {
                node.life().await.doom();
            }
        };
        let proxy: &Proxy = match to {
            Service::Database => &node.database,
            Service::Broker => &node.broker,
        };
        doom().await;
        match how {
            NetworkFault::Cut => proxy.cut(),
            NetworkFault::Stall => proxy.stall(),
            NetworkFault::Slow(delay) => proxy.slow(delay),
        }
        pass(lasts).await;
        proxy.restore();
        doom().await;
    }

    /// Starts what has ended, as a supervisor would, until dropped. A process that nobody brought to its end is a finding,
    /// unless a job takes all memory.
    pub(crate) async fn supervise(&self) {
        loop {
            for node in self.fleet.nodes() {
                let mut life = node.life().await;
                if !life.is_running() {
                    let (name, doomed) = (life.name(), life.is_doomed());
                    let eaten = node.role == Role::Worker && self.load.has_hogs();
                    life.doom();
                    let status = life.ended().await;
                    if !doomed && !eaten {
                        self.journal.finding(format!("{name} ended by itself, with {status}"));
                    }
                    self.journal.count("restarted by the supervisor");
                    life.start(&[]).await;
                }
            }
            pass(SHORT_PAUSE).await;
        }
    }
}

fn process(role: Role, place: usize) -> Reach {
    match role {
        Role::Api => Reach::Process(place),
        Role::Worker => Reach::Nobody,
    }
}
