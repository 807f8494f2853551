//! Puts finished programs into `lindfs/`.

use crate::abi;
use crate::compile::Linked;
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Checks a program, writes it into the root file system and compiles it to native code beside.
pub fn place(root: &Path, program: &Linked, wasm: &[u8]) -> anyhow::Result<()> {
    let violations = abi::violations(wasm, Some(program.kind));
    ensure!(
        violations.is_empty(),
        "{} is against the Lind ABI:\n  {}",
        program.name,
        violations.join("\n  ")
    );
    let lindfs = root.join("lindfs");
    let folder = lindfs.join(program.kind.folder());
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}.wasm", program.name));
    fs::write(&file, wasm).with_context(|| format!("cannot write {}", file.display()))?;

    let shown = file.strip_prefix(root).unwrap_or(&file).display();
    let runtime = root.join("target/release/lind-wasm");
    if !runtime.exists() {
        println!(
            "{shown} (not precompiled: {} is not built yet)",
            runtime.display()
        );
        return Ok(());
    }
    let status = Command::new(&runtime)
        .arg("--root")
        .arg(&lindfs)
        .arg("--precompile")
        .arg(&file)
        .status()
        .with_context(|| format!("cannot start {}", runtime.display()))?;
    ensure!(status.success(), "{shown} does not precompile");
    println!("{shown}");
    Ok(())
}
