//! Grates over grates.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, repository, words};
use anyhow::ensure;
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
        for outer in SUITE {
            trials.push(trial(
                format!("stacks/{} over each{mode}", outer.name),
                move || over_each(outer, strict),
            ));
        }
    }
    trials
}

const CRYPT: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
const REDACTS: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];
const NAMES: &[&str] = &["write-filter-grate.cwasm", "--allow-ext", "dat"];
const TRACES: &[&str] = &["strace-grate.cwasm"];

/// What becomes of a file's bytes on their way out through a grate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    /// Letters are turned.
    Turns,
    /// The secret is masked.
    Masks,
    /// All of it is sealed.
    Seals,
    /// What goes to sockets is sealed.
    SealsSockets,
}

impl Does {
    /// Whether a grate that seals must not stand inside.
    fn changes_data(self) -> bool {
        matches!(self, Self::Turns | Self::Masks)
    }
}

/// A grate of the suite, as it lets a program have its way.
struct Member {
    name: &'static str,
    args: &'static [&'static str],
    does: Does,
}

const fn member(name: &'static str, does: Does, args: &'static [&'static str]) -> Member {
    Member { name, args, does }
}

/// What other grates read is not sealed.
const SUITE: &[Member] = &[
    member("geteuid", Does::Nothing, &["geteuid-grate.cwasm"]),
    member("geteuid in C", Does::Nothing, &["geteuid-c-grate.cwasm"]),
    member("strace", Does::Nothing, TRACES),
    member("strace in C", Does::Nothing, &["strace-c-grate.cwasm"]),
    member("rot13", Does::Turns, &["rot13-grate.cwasm"]),
    member("rot13 in C", Does::Turns, &["rot13-c-grate.cwasm"]),
    member(
        "crypt",
        Does::Seals,
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--plaintext",
            "read",
        ],
    ),
    member(
        "write-filter",
        Does::Masks,
        &["write-filter-grate.cwasm", "--redact", "tokens"],
    ),
    member(
        "resource",
        Does::Nothing,
        &["resource-grate.cwasm", "--limits", "/generous.limits"],
    ),
    member(
        "fs-routing-clamp",
        Does::Nothing,
        &[
            "fs-routing-clamp.cwasm",
            "--prefix",
            "/tmp",
            "%{",
            "geteuid-grate.cwasm",
            "%}",
        ],
    ),
    member(
        "fs-routing-clamp of rot13",
        Does::Turns,
        &[
            "fs-routing-clamp.cwasm",
            "--prefix",
            "/tmp",
            "%{",
            "rot13-c-grate.cwasm",
            "%}",
        ],
    ),
    member(
        "fs-routing-clamp of crypt",
        Does::Seals,
        &[
            "fs-routing-clamp.cwasm",
            "--prefix",
            "/tmp",
            "%{",
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "%}",
        ],
    ),
    member(
        "net-routing-clamp",
        Does::Nothing,
        &[
            "net-routing-clamp.cwasm",
            "--port",
            "1-65535",
            "%{",
            "strace-c-grate.cwasm",
            "%}",
        ],
    ),
    member(
        "net-routing-clamp of crypt",
        Does::SealsSockets,
        &[
            "net-routing-clamp.cwasm",
            "--port",
            "1-65535",
            "%{",
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "%}",
        ],
    ),
];

/// A token, by its looks.
const SECRET: &str = "ghp_Ab3dE6gH9Ab3dE6gH9Ab3dE6gH9Ab3dE6gH9";

/// A stack of two, and what it is to do.
struct Pair<'a> {
    outer: &'a Member,
    inner: &'a Member,
    strict: bool,
    fixture: Fixture,
}

impl Pair<'_> {
    fn new<'a>(outer: &'a Member, inner: &'a Member, strict: bool) -> anyhow::Result<Pair<'a>> {
        let fixture = Fixture::new()?;
        fixture.make_key("k.bin")?;
        // The outer crypt-grate lets nobody at its own.
        fixture.make_key("other.bin")?;
        let limits = repository().join("resource-grate/tests/generous.limits");
        fs::copy(&limits, fixture.path("generous.limits"))?;
        fs::create_dir_all(fixture.path("tmp/t"))?;
        Ok(Pair {
            outer,
            inner,
            strict,
            fixture,
        })
    }

    fn start(&self, program: &[&str]) -> anyhow::Result<Ran> {
        let inner = self.inner.args.iter().map(|word| match *word {
            "/k.bin" => "/other.bin",
            // rot13 turns what other grates read, too.
            "--limits" if self.outer.args[0].starts_with("rot13") => "--limit",
            "/generous.limits" if self.outer.args[0].starts_with("rot13") => "events 200",
            word => word,
        });
        let inner: Vec<&str> = inner.collect();
        self.fixture.start(&Run {
            strict: self.strict,
            args: words(&[self.outer.args, &inner, program]),
            ..Run::default()
        })
    }

    /// Programs that use files, processes and sockets see what they see without any grate.
    fn programs_see_no_difference(&self) -> anyhow::Result<()> {
        for (program, said) in [
            (&["file_ops.cwasm", "/tmp", "7", "60"][..], "d.log"),
            (&["tour.cwasm", "/tmp/t"], "tour done"),
            (&["forker.cwasm"], "exit status 7"),
            (&["crowd.cwasm", "/tmp"], "8 children done"),
            (&["tcp_echo.cwasm"], "echo done"),
        ] {
            let ran = self.start(program)?.expect(0)?;
            ensure!(ran.text().contains(said), "{}: {}", program[0], ran.text());
        }
        Ok(())
    }

    /// What is written is on the disk as both have made it, and is read back as it was but for what
    /// is masked.
    fn both_do_theirs(&self) -> anyhow::Result<()> {
        let text = format!("a line that tells of {SECRET}, and another");
        let steps = [
            "steps.cwasm",
            "open /tmp/pair.dat rw+c",
            &format!("write {text}"),
        ];
        self.start(&steps)?.expect(0)?;
        let (mut seen, mut there, mut is_sealed) = (text.clone(), text.clone(), false);
        for does in [self.inner.does, self.outer.does] {
            match does {
                Does::Turns => there = turned(&there),
                Does::Masks => {
                    let mask = "*".repeat(SECRET.len());
                    // As it is shown. In the file, what is turned already is no secret any more.
                    seen = seen.replace(SECRET, &mask);
                    there = there.replace(SECRET, &mask);
                }
                Does::Seals => is_sealed = true,
                Does::Nothing | Does::SealsSockets => {}
            }
        }
        let file = fs::read(self.fixture.path("tmp/pair.dat"))?;
        if is_sealed {
            ensure!(file.starts_with(b"\xA7sealed"), "it is not sealed");
            self.fixture.ensure_nowhere(&there.as_bytes()[..20])?;
        } else {
            let file = String::from_utf8_lossy(&file);
            ensure!(
                file == there,
                "on the disk is {file:?} instead of {there:?}"
            );
        }
        let shown = self.start(&["show.cwasm", "/tmp/pair.dat"])?.expect(0)?;
        ensure!(shown.text() == seen, "{:?} is read back", shown.text());
        Ok(())
    }

    fn test(&self) -> anyhow::Result<()> {
        let seals = matches!(self.inner.does, Does::Seals | Does::SealsSockets);
        if seals && self.outer.does.changes_data() {
            let ran = self.start(&["hello.cwasm"])?.expect(1)?;
            let said = "a grate further out changes what is written";
            ensure!(ran.err.contains(said), "{}", ran.err);
            return Ok(());
        }
        self.programs_see_no_difference()?;
        self.both_do_theirs()
    }
}

fn turned(text: &str) -> String {
    let turn = |letter: char| match letter.to_ascii_lowercase() {
        'a'..='m' => (letter as u8 + 13) as char,
        'n'..='z' => (letter as u8 - 13) as char,
        _ => letter,
    };
    text.chars().map(turn).collect()
}

/// One grate over each of the suite, itself too.
fn over_each(outer: &Member, strict: bool) -> anyhow::Result<()> {
    let wrong: Vec<String> = SUITE
        .iter()
        .filter_map(|inner| {
            let tested = Pair::new(outer, inner, strict).and_then(|pair| pair.test());
            Some(format!("over {}: {:#}", inner.name, tested.err()?))
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
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
            ensure!(ran.err.contains(SAID), "{}", ran.err);
        }
    }
    ensure!(
        !fixture.path("/tmp/new.dat").exists(),
        "something was written"
    );
    for (number, input) in inputs.iter().enumerate() {
        let file = fixture.path(&path(number));
        ensure!(fs::read(&file)?.starts_with(b"\xA7sealed"));
        let shown = start(&[CRYPT], &["show.cwasm", &path(number)], b"")?.expect(0)?;
        ensure!(shown.out == *input, "{number} opens as another file");
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
    ensure!(shown.out == input, "the log reads back differently");
    fixture.ensure_nowhere(&input)?;
    let sealed = fs::read(fixture.path("tmp/a.log"))?;
    ensure!(sealed.starts_with(b"\xA7sealed"), "the log is not sealed");
    ensure!(
        fs::metadata(fixture.path("tmp/a.txt")).map_or(0, |file| file.len()) == 0,
        "the refused file has content"
    );
    Ok(())
}
