//! The round trip of one geteuid, and of a call whose bytes a grate copies.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::install::{Install, Other};
use crate::native;
use crate::results::median;

/// What geteuid-grate answers, and the grate that copies a page.
const FROM_GRATE: &str = "10";
const PAGE: &str = "4096";

/// Nanoseconds of one call, round by round.
#[derive(Default)]
pub struct Results {
    native: Vec<f64>,
    direct: Vec<f64>,
    intercepted: Vec<f64>,
    copied_in: Vec<f64>,
    copied_out: Vec<f64>,
    before: Option<Before>,
}

/// Calls of grates by another copy of the repository.
struct Before {
    copy: Other,
    intercepted: Vec<f64>,
    copied_in: Vec<f64>,
    copied_out: Vec<f64>,
}

/// Looks at pieces of a measurement that take turns, against what else the machine does meanwhile.
const PIECES: u32 = 20;

impl Results {
    /// Nothing measured yet. `before` is another copy of the repository to compare with.
    pub fn new(before: Option<&Path>) -> Self {
        Self {
            before: before.map(|repository| Before {
                copy: Other::at(repository),
                intercepted: Vec::new(),
                copied_in: Vec::new(),
                copied_out: Vec::new(),
            }),
            ..Self::default()
        }
    }

    /// Measures once more.
    pub fn round(&mut self, install: &Install, quick: bool) -> Result<()> {
        let calls = if quick { 200_000 } else { 2_000_000 } / PIECES;
        let run = |line: &[String]| install.run_cages(&install.root(), line);
        for _ in 0..PIECES {
            self.native.push(native::geteuid(calls));
            self.direct.push(in_cage(run, calls, false)?);
            self.intercepted.push(in_cage(run, calls, true)?);
            self.copied_in.push(copied(run, calls, "in")?);
            self.copied_out.push(copied(run, calls, "out")?);
            if let Some(before) = &mut self.before {
                let run = |line: &[String]| before.copy.run_cages(line);
                before.intercepted.push(in_cage(run, calls, true)?);
                before.copied_in.push(copied(run, calls, "in")?);
                before.copied_out.push(copied(run, calls, "out")?);
            }
        }
        Ok(())
    }

    /// A Markdown table.
    pub fn render(&self) -> String {
        let direct = median(&self.direct);
        let mut text = "| one call, geteuid unless said otherwise | ns, median | least | × not intercepted |\n\
                        |---|--:|--:|--:|\n"
            .to_owned();
        let rows = [
            ("native", &self.native),
            ("cage, not intercepted", &self.direct),
            ("cage, served by geteuid-grate", &self.intercepted),
            ("pwrite of 4 KiB, which a grate copies in", &self.copied_in),
            ("pread of 4 KiB, which a grate copies out", &self.copied_out),
        ];
        let before = self.before.iter().flat_map(|before| {
            [
                ("served by geteuid-grate, of --before", &before.intercepted),
                ("copied in, of --before", &before.copied_in),
                ("copied out, of --before", &before.copied_out),
            ]
        });
        for (name, samples) in rows.into_iter().chain(before) {
            let ns = median(samples);
            let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
            text += &format!("| {name} | {ns:.0} | {least:.0} | {:.2} |\n", ns / direct);
        }
        text
    }
}

fn in_cage(
    run: impl Fn(&[String]) -> Result<String>,
    calls: u32,
    intercepted: bool,
) -> Result<f64> {
    let grate = intercepted.then_some("geteuid-grate.cwasm");
    let calls = calls.to_string();
    let line = grate.into_iter().chain(["bench_call.cwasm", &calls]);
    timed(run, line, intercepted.then_some(FROM_GRATE))
}

/// A call of a page, which goes `in` or `out`.
fn copied(run: impl Fn(&[String]) -> Result<String>, calls: u32, way: &str) -> Result<f64> {
    let calls = calls.to_string();
    let line = ["bench_grate.cwasm", "bench_call.cwasm", &calls, way];
    timed(run, line.into_iter(), Some(PAGE))
}

/// What `bench_call` says of one call, and that it was answered so.
fn timed<'a>(
    run: impl Fn(&[String]) -> Result<String>,
    line: impl Iterator<Item = &'a str>,
    expected: Option<&str>,
) -> Result<f64> {
    let line: Vec<String> = line.map(str::to_owned).collect();
    let printed = run(&line).context("bench_call")?;
    let (ns, answer) = printed
        .trim()
        .split_once(' ')
        .with_context(|| format!("bench_call printed {printed:?}"))?;
    ensure!(
        expected.is_none_or(|expected| expected == answer),
        "the grate did not serve the call"
    );
    Ok(ns.parse()?)
}
