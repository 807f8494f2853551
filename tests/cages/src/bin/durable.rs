//! `durable KIND FILE FROM`: makes the changes FROM, FROM + 1 and so on of FILE until it is killed, and says the
//! number of each one that an fsync has returned for. Which change has which number depends on the
//! size of the file alone, so that `tests/block-device/cuts.py`, which knows them too, can tell what
//! must be there after a power cut.
//!
//! KIND is `append`, a record and an fsync each time; `change`, overwriting, cutting, punching and
//! appending, mostly with an fsync, and now and then closing the file; or `replace`, each time with a new file
//! that is renamed to FILE.

use cage_libc::sys;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

/// What a change writes: lines that tell from which one they are.
fn text(number: u64, len: usize) -> Vec<u8> {
    let mut text = format!("change {number:08} is kept\n")
        .into_bytes()
        .repeat(len / 24 + 1);
    text.truncate(len);
    text
}

/// Repeatable, and good enough to pick changes with.
struct Dice(u64);

impl Dice {
    fn of(number: u64) -> Self {
        Self((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

fn punch(file: &File, offset: u64, len: u64) -> Result<(), Box<dyn Error>> {
    const FALLOCATE: u32 = 285;
    /// FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE.
    const MODE: u64 = 3;
    let args = [file.as_raw_fd() as u64, MODE, offset, len];
    // SAFETY: the call takes no address.
    unsafe { sys::syscall(FALLOCATE, &args) }.map_err(|errno| format!("punch: {errno:?}"))?;
    Ok(())
}

fn open(path: &str) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn append(path: &str, from: u64) -> Result<(), Box<dyn Error>> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    for number in from.. {
        file.write_all(&text(number, 100))?;
        file.sync_all()?;
        println!("{number}");
    }
    Ok(())
}

fn change(path: &str, from: u64) -> Result<(), Box<dyn Error>> {
    let mut file = open(path)?;
    let mut size = file.metadata()?.len();
    for number in from.. {
        let mut dice = Dice::of(number);
        let what = dice.roll(10);
        let written = match what {
            0..3 => Some((size, 100)),
            3..7 => Some((dice.roll(size / 4096 + 1) * 4096, 4096)),
            7 => Some((dice.roll(size + 1), dice.roll(60_000) + 1)),
            _ => None,
        };
        if let Some((offset, len)) = written {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(&text(number, len as usize))?;
            size = size.max(offset + len);
        } else if what == 8 {
            size = if size > 300_000 {
                size / 3
            } else {
                size * 3 / 4 + dice.roll(size / 2 + 1)
            };
            file.set_len(size)?;
        } else {
            punch(&file, dice.roll(size + 1), dice.roll(30_000) + 1)?;
        }
        if dice.roll(4) > 0 {
            file.sync_all()?;
            println!("{number}");
        }
        if dice.roll(50) == 0 {
            drop(file);
            file = open(path)?;
        }
    }
    Ok(())
}

fn replace(path: &str, from: u64) -> Result<(), Box<dyn Error>> {
    let folder = File::open(path.rsplit_once('/').map_or(".", |(folder, _)| folder))?;
    let draft = format!("{path}.new");
    for number in from.. {
        let mut file = File::create(&draft)?;
        file.write_all(&text(number, Dice::of(number).roll(100_000) as usize + 1))?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&draft, path)?;
        folder.sync_all()?;
        println!("{number}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, path, from] = &args[..] else {
        return Err("usage: durable append|change|replace FILE FROM".into());
    };
    let from = from.parse()?;
    match kind.as_str() {
        "append" => append(path, from),
        "change" => change(path, from),
        "replace" => replace(path, from),
        _ => Err(format!("no such kind: {kind}").into()),
    }
}
