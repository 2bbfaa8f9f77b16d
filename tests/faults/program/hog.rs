//! `fault.hog`: allocates until its process ends, as one that the system kills for want of memory.

use async_trait::async_trait;
use offload::{Context, JobError, JobKind, KindSpec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::starts::Start;

/// What its process may take beyond what it has, so that the machine does not suffer.
const ROOM: u64 = 256 << 20;
const CHUNK: usize = 8 << 20;

pub(crate) struct Hog;

/// Nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {}

/// Never seen.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Output {}

#[async_trait]
impl JobKind for Hog {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        KindSpec::new::<Payload, Output>("fault.hog", "Allocates until its process ends.")
    }

    async fn run(&self, job: &Context, _payload: Payload) -> Result<Output, JobError> {
        let _start = Start::note(job);
        limit();
        let mut memory = Vec::new();
        for _ in 0..=ROOM as usize / CHUNK {
            memory.push(vec![1_u8; CHUNK]);
        }
        // Where the system sets no limit.
        std::process::abort();
    }
}

/// Limits the process to what it has and [`ROOM`]: the allocation beyond fails, and that aborts it.
fn limit() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kilobytes = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kilobytes) = kilobytes {
        let maximum = getrlimit(Resource::As).maximum;
        let limit = Rlimit { current: Some((kilobytes << 10) + ROOM), maximum };
        setrlimit(Resource::As, limit).expect("a limit can be lowered");
    }
    let no_dump = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    setrlimit(Resource::Core, no_dump).expect("a limit can be lowered");
}
