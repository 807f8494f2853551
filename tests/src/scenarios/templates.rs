//! What `cargo xtask new-grate` makes is a grate, in either language, and passes its own test.

use super::trial;
use crate::fixture::{Fixture, host_command, repository};
use crate::manifest;
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "templates/new grates in C and in Rust".into(),
        new_grates,
    )]
}

/// Languages as the command line has them, and the names of grates in them.
const GRATES: [(&str, &str); 2] = [("c", "made-in-c"), ("rust", "made-in-rust")];

/// The repository once more, with no grates of anybody's in it. It always stands in the same
/// place, so that cargo compiles only what has changed.
fn copy() -> anyhow::Result<PathBuf> {
    let copy = repository().join("target/templates");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    fs::create_dir_all(copy.join("grates/c"))?;
    for entry in fs::read_dir(repository())? {
        let from = entry?.path();
        let name = from.file_name().unwrap_or_default();
        let to = copy.join(name);
        if name == "Cargo.toml" || name == "Cargo.lock" {
            fs::copy(&from, &to)?;
        } else if name != "grates" && name != ".git" {
            symlink(&from, &to)?;
        }
    }
    Ok(copy)
}

/// Runs xtask there. What it said on standard error.
fn xtask(copy: &Path, fixture: &Fixture, args: &[&str], succeeds: bool) -> anyhow::Result<String> {
    let made = Command::new(host_command("xtask"))
        .args(args)
        .env("LIND_REPOSITORY", copy)
        .env("LINDFS", fixture.path(""))
        .output()
        .context("cargo build --release makes xtask")?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    ensure!(made.status.success() == succeeds, "xtask {args:?}: {said}");
    Ok(said)
}

fn new_grates() -> anyhow::Result<()> {
    let (fixture, copy) = (Fixture::new()?, copy()?);
    let names = GRATES.map(|(_, name)| name);
    for (language, name) in GRATES {
        xtask(
            &copy,
            &fixture,
            &["new-grate", name, "--lang", language],
            true,
        )?;
        // Nothing is made twice.
        let again = xtask(
            &copy,
            &fixture,
            &["new-grate", name, "--lang", language],
            false,
        )?;
        ensure!(again.contains("has that name"), "{again}");
    }
    xtask(&copy, &fixture, &[&["guests"], &names[..]].concat(), true)?;
    let all = manifest::read_all(&copy)?.grates;
    for name in names {
        let test = all.iter().find(|grate| grate.name == name);
        let test = test.and_then(|grate| grate.tests.first());
        let test = test.with_context(|| format!("{name} has no test"))?;
        let (grate, program) = (format!("{name}.cwasm"), format!("{}.cwasm", test.program()));
        for strict in [false, true] {
            let ran = fixture.run_under(&[&[&grate]], &[&program], strict)?;
            let out = ran.expect(0)?.text();
            let said = test.stdout.as_deref().context("the test expects nothing")?;
            ensure!(out.contains(said), "{name} said {out:?}, not {said:?}");
        }
        // Without the grate it is another one.
        let alone = fixture.run(&[&program])?.expect(0)?;
        ensure!(Some(alone.text().trim()) != test.stdout.as_deref());
        let made = [
            fixture.path(&format!("grates/{name}.wasm")),
            fixture.path(&format!("bin/{}.wasm", test.program())),
        ];
        for file in made {
            let file = file.to_string_lossy().into_owned();
            xtask(&copy, &fixture, &["check", &file], true)?;
        }
    }
    Ok(())
}
