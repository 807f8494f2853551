//! Random system calls, bare and under each stack of grates, and random calls of WASI.

use super::stage::{Stage, Under};
use super::trial;
use crate::fixture::{FileLimit, compile_for_wasi};
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;

/// Calls in all tests together; `E2E_FUZZ_CALLS` names another number, for a long search.
const CALLS: u64 = 50_000;
/// Calls in one run.
const RUN: u64 = 3200;
/// Calls of WASI in one run.
const WASI_RUN: &str = "6000";
/// No file becomes longer than 64 MiB.
const LONGEST: FileLimit = FileLimit(64 << 11);

const STACKS: &[Under] = &[Under::Nothing, Under::Crypt, Under::Filter, Under::Both];

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(super) fn trials() -> Vec<Trial> {
    let all = setting("E2E_FUZZ_CALLS").unwrap_or(CALLS);
    // One that failed, to be made again.
    let seed = setting("E2E_FUZZ_SEED");
    let each = all / (2 * STACKS.len() as u64);
    let mut trials = Vec::new();
    for (index, under) in STACKS.iter().enumerate() {
        for strict in [false, true] {
            let mode = if strict { " (strict)" } else { "" };
            // Every setting has calls of its own.
            let own = (2 * index as u64 + u64::from(strict)) * 1_000_000 + 1;
            let first = seed.unwrap_or(own);
            trials.push(trial(
                format!("hostile/random system calls, {}{mode}", under.name()),
                move || {
                    (first..first + each.div_ceil(RUN)).try_for_each(|seed| {
                        system_calls(*under, strict, seed)
                            .with_context(|| format!("E2E_FUZZ_SEED={seed}"))
                    })
                },
            ));
        }
        let first = seed.unwrap_or(1);
        trials.push(trial(
            format!("hostile/random WASI calls, {}", under.name()),
            move || wasi_calls(*under, first, each.div_ceil(RUN)),
        ));
    }
    trials
}

fn system_calls(under: Under, strict: bool, seed: u64) -> anyhow::Result<()> {
    let stage = Stage::with_programs(under, strict, &["bin/fuzz_calls.cwasm", "bin/ends.cwasm"])?
        .that_may_lose();
    let [plain, sealed] = stage.ports();
    let args = [
        "fuzz_calls.cwasm",
        &seed.to_string(),
        &RUN.to_string(),
        &plain.to_string(),
        &sealed.to_string(),
    ];
    let ran = stage.run(&args, Some(LONGEST))?;
    stage.audit(&ran)?;
    let ran = ran.expect(0)?;
    let text = ran.text();
    let made = text
        .lines()
        .rev()
        .find_map(|line| line.strip_suffix(" calls made")?.parse::<u64>().ok());
    // Else nothing was tried.
    ensure!(
        made >= Some(RUN / 2),
        "{made:?} calls were made\n{}",
        ran.err
    );
    Ok(())
}

fn wasi_calls(under: Under, first: u64, runs: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("fuzz.wasm");
    // What is written to a null pointer and the bytes behind it changes nothing.
    compile_for_wasi("fuzz.c", &program, &["-Wl,--global-base=16384"])?;
    for seed in first..first + runs {
        let mut stage = Stage::new(under, false)?.that_may_lose();
        stage.add("bin/fuzz.wasm", fs::read(&program)?)?;
        let ran = stage.run(&["fuzz.wasm", &seed.to_string(), WASI_RUN], Some(LONGEST))?;
        stage
            .audit(&ran)
            .and_then(|()| ran.expect(0).map(drop))
            .with_context(|| format!("E2E_FUZZ_SEED={seed}"))?;
    }
    Ok(())
}
