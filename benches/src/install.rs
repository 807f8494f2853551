//! What `make build` has made, and the directory to measure in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use e2e::sqlite;

use crate::mount;

/// Compiled guests that are measured, below `lindfs/`.
const GUESTS: [&str; 8] = [
    "bin/bench_io.cwasm",
    "bin/bench_log.cwasm",
    "grates/write-filter-grate.cwasm",
    "bin/bench_net.cwasm",
    "bin/bench_call.cwasm",
    "bin/bench_grate.cwasm",
    "grates/crypt-grate.cwasm",
    "grates/geteuid-grate.cwasm",
];

/// The built repository.
pub struct Install {
    repository: PathBuf,
    sqlite: PathBuf,
}

/// Another copy of the repository, built.
pub struct Other(PathBuf);

impl Other {
    /// The one that stands there.
    pub fn at(repository: &Path) -> Self {
        Self(repository.to_owned())
    }

    /// Runs its grates and programs with its runtime, and answers what they print.
    pub fn run_cages(&self, line: &[String]) -> Result<String> {
        output(&mut cages(&self.0, &self.0.join("lindfs"), line))
    }
}

/// The directory with all data of a run, removed with it. One run at a time has it.
pub struct BenchDir {
    path: PathBuf,
    _lock: File,
}

impl Install {
    /// Looks whether everything is there.
    pub fn find() -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("benches stands in no repository")?
            .to_owned();
        let sqlite = sqlite::program(sqlite::BENCH).context("SQLite for a cage")?;
        let install = Self { repository, sqlite };
        let guests = GUESTS.map(|guest| install.root().join(guest));
        let tools = ["lind-wasm", "keys"].map(|name| install.tool(name));
        for file in guests.iter().chain(&tools) {
            if !file.exists() {
                let shown = file.strip_prefix(&install.repository).unwrap_or(file);
                bail!("{} is missing: run `make build` first", shown.display());
            }
        }
        Ok(install)
    }

    /// The root file system with the compiled guests.
    pub fn root(&self) -> PathBuf {
        self.repository.join("lindfs")
    }

    fn tool(&self, name: &str) -> PathBuf {
        tool(&self.repository, name)
    }

    /// Makes an empty directory to measure in.
    pub fn bench_dir(&self) -> Result<BenchDir> {
        let target = self.repository.join("target");
        let lock = File::create(target.join("bench.lock"))?;
        ensure!(lock.try_lock().is_ok(), "another run is measuring");
        let path = target.join("bench");
        mount::unmount_leftover(&path);
        if path.exists() {
            fs::remove_dir_all(&path).context("cannot remove what an earlier run has left")?;
        }
        fs::create_dir_all(&path)?;
        Ok(BenchDir { path, _lock: lock })
    }

    /// Makes `root` a root file system with the guests, linked if possible.
    pub fn fill_root(&self, root: &Path) -> Result<()> {
        let guests = GUESTS.map(|guest| (self.root().join(guest), root.join(guest)));
        let name = self.sqlite.file_name().unwrap_or_default();
        let sqlite = (self.sqlite.clone(), root.join("bin").join(name));
        for (from, to) in guests.into_iter().chain([sqlite]) {
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        Ok(())
    }

    /// Makes a new key.
    pub fn make_key(&self, file: &Path) -> Result<()> {
        output(Command::new(self.tool("keys")).arg("gen").arg(file)).map(drop)
    }

    /// Runs grates and a program in `root` and answers what they print.
    pub fn run_cages(&self, root: &Path, line: &[String]) -> Result<String> {
        output(&mut self.cages(root, line))
    }

    /// A program of a Python package that `scripts/setup.sh --bench` installs.
    pub fn python_tool(&self, name: &str) -> PathBuf {
        self.repository.join("target/bench-python/bin").join(name)
    }

    /// The command that runs grates and a program in `root`.
    pub fn cages(&self, root: &Path, line: &[String]) -> Command {
        cages(&self.repository, root, line)
    }
}

fn tool(repository: &Path, name: &str) -> PathBuf {
    repository.join("target/release").join(name)
}

fn cages(repository: &Path, root: &Path, line: &[String]) -> Command {
    let mut command = Command::new(tool(repository, "lind-wasm"));
    command.arg("--root").arg(root).args(line);
    command
}

impl BenchDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BenchDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("benches: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// What a command prints; its last line on standard error is the error when it fails.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let said = said.lines().last().unwrap_or("it did not say why");
        bail!("{} ({})", said, done.status);
    }
    String::from_utf8(done.stdout).with_context(|| format!("{name} did not print text"))
}
