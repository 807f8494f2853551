//! `keys repair`: files and trees, in parallel.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};
use keys::forest::{Forest, Found};
use keys::parallel::in_order;
use keys::repair::{Repair, RepairError, Repaired, Report};
use keys::sources::Wanted;

use super::options::{ChangeOptions, KeyOptions};
use super::progress::Progress;
use super::summary::Summary;
use super::{Outcome, distinct, lost, name, ring};

const REPAIRED: &str = "repaired";
const TO_REPAIR: &str = "to be repaired";
const LOSSY: &str = "with bytes that are lost";
const FAILED: &str = "failed";
const WHOLE: &str = "whole and unaltered";
const SETTLED: &str = "with a change cut short that the journal settles";
const EMPTY: &str = "of zero bytes";
const NOT_SEALED: &str = "not sealed";
const GONE: &str = "gone meanwhile";
const UNFINISHED: &str = "left behind unfinished";

pub fn repair(keys: &KeyOptions, options: &ChangeOptions) -> Result<Outcome> {
    let ring = ring(keys, || Wanted::All)?;
    let mut forest = Forest::new();
    for path in &options.paths {
        forest.add(path).with_context(|| name(path))?;
    }
    let findings = forest.find();
    let files: Vec<Found> = distinct(findings.files).collect();

    let sizes = files.iter().map(|found| found.stat.fingerprint.size);
    let progress = Progress::new(sizes.sum());
    let mut told = Told::new(options.dry_run, &progress);
    told.summary.add_many(UNFINISHED, findings.temporary.len());
    for (place, error) in findings.failures {
        told.failed(&forest.shown(&place), &RepairError::Read(error));
    }
    let repair = Repair {
        forest: &forest,
        ring: &ring,
        wait: options.wait.get(),
        dry_run: options.dry_run,
    };
    in_order(
        options.jobs.get(),
        &files,
        |found| repair.file(&found.place, |len| progress.advance(len)),
        |found, outcome| {
            let path = forest.shown(&found.place);
            match outcome {
                Ok(Repaired::Sealed(report)) => told.sealed(&path, &report),
                Ok(Repaired::Unfinished) => told.summary.add(SETTLED),
                Ok(Repaired::Empty) => told.summary.add(EMPTY),
                Ok(Repaired::NotSealed) => told.summary.add(NOT_SEALED),
                Ok(Repaired::Gone) => told.summary.add(GONE),
                Err(error) => told.failed(&path, &error),
            }
        },
    );
    let summary = told.summary;
    drop(progress);
    println!("{summary}");
    Ok(match summary.count(FAILED) + summary.count(LOSSY) {
        0 => Outcome::Success,
        _ => Outcome::Failure,
    })
}

/// Tells what was done, and keeps count.
struct Told<'a> {
    repaired: &'static str,
    progress: &'a Progress,
    summary: Summary,
}

impl<'a> Told<'a> {
    fn new(dry_run: bool, progress: &'a Progress) -> Self {
        let repaired = if dry_run { TO_REPAIR } else { REPAIRED };
        let counted = [
            repaired, LOSSY, FAILED, WHOLE, SETTLED, EMPTY, NOT_SEALED, GONE, UNFINISHED,
        ];
        Self {
            repaired,
            progress,
            summary: Summary::of(&counted),
        }
    }

    fn sealed(&mut self, path: &Path, report: &Report) {
        if report.is_repaired {
            let (path, repaired) = (path.display(), self.repaired);
            let restored = match report.is_restored {
                true => ", with its last change undone or completed",
                false => "",
            };
            self.progress
                .suspend(|| println!("{path}: {repaired}{restored}"));
            self.summary.add(self.repaired);
        }
        for range in &report.lost {
            self.bad(path, &lost(range));
        }
        if let Some(end) = report.cut_at {
            self.bad(path, &format!("lost: what was behind offset {end}"));
        }
        if !report.is_lossless() {
            self.summary.add(LOSSY);
        } else if !report.is_repaired {
            self.summary.add(WHOLE);
        }
    }

    fn failed(&mut self, path: &Path, why: &RepairError) {
        self.bad(path, why);
        self.summary.add(FAILED);
    }

    fn bad(&self, path: &Path, why: &dyn Display) {
        let path = path.display();
        self.progress.suspend(|| eprintln!("keys: {path}: {why}"));
    }
}
