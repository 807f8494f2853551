//! Random programs under write-filter-grate with random rules: whatever they do with descriptors,
//! files, pipes, sockets and children, what comes out is what the engine makes of it in one piece.

mod expected;
mod program;
mod rules;

use super::trial;
use crate::fixture::{Fixture, Run};
use anyhow::{Context, ensure};
use expected::Expected;
use fastrand::Rng;
use libtest_mimic::Trial;
use program::{FILES, Program, Step, WAYS};
use rules::Rules;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Programs in one test; `E2E_MODEL_SEEDS` names another number, for a long search.
const SEEDS: u64 = 200;
/// Most runs that a program is made shorter by.
const SHRINKS: u32 = 400;

pub(super) fn trials() -> Vec<Trial> {
    let seeds = std::env::var("E2E_MODEL_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS);
    let settings = [(false, 1), (true, 1_000_000_001)];
    let trials = settings.map(|(strict, first)| {
        let mode = if strict { " (strict)" } else { "" };
        trial(
            format!("write-filter-grate/random programs and rules{mode}"),
            move || (first..first + seeds).try_for_each(|seed| search(seed, strict)),
        )
    });
    trials.into()
}

/// Rules and a program.
#[derive(Clone)]
struct Case {
    rules: Rules,
    program: Program,
}

fn search(seed: u64, strict: bool) -> anyhow::Result<()> {
    let mut rng = Rng::with_seed(seed);
    let rules = Rules::random(&mut rng);
    let program = Program::random(&mut rng, strict);
    let case = Case { rules, program };
    // What is not redacted is what any program does: the expectation itself is tried first.
    if seed.is_multiple_of(8) {
        case.run(None, strict)
            .with_context(|| format!("seed {seed}, without the grate"))?;
    }
    let Err(error) = case.run(Some(&case.rules), strict) else {
        return Ok(());
    };
    let (case, error) = shrunk(case, error, strict);
    anyhow::bail!(
        "seed {seed}: {error:#}\n{}max-hold {}\nfiles before: {}\n{}",
        case.rules.texts.concat(),
        case.rules.max_hold,
        case.program
            .before
            .iter()
            .map(|text| text.escape_ascii().to_string())
            .collect::<Vec<_>>()
            .join(" | "),
        case.program
            .steps
            .iter()
            .map(|step| format!("{step:?}\n"))
            .collect::<String>()
    )
}

/// The shortest case that still fails, of those that are tried.
fn shrunk(mut case: Case, mut error: anyhow::Error, strict: bool) -> (Case, anyhow::Error) {
    let mut left = SHRINKS;
    let mut try_with = |case: &mut Case, error: &mut anyhow::Error, shorter: Case| -> bool {
        if left == 0 {
            return false;
        }
        left -= 1;
        let Err(why) = shorter.run(Some(&shorter.rules), strict) else {
            return false;
        };
        (*case, *error) = (shorter, why);
        true
    };
    let mut size = case.program.steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < case.program.steps.len() {
            let mut shorter = case.clone();
            let end = (at + size).min(shorter.program.steps.len());
            shorter.program.steps.drain(at..end);
            if !try_with(&mut case, &mut error, shorter) {
                at += size;
            }
        }
        size /= 2;
    }
    for at in (0..case.rules.texts.len()).rev() {
        if let Some(rules) = case.rules.without(at) {
            let program = case.program.clone();
            try_with(&mut case, &mut error, Case { rules, program });
        }
    }
    for at in (0..case.program.steps.len()).rev() {
        while let Some(shorter) = with_a_shorter_step(&case, at) {
            if !try_with(&mut case, &mut error, shorter) {
                break;
            }
        }
    }
    (case, error)
}

/// With one step less in a child, or with the half of what is written.
fn with_a_shorter_step(case: &Case, at: usize) -> Option<Case> {
    let mut shorter = case.clone();
    match shorter.program.steps.get_mut(at)? {
        Step::Fork(steps, _) => drop(steps.pop()?),
        Step::Write(_, _, _, parts) if parts.len() > 1 => drop(parts.pop()?),
        Step::Write(_, _, _, parts) if parts[0].len() > 1 => drop(parts[0].pop()?),
        _ => return None,
    }
    Some(shorter)
}

impl Case {
    /// Runs it under the rules, or without any.
    fn run(&self, rules: Option<&Rules>, strict: bool) -> anyhow::Result<()> {
        let fixture = Fixture::new()?;
        for folder in ["work", "log", "got"] {
            fs::create_dir(fixture.path(folder))?;
        }
        for (path, before) in FILES.iter().zip(&self.program.before) {
            fs::write(fixture.path(path), before)?;
        }
        fs::write(fixture.path("script"), self.program.script())?;
        let mut args = Vec::new();
        let none;
        let set = if let Some(rules) = rules {
            fs::write(fixture.path("rules.toml"), rules.texts.concat())?;
            let key = fixture.path("hash.key");
            fs::write(&key, rules::HASH_KEY)?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            let max_hold = rules.max_hold.to_string();
            let options = [
                "write-filter-grate.cwasm",
                "--rules",
                "/rules.toml",
                "--hash-key",
                "/hash.key",
                "--report",
                "/report",
                "--max-hold",
                &max_hold,
                // What is held is held for the next step, however slow the machine is.
                "--hold-ms",
                "60000",
            ];
            args.extend(options.map(str::to_owned));
            &*rules.set
        } else {
            none = redact::RuleSet::builder().build();
            &none
        };
        args.extend(["scribe.cwasm", "/script"].map(str::to_owned));
        let expected = expected::run(set, &self.program);
        if let Some((whole, got)) = &expected.inexact {
            ensure_same(got, whole).context("the engine by itself")?;
        }
        let ran = fixture.start(&Run {
            strict,
            args,
            ..Run::default()
        })?;
        let ran = ran.expect(0)?;
        compare_steps(&fixture, &expected)?;
        let mut got = vec![ran.out, ran.err.into_bytes()];
        for (_, _, name) in WAYS {
            got.push(fs::read(fixture.path(&format!("got/{name}")))?);
        }
        let names = ["standard output", "standard error"];
        let names = names
            .into_iter()
            .chain(WAYS.iter().map(|(_, _, name)| *name));
        for ((name, got), expected) in names.zip(&got).zip(&expected.outlets) {
            ensure_same(got, expected).with_context(|| name.to_owned())?;
        }
        for (path, expected) in FILES.iter().zip(&expected.files) {
            ensure_same(&fs::read(fixture.path(path))?, expected)
                .with_context(|| format!("{path} in the end"))?;
        }
        if rules.is_some() {
            compare_report(&fixture, &expected)?;
        }
        Ok(())
    }
}

fn ensure_same(got: &[u8], expected: &[u8]) -> anyhow::Result<()> {
    let [got, expected] = [got, expected].map(|text| text.escape_ascii().to_string());
    ensure!(got == expected, "\n  {got:?} instead of\n  {expected:?}");
    Ok(())
}

/// Holds the journal against what each step should have done.
fn compare_steps(fixture: &Fixture, expected: &Expected) -> anyhow::Result<()> {
    let journal = fs::read_to_string(fixture.path("got/journal"))?;
    let mut files = vec![Vec::new(); FILES.len()];
    let mut steps = expected.steps.iter();
    let mut current: Option<&(usize, i64, Vec<Vec<u8>>)> = None;
    for line in journal.lines().chain(["end"]) {
        let words: Vec<_> = line.split(' ').collect();
        if let ["file", path, hex] = words[..] {
            let index = FILES
                .iter()
                .position(|file| *file == path)
                .context("no such file")?;
            files[index] = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
                .collect::<Result<_, _>>()?;
            continue;
        }
        if let Some((line, _, shown)) = current {
            for ((path, got), shown) in FILES.iter().zip(&files).zip(shown) {
                ensure_same(got, shown).with_context(|| format!("{path} after step {line}"))?;
            }
        }
        current = steps.next();
        let Some((at, result, _)) = current else {
            break;
        };
        ensure!(
            line == format!("step {at} {result}"),
            "{line:?} instead of step {at} {result}"
        );
    }
    ensure!(steps.next().is_none(), "some steps were not made");
    Ok(())
}

/// Holds the report against what should have been found in streams.
fn compare_report(fixture: &Fixture, expected: &Expected) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for line in fs::read_to_string(fixture.path("report"))?.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        if text("path").starts_with("/work/") {
            continue;
        }
        let number = |key: &str| line[key].as_u64().unwrap_or(u64::MAX);
        found.push((
            text("rule"),
            text("action"),
            number("offset"),
            number("length"),
        ));
    }
    found.sort_unstable();
    ensure!(
        found == expected.found,
        "reported {found:?} instead of {:?}",
        expected.found
    );
    Ok(())
}
