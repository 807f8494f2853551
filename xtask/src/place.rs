//! Puts finished programs into `lindfs/`.

use crate::compile::Linked;
use crate::guests::Kind;
use crate::toolchain::Tools;
use crate::{abi, finish};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Component, Path, PathBuf};
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
pub fn place_of(root: &Path, program: &Linked) -> PathBuf {
    let folder = root_folder(root).join(program.kind.folder());
    folder.join(format!("{}.wasm", program.name))
}

/// The root file system: what `LINDFS` names, else that of the repository.
pub fn root_folder(root: &Path) -> PathBuf {
    std::env::var_os("LINDFS").map_or_else(|| root.join("lindfs"), PathBuf::from)
}

/// A folder of the root file system, as people name it: with a slash in front or without.
pub fn inside(folder: &Path) -> anyhow::Result<PathBuf> {
    let plain = |part: &Component<'_>| !matches!(part, Component::RootDir | Component::CurDir);
    let parts: Vec<Component<'_>> = folder.components().filter(plain).collect();
    ensure!(
        parts
            .iter()
            .all(|part| matches!(part, Component::Normal(_))),
        "{} is no folder inside of the root file system",
        folder.display()
    );
    Ok(parts.into_iter().collect())
}

fn runtime(root: &Path) -> PathBuf {
    root.join("target/release/lind-wasm")
}

/// Puts a program into the root file system, unless it stands there as it would be made now.
pub fn update(root: &Path, tools: &Tools, program: &Linked) -> anyhow::Result<()> {
    if is_current(root, program) {
        return Ok(());
    }
    let wasm = finish::finish(tools, program)?;
    place(root, program, &wasm)
}

/// Fails with everything in a program that is against the ABI.
pub fn check(name: &str, kind: Kind, wasm: &[u8]) -> anyhow::Result<()> {
    let violations = abi::violations(wasm, Some(kind));
    ensure!(
        violations.is_empty(),
        "{name} is against the Lind ABI:\n  {}",
        violations.join("\n  ")
    );
    Ok(())
}

/// Checks a program, writes it into the root file system and compiles it to native code beside.
pub fn place(root: &Path, program: &Linked, wasm: &[u8]) -> anyhow::Result<()> {
    check(&program.name, program.kind, wasm)?;
    let file = place_of(root, program);
    fs::create_dir_all(file.parent().unwrap_or(root))?;
    fs::write(&file, wasm).with_context(|| format!("cannot write {}", file.display()))?;
    if precompile(root, &file)? {
        println!("{}", file.strip_prefix(root).unwrap_or(&file).display());
    }
    Ok(())
}

/// Compiles a program to native code beside it. Whether the runtime is there that does it.
pub fn precompile(root: &Path, file: &Path) -> anyhow::Result<bool> {
    let shown = file.strip_prefix(root).unwrap_or(file).display();
    let runtime = runtime(root);
    if !runtime.exists() {
        println!(
            "{shown} (not precompiled: {} is not built yet)",
            runtime.display()
        );
        return Ok(false);
    }
    let status = Command::new(&runtime)
        .arg("--root")
        .arg(root_folder(root))
        .arg("--precompile")
        .arg(file)
        .status()
        .with_context(|| format!("cannot start {}", runtime.display()))?;
    ensure!(status.success(), "{shown} does not precompile");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_root_stays_in_it() {
        for (named, is) in [
            ("grates", "grates"),
            ("/a/./b/", "a/b"),
            ("", ""),
            (".", ""),
        ] {
            assert_eq!(inside(Path::new(named)).unwrap(), Path::new(is), "{named}");
        }
        for outside in ["..", "a/../../b", "/.."] {
            assert!(inside(Path::new(outside)).is_err(), "{outside}");
        }
    }
}
