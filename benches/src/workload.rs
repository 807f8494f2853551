//! What is measured, and what one measurement answers.

use anyhow::{Context, Result};

/// Calls of a random workload, and bytes of each.
const RANDOM_CALLS: u64 = 20_000;
const PAGE: u64 = 4096;

/// What is done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make it anew from its start to its end.
    Write,
    /// Read it from its start to its end.
    Read,
    /// pread at random places.
    RandomRead,
    /// pwrite at random places.
    RandomWrite,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What is done.
    pub op: Op,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes of one call.
    pub call: u64,
    /// Calls.
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
    /// All of them, in an order in which the file is there when it is read.
    pub fn all(size: u64) -> Vec<Self> {
        let sequential = |op, call| Self {
            op,
            size,
            call,
            count: size / call,
        };
        let random = |op| Self {
            op,
            size,
            call: PAGE,
            count: RANDOM_CALLS,
        };
        vec![
            sequential(Op::Write, 1 << 20),
            sequential(Op::Read, 1 << 20),
            sequential(Op::Write, PAGE),
            sequential(Op::Read, PAGE),
            random(Op::RandomRead),
            random(Op::RandomWrite),
        ]
    }

    /// As people say it.
    pub fn name(&self) -> String {
        let call = match self.call >> 20 {
            0 => format!("{} KiB", self.call >> 10),
            mib => format!("{mib} MiB"),
        };
        match self.op {
            Op::Write => format!("write, {call} calls"),
            Op::Read => format!("read, {call} calls"),
            Op::RandomRead => format!("random read, {call}"),
            Op::RandomWrite => format!("random write, {call}"),
        }
    }

    /// Whether places are random; it is counted in calls rather than bytes then.
    pub fn is_random(&self) -> bool {
        matches!(self.op, Op::RandomRead | Op::RandomWrite)
    }

    /// Whether there is something to sync afterwards.
    pub fn writes(&self) -> bool {
        matches!(self.op, Op::Write | Op::RandomWrite)
    }

    /// The command line of bench_io for this.
    pub fn command(&self, file: &str) -> Vec<String> {
        let op = match self.op {
            Op::Write => "write",
            Op::Read => "read",
            Op::RandomRead => "randread",
            Op::RandomWrite => "randwrite",
        };
        let numbers = [self.size, self.call, self.count].map(|number| number.to_string());
        ["bench_io.cwasm", op, file]
            .map(str::to_owned)
            .into_iter()
            .chain(numbers)
            .collect()
    }

    /// Understands what bench_io prints.
    pub fn parse(&self, printed: &str) -> Result<Sample> {
        let numbers: Vec<u64> = printed
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        match numbers[..] {
            [calls, bytes, sync] if bytes == self.call * self.count && calls > 0 => Some(Sample {
                calls: calls as f64,
                sync: sync as f64,
            }),
            _ => None,
        }
        .with_context(|| format!("bench_io printed {printed:?}"))
    }

    /// MB/s (10^6 bytes) of a sequential workload, calls per second of a random one.
    pub fn rate(&self, nanoseconds: f64) -> f64 {
        let per_second = 1e9 / nanoseconds;
        if self.is_random() {
            self.count as f64 * per_second
        } else {
            (self.call * self.count) as f64 / 1e6 * per_second
        }
    }
}
