//! The build driver: compiles the guests for Lind, checks them and puts them into `lindfs/`; packs what was built.

mod abi;
mod adapt;
mod clang;
mod compile;
mod dispatcher;
mod dist;
mod finish;
mod guests;
mod licences;
mod lind_compile;
mod metadata;
mod new_grate;
mod place;
mod toolchain;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use guests::Language;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build the guest programs of this repository.
#[derive(Parser)]
#[command(name = "xtask")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile guests, check them and put them into lindfs/grates and lindfs/bin
    Guests {
        /// Packages and folders to build; all guests if none is named
        names: Vec<String>,
        /// Only those that are written in it
        #[arg(long, value_enum)]
        lang: Option<Language>,
    },
    /// Run clippy over guests
    Lint {
        /// Packages to look at; all guests if none is named
        names: Vec<String>,
    },
    /// Say what in a wasm file is against the Lind ABI, one line each
    Check {
        /// Files to check
        #[arg(required = true, value_name = "FILE.wasm")]
        files: Vec<PathBuf>,
    },
    /// List the guests
    List,
    /// Pack what was built into one archive below target/dist
    Dist,
    /// Install what was built
    Install {
        /// Where to, an absolute path
        #[arg(long, value_name = "DIR", default_value = "/usr/local")]
        prefix: PathBuf,
        /// A folder that stands before the prefix, for who packs what is installed
        #[arg(long, value_name = "DIR")]
        destination: Option<PathBuf>,
    },
    /// Make the folder of a new grate, with a test and a README
    NewGrate {
        /// Its name: small letters, digits, and - between them
        name: String,
        /// The language to write it in
        #[arg(long, value_enum)]
        lang: Language,
    },
    /// Make a finished WASI module one that Lind runs, and put it into lindfs/bin
    Adapt {
        /// A program for WASI preview 1
        #[arg(value_name = "PROGRAM.wasm")]
        file: PathBuf,
    },
    /// Compile a program in C, wherever it is, as Lind's command of that name does
    LindCompile(lind_compile::LindCompile),
    /// Compile the package of a folder, as Lind's `cargo lind_compile` does
    CargoLindCompile(lind_compile::CargoLindCompile),
    /// Say with which tools guests would be built, or what is missing
    Tools,
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let root = &repository()?;
    match command {
        Command::Guests { names, lang } => build(root, &names, lang),
        Command::Lint { names } => {
            let guests = guests::select(root, &names, Some(Language::Rust))?;
            compile::lint(root, &toolchain::find()?, &guests)
        }
        Command::Check { files } => check(&files),
        Command::List => list(root),
        Command::Dist => {
            println!("{}", dist::archive(root)?.display());
            Ok(())
        }
        Command::Install {
            prefix,
            destination,
        } => dist::install(root, &prefix, destination.as_deref()),
        Command::NewGrate { name, lang } => new_grate::make(root, &name, lang),
        Command::Adapt { file } => adapt::adapt(root, &toolchain::find()?, &file),
        Command::LindCompile(job) => job.run(root, &toolchain::find()?),
        Command::CargoLindCompile(job) => job.run(root, &toolchain::find()?),
        Command::Tools => {
            let tools = toolchain::find()?;
            println!("{tools}");
            tools.c().map(drop)
        }
    }
}

/// Top of the repository: what `LIND_REPOSITORY` names, as tests do that add to one; else where
/// this was compiled.
fn repository() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("LIND_REPOSITORY") {
        return Ok(named.into());
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    own.map(Path::to_owned)
        .context("xtask stands in no repository")
}

fn build(root: &Path, names: &[String], lang: Option<Language>) -> anyhow::Result<()> {
    let guests = guests::select(root, names, lang)?;
    let tools = toolchain::find()?;
    let mut stale = compile::compile(root, &tools, &guests)?;
    stale.extend(clang::compile(root, &tools, &guests)?);
    stale.retain(|program| !place::is_current(root, program));
    if !stale.is_empty() {
        println!(
            "xtask: instrumenting {} programs and compiling them to native code",
            stale.len()
        );
    }
    for program in &stale {
        place::update(root, &tools, program)?;
    }
    Ok(())
}

fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut violations = 0;
    for file in files {
        let shown = file.display();
        let wasm = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        for violation in abi::violations(&wasm, None) {
            println!("{shown}: {violation}");
            violations += 1;
        }
    }
    ensure!(violations == 0, "{violations} violations of the Lind ABI");
    Ok(())
}

fn list(root: &Path) -> anyhow::Result<()> {
    for guest in guests::select(root, &[], None)? {
        let folder = guest.folder.strip_prefix(root).unwrap_or(&guest.folder);
        println!(
            "{:8} {:5} {:24} {}",
            guest.kind.name(),
            guest.language.name(),
            folder.display(),
            guest.about
        );
    }
    Ok(())
}
