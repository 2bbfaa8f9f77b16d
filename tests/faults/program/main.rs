//! Offload with the fault suite's own kinds: what the suite runs as api and as worker.

mod hog;
mod ledger;
mod starts;

use std::process::ExitCode;

fn main() -> ExitCode {
    offload::Program::new().kind(ledger::Ledger).kind(hog::Hog).run()
}
