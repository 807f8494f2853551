//! `keys rekey`: files and trees, in parallel.

use std::fmt::Display;

use anyhow::{Context, Result, bail};
use keys::forest::Forest;
use keys::parallel::in_order;
use keys::rekey::{Moved, Rekey, RekeyError, Unit};
use keys::sources::{Sources, Wanted};

use super::options::{KeyOptions, RekeyOptions};
use super::passphrases::Passphrases;
use super::progress::Progress;
use super::summary::Summary;
use super::{Outcome, name};

const MOVED: &str = "moved";
const TO_MOVE: &str = "to be moved";
const FAILED: &str = "failed";
const BEFORE: &str = "sealed with it before";
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
    let options = &options.change;
    let mut forest = Forest::new();
    for path in &options.paths {
        forest.add(path).with_context(|| name(path))?;
    }
    let mut findings = forest.find();
    let failures = std::mem::take(&mut findings.failures);
    let rekey = Rekey {
        forest: &forest,
        ring: &ring,
        wait: options.wait.get(),
        dry_run: options.dry_run,
    };
    let plan = rekey.plan(findings);

    let moved = if options.dry_run { TO_MOVE } else { MOVED };
    let counted = [
        moved, FAILED, BEFORE, EMPTY, NOT_SEALED, GONE, REMOVED, UNFINISHED,
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
        |unit, outcome| match outcome {
            Ok(Moved::Now) => summary.add(moved),
            Ok(Moved::Before) => summary.add(BEFORE),
            Ok(Moved::Empty) => summary.add(EMPTY),
            Ok(Moved::NotSealed) => summary.add(NOT_SEALED),
            Ok(Moved::Gone) => summary.add(GONE),
            Err(error) => {
                let path = forest.shown(unit.place());
                fail(&mut summary, &path.display(), &error);
            }
        },
    );
    drop(progress);
    println!("key {new}: {summary}");
    Ok(match summary.count(FAILED) {
        0 => Outcome::Success,
        _ => Outcome::Failure,
    })
}
