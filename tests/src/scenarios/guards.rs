//! What the grates guard against programs that race with themselves, and that move what leads to a
//! guarded file in place of the file.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, command, host_command};
use anyhow::ensure;
use libtest_mimic::Trial;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for strict in [false, true] {
        let mode = if strict { " (strict)" } else { "" };
        let mut add = |name: &str, test: fn(bool) -> anyhow::Result<()>| {
            trials.push(trial(format!("{name}{mode}"), move || test(strict)));
        };
        add("crypt-grate/what leads to the key stays", key_trail);
        add("crypt-grate/the border of --encrypt stays", border);
        add("crypt-grate/a path that changes in memory", key_in_memory);
        add("crypt-grate/a symlink that turns", key_by_link);
        add("crypt-grate/a stream that is a sealed file", sealed_stream);
        add(
            "write-filter-grate/what leads to a denied file stays",
            denied,
        );
        add(
            "write-filter-grate/a path that changes in memory",
            denied_in_memory,
        );
        add("write-filter-grate/a symlink that turns", closed_by_link);
        add("crypt-grate/a child speaks for itself", claims);
    }
    trials
}

const TRIES: &str = "400";

fn start(fixture: &Fixture, strict: bool, args: &[&str]) -> anyhow::Result<Ran> {
    fixture
        .start(&Run {
            strict,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..Run::default()
        })?
        .expect(0)
}

/// What the program says in its last line.
fn ends_with(ran: &Ran, expected: &str) -> anyhow::Result<()> {
    let text = ran.text();
    let last = text.lines().last().unwrap_or_default();
    ensure!(last == expected, "{last:?}\n{}", ran.err);
    Ok(())
}

fn key_trail(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("safe/keys"))?;
    fs::create_dir(fixture.path("empty"))?;
    let key = fs::read(fixture.make_key("/safe/keys/k.bin")?)?;
    symlink("safe", fixture.path("way"))?;
    let ran = start(
        &fixture,
        strict,
        &[
            "crypt-grate.cwasm",
            "--key",
            "/way/keys/k.bin",
            "steps.cwasm",
            "rename /safe /other",
            "rename /safe/keys /tmp/keys",
            "rename /way /tmp/way",
            "unlink /way",
            "link /way /tmp/way",
            "rename /way/keys/k.bin /tmp/k.bin",
            "rename /empty /safe/keys",
            "symlink /tmp /tmp/new",
            "rename /tmp/new /way",
            "rename /empty /tmp/empty",
        ],
    )?;
    ends_with(&ran, "13 13 13 13 13 13 13 ok 13 ok")?;
    ensure!(fs::read(fixture.path("way/keys/k.bin"))? == key);
    Ok(())
}

fn border(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    fs::create_dir_all(fixture.path("top/vault/in"))?;
    fs::write(fixture.path("tmp/plain"), "plain")?;
    let run = |encrypt: &str, steps: &[&str], expected: &str| {
        let first = ["crypt-grate.cwasm", "--key", "/k.bin", "--encrypt", encrypt];
        let args = [&first[..], &["steps.cwasm"], steps].concat();
        ends_with(&start(&fixture, strict, &args)?, expected)
    };
    let steps = [
        "open /top/vault/f rw+c",
        "write what nobody reads",
        "link /top/vault/f /tmp/f",
        "rename /top/vault/f /tmp/f",
        "rename /top/vault/in /tmp/in",
        "rename /tmp/plain /top/vault/plain",
        "link /tmp/plain /top/vault/plain",
        "rename /top/vault /tmp/vault",
        "rename /top /tmp/top",
        "rename /top/vault/f /top/vault/in/f",
        "symlink /tmp /tmp/link",
        "rename /tmp/plain /tmp/other",
    ];
    run("/top/vault", &steps, "ok ok 18 18 18 18 18 13 13 ok ok ok")?;
    let sealed = fs::read(fixture.path("top/vault/in/f"))?;
    ensure!(!sealed.windows(6).any(|window| window == b"nobody"));
    // What is not there yet can't be made a way out.
    let steps = ["symlink /tmp /gone", "symlink /tmp /tmp/gone"];
    run("/gone/vault", &steps, "13 ok")?;
    // What is named by a symlink is what that leads to.
    symlink("top/vault", fixture.path("short"))?;
    let steps = ["open /top/vault/g rw+c", "write what nobody reads"];
    run("/short", &steps, "ok ok")?;
    let sealed = fs::read(fixture.path("top/vault/g"))?;
    ensure!(!sealed.windows(6).any(|window| window == b"nobody"));
    Ok(())
}

fn key_in_memory(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let key = fs::read(fixture.make_key("/k.bin")?)?;
    let args = ["crypt-grate.cwasm", "--key", "/k.bin", "races.cwasm"];
    let race = ["memory", "/k.bin", "/x.bin", TRIES];
    let ran = start(&fixture, strict, &[args, race].concat())?;
    ends_with(&ran, "memory 0")?;
    ensure!(fs::read(fixture.path("k.bin"))? == key);
    Ok(())
}

fn key_by_link(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir(fixture.path("keys"))?;
    let key = fs::read(fixture.make_key("/keys/k.bin")?)?;
    let args = ["crypt-grate.cwasm", "--key", "/keys/k.bin", "races.cwasm"];
    let race = ["links", "/tmp", "/keys", "k.bin", TRIES];
    start(&fixture, strict, &[&args[..], &race].concat())?;
    ensure!(fs::read(fixture.path("keys/k.bin"))? == key);
    Ok(())
}

/// Standard input that is a sealed file, open for writing too, stays one.
fn sealed_stream(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let args = ["crypt-grate.cwasm", "--key", "/k.bin", "steps.cwasm"];
    let steps = ["open /tmp/f rw+c", "write what nobody reads"];
    start(&fixture, strict, &[&args[..], &steps].concat())?;
    let sealed = fs::read(fixture.path("tmp/f"))?;
    let script = "root=$1 file=$2; shift 2; exec \"$@\" 1<>\"$file\"";
    let runtime = host_command("lind-wasm");
    let mut line: Vec<&OsStr> = ["-c", script, "sh"].map(OsStr::new).to_vec();
    let (root, file) = (fixture.path(""), fixture.path("tmp/f"));
    line.extend([root.as_os_str(), file.as_os_str(), runtime.as_os_str()]);
    line.extend([OsStr::new("--root"), root.as_os_str()]);
    if strict {
        line.push(OsStr::new("--strict-lind"));
    }
    let args = args.map(|arg| fixture.named(arg, strict));
    line.extend(args.iter().map(OsStr::new));
    line.push(OsStr::new("out what everybody reads"));
    command("sh".as_ref(), line)?;
    ensure!(fs::read(fixture.path("tmp/f"))? == sealed);
    Ok(())
}

const DENY: [&str; 5] = [
    "write-filter-grate.cwasm",
    "--allow-ext",
    "log",
    "--deny-write",
    "/protected/**",
];

fn denied(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir_all(fixture.path("protected/in"))?;
    fs::write(fixture.path("protected/f.log"), "as it was")?;
    let steps = [
        "steps.cwasm",
        "unlink /protected/f.log",
        "rmdir /protected/in",
        "rename /protected /tmp/protected",
        "symlink /tmp /tmp/link",
        "rename /tmp/link /protected",
        "symlink /tmp /protected/link",
    ];
    let ran = start(&fixture, strict, &[&DENY[..], &steps].concat())?;
    ends_with(&ran, "1 1 1 ok 1 1")?;
    ensure!(fs::read(fixture.path("protected/f.log"))? == b"as it was");
    // Nor does a link come to stand where there is no such folder yet.
    let fixture = Fixture::new()?;
    let steps = ["steps.cwasm", "symlink /tmp /protected"];
    let ran = start(&fixture, strict, &[&DENY[..], &steps].concat())?;
    ends_with(&ran, "1")
}

fn denied_in_memory(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir(fixture.path("protected"))?;
    fs::write(fixture.path("protected/f.log"), "as it was")?;
    let race = [
        "races.cwasm",
        "memory",
        "/protected/f.log",
        "/xrotected/f.log",
        TRIES,
    ];
    let ran = start(&fixture, strict, &[&DENY[..], &race].concat())?;
    ends_with(&ran, "memory 0")?;
    ensure!(fs::read(fixture.path("protected/f.log"))? == b"as it was");
    Ok(())
}

fn closed_by_link(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fs::create_dir(fixture.path("own"))?;
    let rules = "[[rule]]\nname = 'pin'\nliterals = ['hunter2x']\naction = 'mask'\n";
    fs::write(fixture.path("own/rules.log"), rules)?;
    let args = [
        "write-filter-grate.cwasm",
        "--rules",
        "/own/rules.log",
        "races.cwasm",
        "links",
        "/tmp",
        "/own",
        "rules.log",
        TRIES,
    ];
    start(&fixture, strict, &args)?;
    ensure!(fs::read_to_string(fixture.path("own/rules.log"))? == rules);
    Ok(())
}

fn claims(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    let args = [
        "crypt-grate.cwasm",
        "--key",
        "/k.bin",
        "races.cwasm",
        "claims",
    ];
    ends_with(&start(&fixture, strict, &args)?, "claims 0")
}
