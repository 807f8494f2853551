//! What is made of C for people who write their own: the template of a new grate, and the commands
//! that build scripts made for Lind call.

use super::trial;
use crate::fixture::{Fixture, Ran, Run, command, host_command, repository, words};
use anyhow::ensure;
use libtest_mimic::Trial;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("c/a new grate works as it is made".into(), new_grate),
        trial("c/posix without a grate".into(), || posix(false)),
        trial("c/posix without a grate (strict)".into(), || posix(true)),
        trial("c/what a runtime lacks".into(), unserved),
        trial(
            "c/what lind_compile can't do it says".into(),
            refused_by_name,
        ),
    ]
}

fn posix(strict: bool) -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let ran = fixture.run_under(&[], &["c_posix.cwasm", "/tmp"], strict)?;
    ensure!(ran.expect(0)?.text().ends_with("c posix done\n"));
    Ok(())
}

/// Calls that nobody serves, and the network where there is none, bare and under grates.
fn unserved() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    fixture.make_key("k.bin")?;
    let stacks: [&[&str]; 3] = [
        &[],
        &["crypt-grate.cwasm", "--key", "/k.bin"],
        &["write-filter-grate.cwasm", "--redact", "all"],
    ];
    for stack in stacks {
        let ran = fixture.start(&Run {
            options: words(&[&["--net", "none"]]),
            args: words(&[stack, &["c_posix.cwasm", "/tmp", "unserved"]]),
            ..Run::default()
        })?;
        ensure!(
            ran.expect(0)?.text().ends_with("c posix done\n"),
            "{stack:?}"
        );
    }
    Ok(())
}

/// `lind_compile`, with a fixture's root in place of the repository's.
fn lind_compile(fixture: &Fixture, args: &[&str]) -> anyhow::Result<Ran> {
    let set = |name: &str, value: &Path| {
        let mut both = OsString::from(name);
        both.push("=");
        both.push(value);
        both
    };
    let xtask = host_command("xtask");
    let mut all = vec![set("LINDFS", &fixture.path("")), xtask.into_os_string()];
    all.extend(["lind-compile", "--from"].map(OsString::from));
    all.push(fixture.home().into());
    all.extend(args.iter().map(OsString::from));
    command(Path::new("env"), all)
}

/// The template, in a folder and under names of the kind that people have.
fn new_grate() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let templates = repository().join("xtask/templates/c");
    for (template, file) in [("main.c", "my grate.c"), ("test.c", "my-test.c")] {
        let text = fs::read_to_string(templates.join(template))?;
        fs::write(fixture.home().join(file), text.replace("NAME", "my-grate"))?;
    }
    let grate = ["-s", "--compile-grate", "--output-dir", "grates"];
    lind_compile(&fixture, &[&grate[..], &["my grate.c"]].concat())?.expect(0)?;
    let flags = ["-s", "--output-dir", "/bin", "my-test.c", "-O1", "-lm"];
    lind_compile(&fixture, &flags)?.expect(0)?;
    for strict in [false, true] {
        let grates: &[&[&str]] = &[&["/grates/my grate.cwasm"]];
        let ran = fixture.run_under(grates, &["/bin/my-test.cwasm"], strict)?;
        let said = ran.expect(0)?.text();
        ensure!(said.contains("user 10"), "{said}");
        let ran = fixture.run_under(grates, &["/bin/none.cwasm"], strict)?;
        ensure!(ran.code == 1 && ran.err.contains("none.cwasm"), "{ran:?}");
        let ran = fixture.run_under(grates, &[], strict)?.expect(64)?;
        ensure!(ran.err.contains("usage: my-grate PROGRAM"), "{}", ran.err);
    }
    Ok(())
}

fn refused_by_name() -> anyhow::Result<()> {
    let fixture = Fixture::new()?;
    let put = |name: &str, text: &str| fs::write(fixture.home().join(name), text);
    put("good.c", "int main(void) { return 0; }")?;
    put("bad.c", "int main(void) { return }")?;
    put(
        "lacks.c",
        "int none(void); int main(void) { return none(); }",
    )?;
    put("host.c", "#include <netdb.h>\nint main(void) { return 0; }")?;
    put(
        "dispatcher.c",
        "int pass_fptr_to_wt(int a) { return a; } int main(void) { return 0; }",
    )?;
    for (args, why) in [
        (&["none.c"][..], "there is no file"),
        (&["bad.c"], "bad.c does not compile"),
        (&["lacks.c"], "undefined symbol: none"),
        // The host's headers are for the host's programs.
        (&["host.c"], "'netdb.h' file not found"),
        (&["--compile-grate", "dispatcher.c"], "must take uint64_t"),
        (&["--compile-library", "good.c"], "load no libraries"),
        (&["--fpcast-emu", "good.c"], "as what it is"),
        (&["good.c", "-lcurl"], "-lcurl: there is nothing to link"),
        (
            &["--output-dir", "../..", "good.c"],
            "no folder inside of the root",
        ),
        (&["--opt-only", "good.c"], "is no .wasm file"),
        (
            &["--compile-only", "--opt-only", "good.c"],
            "cannot be used",
        ),
    ] {
        let ran = lind_compile(&fixture, args)?;
        ensure!(ran.code != 0 && ran.err.contains(why), "{args:?}: {ran:?}");
    }
    lind_compile(&fixture, &["--compile-only", "good.c"])?.expect(0)?;
    lind_compile(&fixture, &["--opt-only", "good.wasm"])?.expect(0)?;
    lind_compile(
        &fixture,
        &["--precompile-only", "--output-dir", "bin", "good.wasm"],
    )?
    .expect(0)?;
    fixture.run(&["good.cwasm"])?.expect(0)?;
    Ok(())
}
