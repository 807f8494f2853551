//! Sockets of cages: against the host's kernel, between runs, and in networks of all sizes.

use super::trial;
use crate::fixture::{Fixture, Run};
use anyhow::Context;
use libtest_mimic::Trial;
use std::io;

#[path = "../../cages/src/socket_ops.rs"]
mod socket_ops;

use socket_ops::{Kernel, Player};

/// Calls in one sequence.
const CALLS: u32 = 300;
/// Sequences in one test; `E2E_MODEL_SEEDS` names another number, for a long search.
const SEEDS: u64 = 60;
/// How often a sequence is played that differs. When bytes arrive is the network's affair, also
/// within one machine: what differs for that reason alone does not do so again and again.
const TRIES: usize = 4;

/// What stands between the program and the kernel.
const SETTINGS: &[&[&str]] = &[
    &[],
    &["geteuid-grate.cwasm"],
    &["strace-grate.cwasm", "--trace", "socket,close"],
];

pub(super) fn trials() -> Vec<Trial> {
    let seeds = std::env::var("E2E_MODEL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS);
    let mut trials = Vec::new();
    for (index, grates) in SETTINGS.iter().enumerate() {
        let outer = grates
            .first()
            .map_or("runtime", |grate| grate.trim_end_matches(".cwasm"));
        for strict in [false, true] {
            let mode = if strict { " (strict)" } else { "" };
            let first = (2 * index as u64 + u64::from(strict)) * 1_000_000 + 1;
            trials.push(trial(
                format!("{outer}/random socket calls{mode}"),
                move || (first..first + seeds).try_for_each(|seed| compare(grates, strict, seed)),
            ));
        }
    }
    trials
}

/// The kernel that this test runs on.
struct Host;

impl Kernel for Host {
    unsafe fn call(&self, nr: u32, args: &[u64]) -> Result<i32, i32> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e, f] = all;
        // SAFETY: by the caller.
        match unsafe { libc::syscall(i64::from(nr), a, b, c, d, e, f) } {
            -1 => Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            value => Ok(value as i32),
        }
    }

    fn address(&self, pointer: *const u8) -> u64 {
        pointer as u64
    }

    fn nowhere(&self) -> u64 {
        16 // The first page is never mapped.
    }
}

fn compare(grates: &[&str], strict: bool, seed: u64) -> anyhow::Result<()> {
    let mut difference = String::new();
    for _ in 0..TRIES {
        let place = tempfile::tempdir()?;
        let directory = place
            .path()
            .to_str()
            .context("an odd temporary directory")?;
        let plain = Player::new(&Host, directory, seed, !strict).play(CALLS);
        let caged = play(grates, strict, seed)?;
        if plain == caged {
            return Ok(());
        }
        let (at, (expected, got)) = plain
            .lines()
            .zip(caged.lines())
            .enumerate()
            .find(|(_, (expected, got))| expected != got)
            .unwrap_or((0, ("(the end)", "(the end)")));
        let before: Vec<&str> = plain.lines().take(at).collect();
        let before = before[before.len().saturating_sub(30)..].join("\n");
        difference = format!("after\n{before}\nhost: {expected}\ncage: {got}");
    }
    anyhow::bail!("seed {seed}: {difference}")
}

fn play(grates: &[&str], strict: bool, seed: u64) -> anyhow::Result<String> {
    let fixture = Fixture::new()?;
    std::fs::create_dir(fixture.path("work"))?;
    let mut args: Vec<String> = grates.iter().map(|&arg| arg.to_owned()).collect();
    args.extend(["socket_ops.cwasm".to_owned(), "/work".to_owned()]);
    args.extend([seed.to_string(), CALLS.to_string()]);
    let ran = fixture
        .start(&Run {
            strict,
            args,
            ..Run::default()
        })?
        .expect(0)?;
    Ok(ran.text())
}
