//! Records of the log: one for each change of the file.

use alloc::vec::Vec;

use crate::aead::TAG_LEN;
use crate::layout::{Layout, OVERHEAD};
use crate::mac::{About, MAC_LEN, Mac, MacKey};
use crate::superblock::{field, word};

/// A chunk's tag.
pub type Tag = [u8; TAG_LEN];

/// Bytes of a record before its parts.
pub(crate) const FIXED_LEN: usize = 32;

/// Bytes of a part before its tags.
const PART_LEN: usize = 24;

/// Bytes of a record without parts.
pub(crate) const BARE_LEN: usize = FIXED_LEN + MAC_LEN;

/// Most bytes of a record.
pub(crate) const MAX_RECORD_LEN: usize = 1 << 24;

const PARTS_AT: usize = 4;
const COUNTER_AT: usize = 8;
const SIZE_AT: usize = 16;
const NEXT_AT: usize = 24;

/// Where chunks are from a record on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    InPlace = 1,
    InLog = 2,
    Hole = 3,
    /// What was appended to the last chunk, sealed by itself.
    Appended = 4,
}

impl Kind {
    /// Whether the chunks are in the payload.
    pub fn is_in_log(self) -> bool {
        matches!(self, Self::InLog | Self::Appended)
    }
}

/// What a record says of chunks that follow one upon the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub first: u64,
    pub count: u64,
    pub kind: Kind,
    /// Bytes of plaintext in the last chunk: 0 for holes. Those that were appended, of a chunk that grew.
    pub last_len: usize,
    /// Bytes of plaintext that the chunk had before, where it grew.
    pub start: usize,
    /// A tag for each chunk that is no hole.
    pub tags: Vec<Tag>,
}

impl Part {
    /// Chunks as they were just sealed.
    pub fn of(layout: &Layout, first: u64, kind: Kind, sealed: &[u8]) -> Self {
        let tags: Vec<Tag> = tags_of(layout, sealed).collect();
        let last = sealed.chunks(layout.sealed_chunk_len()).next_back();
        Self {
            first,
            count: tags.len() as u64,
            kind,
            last_len: last.map_or(0, |chunk| chunk.len() - OVERHEAD),
            start: 0,
            tags,
        }
    }

    pub fn holes(first: u64, count: u64) -> Self {
        Self {
            first,
            count,
            kind: Kind::Hole,
            last_len: 0,
            start: 0,
            tags: Vec::new(),
        }
    }

    /// The chunks: index, bytes of plaintext, tag. None for holes.
    pub fn chunks(&self, layout: &Layout) -> impl Iterator<Item = (u64, usize, &Tag)> {
        let last = self.tags.len().saturating_sub(1);
        let full = layout.chunk_size();
        (self.first..)
            .zip(&self.tags)
            .enumerate()
            .map(move |(i, (index, tag))| {
                (index, if i == last { self.last_len } else { full }, tag)
            })
    }

    /// Bytes of its chunks when sealed.
    pub fn sealed_len(&self, layout: &Layout) -> usize {
        self.chunks(layout).map(|(_, len, _)| len + OVERHEAD).sum()
    }
}

/// A record, but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub counter: u64,
    /// Bytes of plaintext in the file.
    pub size: u64,
    /// Where the next record is; 0 behind this one.
    pub next: u64,
    pub parts: Vec<Part>,
}

/// The first bytes of a record, not believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub len: usize,
    pub parts: usize,
    pub counter: u64,
}

impl Start {
    /// `None` for what is no record.
    pub fn parse(bytes: &[u8; FIXED_LEN]) -> Option<Self> {
        let start = Self {
            len: u32::from_le_bytes(field(bytes, 0)) as usize,
            parts: u32::from_le_bytes(field(bytes, PARTS_AT)) as usize,
            counter: word(bytes, COUNTER_AT),
        };
        let most_parts = start.len.checked_sub(BARE_LEN)? / PART_LEN;
        (start.len <= MAX_RECORD_LEN && start.parts <= most_parts).then_some(start)
    }
}

impl Record {
    /// Bytes before the payload.
    pub fn head_len(&self) -> usize {
        head_len(
            self.parts
                .iter()
                .filter(|part| part.kind != Kind::Hole)
                .map(|part| part.count as usize),
            self.parts.len(),
        )
    }

    /// Puts the head to the beginning of a record, whose payload is in its place already, and the
    /// MAC to its end. Answers the MAC.
    pub fn encode_around(&self, record: &mut [u8], key: &MacKey, offset: u64, chain: &Mac) -> Mac {
        // Records are shorter than 2^24 bytes.
        let len = record.len() as u32;
        let mut rest = &mut *record;
        let mut put = |field: &[u8]| {
            let (place, behind) = core::mem::take(&mut rest).split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = behind;
        };
        put(&len.to_le_bytes());
        put(&(self.parts.len() as u32).to_le_bytes());
        for field in [self.counter, self.size, self.next] {
            put(&field.to_le_bytes());
        }
        for part in &self.parts {
            put(&part.first.to_le_bytes());
            put(&part.count.to_le_bytes());
            put(&[part.kind as u8, 0]);
            // Chunks are shorter than 2^16 bytes, but for full ones.
            put(&(part.start as u16).to_le_bytes());
            put(&(part.last_len as u32).to_le_bytes());
            put(part.tags.as_flattened());
        }
        let head = &record[..self.head_len()];
        let mac = key.of(About::Record, offset, &[chain, head]);
        let end = record.len() - MAC_LEN;
        record[end..].copy_from_slice(&mac);
        mac
    }

    /// Reads the head of a record from all bytes of it before the MAC, or from as many as the head
    /// has. `None` for one that no writer made.
    pub fn parse(bytes: &[u8], layout: &Layout) -> Option<Self> {
        let fixed: &[u8; FIXED_LEN] = bytes.first_chunk()?;
        let start = Start::parse(fixed)?;
        let mut rest = &bytes[FIXED_LEN..];
        let mut parts = Vec::new();
        for _ in 0..start.parts {
            let part = rest.split_off(..PART_LEN)?;
            let kind = match part[16] {
                1 => Kind::InPlace,
                2 => Kind::InLog,
                3 => Kind::Hole,
                4 => Kind::Appended,
                _ => return None,
            };
            let (first, count) = (word(part, 0), word(part, 8));
            let start = usize::from(u16::from_le_bytes(field(part, 18)));
            let last_len = u32::from_le_bytes(field(part, 20)) as usize;
            let end = first.checked_add(count)?;
            layout.chunk_offset(end).ok()?;
            let tags = if kind == Kind::Hole {
                Vec::new()
            } else {
                let len = usize::try_from(count).ok()?.checked_mul(TAG_LEN)?;
                rest.split_off(..len)?.as_chunks().0.to_vec()
            };
            let possible = match kind {
                Kind::InPlace => last_len == layout.chunk_size(),
                Kind::InLog => (1..=layout.chunk_size()).contains(&last_len),
                Kind::Hole => last_len == 0,
                Kind::Appended => {
                    let rest = layout.chunk_size().saturating_sub(start);
                    count == 1 && (1..rest).contains(&last_len)
                }
            };
            let grows = kind == Kind::Appended;
            if !possible || count == 0 || part[17] != 0 || (start > 0) != grows {
                return None;
            }
            parts.push(Part {
                first,
                count,
                kind,
                last_len,
                start,
                tags,
            });
        }
        let record = Self {
            counter: start.counter,
            size: word(fixed, SIZE_AT),
            next: word(fixed, NEXT_AT),
            parts,
        };
        let payload: usize = record
            .parts
            .iter()
            .filter(|part| part.kind.is_in_log())
            .map(|part| part.sealed_len(layout))
            .sum();
        (record.head_len() + payload + MAC_LEN == start.len).then_some(record)
    }
}

/// Bytes before the payload of a record with so many chunks in each part that has any, and so many
/// parts.
pub(crate) fn head_len(chunks: impl Iterator<Item = usize>, parts: usize) -> usize {
    FIXED_LEN + parts * PART_LEN + chunks.sum::<usize>() * TAG_LEN
}

/// The tags of sealed chunks as they lie on the disk; the last one may be shorter.
pub fn tags_of(layout: &Layout, sealed: &[u8]) -> impl Iterator<Item = Tag> {
    sealed
        .chunks(layout.sealed_chunk_len())
        .map(|chunk| chunk.last_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;
    use crate::ChunkSize;

    fn layout() -> Layout {
        Layout::new(ChunkSize::MIN)
    }

    fn key() -> MacKey {
        MacKey::new(Zeroizing::new([7; 32]))
    }

    fn record() -> Record {
        Record {
            counter: 5,
            size: 3000,
            next: 0,
            parts: vec![
                Part {
                    first: 3,
                    count: 2,
                    kind: Kind::InPlace,
                    last_len: 512,
                    start: 0,
                    tags: vec![[1; 16], [2; 16]],
                },
                Part {
                    first: 5,
                    count: 1,
                    kind: Kind::InLog,
                    last_len: 440,
                    start: 0,
                    tags: vec![[3; 16]],
                },
                Part::holes(0, 3),
                Part {
                    first: 5,
                    count: 1,
                    kind: Kind::Appended,
                    last_len: 71,
                    start: 440,
                    tags: vec![[4; 16]],
                },
            ],
        }
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let payload: usize = record
            .parts
            .iter()
            .filter(|part| part.kind.is_in_log())
            .map(|part| part.sealed_len(&layout()))
            .sum();
        let mut bytes = vec![0; record.head_len() + payload + MAC_LEN];
        record.encode_around(&mut bytes, &key(), 77, &[4; 16]);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bare = Record {
            parts: Vec::new(),
            next: 1 << 40,
            ..record()
        };
        assert_eq!(encoded(&bare).len(), BARE_LEN);
        for record in [record(), bare] {
            assert_eq!(Record::parse(&encoded(&record), &layout()), Some(record));
        }
    }

    #[test]
    fn the_mac_is_of_the_place_and_the_predecessor() {
        let mut bytes = encoded(&record());
        let mac = |offset, chain, bytes: &mut Vec<u8>| {
            record().encode_around(bytes, &key(), offset, &[chain; 16])
        };
        let here = mac(77, 4, &mut bytes);
        assert_ne!(here, mac(78, 4, &mut bytes));
        assert_ne!(here, mac(77, 5, &mut bytes));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            altered in prop::collection::vec((0..200usize, any::<u8>()), 0..4),
        ) {
            Record::parse(&bytes, &layout());
            let mut bytes = encoded(&record());
            for (at, value) in altered {
                bytes[at] = value;
            }
            if let Some(record) = Record::parse(&bytes, &layout()) {
                prop_assert_eq!(encoded(&record).len(), bytes.len());
            }
        }
    }
}
