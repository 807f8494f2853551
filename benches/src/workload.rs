//! What is measured, and what one measurement answers.

use anyhow::{Context, Result};

/// Calls of a random workload, and bytes of each.
const RANDOM_CALLS: u64 = 20_000;
const PAGE: u64 = 4096;
/// Records appended, and bytes of each.
const RECORDS: u64 = 100_000;
const RECORD: u64 = 100;
/// Small files, and bytes of each.
const FILES: u64 = 5_000;
const SMALL: u64 = 1024;
/// Transactions of SQLite, and rows inserted in each.
const TRANSACTIONS: u64 = 500;
const ROWS: u64 = 100;

/// Calls with an fsync after each.
const SYNCS: u64 = 500;
/// How long a file of nothing is made, and how often.
const HOLE: u64 = 1 << 40;
const HOLES: u64 = 1_000;
/// A large file, and how often it is opened.
const LARGE: u64 = 4 << 30;
const OPENS: u64 = 2_000;
/// Transactions of SQLite that wait for the disk, of one row each.
const COMMITS: u64 = 300;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a file anew from its start to its end.
    Write,
    /// Write over it from its start to its end.
    Overwrite,
    /// Write over its beginning, with an fsync after each call.
    SyncWrite,
    /// Read it from its start to its end.
    Read,
    /// pread at random places.
    RandomRead,
    /// pwrite at random places.
    RandomWrite,
    /// Make a file anew with O_APPEND.
    Append,
    /// The same, with an fsync after each call.
    SyncAppend,
    /// Make a file anew and extend it with ftruncate.
    Truncate,
    /// Open a large file, and read a page of it.
    OpenLarge,
    /// Open a new small file, write it, close it.
    Make,
    /// Open a small file, read it, close it.
    Open,
    /// stat of a small file.
    Stat,
    /// SQLite: insert rows.
    Insert,
    /// SQLite: commit a row, and wait for the disk.
    Commit,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What is done.
    pub op: Op,
    /// Bytes in the file, or in all files.
    pub size: u64,
    /// Bytes of one call, or of one file.
    pub call: u64,
    /// Calls, files or rows.
    pub count: u64,
}

/// What one run answers.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Time of all calls in nanoseconds.
    pub calls: f64,
    /// Time of the fsync after it in nanoseconds.
    pub sync: f64,
}

impl Workload {
    /// All of them, in an order in which a file is there when it is read.
    pub fn all(size: u64) -> Vec<Self> {
        let of_file = |op, call| Self {
            op,
            size,
            call,
            count: size / call,
        };
        let random = |op| Self {
            count: RANDOM_CALLS,
            ..of_file(op, PAGE)
        };
        let many = |op, call, count| Self {
            op,
            size: call * count,
            call,
            count,
        };
        vec![
            of_file(Op::Write, 1 << 20),
            of_file(Op::Read, 1 << 20),
            of_file(Op::Overwrite, 1 << 20),
            of_file(Op::Write, PAGE),
            of_file(Op::Overwrite, PAGE),
            of_file(Op::Read, PAGE),
            random(Op::RandomRead),
            random(Op::RandomWrite),
            Self {
                count: SYNCS,
                ..of_file(Op::SyncWrite, PAGE)
            },
            many(Op::Append, RECORD, RECORDS),
            many(Op::SyncAppend, RECORD, SYNCS),
            Self {
                size: HOLE,
                ..many(Op::Truncate, 1, HOLES)
            },
            Self {
                size: LARGE,
                ..many(Op::OpenLarge, PAGE, OPENS)
            },
            many(Op::Make, SMALL, FILES),
            many(Op::Open, SMALL, FILES),
            many(Op::Stat, SMALL, FILES),
            many(Op::Insert, 0, TRANSACTIONS * ROWS),
            many(Op::Commit, 0, COMMITS),
        ]
    }

    /// As people say it.
    pub fn name(&self) -> String {
        let call = match self.call {
            bytes if bytes >> 20 > 0 => format!("{} MiB", bytes >> 20),
            bytes if bytes >> 10 > 0 => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} bytes"),
        };
        match self.op {
            Op::Write => format!("write, {call} calls"),
            Op::Read => format!("read, {call} calls"),
            Op::RandomRead => format!("random read, {call}"),
            Op::RandomWrite => format!("random write, {call}"),
            Op::Overwrite => format!("overwrite, {call} calls"),
            Op::SyncWrite => format!("overwrite {call} and fsync"),
            Op::Append => format!("append, {call}"),
            Op::SyncAppend => format!("append {call} and fsync"),
            Op::Truncate => format!("make a hole of {} TiB", self.size >> 40),
            Op::OpenLarge => format!("open {} GiB, read {call}, close", self.size >> 30),
            Op::Make => format!("make a file of {call}"),
            Op::Open => format!("open, read, close {call}"),
            Op::Stat => "stat".to_owned(),
            Op::Insert => "SQLite, insert a row".to_owned(),
            Op::Commit => "SQLite, commit a row and wait for the disk".to_owned(),
        }
    }

    /// How often it is done in a second, or how many bytes it moves.
    pub fn unit(&self) -> &'static str {
        match self.op {
            Op::Write | Op::Overwrite | Op::Read => "MB/s",
            _ => "a second",
        }
    }

    /// Whether there is something to sync afterwards.
    pub fn syncs(&self) -> bool {
        matches!(
            self.op,
            Op::Write | Op::Overwrite | Op::RandomWrite | Op::Append
        )
    }

    /// What is worked on, below the root's data folder. SQLite deletes its file.
    pub fn place(&self) -> &'static str {
        match self.op {
            Op::Write
            | Op::Overwrite
            | Op::SyncWrite
            | Op::Read
            | Op::RandomRead
            | Op::RandomWrite => "file",
            Op::Append | Op::SyncAppend => "log",
            Op::Truncate => "hole",
            Op::OpenLarge => "large",
            Op::Make | Op::Open | Op::Stat => "small",
            Op::Insert | Op::Commit => "rows.db",
        }
    }

    /// A file that is there afterwards, below the root's data folder.
    pub fn witness(&self) -> &'static str {
        match self.op {
            Op::Make | Op::Open | Op::Stat => "small/0",
            _ => self.place(),
        }
    }

    /// The command line of the program for this.
    pub fn command(&self, path: &str) -> Vec<String> {
        let op = match self.op {
            Op::Write => "write",
            Op::Overwrite => "overwrite",
            Op::SyncWrite => "syncwrite",
            Op::SyncAppend => "syncappend",
            Op::Truncate => "truncate",
            Op::OpenLarge => "openlarge",
            Op::Read => "read",
            Op::RandomRead => "randread",
            Op::RandomWrite => "randwrite",
            Op::Append => "append",
            Op::Make => "make",
            Op::Open => "open",
            Op::Stat => "stat",
            Op::Insert => return sqlite(path, TRANSACTIONS, ROWS, "OFF"),
            Op::Commit => return sqlite(path, COMMITS, 1, "FULL"),
        };
        let numbers = [self.size, self.call, self.count].map(|number| number.to_string());
        let words = ["bench_io.cwasm", op, path].map(str::to_owned);
        words.into_iter().chain(numbers).collect()
    }

    /// Understands what the program prints.
    pub fn parse(&self, printed: &str) -> Result<Sample> {
        let numbers: Vec<u64> = printed
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [calls, count, sync] if count == self.count && calls > 0 => Some(Sample {
                calls: calls as f64,
                sync: sync as f64,
            }),
            _ => None,
        }
        .with_context(|| format!("the program printed {printed:?}"))
    }

    /// In [`Workload::unit`]s; MB are 10^6 bytes.
    pub fn rate(&self, nanoseconds: f64) -> f64 {
        let per_second = self.count as f64 * 1e9 / nanoseconds;
        match self.op {
            Op::Write | Op::Overwrite | Op::Read => self.call as f64 / 1e6 * per_second,
            _ => per_second,
        }
    }
}

/// The command line of SQLite for so many transactions of so many rows.
fn sqlite(path: &str, transactions: u64, rows: u64, synchronous: &str) -> Vec<String> {
    let numbers = [transactions, rows].map(|number| number.to_string());
    let words = ["sqlite_bench.cwasm", path].map(str::to_owned);
    let end = [synchronous.to_owned()];
    words.into_iter().chain(numbers).chain(end).collect()
}
