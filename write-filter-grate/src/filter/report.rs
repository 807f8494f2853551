//! The report: a line of JSON for each match, without the secret.

use grate_rs::constants::{SYS_FCNTL, fs};
use grate_rs::kernel::{self, Inode, int};
use grate_rs::{CageFd, getcageid};
use redact::Event;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Where a match was going.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// A regular file.
    Path(String),
    /// A socket's other end.
    Peer(SocketAddr),
    /// Standard output, a pipe, ...
    Stream(&'static str),
}

/// A line.
#[derive(Serialize)]
struct Line<'l> {
    time: String,
    cage: u64,
    rule: &'l str,
    #[serde(flatten)]
    to: To,
    offset: u64,
    length: u64,
    action: String,
}

/// The file that matches are reported in.
#[derive(Debug)]
pub struct Report {
    file: Mutex<File>,
    failed: AtomicBool,
}

impl Report {
    /// Opens the file, to write behind what is there.
    ///
    /// # Errors
    /// A line that says what to do.
    pub fn open(path: &str) -> Result<(Self, Inode), String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("{path}: cannot be written: {error}; name a file that can")
        };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| failed(&error))?;
        let fd = CageFd {
            cage: getcageid(),
            fd: file.as_raw_fd(),
        };
        let stat = fd.stat().map_err(|errno| failed(&errno.0))?;
        let args = [
            fd.arg(),
            int(fd.cage, fs::F_SETFD),
            int(fd.cage, fs::FD_CLOEXEC),
        ];
        kernel::call(SYS_FCNTL, fd.cage, &args).map_err(|errno| failed(&errno.0))?;
        let report = Self {
            file: Mutex::new(file),
            failed: AtomicBool::new(false),
        };
        Ok((report, stat.inode()))
    }

    /// Adds a match.
    pub fn note(&self, cage: u64, rule: &str, to: To, event: &Event) {
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            cage,
            rule,
            to,
            offset: event.offset,
            length: event.len,
            action: event.action.to_string(),
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else {
            return;
        };
        bytes.push(b'\n');
        let written = self
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&bytes);
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            eprintln!("write-filter-grate: the report is not complete: {error}");
        }
    }
}
