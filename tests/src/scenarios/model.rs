//! Random file calls on a plain directory and through grates: a program must not be able to tell
//! the difference.

use super::trial;
use crate::fixture::{Fixture, Run};
use libtest_mimic::Trial;

/// Calls in one sequence.
const CALLS: u32 = 300;
/// Sequences in one test; `E2E_MODEL_SEEDS` names another number, for a long search.
const SEEDS: u64 = 150;

/// Of so many one is run among other threads and signals.
const BUSY: u64 = 5;

/// What stands between the program and the kernel.
const SETTINGS: &[(&str, &[&str])] = &[
    ("defaults", &["crypt-grate.cwasm", "--key", "/k.bin"]),
    (
        "xaes-256-gcm, chunks of 512",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--cipher",
            "xaes-256-gcm",
            "--chunk-size",
            "512",
        ],
    ),
    (
        "a named subtree",
        &["crypt-grate.cwasm", "--key", "/k.bin", "--encrypt", "/work"],
    ),
    ("write-filter-grate", &["write-filter-grate.cwasm"]),
    (
        "write-filter-grate over crypt-grate",
        &[
            "write-filter-grate.cwasm",
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
        ],
    ),
    (
        "crypt-grate over write-filter-grate",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "write-filter-grate.cwasm",
        ],
    ),
    (
        "two grates, two keys",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            // The inner grate's key is a plain file to the outer one.
            "--plaintext",
            "read",
            "crypt-grate.cwasm",
            "--key",
            "/k2.bin",
            "--chunk-size",
            "1024",
        ],
    ),
];

pub(super) fn trials() -> Vec<Trial> {
    let seeds = std::env::var("E2E_MODEL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS);
    let mut trials = Vec::new();
    for (index, (name, grates)) in SETTINGS.iter().enumerate() {
        let outer = grates[0].trim_end_matches(".cwasm");
        for strict in [false, true] {
            let mode = if strict { " (strict)" } else { "" };
            let name = format!("{outer}/random file calls, {name}{mode}");
            // Every setting has calls of its own.
            let first = (2 * index as u64 + u64::from(strict)) * 1_000_000 + 1;
            let seeds = first..first + seeds;
            let busy = seeds.clone().step_by(BUSY as usize);
            let busy_name = name.replace("calls,", "calls among threads and signals,");
            trials.push(trial(busy_name, move || {
                busy.clone()
                    .try_for_each(|seed| compare(grates, strict, seed, &["busy"]))
            }));
            trials.push(trial(name, move || {
                seeds
                    .clone()
                    .try_for_each(|seed| compare(grates, strict, seed, &[]))
            }));
        }
    }
    trials
}

fn compare(grates: &[&str], strict: bool, seed: u64, how: &[&str]) -> anyhow::Result<()> {
    let plain = play(&[], strict, seed, how)?;
    let through = play(grates, strict, seed, how)?;
    if plain == through {
        return Ok(());
    }
    let (at, (expected, got)) = plain
        .lines()
        .zip(through.lines())
        .enumerate()
        .find(|(_, (expected, got))| expected != got)
        .unwrap_or((0, ("(the end)", "(the end)")));
    let before: Vec<&str> = plain.lines().take(at).collect();
    let before = before[before.len().saturating_sub(20)..].join("\n");
    anyhow::bail!("seed {seed}: after\n{before}\nplain:   {expected}\nthrough: {got}")
}

fn play(grates: &[&str], strict: bool, seed: u64, how: &[&str]) -> anyhow::Result<String> {
    let fixture = Fixture::new()?;
    std::fs::create_dir(fixture.path("work"))?;
    fixture.make_key("k.bin")?;
    fixture.make_key("k2.bin")?;
    let mut args: Vec<String> = grates.iter().map(|&arg| arg.to_owned()).collect();
    args.extend(["file_ops.cwasm".to_owned(), "/work".to_owned()]);
    args.extend([seed.to_string(), CALLS.to_string()]);
    args.extend(how.iter().map(|&word| word.to_owned()));
    let ran = fixture
        .start(&Run {
            strict,
            args,
            ..Run::default()
        })?
        .expect(0)?;
    anyhow::ensure!(ran.err.is_empty(), "seed {seed}: {}", ran.err);
    Ok(ran.text())
}
