//! The report: a line of JSON for each match, without the secret.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use redact::{Event, RuleSet};
use serde::Serialize;

/// A line.
#[derive(Serialize)]
struct Line<'l> {
    time: String,
    rule: &'l str,
    /// `path` or `stream`, and which.
    #[serde(flatten)]
    to: To<'l>,
    offset: u64,
    length: u64,
    action: String,
}

/// Where a match is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum To<'l> {
    /// A file.
    Path(&'l str),
    /// `stdin`, `stdout` or `stderr`.
    Stream(&'l str),
}

/// Counts matches, and writes them down.
#[derive(Debug)]
pub struct Report {
    file: Option<Mutex<File>>,
    found: Mutex<Vec<u64>>,
}

impl Report {
    /// With a file, to write behind what is there.
    pub fn new(path: Option<&Path>, rules: &RuleSet) -> Result<Self> {
        let file = path
            .map(|path| {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.with_context(|| format!("{}: cannot be written", path.display()))
            })
            .transpose()?;
        Ok(Self {
            file: file.map(Mutex::new),
            found: Mutex::new(vec![0; rules.rules().len()]),
        })
    }

    /// Adds a match.
    pub fn note(&self, rules: &RuleSet, to: To<'_>, event: &Event) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)[event.rule] += 1;
        let Some(file) = &self.file else { return };
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            rule: rules.rules()[event.rule].name(),
            to,
            offset: event.offset,
            length: event.len,
            action: event.action.to_string(),
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else {
            return;
        };
        bytes.push(b'\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&bytes) {
            eprintln!("redact: the report is not complete: {error}");
        }
    }

    /// A line about what was found.
    pub fn summary(&self, rules: &RuleSet) -> String {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let list: Vec<_> = rules
            .rules()
            .iter()
            .zip(found.iter())
            .filter(|(_, count)| **count > 0)
            .map(|(rule, count)| format!("{} {count}", rule.name()))
            .collect();
        match list.is_empty() {
            true => "no secrets found".to_owned(),
            false => format!("secrets found: {}", list.join(", ")),
        }
    }
}
