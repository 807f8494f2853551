//! The same calls as bench_io's, made by this process itself.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::workload::{Op, Sample, Workload};

/// Runs a workload on a file or folder. None for what is a program of its own.
pub fn run(workload: &Workload, path: &Path) -> anyhow::Result<Option<Sample>> {
    let sample = match workload.op {
        Op::Insert | Op::Commit => return Ok(None),
        Op::Truncate => truncations(workload, path)?,
        Op::OpenLarge => large_opens(workload, path)?,
        Op::Make | Op::Open | Op::Stat => small_files(workload, path)?,
        _ => one_file(workload, path)?,
    };
    Ok(Some(sample))
}

fn one_file(workload: &Workload, path: &Path) -> Result<Sample> {
    let mut file = open(workload.op, path)?;
    let mut buf = content(workload);
    let mut offsets = Offsets::new(workload);

    let start = Instant::now();
    for _ in 0..workload.count {
        match workload.op {
            Op::Read => file.read_exact(&mut buf)?,
            Op::RandomRead => file.read_exact_at(&mut buf, offsets.next())?,
            Op::RandomWrite => file.write_all_at(&buf, offsets.next())?,
            _ => file.write_all(&buf)?,
        }
        if matches!(workload.op, Op::SyncWrite | Op::SyncAppend) {
            file.sync_all()?;
        }
    }
    let calls = start.elapsed().as_nanos() as f64;

    let start = Instant::now();
    if workload.syncs() {
        file.sync_all()?;
    }
    let sync = start.elapsed().as_nanos() as f64;
    Ok(Sample { calls, sync })
}

fn truncations(workload: &Workload, path: &Path) -> Result<Sample> {
    let start = Instant::now();
    for _ in 0..workload.count {
        File::create(path)?.set_len(workload.size)?;
    }
    let calls = start.elapsed().as_nanos() as f64;
    Ok(Sample { calls, sync: 0.0 })
}

fn large_opens(workload: &Workload, path: &Path) -> Result<Sample> {
    const APART: u64 = 1 << 20;
    let mut buf = content(workload);
    let file = File::create(path)?;
    for number in 0..workload.size / APART {
        file.write_all_at(&buf, number * APART)?;
    }
    drop(file);
    let apart = Workload {
        call: APART,
        ..*workload
    };
    let mut offsets = Offsets::new(&apart);
    let start = Instant::now();
    for _ in 0..workload.count {
        File::open(path)?.read_exact_at(&mut buf, offsets.next())?;
    }
    let calls = start.elapsed().as_nanos() as f64;
    Ok(Sample { calls, sync: 0.0 })
}

fn small_files(workload: &Workload, folder: &Path) -> Result<Sample> {
    let paths: Vec<_> = (0..workload.count)
        .map(|number| folder.join(number.to_string()))
        .collect();
    if workload.op == Op::Make {
        fs::remove_dir_all(folder)?;
        fs::create_dir(folder)?;
    }
    let mut buf = content(workload);

    let start = Instant::now();
    for path in &paths {
        match workload.op {
            Op::Make => File::create(path)?.write_all(&buf)?,
            Op::Open => File::open(path)?.read_exact(&mut buf)?,
            _ => assert_eq!(fs::metadata(path)?.len(), workload.call),
        }
    }
    let calls = start.elapsed().as_nanos() as f64;
    Ok(Sample { calls, sync: 0.0 })
}

fn content(workload: &Workload) -> Vec<u8> {
    (0..workload.call).map(|i| (i * 31) as u8).collect()
}

/// Nanoseconds of one geteuid.
pub fn geteuid(calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        std::hint::black_box(rustix::process::geteuid());
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn open(op: Op, path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    match op {
        Op::Read | Op::RandomRead => options.read(true),
        Op::Overwrite | Op::SyncWrite | Op::RandomWrite => options.write(true),
        Op::Append | Op::SyncAppend => {
            File::create(path)?;
            options.append(true)
        }
        _ => options.write(true).create(true).truncate(true),
    };
    options.open(path)
}

/// The offsets that bench_io takes (xorshift64).
struct Offsets {
    state: u64,
    places: u64,
    call: u64,
}

impl Offsets {
    fn new(workload: &Workload) -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            places: workload.size / workload.call,
            call: workload.call,
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.places * self.call
    }
}
