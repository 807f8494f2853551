//! What people take home works where nothing of the build is: it is unpacked, its sums are right, and the first
//! steps of the README run.

use super::trial;
use crate::fixture::{host_command, repository};
use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TEXT: &str = "kept by a program that knows nothing of it\n";

/// All of them.
pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "dist/an archive runs without Rust".to_owned(),
            an_archive_runs_without_rust,
        ),
        trial("dist/an installation runs".to_owned(), an_installation_runs),
    ]
}

/// Makes the archive, and has a user try it who has no Rust.
fn an_archive_runs_without_rust() -> anyhow::Result<()> {
    let printed = run(Command::new(host_command("xtask")).arg("dist"))?;
    let archive = PathBuf::from(printed.trim_end());
    let home = tempfile::tempdir()?;
    run(unpacked(home.path()).arg(&archive))?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let top = home.path().join(name.trim_end_matches(".tar.gz"));
    run(command(&top, "sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]))?;
    first_steps(&top, "bin", "lindfs")?;
    for (file, words) in [
        (
            "share/man/man1/lind-wasm.1",
            &["strict\\-lind", "precompile"][..],
        ),
        ("share/man/man1/keys-verify.1", &["state"]),
        ("share/man/man1/redact.1", &["secret\\-dotenv"]),
        ("share/bash-completion/completions/keys", &["--passphrase"]),
        ("share/zsh/site-functions/_redact", &["--secret-env"]),
        (
            "share/fish/vendor_completions.d/lind-wasm.fish",
            &["listen"],
        ),
        (
            "share/doc/lind-crypt-grates/THIRD-PARTY.txt",
            &[
                "wasmtime 4",
                "Apache-2.0 WITH LLVM-exception",
                "blake2 0",
                "Permission is hereby granted",
            ],
        ),
        (
            "share/doc/lind-crypt-grates/docs/format.md",
            &["sealed file format"],
        ),
    ] {
        let text = fs::read_to_string(top.join(file)).with_context(|| file.to_owned())?;
        for word in words {
            ensure!(text.contains(word), "{file} does not say {word}");
        }
    }
    for completion in fs::read_dir(top.join("share/bash-completion/completions"))? {
        run(command(&top, "bash").arg("-n").arg(completion?.path()))?;
    }
    // Packed once more it is the same, bit for bit.
    let first = fs::read(&archive)?;
    run(Command::new(host_command("xtask")).arg("dist"))?;
    ensure!(
        fs::read(&archive)? == first,
        "the same files made another archive"
    );
    Ok(())
}

/// Installed below a prefix, in front of which a folder stands.
fn an_installation_runs() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    run(Command::new(host_command("xtask"))
        .args(["install", "--prefix", "/opt/grates", "--destination"])
        .arg(home.path()))?;
    let top = home.path().join("opt/grates");
    first_steps(&top, "bin", "lib/lind-crypt-grates/lindfs")?;
    // Once more, over programs that are there.
    run(Command::new(host_command("xtask"))
        .args(["install", "--prefix", "/opt/grates", "--destination"])
        .arg(home.path()))?;
    let refused = Command::new(host_command("xtask"))
        .args(["install", "--prefix", "relative"])
        .output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        !refused.status.success() && said.contains("relative: a prefix is an absolute path"),
        "{said}"
    );
    Ok(())
}

/// A key, a program under crypt-grate that keeps what it reads, what the disk has, and the file opened.
fn first_steps(top: &Path, bin: &str, root: &str) -> anyhow::Result<()> {
    let root = top.join(root);
    fs::create_dir_all(root.join("tmp"))?;
    let tool = |name: &str| command(top, &top.join(bin).join(name).to_string_lossy());
    let key = root.join("k.bin");
    run(tool("keys").arg("gen").arg(&key))?;
    let mut child = tool("lind-wasm")
        .arg("--root")
        .arg(&root)
        .args([
            "crypt-grate.wasm",
            "--key",
            "k.bin",
            "keep.wasm",
            "/tmp/note",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    std::io::Write::write_all(
        &mut child.stdin.take().context("its standard input")?,
        TEXT.as_bytes(),
    )?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "lind-wasm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let note = root.join("tmp/note");
    let sealed = fs::read(&note)?;
    ensure!(
        sealed.starts_with(b"\xA7sealed\n"),
        "the file is not sealed"
    );
    let opened = run(tool("keys")
        .args(["open", "-o", "-", "--key"])
        .arg(&key)
        .arg(&note))?;
    ensure!(opened == TEXT, "opened, it is {opened:?}");
    let masked = run(tool("redact").args(["--version"]))?;
    ensure!(masked.starts_with("redact "), "{masked}");
    Ok(())
}

/// A command in a folder, with nothing of this process's environment but where the system's programs are.
fn command(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder);
    command
}

fn unpacked(folder: &Path) -> Command {
    let mut tar = command(folder, "tar");
    tar.args(["--extract", "--file"]);
    tar
}

/// What a command prints, if it succeeds.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.get_program());
    if command.get_current_dir().is_none() {
        command.current_dir(repository());
    }
    let output = command.output().with_context(|| shown.clone())?;
    ensure!(
        output.status.success(),
        "{shown} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
