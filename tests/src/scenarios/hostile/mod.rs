//! Hostile programs: each tries to get into, past or around its grate in one way, in both modes of
//! the runtime, under no grate, under each, and under both. What must not have happened is looked
//! for on the disk, in the output, and in how the run went.

mod attempts;
mod fuzz;
mod modules;
mod stage;

use super::trial;
use attempts::{ATTEMPTS, Attempt};
use libtest_mimic::Trial;
use stage::{Stage, Under};
use std::collections::BTreeSet;

/// How often is tried what depends on luck; `E2E_HOSTILE_TRIES` names another number.
const TRIES: u64 = 1500;

pub(super) fn trials() -> Vec<Trial> {
    let tries = std::env::var("E2E_HOSTILE_TRIES")
        .ok()
        .and_then(|tries| tries.parse().ok())
        .unwrap_or(TRIES);
    let mut trials = vec![trial("hostile/the list of attempts".to_owned(), listed)];
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for attempt in ATTEMPTS {
            trials.push(trial(
                format!("hostile/{}{mode}", attempt.name),
                move || attempt.run(strict, tries),
            ));
        }
    }
    trials.extend(modules::trials());
    trials.extend(fuzz::trials());
    trials
}

/// Every attempt of the program has its test.
fn listed() -> anyhow::Result<()> {
    let stage = Stage::new(Under::Nothing, false)?;
    let text = stage
        .run(&["hostile.cwasm", "list"], None)?
        .expect(0)?
        .text();
    let there: BTreeSet<&str> = text.lines().collect();
    let tested: BTreeSet<&str> = ATTEMPTS.iter().map(|attempt| attempt.name).collect();
    let apart: Vec<_> = there.symmetric_difference(&tested).collect();
    anyhow::ensure!(apart.is_empty(), "in one list only: {apart:?}");
    Ok(())
}

impl Attempt {
    /// Under each of its grates; what went wrong under all of them is told.
    fn run(&self, strict: bool, tries: u64) -> anyhow::Result<()> {
        let wrong: Vec<String> = self
            .under
            .iter()
            .filter_map(|under| {
                let error = self.run_under(*under, strict, tries).err()?;
                Some(format!("{}: {error:#}", under.name()))
            })
            .collect();
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        Ok(())
    }

    fn run_under(&self, under: Under, strict: bool, tries: u64) -> anyhow::Result<()> {
        let stage = Stage::new(under, strict)?;
        let [plain, sealed] = stage.ports();
        let args = [
            "hostile.cwasm",
            self.name,
            under.word(),
            &tries.to_string(),
            &plain.to_string(),
            &sealed.to_string(),
        ];
        let ran = stage.run(&args, self.file_limit)?;
        // What is on the disk counts before what the program says of it.
        stage.audit(&ran)?;
        anyhow::ensure!(
            ran.peak <= self.memory,
            "it took {} MiB of the host's memory",
            ran.peak >> 20
        );
        ran.expect(0).map(drop)
    }
}
