//! Power cuts: what is on the disk then is anything that the writes since the last fsync can leave.
//!
//! A random load runs on a [`Recorder`], which keeps every write and fsync that the engine makes. Then the
//! power is cut at moments of it, in several models of what a disk loses:
//!
//! - *prefix*: everything up to some byte of some write is there;
//! - *pages*: each page that was written since the last fsync is in any of its versions since;
//! - *sectors*: so is each sector of 512 bytes.
//!
//! A change of the size is in the journal of the file system: it is lost only together with all later ones, and
//! with what is written behind where it cut the file.
//!
//! What the next process finds must be a state that the file was in at some moment between the last fsync and the
//! cut. It goes on from there, is cut off in the same way, and so must the one after it.
//!
//! `POWER_CUTS` says how many states are looked at, [`CUTS`] by default.

mod disk;

use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, software};
use crypt_grate::storage::{Errno, Storage};
use disk::{PAGE, Pages};
use rand_core::{TryCryptoRng, TryRng};
use sealed::{ChunkSize, Cipher, MasterKey, Params};
use std::cell::RefCell;
use std::convert::Infallible;

const CUTS: u64 = 12_000;

/// SplitMix64: repeatable, for tests only.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for part in dst.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// What the engine did to the disk.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
    Sync,
}

/// A disk that keeps what is done to it.
struct Recorder {
    pages: RefCell<Pages>,
    steps: RefCell<Vec<Step>>,
}

impl Recorder {
    fn new(pages: Pages) -> Self {
        Self {
            pages: RefCell::new(pages),
            steps: RefCell::default(),
        }
    }

    fn done(&self) -> usize {
        self.steps.borrow().len()
    }
}

impl Storage for Recorder {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        Ok(self.pages.borrow().read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pages.borrow_mut().write(buf, offset);
        self.steps.borrow_mut().push(Step::Write {
            offset,
            bytes: buf.to_vec(),
        });
        Ok(buf.len())
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.pages.borrow().len())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.pages.borrow_mut().set_len(size);
        self.steps.borrow_mut().push(Step::SetLen(size));
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.steps.borrow_mut().push(Step::Sync);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Model {
    Prefix,
    Pages,
    Sectors,
}

/// What is on the disk when the power is cut after so many steps.
fn cut(before: &Pages, steps: &[Step], model: Model, random: &mut Random) -> Pages {
    let synced = steps
        .iter()
        .rposition(|step| matches!(step, Step::Sync))
        .map_or(0, |at| at + 1);
    let (durable, pending) = steps.split_at(synced);
    let mut disk = before.clone();
    for step in durable {
        apply(&mut disk, step);
    }
    let unit = match model {
        Model::Prefix => {
            let Some((last, whole)) = pending.split_last() else {
                return disk;
            };
            whole.iter().for_each(|step| apply(&mut disk, step));
            match last {
                Step::Write { offset, bytes } => {
                    // The kernel copies what is within a page in one go.
                    let to_border = PAGE as u64 - offset % PAGE as u64;
                    let borders = (bytes.len() as u64).saturating_sub(to_border) / PAGE as u64 + 1;
                    let len = match random.below(borders + 1) {
                        0 => 0,
                        border => to_border + (border - 1) * PAGE as u64,
                    };
                    let len = len.min(bytes.len() as u64) as usize;
                    disk.write(&bytes[..len], *offset);
                }
                step => apply(&mut disk, step),
            }
            return disk;
        }
        Model::Pages => PAGE as u64,
        Model::Sectors => 512,
    };
    let set_lens = pending
        .iter()
        .filter(|step| matches!(step, Step::SetLen(_)))
        .count() as u64;
    let mut kept = random.below(set_lens + 1);
    // All or nothing is likelier than it would be otherwise.
    let odds = [1, 8, 15][random.below(3) as usize];
    let mut lost_from = u64::MAX;
    let mut len = disk.len();
    for step in pending {
        match step {
            Step::SetLen(size) if kept > 0 => {
                kept -= 1;
                disk.set_len(*size);
                len = *size;
            }
            Step::SetLen(size) => lost_from = lost_from.min(*size),
            Step::Sync => {}
            Step::Write { offset, bytes } => {
                let end = offset + bytes.len() as u64;
                let mut at = *offset;
                while at < end {
                    let border = ((at / unit + 1) * unit).min(end);
                    if random.below(16) < odds && at < lost_from {
                        let part = &bytes[(at - offset) as usize..(border - offset) as usize];
                        disk.write(part, at);
                    }
                    at = border;
                }
                if end <= lost_from {
                    len = len.max(end);
                }
            }
        }
    }
    if random.below(2) == 0 {
        disk.set_len(disk.len().max(len));
    }
    disk
}

fn apply(disk: &mut Pages, step: &Step) {
    match step {
        Step::Write { offset, bytes } => disk.write(bytes, *offset),
        Step::SetLen(len) => disk.set_len(*len),
        Step::Sync => {}
    }
}

/// What a program does.
#[derive(Clone, Debug)]
enum Op {
    Write { at: usize, len: usize },
    SetLen(usize),
    Punch { at: usize, len: usize },
    Fsync,
    Checkpoint,
    Close,
}

/// Which loads there are: appends alone, overwriting alone, or anything.
fn op(kind: u64, size: usize, random: &mut Random) -> Op {
    const MOST: u64 = 40_000;
    let len = match random.below(8) {
        0 => 512,
        1 => 1 + random.below(6000),
        2 => 4096,
        _ => 1 + random.below(700),
    } as usize;
    let at = random.below(MOST.min(size as u64 + 600)) as usize;
    match (kind, random.below(20)) {
        (0, ..=9) => Op::Write { at: size, len },
        (0, ..=18) => Op::Fsync,
        (1, ..=13) if size > 0 => Op::Write {
            at: at % size / 512 * 512,
            len: 512,
        },
        (1, ..=17) => Op::Fsync,
        (_, ..=5) => Op::Write { at, len },
        (_, ..=8) => Op::Write { at: size, len },
        (_, ..=10) => Op::SetLen(at),
        (_, ..=11) => Op::SetLen(size + len * 20),
        (_, ..=12) => Op::SetLen(0),
        (_, ..=13) => Op::Punch { at, len: 3 * len },
        (_, ..=14) => Op::Checkpoint,
        (_, ..=15) => Op::Close,
        _ => Op::Fsync,
    }
}

/// A state of the file, and after how many steps it was one: from when on it is lost by no cut unless a later one
/// has come, and from when on a cut can leave it.
struct State {
    content: Vec<u8>,
    begun: usize,
    done: usize,
    /// Not all at once: each chunk for itself.
    in_parts: bool,
}

struct World {
    key: MasterKey,
    params: Params,
    random: Random,
}

impl World {
    fn keys(key: &MasterKey) -> Keys<'_> {
        Keys {
            master: key,
            others: &[],
            aead: software,
        }
    }

    /// Runs a load of two processes on a file that has that content.
    fn run(&mut self, disk: &Recorder, content: Vec<u8>, ops: usize) -> Vec<State> {
        let kind = self.random.below(4);
        let mut files = [SealedFile::default(), SealedFile::default()];
        let mut states = vec![State {
            content,
            begun: 0,
            done: 0,
            in_parts: false,
        }];
        for _ in 0..ops {
            let mut content = states.last().expect("one").content.clone();
            let op = op(kind, content.len(), &mut self.random);
            let file = &mut files[self.random.below(8) as usize / 7];
            let begun = disk.done();
            let fill = self.random.next();
            let mut with = Sealing {
                keys: Self::keys(&self.key),
                params: self.params,
                rng: &mut self.random,
            };
            let done = match op {
                Op::Write { at, len } => {
                    let data: Vec<u8> = (0..len)
                        .map(|i| (fill >> (i % 7)) as u8 ^ i as u8)
                        .collect();
                    content.resize(content.len().max(at + len), 0);
                    content[at..at + len].copy_from_slice(&data);
                    file.write(disk, &mut with, at as u64, &data).map(drop)
                }
                Op::SetLen(len) => {
                    content.resize(len, 0);
                    file.set_len(disk, &mut with, len as u64)
                }
                Op::Punch { at, len } => {
                    let end = content.len().min(at + len);
                    content.get_mut(at..end).unwrap_or_default().fill(0);
                    let range = at as u64..(at + len) as u64;
                    file.writer(disk, &mut with)
                        .and_then(|mut writer| writer.punch(range))
                }
                Op::Fsync => {
                    let moment = file.moment();
                    disk.sync().expect("it never fails");
                    file.synced(disk, moment);
                    Ok(())
                }
                Op::Checkpoint => file
                    .writer(disk, &mut with)
                    .and_then(|mut writer| writer.checkpoint()),
                Op::Close => {
                    let done = file.close(disk, &mut with);
                    *file = SealedFile::default();
                    done
                }
            };
            assert_eq!(done, Ok(()), "{op:?}");
            let done = disk.done();
            if content != states.last().expect("one").content {
                states.push(State {
                    content,
                    begun,
                    done,
                    in_parts: matches!(op, Op::Punch { .. }),
                });
            }
        }
        states
    }

    /// What a process finds that comes after the cut.
    fn find(&self, pages: &Pages) -> Result<Vec<u8>, Error> {
        let disk = Recorder::new(pages.clone());
        let mut file = SealedFile::default();
        if file.identify(&disk, Self::keys(&self.key))? == Content::Plain {
            return Err(Error::Sealed(sealed::Error::NotSealed));
        }
        let len = file.len(&disk, Self::keys(&self.key))? as usize;
        let mut content = vec![0; len];
        let mut done = 0;
        while done < len {
            match file.read(
                &disk,
                Self::keys(&self.key),
                done as u64,
                &mut content[done..],
            )? {
                0 => return Err(Error::Sealed(sealed::Error::Truncated)),
                read => done += read,
            }
        }
        assert_eq!(disk.done(), 0, "a reader writes nothing");
        Ok(content)
    }

    /// Cuts the power somewhere in the load. Answers what is left, and its content.
    fn cut(
        &mut self,
        before: &Pages,
        steps: &[Step],
        states: &[State],
    ) -> Result<(Pages, Vec<u8>), String> {
        let moment = self.random.below(steps.len() as u64 + 1) as usize;
        let model = [Model::Prefix, Model::Pages, Model::Sectors][self.random.below(3) as usize];
        let steps = &steps[..moment];
        let left = cut(before, steps, model, &mut self.random);
        let synced = steps
            .iter()
            .rposition(|step| matches!(step, Step::Sync))
            .unwrap_or(0);
        let first = states
            .iter()
            .rposition(|state| state.done <= synced)
            .unwrap_or(0);
        let last = states
            .iter()
            .rposition(|state| state.begun <= moment)
            .unwrap_or(0);
        let possible = &states[first..=last];
        let why = |what: String| format!("{model:?} after {moment} steps: {what}");
        let found = self
            .find(&left)
            .map_err(|error| why(format!("{error:?}")))?;
        let is_there = possible.iter().any(|state| state.content == found)
            || possible.iter().any(|state| state.in_parts) && is_mixture(&found, possible);
        if !is_there {
            let sizes: Vec<usize> = possible.iter().map(|state| state.content.len()).collect();
            return Err(why(format!("{} bytes, of {sizes:?}", found.len())));
        }
        Ok((left, found))
    }
}

/// Whether each sector is that of one of the states.
fn is_mixture(found: &[u8], states: &[State]) -> bool {
    states
        .iter()
        .any(|state| state.content.len() == found.len())
        && (0..found.len()).step_by(512).all(|start| {
            let part = start..found.len().min(start + 512);
            states
                .iter()
                .any(|state| state.content.get(part.clone()) == Some(&found[part.clone()]))
        })
}

#[test]
fn a_power_cut_loses_nothing_that_was_synced() {
    let cuts = std::env::var("POWER_CUTS").map_or(CUTS, |text| text.parse().expect("a number"));
    let only: Option<u64> = std::env::var("POWER_SEED")
        .ok()
        .map(|text| text.parse().expect("a number"));
    let mut tried = 0;
    let mut failures = Vec::new();
    for seed in only.unwrap_or(0).. {
        if tried >= cuts || failures.len() >= 8 {
            break;
        }
        let mut world = World {
            key: MasterKey::from_bytes([3; 32]),
            params: Params {
                cipher: Cipher::ALL[(seed % 2) as usize],
                chunk_size: ChunkSize::MIN,
            },
            random: Random(seed << 20),
        };
        let disk = Recorder::new(Pages::default());
        let ops = 5 + world.random.below(60) as usize * (1 + world.random.below(4) as usize);
        let states = world.run(&disk, Vec::new(), ops);
        let steps = disk.steps.borrow().clone();
        for _ in 0..10 {
            tried += 1;
            let (left, found) = match world.cut(&Pages::default(), &steps, &states) {
                Ok(left) => left,
                Err(why) => {
                    failures.push(format!("seed {seed}: {why}"));
                    continue;
                }
            };
            // The next one goes on from there, and its power is cut too.
            let disk = Recorder::new(left.clone());
            let ops = world.random.below(12) as usize;
            let states = world.run(&disk, found, ops);
            let steps = disk.steps.borrow().clone();
            for _ in 0..2 {
                tried += 1;
                if let Err(why) = world.cut(&left, &steps, &states) {
                    failures.push(format!("seed {seed}, second cut: {why}"));
                }
            }
        }
        if only.is_some() {
            break;
        }
    }
    assert!(failures.is_empty(), "of {tried}:\n{}", failures.join("\n"));
    println!("{tried} states");
}
