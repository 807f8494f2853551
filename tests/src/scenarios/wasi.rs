//! A WASI program in C, built with a stock toolchain that knows nothing of Lind.

use super::trial;
use crate::fixture::{Fixture, command, compile_for_wasi, host_command};
use anyhow::Context;
use libtest_mimic::Trial;
use std::process::Command;

pub(super) fn trials() -> Vec<Trial> {
    [
        ("plain", &[][..]),
        (
            "under crypt-grate",
            &["crypt-grate.cwasm", "--key", "/k.bin"],
        ),
        (
            "under crypt-grate, a subtree",
            &["crypt-grate.cwasm", "--key", "/k.bin", "--encrypt", "/tmp"],
        ),
        (
            "under write-filter-grate",
            &[
                "write-filter-grate.cwasm",
                "--redact",
                "aws",
                "--deny-write",
                "/etc/**",
            ],
        ),
        ("under strace-grate", &["strace-grate.cwasm"]),
    ]
    .into_iter()
    .map(|(name, grates)| trial(format!("wasi/a tour of libc in C, {name}"), || tour(grates)))
    .chain([
        trial("wasi/a finished module is adapted to Lind".into(), adapted),
        trial(
            "wasi/what can't be adapted is told from what can".into(),
            not_adapted,
        ),
    ])
    .collect()
}

/// What the tour ends with when all went well.
const DONE: i32 = 7;

fn tour(grates: &[&str]) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    compile_for_wasi("tour.c", &fixture.path("bin/tour.wasm"), &[])?;
    let ran = fixture.run(&[grates, &["tour.wasm", "one", "two words"]].concat())?;
    ran.expect(DONE).map(drop)
}

/// `cargo xtask adapt`, with a fixture's root in place of the repository's.
fn adapt(fixture: &Fixture) -> Command {
    let mut command = Command::new(host_command("xtask"));
    command.arg("adapt").env("LINDFS", fixture.path(""));
    command
}

/// The same module, once it is one for Lind: in the mode that serves nothing else.
fn adapted() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let module = fixture.home().join("a tour.wasm");
    compile_for_wasi("tour.c", &module, &[])?;
    let made = adapt(&fixture)
        .arg(&module)
        .output()
        .context("cargo build --release makes xtask")?;
    anyhow::ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let crypt: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
    let strace: &[&str] = &["strace-grate.cwasm"];
    let strace_in_c: &[&str] = &["strace-c-grate.cwasm"];
    for grates in [
        &[][..],
        &[crypt],
        &[strace],
        &[strace, crypt],
        &[strace_in_c, crypt],
    ] {
        for strict in [false, true] {
            let program = ["/bin/a tour.cwasm", "one", "two words"];
            fixture
                .run_under(grates, &program, strict)?
                .expect(DONE)
                .with_context(|| format!("under {grates:?}, strict {strict}"))?;
        }
    }
    Ok(())
}

fn not_adapted() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let file = fixture.home().join("module.wasm");
    let start = r#"(func (export "_start"))"#;
    let memory = r#"(memory (export "memory") 1)"#;
    for (text, why) in [
        (format!("(module {memory} {start})"), ""),
        (format!("(module {start})"), "it has no memory"),
        (format!("(module {memory})"), "does not export _start"),
        (
            format!(r#"(module (import "env" "f" (func)) {memory} {start})"#),
            "imports env.f",
        ),
        (
            format!(r#"(module (import "wasi_snapshot_preview1" "no" (func)) {memory} {start})"#),
            "imports no of WASI",
        ),
        (
            format!(r#"(module (import "env" "g" (global i32)) {memory} {start})"#),
            "imports env.g",
        ),
        (
            format!("(module (memory 1 2 shared) {start})"),
            "programs with threads",
        ),
        (
            format!("(module (memory 9000) {start})"),
            "begins with 9000 pages",
        ),
        (
            format!(r#"(module {memory} (func (export "_start") (result i32) i32.const 0))"#),
            "its _start has parameters or results",
        ),
        (
            // A function of WASI as what it is not.
            format!(
                r#"(module (import "wasi_snapshot_preview1" "fd_close" (func (param f64)))
                    {memory} {start})"#
            ),
            "imports fd_close as another type",
        ),
    ] {
        std::fs::write(&file, wat::parse_str(&text)?)?;
        let made = adapt(&fixture).arg(&file).output()?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        anyhow::ensure!(
            made.status.success() == why.is_empty() && said.contains(why),
            "{text}: {said}"
        );
    }
    std::fs::write(&file, b"no module")?;
    let ran = command(&host_command("xtask"), ["adapt".as_ref(), file.as_os_str()])?;
    anyhow::ensure!(
        ran.code == 1 && ran.err.contains("not a valid core module"),
        "{}",
        ran.err
    );
    Ok(())
}
