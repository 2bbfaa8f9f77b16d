//! The table, and the file of samples.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use crate::figures::{Figures, Sample};
use crate::scenarios::Case;

const HEAD: [&str; 13] = [
    "case",
    "subject",
    "rounds",
    "per second",
    "p50 ms",
    "p99 ms",
    "stmt/s",
    "api",
    "worker",
    "postgres",
    "rabbitmq",
    "bench",
    "offload is",
];

/// Prints the medians, with the processor time per job in microseconds, and how many times as fast as each of the others
/// Offload is: the median of the rounds' ratios, and their spread.
pub(crate) fn print(samples: &[Sample]) -> io::Result<()> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(grouped(samples).into_iter().map(|((case, subject), taken)| row(samples, case, subject, &taken)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = io::stdout().lock();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Writes the samples as JSON.
pub(crate) fn write(file: &Path, samples: &[Sample]) -> anyhow::Result<()> {
    let out = File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(serde_json::to_writer_pretty(out, samples)?)
}

/// The samples by case and subject.
fn grouped(samples: &[Sample]) -> BTreeMap<(Case, &str), Vec<&Sample>> {
    let mut groups: BTreeMap<_, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        groups.entry((sample.case, sample.subject.as_str())).or_default().push(sample);
    }
    groups
}

fn row(samples: &[Sample], case: Case, subject: &str, taken: &[&Sample]) -> [String; 13] {
    let median_of = |value: &dyn Fn(&Figures) -> Option<f64>| {
        spread(taken.iter().filter_map(|sample| value(&sample.figures)).collect()).map(|[_, median, _]| median)
    };
    let cell = |value: &dyn Fn(&Figures) -> Option<f64>, digits: usize| {
        median_of(value).map_or(String::new(), |median| format!("{median:.digits$}"))
    };
    let offload = |round: u32| {
        let own = |sample: &&Sample| sample.case == case && sample.round == round && sample.subject == "offload";
        samples.iter().find(own).map(|sample| &sample.figures)
    };
    let ratios = taken.iter().filter_map(|sample| offload(sample.round)?.ratio(&sample.figures)).collect();
    let ratio = spread(ratios).filter(|_| subject != "offload");
    [
        format!("{case:?}").to_lowercase(),
        subject.to_owned(),
        taken.len().to_string(),
        cell(&|f| f.rate, 0),
        cell(&|f| f.p50_ms, 2),
        cell(&|f| f.p99_ms, 2),
        cell(&|f| f.statements, 1),
        cell(&|f| Some(f.cpu_us?.api), 1),
        cell(&|f| Some(f.cpu_us?.workers), 1),
        cell(&|f| Some(f.cpu_us?.postgres), 1),
        cell(&|f| Some(f.cpu_us?.rabbitmq), 1),
        cell(&|f| Some(f.cpu_us?.bench), 1),
        ratio.map_or(String::new(), |[least, median, most]| format!("{median:.2} × ({least:.2} to {most:.2})")),
    ]
}

/// The least, the median and the most.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}
