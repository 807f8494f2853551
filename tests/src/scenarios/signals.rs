//! Signals of a program, bare and under grates: handlers run when and as often as on Linux, and a
//! storm of them leaves whole what grates do to files and connections meanwhile.

use super::trial;
use crate::fixture::{Fixture, Run, command, host_command, words};
use anyhow::ensure;
use libtest_mimic::Trial;

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const TRACES: &[&str] = &["strace-grate.cwasm"];
const TRACES_IN_C: &[&str] = &["strace-c-grate.cwasm"];
const TURNS_IN_C: &[&str] = &["rot13-c-grate.cwasm"];

const STACKS: [(&str, &[&[&str]]); 7] = [
    ("alone", &[]),
    ("crypt-grate", &[CRYPT]),
    ("filter that redacts", &[REDACTS]),
    ("both", &[CRYPT, REDACTS]),
    ("strace over crypt", &[TRACES, CRYPT]),
    ("strace in C", &[TRACES_IN_C]),
    ("crypt over rot13 in C", &[CRYPT, TURNS_IN_C]),
];

/// What the program does, a run each: the last becomes the program anew.
const DEEDS: [&str; 11] = [
    "raised",
    "masked",
    "interrupted",
    "computes",
    "children",
    "pipes",
    "suspended",
    "waits",
    "connection",
    "/tmp/storm.dat",
    "replaced",
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for (name, stack) in STACKS {
            trials.push(trial(format!("signals/{name}{mode}"), move || {
                deeds(stack, strict)
            }));
        }
    }
    for (second, mode) in [(false, ""), (true, ", one of them strict")] {
        let name = format!("signals/two runs write to one file{mode}");
        trials.push(trial(name, move || two_runs(second)));
    }
    trials.push(trial(
        "signals/what is stuck in handlers counts".to_owned(),
        stuck,
    ));
    trials
}

/// Who waits for the lock of another run is interrupted by signals, and its writes are whole.
fn two_runs(second_is_strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let run = |deed: &str, strict: bool| {
        let program = ["signals.cwasm", &format!("{deed}:/tmp/contended.dat")];
        let ran = fixture.run_under(&[CRYPT], &program, strict)?;
        let ran = ran.expect(0).map_err(|why| why.context(deed.to_owned()));
        ran.map(drop)
    };
    let run = &run;
    std::thread::scope(|scope| {
        let second = scope.spawn(move || run("odd", second_is_strict));
        run("even", false)?;
        second
            .join()
            .unwrap_or_else(|_| anyhow::bail!("it panicked"))
    })?;
    run("whole", false)
}

fn stuck() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let ran = fixture.start(&Run {
        options: words(&[&["--max-cages", "12"]]),
        args: words(&[&["signals.cwasm", "stuck"]]),
        ..Run::default()
    })?;
    let text = ran.expect(0)?.text();
    ensure!(text.trim_end() == "all as it should be", "{text}");
    Ok(())
}

fn deeds(stack: &[&[&str]], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fixture.make_key("k.bin")?;
    for deed in DEEDS {
        let ran = fixture.run_under(stack, &["signals.cwasm", deed], strict)?;
        let ran = ran.expect(0).map_err(|why| why.context(deed))?;
        let text = ran.text();
        ensure!(text.trim_end() == "all as it should be", "{deed}: {text}");
    }
    if stack.contains(&CRYPT) {
        let file = fixture.path("tmp/storm.dat").into_os_string();
        let verify = ["verify".into(), "--key".into(), key.into_os_string(), file];
        command(&host_command("keys"), &verify)?.expect(0)?;
    }
    Ok(())
}
