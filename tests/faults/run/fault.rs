//! What can go wrong in a run.

use std::time::Duration;

use offload_common::failpoint::POINTS;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::support::{Role, Shutdown};

/// Something that goes wrong, and is put right again.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// `kill -9`; it is started again at once.
    Kill(Role),
    /// SIGSTOP, and SIGCONT after a while: a zombie where that is longer than its lease.
    Stop(Role, Duration),
    /// It ends (or is stopped for a while) when it comes to a step of the protocol for the nth time.
    Point { role: Role, point: &'static str, stop: Option<Duration>, nth: u32 },
    /// Two SIGTERMs at a worker: it stops at once, in good order.
    Halt,
    /// Every process of a role is drained and replaced, in turn.
    Roll(Role),
    /// A job that takes all the memory that its worker can have.
    Hog,
    /// RabbitMQ.
    Broker(BrokerFault),
    /// PostgreSQL.
    Database(DatabaseFault),
    /// The way from one process to a service.
    Network { role: Role, to: Service, how: NetworkFault, lasts: Duration },
}

/// What goes wrong with RabbitMQ.
#[derive(Clone, Debug)]
pub(crate) enum BrokerFault {
    Restart,
    /// Stopped, and started again after a while.
    Stop(Duration),
    /// Killed, and started again with nothing in it.
    Wipe,
    /// So many times in a row.
    DeleteQueues(u32),
    /// It takes no publish.
    Alarm(Duration),
    CloseConnections(u32),
    CancelConsumers(u32),
}

/// What goes wrong with PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseFault {
    Restart(Shutdown),
    /// Stopped, and started again after a while.
    Stop(Duration),
    /// One of its processes is killed: it ends all of them, and recovers.
    Crash,
    /// Every session is ended, so many times in a row.
    Terminate(u32),
    /// Somebody else locks the jobs: the table against writes, or some of its rows.
    Lock {
        table: bool,
        lasts: Duration,
    },
}

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Database,
    Broker,
}

/// What goes wrong with a network.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetworkFault {
    /// Connections break, and none can be made.
    Cut,
    /// Nothing comes through, and nobody is told.
    Stall,
    /// What is sent arrives this much later.
    Slow(Duration),
}

/// How many families there are.
pub(crate) const FAMILIES: usize = MAKERS.len();

/// How long faults last, in seconds: for most runs, and for the long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Short,
    Long,
}

struct Dice<'a> {
    random: &'a mut StdRng,
    scale: Scale,
}

impl Dice<'_> {
    /// A time between these many seconds; the third number in long runs.
    fn time(&mut self, least: f64, most: f64, long: f64) -> Duration {
        match self.scale {
            Scale::Short => Duration::from_secs_f64(self.random.random_range(least..most)),
            Scale::Long => Duration::from_secs_f64(long),
        }
    }

    fn count(&mut self, least: u32, most: u32) -> u32 {
        self.random.random_range(least..=most)
    }

    /// A step that this role comes to.
    fn point(&mut self, role: Role) -> Fault {
        let of_api = |point: &&&str| point.starts_with("accept") || point.starts_with("publish");
        let points: Vec<&&str> = POINTS.iter().filter(|point| of_api(point) == (role == Role::Api)).collect();
        let point = **points.choose(self.random).expect("there are some");
        let stop = self.random.random_ratio(1, 3).then(|| self.time(1.0, 5.0, 8.0));
        // Steps that are not taken for every job are met in earnest the first time.
        let rare = ["promote.after", "release.after", "steal.after", "reap.after", "fire.before", "fire.after"]
            .contains(&point);
        let nth = if rare { self.count(1, 2) } else { self.count(1, 60) };
        Fault::Point { role, point, stop, nth }
    }

    fn network(&mut self, role: Role, to: Service, how: NetworkFault) -> Fault {
        Fault::Network { role, to, how, lasts: self.time(1.0, 6.0, 25.0) }
    }

    fn slow(&mut self) -> NetworkFault {
        NetworkFault::Slow(Duration::from_millis(self.random.random_range(20..250)))
    }
}

type Maker = fn(&mut Dice<'_>) -> Fault;

/// One per family, in groups of which a run had better not have several: what takes a service away for long comes first.
const MAKERS: [Maker; 36] = [
    |_| Fault::Broker(BrokerFault::Restart),
    |dice| Fault::Broker(BrokerFault::Stop(dice.time(1.0, 4.0, 60.0))),
    |_| Fault::Broker(BrokerFault::Wipe),
    |dice| Fault::Broker(BrokerFault::Alarm(dice.time(2.0, 6.0, 20.0))),
    |dice| Fault::Broker(BrokerFault::DeleteQueues(dice.count(1, 5))),
    |dice| Fault::Broker(BrokerFault::CancelConsumers(dice.count(1, 5))),
    |dice| {
        Fault::Broker(BrokerFault::CloseConnections(match dice.scale {
            Scale::Short => dice.count(5, 20),
            Scale::Long => 100,
        }))
    },
    |_| Fault::Database(DatabaseFault::Restart(Shutdown::Fast)),
    |_| Fault::Database(DatabaseFault::Restart(Shutdown::Immediate)),
    |dice| Fault::Database(DatabaseFault::Stop(dice.time(1.0, 5.0, 30.0))),
    |_| Fault::Database(DatabaseFault::Crash),
    |dice| Fault::Database(DatabaseFault::Terminate(dice.count(1, 5))),
    |dice| Fault::Database(DatabaseFault::Lock { table: true, lasts: dice.time(1.0, 6.0, 20.0) }),
    |dice| Fault::Database(DatabaseFault::Lock { table: false, lasts: dice.time(1.0, 6.0, 20.0) }),
    |_| Fault::Hog,
    |_| Fault::Roll(Role::Worker),
    |_| Fault::Roll(Role::Api),
    |_| Fault::Halt,
    |_| Fault::Kill(Role::Worker),
    |dice| Fault::Stop(Role::Worker, dice.time(1.0, 6.0, 25.0)),
    |dice| dice.point(Role::Worker),
    |_| Fault::Kill(Role::Api),
    |dice| Fault::Stop(Role::Api, dice.time(1.0, 6.0, 10.0)),
    |dice| dice.point(Role::Api),
    |dice| dice.network(Role::Worker, Service::Database, NetworkFault::Cut),
    |dice| dice.network(Role::Worker, Service::Database, NetworkFault::Stall),
    |dice| {
        let slow = dice.slow();
        dice.network(Role::Worker, Service::Database, slow)
    },
    |dice| dice.network(Role::Worker, Service::Broker, NetworkFault::Cut),
    |dice| dice.network(Role::Worker, Service::Broker, NetworkFault::Stall),
    |dice| {
        let slow = dice.slow();
        dice.network(Role::Worker, Service::Broker, slow)
    },
    |dice| dice.network(Role::Api, Service::Database, NetworkFault::Cut),
    |dice| dice.network(Role::Api, Service::Database, NetworkFault::Stall),
    |dice| {
        let slow = dice.slow();
        dice.network(Role::Api, Service::Database, slow)
    },
    |dice| dice.network(Role::Api, Service::Broker, NetworkFault::Cut),
    |dice| dice.network(Role::Api, Service::Broker, NetworkFault::Stall),
    |dice| {
        let slow = dice.slow();
        dice.network(Role::Api, Service::Broker, slow)
    },
];

impl Fault {
    /// One of a family, by its number.
    pub(crate) fn of_family(family: usize, random: &mut StdRng, scale: Scale) -> Self {
        MAKERS[family](&mut Dice { random, scale })
    }

    /// Whether a process may find that the database is away.
    pub(crate) fn takes_the_database_away(&self) -> bool {
        match self {
            Fault::Database(fault) => !matches!(fault, DatabaseFault::Lock { table: false, .. }),
            Fault::Network { to, .. } => *to == Service::Database,
            _ => false,
        }
    }

    /// What the report counts it under.
    pub(crate) fn family(&self) -> String {
        match self {
            Fault::Kill(role) => format!("{role}.kill"),
            Fault::Stop(role, _) => format!("{role}.stop"),
            Fault::Point { role, .. } => format!("{role}.step"),
            Fault::Halt => "worker.halt".to_owned(),
            Fault::Roll(role) => format!("{role}.deploy"),
            Fault::Hog => "worker.memory".to_owned(),
            Fault::Broker(fault) => format!("broker.{}", fault.name()),
            Fault::Database(fault) => format!("database.{}", fault.name()),
            Fault::Network { role, to, how, .. } => {
                let to = match to {
                    Service::Database => "database",
                    Service::Broker => "broker",
                };
                format!("network.{role}-{to}.{}", how.name())
            }
        }
    }
}

impl BrokerFault {
    fn name(&self) -> &'static str {
        match self {
            BrokerFault::Restart => "restart",
            BrokerFault::Stop(_) => "stop",
            BrokerFault::Wipe => "wipe",
            BrokerFault::DeleteQueues(_) => "delete-queues",
            BrokerFault::Alarm(_) => "memory-alarm",
            BrokerFault::CloseConnections(_) => "close-connections",
            BrokerFault::CancelConsumers(_) => "cancel-consumers",
        }
    }
}

impl DatabaseFault {
    fn name(&self) -> &'static str {
        match self {
            DatabaseFault::Restart(Shutdown::Fast) => "restart-fast",
            DatabaseFault::Restart(Shutdown::Immediate) => "restart-immediate",
            DatabaseFault::Stop(_) => "stop",
            DatabaseFault::Crash => "crash",
            DatabaseFault::Terminate(_) => "terminate-sessions",
            DatabaseFault::Lock { table: true, .. } => "lock-table",
            DatabaseFault::Lock { table: false, .. } => "lock-rows",
        }
    }
}

impl NetworkFault {
    fn name(self) -> &'static str {
        match self {
            NetworkFault::Cut => "cut",
            NetworkFault::Stall => "stall",
            NetworkFault::Slow(_) => "slow",
        }
    }
}
