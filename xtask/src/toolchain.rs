//! Finds the tools that guests are built with.
//!
//! Guests need a compiler with its library sources, because `std` is built for them with atomics
//! (`-Zbuild-std`), a wasm linker and binaryen's `wasm-opt`. All of them are Debian packages;
//! elsewhere a rustup nightly with `rust-src` and any binaryen do.

use anyhow::bail;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the tools are.
#[derive(Debug)]
pub struct Tools {
    /// `cargo` of the compiler below.
    pub cargo: PathBuf,
    /// A compiler whose sysroot has the library sources.
    pub rustc: PathBuf,
    /// `wasm-ld`, or `rust-lld`.
    pub linker: PathBuf,
    /// Binaryen's optimiser, which also makes programs ready for fork.
    pub wasm_opt: PathBuf,
    /// What C takes beside; if something is missing, what.
    c: Result<CTools, String>,
}

/// What C is compiled with.
#[derive(Debug)]
pub struct CTools {
    /// A compiler with WebAssembly as a target.
    pub clang: PathBuf,
    /// The libc, for one thread.
    pub libc: PathBuf,
    /// Its headers.
    pub headers: PathBuf,
    /// What the compiler calls for what WebAssembly lacks.
    pub builtins: PathBuf,
}

impl Tools {
    /// What C is compiled with.
    pub fn c(&self) -> anyhow::Result<&CTools> {
        match &self.c {
            Ok(tools) => Ok(tools),
            Err(missing) => bail!("to build programs in C, these are missing:\n  {missing}"),
        }
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cargo    {}\nrustc    {}\nlinker   {}\nwasm-opt {}",
            self.cargo.display(),
            self.rustc.display(),
            self.linker.display(),
            self.wasm_opt.display()
        )?;
        if let Ok(c) = &self.c {
            write!(
                f,
                "\nclang    {}\nlibc     {}\nbuiltins {}",
                c.clang.display(),
                c.libc.display(),
                c.builtins.display()
            )?;
        }
        Ok(())
    }
}

/// Names another place for Debian's tools than `/usr`, as it does for `scripts/setup.sh`: for tests.
const SYSTEM: &str = "SETUP_SYSTEM";
/// Oldest compiler that takes the workspace.
const RUST: (u32, u32) = (1, 95);
/// LLVM versions whose linker is tried by name.
const LLVM: std::ops::RangeInclusive<u32> = 18..=23;

/// Finds all tools, or says everything that is missing.
pub fn find() -> anyhow::Result<Tools> {
    let compiler = compiler();
    let linker = linker(compiler.as_ref().map(|(_, rustc)| rustc.as_path()));
    let wasm_opt = in_path("wasm-opt");
    let mut missing = Vec::new();
    if compiler.is_none() {
        missing.push(format!(
            "a Rust compiler of at least {}.{} with its library sources (Debian: rustc-web \
             cargo-web rust-web-src; elsewhere: rustup toolchain install nightly --component \
             rust-src)",
            RUST.0, RUST.1
        ));
    }
    if linker.is_none() {
        missing.push("a WebAssembly linker (Debian: lld-19)".to_owned());
    }
    if wasm_opt.is_none() {
        missing.push("wasm-opt (Debian: binaryen)".to_owned());
    }
    match (compiler, linker, wasm_opt) {
        (Some((cargo, rustc)), Some(linker), Some(wasm_opt)) => Ok(Tools {
            cargo,
            rustc,
            linker,
            wasm_opt,
            c: c_tools(),
        }),
        _ => bail!(
            "to build guests, these are missing:\n  {}",
            missing.join("\n  ")
        ),
    }
}

/// `cargo` and `rustc` that belong together.
fn compiler() -> Option<(PathBuf, PathBuf)> {
    let system = PathBuf::from(std::env::var_os(SYSTEM).unwrap_or_else(|| "/usr".into()));
    std::iter::once((system.join("bin/cargo"), system.join("bin/rustc")))
        .chain(rustup_nightly())
        .find(|(cargo, rustc)| cargo.exists() && is_recent(rustc) && has_sources(rustc))
}

/// The paths behind rustup's shims, which would look at `rust-toolchain.toml` instead.
fn rustup_nightly() -> Option<(PathBuf, PathBuf)> {
    let which = |tool: &str| output("rustup", ["which", "--toolchain", "nightly", tool]);
    Some((which("cargo")?.into(), which("rustc")?.into()))
}

fn is_recent(rustc: &Path) -> bool {
    output(rustc, ["--version"])
        .and_then(|text| version(&text))
        .is_some_and(|version| version >= RUST)
}

fn has_sources(rustc: &Path) -> bool {
    sysroot(rustc).is_some_and(|root| root.join("lib/rustlib/src/rust/library/std").exists())
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    output(rustc, ["--print", "sysroot"]).map(PathBuf::from)
}

/// Major and minor out of what `rustc --version` says.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn linker(rustc: Option<&Path>) -> Option<PathBuf> {
    in_path("wasm-ld")
        .or_else(|| {
            LLVM.rev()
                .find_map(|llvm| in_path(&format!("wasm-ld-{llvm}")))
        })
        .or_else(|| bundled_linker(rustc?))
}

/// The linker that rustup delivers with a compiler.
fn bundled_linker(rustc: &Path) -> Option<PathBuf> {
    let host = output(rustc, ["--print", "host-tuple"])?;
    let linker = sysroot(rustc)?.join(format!("lib/rustlib/{host}/bin/gcc-ld/wasm-ld"));
    linker.exists().then_some(linker)
}

/// The first toolchain for C that is whole; if none is, what the first one lacks.
fn c_tools() -> Result<CTools, String> {
    let named = LLVM.rev().map(|llvm| format!("clang-{llvm}"));
    let mut whole = std::iter::once("clang-19".to_owned())
        .chain(named)
        .filter_map(|name| in_path(&name))
        .chain(in_path("clang").filter(|clang| is_recent_clang(clang)))
        .map(c_tools_of);
    let first = whole
        .next()
        .unwrap_or_else(|| Err("clang of at least version 18 (Debian: clang-19)".to_owned()));
    first.or_else(|missing| whole.find_map(Result::ok).ok_or(missing))
}

fn c_tools_of(clang: PathBuf) -> Result<CTools, String> {
    // It answers the bare name of what it can't find.
    let found = |question: &str| {
        let path = PathBuf::from(output(&clang, ["--target=wasm32-wasi", question])?);
        path.is_file().then_some(path)
    };
    let libc =
        found("-print-file-name=libc.a").ok_or("a libc for wasm32-wasi (Debian: wasi-libc)")?;
    // Beside `lib/wasm32-wasi/libc.a`.
    let headers = libc
        .ancestors()
        .nth(3)
        .map(|top| top.join("include/wasm32-wasi"));
    let builtins = found("-print-libgcc-file-name");
    Ok(CTools {
        headers: headers.unwrap_or_default(),
        libc,
        builtins: builtins
            .ok_or("clang's runtime for WebAssembly (Debian: libclang-rt-19-dev-wasm32)")?,
        clang,
    })
}

fn is_recent_clang(clang: &Path) -> bool {
    let text = output(clang, ["-dumpversion"]).unwrap_or_default();
    let major = text.split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| LLVM.start() <= &major)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// What a command prints, if it succeeds.
fn output<const N: usize>(program: impl AsRef<OsStr>, args: [&str; N]) -> Option<String> {
    // Set by the cargo that runs us, these would make rustup's tools choose its toolchain.
    let output = Command::new(program)
        .args(args)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        assert_eq!(
            version("rustc 1.96.0 (abc 2026-01-01) (built from source)"),
            Some((1, 96))
        );
        assert_eq!(version("rustc 1.100.0-nightly (abc)"), Some((1, 100)));
        assert!(version("rustc 1.100.0").unwrap() > RUST);
        assert_eq!(version("nonsense"), None);
    }
}
