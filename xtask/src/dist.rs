//! What people take home: the commands, the grates, documents, manual pages and completions, in one archive that
//! needs no Rust, or installed below a prefix.

use crate::guests::{self, Kind, Language};
use crate::licences::{self, Roots};
use anyhow::{Context, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "lind-crypt-grates";

/// What runs on the host: package and command have one name.
const COMMANDS: [&str; 3] = ["lind-wasm", "keys", "redact"];

/// A program to try the grates on: it keeps what it reads in a file.
const DEMO: &str = "keep";

/// Documents at the top, beside those in `docs` and the `README.md` of the commands and grates.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"];

/// What the commands are compiled for.
const HOST: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

const LICENCES: &str = "THIRD-PARTY.txt";
const SUMS: &str = "SHA256SUMS";

/// Makes the archive. Answers where it is.
///
/// # Errors
/// That something was not built yet, or a tool is missing.
pub fn archive(root: &Path) -> anyhow::Result<PathBuf> {
    let name = format!(
        "{NAME}-{}-{}-linux",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    let folder = root.join("target/dist");
    let stage = folder.join(&name);
    stage_to(root, &stage)?;
    let files = files_below(&stage)?;
    let sums = run(Command::new("sha256sum")
        .current_dir(&stage)
        .arg("--")
        .args(&files))?;
    write(&stage.join(SUMS), &sums)?;

    let archive = folder.join(format!("{name}.tar.gz"));
    // The same files make the same archive, whoever packs them and when.
    let time = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned());
    let packed = run(Command::new("tar")
        .current_dir(&folder)
        .args(["--create", "--sort=name", "--format=gnu"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{time}"))
        .args(["--use-compress-program=gzip -9n", "--file=-"])
        .arg(&name))?;
    write(&archive, &packed)?;
    let file = archive.file_name().unwrap_or_default();
    let sum = run(Command::new("sha256sum")
        .current_dir(&folder)
        .arg("--")
        .arg(file))?;
    write(&folder.join(format!("{name}.tar.gz.sha256")), &sum)?;
    Ok(archive)
}

/// Installs below a prefix: `bin`, `share`, and the grates in a folder of `lib`. `destination` stands before it, for
/// who packs what is installed.
///
/// # Errors
/// As [`archive`], and that something can't be written there.
pub fn install(root: &Path, prefix: &Path, destination: Option<&Path>) -> anyhow::Result<()> {
    ensure!(
        prefix.is_absolute(),
        "{}: a prefix is an absolute path",
        prefix.display()
    );
    let below = match destination {
        Some(destination) => destination.join(prefix.strip_prefix("/").unwrap_or(prefix)),
        None => prefix.to_owned(),
    };
    let stage = tempfile::tempdir_in(root.join("target"))?;
    stage_to(root, stage.path())?;
    for file in files_below(stage.path())? {
        let to = match file.strip_prefix("lindfs") {
            Ok(rest) => below.join("lib").join(NAME).join("lindfs").join(rest),
            Err(_) => below.join(&file),
        };
        copy(&stage.path().join(&file), &to)?;
    }
    println!(
        "installed below {}; a root for cages to begin with: cp -r {} .",
        below.display(),
        prefix.join("lib").join(NAME).join("lindfs").display()
    );
    Ok(())
}

/// Puts everything into an empty folder.
fn stage_to(root: &Path, stage: &Path) -> anyhow::Result<()> {
    if stage.exists() {
        fs::remove_dir_all(stage).with_context(|| stage.display().to_string())?;
    }
    let grates: Vec<_> = guests::select(root, &[], None)?
        .into_iter()
        .filter(|guest| guest.kind == Kind::Grate)
        .collect();
    let share = stage.join("share");
    for command in COMMANDS {
        let built = root.join("target/release").join(command);
        copy(&built, &stage.join("bin").join(command))?;
        run(Command::new(&built).arg("--write-manual").arg(&share))?;
    }
    let programs = grates.iter().flat_map(|grate| &grate.programs);
    for program in programs.filter(|program| program.kind == Kind::Grate) {
        let file = Path::new("lindfs/grates")
            .join(&program.name)
            .with_extension("wasm");
        copy(&root.join(&file), &stage.join(&file))?;
    }
    let demo = Path::new("lindfs/bin").join(DEMO).with_extension("wasm");
    copy(&root.join(&demo), &stage.join(&demo))?;

    let documents = share.join("doc").join(NAME);
    let listed = files_below(&root.join("docs"))?;
    let mut from: Vec<PathBuf> = DOCUMENTS.iter().map(PathBuf::from).collect();
    from.extend(listed.into_iter().map(|file| Path::new("docs").join(file)));
    let commands = COMMANDS.iter().map(PathBuf::from);
    let folders = grates.iter().map(|grate| grate.folder.clone());
    for folder in commands.chain(folders) {
        let folder = folder.strip_prefix(root).unwrap_or(&folder);
        let file = folder.join("README.md");
        if root.join(&file).exists() {
            from.push(file);
        }
    }
    for file in from {
        copy(&root.join(&file), &documents.join(&file))?;
    }
    let texts = licences::texts(
        root,
        &[
            Roots {
                packages: COMMANDS.to_vec(),
                target: HOST,
            },
            Roots {
                packages: grates
                    .iter()
                    .filter(|grate| grate.language == Language::Rust)
                    .map(|grate| grate.package.as_str())
                    .collect(),
                target: "wasm32-wasip1",
            },
        ],
    )?;
    write(&documents.join(LICENCES), texts.as_bytes())
}

/// Copies a file, for everybody to read, and to run if it can be run.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let shown = from.display();
    let facts = fs::metadata(from)
        .with_context(|| format!("{shown} is not there; `make build` makes it"))?;
    let mode = match facts.permissions().mode() & 0o100 {
        0 => 0o644,
        _ => 0o755,
    };
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // One that runs can't be written to: a new one takes its place.
    let draft = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    fs::copy(from, draft.path()).with_context(|| format!("cannot copy {shown}"))?;
    fs::set_permissions(draft.path(), fs::Permissions::from_mode(mode))?;
    draft
        .persist(to)
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

fn write(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))
}

/// Paths of all files below a folder, from there, in order.
fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(within) = waiting.pop() {
        let at = folder.join(&within);
        for entry in fs::read_dir(&at).with_context(|| at.display().to_string())? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_dir() => waiting.push(path),
                _ => files.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What a command prints.
fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    ensure!(
        output.status.success(),
        "{shown} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
