//! The `lind-wasm` command.

use anyhow::Context;
use clap::{CommandFactory, Parser};
use lind_wasm::artifact::ArtifactKey;
use lind_wasm::limits::{self, Limits};
use lind_wasm::net::{self, Net};
use lind_wasm::path::Root;
use lind_wasm::runtime::{Runtime, Settings};
use lind_wasm::{EXIT_FILE, EXIT_USAGE, engine, posix, program, run, threads};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Says how many sockets a program was handed, as systemd has it.
const LISTEN_FDS: &str = "LISTEN_FDS";

/// Run a WebAssembly program as a cage, grates first.
///
/// Each program takes its own options, and a grate treats the rest as the program to run under
/// it, so a line reads from the outermost grate to the program:
///
///   lind-wasm crypt-grate.cwasm --key k.bin prog.cwasm ARGS...
///
/// Paths are paths inside the root. A program named without a slash is looked up in the current
/// directory, then in /grates, then in /bin of the root. The exit status is that of the program;
/// 70 when the runtime failed, 64 for wrong usage, 1 for a file that is missing or unusable.
#[derive(Parser)]
#[command(name = "lind-wasm", version, max_term_width = 100)]
struct Options {
    /// Directory that the cages see as `/`, and nothing above it
    #[arg(
        long,
        value_name = "DIR",
        env = "LINDFS_ROOT",
        default_value = "lindfs"
    )]
    root: PathBuf,

    /// Put NAME=VALUE into the environment of the first program (a bare NAME copies yours)
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,

    /// Be as narrow as the public Lind runtime, to test that a program will run there
    #[arg(long)]
    strict_lind: bool,

    /// What programs reach by IPv4 and IPv6
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    net: Net,

    /// Listen there by TCP, and hand the socket to the program as descriptor 3 (4 for the second
    /// address, and so on); LISTEN_FDS in its environment says how many there are
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,

    /// Compile FILE.wasm (a path outside the root) to FILE.cwasm beside it, and run nothing
    #[arg(long, value_name = "FILE.wasm", conflicts_with = "program")]
    precompile: Option<PathBuf>,

    /// The program, then its arguments
    #[arg(
        value_name = "PROGRAM",
        required_unless_present = "precompile",
        trailing_var_arg = true
    )]
    program: Vec<OsString>,

    // Last, as its heading would be that of what follows.
    #[command(flatten)]
    limits: Limits,
}

fn main() {
    manual::on_request(Options::command);
    let options = Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { EXIT_USAGE } else { 0 })
    });
    let code = start(options).unwrap_or_else(|error| {
        eprintln!("lind-wasm: {error:#}");
        EXIT_FILE
    });
    std::process::exit(code);
}

fn start(options: Options) -> anyhow::Result<i32> {
    if let Some(file) = options.precompile {
        precompile(&options.root, &file)?;
        return Ok(0);
    }
    threads::install_kick_handler();
    limits::raise_file_limit();
    let key = ArtifactKey::load(&options.root)?;
    let listeners = options.listen.into_iter().map(net::listen);
    let listeners: Vec<OwnedFd> = listeners.collect::<anyhow::Result<_>>()?;
    let mut env = environment(options.env);
    if !listeners.is_empty() {
        env.retain(|entry| !entry.starts_with(format!("{LISTEN_FDS}=").as_bytes()));
        env.push(format!("{LISTEN_FDS}={}", listeners.len()).into_bytes());
    }
    let runtime = Runtime::new(Settings {
        kernel: posix::call,
        root: Root::open(&options.root)?,
        key,
        env,
        strict: options.strict_lind,
        net: options.net,
        limits: options.limits,
        listeners,
    })?;
    let args = options
        .program
        .into_iter()
        .map(OsString::into_vec)
        .collect();
    Ok(run::run(&runtime, args)?.shell_code())
}

fn environment(named: Vec<OsString>) -> Vec<Vec<u8>> {
    let entry = |name: OsString| {
        if name.as_encoded_bytes().contains(&b'=') {
            return Some(name.into_vec());
        }
        let value = std::env::var_os(&name)?;
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        Some(entry)
    };
    named.into_iter().filter_map(entry).collect()
}

fn precompile(root: &Path, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let wasm = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let key = ArtifactKey::load(root)?;
    let artifact = program::precompile(&engine::new()?, &key, &wasm)
        .map_err(|why| anyhow::anyhow!("{shown}: {why:#}"))?;
    let out = file.with_extension("cwasm");
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty());
    let mut draft = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    std::io::Write::write_all(&mut draft, &artifact)?;
    draft
        .persist(&out)
        .with_context(|| format!("cannot write {}", out.display()))?;
    key.keep(&artifact);
    Ok(())
}
