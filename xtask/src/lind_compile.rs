//! `lind_compile` and `cargo lind_compile`: the commands that build scripts made for Lind call.

use crate::clang::{self, Job};
use crate::compile::Linked;
use crate::guests::{self, Kind, Language};
use crate::toolchain::Tools;
use crate::{compile, finish, place};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// What `lind_compile` takes.
#[derive(Args)]
pub struct LindCompile {
    /// The folder that paths are relative to
    #[arg(long, hide = true, default_value = ".")]
    from: PathBuf,

    /// Only compile and link: FILE.c to FILE.wasm
    #[arg(long, group = "mode")]
    compile_only: bool,

    /// Only make a linked FILE.wasm, compiled elsewhere, one that can fork
    #[arg(long, group = "mode")]
    opt_only: bool,

    /// Only compile FILE.wasm to native code
    #[arg(long, group = "mode")]
    precompile_only: bool,

    /// Static, which all programs here are
    #[arg(short = 's', long = "static")]
    is_static: bool,

    /// The program is a grate
    #[arg(long)]
    compile_grate: bool,

    /// Not to be had: programs here load no libraries
    #[arg(long, hide = true)]
    compile_library: bool,

    /// Not to be had: a function is called as what it is
    #[arg(long, hide = true)]
    fpcast_emu: bool,

    /// Folder of the root file system that gets the program too; its top if not named
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Print what is done
    #[arg(short = 'v', long, visible_aliases = ["print-cmd"])]
    verbose: bool,

    /// The source, then others, and flags for the compiler
    #[arg(
        value_name = "FILE",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    files: Vec<OsString>,
}

/// What `cargo lind_compile` takes.
#[derive(Args)]
pub struct CargoLindCompile {
    /// The package's folder
    #[arg(long, hide = true, default_value = ".")]
    from: PathBuf,

    /// What cargo calls its commands by
    #[arg(hide = true)]
    name: Option<String>,

    /// Optimized, which all programs here are
    #[arg(short, long)]
    release: bool,

    /// Folder of the root file system that gets the programs too
    #[arg(long, value_name = "DIR", default_value = "grates")]
    output_dir: PathBuf,
}

/// Libraries that the libc has in it.
const IN_LIBC: &[&str] = &["-lc", "-lm", "-lpthread", "-lrt", "-ldl", "-lutil"];

impl LindCompile {
    /// Compiles a program in C beside its source, and into the root file system.
    pub fn run(&self, root: &Path, tools: &Tools) -> anyhow::Result<()> {
        ensure!(
            !self.compile_library,
            "--compile-library: programs here load no libraries at run time; compile the \
             library's sources with the program"
        );
        ensure!(
            !self.fpcast_emu,
            "--fpcast-emu: a function is called here as what it is; declare it with the type that \
             it is called by"
        );
        let inside = self.output_dir.as_deref().map(place::inside);
        let inside = inside.transpose()?.unwrap_or_default();
        let (sources, flags) = self.sources()?;
        let first = sources.first().context("name a source to compile")?.clone();
        let kind = if self.compile_grate {
            Kind::Grate
        } else {
            Kind::Program
        };
        let ending = if self.opt_only || self.precompile_only {
            "wasm"
        } else {
            "c"
        };
        for source in &sources {
            ensure!(source.is_file(), "there is no file {}", source.display());
            ensure!(
                source.extension() == Some(OsStr::new(ending)),
                "{} is no .{ending} file",
                source.display()
            );
        }
        let name = first.file_stem().unwrap_or_default().to_string_lossy();
        let beside = first.with_extension("wasm");
        if self.precompile_only {
            return precompiled(root, &beside, &inside);
        }
        let linked = if self.opt_only {
            Linked {
                name: name.clone().into_owned(),
                kind,
                file: first.clone(),
            }
        } else {
            let job = Job {
                name: name.clone().into_owned(),
                kind,
                sources,
                flags,
            };
            clang::link(root, tools, &job)?
        };
        if self.compile_only {
            fs::copy(&linked.file, &beside)
                .with_context(|| format!("cannot write {}", beside.display()))?;
            println!("{}", beside.display());
            return Ok(());
        }
        let wasm = finish::finish(tools, &linked)?;
        place::check(&name, kind, &wasm)?;
        fs::write(&beside, wasm).with_context(|| format!("cannot write {}", beside.display()))?;
        println!("{}", beside.display());
        if self.opt_only {
            return Ok(());
        }
        precompiled(root, &beside, &inside)
    }

    /// The sources, and the flags for the compiler, among the files.
    fn sources(&self) -> anyhow::Result<(Vec<PathBuf>, Vec<OsString>)> {
        let (mut sources, mut flags) = (Vec::new(), Vec::new());
        let mut files = self.files.iter().filter(|file| *file != "--");
        while let Some(file) = files.next() {
            let text = file.to_string_lossy();
            if !text.starts_with('-') {
                sources.push(self.from.join(file));
            } else if text == "-I" || text == "-D" || text == "-include" {
                flags.push(file.clone());
                let value = files
                    .next()
                    .with_context(|| format!("{text} needs a value"))?;
                flags.push(if text == "-D" {
                    value.clone()
                } else {
                    self.from.join(value).into_os_string()
                });
            } else if let Some(folder) = text.strip_prefix("-I") {
                flags.push("-I".into());
                flags.push(self.from.join(folder).into_os_string());
            } else if text.starts_with("-l") || text.starts_with("-Wl,") || text == "-L" {
                ensure!(
                    IN_LIBC.contains(&&*text),
                    "{text}: there is nothing to link but the libc; name the sources"
                );
            } else if text != "-pthread" {
                flags.push(file.clone());
            }
        }
        if self.verbose {
            println!("sources {sources:?}, flags {flags:?}");
        }
        Ok((sources, flags))
    }
}

/// Compiles a program to native code beside it, and copies both into a folder of the root.
fn precompiled(root: &Path, wasm: &Path, inside: &Path) -> anyhow::Result<()> {
    let made = place::precompile(root, wasm)?;
    let folder = place::root_folder(root).join(inside);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let native = wasm.with_extension("cwasm");
    for file in [wasm, &native] {
        if !file.exists() || (file == native && !made) {
            continue;
        }
        let to = folder.join(file.file_name().unwrap_or_default());
        // One that runs is not written over: it goes on with what it has.
        let _ = fs::remove_file(&to);
        fs::copy(file, &to).with_context(|| format!("cannot write {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

impl CargoLindCompile {
    /// Compiles the package in whose folder this is, and copies its programs.
    pub fn run(&self, root: &Path, tools: &Tools) -> anyhow::Result<()> {
        let from = fs::canonicalize(&self.from)?;
        let mut all = guests::select(root, &[], Some(Language::Rust))?;
        all.retain(|guest| fs::canonicalize(&guest.folder).is_ok_and(|folder| folder == from));
        let Some(guest) = all.first() else {
            bail!(
                "{} is no grate or program of this workspace: put it below grates, with kind = \
                 \"grate\" in [package.metadata.lind] of its Cargo.toml",
                from.display()
            );
        };
        let folder = place::root_folder(root).join(place::inside(&self.output_dir)?);
        let mut programs = compile::compile(root, tools, &all)?;
        programs.extend(clang::compile(root, tools, &all)?);
        for program in programs {
            place::update(root, tools, &program)?;
            let placed = place::place_of(root, &program);
            if program.kind != guest.kind || placed.parent() == Some(&folder) {
                continue;
            }
            fs::create_dir_all(&folder)?;
            for ending in ["wasm", "cwasm"] {
                let file = placed.with_extension(ending);
                if file.exists() {
                    let to = folder.join(file.file_name().unwrap_or_default());
                    let _ = fs::remove_file(&to);
                    fs::copy(&file, &to)?;
                    println!("{}", to.display());
                }
            }
        }
        println!("{} is compiled", guest.package);
        Ok(())
    }
}
