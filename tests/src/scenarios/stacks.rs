//! Grates over grates.

use super::trial;
use crate::fixture::{Fixture, Run, repository, words};
use anyhow::Context;
use libtest_mimic::Trial;
use std::fs;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        trials.push(trial(
            format!("stacks/filter over crypt{mode}"),
            move || {
                both(
                    &[
                        "write-filter-grate.cwasm",
                        "crypt-grate.cwasm",
                        "--key",
                        "/k.bin",
                    ],
                    strict,
                )
            },
        ));
        trials.push(trial(
            format!("stacks/crypt over filter{mode}"),
            move || {
                both(
                    &[
                        "crypt-grate.cwasm",
                        "--key",
                        "/k.bin",
                        "write-filter-grate.cwasm",
                    ],
                    strict,
                )
            },
        ));
        trials.push(trial(
            format!("stacks/what seals is not redacted{mode}"),
            move || order(strict),
        ));
        for (outer, of_outer) in SUITE {
            trials.push(trial(
                format!("stacks/{outer} over each{mode}"),
                move || over_each(of_outer, strict),
            ));
        }
    }
    trials
}

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const NAMES: &[&str] = &["write-filter-grate.cwasm", "--allow-ext", "dat"];
const TRACES: &[&str] = &["strace-grate.cwasm"];

/// The grates of the suite, each as it lets a program have its way.
const SUITE: &[(&str, &[&str])] = &[
    ("geteuid", &["geteuid-grate.cwasm"]),
    ("geteuid in C", &["geteuid-c-grate.cwasm"]),
    ("strace", TRACES),
    ("strace in C", &["strace-c-grate.cwasm"]),
    ("rot13", &["rot13-grate.cwasm"]),
    ("rot13 in C", &["rot13-c-grate.cwasm"]),
    // What other grates read is not sealed.
    (
        "crypt",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--plaintext",
            "read",
        ],
    ),
    (
        "write-filter",
        &["write-filter-grate.cwasm", "--redact", "keys"],
    ),
    (
        "resource",
        &["resource-grate.cwasm", "--limits", "/generous.limits"],
    ),
    (
        "fs-routing-clamp",
        &[
            "fs-routing-clamp.cwasm",
            "--prefix",
            "/tmp",
            "%{",
            "geteuid-grate.cwasm",
            "%}",
        ],
    ),
    (
        "net-routing-clamp",
        &[
            "net-routing-clamp.cwasm",
            "--port",
            "1-65535",
            "%{",
            "geteuid-grate.cwasm",
            "%}",
        ],
    ),
];

/// Under one grate, which stands over each of the suite, itself too, programs that use files, processes and sockets
/// see what they see without any.
fn over_each(outer: &[&str], strict: bool) -> anyhow::Result<()> {
    let limits = repository().join("resource-grate/tests/generous.limits");
    for (name, inner) in SUITE {
        let (out, within) = (outer[0], inner[0]);
        // It is refused to seal what is changed further out, the outer crypt-grate lets nobody at a key, and
        // rot13 turns what other grates read, too.
        let turns = out.starts_with("rot13");
        if within == CRYPT[0] && (out == CRYPT[0] || out == REDACTS[0] || turns)
            || within == "resource-grate.cwasm" && turns
        {
            continue;
        }
        for (program, said) in [
            (&["file_ops.cwasm", "/tmp", "7", "60"][..], "d.log"),
            (&["forker.cwasm"], "exit status 7"),
            (&["crowd.cwasm", "/tmp"], "8 children done"),
            (&["tcp_echo.cwasm"], "echo done"),
        ] {
            let fixture = Fixture::new()?;
            fixture.make_key("k.bin")?;
            fs::copy(&limits, fixture.path("generous.limits"))?;
            let run = Run {
                strict,
                args: words(&[outer, inner, program]),
                ..Run::default()
            };
            let ran = fixture.start(&run)?;
            let ran = ran
                .expect(0)
                .with_context(|| format!("over {name}, {}", program[0]))?;
            anyhow::ensure!(
                ran.text().contains(said),
                "over {name}, {}: {}",
                program[0],
                ran.text()
            );
        }
    }
    Ok(())
}

/// A filter that redacts may stand inside crypt-grate. Outside it, it is refused before anything is
/// touched, whatever stands between them.
fn order(strict: bool) -> anyhow::Result<()> {
    const SAID: &str = "a grate further out changes what is written, and would damage \
        what is sealed; name crypt-grate first: lind-wasm crypt-grate.cwasm --key FILE \
        GRATE PROGRAM";
    const LEN: usize = 300 << 10;
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let start = |stack: &[&[&str]], program: &[&str], input: &[u8]| {
        fixture.start(&Run {
            strict,
            args: words(&[&stack.concat(), program]),
            input,
            ..Run::default()
        })
    };
    let path = |number: usize| format!("/tmp/{number}.dat");
    let right: [&[&[&str]]; 4] = [
        &[CRYPT, REDACTS],
        &[CRYPT, TRACES, REDACTS],
        &[NAMES, CRYPT, REDACTS],
        &[CRYPT, NAMES],
    ];
    let mut state = 1u64;
    let inputs: Vec<Vec<u8>> = (0..20)
        .map(|_| {
            let bytes = std::iter::repeat_with(|| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 56) as u8
            });
            // Its head says what it is, as those of nearly all formats do.
            std::iter::once(0).chain(bytes).take(LEN).collect()
        })
        .collect();
    for (number, input) in inputs.iter().enumerate() {
        let stack = right[number % right.len()];
        start(stack, &["keep.cwasm", &path(number)], input)?.expect(0)?;
    }
    const TURNS: &[&str] = &["rot13-grate.cwasm"];
    const TURNS_IN_C: &[&str] = &["rot13-c-grate.cwasm"];
    const CLAMPED: &[&str] = &[
        "fs-routing-clamp.cwasm",
        "--prefix",
        "/tmp",
        "%{",
        "rot13-grate.cwasm",
        "%}",
    ];
    let wrong: [&[&[&str]]; 8] = [
        &[TURNS, CRYPT],
        &[TURNS, TRACES, CRYPT],
        &[TURNS_IN_C, NAMES, CRYPT],
        &[CLAMPED, CRYPT],
        &[REDACTS, CRYPT],
        &[REDACTS, TRACES, CRYPT],
        &[REDACTS, CRYPT, REDACTS],
        &[CRYPT, REDACTS, CRYPT],
    ];
    for stack in wrong {
        for at in [&path(0), "/tmp/new.dat"] {
            let ran = start(stack, &["keep.cwasm", at], b"a text")?.expect(1)?;
            anyhow::ensure!(ran.err.contains(SAID), "{}", ran.err);
        }
    }
    anyhow::ensure!(
        !fixture.path("/tmp/new.dat").exists(),
        "something was written"
    );
    for (number, input) in inputs.iter().enumerate() {
        let file = fixture.path(&path(number));
        anyhow::ensure!(fs::read(&file)?.starts_with(b"\xA7sealed"));
        let shown = start(&[CRYPT], &["show.cwasm", &path(number)], b"")?.expect(0)?;
        anyhow::ensure!(shown.out == *input, "{number} opens as another file");
    }
    Ok(())
}

/// Whatever the order, `.log` files are sealed and others can't be written.
fn both(grates: &[&str], strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let input = b"a line that must not be on the disk in the clear\n".repeat(200);
    let start = |program: &[&str], input: &[u8]| {
        fixture.start(&Run {
            strict,
            args: words(&[grates, program]),
            input,
            ..Run::default()
        })
    };
    start(&["keep.cwasm", "/tmp/a.log"], &input)?.expect(0)?;
    start(&["keep.cwasm", "/tmp/a.txt"], &input)?.expect(1)?;
    let shown = start(&["show.cwasm", "/tmp/a.log"], b"")?.expect(0)?;
    anyhow::ensure!(shown.out == input, "the log reads back differently");
    fixture.ensure_nowhere(&input)?;
    let sealed = fs::read(fixture.path("tmp/a.log"))?;
    anyhow::ensure!(sealed.starts_with(b"\xA7sealed"), "the log is not sealed");
    anyhow::ensure!(
        fs::metadata(fixture.path("tmp/a.txt")).map_or(0, |file| file.len()) == 0,
        "the refused file has content"
    );
    Ok(())
}
