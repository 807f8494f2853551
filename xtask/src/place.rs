//! Puts finished programs into `lindfs/`.

use crate::abi;
use crate::compile::Linked;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a program stands in the root file system as it would be made now: newer than what it
/// is made of and than those that make it.
pub fn is_current(root: &Path, program: &Linked) -> bool {
    let wasm = place_of(root, program);
    let newer = |made: &Path, from: &Path| {
        let time = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
        time(made).is_some_and(|made| time(from).is_none_or(|from| made > from))
    };
    let native = wasm.with_extension("cwasm");
    let xtask = std::env::current_exe().unwrap_or_default();
    newer(&wasm, &program.file)
        && newer(&wasm, &xtask)
        && newer(&native, &wasm)
        && newer(&native, &runtime(root))
}

/// Where a program goes.
fn place_of(root: &Path, program: &Linked) -> PathBuf {
    let folder = root.join("lindfs").join(program.kind.folder());
    folder.join(format!("{}.wasm", program.name))
}

fn runtime(root: &Path) -> PathBuf {
    root.join("target/release/lind-wasm")
}

/// Checks a program, writes it into the root file system and compiles it to native code beside.
pub fn place(root: &Path, program: &Linked, wasm: &[u8]) -> anyhow::Result<()> {
    let violations = abi::violations(wasm, Some(program.kind));
    ensure!(
        violations.is_empty(),
        "{} is against the Lind ABI:\n  {}",
        program.name,
        violations.join("\n  ")
    );
    let file = place_of(root, program);
    fs::create_dir_all(file.parent().unwrap_or(root))?;
    fs::write(&file, wasm).with_context(|| format!("cannot write {}", file.display()))?;

    let shown = file.strip_prefix(root).unwrap_or(&file).display();
    let runtime = runtime(root);
    if !runtime.exists() {
        println!(
            "{shown} (not precompiled: {} is not built yet)",
            runtime.display()
        );
        return Ok(());
    }
    let status = Command::new(&runtime)
        .arg("--root")
        .arg(root.join("lindfs"))
        .arg("--precompile")
        .arg(&file)
        .status()
        .with_context(|| format!("cannot start {}", runtime.display()))?;
    ensure!(status.success(), "{shown} does not precompile");
    println!("{shown}");
    Ok(())
}
