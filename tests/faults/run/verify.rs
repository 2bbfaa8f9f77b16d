//! `offload verify`, as operators run it: again and again while everything breaks, and at the end.

use std::time::Duration;

use super::inject::World;
use crate::support::pass;

/// Between two audits.
const PAUSE: Duration = Duration::from_secs(3);

/// Nothing is wrong; and the database is away.
const WELL: i32 = 0;
const UNAVAILABLE: i32 = 69;

const LEDGER: [&str; 4] = ["--ledger", "fault_ledger.job", "--ledger-kind", "fault.ledger"];

impl World {
    /// Audits until dropped. What breaks in these runs is no reason for an alarm.
    pub(crate) async fn keep_verifying(&self) {
        loop {
            pass(PAUSE).await;
            self.verify(&[], &[WELL, UNAVAILABLE]).await;
        }
    }

    /// Audits with everything that clients know, once all is quiet.
    pub(crate) async fn verify_at_the_end(&self) {
        let accepted: Vec<_> = self.load.promises().into_iter().map(|promise| promise.id).collect();
        let path = self.fleet.folder().join("accepted");
        std::fs::write(&path, accepted.join("\n")).expect("written");
        self.verify(&["--accepted", path.to_str().expect("readable")], &[WELL]).await;
    }

    async fn verify(&self, more: &[&str], codes: &[i32]) {
        let state = self.fleet.folder().join("verified");
        let arguments = [&["verify", "--state", state.to_str().expect("readable")], &LEDGER[..], more].concat();
        let answer = self.fleet.offload(&arguments).await;
        self.journal.count(format!("verify.{}", answer.status.code().unwrap_or(-1)));
        if !answer.status.code().is_some_and(|code| codes.contains(&code)) {
            let [output, errors] =
                [answer.stdout, answer.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            self.journal.finding(format!("offload verify ended with {}:\n{output}{errors}", answer.status));
        }
    }
}
