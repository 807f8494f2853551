//! Which of the chunks that were saved are the newest at their places, as far as what is left of the
//! file tells.
//!
//! The tags of a group are known twice: from its table, and from those of its chunks that were
//! saved. Where the two differ, the table is damaged or the chunk is an older one. Which of them is
//! right is told by the digest of the group, and of all together by the root: nobody without the
//! key can make it, and it fits one state of the file only.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sealed::{Digest, FileCipher, GROUP_CHUNKS, Root, TABLE_LEN, TAG_LEN, Tag};

/// Collects the tags of a file from its beginning to its end.
pub struct Newest<'a> {
    file: &'a File,
    cipher: &'a FileCipher,
    root: Option<Root>,
    /// A chunk that the journal had: its slot in the table may be torn.
    kept: Option<(u64, Tag)>,
    groups: Vec<Group>,
    /// Of the group at hand, the tags of its chunks; `None` for those that are lost.
    saved: Vec<Option<Tag>>,
    /// How far from its place the table of that group may be: at least one.
    shifts: Vec<i64>,
}

/// What is known of a group that was gone through.
struct Group {
    /// What its table begins with; `None` where that may be torn.
    stored: Option<Digest>,
    /// Of the tags in the table.
    by_table: Digest,
    /// Of the tags of the chunks, with those of the table for the ones that are lost.
    by_chunks: Digest,
    /// Indices of chunks whose tag is not that in the table.
    differing: Vec<Range<u64>>,
}

impl Group {
    fn stored(&self) -> Digest {
        self.stored.unwrap_or(self.by_table)
    }

    /// The digest that two of three say.
    fn agreed(&self) -> Option<Digest> {
        let (table, chunks) = (Some(self.by_table), Some(self.by_chunks));
        if self.stored == table || self.stored == chunks {
            self.stored
        } else {
            table.filter(|_| table == chunks)
        }
    }
}

/// Which digest a group had in the newest state of the file: what is tried one after the other, the
/// same for all groups.
const GUESSES: [fn(&Group) -> Digest; 3] = [
    // A chunk, a slot or the digest is another one, or a whole table is.
    |group| group.agreed().unwrap_or(group.by_chunks),
    // Both a slot and another chunk are.
    |group| group.agreed().unwrap_or_else(|| group.stored()),
    // Both a chunk and its slot are.
    Group::stored,
];

/// The tags of a group.
struct Tags {
    by_table: Vec<Tag>,
    by_chunks: Vec<Tag>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the root fits: then the size of the file is right, and all is the newest but for what
    /// follows.
    pub root_fits: bool,
    /// Chunks that are older ones.
    pub stale: Vec<Range<u64>>,
    /// Chunks of which some may be older ones.
    pub unproven: Vec<Range<u64>>,
}

impl<'a> Newest<'a> {
    pub fn new(
        file: &'a File,
        cipher: &'a FileCipher,
        root: Option<Root>,
        kept: Option<(u64, Tag)>,
    ) -> Self {
        Self {
            file,
            cipher,
            root,
            kept,
            groups: Vec::new(),
            saved: Vec::new(),
            shifts: vec![0],
        }
    }

    /// The next chunks were saved, from so far beside their places.
    pub fn saved(&mut self, tags: &[Tag], shift: i64) {
        for &tag in tags {
            self.next(Some(tag), shift);
        }
    }

    /// The next chunks are lost, and so far from their places they were looked for.
    pub fn lost(&mut self, count: u64, shift: i64) {
        for _ in 0..count {
            self.next(None, shift);
        }
    }

    fn next(&mut self, tag: Option<Tag>, shift: i64) {
        if self.saved.len() as u64 == GROUP_CHUNKS {
            let (group, _) = self.close();
            self.groups.push(group);
        }
        if !self.shifts.contains(&shift) {
            self.shifts.push(shift);
        }
        self.saved.push(tag);
    }

    /// Ends the group at hand.
    fn close(&mut self) -> (Group, Tags) {
        let index = self.groups.len() as u64;
        let first = index * GROUP_CHUNKS;
        let saved = std::mem::take(&mut self.saved);
        let (stored, mut by_table) = self.table(index, &saved);
        // The next table may be found before the first of its chunks is looked for elsewhere.
        self.shifts.drain(..self.shifts.len() - 1);
        let kept = self.kept.and_then(|(chunk, tag)| {
            let slot = usize::try_from(chunk.checked_sub(first)?).ok()?;
            Some((by_table.get_mut(slot)?, tag))
        });
        let is_changing = kept.is_some();
        if let Some((slot, tag)) = kept {
            *slot = tag;
        }
        let by_chunks: Vec<Tag> = saved
            .iter()
            .zip(&by_table)
            .map(|(saved, slot)| saved.unwrap_or(*slot))
            .collect();
        let mut differing = Vec::new();
        for (chunk, (a, b)) in (first..).zip(by_table.iter().zip(&by_chunks)) {
            if a != b {
                push(&mut differing, chunk..chunk + 1);
            }
        }
        let group = Group {
            stored: (!is_changing).then_some(stored),
            by_table: self.cipher.digest_of(index, by_table.as_flattened()),
            by_chunks: self.cipher.digest_of(index, by_chunks.as_flattened()),
            differing,
        };
        let tags = Tags {
            by_table,
            by_chunks,
        };
        (group, tags)
    }

    /// The digest and the slots in a group's table: from where it fits best what was saved.
    fn table(&self, group: u64, saved: &[Option<Tag>]) -> (Digest, Vec<Tag>) {
        let place = self.cipher.layout().table_offset(group).ok();
        let mut best = (0, Digest::from_bytes([0; TAG_LEN]), Vec::new());
        for shift in &self.shifts {
            let mut table = [0; TABLE_LEN];
            if let Some(at) = place.and_then(|place| place.checked_add_signed(*shift)) {
                read_some(self.file, &mut table, at);
            }
            let (entries, _) = table.as_chunks();
            let (digest, slots) = entries.split_first().expect("a table has entries");
            let slots = &slots[..saved.len()];
            let fitting = saved
                .iter()
                .zip(slots)
                .filter(|(saved, slot)| saved.as_ref() == Some(slot))
                .count();
            if best.2.is_empty() || fitting > best.0 {
                best = (fitting, Digest::from_bytes(*digest), slots.to_vec());
            }
        }
        (best.1, best.2)
    }

    /// Tells what is the newest, given the size that the file's plaintext seems to have.
    pub fn judge(mut self, size: u64) -> Judgement {
        let (last, tags) = self.close();
        for digest_of in GUESSES {
            let digests: Vec<Digest> = self.groups.iter().map(digest_of).collect();
            for last_tags in [&tags.by_chunks, &tags.by_table] {
                if self.fits(digests.clone(), last_tags, size) {
                    let mut judgement = self.with(&digests);
                    if *last_tags != tags.by_chunks {
                        extend(&mut judgement.stale, &last.differing);
                    }
                    return judgement;
                }
            }
        }
        Judgement::default()
    }

    fn fits(&self, digests: Vec<Digest>, last_tags: &[Tag], size: u64) -> bool {
        self.root.is_some_and(|root| {
            let tags = last_tags.as_flattened();
            let tree = self.cipher.verify_tree(digests, tags, size, root);
            tree.is_ok()
        })
    }

    /// What those digests say, which are the right ones, of all groups but the last.
    fn with(&self, digests: &[Digest]) -> Judgement {
        let mut judgement = Judgement {
            root_fits: true,
            ..Judgement::default()
        };
        for ((index, group), digest) in (0..).zip(&self.groups).zip(digests) {
            if group.by_chunks == *digest {
                continue;
            }
            if group.by_table == *digest {
                extend(&mut judgement.stale, &group.differing);
            } else {
                let chunks = index * GROUP_CHUNKS..(index + 1) * GROUP_CHUNKS;
                push(&mut judgement.unproven, chunks);
            }
        }
        judgement
    }
}

/// Adds a range that lies behind the others, or goes on with the last one.
pub fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn extend(ranges: &mut Vec<Range<u64>>, by: &[Range<u64>]) {
    for range in by {
        push(ranges, range.clone());
    }
}

/// Reads as much as there is and can be read.
fn read_some(file: &File, mut buffer: &mut [u8], mut at: u64) {
    while let Ok(read @ 1..) = file.read_at(buffer, at) {
        buffer = &mut buffer[read..];
        at += read as u64;
    }
}
