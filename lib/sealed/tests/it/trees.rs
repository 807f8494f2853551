//! Files so large that their trees have several levels, and holes so large that only a tree tells them.

use sealed::{Cipher, FileCipher, FileKey, MasterKey, Volume};

use crate::support::{Memory, TestRng, sealed_error, small_chunks, volume};

const CHUNK: u64 = 512;
/// Chunks below a node of the second level of inner ones.
const SPAN: u64 = 256 * 256 * 256;

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn new(seed: u64) -> (Volume, Memory, TestRng) {
    let mut rng = TestRng(seed);
    let params = small_chunks(Cipher::default());
    let key = FileKey::generate(&master(), params, &mut rng).unwrap();
    let volume = Volume::create(FileCipher::new(&key), &mut rng).unwrap();
    (volume, Memory::default(), rng)
}

/// Chunks at the edges of nodes of every level.
fn places() -> Vec<u64> {
    let mut places = Vec::new();
    for edge in [0, 256, 65536, 2 * 65536, SPAN, SPAN + 65536, 3 * SPAN] {
        places.extend([edge.saturating_sub(1), edge, edge + 1]);
    }
    places.dedup();
    places
}

fn check(disk: &Memory, expected: &dyn Fn(u64) -> Option<u8>, size: u64) {
    let mut volume = volume(&master(), disk).unwrap().unwrap();
    assert_eq!(volume.size(), size);
    for place in places() {
        if place * CHUNK >= size {
            continue;
        }
        let mut out = [0xFF; CHUNK as usize];
        volume
            .read(disk, place, &mut out)
            .map_err(sealed_error)
            .unwrap();
        assert_eq!(
            out,
            [expected(place).unwrap_or(0); CHUNK as usize],
            "{place}"
        );
        let is_hole = volume.is_hole(disk, place).map_err(sealed_error).unwrap();
        assert_eq!(is_hole, expected(place).is_none(), "{place}");
    }
    // From one chunk that is there to the next, over holes of any size.
    let mut at = 0;
    for place in places()
        .into_iter()
        .filter(|place| expected(*place).is_some())
    {
        if place * CHUNK >= size {
            break;
        }
        at = volume.seek(disk, at, false).map_err(sealed_error).unwrap();
        assert_eq!(at, place * CHUNK);
        at += CHUNK;
    }
    let end = volume.seek(disk, at, false).map_err(sealed_error).unwrap();
    assert_eq!(end, size);
}

#[test]
fn four_levels_grow_and_shrink() {
    let (mut volume, disk, mut rng) = new(1);
    let size = (3 * SPAN + 2) * CHUNK;
    let byte = |place: u64| place as u8 | 1;
    for (number, place) in places().into_iter().enumerate() {
        let data = [byte(place); CHUNK as usize];
        volume.write(&disk, &mut rng, place * CHUNK, &data).unwrap();
        // The tree gets its levels one after the other.
        if number % 4 == 3 {
            volume.checkpoint(&disk, &mut rng).unwrap();
        }
    }
    check(&disk, &|place| Some(byte(place)), size);
    volume.checkpoint(&disk, &mut rng).unwrap();
    check(&disk, &|place| Some(byte(place)), size);

    // Holes over nodes of every level.
    volume
        .punch(&disk, &mut rng, 255 * CHUNK..(SPAN + 1) * CHUNK)
        .unwrap();
    let punched = |place: u64| (!(255..=SPAN).contains(&place)).then(|| byte(place));
    check(&disk, &punched, size);
    volume.checkpoint(&disk, &mut rng).unwrap();
    check(&disk, &punched, size);

    // Down to fewer levels, and up again: what was cut off is holes.
    let short = 257 * CHUNK;
    volume.set_len(&disk, &mut rng, short).unwrap();
    volume.checkpoint(&disk, &mut rng).unwrap();
    check(&disk, &punched, short);
    volume.set_len(&disk, &mut rng, size).unwrap();
    volume.checkpoint(&disk, &mut rng).unwrap();
    check(&disk, &|place| punched(place).filter(|_| place < 257), size);
}

/// The mark of an fsync that another process's checkpoint has overtaken is none: it is about an epoch that is
/// over.
#[test]
fn a_mark_that_was_overtaken_is_not_written() {
    let (mut volume, disk, mut rng) = new(2);
    volume.write(&disk, &mut rng, 0, &[1; 5000]).unwrap();
    let moment = volume.moment();
    volume.checkpoint(&disk, &mut rng).unwrap();
    let before = disk.clone();
    volume.mark(&disk, moment).unwrap();
    assert_eq!(disk.differences(&before), []);
    let moment = volume.moment();
    volume.write(&disk, &mut rng, 0, &[2; 5000]).unwrap();
    let before = disk.clone();
    let now = volume.moment();
    volume.mark(&disk, now).unwrap();
    assert_ne!(disk.differences(&before), []);
    // Nor is one that is older than what is marked.
    let before = disk.clone();
    volume.mark(&disk, moment).unwrap();
    assert_eq!(disk.differences(&before), []);
}
