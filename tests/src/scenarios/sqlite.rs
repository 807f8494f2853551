//! SQLite in a cage, plain as the control and under crypt-grate: killed in the middle of its work
//! again and again, it loses no transaction that it had committed.

use super::{kills, trial};
use crate::fixture::{Fixture, KILLED, Ran, Run, command, host_command, words};
use crate::sqlite;
use anyhow::Context;
use libtest_mimic::Trial;
use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

/// Kills in one test; `E2E_KILLS` names another number, for a long search.
const KILLS: u64 = 6;
/// Transactions of the tests without kills.
const TRANSACTIONS: u64 = 50;
/// Transactions that a database gets before the test goes on with a new one. Checking it takes as
/// long as making it did.
const MOST_TRANSACTIONS: u64 = 200;
/// The program as a run names it.
const PROGRAM: &str = "sqlite_load.cwasm";
/// What the programs see of the root.
const DATABASE: &str = "/work/load.db";

const GRATES: &[(&str, &[&str])] = &[
    ("wasi/SQLite", &[]),
    (
        "crypt-grate/SQLite, defaults",
        &["crypt-grate.cwasm", "--key", "/k.bin"],
    ),
    (
        "crypt-grate/SQLite, xaes-256-gcm, chunks of 512",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--cipher",
            "xaes-256-gcm",
            "--chunk-size",
            "512",
        ],
    ),
    (
        "crypt-grate/SQLite, chunks of 65536",
        &[
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--chunk-size",
            "65536",
        ],
    ),
];

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for &(name, grates) in GRATES {
        trials.push(trial(format!("{name}: a workload"), move || {
            undisturbed(grates)
        }));
        trials.push(trial(
            format!("{name}: killed and started again"),
            move || killed(grates),
        ));
    }
    trials
}

/// A root with the program and a folder for the database.
struct Place {
    fixture: Fixture,
    grates: &'static [&'static str],
}

impl Place {
    fn new(grates: &'static [&'static str]) -> anyhow::Result<Self> {
        let fixture = Fixture::new()?;
        fixture.add_program(&sqlite::program(sqlite::LOAD)?)?;
        fixture.make_key("k.bin")?;
        fs::create_dir(fixture.path("work"))?;
        Ok(Self { fixture, grates })
    }

    fn run(&self, args: &[&str], kill_after: Option<Duration>) -> anyhow::Result<Ran> {
        self.fixture.start(&Run {
            args: words(&[self.grates, &[PROGRAM], args]),
            kill_after,
            ..Run::default()
        })
    }

    /// Commits transactions until there are so many.
    fn load(&self, count: u64) -> anyhow::Result<()> {
        let ran = self.run(&["load", DATABASE, &count.to_string()], None)?;
        let last = last_committed(&ran.expect(0)?)?;
        anyhow::ensure!(last == Some(count), "it ended with {last:?} of {count}");
        Ok(())
    }

    /// Lets SQLite check the database, which it brings back to its last commit if it was killed.
    /// Answers how many transactions are in it.
    fn verify(&self) -> anyhow::Result<u64> {
        let ran = self.run(&["verify", DATABASE], None)?.expect(0)?;
        ran.text()
            .trim()
            .strip_prefix("verified ")
            .and_then(|count| count.parse().ok())
            .with_context(|| format!("not understood: {}", ran.text()))
    }

    /// The database as SQLite sees it.
    fn database(&self) -> anyhow::Result<Vec<u8>> {
        let path = self.fixture.path(DATABASE);
        if self.grates.is_empty() {
            return Ok(fs::read(path)?);
        }
        let key = self.fixture.path("k.bin");
        let args: [&OsStr; 6] = [
            OsStr::new("open"),
            OsStr::new("--key"),
            key.as_os_str(),
            path.as_os_str(),
            OsStr::new("-o"),
            OsStr::new("-"),
        ];
        Ok(command(&host_command("keys"), args)?.expect(0)?.out)
    }

    /// That the database is the one that `count` transactions make where there is neither a grate
    /// nor a kill, byte by byte, and that none of it is on the disk.
    fn check_database(&self, count: u64) -> anyhow::Result<()> {
        let database = self.database()?;
        let control = Place::new(&[])?;
        control.load(count)?;
        let expected = control.database()?;
        let found = without_counters(pages(&database)?);
        let expected = without_counters(&expected);
        anyhow::ensure!(
            expected == found,
            "after {count} transactions the database is not what a plain run makes: {}",
            kills::difference(&expected, &found)
        );
        anyhow::ensure!(control.verify()? == count, "nor does it verify there");
        self.nothing_in_the_clear(&database)?;
        anyhow::ensure!(
            control.fixture.ensure_nowhere(&database).is_err(),
            "the search for plaintext finds nothing"
        );
        Ok(())
    }

    fn nothing_in_the_clear(&self, plaintext: &[u8]) -> anyhow::Result<()> {
        if self.grates.is_empty() {
            return Ok(());
        }
        self.fixture.ensure_nowhere(plaintext)
    }
}

/// As much of a database file as belongs to the database. A file that a commit makes shorter is cut
/// when the commit is complete, and who is killed before that leaves it longer.
fn pages(database: &[u8]) -> anyhow::Result<&[u8]> {
    /// Where the header has the size of a page, in two bytes, and the number of pages, in four.
    const PAGE_SIZE_AT: usize = 16;
    const PAGES_AT: usize = 28;
    let number = |at: usize, len: usize| {
        let bytes = database.get(at..at + len).context("it has no header")?;
        let number = bytes
            .iter()
            .fold(0, |all, &byte| all << 8 | usize::from(byte));
        anyhow::Ok(number)
    };
    let size = number(PAGE_SIZE_AT, 2)? * number(PAGES_AT, 4)?;
    database.get(..size).context("it is cut short")
}

/// A database but for its change counter, which the header has twice: it tells readers that a file
/// is not the one that they know, and a run that was killed and rolled back may leave it a count
/// ahead, with a grate or without one.
fn without_counters(pages: &[u8]) -> Vec<u8> {
    /// Where the counter stands, and where the counter stands that the version in use is valid for.
    const COUNTERS_AT: [usize; 2] = [24, 92];
    let mut pages = pages.to_vec();
    for at in COUNTERS_AT {
        if let Some(counter) = pages.get_mut(at..at + 4) {
            counter.fill(0);
        }
    }
    pages
}

/// The last transaction that a run has said to be committed.
fn last_committed(ran: &Ran) -> anyhow::Result<Option<u64>> {
    let mut last = None;
    for line in ran.text().lines() {
        let number: u64 = line
            .strip_prefix("committed ")
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("not understood: {line}"))?;
        anyhow::ensure!(
            last.is_none_or(|last| last + 1 == number),
            "{number} came after {last:?}"
        );
        last = Some(number);
    }
    Ok(last)
}

fn undisturbed(grates: &'static [&'static str]) -> anyhow::Result<()> {
    let place = Place::new(grates)?;
    place.load(TRANSACTIONS)?;
    anyhow::ensure!(place.verify()? == TRANSACTIONS, "transactions are missing");
    place.check_database(TRANSACTIONS)
}

fn killed(grates: &'static [&'static str]) -> anyhow::Result<()> {
    let kills = kills::count(KILLS);
    let seed = kills::seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut place = Place::new(grates)?;
    let mut committed = 0;
    for kill in 1..=kills {
        // From before the database is open to some transactions later.
        let delay = Duration::from_micros(dice.u64(5_000..150_000));
        let before = committed;
        committed = work_and_die(&place, before, delay)
            .with_context(|| format!("seed {seed}, kill {kill} of {kills}, {before} committed"))?;
        if committed > MOST_TRANSACTIONS {
            place.check_database(committed)?;
            place = Place::new(grates)?;
            committed = 0;
        }
    }
    // It goes on as if nothing had been.
    place.load(committed + 10)?;
    place.check_database(committed + 10)
}

/// A run that is killed and a check of what it leaves. Answers how many transactions are in the
/// database then.
fn work_and_die(place: &Place, committed: u64, delay: Duration) -> anyhow::Result<u64> {
    /// Begins a database; in its journal stands the first page of one.
    const HEADER: &[u8] = b"SQLite format 3\0";
    let without_end = i64::MAX.to_string();
    let ran = place
        .run(&["load", DATABASE, &without_end], Some(delay))?
        .expect(KILLED)?;
    let least = last_committed(&ran)?.unwrap_or(committed);
    place.nothing_in_the_clear(HEADER)?;
    let found = place.verify()?;
    // The one whose COMMIT had not returned may be in it.
    anyhow::ensure!(
        found == least || found == least + 1,
        "{least} were committed, {found} are there"
    );
    Ok(found)
}
