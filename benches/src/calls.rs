//! The round trip of one geteuid.

use anyhow::{Context, Result, ensure};

use crate::install::Install;
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
}

impl Results {
    /// Measures once more.
    pub fn round(&mut self, install: &Install, quick: bool) -> Result<()> {
        let calls = if quick { 200_000 } else { 2_000_000 };
        self.native.push(native::geteuid(calls));
        self.direct.push(in_cage(install, calls, false)?);
        self.intercepted.push(in_cage(install, calls, true)?);
        Ok(())
    }

    /// A Markdown table.
    pub fn render(&self) -> String {
        let direct = median(&self.direct);
        let mut text = "| one geteuid | ns | × not intercepted |\n|---|--:|--:|\n".to_owned();
        for (name, samples) in [
            ("native", &self.native),
            ("cage, not intercepted", &self.direct),
            ("cage, served by geteuid-grate", &self.intercepted),
        ] {
            let ns = median(samples);
            text += &format!("| {name} | {ns:.0} | {:.2} |\n", ns / direct);
        }
        text
    }
}

fn in_cage(install: &Install, calls: u32, intercepted: bool) -> Result<f64> {
    let grate = intercepted.then_some("geteuid-grate.cwasm");
    let calls = calls.to_string();
    let line = grate.into_iter().chain(["bench_call.cwasm", &calls]);
    let line: Vec<String> = line.map(str::to_owned).collect();
    let printed = install
        .run_cages(&install.root(), &line)
        .context("geteuid")?;
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
