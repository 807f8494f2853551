//! The round trip of one geteuid.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::install::{Install, Other};
use crate::native;
use crate::results::median;

/// What geteuid-grate answers.
const FROM_GRATE: &str = "10";

/// Nanoseconds of one call, round by round.
#[derive(Default)]
pub struct Results {
    native: Vec<f64>,
    direct: Vec<f64>,
    intercepted: Vec<f64>,
    before: Option<Before>,
}

/// The same by another copy of the repository.
struct Before {
    copy: Other,
    intercepted: Vec<f64>,
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
            if let Some(Before { copy, intercepted }) = &mut self.before {
                intercepted.push(in_cage(|line| copy.run_cages(line), calls, true)?);
            }
        }
        Ok(())
    }

    /// A Markdown table.
    pub fn render(&self) -> String {
        let direct = median(&self.direct);
        let mut text = "| one geteuid | ns | × not intercepted |\n|---|--:|--:|\n".to_owned();
        let before = self.before.as_ref().map(|before| {
            let name = "cage, served by geteuid-grate, of --before";
            (name, &before.intercepted)
        });
        let rows = [
            ("native", &self.native),
            ("cage, not intercepted", &self.direct),
            ("cage, served by geteuid-grate", &self.intercepted),
        ];
        for (name, samples) in rows.into_iter().chain(before) {
            let ns = median(samples);
            text += &format!("| {name} | {ns:.0} | {:.2} |\n", ns / direct);
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
    let line: Vec<String> = line.map(str::to_owned).collect();
    let printed = run(&line).context("geteuid")?;
    let (ns, answer) = printed
        .trim()
        .split_once(' ')
        .with_context(|| format!("bench_call printed {printed:?}"))?;
    ensure!(
        !intercepted || answer == FROM_GRATE,
        "geteuid-grate did not serve the call"
    );
    Ok(ns.parse()?)
}
