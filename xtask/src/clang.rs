//! Compiles and links programs in C: clang, LLVM's linker, Debian's wasi-libc, and `lib/c`, which
//! serves what that libc imports and has what WASI lacks.

use crate::compile::{LINKER_ARGS, Linked, run, target_folder};
use crate::guests::{Guest, Kind, Program, Source};
use crate::toolchain::{CTools, Tools};
use anyhow::{Context, ensure};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// As for Rust, of the features that newer compilers take for granted none that Debian's binaryen
/// can't read.
const FEATURES: &[&str] = &[
    "-mcpu=mvp",
    "-matomics",
    "-mbulk-memory",
    "-mmutable-globals",
    "-mnontrapping-fptoint",
    "-msign-ext",
    "-msimd128",
];

/// Functions of the libc that `lib/c` puts a lock around.
const LOCKED: &[&str] = &[
    "malloc",
    "free",
    "calloc",
    "realloc",
    "aligned_alloc",
    "posix_memalign",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_free",
    "fclose",
    "fread",
    "fwrite",
    "fgetc",
    "getc",
    "getchar",
    "ungetc",
    "fgets",
    "getdelim",
    "fputc",
    "putc",
    "putchar",
    "fputs",
    "puts",
    "vfprintf",
    "vfscanf",
    "fseek",
    "fseeko",
    "ftell",
    "ftello",
    "setvbuf",
    "fflush",
    "__ofl_lock",
    "__ofl_unlock",
];

/// The object that has the entry, which nothing refers to.
const ENTRY: &str = "start";

/// A program in C, outside of any guest's folder too.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, without an ending.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its sources.
    pub sources: Vec<PathBuf>,
    /// Other flags for the compiler.
    pub flags: Vec<OsString>,
}

/// Compiles the programs in C of those guests, where anything that they are made from has changed.
pub fn compile(root: &Path, tools: &Tools, guests: &[Guest]) -> anyhow::Result<Vec<Linked>> {
    let job = |program: &Program| match &program.from {
        Source::C(sources) => Some(Job {
            name: program.name.clone(),
            kind: program.kind,
            sources: sources.clone(),
            flags: ["-Wall", "-Wextra", "-Wno-unused-parameter"]
                .map(OsString::from)
                .to_vec(),
        }),
        Source::Cargo => None,
    };
    let mut linked = Vec::new();
    for guest in guests {
        for job in guest.programs.iter().filter_map(job) {
            linked.push(link(root, tools, &job)?);
        }
    }
    Ok(linked)
}

/// Compiles and links one program, where anything that it is made from has changed.
pub fn link(root: &Path, tools: &Tools, job: &Job) -> anyhow::Result<Linked> {
    let c = tools.c()?;
    let built = target_folder(root).join("c").join(job.kind.folder());
    let folder = built.join(&job.name);
    let file = folder.join(format!("{}.wasm", job.name));
    let library = library(root, c)?;

    let mut inputs: Vec<PathBuf> = library.clone();
    for source in &job.sources {
        ensure!(source.is_file(), "there is no file {}", source.display());
        inputs.push(source.clone());
        // Headers beside it.
        inputs.extend(files(source.parent().unwrap_or(root), "h")?);
    }
    inputs.extend(headers(root)?);
    // Other flags make another program.
    let flags = folder.join("flags");
    let wanted = format!("{:?} {:?}", job.sources, job.flags);
    let same = fs::read_to_string(&flags).is_ok_and(|known| known == wanted);
    if !(same && is_newer(&file, &inputs)) {
        fs::create_dir_all(&folder)?;
        let mut objects = Vec::new();
        for (number, source) in job.sources.iter().enumerate() {
            let object = folder.join(format!("{number}.o"));
            object_of(root, c, source, &object, &job.flags)
                .with_context(|| format!("{} does not compile", source.display()))?;
            objects.push(object);
        }
        link_objects(tools, c, job.kind, &objects, &library, &file)
            .with_context(|| format!("{} does not link", job.name))?;
        fs::write(&flags, wanted)?;
    }
    Ok(Linked {
        name: job.name.clone(),
        kind: job.kind,
        file,
    })
}

/// Where the parts of the library are.
fn library_folder(root: &Path) -> PathBuf {
    root.join("lib/c")
}

fn headers(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let include = library_folder(root).join("include");
    let mut found = files(&library_folder(root).join("src"), "h")?;
    for folder in ["", "sys", "arpa", "netinet"] {
        found.extend(files(&include.join(folder), "h")?);
    }
    Ok(found)
}

/// The objects of `lib/c`.
fn library(root: &Path, c: &CTools) -> anyhow::Result<Vec<PathBuf>> {
    let built = target_folder(root).join("c/lib");
    let headers = headers(root)?;
    let flags = ["-Wall", "-Wextra", "-Werror"].map(OsString::from);
    let mut objects = Vec::new();
    for source in files(&library_folder(root).join("src"), "c")? {
        let object = built.join(source.with_extension("o").file_name().unwrap_or_default());
        let mut inputs = headers.clone();
        inputs.push(source.clone());
        if !is_newer(&object, &inputs) {
            fs::create_dir_all(&built)?;
            object_of(root, c, &source, &object, &flags)
                .with_context(|| format!("{} does not compile", source.display()))?;
        }
        objects.push(object);
    }
    Ok(objects)
}

fn object_of(
    root: &Path,
    c: &CTools,
    source: &Path,
    object: &Path,
    flags: &[OsString],
) -> anyhow::Result<()> {
    let mut command = Command::new(&c.clang);
    command
        .arg("--target=wasm32-wasi")
        .args(FEATURES)
        .arg("-O2")
        // Not the host's headers; and before the libc's own those that replace or complete them.
        .arg("-nostdlibinc")
        .arg("-isystem")
        .arg(library_folder(root).join("include"))
        .arg("-isystem")
        .arg(&c.headers)
        .args(flags)
        .args([OsStr::new("-c"), source.as_os_str()])
        .args([OsStr::new("-o"), object.as_os_str()]);
    ensure!(run(&mut command)?, "clang failed");
    Ok(())
}

fn link_objects(
    tools: &Tools,
    c: &CTools,
    kind: Kind,
    objects: &[PathBuf],
    library: &[PathBuf],
    to: &Path,
) -> anyhow::Result<()> {
    let is_entry = |object: &&PathBuf| object.file_stem() == Some(OsStr::new(ENTRY));
    let mut command = Command::new(&tools.linker);
    // The libc was compiled for one thread; `lib/c` sees to it that several can use it.
    command
        .arg("--no-check-features")
        .arg("--export=epoch")
        .args(LINKER_ARGS);
    if kind == Kind::Grate {
        command.arg("--undefined=pass_fptr_to_wt");
    }
    command
        .args(LOCKED.iter().map(|name| format!("--wrap={name}")))
        .args(objects)
        .args(library.iter().filter(is_entry))
        .arg("--start-lib")
        .args(library.iter().filter(|object| !is_entry(object)))
        .arg("--end-lib")
        .args([&c.libc, &c.builtins])
        .arg("-o")
        .arg(to);
    ensure!(run(&mut command)?, "the linker failed");
    Ok(())
}

/// What the adapter calls of the library, beside WASI's functions.
const ADAPTER_EXPORTS: &[&str] = &["__lind_memory_size", "__lind_memory_grow", "__lind_exit"];

/// Links what a finished module lacks, see [`crate::adapt`]: to lie in memory from `base` on, with
/// those functions exported that it has.
pub fn adapter(
    root: &Path,
    tools: &Tools,
    name: &str,
    base: u64,
    functions: &[String],
) -> anyhow::Result<PathBuf> {
    let c = tools.c()?;
    let folder = target_folder(root).join("c/adapter");
    fs::create_dir_all(&folder)?;
    let flags = ["-Wall", "-Wextra", "-Werror", "-DLIND_ADAPTER"].map(OsString::from);
    let sources = library_folder(root).join("src");
    let own = library_folder(root).join("adapter");
    let mut objects = Vec::new();
    for source in [sources.join("wasi.c"), own.join("memory.c")] {
        let object = folder.join(source.with_extension("o").file_name().unwrap_or_default());
        object_of(root, c, &source, &object, &flags)?;
        objects.push(object);
    }
    let wasi = |object: &PathBuf| object.file_stem() == Some(OsStr::new("wasi"));
    let mut library = library(root, c)?;
    library.retain(|object| !wasi(object));
    let to = folder.join(format!("{name}.wasm"));
    let mut command = Command::new(&tools.linker);
    command
        .args(["--no-check-features", "--no-entry", "--export=epoch"])
        .arg(format!("--global-base={base}"))
        .args(LINKER_ARGS)
        .args(
            ADAPTER_EXPORTS
                .iter()
                .map(|name| format!("--export={name}")),
        )
        .args(
            functions
                .iter()
                .map(|name| format!("--export-if-defined={name}")),
        )
        .args(&objects)
        .arg("--start-lib")
        .args(&library)
        .arg("--end-lib")
        .args([&c.libc, &c.builtins])
        .arg("-o")
        .arg(&to);
    ensure!(run(&mut command)?, "the linker failed");
    Ok(to)
}

/// The files of a folder with that ending, in order; none if it is missing.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is there and newer than all that it is made from, and than this program.
fn is_newer(made: &Path, from: &[PathBuf]) -> bool {
    let time = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let own = std::env::current_exe().ok();
    let Some(made) = time(made) else {
        return false;
    };
    from.iter()
        .map(PathBuf::as_path)
        .chain(own.as_deref())
        .all(|from| time(from).is_some_and(|from| made > from))
}
