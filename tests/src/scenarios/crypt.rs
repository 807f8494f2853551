//! crypt-grate: what lies on the disk, who may read it, and what happens to damaged files.

use super::trial;
use crate::fixture::{Fixture, Run, command, command_with_input, host_command, repository, words};
use anyhow::Context;
use libtest_mimic::Trial;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let named = |what: &str| format!("crypt-grate/{what}{mode}");
        trials.push(trial(named("no plaintext reaches the disk"), move || {
            nothing_in_the_clear(strict)
        }));
        trials.push(trial(
            named("damaged files are refused, and kept"),
            move || damage(strict),
        ));
        trials.push(trial(
            named("older parts of a file are refused"),
            move || older_parts(strict),
        ));
        trials.push(trial(named("the key is out of reach"), move || {
            key_is_out_of_reach(strict)
        }));
    }
    for (name, test) in [
        (
            "an independent reader opens its files",
            independent_reader as fn() -> _,
        ),
        (
            "what keys seals it reads, what it seals keys opens",
            keys_and_grate,
        ),
        ("bad keys end in one line", bad_keys),
        ("wrong usage is 64", wrong_usage),
        ("the exit status is the program's", exit_status),
        ("files that are not sealed", plaintext_policy),
        ("--encrypt names what is sealed", subtrees),
        ("several runs write one file", || several_runs(&[])),
        ("several runs write one file (strict)", || {
            several_runs(&[0, 1, 2])
        }),
        ("strict runs and others write one file", || {
            several_runs(&[1])
        }),
        ("a reader sees what another run writes", || {
            follow(&["read", "write"])
        }),
        ("a reader sees what another cage writes", || {
            follow(&["both"])
        }),
        ("several keys open, the first seals", key_rings),
        ("a passphrase opens a wrapped key", passphrases),
        ("what can't be sealed is refused", what_cannot_be_sealed),
        ("a change that was cut short", cut_short),
        ("opened while keys rekey replaces it", opened_while_rekeyed),
    ] {
        trials.push(trial(format!("crypt-grate/{name}"), test));
    }
    trials
}

/// Text of some size whose every block can be told from ciphertext.
fn text() -> Vec<u8> {
    (0..3000)
        .flat_map(|line| format!("line {line}: the quick brown fox jumps\n").into_bytes())
        .collect()
}

/// Runs that know nothing of each other change the same chunks: no update is lost.
/// Of the runs these are strict: those keep each other out by other locks than the rest.
fn several_runs(strict: &[usize]) -> anyhow::Result<()> {
    const STRANDS: usize = 3;
    const COUNT: usize = 150;
    let fixture = &Fixture::new()?;
    fixture.make_key("/k.bin")?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..STRANDS)
            .map(|strand| {
                scope.spawn(move || {
                    let strict = strict.contains(&strand);
                    let (strand, strands) = (strand.to_string(), STRANDS.to_string());
                    let args = ["crypt-grate.cwasm", "--key", "/k.bin", "weave.cwasm"];
                    let own = ["/tmp/cloth", &strand, &strands, &COUNT.to_string()];
                    let args = [args, own].concat();
                    let run = Run {
                        strict,
                        args: args.into_iter().map(str::to_owned).collect(),
                        ..Run::default()
                    };
                    fixture.start(&run)?.expect(0)
                })
            })
            .collect();
        for run in runs {
            run.join()
                .map_err(|_| anyhow::anyhow!("a run panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let show = |path: &str| {
        let args = ["crypt-grate.cwasm", "--key", "/k.bin", "show.cwasm", path];
        anyhow::Ok(fixture.run(&args)?.expect(0)?.out)
    };
    anyhow::ensure!(show("/tmp/cloth")? == b"abc".repeat(COUNT), "a lost update");
    let log = String::from_utf8(show("/tmp/cloth.log")?)?;
    for letter in ["a", "b", "c"] {
        let line = letter.repeat(30);
        let lines = log.lines().filter(|seen| *seen == line).count();
        anyhow::ensure!(lines == COUNT, "{lines} lines of {letter}");
    }
    anyhow::ensure!(log.lines().count() == STRANDS * COUNT, "a torn line");
    Ok(())
}

/// Who reads a file in small pieces, and has it at hand, sees all that others make of it, in this run or in another.
fn follow(parts: &[&'static str]) -> anyhow::Result<()> {
    let fixture = &Fixture::new()?;
    fixture.make_key("/k.bin")?;
    // Of several windows, and of a chunk and a bit.
    for bytes in ["300000", "5000"] {
        let file = format!("/tmp/followed-{bytes}");
        let run = |who: &str| {
            let grate = ["crypt-grate.cwasm", "--key", "/k.bin"];
            let args = [&grate[..], &["follow.cwasm", &file, who, bytes, "20"]].concat();
            let ran = fixture.run(&args)?.expect(0)?;
            anyhow::ensure!(ran.out.is_empty(), "{who}: {}", ran.text());
            anyhow::Ok(())
        };
        let run = &run;
        std::thread::scope(|scope| {
            let runs: Vec<_> = parts
                .iter()
                .map(|who| scope.spawn(move || run(who)))
                .collect();
            let mut runs = runs.into_iter();
            runs.try_for_each(|run| run.join().unwrap_or_else(|_| anyhow::bail!("it panicked")))
        })?;
    }
    Ok(())
}

fn key_rings() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    for key in ["/k.bin", "/new.bin"] {
        fixture.make_key(key)?;
    }
    keep(&fixture, &[], "/tmp/old", b"sealed long ago", false)?;
    let both = ["--key", "/new.bin", "--key", "/k.bin"];
    fixture
        .start(&Run {
            args: [
                "crypt-grate.cwasm",
                "--key",
                "/new.bin",
                "keep.cwasm",
                "/tmp/new",
            ]
            .map(str::to_owned)
            .to_vec(),
            input: b"sealed today",
            ..Run::default()
        })?
        .expect(0)?;
    let show = |keys: &[&str], path: &str| {
        let args = [&["crypt-grate.cwasm"], keys, &["show.cwasm", path]].concat();
        fixture.run(&args)
    };
    for (path, content) in [
        ("/tmp/old", "sealed long ago"),
        ("/tmp/new", "sealed today"),
    ] {
        let seen = show(&both, path)?.expect(0)?.out;
        anyhow::ensure!(seen == content.as_bytes(), "{path} reads as something else");
    }
    show(&["--key", "/new.bin"], "/tmp/new")?.expect(0)?;
    let refused = show(&["--key", "/new.bin"], "/tmp/old")?;
    anyhow::ensure!(refused.code != 0, "opened without its key");
    // No key of the ring is within reach.
    for key in ["/k.bin", "/new.bin"] {
        let stolen = show(&both, key)?;
        anyhow::ensure!(stolen.code != 0, "{key} was read");
    }
    Ok(())
}

/// What can't be sealed must not leave: sockets of such families and kinds are refused, with the
/// errors for those that a kernel lacks.
fn what_cannot_be_sealed() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let crypt = ["crypt-grate.cwasm", "--key", "/k.bin"];
    let steps = [
        "steps.cwasm",
        "socket 16 3",
        "socket 38 5",
        "socket 17 3",
        "socket 2 3",
        "socket 10 3",
        "socket 1 1",
        "socket 2 2",
        "socket 2 1",
        "fastopen",
    ];
    let ran = fixture.run(&[&crypt[..], &steps].concat())?.expect(0)?;
    anyhow::ensure!(
        ran.text() == "ok 97 97 94 94 ok ok ok 92\n",
        "{}",
        ran.text()
    );
    Ok(())
}

/// A wrapped key, alone and in a ring: the passphrase is the first line of standard input, the
/// rest the program's.
fn passphrases() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let wrapped = fixture.path("/wrapped.bin");
    let cheap = ["--argon2", "m=8192,t=4,p=1", "--passphrase-fd", "0"];
    let args = [&["gen"], &cheap[..], &[wrapped.to_str().context("a path")?]].concat();
    command_with_input(&host_command("keys"), &args, b"open sesame\n")?.expect(0)?;
    let ring = fixture.path("/ring");
    fs::write(
        &ring,
        "sealed key ring, version 1: one key file a line\nwrapped.bin\n/k.bin\n",
    )?;
    fs::set_permissions(&ring, fs::Permissions::from_mode(0o600))?;
    let run = |key: &str, program: &[&str], input: &[u8]| {
        let options = ["crypt-grate.cwasm", "--key", key, "--passphrase-fd", "0"];
        fixture.start(&Run {
            args: words(&[&options[..], program]),
            input,
            ..Run::default()
        })
    };
    run(
        "/wrapped.bin",
        &["keep.cwasm", "/tmp/new"],
        b"open sesame\nthe treasure",
    )?
    .expect(0)?;
    keep(&fixture, &[], "/tmp/old", b"from before", false)?;
    for (path, content) in [("/tmp/new", "the treasure"), ("/tmp/old", "from before")] {
        let seen = run("/ring", &["show.cwasm", path], b"open sesame\n")?.expect(0)?;
        anyhow::ensure!(seen.out == content.as_bytes(), "{path}: {}", seen.text());
    }
    for (input, message) in [
        (&b"open barley\n"[..], "/wrapped.bin: wrong passphrase"),
        (b"", "/wrapped.bin: the passphrase is empty"),
    ] {
        let refused = run("/wrapped.bin", &["show.cwasm", "/tmp/new"], input)?.expect(1)?;
        anyhow::ensure!(refused.err.contains(message), "{}", refused.err);
    }
    Ok(())
}

/// A record that a kill has cut short is none: the file is as it was before, and who changes it next goes on
/// from there.
fn cut_short() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let content = text()[..5000].to_vec();
    keep(&fixture, &[], "/tmp/file", &content, false)?;
    let path = fixture.path("/tmp/file");
    let before = fs::read(&path)?.len();
    let run = |program: &[&str]| {
        fixture.run(&[&["crypt-grate.cwasm", "--key", "/k.bin"][..], program].concat())
    };
    let change = ["steps.cwasm", "open /tmp/file rw", "pwrite 10 CHANGED"];
    run(&change)?.expect(0)?;
    let whole = fs::read(&path)?;
    for len in (before..whole.len()).step_by(500) {
        fs::write(&path, &whole[..len])?;
        let ran = run(&["show.cwasm", "/tmp/file"])?.expect(0)?;
        anyhow::ensure!(ran.out == content, "cut to {len}: not as it was");
        run(&change)?.expect(0)?;
        let ran = run(&["show.cwasm", "/tmp/file"])?.expect(0)?;
        anyhow::ensure!(ran.out[10..17] == *b"CHANGED", "cut to {len}: not changed");
    }
    Ok(())
}

fn keep(
    fixture: &Fixture,
    options: &[&str],
    path: &str,
    input: &[u8],
    strict: bool,
) -> anyhow::Result<()> {
    let mut args = vec!["crypt-grate.cwasm", "--key", "/k.bin"];
    args.extend_from_slice(options);
    args.extend(["keep.cwasm", path]);
    let ran = fixture.start(&Run {
        strict,
        args: args.into_iter().map(str::to_owned).collect(),
        input,
        ..Run::default()
    })?;
    ran.expect(0).map(drop)
}

fn nothing_in_the_clear(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let text = text();
    fs::create_dir(fixture.path("notes"))?;
    keep(&fixture, &[], "/notes/text", &text, strict)?;
    keep(
        &fixture,
        &["--cipher", "xaes-256-gcm"],
        "/other",
        &text,
        strict,
    )?;
    fixture.ensure_nowhere(&text)?;
    // The check can fail: a plain copy is found.
    fs::write(fixture.path("plain"), &text)?;
    anyhow::ensure!(
        fixture.ensure_nowhere(&text).is_err(),
        "the check sees nothing"
    );
    Ok(())
}

fn independent_reader() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fixture.make_key("k.bin")?;
    let reader = repository().join("tests/sealed_reader.py");
    let python = python()?;
    let vectors = repository().join("tests/vectors/sealed-v4.json");
    let self_test = [
        reader.as_os_str(),
        OsStr::new("--self-test"),
        vectors.as_os_str(),
    ];
    command(&python, self_test)?.expect(0)?;
    let key_file_test = [
        "tests/key_file_reader.py",
        "tests/vectors/key-files-v1.json",
    ];
    command(&python, key_file_test.map(|path| repository().join(path)))?.expect(0)?;
    let cases: [(&str, &[&str], Vec<u8>); 5] = [
        ("plain", &[], text()),
        (
            "gcm",
            &["--cipher", "xaes-256-gcm", "--chunk-size", "512"],
            text(),
        ),
        ("large-chunks", &["--chunk-size", "65536"], text()),
        ("one-chunk", &[], vec![b'x'; 4096]),
        ("one-byte", &[], b"x".to_vec()),
    ];
    for (name, options, input) in cases {
        keep(&fixture, options, &format!("/{name}"), &input, false)?;
        let out = fixture.path("tmp/opened");
        let args: [&OsStr; 6] = [
            reader.as_os_str(),
            OsStr::new("--key"),
            key.as_os_str(),
            fixture.path(name).into_os_string().leak(),
            OsStr::new("-o"),
            out.as_os_str(),
        ];
        command(&python, args)?.expect(0)?;
        anyhow::ensure!(
            fs::read(&out)? == input,
            "{name}: the reader got other bytes"
        );
        fs::remove_file(&out)?;
    }
    Ok(())
}

/// The Python that has the packages of `tests/requirements.txt`.
pub(super) fn python() -> anyhow::Result<std::path::PathBuf> {
    let own = repository().join("target/python/bin/python3");
    Ok(if own.exists() { own } else { "python3".into() })
}

fn keys_and_grate() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fixture.make_key("k.bin")?;
    let text = text();
    let plain = fixture.path("tmp/plain");
    fs::write(&plain, &text)?;
    let keys = host_command("keys");
    let seal: [&OsStr; 6] = [
        OsStr::new("seal"),
        OsStr::new("--key"),
        key.as_os_str(),
        plain.as_os_str(),
        OsStr::new("-o"),
        fixture.path("sealed").into_os_string().leak(),
    ];
    command(&keys, seal)?.expect(0)?;
    let shown = fixture
        .run(&[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "show.cwasm",
            "/sealed",
        ])?
        .expect(0)?;
    anyhow::ensure!(shown.out == text, "the grate shows other bytes");
    keep(&fixture, &[], "/kept", &text, false)?;
    let open: [&OsStr; 6] = [
        OsStr::new("open"),
        OsStr::new("--key"),
        key.as_os_str(),
        fixture.path("kept").into_os_string().leak(),
        OsStr::new("-o"),
        OsStr::new("-"),
    ];
    let opened = command(&keys, open)?.expect(0)?;
    anyhow::ensure!(opened.out == text, "keys opens other bytes");
    Ok(())
}

fn damage(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let text = &text()[..10_000];
    // It waits for the disk, so that nothing of it may be taken for what a power cut has left.
    fs::write(fixture.path("text"), text)?;
    let copy = ["--plaintext", "read", "copy.cwasm", "/text", "/good"];
    let args = ["crypt-grate.cwasm", "--key", "/k.bin"]
        .into_iter()
        .chain(copy);
    fixture
        .start(&Run {
            strict,
            args: args.map(str::to_owned).collect(),
            ..Run::default()
        })?
        .expect(0)?;
    let good = fs::read(fixture.path("good"))?;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut newer = good.clone();
    newer[8] += 1;
    let log = sealed::Superblock::log_offset(0) as usize;
    let mut cleared = good.clone();
    cleared[log..].fill(0);
    // What is damaged, and whether an append comes across it.
    let cases = [
        ("a flipped bit in the log", flipped(log + 40), true),
        (
            "a flipped bit in the last tag",
            flipped(good.len() - 1),
            true,
        ),
        ("no log", cleared, true),
        ("a flipped bit in the superblock", flipped(520), true),
        ("a flipped bit in the header", flipped(40), true),
        ("a flipped bit in the magic", flipped(3), true),
        ("cut short by a byte", good[..good.len() - 1].to_vec(), true),
        ("cut in the header", good[..50].to_vec(), true),
        ("a flipped bit in a chunk", flipped(log + 200), false),
        ("a newer version", newer, true),
    ];
    for (what, bytes, at_the_end) in cases {
        fs::write(fixture.path("bad"), &bytes)?;
        let shown = ["show.cwasm", "/bad"];
        let appended = ["append.cwasm", "/bad"];
        let programs = if at_the_end {
            vec![shown, appended]
        } else {
            vec![shown]
        };
        for program in programs {
            let args = ["crypt-grate.cwasm", "--key", "/k.bin"]
                .into_iter()
                .chain(program);
            let ran = fixture.start(&Run {
                strict,
                args: args.map(str::to_owned).collect(),
                ..Run::default()
            })?;
            anyhow::ensure!(ran.code == 1, "{what}: {program:?} ended with {}", ran.code);
            anyhow::ensure!(
                text.starts_with(&ran.out),
                "{what}: other bytes than those written came through"
            );
            anyhow::ensure!(
                ran.err.contains("crypt-grate: "),
                "{what}: nothing says what is wrong: {}",
                ran.err
            );
        }
        anyhow::ensure!(
            fs::read(fixture.path("bad"))? == bytes,
            "{what}: the file was changed"
        );
    }
    Ok(())
}

/// Who can write the disk puts parts of two versions of a file together: all of one opens, or of the one that
/// both came from.
fn older_parts(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let old = &text()[..10_000];
    keep(&fixture, &[], "/file", old, strict)?;
    let run = |program: &[&str]| {
        let args = ["crypt-grate.cwasm", "--key", "/k.bin"];
        fixture.start(&Run {
            strict,
            args: args
                .iter()
                .chain(program)
                .map(|&arg| arg.to_owned())
                .collect(),
            ..Run::default()
        })
    };
    let path = fixture.path("file");
    let before = fs::read(&path)?;
    let mut versions = vec![old.to_vec()];
    let mut files = Vec::new();
    for (change, at, with) in [
        ("pwrite 5000 CHANGED", 5000, b"CHANGED"),
        ("pwrite 5001 ANOTHER", 5001, b"ANOTHER"),
    ] {
        fs::write(&path, &before)?;
        let ran = run(&["steps.cwasm", "open /file rw", change])?.expect(0)?;
        anyhow::ensure!(ran.text().trim() == "ok ok", "not changed");
        files.push(fs::read(&path)?);
        let mut version = old.to_vec();
        version[at..at + with.len()].copy_from_slice(with);
        versions.push(version);
    }
    let border = before.len();
    anyhow::ensure!(files[0].len() == files[1].len(), "not of one length");
    for at in (border..files[0].len()).step_by(700) {
        let mixed = [&files[0][..at], &files[1][at..]].concat();
        fs::write(&path, &mixed)?;
        let shown = run(&["show.cwasm", "/file"])?.expect(0)?;
        anyhow::ensure!(
            versions.contains(&shown.out),
            "a mixture at {at} is none of the versions"
        );
    }
    Ok(())
}

fn key_is_out_of_reach(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fixture
        .make_key("secrets/../k.bin")
        .or_else(|_| fixture.make_key("k.bin"))?;
    let before = fs::read(&key)?;
    fs::hard_link(&key, fixture.path("hard"))?;
    std::os::unix::fs::symlink("/k.bin", fixture.path("soft"))?;
    let ran = fixture.start(&Run {
        strict,
        args: ["crypt-grate.cwasm", "--key", "/k.bin", "key_thief.cwasm"]
            .map(str::to_owned)
            .to_vec(),
        ..Run::default()
    })?;
    ran.expect(0)?;
    anyhow::ensure!(fs::read(&key)? == before, "the key file was changed");
    Ok(())
}

fn bad_keys() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let write = |name: &str, bytes: &[u8], mode: u32| {
        let path = fixture.path(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    };
    write("short", &[1; 31], 0o600)?;
    write("long", &[1; 33], 0o600)?;
    write("empty", &[], 0o600)?;
    write("group", &[1; 32], 0o640)?;
    write("world", &[1; 32], 0o604)?;
    fs::create_dir(fixture.path("folder"))?;
    for (name, hint) in [
        ("missing", "keys gen"),
        ("short", "keys gen"),
        ("long", "32 raw bytes"),
        ("empty", "keys gen"),
        ("group", "chmod 600"),
        ("world", "chmod 600"),
        ("folder", "not a regular file"),
    ] {
        let ran = fixture.run(&["crypt-grate.cwasm", "--key", name, "hello.cwasm"])?;
        check_refusal(&ran, name, hint)?;
    }
    // A program that is missing, or none.
    let ran = fixture.run(&["crypt-grate.cwasm", "--key", "/k.bin", "nothing.cwasm"])?;
    check_refusal(&ran, "nothing.cwasm", "no such program")?;
    fs::write(fixture.path("bin/text.cwasm"), "not a program")?;
    let ran = fixture.run(&["crypt-grate.cwasm", "--key", "/k.bin", "text.cwasm"])?;
    anyhow::ensure!(ran.code == 1 && ran.err.contains("text.cwasm"), "{ran:?}");
    Ok(())
}

fn check_refusal(ran: &crate::fixture::Ran, name: &str, hint: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        ran.code == 1
            && ran.out.is_empty()
            && ran.err.lines().count() == 1
            && ran.err.contains(name)
            && ran.err.contains(hint),
        "{name}: {ran:?}"
    );
    Ok(())
}

fn wrong_usage() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    for options in [
        &["--no-such-option"][..],
        &["--key"],
        &["--key", "/k.bin"],
        &["hello.cwasm"],
        &["--key", "/k.bin", "--cipher", "rot13", "hello.cwasm"],
        &["--key", "/k.bin", "--chunk-size", "1000", "hello.cwasm"],
        &["--key", "/k.bin", "--plaintext", "maybe", "hello.cwasm"],
    ] {
        let args = [&["crypt-grate.cwasm"], options].concat();
        let ran = fixture.run(&args)?;
        anyhow::ensure!(
            ran.code == 64 && !ran.err.is_empty(),
            "{options:?}: {ran:?}"
        );
    }
    fixture.run(&["crypt-grate.cwasm", "--help"])?.expect(0)?;
    Ok(())
}

fn exit_status() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let under = ["crypt-grate.cwasm", "--key", "/k.bin", "ends.cwasm"];
    for (how, code) in [
        ("7", 7),
        ("0", 0),
        ("trap", 1),
        ("kill", 137),
        ("term", 143),
    ] {
        let args = [&under[..], &[how]].concat();
        fixture
            .run(&args)?
            .expect(code)
            .with_context(|| how.to_owned())?;
    }
    Ok(())
}

fn plaintext_policy() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let plain = fixture.path("plain");
    fs::write(&plain, "as it was")?;
    let grate = [
        "crypt-grate.cwasm",
        "--key",
        "/k.bin",
        "--plaintext",
        "read",
    ];
    let shown = fixture
        .run(&[&grate[..], &["show.cwasm", "/plain"]].concat())?
        .expect(0)?;
    anyhow::ensure!(shown.text() == "as it was", "{shown:?}");
    fixture
        .run(&[&grate[..], &["append.cwasm", "/plain"]].concat())?
        .expect(1)?;
    fixture
        .run(&[&grate[..3], &["show.cwasm", "/plain"]].concat())?
        .expect(1)?;
    anyhow::ensure!(
        fs::read(&plain)? == b"as it was",
        "a refused file was changed"
    );
    // Replacing it as a whole is allowed, and seals it.
    keep(
        &fixture,
        &["--plaintext", "read"],
        "/plain",
        b"new content, sealed",
        false,
    )?;
    anyhow::ensure!(
        fs::read(&plain)?.starts_with(b"\xA7sealed"),
        "it is not sealed now"
    );
    Ok(())
}

fn subtrees() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    for folder in ["safe", "safe/deep", "open"] {
        fs::create_dir(fixture.path(folder))?;
    }
    std::os::unix::fs::symlink("/safe", fixture.path("open/door"))?;
    std::os::unix::fs::symlink("../open", fixture.path("safe/out"))?;
    fs::write(fixture.path("safe/plain"), "not sealed")?;
    let sealed = |path: &Path| fs::read(path).map(|bytes| bytes.starts_with(b"\xA7sealed"));
    for (path, on_disk, is_sealed) in [
        ("/safe/a", "safe/a", true),
        ("/safe/deep/../b", "safe/b", true),
        ("/safe/deep/c", "safe/deep/c", true),
        ("/open/d", "open/d", false),
        ("/open/door/e", "safe/e", true),
        ("/safe/out/f", "open/f", false),
        ("/open/../safe/g", "safe/g", true),
        ("/safety", "safety", false),
    ] {
        keep(
            &fixture,
            &["--encrypt", "/safe"],
            path,
            b"some content",
            false,
        )
        .with_context(|| path.to_owned())?;
        anyhow::ensure!(
            sealed(&fixture.path(on_disk))? == is_sealed,
            "{path}: sealed is not {is_sealed}"
        );
    }
    let args = [
        "crypt-grate.cwasm",
        "--key",
        "/k.bin",
        "--encrypt",
        "/safe",
        "show.cwasm",
    ];
    fixture
        .run(&[&args[..], &["/safe/plain"]].concat())?
        .expect(1)?;
    fixture
        .run(&[&args[..], &["/open/d"]].concat())?
        .expect(0)?;
    Ok(())
}

/// A file is written anew, added to and read while it is given another key again and again.
fn opened_while_rekeyed() -> anyhow::Result<()> {
    const ROUNDS: &str = "1500";
    let fixture = Fixture::new()?;
    let keys = [fixture.make_key("a.bin")?, fixture.make_key("b.bin")?];
    let folder = fixture.path("work");
    fs::create_dir(&folder)?;
    let rekey = |to: &Path, from: &Path| -> anyhow::Result<bool> {
        let args = ["rekey", "--key"].map(OsStr::new).into_iter();
        let rest = [to.as_os_str(), OsStr::new("--from"), from.as_os_str()];
        let args = args.chain(rest).chain([folder.as_os_str()]);
        // A file that changes while it is copied is told, and is for the next time.
        Ok(command(&host_command("keys"), args)?.code == 0)
    };
    let program = [
        "/a.bin",
        "--key",
        "/b.bin",
        "reopen.cwasm",
        "/work/file",
        ROUNDS,
    ];
    let args = [&["crypt-grate.cwasm", "--key"], &program[..]].concat();
    let mut moved = 0;
    let ran = std::thread::scope(|scope| {
        let program = scope.spawn(|| fixture.run(&args));
        while !program.is_finished() {
            moved += u32::from(rekey(&keys[1], &keys[0])?);
            moved += u32::from(rekey(&keys[0], &keys[1])?);
        }
        program.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    })?;
    ran.expect(0)?;
    anyhow::ensure!(moved > 10, "it was moved {moved} times only");
    Ok(())
}
