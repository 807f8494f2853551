//! A lindfs root for one test, and runs in it.

use anyhow::Context;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// A command that `make build` made for the host.
pub fn host_command(name: &str) -> PathBuf {
    repository().join("target/release").join(name)
}

/// A root with built grates and programs, and nothing else.
#[derive(Debug)]
pub struct Fixture {
    /// Where the root is, alone but for what a test puts beside it.
    home: tempfile::TempDir,
    root: PathBuf,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit status as a shell shows it.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
    /// Most memory that the process had at a time, in bytes, as far as it was seen.
    pub peak: u64,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// This run, if it ended with that status.
    ///
    /// # Errors
    /// With everything it printed.
    pub fn expect(self, code: i32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.code == code,
            "exit status {} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.text(),
            self.err
        );
        Ok(self)
    }
}

/// A run about to start.
#[derive(Debug, Default)]
pub struct Run<'a> {
    /// Run under `--strict-lind`.
    pub strict: bool,
    /// Other options of `lind-wasm`.
    pub options: Vec<String>,
    /// `NAME=VALUE` for the first program.
    pub env: Vec<String>,
    /// The outermost program and all that follows.
    pub args: Vec<String>,
    /// Standard input.
    pub input: &'a [u8],
    /// Most time it may take; a minute if not named.
    pub timeout: Option<Duration>,
    /// Kill the runtime (SIGKILL) after that time, unless it has ended by then.
    pub kill_after: Option<Duration>,
    /// No file may become longer: the kernel writes up to there, then answers EFBIG.
    pub file_limit: Option<FileLimit>,
}

/// Parts of a command line, one after the other.
pub fn words(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// The most that a file may hold, in blocks of 512 bytes.
#[derive(Clone, Copy, Debug)]
pub struct FileLimit(pub u64);

impl FileLimit {
    /// Bytes of a block.
    pub const BLOCK: u64 = 512;

    /// A command that starts `program` under this limit.
    fn command(self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        // The signal that comes with the error would end the program.
        let script = "trap '' XFSZ && ulimit -f \"$1\" && shift && exec \"$@\"";
        command
            .args(["-c", script, "sh"])
            .arg(self.0.to_string())
            .arg(program);
        command
    }
}

/// What happens to a process that does not end by itself.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// It counts as hung.
    Hangs(Duration),
    /// It is killed, as was the intention.
    IsKilled(Duration),
}

/// Exit status, as a shell shows it, of a process that was killed.
pub const KILLED: i32 = 128 + 9;

impl Fixture {
    /// A new root with all of them.
    ///
    /// # Errors
    /// When `make build` has not been run.
    pub fn new() -> anyhow::Result<Self> {
        let fixture = Self::empty()?;
        for folder in ["bin", "grates"] {
            let from = repository().join("lindfs").join(folder);
            for entry in fs::read_dir(&from).context("lindfs is missing")? {
                let entry = entry?;
                if entry.path().extension() == Some(OsStr::new("cwasm")) {
                    let to = fixture.path(folder).join(entry.file_name());
                    fs::hard_link(entry.path(), to)?;
                }
            }
        }
        Ok(fixture)
    }

    /// A new root with copies of those, given with their folders: for programs that change
    /// whatever they can.
    ///
    /// # Errors
    /// As [`Fixture::new`].
    pub fn with_copies(programs: &[&str]) -> anyhow::Result<Self> {
        let fixture = Self::empty()?;
        for program in programs {
            let from = repository().join("lindfs").join(program);
            fs::copy(&from, fixture.path(program))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(fixture)
    }

    fn empty() -> anyhow::Result<Self> {
        // Beside lindfs, so that programs can be linked instead of copied.
        let place = repository().join("target/e2e");
        fs::create_dir_all(&place)?;
        let home = tempfile::tempdir_in(&place)?;
        let root = home.path().join("root");
        fs::create_dir(&root)?;
        let fixture = Self { home, root };
        for folder in ["bin", "grates"] {
            fs::create_dir(fixture.path(folder))?;
        }
        fs::create_dir(fixture.path("tmp"))?;
        anyhow::ensure!(
            host_command("lind-wasm").exists(),
            "target/release/lind-wasm is missing: run `make build` first"
        );
        Ok(fixture)
    }

    /// A path of the host inside the root.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// The folder that the root is in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds a program that is not among the built ones.
    ///
    /// # Errors
    /// When it can't be linked.
    pub fn add_program(&self, program: &Path) -> anyhow::Result<()> {
        let name = program.file_name().unwrap_or_default();
        fs::hard_link(program, self.path("bin").join(name))
            .with_context(|| format!("cannot link {}", program.display()))
    }

    /// Makes a key file with `keys gen`.
    ///
    /// # Errors
    /// What the command said.
    pub fn make_key(&self, inside: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(inside);
        command(&host_command("keys"), [OsStr::new("gen"), path.as_os_str()])?.expect(0)?;
        Ok(path)
    }

    /// Runs programs, given as on the command line after `lind-wasm`.
    ///
    /// # Errors
    /// When it can't be started, hangs, or the runtime panics.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> anyhow::Result<Ran> {
        self.start(&Run {
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            ..Run::default()
        })
    }

    /// Runs a program under grates, in either mode.
    ///
    /// # Errors
    /// As [`Fixture::run`].
    pub fn run_under(
        &self,
        grates: &[&[&str]],
        program: &[&str],
        strict: bool,
    ) -> anyhow::Result<Ran> {
        let args = [grates, &[program]].concat().concat();
        self.start(&Run {
            strict,
            args: args.iter().map(|arg| self.named(arg, strict)).collect(),
            ..Run::default()
        })
    }

    /// Runs programs with all settings.
    ///
    /// # Errors
    /// As [`Fixture::run`].
    pub fn start(&self, run: &Run<'_>) -> anyhow::Result<Ran> {
        let runtime = host_command("lind-wasm");
        let mut command = match run.file_limit {
            Some(limit) => limit.command(&runtime),
            None => Command::new(runtime),
        };
        command.arg("--root").arg(&self.root);
        if run.strict {
            command.arg("--strict-lind");
        }
        command.args(&run.options);
        for variable in &run.env {
            command.arg("--env").arg(variable);
        }
        command.args(run.args.iter().map(|arg| self.named(arg, run.strict)));
        let limit = match run.kill_after {
            Some(time) => Limit::IsKilled(time),
            None => Limit::Hangs(run.timeout.unwrap_or(Duration::from_secs(60))),
        };
        let ran = finish(command, run.input, limit)?;
        anyhow::ensure!(
            !panicked(&ran.err) && !panicked(&ran.text()),
            "something panicked:\n{}",
            ran.err
        );
        Ok(ran)
    }

    /// An argument, and if it is a program's name, as that has to be told: Lind takes paths alone.
    pub fn named(&self, arg: &str, strict: bool) -> String {
        let is_program = strict && arg.ends_with("wasm") && !arg.contains(['/', ' ', '=']);
        let paths = ["grates", "bin"].map(|folder| format!("/{folder}/{arg}"));
        let found = paths
            .into_iter()
            .find(|path| is_program && self.path(path).exists());
        found.unwrap_or_else(|| arg.to_owned())
    }

    /// All regular files of the root that tests made, with their bytes.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn files(&self) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.path().extension() != Some(OsStr::new("cwasm")) {
                    files.push((entry.path(), fs::read(entry.path())?));
                }
            }
        }
        Ok(files)
    }

    /// Fails when any 16 bytes of `plaintext` stand in a file of the root. Those that are zeros for
    /// the most part tell nothing: an entry of a journal looks like that too.
    ///
    /// # Errors
    /// Names the file.
    pub fn ensure_nowhere(&self, plaintext: &[u8]) -> anyhow::Result<()> {
        const BLOCK: usize = 16;
        let blocks: std::collections::HashSet<&[u8]> = plaintext
            .windows(BLOCK)
            .filter(|block| block.iter().any(|&byte| byte != block[0]))
            .filter(|block| block.iter().filter(|&&byte| byte != 0).count() > BLOCK / 2)
            .collect();
        anyhow::ensure!(!blocks.is_empty(), "the plaintext has no block to look for");
        for (path, bytes) in self.files()? {
            anyhow::ensure!(
                !bytes.windows(BLOCK).any(|window| blocks.contains(window)),
                "{} holds plaintext",
                path.display()
            );
        }
        Ok(())
    }
}

/// Runs a command of the host.
///
/// # Errors
/// When it can't be started or hangs.
pub fn command<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<Ran> {
    command_with_input(program, args, b"")
}

/// Compiles a program of `tests/wasi` in C with a stock WASI toolchain.
pub fn compile_for_wasi(source: &str, program: &Path, flags: &[&str]) -> anyhow::Result<()> {
    let source = repository().join("tests/wasi").join(source);
    let flags = ["--target=wasm32-wasi", "-O1"].iter().chain(flags);
    let files = [source.as_os_str(), OsStr::new("-o"), program.as_os_str()];
    command(Path::new("clang-19"), flags.map(OsStr::new).chain(files))
        .context("a stock WASI toolchain is missing: scripts/setup.sh --tests installs it")?
        .expect(0)
        .map(drop)
}

/// As [`command`], with that on standard input.
///
/// # Errors
/// When it can't be started or hangs.
pub fn command_with_input<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    input: &[u8],
) -> anyhow::Result<Ran> {
    let mut command = Command::new(program);
    command.args(args);
    finish(command, input, Limit::Hangs(Duration::from_secs(60)))
}

/// Whether a panic was told of: the word and, behind it, a place in a source file. A program that
/// writes out its own memory shows the word as well.
fn panicked(text: &str) -> bool {
    text.lines().any(|line| {
        line.split_once("panicked at ").is_some_and(|(_, rest)| {
            rest.split_once(".rs:")
                .is_some_and(|(_, place)| place.starts_with(|c: char| c.is_ascii_digit()))
        })
    })
}

fn finish(mut command: Command, input: &[u8], limit: Limit) -> anyhow::Result<Ran> {
    const PATIENCE: Duration = Duration::from_millis(2);
    let (Limit::Hangs(time) | Limit::IsKilled(time)) = limit;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let (mut stdin, mut stdout, mut stderr) = (
        child.stdin.take().context("no stdin")?,
        child.stdout.take().context("no stdout")?,
        child.stderr.take().context("no stderr")?,
    );
    std::thread::scope(|scope| {
        // A program that ends without reading all of its input is fine.
        scope.spawn(move || stdin.write_all(input));
        let out = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let err = scope.spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let started = Instant::now();
        let mut peak = 0;
        let status = loop {
            peak = peak.max(peak_memory(child.id()));
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            let left = time.saturating_sub(started.elapsed());
            if left.is_zero() {
                child.kill()?;
                let status = child.wait()?;
                break matches!(limit, Limit::IsKilled(_)).then_some(status);
            }
            std::thread::sleep(left.min(PATIENCE));
        };
        let join = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a reader thread failed"))?
                .map_err(anyhow::Error::from)
        };
        let (out, err) = (join(out)?, join(err)?);
        let err = String::from_utf8_lossy(&err).into_owned();
        let status = status.with_context(|| format!("{shown} did not end in {time:?}\n{err}"))?;
        Ok(Ran {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out,
            err,
            peak,
        })
    })
}

/// Most memory that a process had at a time, in bytes; 0 when it has ended.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next());
    field.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
}
