//! What the machine has to offer: server programs, found as scripts/test finds them, free ports, an unprivileged user.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The folder of PostgreSQL's server programs.
pub(crate) fn postgres_programs() -> PathBuf {
    programs("postgres", "PostgreSQL 15 or newer (initdb and postgres)")
}

/// The folder of RabbitMQ's.
pub(crate) fn rabbitmq_programs() -> PathBuf {
    programs("rabbitmq", "RabbitMQ 3.10 or newer (rabbitmq-server and rabbitmqctl)")
}

fn programs(service: &str, needed: &str) -> PathBuf {
    let script = format!(". scripts/services/{service}.sh && {service}_programs");
    let found = Command::new("bash").args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let found = found.expect("bash is there");
    let folder = String::from_utf8(found.stdout).expect("a path");
    assert!(
        found.status.success(),
        "{needed} is not installed here. The fault suite stops, kills and wipes servers of its own, and starts their \
         programs itself; a server elsewhere or in a container does not do. Run it through scripts/test, which installs \
         them where apt-get or Homebrew can, or install them yourself"
    );
    folder.trim_end().into()
}

/// A port of 127.0.0.1 that nobody listens on, and that this process gives away once. Below the range that systems take
/// outgoing ports from, so that it is still free when its server comes back.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let free = |port: &u16| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = std::iter::repeat_with(|| rand::random_range(20_000..32_000)).take(1000).find(free);
    let port = port.expect("one of a thousand ports is free");
    given.insert(port);
    port
}

/// The user and the group to run as who refuses to run as root; `None` where we are not root.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let number = |option: &str, user: &str| {
        let answer = Command::new("id").args([option, user]).output().ok()?;
        String::from_utf8(answer.stdout).ok()?.trim().parse().ok()
    };
    let ids = ["postgres", "nobody"].iter().find_map(|user| Some((number("-u", user)?, number("-g", user)?)));
    Some(ids.expect("there is a user postgres, or nobody"))
}
