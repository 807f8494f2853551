//! `keys verify`: files and trees, in parallel.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use keys::KeyRing;
use keys::forest::{Forest, Found};
use keys::parallel::in_order;
use keys::sources::Wanted;
use keys::stat::Fingerprint;
use keys::transfer;
use keys::verify::{self, Age, Verdict, VerifyError};
use keys::verify_state::{StateError, VerifyState, WentBack};

use super::options::{KeyOptions, VerifyOptions};
use super::progress::Progress;
use super::summary::Summary;
use super::{Outcome, UNSEALED_EMPTY, distinct, is_standard, name, ring};

const WHOLE: &str = "whole and unaltered";
const BAD: &str = "bad";
const KNOWN: &str = "of them checked before";
const EMPTY: &str = "of zero bytes, which nothing vouches for";
const NOT_SEALED: &str = "not sealed";
const UNFINISHED: &str = "left behind unfinished";

/// A file to check.
enum Item {
    /// Named by itself: it has a line of its own in the output.
    Named(PathBuf),
    /// Found in a tree.
    Found(Found),
}

/// What became of an item.
enum Checked {
    Verdict(Verdict),
    /// Found whole by the check that this one goes on with.
    Known,
    Failed(VerifyError),
    /// Whole, but older than it was.
    WentBack(WentBack),
}

pub fn verify(keys: &KeyOptions, options: &VerifyOptions) -> Result<Outcome> {
    let ring = ring(keys, || Wanted::All)?;
    let state = match &options.state {
        Some(path) => Some(VerifyState::open(path, ring.sealing())?),
        None => None,
    };
    let mut forest = Forest::new();
    let mut items = Vec::new();
    for path in &options.paths {
        if !is_standard(path) && path.is_dir() {
            forest.add(path).with_context(|| name(path))?;
        } else {
            items.push(Item::Named(path.clone()));
        }
    }
    let has_trees = items.len() < options.paths.len();
    let findings = forest.find();
    items.extend(distinct(findings.files).map(Item::Found));

    let progress = Progress::new(items.iter().map(Item::len).sum());
    let mut report = Report::new(options.strict, &progress);
    for (place, error) in findings.failures {
        report.bad(forest.shown(&place).display(), &VerifyError::Read(error));
    }
    report
        .summary
        .add_many(UNFINISHED, findings.temporary.len());
    let check = Check {
        options,
        ring: &ring,
        forest: &forest,
        progress: &progress,
        state: Mutex::new(state),
        state_failed: Mutex::default(),
    };
    in_order(
        options.jobs.get(),
        &items,
        |item| check.item(item),
        |item, checked| match item {
            Item::Named(path) => report.named(&name(path), checked),
            Item::Found(found) => report.found(&forest.shown(&found.place), checked),
        },
    );
    let summary = report.summary;
    let Check {
        state,
        state_failed,
        ..
    } = check;
    drop(progress);
    if has_trees {
        println!("{summary}");
    }
    if let Some(error) = into_inner(state_failed) {
        eprintln!("keys: {error}");
    }
    if let Some(state) = into_inner(state) {
        state.finish()?;
    }
    Ok(match summary.count(BAD) {
        0 => Outcome::Success,
        _ => Outcome::Failure,
    })
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Item {
    /// Bytes to read, where they are known.
    fn len(&self) -> u64 {
        match self {
            Self::Named(path) => path.metadata().map_or(0, |metadata| metadata.len()),
            Self::Found(found) => found.stat.fingerprint.size,
        }
    }
}

/// What the threads work with.
struct Check<'a> {
    options: &'a VerifyOptions,
    ring: &'a KeyRing,
    forest: &'a Forest,
    progress: &'a Progress,
    state: Mutex<Option<VerifyState>>,
    /// Why notes could not be made; the check goes on all the same.
    state_failed: Mutex<Option<StateError>>,
}

impl Check<'_> {
    fn item(&self, item: &Item) -> Checked {
        let checked = match item {
            Item::Named(path) => self.named(path),
            Item::Found(found) => {
                if self.knows(&found.stat.fingerprint) {
                    self.progress.advance(item.len());
                    return Checked::Known;
                }
                let path = self.forest.shown(&found.place);
                self.forest
                    .open(&found.place)
                    .map_err(VerifyError::Read)
                    .and_then(|file| self.file(&path, &file))
            }
        };
        checked.unwrap_or_else(Checked::Failed)
    }

    fn named(&self, path: &Path) -> Result<Checked, VerifyError> {
        let spooled = if is_standard(path) {
            transfer::spool(io::stdin())?
        } else {
            let file = File::open(path)?;
            if file.metadata()?.is_file() {
                return self.file(path, &file);
            }
            transfer::spool(file)?
        };
        let advance = |len| self.progress.advance(len);
        let verified = verify::file(self.ring, &spooled, self.options.wait.get(), advance)?;
        Ok(Checked::Verdict(verified.verdict))
    }

    fn file(&self, path: &Path, file: &File) -> Result<Checked, VerifyError> {
        let advance = |len| self.progress.advance(len);
        let verified = verify::file(self.ring, file, self.options.wait.get(), advance)?;
        Ok(match verified.verdict {
            Verdict::Whole(age) => match self.note(path, &age, verified.state.as_ref()) {
                Ok(()) => Checked::Verdict(verified.verdict),
                Err(back) => Checked::WentBack(back),
            },
            verdict => Checked::Verdict(verdict),
        })
    }

    fn knows(&self, fingerprint: &Fingerprint) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .as_ref()
            .is_some_and(|state| state.knows(fingerprint, self.ring))
    }

    fn note(&self, path: &Path, age: &Age, state: Option<&Fingerprint>) -> Result<(), WentBack> {
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.as_mut() else {
            return Ok(());
        };
        known.note(path, age, state).unwrap_or_else(|error| {
            let failed = self.state_failed.lock();
            failed
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
            Ok(())
        })
    }
}

/// Tells what was found out, and keeps count.
struct Report<'a> {
    strict: bool,
    progress: &'a Progress,
    summary: Summary,
}

impl<'a> Report<'a> {
    fn new(strict: bool, progress: &'a Progress) -> Self {
        let summary = [WHOLE, KNOWN, BAD, EMPTY, NOT_SEALED, UNFINISHED];
        Self {
            strict,
            progress,
            summary: Summary::of(&summary),
        }
    }

    fn bad(&mut self, path: impl Display, why: &dyn Display) {
        self.progress.suspend(|| eprintln!("keys: {path}: {why}"));
        self.summary.add(BAD);
    }

    /// A file that was named by itself is expected to be sealed.
    fn named(&mut self, path: &str, checked: Checked) {
        let what = match checked {
            Checked::Failed(error) => return self.bad(path, &error),
            Checked::Verdict(Verdict::NotSealed) => {
                return self.bad(path, &sealed::Error::NotSealed);
            }
            Checked::Verdict(Verdict::Empty) if self.strict => {
                return self.bad(path, &UNSEALED_EMPTY);
            }
            Checked::Verdict(Verdict::Empty) => UNSEALED_EMPTY,
            Checked::WentBack(back) => return self.bad(path, &back),
            Checked::Verdict(Verdict::Whole(_)) | Checked::Known => WHOLE,
        };
        self.progress.suspend(|| println!("{path}: {what}"));
        self.count(&checked);
    }

    fn found(&mut self, path: &Path, checked: Checked) {
        let path = path.display();
        match checked {
            Checked::Failed(error) => self.bad(path, &error),
            Checked::WentBack(back) => self.bad(path, &back),
            Checked::Verdict(Verdict::NotSealed) if self.strict => {
                self.bad(path, &sealed::Error::NotSealed);
            }
            Checked::Verdict(Verdict::Empty) if self.strict => self.bad(path, &UNSEALED_EMPTY),
            checked => self.count(&checked),
        }
    }

    fn count(&mut self, checked: &Checked) {
        match checked {
            Checked::Verdict(Verdict::Whole(_)) => self.summary.add(WHOLE),
            Checked::Known => {
                self.summary.add(WHOLE);
                self.summary.add(KNOWN);
            }
            Checked::Verdict(Verdict::Empty) => self.summary.add(EMPTY),
            Checked::Verdict(Verdict::NotSealed) => self.summary.add(NOT_SEALED),
            Checked::Failed(_) | Checked::WentBack(_) => {}
        }
    }
}
