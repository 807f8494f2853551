//! `keys rekey` and `keys repair`: files and trees, in parallel.

use std::fmt::Display;

use anyhow::{Context, Result, bail};
use keys::KeyRing;
use keys::forest::Forest;
use keys::parallel::in_order;
use keys::rekey::{Moved, Rekey, RekeyError, Task, Unit};
use keys::sources::{Sources, Wanted};

use super::options::{ChangeOptions, KeyOptions, RekeyOptions, RepairOptions};
use super::passphrases::Passphrases;
use super::progress::Progress;
use super::recover::lines;
use super::summary::Summary;
use super::{Outcome, name, ring};

const MOVED: &str = "moved";
const TO_MOVE: &str = "to be moved";
const FAILED: &str = "failed";
const BEFORE: &str = "sealed with it before";
const REPAIRED: &str = "repaired";
const TO_REPAIR: &str = "to be repaired";
const LOSSY: &str = "with bytes that are lost or may be older";
const WHOLE: &str = "whole and unaltered";
const EMPTY: &str = "of zero bytes";
const NOT_SEALED: &str = "not sealed";
const GONE: &str = "gone meanwhile";
const REMOVED: &str = "left by a killed run and removed";
const UNFINISHED: &str = "left behind unfinished";

pub fn rekey(keys: &KeyOptions, options: &RekeyOptions) -> Result<Outcome> {
    let sources = Sources::read(&[&keys.key_files[..], &options.from].concat())?;
    let mut passphrases = Passphrases::new(keys.passphrase_fd);
    let ring =
        sources.ring::<anyhow::Error>(Wanted::All, |path, key| passphrases.unlock(path, key))?;
    let new = ring.sealing().id();
    if ring.others().is_empty() {
        bail!("{new} is the only key given; name the old one too, with --from");
    }
    let said = Said {
        now: if options.change.dry_run {
            TO_MOVE
        } else {
            MOVED
        },
        before: BEFORE,
    };
    let summary = replace(&ring, Task::Move, &options.change, &said)?;
    println!("key {new}: {summary}");
    Ok(outcome(&summary))
}

pub fn repair(keys: &KeyOptions, options: &RepairOptions) -> Result<Outcome> {
    let ring = ring(keys, || Wanted::All)?;
    let task = Task::Mend {
        search: options.search.bytes,
    };
    let said = Said {
        now: match options.change.dry_run {
            true => TO_REPAIR,
            false => REPAIRED,
        },
        before: WHOLE,
    };
    let summary = replace(&ring, task, &options.change, &said)?;
    println!("{summary}");
    Ok(outcome(&summary))
}

fn outcome(summary: &Summary) -> Outcome {
    match summary.count(FAILED) + summary.count(LOSSY) {
        0 => Outcome::Success,
        _ => Outcome::Failure,
    }
}

/// What is said of files that were to be replaced, and of those that had no need of it.
struct Said {
    now: &'static str,
    before: &'static str,
}

fn replace(ring: &KeyRing, task: Task, options: &ChangeOptions, said: &Said) -> Result<Summary> {
    let mut forest = Forest::new();
    for path in &options.paths {
        forest.add(path).with_context(|| name(path))?;
    }
    let mut findings = forest.find();
    let failures = std::mem::take(&mut findings.failures);
    let rekey = Rekey {
        task,
        forest: &forest,
        ring,
        wait: options.wait.get(),
        dry_run: options.dry_run,
    };
    let plan = rekey.plan(findings);

    let counted = [
        said.now,
        LOSSY,
        FAILED,
        said.before,
        EMPTY,
        NOT_SEALED,
        GONE,
        REMOVED,
        UNFINISHED,
    ];
    let mut summary = Summary::of(&counted);
    summary.add_many(REMOVED, plan.removed);
    summary.add_many(UNFINISHED, plan.kept);
    let progress = Progress::new(plan.units.iter().map(Unit::len).sum());
    let fail = |summary: &mut Summary, path: &dyn Display, why: &dyn Display| {
        progress.suspend(|| eprintln!("keys: {path}: {why}"));
        summary.add(FAILED);
    };
    let unread = failures
        .into_iter()
        .map(|(place, error)| (place, RekeyError::Read(error)));
    for (place, error) in unread.chain(plan.failures) {
        fail(&mut summary, &forest.shown(&place).display(), &error);
    }
    in_order(
        options.jobs.get(),
        &plan.units,
        |unit| rekey.unit(unit, |len| progress.advance(len)),
        |unit, outcome| {
            let path = forest.shown(unit.place());
            let path = path.display();
            match outcome {
                Ok(Moved::Now) => summary.add(said.now),
                Ok(Moved::Mended(report)) => {
                    progress.suspend(|| {
                        println!("{path}: {}", said.now);
                        for line in lines(&report) {
                            eprintln!("keys: {path}: {line}");
                        }
                    });
                    summary.add(said.now);
                    if !report.is_complete() {
                        summary.add(LOSSY);
                    }
                }
                Ok(Moved::Before) => summary.add(said.before),
                Ok(Moved::Empty) => summary.add(EMPTY),
                Ok(Moved::NotSealed) => summary.add(NOT_SEALED),
                Ok(Moved::Gone) => summary.add(GONE),
                Err(error) => fail(&mut summary, &path, &error),
            }
        },
    );
    Ok(summary)
}
