//! Compiles and links guests.

use crate::guests::{Guest, Kind, Language, Program, Source};
use crate::toolchain::Tools;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A linked program, not yet ready to run.
#[derive(Debug)]
pub struct Linked {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where the linker put it.
    pub file: PathBuf,
}

const TARGET: &str = "wasm32-wasip1";

/// What WebAssembly may have in it. From `mvp` up, by name: newer defaults of the compiler are
/// more than Debian's binaryen can read, and cages need atomics, which are not among them.
const FEATURES: &str =
    "+atomics,+bulk-memory,+mutable-globals,+nontrapping-fptoint,+sign-ext,+simd128";

/// What the linker is told, see the ABI: the host makes the memory and finds the stack and the
/// thread-local block by name; signals 0 and 1 are no functions.
pub const LINKER_ARGS: &[&str] = &[
    "--import-memory",
    "--shared-memory",
    "--max-memory=4294967296",
    "--table-base=2",
    "--export=__stack_pointer",
    "--export=__stack_low",
    "--export=__tls_base",
    // Only grates have it.
    "--export-if-defined=pass_fptr_to_wt",
    "-zstack-size=1048576",
];

/// Pulls the dispatcher out of the library; programs that don't have that library don't mind.
const DISPATCHER: &str = "--undefined=pass_fptr_to_wt";

/// Settings of cargo that are the user's, not the host build's.
const INHERITED: &[&str] = &[
    "CARGO_HOME",
    "CARGO_NET_OFFLINE",
    "CARGO_TERM_COLOR",
    "RUSTUP_HOME",
];

/// Compiles the guests in Rust among them in one run of cargo, with `std` from its sources.
pub fn compile(root: &Path, tools: &Tools, guests: &[Guest]) -> anyhow::Result<Vec<Linked>> {
    let guests = &in_rust(guests)[..];
    if guests.is_empty() {
        return Ok(Vec::new());
    }
    println!(
        "xtask: compiling {} packages for WebAssembly, and std for them the first time",
        guests.len()
    );
    let mut command = cargo(root, tools, "build", guests)?;
    ensure!(run(&mut command)?, "the guests do not compile");
    let built = target_folder(root).join(TARGET).join("release");
    let linked = |program: &Program| Linked {
        name: program.name.clone(),
        kind: program.kind,
        file: built.join(format!("{}.wasm", program.name)),
    };
    let programs = guests.iter().flat_map(|guest| &guest.programs);
    let of_cargo = programs.filter(|program| matches!(program.from, Source::Cargo));
    Ok(of_cargo.map(linked).collect())
}

/// Those of the guests that cargo compiles.
fn in_rust(guests: &[Guest]) -> Vec<Guest> {
    let rust = |guest: &&Guest| guest.language == Language::Rust;
    guests.iter().filter(rust).cloned().collect()
}

/// Runs clippy over guests and the libraries that only guests have.
pub fn lint(root: &Path, tools: &Tools, guests: &[Guest]) -> anyhow::Result<()> {
    let driver = tools.rustc.with_file_name("clippy-driver");
    ensure!(
        driver.exists(),
        "there is no {} (Debian: rust-web-clippy)",
        driver.display()
    );
    let guests = &in_rust(guests)[..];
    ensure!(!guests.is_empty(), "clippy looks at Rust alone");
    // What `cargo clippy` does; it would look for its driver in the path, hence beside another
    // compiler.
    let mut command = cargo(root, tools, "check", guests)?;
    command
        .env("RUSTC_WORKSPACE_WRAPPER", driver)
        .env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings");
    ensure!(run(&mut command)?, "clippy has something to say");
    Ok(())
}

/// Where cargo builds guests: apart from the host's builds, whose lock they would wait for. By its
/// true name, which stands in the flags that all is compiled with.
pub fn target_folder(root: &Path) -> PathBuf {
    let target = root.join("target");
    fs::canonicalize(&target).unwrap_or(target).join("guests")
}

fn cargo(root: &Path, tools: &Tools, what: &str, guests: &[Guest]) -> anyhow::Result<Command> {
    let target = target_folder(root);
    let libraries = target.join("lib");
    stand_in_libc(&libraries)?;

    let mut command = Command::new(&tools.cargo);
    // A cargo run by cargo inherits settings that are meant for the host.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO") || text.starts_with("RUST")) && !INHERITED.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
        .current_dir(root)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(tools, &libraries)?)
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .args([what, "--release", "--bins", "--target", TARGET])
        .arg("-Zbuild-std=std,panic_abort");
    for guest in guests {
        command.args(["--package", &guest.package]);
    }
    Ok(command)
}

pub fn run(command: &mut Command) -> anyhow::Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.success())
}

fn rustflags(tools: &Tools, libraries: &Path) -> anyhow::Result<String> {
    let utf8 = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .with_context(|| format!("{} is not UTF-8", path.display()))
    };
    let mut flags = vec![
        "-Ctarget-cpu=mvp".to_owned(),
        format!("-Ctarget-feature={FEATURES}"),
        "-Cpanic=abort".to_owned(),
        "-Clink-self-contained=no".to_owned(),
        format!("-Clinker={}", utf8(&tools.linker)?),
        format!("-L{}", utf8(libraries)?),
    ];
    let args = LINKER_ARGS.iter().chain([&DISPATCHER]);
    flags.extend(args.map(|arg| format!("-Clink-arg={arg}")));
    // The separator that cargo takes in this variable.
    Ok(flags.join("\u{1f}"))
}

/// `std` for WASI asks the linker for `libc`. What it needs of it is in `cage-libc`, an ordinary
/// crate, so an empty archive satisfies the linker.
fn stand_in_libc(folder: &Path) -> anyhow::Result<()> {
    const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";
    fs::create_dir_all(folder)?;
    let archive = folder.join("libc.a");
    // Left alone if there: a newer one would make cargo link again.
    if fs::read(&archive).ok().as_deref() != Some(EMPTY_ARCHIVE) {
        fs::write(&archive, EMPTY_ARCHIVE)?;
    }
    Ok(())
}
