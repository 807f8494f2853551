//! What is saved of damaged files that were appended to, cut and changed: of each chunk a version that there was.

use rand_core::TryRng;
use sealed::{Cipher, FileCipher, FileKey, Found, MasterKey, Salvage, Superblock, Volume};

use crate::support::{Memory, TestRng, sealed_error, small_chunks, volume as volume_on};

const CHUNK: usize = 512;

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// A file, and all that it was.
struct Life {
    rng: TestRng,
    volume: Volume,
    disk: Memory,
    states: Vec<Vec<u8>>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = TestRng(seed);
        let key = FileKey::generate(&master(), small_chunks(Cipher::default()), &mut rng).unwrap();
        let volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
        Self {
            rng,
            volume,
            disk: Memory::default(),
            states: vec![Vec::new()],
        }
    }

    fn roll(&mut self, sides: usize) -> usize {
        (self.rng.try_next_u64().unwrap() % sides as u64) as usize
    }

    /// Appends most often, a little or as much as is there already.
    fn step(&mut self) {
        let mut state = self.states.last().unwrap().clone();
        let len = 1 + self.roll(150);
        let mut data = vec![0; len];
        self.rng.try_fill_bytes(&mut data).unwrap();
        let what = self.roll(12);
        let at = self.roll(state.len() + 1);
        let (disk, rng) = (&self.disk, &mut self.rng);
        let done = match what {
            0 if !state.is_empty() => {
                state.truncate(at.max(1));
                self.volume.set_len(disk, rng, state.len() as u64)
            }
            1 => {
                state.resize(state.len().max(at + len), 0);
                state[at..at + len].copy_from_slice(&data);
                self.volume.write(disk, rng, at as u64, &data)
            }
            2 if !state.is_empty() => self.volume.checkpoint(disk, rng),
            3 if !state.is_empty() => {
                self.volume = volume_on(&master(), disk).unwrap().unwrap();
                Ok(())
            }
            _ => {
                let end = state.len() as u64;
                state.extend_from_slice(&data);
                self.volume.write(disk, rng, end, &data)
            }
        };
        done.map_err(sealed_error).unwrap();
        self.states.push(state);
    }

    /// Damages a copy: some bytes of the logs, of the superblocks and marks, or of chunks.
    fn damaged(&mut self) -> Memory {
        let copy = self.disk.clone();
        for _ in 0..=self.roll(4) {
            let slot = self.roll(2) as u64;
            let within = self.roll(3000) as u64;
            let at = match self.roll(6) {
                0 => Superblock::offset(slot) + within % 64,
                1 => Superblock::mark_offset(slot) + within % 32,
                2 => self.volume.layout().chunk_offset(0).unwrap() + within,
                _ => Superblock::log_offset(slot) + within,
            };
            if at < copy.len() {
                copy.flip(at);
            }
        }
        copy
    }

    /// Saves what there is, and answers how many chunks were older versions or unproven.
    fn save(&self, disk: &Memory, what: &str) -> usize {
        let head = disk.get(0, CHUNK);
        let Ok(cipher) = FileCipher::open(&master(), &head) else {
            return 0;
        };
        let Ok(mut salvage) = Salvage::open(disk, cipher) else {
            return 0;
        };
        let (size, layout) = (salvage.size(), *salvage.layout());
        assert!(size < 1 << 20, "{what}: {size}");
        let mut others = 0;
        for index in 0..layout.chunks(size) {
            let mut chunk = vec![0; layout.chunk_len(index, size)];
            let found = salvage.chunk(disk, index, &mut chunk).unwrap();
            let start = index as usize * CHUNK;
            let is_version =
                |state: &Vec<u8>| state.get(start..start + chunk.len()) == Some(&chunk);
            // Or one that was the end of a file that is known to be longer now: zeros follow it.
            let is_stretched = |state: &Vec<u8>| {
                let was = state.get(start..).unwrap_or_default();
                let rest = chunk.strip_prefix(was);
                rest.is_some_and(|rest| rest.iter().all(|&byte| byte == 0))
            };
            let is_blank = chunk.iter().all(|&byte| byte == 0);
            assert!(
                self.states.iter().any(is_version)
                    || found != Found::Newest && self.states.iter().any(is_stretched),
                "{what}: chunk {index} of {} bytes, {found:?}, never was so",
                chunk.len()
            );
            others += usize::from(!is_blank && found != Found::Newest);
            if found != Found::Nothing {
                continue;
            }
            for part in salvage.parts(disk, index, &mut chunk).unwrap() {
                let bytes = start + part.start..start + part.end;
                let was_there =
                    |state: &Vec<u8>| state.get(bytes.clone()) == Some(&chunk[part.clone()]);
                assert!(
                    self.states.iter().any(was_there),
                    "{what}: of chunk {index} {part:?} never was so"
                );
                others += 1;
            }
        }
        others
    }
}

/// `SALVAGE_LIVES` asks for more.
#[test]
fn what_is_saved_was_there() {
    let lives = std::env::var("SALVAGE_LIVES").map_or(60, |lives| lives.parse().unwrap());
    let mut others = 0;
    for seed in 0..lives {
        let mut life = Life::new(seed);
        for round in 0..10 {
            for _ in 0..8 {
                life.step();
            }
            for damage in 0..10 {
                let disk = life.damaged();
                others += life.save(&disk, &format!("seed {seed}, {round}, {damage}"));
            }
        }
    }
    // Else nothing was tried.
    assert!(others > lives as usize, "{others}");
}

/// A file of pieces of 20 bytes that were appended one by one.
fn pieces(count: usize) -> Life {
    let mut life = Life::new(77);
    for piece in 0..count {
        let data = vec![piece as u8 + 1; 20];
        let end = life.volume.size();
        let done = life.volume.write(&life.disk, &mut life.rng, end, &data);
        done.map_err(sealed_error).unwrap();
    }
    life
}

/// Without a superblock, a mark, or the end of the last record, what was appended is there all the same: each piece
/// opens by itself.
#[test]
fn what_was_appended_is_saved_whatever_else_is_damaged() {
    let life = pieces(12);
    let places = [
        Superblock::offset(0) + 8,
        Superblock::offset(0) + 120,
        Superblock::mark_offset(0),
        // The MAC of the last one.
        life.disk.len() - 1,
    ];
    for place in places {
        let disk = life.disk.clone();
        disk.flip(place);
        let cipher = FileCipher::open(&master(), &disk.get(0, CHUNK)).unwrap();
        let mut salvage = Salvage::open(&disk, cipher).unwrap();
        assert_eq!(salvage.size(), 240, "{place}");
        let mut chunk = vec![0; 240];
        let found = salvage.chunk(&disk, 0, &mut chunk).unwrap();
        assert_ne!(found, Found::Nothing, "{place}");
        let whole: Vec<u8> = (0..240).map(|at| at as u8 / 20 + 1).collect();
        assert_eq!(chunk, whole, "{place}");
    }
}

/// One piece that is damaged costs its own bytes and no others, wherever it is.
#[test]
fn a_damaged_piece_costs_no_more_than_itself() {
    for lost in 0..12 {
        let mut life = pieces(lost);
        let from = life.disk.len();
        for piece in lost..12 {
            let data = vec![piece as u8 + 1; 20];
            let end = life.volume.size();
            let done = life.volume.write(&life.disk, &mut life.rng, end, &data);
            done.map_err(sealed_error).unwrap();
            if piece == lost {
                // Ciphertext of this one: a record ends with a tag and a MAC.
                life.disk.flip((life.disk.len() - 40).max(from));
            }
        }
        let cipher = FileCipher::open(&master(), &life.disk.get(0, CHUNK)).unwrap();
        let mut salvage = Salvage::open(&life.disk, cipher).unwrap();
        assert_eq!(salvage.size(), 240, "{lost}");
        let mut chunk = vec![0; 240];
        let found = salvage.chunk(&life.disk, 0, &mut chunk).unwrap();
        assert_eq!(found, Found::Nothing, "{lost}");
        let parts = salvage.parts(&life.disk, 0, &mut chunk).unwrap();
        for (at, &byte) in chunk.iter().enumerate() {
            let is_lost = at / 20 == lost;
            assert_eq!(
                byte,
                if is_lost { 0 } else { at as u8 / 20 + 1 },
                "{lost}, {at}"
            );
            assert_eq!(
                parts.iter().any(|part| part.contains(&at)),
                !is_lost,
                "{lost}, {at}"
            );
        }
    }
}
