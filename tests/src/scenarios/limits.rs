//! resource-grate: what a program can have under a file of limits.

use super::trial;
use crate::fixture::{Fixture, Run, words};
use anyhow::ensure;
use libtest_mimic::Trial;
use std::fs;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        for (deed, number, limits) in DEEDS {
            if strict && deed == "refused" {
                // Strict mode ends who calls what Lind does not serve.
                continue;
            }
            let name = format!("resource-grate/{deed}{mode}");
            let test = move || run(&[], deed, number, limits, strict);
            trials.push(trial(name, test));
        }
        for (name, first, second) in [
            ("crypt-grate inside", &[][..], CRYPT),
            ("crypt-grate outside", CRYPT, &[][..]),
            ("write-filter-grate inside", &[][..], FILTER),
            ("write-filter-grate outside", FILTER, &[][..]),
        ] {
            let name = format!("resource-grate/with {name}{mode}");
            trials.push(trial(name, move || nested(first, second, strict)));
        }
    }
    trials.push(trial(
        "resource-grate/files of limits that are wrong".to_owned(),
        wrong,
    ));
    trials
}

/// The file of limits is not sealed.
const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin", "--encrypt", "/tmp"];
const FILTER: &[&str] = &["write-filter-grate.cwasm", "--redact", "tokens"];

/// What the program does, the number that it is told, and the limits beside it.
const DEEDS: [(&str, u64, &str); 10] = [
    ("filewrite", 100_000, "resource filewrite 100000"),
    ("fileread", 300_000, "resource fileread 300000"),
    (
        "loopsend",
        60_000,
        "resource loopsend 60000\nresource looprecv 1000000",
    ),
    ("random", 5000, "resource random 5000"),
    ("blocked", 1, "resource filewrite 1"),
    ("filesopened", 5, "resource filesopened 5"),
    ("sockets", 4, "resource insockets 4\nresource outsockets 4"),
    (
        "ports",
        43210,
        "resource connport 43210\nresource messport 43210",
    ),
    ("events", 4, "resource events 4"),
    ("refused", 0, ""),
];

fn run(
    stack: &[&[&str]],
    deed: &str,
    number: u64,
    limits: &str,
    strict: bool,
) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::write(fixture.path("limits"), limits)?;
    let number = number.to_string();
    let grate = ["resource-grate.cwasm", "--limits", "/limits"];
    let program = ["limited.cwasm", deed, &number];
    let ran = fixture
        .start(&Run {
            strict,
            args: words(&[&stack.concat(), &grate, &program]),
            ..Run::default()
        })?
        .expect(0)?;
    ensure!(ran.text().ends_with("as limited\n"), "{}", ran.text());
    Ok(())
}

/// What other grates do is done, and the rate holds for the program's bytes or theirs.
fn nested(outside: &[&str], inside: &[&str], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    fs::write(
        fixture.path("limits"),
        "resource filewrite 200000\nresource fileread 1000000\nresource filesopened 50\n\
         resource events 20\nresource loopsend 1000000\nresource looprecv 1000000",
    )?;
    let grate = ["resource-grate.cwasm", "--limits", "/limits"];
    let start = |program: &[&str], input: &[u8]| {
        fixture.start(&Run {
            strict,
            args: words(&[outside, &grate, inside, program]),
            input,
            ..Run::default()
        })
    };
    let input: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    start(&["keep.cwasm", "/tmp/a.dat"], &input)?.expect(0)?;
    let shown = start(&["show.cwasm", "/tmp/a.dat"], b"")?.expect(0)?;
    ensure!(shown.out == input, "the file reads back differently");
    let is_sealed = fs::read(fixture.path("tmp/a.dat"))?.starts_with(b"\xA7sealed");
    let seals = [outside, inside].concat().contains(&CRYPT[0]);
    ensure!(is_sealed == seals, "sealed: {is_sealed}");
    let echo = start(&["tcp_echo.cwasm"], b"")?.expect(0)?;
    ensure!(echo.text().contains("echo done"));
    Ok(())
}

/// What is wrong is told with file and line, and nothing runs.
fn wrong() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let start = |options: &[&str]| fixture.run(&[options, &["hello.cwasm"]].concat());
    let limits = ["resource-grate.cwasm", "--limits", "/limits"];
    for (text, told) in [
        (
            "resource random 1\nresource filewrit 1\n",
            "/limits:2: filewrit",
        ),
        ("resource events 0", "/limits:1: 0 is no value of events"),
        ("resource cpu 0.5", "/limits:1: cpu is nothing"),
    ] {
        fs::write(fixture.path("limits"), text)?;
        let ran = start(&limits)?.expect(1)?;
        ensure!(ran.err.contains(told), "{}", ran.err);
        ensure!(ran.out.is_empty(), "something ran");
    }
    start(&[&limits[..], &["--skip", "cpu"]].concat())?.expect(0)?;
    start(&[&limits[..], &["--skip", "nothing"]].concat())?.expect(64)?;
    let ran = start(&["resource-grate.cwasm", "--limits", "/none"])?.expect(1)?;
    ensure!(ran.err.contains("/none: cannot be read"), "{}", ran.err);
    // In options, where no program can change them.
    for (limit, told) in [
        ("filewrit 1", "\"filewrit 1\": filewrit is no resource"),
        ("", "a line has a name and one value"),
        (
            "events 1\nresource random 1",
            "a line has a name and one value",
        ),
        ("# events 1", "a line has a name and one value"),
        ("random 1", "random stands here for the second time"),
    ] {
        fs::write(fixture.path("limits"), "resource random 1")?;
        let ran = start(&[&limits[..], &["--limit", limit]].concat())?.expect(1)?;
        ensure!(ran.err.contains(told) && ran.out.is_empty(), "{}", ran.err);
    }
    let options = ["resource-grate.cwasm", "--limit", "filesopened 5"];
    let program = ["limited.cwasm", "filesopened", "5"];
    fixture.run(&[&options[..], &program].concat())?.expect(0)?;
    start(&["resource-grate.cwasm"])?.expect(64).map(drop)
}
