//! Threads of a program, bare and under grates: what they do at once comes out as a plain kernel
//! could have it, files are sealed all the same and verify, secrets are masked.

use super::trial;
use crate::fixture::{Fixture, Ran, command, host_command};
use anyhow::ensure;
use libtest_mimic::Trial;
use std::fs;

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const NAMES: &[&str] = &["write-filter-grate.cwasm", "--allow-ext", "dat"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const TRACES: &[&str] = &["strace-grate.cwasm"];
const TRACES_IN_C: &[&str] = &["strace-c-grate.cwasm"];
const TURNS_IN_C: &[&str] = &["rot13-c-grate.cwasm"];

/// Grates that a program with threads runs under.
const STACKS: [(&str, &[&[&str]]); 8] = [
    ("alone", &[]),
    ("crypt-grate", &[CRYPT]),
    ("filter of names", &[NAMES]),
    ("filter that redacts", &[REDACTS]),
    ("both", &[CRYPT, REDACTS]),
    ("strace over crypt", &[TRACES, CRYPT]),
    ("strace in C", &[TRACES_IN_C]),
    ("crypt over rot13 in C", &[CRYPT, TURNS_IN_C]),
];

/// What they do, the exit status, and what is printed at the end.
const DEEDS: [(&[&str], i32, &str); 14] = [
    (&["count"], 0, "counted"),
    (&["offsets", "/tmp/offsets.dat"], 0, "offsets are right"),
    (&["appends", "/tmp/one.dat", "one"], 0, "appends are right"),
    (
        &["appends", "/tmp/each.dat", "each"],
        0,
        "appends are right",
    ),
    (&["writes", "/tmp/writes.dat"], 0, "writes are right"),
    (&["closing", "/tmp/closing.dat"], 0, "closing is right"),
    (&["numbers", "/tmp/numbers"], 0, "numbers are right"),
    (&["fork", "/tmp/fork.dat"], 0, "forked"),
    (&["exec", "/bin/hello.cwasm"], 0, "arg 1 = exec"),
    (&["exec-two", "/bin/hello.cwasm"], 0, "arg 1 = exec"),
    (&["exit"], 6, ""),
    (&["last"], 7, ""),
    (&["left"], 0, "left"),
    (&["trap"], 1, ""),
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for (name, stack) in STACKS {
            trials.push(trial(format!("threads/{name}{mode}"), move || {
                deeds(stack, strict)
            }));
        }
        trials.push(trial(
            format!("threads/what they print is masked{mode}"),
            move || lines(strict),
        ));
    }
    trials
}

fn run(fixture: &Fixture, stack: &[&[&str]], deed: &[&str], strict: bool) -> anyhow::Result<Ran> {
    fixture.run_under(stack, &[&["threads.cwasm"], deed].concat(), strict)
}

fn deeds(stack: &[&[&str]], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fixture.make_key("k.bin")?;
    fs::create_dir(fixture.path("tmp/numbers"))?;
    for (deed, code, last) in DEEDS {
        if deed[0] == "numbers" && stack.contains(&NAMES) {
            continue; // Its files have names that may not be written.
        }
        let ran = run(&fixture, stack, deed, strict)?;
        let ran = ran
            .expect(code)
            .map_err(|why| why.context(deed.join(" ")))?;
        let text = ran.text();
        ensure!(text.trim_end().ends_with(last), "{deed:?}: {text}");
    }
    if !stack.contains(&CRYPT) {
        return Ok(());
    }
    let mut sealed: Vec<_> = DEEDS
        .iter()
        .filter_map(|(deed, _, _)| deed.get(1).filter(|path| path.ends_with(".dat")))
        .map(|path| fixture.path(path))
        .collect();
    let numbers = fs::read_dir(fixture.path("tmp/numbers"))?;
    for entry in numbers {
        sealed.push(entry?.path());
    }
    ensure!(sealed.len() == 6 + 240, "{} files", sealed.len());
    let mut verify = vec!["verify".into(), "--key".into(), key.into_os_string()];
    verify.extend(sealed.into_iter().map(|path| path.into_os_string()));
    command(&host_command("keys"), &verify)?.expect(0)?;
    for plaintext in [":bbbbbbbbbbbbbbbbbbb", "thread 1 round 1"] {
        fixture.ensure_nowhere(plaintext.as_bytes())?;
    }
    Ok(())
}

/// Lines that are written in pieces, by threads in turn: a secret that lies across pieces of one
/// line is masked, and no byte of another thread's comes into it.
fn lines(strict: bool) -> anyhow::Result<()> {
    const COUNT: usize = 40;
    let fixture = Fixture::new()?;
    let secret = "AKIAIOSFODNN7EXAMPLE";
    let line = format!("thread % has key={secret} in it");
    let deed = ["lines", &line, &COUNT.to_string()];
    let ran = run(&fixture, &[REDACTS], &deed, strict)?.expect(0)?;
    let text = ran.text();
    ensure!(!text.contains(secret), "{text}");
    let right = |line: &str| {
        line.starts_with("thread ") && line.ends_with(" in it") && line.len() == deed[1].len()
    };
    ensure!(text.lines().all(right), "{text}");
    ensure!(text.lines().count() == 4 * COUNT, "{text}");
    Ok(())
}
