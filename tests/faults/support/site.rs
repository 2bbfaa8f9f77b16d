//! A PostgreSQL and a RabbitMQ for one run at a time, kept for the next.

use std::sync::{Mutex, PoisonError};

use tokio::sync::RwLock;

use super::{Postgres, RabbitMq};

static IDLE: Mutex<Vec<Servers>> = Mutex::new(Vec::new());

struct Servers {
    postgres: RwLock<Postgres>,
    rabbitmq: RwLock<RabbitMq>,
}

/// The servers, both up. Who stops one holds its lock until it is back.
pub(crate) struct Site {
    servers: Option<Servers>,
}

impl Site {
    /// Servers that no other run uses: of an earlier run that went well, or new ones.
    pub(crate) async fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(servers) => Self { servers: Some(servers) },
            None => {
                let (postgres, rabbitmq) = tokio::join!(Postgres::new(), RabbitMq::new());
                Self::of(postgres, rabbitmq)
            }
        }
    }

    /// These servers.
    pub(crate) fn of(postgres: Postgres, rabbitmq: RabbitMq) -> Self {
        let servers = Servers { postgres: RwLock::new(postgres), rabbitmq: RwLock::new(rabbitmq) };
        Self { servers: Some(servers) }
    }

    /// PostgreSQL.
    pub(crate) fn postgres(&self) -> &RwLock<Postgres> {
        &self.servers.as_ref().expect("given back at the end").postgres
    }

    /// RabbitMQ.
    pub(crate) fn rabbitmq(&self) -> &RwLock<RabbitMq> {
        &self.servers.as_ref().expect("given back at the end").rabbitmq
    }

    /// Keeps the servers for another run. A site that is only dropped, as by a run that failed, ends with its servers.
    pub(crate) fn give_back(mut self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.servers.take());
    }
}
