//! What a power cut has taken stays away: no later record completes one of which a part is left, wherever sectors
//! divide the two.

use std::cell::RefCell;
use std::convert::Infallible;

use sealed::{Cipher, Disk, FileCipher, FileKey, MasterKey, Volume};

use crate::support::{Memory, Run, TestRng, open, sealed_error, small_chunks, volume as volume_on};

const SECTOR: u64 = 512;

/// A disk that knows what has reached it for sure.
struct Waiting {
    now: Memory,
    synced: RefCell<Memory>,
}

impl Disk for Waiting {
    type Error = Infallible;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Infallible> {
        self.now.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Infallible> {
        self.now.write_at(buf, offset)
    }

    fn sync(&self) -> Result<(), Infallible> {
        self.synced.replace(self.now.clone());
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Infallible> {
        self.now.set_size(size)
    }

    fn size(&self) -> Result<u64, Infallible> {
        self.now.size()
    }
}

/// Every choice between old and new for the sectors of a part.
fn mixtures(old: &Memory, new: &Memory, from: u64, to: u64) -> impl Iterator<Item = Memory> {
    let first = from / SECTOR;
    let count = (to.div_ceil(SECTOR) - first) as u32;
    (0..1_u32 << count).map(move |choice| {
        let mixed = old.clone();
        for sector in (0..count).filter(|sector| choice >> sector & 1 == 1) {
            mixed.take(new, (first + u64::from(sector)) * SECTOR, SECTOR as usize);
        }
        mixed
    })
}

fn write(volume: &mut Volume, disk: &impl Disk<Error = Infallible>, seed: u64, byte: u8) {
    let (mut rng, data) = (TestRng(seed), [byte; 100]);
    volume
        .write(disk, &mut rng, 50, &data)
        .map_err(sealed_error)
        .unwrap();
}

#[test]
fn a_lost_record_is_not_completed() {
    let master = MasterKey::from_bytes([7; 32]);
    let content = |disk: &Memory| open(&master, disk).unwrap();
    let mut lost = 0;
    // Where in a sector the record begins.
    for before in 1..=SECTOR {
        let mut rng = TestRng(before);
        let cipher = Cipher::ALL[(before % 2) as usize];
        let key = FileKey::new(&master, small_chunks(cipher), [before as u8; 32]);
        let mut volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
        let base = Memory::default();
        volume.write(&base, &mut rng, 0, &[1; 200]).unwrap();
        let piece = vec![2; (before as usize).min(300)];
        volume.write(&base, &mut rng, 200, &piece).unwrap();
        if before > 300 {
            volume.write(&base, &mut rng, 500, &[3; 1]).unwrap();
            volume.set_len(&base, &mut rng, before - 99).unwrap();
        }
        let from = base.len();
        let with = base.clone();
        write(&mut volume, &with, before, 4);
        let to = with.len();
        base.resize(to);
        let states = [content(&base), content(&with)];
        for left in mixtures(&base, &with, from, to) {
            if content(&left) != states[0] {
                continue;
            }
            lost += 1;
            let disk = Waiting {
                synced: RefCell::new(left.clone()),
                now: left,
            };
            let mut next = volume_on(&master, &disk.now).unwrap().unwrap();
            write(&mut next, &disk, !before, 5);
            let goes_on: [Vec<Run>; 2] = [states[0].clone(), content(&disk.now)];
            assert_ne!(goes_on[1], states[1]);
            for cut in mixtures(&disk.synced.borrow(), &disk.now, from, to) {
                assert!(goes_on.contains(&content(&cut)), "{before}");
            }
        }
    }
    assert!(lost > SECTOR);
}
