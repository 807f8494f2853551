//! System V shared memory of a program, bare and under grates, with a run's limits.

use super::trial;
use crate::fixture::Fixture;
use anyhow::ensure;
use libtest_mimic::Trial;

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const TRACES: &[&str] = &["strace-grate.cwasm"];

const STACKS: [(&str, &[&[&str]]); 5] = [
    ("alone", &[]),
    ("crypt-grate", &[CRYPT]),
    ("filter that redacts", &[REDACTS]),
    ("both", &[CRYPT, REDACTS]),
    ("strace over crypt", &[TRACES, CRYPT]),
];

/// What the program does: all that there is, and what an enemy would.
const DEEDS: [&[&str]; 3] = [&[], &["hostile"], &["leak"]];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for (name, stack) in STACKS {
            trials.push(trial(format!("segments/{name}{mode}"), move || {
                deeds(stack, strict)
            }));
        }
    }
    trials.push(trial("segments/runs are apart".to_owned(), apart));
    trials
}

fn deeds(stack: &[&[&str]], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    for deed in DEEDS {
        let program = [&["segments.cwasm"], deed].concat();
        let ran = fixture.run_under(stack, &program, strict)?;
        let ran = ran.expect(0).map_err(|why| why.context(deed.concat()))?;
        ensure!(
            ran.out.ends_with(b"segments are right\n"),
            "{deed:?}: {:?}",
            ran.out
        );
    }
    Ok(())
}

/// What one run leaves behind, another does not find.
fn apart() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for _ in 0..2 {
        let ran = fixture.run_under(&[], &["segments.cwasm", "left"], false)?;
        ran.expect(0)?;
    }
    Ok(())
}
