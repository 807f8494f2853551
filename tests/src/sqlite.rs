//! SQLite as a program for a cage: its own source, and a stock WASI toolchain that knows nothing of
//! Lind. What is compiled stays in `target/wasi` until one of its inputs changes.

use crate::fixture::{host_command, repository};
use anyhow::Context;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The program that the tests kill: the name of its source in `tests/wasi`, without the ending.
pub const LOAD: &str = "sqlite_load";
/// The one that the benchmarks time.
pub const BENCH: &str = "sqlite_bench";

/// What SQLite is compiled with beside what it finds out for WASI by itself.
const OPTIONS: &[&str] = &[
    // WASI has no locks, and the stand-in, a lock directory, would outlive a program that is killed.
    "-DSQLITE_DEFAULT_UNIX_VFS=\"unix-none\"",
    // Nor has it file mappings, which a write-ahead log and large reads would need.
    "-DSQLITE_OMIT_WAL",
    "-DSQLITE_MAX_MMAP_SIZE=0",
];

/// The crate that carries SQLite's amalgamated source, locked by this package's manifest.
const CRATE: &str = "libsqlite3-sys";

/// A program, ready to run: `NAME.cwasm`. Built when it is first asked for.
///
/// # Errors
/// When the toolchain or the source is missing, or something does not compile.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    // One test builds, the others wait.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);

    let sqlite = source()?;
    let folder = repository().join("target/wasi");
    fs::create_dir_all(&folder)?;
    let object = folder.join("sqlite3.o");
    let library = sqlite.join("sqlite3.c");
    compile(&object, &[&library], |clang| {
        clang.arg("-c").args(OPTIONS).arg(&library);
    })?;
    let wasm = folder.join(name).with_extension("wasm");
    let driver = repository()
        .join("tests/wasi")
        .join(name)
        .with_extension("c");
    compile(&wasm, &[&driver, &object], |clang| {
        clang.arg("-I").arg(&sqlite).args([&driver, &object]);
    })?;
    let native = wasm.with_extension("cwasm");
    let runtime = host_command("lind-wasm");
    if !is_newer(&native, &[&wasm, &runtime]) {
        run(Command::new(&runtime).arg("--precompile").arg(&wasm))?;
    }
    Ok(native)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// The folder of SQLite's source, which cargo downloads if it is not there yet.
fn source() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(repository().join("tests"))
        .args(["metadata", "--locked", "--format-version=1"])
        .arg("--filter-platform=wasm32-wasip1");
    let metadata: Metadata = serde_json::from_slice(&run(&mut command)?).context("its metadata")?;
    metadata
        .packages
        .iter()
        .find(|package| package.name == CRATE)
        .and_then(|package| package.manifest_path.parent())
        .map(|package| package.join("sqlite3"))
        .with_context(|| format!("cargo does not know {CRATE}"))
}

/// Makes `out` with clang, unless it is there, made in the same way and newer than `inputs`.
fn compile(
    out: &Path,
    inputs: &[&Path],
    arguments: impl FnOnce(&mut Command),
) -> anyhow::Result<()> {
    let mut clang = Command::new("clang-19");
    clang.args(["--target=wasm32-wasi", "-O2", "-Wall", "-Wextra"]);
    arguments(&mut clang);
    let how = format!("{clang:?}");
    let record = with_ending(out, ".how");
    let as_before = fs::read(&record).is_ok_and(|before| before == how.as_bytes());
    if as_before && is_newer(out, inputs) {
        return Ok(());
    }
    // Whoever is stopped half-way leaves no file that passes for a whole one.
    let draft = with_ending(out, &format!(".{}", std::process::id()));
    run(clang.arg("-o").arg(&draft))
        .context("the stock WASI toolchain: scripts/setup.sh --tests installs it")?;
    fs::rename(&draft, out)?;
    fs::write(&record, how)?;
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(ending);
    path.into()
}

fn is_newer(made: &Path, from: &[&Path]) -> bool {
    let time = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    time(made).is_some_and(|made| {
        from.iter()
            .all(|from| time(from).is_some_and(|from| made > from))
    })
}

/// Runs a command to its end, however long that takes. Answers its standard output.
fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let shown = command.get_program().to_owned();
    let shown = OsStr::to_string_lossy(&shown);
    let output = command
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{shown} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
