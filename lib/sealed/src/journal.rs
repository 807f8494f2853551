//! The journal: what a change that was cut short is undone or completed by.
//!
//! Changing a chunk in place is not atomic: a process that is killed in the middle of the write
//! leaves a mixture that does not authenticate. So before a chunk is overwritten, either what it
//! becomes or what it was is put into the journal, and the entry is cleared when the change is
//! complete. An entry found live says which chunk to put where, and which one is the last:
//!
//! | change | the journal holds |
//! |---|---|
//! | a chunk is overwritten | the new chunk |
//! | the file grows | the old final chunk |
//! | the file shrinks | the new final chunk |
//! | a file is begun | that it is empty |
//!
//! Either way [restoring](Restore) is the same, and harmless when done twice. One journal suffices
//! for changes of any length, for a run of chunks is overwritten one at a time.
//!
//! The [root](Root) of the file's tree stands here too, for it changes with everything: one for the
//! file as it is when the entry is clear, one for the file as a live entry restores it.

use core::fmt;

use crate::{HEADER_LEN, Layout, Root, TAG_LEN, Tag};

/// Bytes of a journal entry, not counting the chunk behind it.
pub const ENTRY_LEN: usize = MARK_AT + MARK_LEN;

// Before all else: it has to be there as soon as the entry before is not live any more.
const ROOT_AT: usize = 0;
/// Physical offset of the root of a file's tree, as it stands in a clear journal.
pub const ROOT_OFFSET: u64 = (HEADER_LEN + ROOT_AT) as u64;

const INDEX_AT: usize = ROOT_AT + Root::LEN;
const KIND_AT: usize = INDEX_AT + 8;
const LEN_AT: usize = KIND_AT + 4;
const TAG_AT: usize = LEN_AT + 4;
const RESTORED_ROOT_AT: usize = TAG_AT + TAG_LEN;
const STAMP_AT: usize = RESTORED_ROOT_AT + Root::LEN;
// Behind all else: as long as an entry is written in part, it is not live.
const MARK_AT: usize = STAMP_AT + Stamp::LEN;
const MARK_LEN: usize = 16;

const EMPTY: u8 = 1;
const FULL: u8 = 2;
const FINAL: u8 = 3;

/// What a live entry ends with; only a holder of the key can tell it or make it.
pub(crate) type Mark = [u8; MARK_LEN];

/// Names one state of a file: every change leaves another one behind. Who has read a file and
/// finds the stamp unchanged, and no entry live, knows all of it unchanged.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp([u8; Stamp::LEN]);

impl Stamp {
    /// Bytes of a stamp.
    pub const LEN: usize = 16;

    /// A stamp of these bytes, which have to be random.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The stamp of a file when the change is complete that was announced with this one.
    pub fn next(self) -> Self {
        Self(u128::from_le_bytes(self.0).wrapping_add(1).to_le_bytes())
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamp(")?;
        crate::write_hex(f, &self.0)?;
        f.write_str(")")
    }
}

/// What brings a file to a whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// Cut it to nothing.
    Empty,
    /// Put the chunk that follows the entry to its place.
    Chunk {
        /// Index of the chunk.
        index: u64,
        /// For the file's final chunk, how many bytes of plaintext it holds: the file is cut
        /// behind it. `None` for a full chunk.
        final_len: Option<usize>,
        /// The tag of the chunk that belongs to the entry: a journal whose own writing was cut
        /// short holds another one.
        tag: Tag,
        /// The root of the file's tree when that is done.
        root: Root,
    },
}

impl Restore {
    /// Bytes of the chunk behind the entry.
    pub fn sealed_len(&self, layout: &Layout) -> usize {
        match self {
            Self::Empty => 0,
            Self::Chunk {
                final_len: None, ..
            } => layout.sealed_chunk_len(),
            Self::Chunk {
                final_len: Some(len),
                ..
            } => len + layout.overhead(),
        }
    }
}

/// The head of the journal, found between the header and the first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The root of the file's tree as long as there is nothing to be done.
    pub root: Root,
    /// Names the state of the file.
    pub stamp: Stamp,
    /// What is to be done; `None` when the last change was completed.
    pub restore: Option<Restore>,
}

impl Entry {
    /// Reads an entry. What is neither live nor clear was being written: it counts as clear, for
    /// no chunk had been touched yet.
    pub(crate) fn parse(bytes: &[u8; ENTRY_LEN], mark: &Mark, layout: &Layout) -> Self {
        Self {
            root: Root::from_bytes(field(bytes, ROOT_AT)),
            stamp: Stamp(field(bytes, STAMP_AT)),
            restore: (field(bytes, MARK_AT) == *mark)
                .then(|| parse_restore(bytes, layout))
                .flatten(),
        }
    }

    pub(crate) fn encode(&self, mark: &Mark) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[ROOT_AT..INDEX_AT].copy_from_slice(self.root.as_bytes());
        bytes[STAMP_AT..MARK_AT].copy_from_slice(&self.stamp.0);
        let Some(restore) = self.restore else {
            return bytes;
        };
        bytes[MARK_AT..].copy_from_slice(mark);
        match restore {
            Restore::Empty => bytes[KIND_AT] = EMPTY,
            Restore::Chunk {
                index,
                final_len,
                tag,
                root,
            } => {
                bytes[INDEX_AT..KIND_AT].copy_from_slice(&index.to_le_bytes());
                bytes[KIND_AT] = if final_len.is_some() { FINAL } else { FULL };
                // A chunk size is at most 64 KiB.
                let len = final_len.unwrap_or_default() as u32;
                bytes[LEN_AT..TAG_AT].copy_from_slice(&len.to_le_bytes());
                bytes[TAG_AT..RESTORED_ROOT_AT].copy_from_slice(&tag);
                bytes[RESTORED_ROOT_AT..STAMP_AT].copy_from_slice(root.as_bytes());
            }
        }
        bytes
    }

    /// Whether an entry looks live to who has no key.
    pub fn may_be_live(bytes: &[u8; ENTRY_LEN]) -> bool {
        bytes[MARK_AT..].iter().any(|&byte| byte != 0)
    }
}

fn parse_restore(bytes: &[u8; ENTRY_LEN], layout: &Layout) -> Option<Restore> {
    let len = u32::from_le_bytes(field(bytes, LEN_AT)) as usize;
    let final_len = match bytes[KIND_AT] {
        EMPTY => return Some(Restore::Empty),
        FULL => None,
        FINAL if len < layout.chunk_size() => Some(len),
        _ => return None,
    };
    Some(Restore::Chunk {
        index: u64::from_le_bytes(field(bytes, INDEX_AT)),
        final_len,
        tag: field(bytes, TAG_AT),
        root: Root::from_bytes(field(bytes, RESTORED_ROOT_AT)),
    })
}

/// The `N` bytes at `at`, which the constants above keep inside the entry.
fn field<const N: usize>(bytes: &[u8; ENTRY_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Params;

    const MARK: Mark = [0xAB; MARK_LEN];

    fn layout() -> Layout {
        Params::default().layout()
    }

    fn parse(bytes: &[u8; ENTRY_LEN]) -> Entry {
        Entry::parse(bytes, &MARK, &layout())
    }

    fn entry(restore: Option<Restore>) -> Entry {
        Entry {
            root: Root::from_bytes([5; Root::LEN]),
            stamp: Stamp([7; Stamp::LEN]),
            restore,
        }
    }

    fn chunk(index: u64, final_len: Option<usize>) -> Restore {
        Restore::Chunk {
            index,
            final_len,
            tag: [9; TAG_LEN],
            root: Root::from_bytes([6; Root::LEN]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(ENTRY_LEN, 96);
        for restore in [
            None,
            Some(Restore::Empty),
            Some(chunk(0, None)),
            Some(chunk(u64::MAX, None)),
            Some(chunk(3, Some(0))),
            Some(chunk(4, Some(4095))),
        ] {
            let bytes = entry(restore).encode(&MARK);
            assert_eq!(parse(&bytes), entry(restore));
            assert_eq!(Entry::may_be_live(&bytes), restore.is_some());
        }
    }

    /// Wherever the writing of one entry over another is cut off, the file reads as before it or
    /// as after.
    #[test]
    fn half_an_entry_is_one_of_the_two_or_none() {
        let live = entry(Some(chunk(1, None)));
        let next = Entry {
            root: Root::from_bytes([8; Root::LEN]),
            stamp: Stamp([9; Stamp::LEN]),
            restore: Some(chunk(2, None)),
        };
        let clear = Entry {
            restore: None,
            ..next
        };
        for after in [next, clear] {
            for cut in 0..=ENTRY_LEN {
                let mut bytes = live.encode(&MARK);
                bytes[..cut].copy_from_slice(&after.encode(&MARK)[..cut]);
                let read = parse(&bytes);
                let live = matches!(read.restore, Some(Restore::Chunk { index: 1, .. }));
                assert_eq!(live, cut <= INDEX_AT, "{cut}");
                // What is not the old entry any more has the new root already.
                assert!(live || read.root == after.root);
            }
        }
    }

    #[test]
    fn an_impossible_entry_is_not_live() {
        let live = entry(Some(chunk(1, Some(5)))).encode(&MARK);
        for (at, value) in [(KIND_AT, 0), (KIND_AT, 4), (LEN_AT + 1, 16), (MARK_AT, 0)] {
            let mut bytes = live;
            bytes[at] = value;
            assert_eq!(parse(&bytes).restore, None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse(bytes in prop::array::uniform32(any::<u8>()), live in any::<bool>()) {
            let mut entry = [0; ENTRY_LEN];
            entry[..32].copy_from_slice(&bytes);
            if live {
                entry[MARK_AT..].copy_from_slice(&MARK);
            }
            let layout = layout();
            if let Some(restore) = parse(&entry).restore {
                prop_assert!(live && restore.sealed_len(&layout) <= layout.sealed_chunk_len());
            }
        }
    }
}
