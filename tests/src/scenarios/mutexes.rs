//! A mutex in memory that cages share, bare and under each grate: whoever has it is alone, what
//! they write in turn is in order, and who waits for one that dies gets it.

use super::trial;
use crate::fixture::Fixture;
use anyhow::ensure;
use libtest_mimic::Trial;
use std::fs;

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const NAMES: &[&str] = &["write-filter-grate.cwasm", "--allow-ext", "dat"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const LIMITS: &[&str] = &["resource-grate.cwasm", "--limits", "/limits"];
const CLAMP: &[&str] = &["fs-routing-clamp.cwasm", "--prefix", "/tmp", "%{"];
const PORTS: &[&str] = &["net-routing-clamp.cwasm", "--port", "1-65535", "%{"];
const END: &[&str] = &["%}"];

const STACKS: [(&str, &[&[&str]]); 12] = [
    ("alone", &[]),
    ("geteuid-grate", &[&["geteuid-grate.cwasm"]]),
    ("strace-grate", &[&["strace-grate.cwasm"]]),
    ("strace-c-grate", &[&["strace-c-grate.cwasm"]]),
    ("rot13-grate", &[&["rot13-grate.cwasm"]]),
    ("rot13-c-grate", &[&["rot13-c-grate.cwasm"]]),
    ("crypt-grate", &[CRYPT]),
    ("filter of names", &[NAMES]),
    ("filter that redacts, over crypt-grate", &[CRYPT, REDACTS]),
    ("resource-grate", &[LIMITS]),
    ("fs-routing-clamp", &[CLAMP, CRYPT, END]),
    ("net-routing-clamp", &[PORTS, CRYPT, END]),
];

/// Where the mutex lies: in a mapping that children have too, in a segment, in one that another
/// program finds.
const KINDS: [&str; 3] = ["mapping", "segment", "programs"];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for (name, stack) in STACKS {
            trials.push(trial(format!("mutexes/{name}{mode}"), move || {
                contended(stack, strict)
            }));
        }
    }
    trials
}

fn contended(stack: &[&[&str]], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    fs::write(fixture.path("limits"), "resource filewrite 5000000\n")?;
    for kind in KINDS {
        let program = ["mutexes.cwasm", kind, "/tmp/turns.dat"];
        let ran = fixture.run_under(stack, &program, strict)?;
        let ran = ran.expect(0).map_err(|why| why.context(kind))?;
        ensure!(ran.text().ends_with("mutexes are right\n"), "{kind}");
    }
    Ok(())
}
