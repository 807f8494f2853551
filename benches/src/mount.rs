//! A gocryptfs mount that lasts as long as its value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The mounted directory, and where the sealed files are, below the directory of a run.
const PLAIN: &str = "gocryptfs/plain";
const SEALED: &str = "gocryptfs/sealed";

/// A gocryptfs mount.
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Makes a new gocryptfs below `dir` and mounts it.
    pub fn new(dir: &Path) -> Result<Self> {
        let (sealed, point) = (dir.join(SEALED), dir.join(PLAIN));
        fs::create_dir_all(&sealed)?;
        fs::create_dir_all(&point)?;
        let log = dir.join("gocryptfs/log");
        gocryptfs(&["-init", "-q", "-scryptn", "10"], &[&sealed], &log)?;
        gocryptfs(&["-q"], &[&sealed, &point], &log)?;
        Ok(Self { point })
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Which gocryptfs this is.
    pub fn version() -> String {
        let output = Command::new("gocryptfs").arg("-version").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.split(';').next().unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !unmount(&self.point, false) && !unmount(&self.point, true) {
            eprintln!("benches: cannot unmount {}", self.point.display());
        }
    }
}

/// Unmounts what a run that was killed has left below `dir`.
pub fn unmount_leftover(dir: &Path) {
    let point = dir.join(PLAIN);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        line.split(' ')
            .nth(1)
            .is_some_and(|at| point == Path::new(at))
    });
    if mounted {
        unmount(&point, true);
    }
}

fn unmount(point: &Path, lazily: bool) -> bool {
    let status = Command::new("fusermount")
        .args(["-u", "-z"].iter().take(if lazily { 2 } else { 1 }))
        .arg(point)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Runs gocryptfs. The daemon that a mount leaves behind keeps its standard error, so that goes to
/// a file.
fn gocryptfs(options: &[&str], dirs: &[&Path], log: &Path) -> Result<()> {
    let file = File::create(log)?;
    let status = Command::new("gocryptfs")
        .args(options)
        .args(["-extpass", "echo pw"])
        .args(dirs)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("cannot run gocryptfs")?;
    let said = fs::read_to_string(log).unwrap_or_default();
    let said = said.lines().last().unwrap_or("it did not say why");
    ensure!(status.success(), "gocryptfs: {said}");
    Ok(())
}
