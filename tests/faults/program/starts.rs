//! Notes every start of a handler, and every end that it lived to see, in the file that `FAULTS_STARTS` names: an effect
//! outside of any transaction, by which the suite tells what was started twice.

use std::fs::File;
use std::io::Write;

use offload::Context;

/// A handler that runs. Dropping it notes its end.
pub(crate) struct Start {
    line: String,
}

impl Start {
    /// Notes that a handler starts.
    pub(crate) fn note(job: &Context) -> Self {
        let start = Self { line: format!("{} {} {}\n", job.id, job.attempt, std::process::id()) };
        start.append("start");
        start
    }

    /// One write per line: lines of several processes do not mix.
    fn append(&self, what: &str) {
        let Some(path) = std::env::var_os("FAULTS_STARTS") else { return };
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{what} {}", self.line).as_bytes())).expect("it can be noted");
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.append("end");
    }
}
