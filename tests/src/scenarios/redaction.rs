//! Redaction by write-filter-grate: no way of cutting a secret into calls gets it out.

use super::crypt::python;
use super::trial;
use crate::fixture::{Fixture, Ran, Run, command, host_command, repository, words};
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const TEXT: &str = "id AKIAIOSFODNN7EXAMPLE, mail jane.doe@example.com.\n";
const MASKED: &str = "id ********************, mail ********************.\n";
const FILE: &str = "/tmp/out.txt";

/// Ways that end on standard output.
const STREAMS: &[&str] = &[
    "whole",
    "bytes",
    "vectors",
    "fork",
    "child first",
    "exec",
    "failed exec",
    "failed calls",
    "dup",
];
/// Ways to another end of a pipe or socket, which the program shows in hexadecimal.
const PEERS: &[&str] = &["pipe", "socket", "message", "datagram"];
/// Ways that end in a file.
const FILES: &[&str] = &[
    "file",
    "appended",
    "backwards",
    "vectors at",
    "two",
    "overwritten",
    "shortened",
    "cut",
    "cloexec",
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let mut add = |name: &str, test: fn(bool) -> anyhow::Result<()>| {
            let name = format!("write-filter-grate/{name}{mode}");
            trials.push(trial(name, move || test(strict)));
        };
        add("streams are redacted", streams);
        add("peers get nothing secret", peers);
        add("files are redacted", files);
        add("redacted, then sealed", sealed);
        add("shortcuts are closed", shortcuts);
        add("lines of several programs stay whole", crowd);
        add("a slow reader gets everything", slow_reader);
        add("standard output and error of one file", one_file);
        add("a standard stream to a file with a name", named_stream);
        add("what a killed program has left", killed);
        add("a secret that is asked for is asked for at once", prompt);
        add("secrets out of a file", secret_file);
        add("secrets of the environment", environment);
        add("a pipe that is opened once more", reopened);
        add("nothing is held for long", hold);
        add("names change between two halves", renamed);
        add("listed secrets in all their forms, in any order", forms);
    }
    trials.push(trial(
        "write-filter-grate/archives, databases and images pass unchanged".to_owned(),
        archives,
    ));
    for (name, args, message) in BAD {
        trials.push(trial(
            format!("write-filter-grate/bad options: {name}"),
            || bad_options(args, message),
        ));
    }
    trials
}

fn start(
    fixture: &Fixture,
    strict: bool,
    grates: &[&str],
    program: &[&str],
) -> anyhow::Result<Ran> {
    start_with(fixture, strict, grates, program, b"")
}

fn start_with(
    fixture: &Fixture,
    strict: bool,
    grates: &[&str],
    program: &[&str],
    input: &[u8],
) -> anyhow::Result<Ran> {
    fixture.start(&Run {
        strict,
        args: [grates, program]
            .concat()
            .iter()
            .map(|&arg| arg.to_owned())
            .collect(),
        input,
        ..Run::default()
    })
}

const REDACT: &[&str] = &["write-filter-grate.cwasm", "--redact", "all"];

fn streams(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for way in STREAMS {
        // Without the grate the secret gets out, or the test would show nothing.
        let plain = start(&fixture, strict, &[], &["leak.cwasm", way])?.expect(0)?;
        ensure!(plain.text() == TEXT, "{way}, plain: {:?}", plain.text());
        let ran = start(&fixture, strict, REDACT, &["leak.cwasm", way])?.expect(0)?;
        ensure!(ran.text() == MASKED, "{way}: {:?}", ran.text());
    }
    Ok(())
}

fn peers(strict: bool) -> anyhow::Result<()> {
    let hex = |text: &str| {
        let bytes: Vec<_> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(" ") + "\n"
    };
    let fixture = Fixture::new()?;
    let whole = PEERS.iter().map(|way| (*way, TEXT, MASKED));
    let shortened = [TEXT, MASKED].map(|text| text.trim_end_matches(".\n"));
    for (way, text, masked) in whole.chain([("shutdown", shortened[0], shortened[1])]) {
        let plain = start(&fixture, strict, &[], &["leak.cwasm", way])?.expect(0)?;
        ensure!(
            plain.text() == hex(text),
            "{way}, plain: {:?}",
            plain.text()
        );
        let ran = start(&fixture, strict, REDACT, &["leak.cwasm", way])?.expect(0)?;
        ensure!(ran.text() == hex(masked), "{way}: {:?}", ran.text());
    }
    Ok(())
}

fn files(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let out = fixture.path(FILE);
    for way in FILES {
        for (grates, expected) in [(&[][..], TEXT), (REDACT, MASKED)] {
            let _ = fs::remove_file(&out);
            start(&fixture, strict, grates, &["leak.cwasm", way, FILE])?
                .expect(0)
                .with_context(|| way.to_string())?;
            let text = fs::read_to_string(&out)?;
            ensure!(text == expected, "{way}: {text:?}");
        }
    }
    Ok(())
}

/// The grate that stands next to the program sees its writes first: what is sealed is redacted.
fn sealed(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let crypt = ["crypt-grate.cwasm", "--key", "/k.bin"];
    let both = [&crypt, REDACT].concat();
    for way in FILES.iter().filter(|way| **way != "cloexec") {
        let out = fixture.path(FILE);
        let _ = fs::remove_file(&out);
        start(&fixture, strict, &both, &["leak.cwasm", way, FILE])?
            .expect(0)
            .with_context(|| way.to_string())?;
        let stored = fs::read(&out)?;
        ensure!(
            !stored.windows(4).any(|bytes| bytes == b"mail"),
            "{way}: not sealed"
        );
        let shown = start(&fixture, strict, &crypt, &["show.cwasm", FILE])?.expect(0)?;
        ensure!(shown.text() == MASKED, "{way}: {:?}", shown.text());
    }
    Ok(())
}

fn shortcuts(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::write(fixture.path(FILE), TEXT)?;
    start(&fixture, strict, REDACT, &["leak.cwasm", "shortcuts", FILE])?.expect(0)?;
    ensure!(
        fs::read_to_string(fixture.path(FILE))? == TEXT,
        "what was there was changed"
    );
    Ok(())
}

/// Four programs add lines to one file, all at a time.
fn crowd(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for (grates, line) in [(&[][..], TEXT), (REDACT, MASKED)] {
        let _ = fs::remove_file(fixture.path(FILE));
        start(&fixture, strict, grates, &["leak.cwasm", "crowd", FILE])?.expect(0)?;
        let text = fs::read_to_string(fixture.path(FILE))?;
        for letter in ["a", "b", "c", "d"] {
            let whole = letter.repeat(30) + line.trim_end();
            let count = text.lines().filter(|line| *line == whole).count();
            ensure!(count == 100, "{count} lines of {letter} are whole");
        }
        ensure!(text.lines().count() == 400, "there are other lines");
    }
    Ok(())
}

/// The program does not wait for room, and closes the pipe when all has been taken.
fn slow_reader(strict: bool) -> anyhow::Result<()> {
    const LINES: usize = 8192;
    let fixture = Fixture::new()?;
    for (grates, masked) in [(&[][..], 0), (REDACT, LINES)] {
        let ran = start(&fixture, strict, grates, &["leak.cwasm", "slow reader"])?.expect(0)?;
        let expected = format!("{} bytes, {masked} lines masked\n", LINES * TEXT.len());
        ensure!(ran.text() == expected, "{:?}", ran.text());
    }
    Ok(())
}

/// `> file 2>&1`: one secret over both.
fn one_file(strict: bool) -> anyhow::Result<()> {
    into_file(strict, &["leak.cwasm", "streams"], MASKED)
}

/// Standard output leads to a file that the program knows the name of.
fn named_stream(strict: bool) -> anyhow::Result<()> {
    const EACCES: &str = "13";
    let made = [
        "steps.cwasm",
        "out AKIAIOSF",
        "open /tmp/both w+a",
        "truncate /tmp/both 3",
        "out ODNN7EXAMPLE. ",
        "open /tmp/both r",
    ];
    let shown = format!("{}. ok {EACCES} {EACCES} ok ok\n", "*".repeat(20));
    into_file(strict, &made, &shown)
}

/// Runs a program whose standard output and error go to `/tmp/both`.
fn into_file(strict: bool, program: &[&str], expected: &str) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let out = fixture.path("tmp/both");
    let mut command = Command::new("sh");
    command
        .args(["-c", "out=$1; shift; exec \"$@\" > \"$out\" 2>&1", "sh"])
        .arg(&out)
        .arg(host_command("lind-wasm"))
        .arg("--root")
        .arg(fixture.path(""))
        .args(strict.then_some("--strict-lind"))
        .args(REDACT.iter().map(|arg| fixture.named(arg, strict)))
        .args(program.iter().map(|arg| fixture.named(arg, strict)));
    ensure!(command.status()?.success(), "it failed");
    let text = fs::read_to_string(&out)?;
    ensure!(text == expected, "{text:?}");
    Ok(())
}

/// Whatever the file is called when the second half comes, and however it is opened.
fn renamed(strict: bool) -> anyhow::Result<()> {
    const HALVES: [&str; 2] = ["write id AKIAIOSF", "write ODNN7EXAMPLE."];
    const AT: &str = "pwrite 11 ODNN7EXAMPLE.";
    for (steps, name) in [
        (
            &[
                "open /tmp/a w+c",
                HALVES[0],
                "rename /tmp/a /tmp/b",
                HALVES[1],
            ][..],
            "tmp/b",
        ),
        (
            &[
                "open /tmp/a rw+c",
                HALVES[0],
                "rename /tmp/a /tmp/b",
                "open /tmp/b rw",
                AT,
            ],
            "tmp/b",
        ),
        (
            &[
                "open /tmp/a rw+c",
                HALVES[0],
                "link /tmp/a /tmp/b",
                "open /tmp/b w+a",
                HALVES[1],
            ],
            "tmp/b",
        ),
        (
            &[
                "open /tmp/a rw+c",
                HALVES[0],
                "symlink a /tmp/b",
                "open /tmp/b rw",
                AT,
            ],
            "tmp/a",
        ),
        (
            &[
                "open /tmp/b rw+c",
                HALVES[0],
                "open /tmp/a rw+c",
                "write id",
                "rename /tmp/b /tmp/a",
                "open /tmp/a w+a",
                HALVES[1],
            ],
            "tmp/a",
        ),
        (
            &[
                "open /tmp/a rw+c",
                HALVES[0],
                "ftruncate 40",
                AT,
                "ftruncate 24",
            ],
            "tmp/a",
        ),
    ] {
        let fixture = Fixture::new()?;
        let program = [&["steps.cwasm"], steps].concat();
        let ran = start(&fixture, strict, REDACT, &program)?.expect(0)?;
        let said = vec!["ok"; steps.len()].join(" ") + "\n";
        ensure!(ran.text() == said, "{steps:?}: {}", ran.text());
        let text = fs::read_to_string(fixture.path(name))?;
        let expected = format!("id {}.", "*".repeat(20));
        ensure!(text == expected, "{steps:?}: {text:?}");
    }
    Ok(())
}

/// A listed secret, as others encode it, and written in pieces one after the other, from the end,
/// over two descriptors, and in the order of no one.
fn forms(strict: bool) -> anyhow::Result<()> {
    const SECRET: &str = "c0rrect horse\"bat&tery/9";
    const FORMS: &[&str] = &[
        SECRET,
        "YzBycmVjdCBob3JzZSJiYXQmdGVyeS85",
        "eGMwcnJlY3QgaG9yc2UiYmF0JnRlcnkvOQ",
        "eHljMHJyZWN0IGhvcnNlImJhdCZ0ZXJ5Lzl6",
        "6330727265637420686f7273652262617426746572792f39",
        "6330727265637420686F7273652262617426746572792F39",
        "c0rrect%20horse%22bat%26tery%2F9",
        "c0rrect+horse%22bat%26tery%2f9",
        "c0rrect horse\\\"bat\\u0026tery/9",
        "c0rrect horse\\\"bat&tery\\/9",
        "c0rrect horse&quot;bat&amp;tery/9",
        "c0rrect\\ horse\\\"bat\\&tery/9",
        "c0rr\x1b[1mect horse\x1b[0m\"bat&ter\x1b[31;1my/9",
    ];
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let fixture = Fixture::new()?;
    for folder in ["work", "got"] {
        fs::create_dir_all(fixture.path(folder))?;
    }
    fs::write(fixture.path("list"), format!("{SECRET}\n"))?;
    let grate = ["write-filter-grate.cwasm", "--secret-file", "/list"];
    let mut random = fastrand::Rng::with_seed(16);
    for form in FORMS {
        let text = format!("before {form} after\n");
        let (text, secret) = (text.as_bytes(), form.as_bytes());
        for way in ["forwards", "backwards", "at once", "mixed", "appended"] {
            let mut cuts = [0; 3].map(|_| random.usize(1..text.len()));
            cuts.sort_unstable();
            let mut pieces: Vec<(usize, &[u8])> = match way {
                "mixed" => text.chunks(1).enumerate().collect(),
                _ => {
                    let from = [0].into_iter().chain(cuts);
                    let until = cuts.into_iter().chain([text.len()]);
                    let parts = from
                        .zip(until)
                        .map(|(from, until)| (from, &text[from..until]));
                    parts.filter(|(_, part)| !part.is_empty()).collect()
                }
            };
            match way {
                "backwards" => pieces.reverse(),
                "mixed" => random.shuffle(&mut pieces),
                _ => {}
            }
            let flags = if way == "appended" { 0o2002 } else { 2 };
            let mut script =
                format!("files /work/a\nopen f /work/a {flags}\nopen g /work/a {flags}\n");
            if way == "at once" {
                let parts: Vec<_> = pieces.iter().map(|(_, part)| hex(part)).collect();
                script += &format!("writev f {}\n", parts.join(" "));
            } else {
                for (index, (at, part)) in pieces.iter().enumerate() {
                    let slot = ["f", "g"][index % 2];
                    script += &match way {
                        "appended" => format!("write {slot} {}\n", hex(part)),
                        _ => format!("pwrite {slot} {at} {}\n", hex(part)),
                    };
                }
            }
            fs::write(fixture.path("script"), script)?;
            fs::write(fixture.path("work/a"), "")?;
            start(&fixture, strict, &grate, &["scribe.cwasm", "/script"])?.expect(0)?;
            let got = fs::read(fixture.path("work/a"))?;
            let is_shown = secret
                .windows(10)
                .any(|part| got.windows(10).any(|seen| seen == part));
            ensure!(
                !is_shown && got.len() == text.len(),
                "{form:?} {way}: {}",
                got.escape_ascii()
            );
            ensure!(
                got.starts_with(b"before ") && got.ends_with(b" after\n"),
                "{form:?} {way}"
            );
        }
    }
    Ok(())
}

fn killed(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let ran = start(&fixture, strict, REDACT, &["leak.cwasm", "killed"])?.expect(0)?;
    let expected = format!("{MASKED}half of it: ");
    let rest = ran.text();
    let rest = rest
        .strip_prefix(&expected)
        .with_context(|| format!("{rest:?}"))?;
    // No secret as it stands, or masked because it was held for too long.
    ensure!(rest == "AKIAIOSF" || rest == "********", "{rest:?}");
    Ok(())
}

/// What may begin a secret does not wait for the program's next words.
fn prompt(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let words = ["leak.cwasm", "prompt"];
    let ran = start_with(&fixture, strict, REDACT, &words, b"hunter2hunter2\n")?.expect(0)?;
    let text = ran.text();
    ensure!(text.starts_with("Your password: "), "{text:?}");
    ensure!(
        !text.contains("hunter2hunter2\n") || !text.contains("password: hunter2"),
        "{text:?}"
    );
    Ok(())
}

/// The half of a secret goes out, masked, while the program waits for something else.
fn hold(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let mut command = Command::new(host_command("lind-wasm"));
    command
        .arg("--root")
        .arg(fixture.path(""))
        .args(strict.then_some("--strict-lind"))
        .args(REDACT.iter().map(|arg| fixture.named(arg, strict)))
        .args(["leak.cwasm", "half"].map(|arg| fixture.named(arg, strict)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut out = child.stdout.take().context("no pipe")?;
    // It comes while the program reads from a pipe that nobody has written to.
    let mut half = [0; 11];
    out.read_exact(&mut half)?;
    ensure!(
        &half == b"id ********",
        "{:?}",
        String::from_utf8_lossy(&half)
    );
    child.stdin.take().context("no pipe")?.write_all(b"\n")?;
    let mut rest = String::new();
    out.read_to_string(&mut rest)?;
    ensure!(child.wait()?.success(), "it failed");
    ensure!(rest == MASKED[11..], "{rest:?}");
    Ok(())
}

fn secret_file(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::write(fixture.path("secrets"), "jane.doe\r\nEXAMPLE\n\n")?;
    let grate = [
        "write-filter-grate.cwasm",
        "--secret-file",
        "/secrets",
        "--verbose",
    ];
    let ran = start(&fixture, strict, &grate, &["leak.cwasm", "bytes"])?.expect(0)?;
    let expected = "id AKIAIOSFODNN7*******, mail ********@example.com.\n";
    ensure!(ran.text() == expected, "{:?}", ran.text());
    ensure!(ran.err.contains("secrets found: /secrets 2"), "{}", ran.err);
    Ok(())
}

/// What no secret is in goes through as it is, in a file and in a stream, with all built-ins on; and
/// of a token in an archive, the token alone is masked.
fn archives() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let script = repository().join("tests/archives.py");
    let folder = fixture.path("tmp");
    command(&python()?, [script.as_os_str(), folder.as_os_str()])?.expect(0)?;
    fs::write(fixture.path("tmp/sh"), fs::read("/bin/sh")?)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name().into_string();
        names.push(name.map_err(|name| anyhow::anyhow!("{}", name.display()))?);
    }
    ensure!(names.len() == 14, "{names:?}");
    for name in &names {
        let (from, to) = (format!("/tmp/{name}"), format!("/tmp/copied/{name}"));
        fs::create_dir_all(fixture.path("tmp/copied"))?;
        let original = fs::read(fixture.path(&from))?;
        // It compares, too.
        let copy = ["copy.cwasm", &from, &to, "7777"];
        start(&fixture, false, REDACT, &copy)?
            .expect(0)
            .with_context(|| name.clone())?;
        ensure!(fs::read(fixture.path(&to))? == original, "{name} in a file");
        let shown = start(&fixture, false, REDACT, &["show.cwasm", &from])?.expect(0)?;
        ensure!(shown.out == original, "{name} in a stream");
    }
    let mut archive = fs::read(fixture.path("tmp/a.tar"))?;
    let token = format!(" ghp_{} ", "Ab3dE6gH9".repeat(4));
    let at = archive.len() / 2;
    archive[at..at + token.len()].copy_from_slice(token.as_bytes());
    fs::write(fixture.path("tmp/a.tar"), &archive)?;
    let shown = start(&fixture, false, REDACT, &["show.cwasm", "/tmp/a.tar"])?.expect(0)?;
    archive[at + 1..at + token.len() - 1].fill(b'*');
    ensure!(
        shown.out == archive,
        "more or less than the token is masked"
    );
    Ok(())
}

fn environment(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let dotenv = "API_KEY='jane.doe'\nDEBUG=true\n";
    fs::write(fixture.path(".env"), dotenv)?;
    fs::write(fixture.path("list"), "<<END\nid AKIA\n.\nEND\n")?;
    let run = |options: &[&str], input: &[u8]| {
        fixture.start(&Run {
            strict,
            options: ["--env", "MAIL_HOST=example.com", "--env", "MAIL_ON=1"]
                .map(str::to_owned)
                .to_vec(),
            args: words(&[&["write-filter-grate.cwasm"], options]),
            input,
            ..Run::default()
        })
    };
    let all = [
        "--secret-env",
        "MAIL_*",
        "--secret-dotenv",
        "/.env",
        "--secret-file",
        "/list",
    ];
    let leak = run(&[&all[..], &["leak.cwasm", "bytes"]].concat(), b"")?.expect(0)?;
    let expected = "id AKIAIOSFODNN7EXAMPLE, mail ********@***********.\n";
    ensure!(leak.text() == expected, "{:?}", leak.text());
    // The file of variables stays the program's.
    let shown = run(&[&all[..], &["show.cwasm", "/.env"]].concat(), b"")?.expect(0)?;
    ensure!(
        shown.text() == "API_KEY='********'\nDEBUG=true\n",
        "{:?}",
        shown.text()
    );
    let shown = run(&[&all[..], &["show.cwasm", "/list"]].concat(), b"")?;
    ensure!(
        shown.code != 0 && shown.text().is_empty(),
        "{:?}",
        shown.text()
    );
    for (options, message) in [
        (["--secret-env", "NONE"], "--secret-env NONE: no variable"),
        (
            ["--secret-env", "MAIL_ON"],
            "--secret-env MAIL_ON: its value",
        ),
    ] {
        let ran = run(&[&options[..], &["leak.cwasm", "bytes"]].concat(), b"")?;
        let line = format!("write-filter-grate: {message}");
        ensure!(ran.code == 1 && ran.err.contains(&line), "{}", ran.err);
    }
    Ok(())
}

/// Half a secret, a close, and the other half: the reader of a pipe with a name sees one run of
/// bytes.
fn reopened(strict: bool) -> anyhow::Result<()> {
    const HALF: &str = "id *********DNN7EXAMPLE, mail jane.doe@example.com.\n";
    let fixture = Fixture::new()?;
    fs::write(fixture.path("secrets"), "AKIAIOSFODNN7EXAMPLE\n")?;
    let secrets: &[&str] = &["write-filter-grate.cwasm", "--secret-file", "/secrets"];
    let fifo = fixture.path("tmp/fifo");
    command(Path::new("mkfifo"), [fifo.as_os_str()])?.expect(0)?;
    let mut reader = fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)?;
    for (grates, expected) in [(&[][..], TEXT), (secrets, HALF)] {
        start(
            &fixture,
            strict,
            grates,
            &["leak.cwasm", "appended", "/tmp/fifo"],
        )?
        .expect(0)?;
        let mut got = [0; 2 * TEXT.len()];
        let len = reader.read(&mut got)?;
        let text = String::from_utf8_lossy(&got[..len]);
        ensure!(text == expected, "{text:?}");
    }
    Ok(())
}

/// Name, options, and what the line on standard error says.
const BAD: &[(&str, &[&str], &str)] = &[
    ("an unknown kind", &["--redact", "nothing"], "use all, "),
    (
        "no such file",
        &["--secret-file", "/none"],
        "/none: cannot be read",
    ),
    (
        "an empty file",
        &["--secret-file", "/empty"],
        "/empty: holds no secret",
    ),
];

fn bad_options(args: &[&str], message: &str) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::write(fixture.path("empty"), "\n\n")?;
    let line = [&["write-filter-grate.cwasm"], args].concat();
    let ran = start(&fixture, false, &line, &["hello.cwasm"])?;
    ensure!(
        ran.code != 0 && ran.text().is_empty(),
        "it ran: {}",
        ran.text()
    );
    ensure!(ran.err.contains(message), "{}", ran.err);
    Ok(())
}
