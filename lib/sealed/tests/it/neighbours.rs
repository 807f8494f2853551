//! Several who have one file open, each of whom knows what it was when it looked last.

use std::cell::Cell;

use sealed::{Cipher, Disk, Failure, FileCipher, FileKey, MasterKey, Volume};

use crate::support::{Memory, TestRng, small_chunks};

/// A disk that takes nothing behind some place, and forgets what it is told to.
#[derive(Default)]
struct Bounded {
    disk: Memory,
    end: Cell<Option<u64>>,
}

#[derive(Debug)]
struct Full;

impl Disk for Bounded {
    type Error = Full;

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Full> {
        self.disk
            .read_at(buf, offset)
            .map_err(|never| match never {})
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Full> {
        let end = offset + buf.len() as u64;
        if self.end.get().is_some_and(|most| end > most) {
            return Err(Full);
        }
        self.disk.put(offset, buf);
        Ok(())
    }

    fn sync(&self) -> Result<(), Full> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Full> {
        self.disk.resize(size);
        Ok(())
    }

    fn size(&self) -> Result<u64, Full> {
        Ok(self.disk.len())
    }

    fn discard(&self, range: std::ops::Range<u64>) {
        let end = range.end.min(self.disk.len());
        if range.start < end {
            self.disk
                .put(range.start, &vec![0; (end - range.start) as usize]);
        }
    }
}

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn open(disk: &Bounded) -> Volume {
    let opened = Volume::open(disk, |head| FileCipher::open(&master(), head));
    opened.unwrap().volume.unwrap()
}

/// Who looked when a log had just been sent on to where there was no room for it finds out what happened since,
/// though all that it knew of still stands there.
#[test]
fn a_log_that_was_sent_on_is_not_taken_for_the_present_one() {
    for (rounds, is_before) in (1..6).flat_map(|rounds| [(rounds, false), (rounds, true)]) {
        let mut rng = TestRng(1);
        let key = FileKey::generate(&master(), small_chunks(Cipher::default()), &mut rng).unwrap();
        let mut volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
        let disk = Bounded::default();
        disk.end.set(Some(1 << 19));
        let mut idle = None;
        loop {
            if is_before || idle.is_none() {
                idle = (volume.counter() > 0).then(|| open(&disk));
            }
            // Overwritten again and again.
            match volume.write(&disk, &mut rng, 0, &[0; 900]) {
                Ok(()) => {}
                Err(Failure::Disk(Full)) => break,
                Err(Failure::Sealed(error)) => panic!("{error}"),
            }
        }
        // Who looked before that, or after it.
        let mut idle = idle.filter(|_| is_before).unwrap_or_else(|| open(&disk));
        disk.end.set(None);
        let mut busy = open(&disk);
        for _ in 0..rounds {
            busy.write(&disk, &mut rng, 0, &[1; 700]).unwrap();
            busy.write(&disk, &mut rng, 1 << 12, b"longer").unwrap();
            busy.checkpoint(&disk, &mut rng).unwrap();
        }
        if idle.refresh(&disk).unwrap() {
            assert_eq!(idle.size(), busy.size(), "{rounds}");
            assert_eq!(idle.counter(), busy.counter(), "{rounds}");
        }
    }
}

/// Who has a file open that was put out of use is told, whatever of it was the last that it saw.
#[test]
fn a_retired_file_is_out_of_use_for_who_was_behind() {
    for behind in 0..6 {
        let mut rng = TestRng(2);
        let key = FileKey::generate(&master(), small_chunks(Cipher::default()), &mut rng).unwrap();
        let mut busy = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
        let disk = Bounded::default();
        busy.write(&disk, &mut rng, 0, b"begun").unwrap();
        let mut idle = None;
        for step in 0..6 {
            if step == 5 - behind {
                idle = Some(open(&disk));
            }
            match step {
                2 | 3 => busy.checkpoint(&disk, &mut rng).unwrap(),
                _ => busy.write(&disk, &mut rng, 9, &[step; 99]).unwrap(),
            }
        }
        busy.retire(&disk).unwrap();
        assert!(!idle.unwrap().refresh(&disk).unwrap(), "{behind}");
        assert!(!busy.refresh(&disk).unwrap());
    }
}
