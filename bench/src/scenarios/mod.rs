//! What is measured of Offload: one file per question.

mod accepting;
mod draining;
mod finishing;
mod idle;
mod latency;
mod polling;
mod waiting;

pub(crate) use latency::PAUSE;

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::figures::Figures;
use crate::http::post;
use crate::options::Options;
use crate::rows::{self, Like};
use crate::site::Site;

/// A question that has a number for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // `--help` says what they are.
pub(crate) enum Case {
    A,
    B,
    C,
    D,
    E,
    F64,
    F256,
    Idle,
    W1,
    W2,
    W4,
}

/// Measures one case, on a site of its own.
pub(crate) async fn measure(options: &Options, program: &Path, case: Case) -> anyhow::Result<Figures> {
    let mut site = Site::create(options, program).await?;
    let measured = run(options, &mut site, case).await.with_context(|| site.last_words());
    let removed = site.remove().await;
    let measured = measured?;
    removed?;
    Ok(measured)
}

async fn run(options: &Options, site: &mut Site, case: Case) -> anyhow::Result<Figures> {
    let before = [(Like::Later, options.scheduled), (Like::Finished, options.finished)];
    rows::fill(site, &before).await?;
    match case {
        Case::A => finishing::one_by_one(options, site).await,
        Case::B => finishing::in_bulk(options, site).await,
        Case::C => draining::measure(options, site).await,
        Case::D => latency::measure(options, site).await,
        Case::E => polling::measure(options, site).await,
        Case::F64 => accepting::measure(options, site, 64).await,
        Case::F256 => accepting::measure(options, site, 256).await,
        Case::Idle => idle::measure(options, site).await,
        Case::W1 => waiting::measure(options, site, 1).await,
        Case::W2 => waiting::measure(options, site, 2).await,
        Case::W4 => waiting::measure(options, site, 4).await,
    }
}

/// The payload of a job, of 100 bytes.
pub(crate) fn payload(n: usize) -> String {
    format!(r#"{{"value":{{"n":"{n:08}","to":"someone@example.com","subject":"hello from the bench","pad":"xxxxx"}}}}"#)
}

/// What submits it.
pub(crate) fn submission(n: usize) -> String {
    format!(r#"{{"kind":"echo","payload":{}}}"#, payload(n))
}

/// The request that submits it alone.
pub(crate) fn single(n: usize) -> Vec<u8> {
    post("/v1/jobs", "application/json", "", &submission(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_a_hundred_bytes() {
        assert_eq!(payload(7).len(), 100);
    }
}
