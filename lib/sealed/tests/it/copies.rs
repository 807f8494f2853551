//! What somebody can do who takes copies of a file over a long time and can write it: any mixture of what it was at
//! several moments, logs behind the groups and inner nodes of the tree included; and it is written to again after
//! that. Whatever can be read then is of one state that the file once had.

use std::cell::RefCell;
use std::convert::Infallible;
use std::ops::Range;

use sealed::Disk;
use sealed::{Cipher, FileCipher, FileKey, Layout, MasterKey, SECTOR_LEN, SLOT_LEN, Volume};
use sealed::{OVERHEAD, Superblock};

use crate::support::{Memory, TestRng, sealed_error, small_chunks, volume as volume_on};
use rand_core::TryRng;

/// Bytes of plaintext: more than one leaf has.
const MOST: u64 = 300 * 512;

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// The chunks of a file that can be read, and its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    size: u64,
    chunks: Vec<Option<Vec<u8>>>,
}

impl Content {
    /// `None` where nothing can be read, or the file is empty, which needs no copy at all.
    fn of(disk: &Memory) -> Option<Self> {
        let mut volume = volume_on(&master(), disk).ok()??;
        let (layout, size) = (*volume.layout(), volume.size());
        let chunks = (0..layout.chunks(size)).map(|index| {
            let mut chunk = vec![0; layout.chunk_len(index, size)];
            volume.read(disk, index, &mut chunk).ok().map(|_| chunk)
        });
        let chunks = chunks.collect();
        Some(Self { size, chunks })
    }

    fn is_whole(&self) -> bool {
        self.chunks.iter().all(Option::is_some)
    }

    /// Whether all that can be read here is of that state.
    fn is_of(&self, state: &Self) -> bool {
        let mut pairs = self.chunks.iter().zip(&state.chunks);
        self.size == state.size && pairs.all(|(found, was)| found.is_none() || found == was)
    }
}

/// A disk of which a copy is taken before each write.
struct Watched<'a> {
    disk: &'a Memory,
    copies: RefCell<Vec<Memory>>,
}

impl Disk for Watched<'_> {
    type Error = Infallible;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Infallible> {
        self.disk.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Infallible> {
        self.copies.borrow_mut().push(self.disk.clone());
        self.disk.write_at(buf, offset)
    }

    fn sync(&self) -> Result<(), Infallible> {
        self.disk.sync()
    }

    fn set_size(&self, size: u64) -> Result<(), Infallible> {
        self.disk.set_size(size)
    }

    fn size(&self) -> Result<u64, Infallible> {
        self.disk.size()
    }
}

struct Life {
    rng: TestRng,
    disk: Memory,
    volume: Volume,
    /// All that the file ever was.
    states: Vec<Content>,
    copies: Vec<Memory>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = TestRng(seed);
        let cipher = Cipher::ALL[(seed % 2) as usize];
        let key = FileKey::generate(&master(), small_chunks(cipher), &mut rng).unwrap();
        let mut volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
        let disk = Memory::default();
        volume.write(&disk, &mut rng, 0, b"begun").unwrap();
        Self {
            rng,
            volume,
            states: vec![Content::default(), Content::of(&disk).unwrap()],
            copies: vec![disk.clone()],
            disk,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.rng.try_next_u64().unwrap() % sides
    }

    fn pick(&mut self) -> Memory {
        let number = self.roll(self.copies.len() as u64);
        self.copies[number as usize].clone()
    }

    /// Changes the file as programs do, opens it anew, or has a checkpoint made.
    fn step(&mut self) {
        let (offset, fill) = (self.roll(MOST), self.roll(256) as u8);
        let len = match self.roll(4) {
            0 => 30_000,
            1 => 5000,
            _ => 700,
        };
        let data = vec![fill; (self.roll(len) + 1).min(MOST - offset) as usize];
        let end = self.roll(MOST) + 1;
        let what = self.roll(16);
        let watched = Watched {
            disk: &self.disk,
            copies: RefCell::default(),
        };
        let (volume, disk, rng) = (&mut self.volume, &watched, &mut self.rng);
        let done = match what {
            0 => volume.checkpoint(disk, rng),
            1 => volume.compact(disk, rng),
            2 => volume.mark(disk, volume.moment()),
            3 => volume.set_len(disk, rng, end),
            4 => volume.punch(disk, rng, offset..offset + data.len() as u64),
            5 => {
                self.volume = volume_on(&master(), &self.disk).unwrap().unwrap();
                Ok(())
            }
            _ => volume.write(disk, rng, offset, &data),
        };
        done.map_err(sealed_error).unwrap();
        let copies = watched.copies.into_inner();
        for copy in copies.into_iter().chain([self.disk.clone()]) {
            let state = Content::of(&copy).unwrap();
            assert!(state.is_whole());
            if self.states.last() != Some(&state) {
                self.states.push(state);
            }
            self.copies.push(copy);
        }
    }

    /// A mixture of some copies, part by part.
    fn mixture(&mut self) -> Memory {
        let base = self.pick();
        let others = [self.pick(), self.pick()];
        let odds = [2, 8, 40][self.roll(3) as usize];
        let layout = *self.volume.layout();
        let mut parts: Vec<_> = [&base, &others[0], &others[1]]
            .into_iter()
            .flat_map(|disk| parts(disk, &layout))
            .collect();
        parts.sort_by_key(|part| (part.start, part.end));
        parts.dedup();
        if self.roll(4) == 0 {
            // A cut file, or a longer one.
            base.resize(others[0].len());
        }
        for part in parts {
            let from = self.roll(odds);
            if let Some(other) = others.get(from as usize) {
                base.take(other, part.start, (part.end - part.start) as usize);
            }
        }
        base
    }

    /// Attacks the file. Some attacks stay unnoticed, and the programs go on with what there is then.
    fn attack(&mut self, what: &str) -> bool {
        let disk = self.mixture();
        let Some(content) = Content::of(&disk) else {
            return false;
        };
        let is_one = self.states.iter().any(|state| content.is_of(state));
        assert!(is_one, "{what}: a mixture of {} bytes", content.size);
        let goes_on = content.is_whole() && self.roll(4) == 0;
        if goes_on {
            self.volume = volume_on(&master(), &disk).unwrap().unwrap();
            self.copies.push(disk.clone());
            self.disk = disk;
        }
        true
    }
}

/// The parts of a file that have a meaning, whichever of them are there.
fn parts(disk: &Memory, layout: &Layout) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    for slot in 0..2 {
        let (block, mark) = (Superblock::offset(slot), Superblock::mark_offset(slot));
        parts.push(block..block + SECTOR_LEN as u64);
        parts.push(mark..mark + 32);
        // Records, by the lengths in them and where they say that the next one is.
        let mut at = Superblock::log_offset(slot);
        loop {
            let len = u32::from_le_bytes(disk.get(at, 4).try_into().unwrap());
            if !(48..1 << 24).contains(&len) || at + u64::from(len) > disk.len() {
                break;
            }
            parts.push(at..at + u64::from(len));
            let next = u64::from_le_bytes(disk.get(at + 24, 8).try_into().unwrap());
            let is_plausible = (1 << 16..disk.len()).contains(&next);
            at = if is_plausible {
                next
            } else {
                at + u64::from(len)
            };
        }
    }
    for (level, index) in [(0, 0), (0, 1), (1, 0)] {
        let node = layout.node_offset(level, index).unwrap();
        for slot in [node, node + SLOT_LEN as u64] {
            parts.push(slot..slot + SLOT_LEN as u64);
        }
    }
    for index in 0..layout.chunks(MOST) {
        let place = layout.chunk_offset(index).unwrap();
        parts.push(place..place + (layout.chunk_size() + OVERHEAD) as u64);
    }
    parts.retain(|part| part.end <= disk.len());
    parts
}

/// `TAMPER_LIVES` asks for more.
#[test]
fn mixtures_of_copies() {
    let lives = std::env::var("TAMPER_LIVES").map_or(6, |lives| lives.parse().unwrap());
    let mut unnoticed = 0;
    for seed in 0..lives {
        let mut life = Life::new(seed);
        for round in 0..12 {
            for _ in 0..8 {
                life.step();
            }
            for attack in 0..8 {
                let what = format!("seed {seed}, round {round}, attack {attack}");
                unnoticed += u32::from(life.attack(&what));
            }
        }
    }
    // Else nothing was tried.
    assert!(unnoticed > lives as u32, "{unnoticed}");
}
