//! What somebody can do to a file who can write it and has no key: every bit, every length, parts swapped,
//! repeated, taken from another file or from an earlier state. What is read then is one state of the file, whole,
//! that a power cut could have left, or it is refused.

use std::ops::Range;

use sealed::{Cipher, Error, FileCipher, FileKey, MasterKey, SECTOR_LEN, Superblock, Volume};

use crate::support::{Memory, Run, TestRng, open, sample, sealed_error, small_chunks};

const CHUNKS: usize = 5;

/// A file at some moment.
struct State {
    disk: Memory,
    content: Vec<Run>,
    epoch: u64,
    /// The first state that no power cut takes back.
    durable: usize,
}

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// The life of a file: changes of each kind, with an fsync here and there, and two checkpoints.
fn history(cipher: Cipher, seed: u64) -> Vec<State> {
    let mut rng = TestRng(seed);
    let key = FileKey::generate(&master(), small_chunks(cipher), &mut rng).unwrap();
    let mut volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
    let disk = Memory::default();
    let mut states = vec![State {
        disk: disk.clone(),
        content: Vec::new(),
        epoch: 0,
        durable: 0,
    }];
    let mut durable = 0;
    for step in 0..14 {
        let done = match step {
            0 => volume.write(&disk, &mut rng, 0, &sample(512 * CHUNKS - 100)),
            1 => volume.write(&disk, &mut rng, 700, &[step; 30]),
            5 | 9 => volume.checkpoint(&disk, &mut rng),
            6 => volume.punch(&disk, &mut rng, 512..1024),
            7 => volume.set_len(&disk, &mut rng, 1700),
            8 => volume.write(&disk, &mut rng, 1900, &[step; 700]),
            // Appended to the last chunk.
            2 | 4 | 12 | 13 => volume.write(&disk, &mut rng, volume.size(), &[step; 30]),
            _ => volume.write(&disk, &mut rng, u64::from(step) * 151, &[step; 100]),
        };
        done.map_err(sealed_error).unwrap();
        if matches!(step, 3 | 11) {
            let moment = volume.moment();
            volume.mark(&disk, moment).unwrap();
            durable = states.len();
        }
        states.push(State {
            disk: disk.clone(),
            content: open(&master(), &disk).unwrap(),
            epoch: volume.superblock().epoch,
            durable,
        });
    }
    states
}

/// The parts of a file that have a meaning, by name.
fn parts(disk: &Memory, cipher: Cipher) -> Vec<(String, Range<u64>)> {
    let layout = small_chunks(cipher).layout();
    let mut parts = vec![("header".to_owned(), 0..96)];
    for slot in 0..2 {
        let (block, mark) = (Superblock::offset(slot), Superblock::mark_offset(slot));
        parts.push((
            format!("superblock {slot}"),
            block..block + SECTOR_LEN as u64,
        ));
        parts.push((format!("mark {slot}"), mark..mark + 32));
        // Records, by the lengths in them.
        let mut at = Superblock::log_offset(slot);
        loop {
            let len = u32::from_le_bytes(disk.get(at, 4).try_into().unwrap());
            if !(48..1 << 14).contains(&len) {
                break;
            }
            parts.push((format!("record at {at}"), at..at + u64::from(len)));
            at += u64::from(len);
        }
    }
    for slot in 0..2 {
        let leaf = layout.node_offset(0, 0).unwrap() + slot * sealed::SLOT_LEN as u64;
        parts.push((
            format!("leaf, slot {slot}"),
            leaf..leaf + 16 * CHUNKS as u64,
        ));
    }
    for index in 0..CHUNKS as u64 {
        let place = layout.chunk_offset(index).unwrap();
        parts.push((format!("chunk {index}"), place..place + 552));
    }
    parts.retain(|(_, part)| part.start < disk.len());
    parts
}

/// Of the states up to the last one, those that may be read where nobody may have destroyed marks: those since
/// the last fsync, and where it was, those since the last epoch but one began.
fn allowed(states: &[State], without_marks: bool) -> &[State] {
    let newest = states.last().unwrap();
    let first = if without_marks {
        let before = newest.epoch.saturating_sub(1);
        let began = states.iter().position(|state| state.epoch >= before);
        // The state at the checkpoint is that of the change before it.
        began.unwrap().saturating_sub(1)
    } else {
        newest.durable
    };
    &states[first..]
}

/// Reads what was tampered with. Answers whether it was refused.
fn refused(disk: &Memory, allowed: &[State], what: &dyn Fn() -> String) -> bool {
    match open(&master(), disk) {
        Err(_) => true,
        Ok(content) => {
            let is_state = allowed.iter().any(|state| state.content == content);
            assert!(is_state, "{}", what());
            false
        }
    }
}

/// The moments of the life at which is tampered: a log alone, behind a mark, and behind each checkpoint.
const MOMENTS: [usize; 5] = [3, 5, 9, 10, 14];

#[test]
fn every_bit() {
    for cipher in Cipher::ALL {
        let states = history(cipher, 1);
        for moment in MOMENTS {
            let states = &states[..=moment];
            let good = &states[moment].disk;
            for (name, part) in parts(good, cipher) {
                let allowed = allowed(states, name.starts_with("mark"));
                for bit in part.start * 8..part.end * 8 {
                    let disk = good.clone();
                    let byte = good.get(bit / 8, 1)[0];
                    disk.put(bit / 8, &[byte ^ 1 << (bit % 8)]);
                    let what = || format!("{cipher:?}, {moment}, {name}, bit {bit}");
                    let refused = refused(&disk, allowed, &what);
                    let must = name == "header" || name == superblock_of(&states[moment]);
                    assert!(
                        refused || !must || bit / 8 >= part.start + 128,
                        "{}",
                        what()
                    );
                }
            }
        }
    }
}

fn superblock_of(state: &State) -> String {
    format!("superblock {}", state.epoch % 2)
}

/// Cut anywhere, it is refused, or read as a state since the last mark that is there.
#[test]
fn every_length() {
    for cipher in Cipher::ALL {
        let states = history(cipher, 2);
        for moment in MOMENTS {
            let states = &states[..=moment];
            let good = &states[moment].disk;
            let lens = parts(good, cipher)
                .into_iter()
                .flat_map(|(_, part)| part.start..part.end.min(good.len()));
            for len in lens {
                let disk = good.clone();
                disk.resize(len);
                // A header alone is an empty file, as no bytes are.
                let allowed = if len <= SECTOR_LEN as u64 {
                    &states[..1]
                } else {
                    let mark = Superblock::mark_offset(states[moment].epoch);
                    allowed(states, len < mark + 32)
                };
                refused(&disk, allowed, &|| {
                    format!("{cipher:?}, {moment}, cut to {len}")
                });
            }
            // What lies behind is of no meaning.
            let disk = good.clone();
            disk.put(good.len(), &[1; 3000]);
            assert_eq!(open(&master(), &disk).as_ref(), Ok(&states[moment].content));
        }
    }
}

/// Each part in the place of each other one; from another file of the same life; and as it was at every earlier
/// moment.
#[test]
fn parts_moved_and_replaced() {
    for cipher in Cipher::ALL {
        let (states, others) = (history(cipher, 3), history(cipher, 4));
        for moment in MOMENTS {
            let states = &states[..=moment];
            let good = &states[moment].disk;
            let parts = parts(good, cipher);
            for (name, part) in &parts {
                let len = (part.end - part.start) as usize;
                let what = |how: &str| format!("{cipher:?}, {moment}, {name} {how}");
                let before = good.get(part.start, len);
                let with = |bytes: &[u8]| {
                    let disk = good.clone();
                    disk.put(part.start, bytes);
                    disk
                };
                for (other, from) in &parts {
                    let moved = good.get(from.start, len);
                    refused(&with(&moved), allowed(states, true), &|| {
                        what(&format!("replaced by {other}"))
                    });
                    let swapped = with(&moved);
                    swapped.put(from.start, &before);
                    refused(&swapped, allowed(states, true), &|| {
                        what(&format!("swapped with {other}"))
                    });
                }
                let foreign = others[moment].disk.get(part.start, len);
                let refusal = refused(&with(&foreign), allowed(states, true), &|| {
                    what("of another file")
                });
                let must = *name == "header" || *name == superblock_of(&states[moment]);
                assert!(refusal || !must, "{}", what("of another file"));
                for earlier in 0..moment {
                    let older = states[earlier].disk.get(part.start, len);
                    refused(&with(&older), allowed(states, true), &|| {
                        what(&format!("as it was at {earlier}"))
                    });
                }
                refused(&with(&vec![0; len]), allowed(states, true), &|| {
                    what("punched out")
                });
            }
        }
    }
}

/// Every pair of parts as they were at two earlier moments.
#[test]
fn pairs_of_older_parts() {
    let cipher = Cipher::default();
    let states = history(cipher, 5);
    let moment = states.len() - 1;
    let good = &states[moment].disk;
    let parts = parts(good, cipher);
    for (number, (name, part)) in parts.iter().enumerate() {
        for (other, second) in &parts[number + 1..] {
            // Both superblocks put back are the whole file put back, where nothing that they need was
            // overwritten; both of a new file, or zeros, are an empty one.
            let both = name.starts_with("superblock") && other.starts_with("superblock");
            let allowed = if both {
                &states
            } else {
                allowed(&states, true)
            };
            for one in (0..moment).step_by(2) {
                for two in (0..moment).step_by(3) {
                    let disk = good.clone();
                    disk.take(
                        &states[one].disk,
                        part.start,
                        (part.end - part.start) as usize,
                    );
                    let len = (second.end - second.start) as usize;
                    disk.take(&states[two].disk, second.start, len);
                    refused(&disk, allowed, &|| {
                        format!("{name} as at {one}, {other} as at {two}")
                    });
                }
            }
        }
    }
}

/// Zeros above what an fsync covered are no empty file.
#[test]
fn a_head_of_zeros_above_more_is_refused() {
    let states = history(Cipher::default(), 6);
    for state in &states[4..] {
        let disk = state.disk.clone();
        disk.put(0, &[0; SECTOR_LEN]);
        assert_eq!(open(&master(), &disk), Err(Error::HeaderCorrupt));
    }
}
