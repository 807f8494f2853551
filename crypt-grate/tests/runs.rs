//! Several runs on one file: each has its own idea of it, some keep the lock for a while, some are killed in the
//! middle of a change, and now and then the disk is full. Together they behave as one does on a plain file.
//!
//! `RUNS_SEEDS` says how many loads are tried, [`SEEDS`] by default.

mod disk;

use crypt_grate::sealed_file::{Error, Keys, SealedFile, Sealing, Windows};
use crypt_grate::storage::{Errno, Lease, LockMode, Place, Storage, Target};
use disk::{Op, PAGE, Pages, Random, direct, filling};
use sealed::{ChunkSize, Chunks, Cipher, MasterKey, Params, Tag, Unsealed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

const SEEDS: u64 = 250;

/// Runs on the file, of which the last one only reads.
const RUNS: usize = 4;

/// The file below, with its lock.
#[derive(Default)]
struct Below {
    pages: RefCell<Pages>,
    /// Whose lock was given back and is kept: run and open file description.
    kept: Cell<Option<(usize, usize)>>,
    /// Who has the lock now.
    holders: RefCell<BTreeSet<usize>>,
    /// Nothing is written beyond that size.
    most: Cell<Option<u64>>,
    /// After so many changes who makes them is killed, with a part of the last one done.
    left: Cell<Option<usize>>,
    part: Cell<usize>,
    is_killed: Cell<bool>,
    /// How often the file was opened to write: a lease that was taken before has ended.
    opened: Cell<u32>,
    /// What a program has of memory.
    memory: direct::Memory,
    /// How often what was at hand was given out under one.
    leased: Cell<usize>,
    /// How often chunks were opened to where they were wanted.
    direct: Cell<usize>,
    /// How often some were sealed from where they were.
    sealed: Cell<usize>,
}

impl Below {
    /// How many of the bytes of a change are still written.
    fn change(&self, len: usize) -> Result<usize, Errno> {
        self.opened.set(self.opened.get() + 1);
        if self.is_killed.get() {
            return Err(Errno::EIO);
        }
        match self.left.get() {
            Some(0) => {
                self.is_killed.set(true);
                Ok(self.part.get() % (len + 1))
            }
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(len)
            }
            None => Ok(len),
        }
    }
}

/// The file as a run has it open.
#[derive(Clone, Copy)]
struct Open<'a> {
    below: &'a Below,
    run: usize,
    description: usize,
    /// Whether its runtime keeps no locks.
    is_strict: bool,
    is_writable: bool,
}

impl Storage for Open<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        Ok(self.below.pages.borrow().read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        assert!(self.below.holders.borrow().contains(&self.run));
        let mut pages = self.below.pages.borrow_mut();
        let most = self.below.most.get().unwrap_or(u64::MAX);
        let room = most.max(pages.len()).saturating_sub(offset);
        let len = room.min(buf.len() as u64) as usize;
        if len == 0 && !buf.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let done = self.below.change(len)?;
        // The kernel copies what is within a page in one go.
        let done = match (offset as usize + done) / PAGE * PAGE {
            _ if done == len => len,
            border => border.saturating_sub(offset as usize),
        };
        if done > 0 || len == 0 {
            pages.write(&buf[..done], offset);
        }
        if self.below.is_killed.get() {
            return Err(Errno::EIO);
        }
        Ok(len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.below.pages.borrow().len())
    }

    fn set_size(&self, len: u64) -> Result<(), Errno> {
        assert!(self.below.holders.borrow().contains(&self.run));
        self.below.change(0)?;
        self.below.pages.borrow_mut().set_len(len);
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn discard(&self, range: Range<u64>) {
        let mut pages = self.below.pages.borrow_mut();
        let end = range.end.min(pages.len());
        if self.below.change(0).is_ok() && range.start < end {
            pages.write(&vec![0; (end - range.start) as usize], range.start);
        }
    }

    fn short_is_end(&self) -> bool {
        true
    }

    fn is_writable(&self) -> bool {
        self.is_writable
    }

    fn lock(&self, _: LockMode) -> Result<(), Errno> {
        self.below.kept.set(None);
        assert!(self.below.holders.borrow().is_empty());
        self.below.holders.borrow_mut().insert(self.run);
        Ok(())
    }

    fn unlock(&self) {
        assert!(self.below.holders.borrow_mut().remove(&self.run));
    }

    fn seal(&self, chunks: &Unsealed<'_>, from: Place, tags: &mut [Tag]) -> bool {
        !self.is_strict && direct::seal(self, &self.below.memory, chunks, from, tags).is_some()
    }

    fn open(&self, chunks: &Chunks<'_>, to: Target<'_>, lease: Option<Lease>) -> Option<bool> {
        if self.is_strict {
            return None;
        }
        direct::open(self, &self.below.memory, chunks, to)?;
        Some(lease == Some(Lease(self.below.opened.get())))
    }

    fn lease(&self) -> Option<Lease> {
        let is_open = self.is_writable
            || self.below.kept.get().is_some()
            || !self.below.holders.borrow().is_empty();
        (!is_open).then(|| Lease(self.below.opened.get()))
    }

    fn take(&self) -> Result<bool, Errno> {
        let kept = self.below.kept.get();
        self.lock(LockMode::Exclusive)?;
        Ok(!self.is_strict && kept == Some((self.run, self.description)))
    }

    fn is_kept(&self) -> bool {
        !self.is_strict && self.below.kept.get() == Some((self.run, self.description))
    }

    fn write_kept(&self, buf: &[u8], offset: u64) -> Result<Option<usize>, Errno> {
        if !self.is_kept() {
            return Ok(None);
        }
        self.lock(LockMode::Exclusive)?;
        let written = self.write_at(buf, offset);
        self.give();
        written.map(Some)
    }

    fn give(&self) {
        self.unlock();
        if !self.is_strict {
            self.below.kept.set(Some((self.run, self.description)));
        }
    }
}

fn op(kind: u64, size: usize, random: &mut Random) -> Op {
    let len = match random.below(10) {
        0 => 512,
        1 => 1 + random.below(5000),
        2 => 20_000,
        _ => 1 + random.below(300),
    } as usize;
    let at = random.below(size.min(30_000) as u64 + 600) as usize;
    let edge = at / 512 * 512;
    match (kind, random.below(24)) {
        (0, ..=17) | (_, ..=7) => Op::Write { at: size, len },
        (_, ..=11) => Op::Write { at, len },
        (_, ..=13) => Op::Write { at: edge, len },
        (_, 14) => Op::SetLen(at),
        (_, 15) => Op::SetLen(edge),
        (_, 16) => Op::SetLen(size + len),
        (_, 17) => Op::Punch { at, len: 3 * len },
        (_, 18) => Op::Punch {
            at: edge,
            len: size,
        },
        (_, 19) => Op::Checkpoint,
        (_, 20) => Op::Close,
        (_, 21) if size > 30_000 => Op::SetLen(0),
        _ => Op::Fsync,
    }
}

struct World {
    key: MasterKey,
    params: Params,
    random: Random,
    files: [SealedFile; RUNS],
    /// Of two descriptions that read.
    windows: [[Windows; 2]; RUNS],
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            key: MasterKey::from_bytes([3; 32]),
            params: Params {
                cipher: Cipher::ALL[(seed % 2) as usize],
                chunk_size: ChunkSize::MIN,
            },
            random: Random(seed << 24),
            files: Default::default(),
            windows: Default::default(),
        }
    }

    fn keys(key: &MasterKey) -> Keys<'_> {
        Keys {
            master: key,
            others: &[],
            aead: direct::keyed,
            derive: sealed::derive,
        }
    }

    /// Does something. Answers whether it was done, and what the file may be now.
    fn act(&mut self, open: Open<'_>, op: &Op, was: &[u8]) -> (Result<(), Error>, Vec<u8>) {
        let mut content = was.to_vec();
        let fill = self.random.next();
        let mut with = Sealing {
            keys: Self::keys(&self.key),
            params: self.params,
            rng: &mut self.random,
        };
        let file = &mut self.files[open.run];
        let done = match *op {
            Op::Write { at, len } => {
                let data = filling(fill, len);
                let memory = &open.below.memory;
                let written = direct::write(file, &open, &mut with, memory, at as u64, &data);
                if written.is_ok_and(|(_, from_there)| from_there > 0) {
                    open.below.sealed.set(open.below.sealed.get() + 1);
                }
                let written = written.map(|(written, _)| written);
                let fits = open.below.most.get().is_none() && !open.below.is_killed.get();
                assert!(!fits || written == Ok(len), "{written:?} of {len}");
                let done = written.unwrap_or(len);
                content.resize(content.len().max(at + done), 0);
                content[at..at + done].copy_from_slice(&data[..done]);
                written.map(drop)
            }
            Op::SetLen(len) => {
                content.resize(len, 0);
                file.set_len(&open, &mut with, len as u64)
            }
            Op::Punch { at, len } => {
                let end = content.len().min(at + len);
                content.get_mut(at..end).unwrap_or_default().fill(0);
                let range = at as u64..(at + len) as u64;
                file.writer(&open, &mut with)
                    .and_then(|mut writer| writer.punch(range))
            }
            Op::Fsync => {
                let moment = file.moment();
                file.synced(&open, moment);
                Ok(())
            }
            Op::Checkpoint => file
                .writer(&open, &mut with)
                .and_then(|mut writer| writer.checkpoint()),
            Op::Close => file.close(&open, &mut with),
        };
        (done, content)
    }

    fn read(&mut self, open: Open<'_>, of: Option<usize>) -> Result<Vec<u8>, Error> {
        let mut fresh = SealedFile::default();
        let mut none = Windows::default();
        let description = self.random.below(2) as usize;
        let (file, windows) = match of {
            None => (&mut fresh, &mut none),
            Some(run) => (&mut self.files[run], &mut self.windows[run][description]),
        };
        let len = file.len(&open, Self::keys(&self.key))? as usize;
        let mut content = vec![0xEE; len + 9];
        let mut done = 0;
        loop {
            let rest = &mut content[done..];
            open.below.memory.borrow_mut().resize(rest.len(), 0);
            let (keys, to) = (Self::keys(&self.key), Place { cage: 1, addr: 0 });
            if let Some(read) = file.read_to(windows, &open, keys, done as u64, rest.len(), to)? {
                rest[..read].copy_from_slice(&open.below.memory.borrow()[..read]);
                open.below.direct.set(open.below.direct.get() + 1);
                done += read;
                continue;
            }
            match file.read(windows, &open, Self::keys(&self.key), done as u64, rest)? {
                0 => break,
                read => done += read,
            }
        }
        content.truncate(done);
        assert_eq!(done, len, "{of:?}");
        // Who knew the file before has it at hand the second time.
        for _ in 0..2 * of.iter().len() {
            assert_eq!(
                Self::in_pieces(file, windows, open, &self.key, len)?,
                content,
                "{of:?}"
            );
        }
        Ok(content)
    }

    /// The same as grates serve small reads: out of what is at hand where a lease lasts, else by a look.
    fn in_pieces(
        file: &mut SealedFile,
        windows: &mut Windows,
        open: Open<'_>,
        key: &MasterKey,
        len: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        while content.len() <= len {
            let at = content.len() as u64;
            let piece = 1 + content.len() % 1300;
            let own = windows.at_hand(at, piece);
            let own = own.map(|(lease, bytes)| (lease, bytes.to_vec()));
            let at_hand = own.or_else(|| {
                let found = file.at_hand(windows, &open, at, piece);
                found.map(|(lease, bytes)| (lease, bytes.to_vec()))
            });
            if let Some((lease, bytes)) = at_hand {
                if lease == Lease(open.below.opened.get()) {
                    open.below.leased.set(open.below.leased.get() + 1);
                    content.extend_from_slice(&bytes);
                    continue;
                }
                windows.end_lease(lease);
                file.end_lease(lease);
            }
            if let Some(bytes) = file.look_at(windows, &open, Self::keys(key), at, piece)? {
                content.extend_from_slice(bytes);
                continue;
            }
            let mut bytes = vec![0xEE; piece];
            match file.read(windows, &open, Self::keys(key), at, &mut bytes)? {
                0 => break,
                read => content.extend_from_slice(&bytes[..read]),
            }
        }
        Ok(content)
    }
}

/// A load. Answers how often somebody was killed or found no room, how often a lease was of use, and how often chunks
/// went straight to where they were wanted, and came from where they were.
fn live(seed: u64) -> [usize; 4] {
    let mut world = World::new(seed);
    let below = Below::default();
    let mut content: Vec<u8> = Vec::new();
    let mut failed = 0;
    let kind = world.random.below(3);
    let ops = 30 + world.random.below(300);
    let strict = world.random.below(8);
    let mut run = 0;
    for number in 0..ops {
        // Mostly the same one goes on: only so is a lock kept.
        if world.random.below(12) == 0 {
            run = world.random.below(RUNS as u64 - 1) as usize;
        }
        if world.random.below(12) == 0 {
            // Whose lock was kept for long enough.
            below.kept.set(None);
        }
        let open = Open {
            below: &below,
            run,
            description: (world.random.below(9) / 8) as usize,
            is_strict: strict >> run & 1 == 1,
            is_writable: true,
        };
        let is_full = world.random.below(25) == 0;
        if is_full {
            let len = below.pages.borrow().len();
            below.most.set(Some(len + world.random.below(1500)));
        }
        let is_last = world.random.below(20) == 0;
        if is_last {
            below.left.set(Some(world.random.below(4) as usize));
            below.part.set(world.random.next() as usize >> 1);
        }
        let op = op(kind, content.len(), &mut world.random);
        let what = format!("seed {seed}, {number}: run {run}, {op:?}, {is_full} {is_last}");
        let (done, new) = world.act(open, &op, &content);
        let is_killed = below.is_killed.replace(false);
        below.left.set(None);
        below.most.set(None);
        if is_killed {
            // The kernel gives its locks back.
            world.files[run] = SealedFile::default();
            world.windows[run] = Default::default();
            below.holders.borrow_mut().clear();
            if below.kept.get().is_some_and(|(kept, _)| kept == run) {
                below.kept.set(None);
            }
        }
        let reader = Open {
            run: RUNS - 1,
            is_writable: false,
            ..open
        };
        let found = world.read(reader, None);
        let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
        if is_killed || done.is_err() {
            assert!(is_killed || is_full, "{what}: {done:?}");
            let in_parts = matches!(op, Op::Punch { .. })
                && found.len() == content.len()
                && (found.iter().zip(&content)).all(|(now, was)| now == was || *now == 0);
            assert!(
                found == content || found == new || in_parts,
                "{what}: {} bytes, not {} or {}",
                found.len(),
                content.len(),
                new.len()
            );
            failed += 1;
            content = found;
        } else {
            content = new;
        }
        assert!(found_is(&content, world.read(reader, None)), "{what}");
        // What one of them makes of it that knew it before, now or later.
        let looks = world.random.below(RUNS as u64 * 2) as usize;
        if looks < RUNS {
            let other = Open {
                run: looks,
                is_writable: looks < RUNS - 1,
                ..open
            };
            assert!(
                found_is(&content, world.read(other, Some(looks))),
                "{what}: {looks}"
            );
        }
    }
    [
        failed,
        below.leased.get(),
        below.direct.get(),
        below.sealed.get(),
    ]
}

fn found_is(content: &[u8], found: Result<Vec<u8>, Error>) -> bool {
    found.is_ok_and(|found| found == content)
}

#[test]
fn several_runs_are_as_one() {
    let seeds = std::env::var("RUNS_SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let only = std::env::var("RUNS_SEED").map(|text| text.parse().expect("a number"));
    let mut tried = [0; 4];
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        for (all, some) in tried.iter_mut().zip(live(seed)) {
            *all += some;
        }
    }
    // Else nothing was tried.
    assert!(!tried.contains(&0), "{tried:?}");
}
