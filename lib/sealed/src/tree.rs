//! The tree that tells the newest version of every chunk from all others: nodes of 256 entries, each
//! with a keyed hash over its entries in the node above.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::aead::TAG_LEN;
use crate::disk::read_full;
use crate::layout::{FAN_OUT, SLOT_LEN};
use crate::mac::{About, MacKey, same};
use crate::record::Tag;
use crate::superblock::Superblock;
use crate::{Disk, Error, Failure, Layout};

/// Nodes that are kept in memory.
const KEPT: usize = 1024;

/// What stands in a node for a part of the tree where there are only holes.
pub(crate) const HOLE: Tag = [0; TAG_LEN];

/// Of an entry that names a node, the bit that says in which slot it stands.
const SLOT_BIT: u8 = 1;

struct Node {
    entries: Vec<Tag>,
    /// When it was looked at last.
    used: u64,
}

/// The tree of the last checkpoint, as far as it was looked at.
pub(crate) struct Tree {
    key: MacKey,
    layout: Layout,
    chunks: u64,
    root: Tag,
    kept: BTreeMap<(u8, u64), Node>,
    clock: u64,
}

impl Tree {
    pub fn new(key: MacKey, layout: Layout, superblock: &Superblock) -> Self {
        Self {
            key,
            layout,
            chunks: layout.chunks(superblock.size),
            root: superblock.root,
            kept: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The tag of a chunk; [`HOLE`] for one that was never written.
    pub fn tag<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        chunk: u64,
    ) -> Result<Tag, Failure<D::Error>> {
        if chunk >= self.chunks {
            return Ok(HOLE);
        }
        let leaf = self.node(disk, 0, chunk / FAN_OUT)?;
        Ok(leaf.map_or(HOLE, |entries| entries[(chunk % FAN_OUT) as usize]))
    }

    /// The tags of a chunk and of those behind it in its leaf, a hole among them being [`HOLE`]; none where all of the leaf's are.
    pub fn tags<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        chunk: u64,
    ) -> Result<&[Tag], Failure<D::Error>> {
        let leaf = self.node(disk, 0, chunk / FAN_OUT)?;
        let from = (chunk % FAN_OUT) as usize;
        Ok(leaf
            .and_then(|entries| entries.get(from..))
            .unwrap_or_default())
    }

    /// The first chunk from `chunk` on that is no hole, or that is one, among those before `end`.
    pub fn next<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        chunk: u64,
        end: u64,
        is_hole: bool,
    ) -> Result<u64, Failure<D::Error>> {
        let end = end.min(self.chunks).max(chunk);
        let top = self.layout.top(self.chunks);
        let mut at = chunk;
        while at < end {
            // Down to the leaf, or to where there are only holes below.
            let mut level = top;
            let mut span = FAN_OUT.pow(u32::from(level) + 1);
            loop {
                let entries = self.node(disk, level, at / span)?;
                let Some(entries) = entries else {
                    if is_hole {
                        return Ok(at);
                    }
                    at = (at / span + 1) * span;
                    break;
                };
                if level == 0 {
                    let slot = (at % FAN_OUT) as usize;
                    let found = entries[slot..]
                        .iter()
                        .position(|tag| (*tag == HOLE) == is_hole);
                    match found {
                        Some(further) => return Ok((at + further as u64).min(end)),
                        None => at = (at / FAN_OUT + 1) * FAN_OUT,
                    }
                    break;
                }
                level -= 1;
                span /= FAN_OUT;
            }
        }
        Ok(end)
    }

    /// Entries of a node of a file with so many chunks.
    fn count(chunks: u64, level: u8, index: u64) -> usize {
        let below = chunks.div_ceil(FAN_OUT.pow(u32::from(level)));
        below.saturating_sub(index * FAN_OUT).min(FAN_OUT) as usize
    }

    /// What the node above says of a node.
    fn entry<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        level: u8,
        index: u64,
    ) -> Result<Tag, Failure<D::Error>> {
        let top = self.layout.top(self.chunks);
        if level == top {
            return Ok(if index == 0 { self.root } else { HOLE });
        }
        let above = self.node(disk, level + 1, index / FAN_OUT)?;
        let slot = (index % FAN_OUT) as usize;
        Ok(above
            .and_then(|entries| entries.get(slot).copied())
            .unwrap_or(HOLE))
    }

    /// The entries of a node; `None` where there are only holes.
    fn node<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        level: u8,
        index: u64,
    ) -> Result<Option<&[Tag]>, Failure<D::Error>> {
        let count = Self::count(self.chunks, level, index);
        if level > self.layout.top(self.chunks) || count == 0 {
            return Ok(None);
        }
        self.clock += 1;
        if !self.kept.contains_key(&(level, index)) {
            let entry = self.entry(disk, level, index)?;
            if entry == HOLE {
                return Ok(None);
            }
            let slot = u64::from(entry[TAG_LEN - 1] & SLOT_BIT);
            let offset = self.layout.node_offset(level, index)? + slot * SLOT_LEN as u64;
            let mut entries = vec![HOLE; count];
            read_full(disk, entries.as_flattened_mut(), offset)?;
            if !same(&named(&self.key, level, index, &entries, slot), &entry) {
                let span = FAN_OUT.pow(u32::from(level) + 1);
                return Err(Error::TreeCorrupt {
                    first: index * span,
                    last: ((index + 1) * span).min(self.chunks) - 1,
                }
                .into());
            }
            self.keep(level, index, entries);
        }
        let clock = self.clock;
        Ok(self.kept.get_mut(&(level, index)).map(|node| {
            node.used = clock;
            node.entries.as_slice()
        }))
    }

    fn keep(&mut self, level: u8, index: u64, entries: Vec<Tag>) {
        if self.kept.len() >= KEPT {
            // The younger half stays.
            let mut ages: Vec<u64> = self.kept.values().map(|node| node.used).collect();
            let (_, &mut middle, _) = ages.select_nth_unstable(KEPT / 2);
            self.kept.retain(|_, node| node.used > middle);
        }
        let used = self.clock;
        self.kept.insert((level, index), Node { entries, used });
    }

    /// Writes what `changed` says of chunks into the nodes above them, each into the slot that this
    /// tree does not use: on the disk both trees stand then. Of the others, the first `valid` chunks
    /// stay, and the rest are holes. Answers the root of the new tree.
    pub fn rewrite<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        changed: &BTreeMap<u64, Tag>,
        valid: u64,
        chunks: u64,
    ) -> Result<Tag, Failure<D::Error>> {
        self.rewrite_from(disk, 0, changed.clone(), valid, chunks)
    }

    /// As [`Tree::rewrite`], from a level on: `below` has entries of that level's nodes.
    pub fn rewrite_from<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        from: u8,
        mut below: BTreeMap<u64, Tag>,
        valid: u64,
        chunks: u64,
    ) -> Result<Tag, Failure<D::Error>> {
        let (old_top, new_top) = (self.layout.top(self.chunks), self.layout.top(chunks));
        if chunks == 0 {
            return Ok(HOLE);
        }
        // Of the level at hand: how many entries all its nodes have, and how many of the old ones
        // still count.
        let span = FAN_OUT.pow(u32::from(from));
        let mut old_count = self.chunks.div_ceil(span);
        let mut new_count = chunks.div_ceil(span);
        let mut valid = valid.min(self.chunks).div_ceil(span);
        for level in from..=new_top {
            let mut touched: BTreeSet<u64> = below.keys().map(|child| child / FAN_OUT).collect();
            if (old_count != new_count || valid != new_count)
                && let Some(edge) = valid.checked_sub(1)
            {
                touched.insert(edge / FAN_OUT);
            }
            let mut named_here = BTreeMap::new();
            for index in touched {
                let first = index * FAN_OUT;
                let count = new_count.saturating_sub(first).min(FAN_OUT) as usize;
                if count == 0 {
                    continue;
                }
                let mut entries = vec![HOLE; count];
                let stay = valid.saturating_sub(first).min(count as u64) as usize;
                let all_new = below.range(first..first + stay as u64).count() == stay;
                if stay > 0 && !all_new {
                    if level <= old_top {
                        if let Some(old) = self.node(disk, level, index)? {
                            entries[..stay].copy_from_slice(&old[..stay]);
                        }
                    } else {
                        entries[0] = self.root_at(level, old_top);
                    }
                }
                for (child, entry) in below.range(first..first + count as u64) {
                    entries[(child - first) as usize] = *entry;
                }
                let old = if level <= old_top {
                    self.entry(disk, level, index)?
                } else {
                    HOLE
                };
                let slot = match old {
                    HOLE => 0,
                    old => 1 - u64::from(old[TAG_LEN - 1] & SLOT_BIT),
                };
                let entry = if entries.iter().all(|entry| *entry == HOLE) {
                    HOLE
                } else {
                    let offset = self.layout.node_offset(level, index)? + slot * SLOT_LEN as u64;
                    disk.write_at(entries.as_flattened(), offset)
                        .map_err(Failure::Disk)?;
                    named(&self.key, level, index, &entries, slot)
                };
                named_here.insert(index, entry);
            }
            // What was cut off whole is gone from the nodes above without having been touched.
            below = named_here;
            (old_count, new_count, valid) = (
                old_count.div_ceil(FAN_OUT),
                new_count.div_ceil(FAN_OUT),
                valid.div_ceil(FAN_OUT),
            );
        }
        match below.get(&0) {
            Some(root) => Ok(*root),
            None if valid == 0 => Ok(HOLE),
            None => self.entry(disk, new_top, 0),
        }
    }

    /// The entry that a node above the old top begins with.
    fn root_at(&self, level: u8, old_top: u8) -> Tag {
        if level == old_top + 1 {
            self.root
        } else {
            HOLE
        }
    }
}

/// What names a node in the one above.
pub(crate) fn named(key: &MacKey, level: u8, index: u64, entries: &[Tag], slot: u64) -> Tag {
    let mut entry = key.of(About::Node(level), index, &[entries.as_flattened()]);
    entry[TAG_LEN - 1] = entry[TAG_LEN - 1] & !SLOT_BIT | slot as u8;
    entry
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let mut bytes = [0; N];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        }
        bytes
    }

    /// The example of section 6 of the format, by which a reader that was written from it can be tried.
    #[test]
    fn the_document_shows_a_leaf() {
        const KEY: &str = "1a7b87fff6c3c26e0ebe5448ee8bed41704363e33992f09a5c596876a812da46";
        const CHUNK: &str = "8a4da2796f799cefdfb2e6cd79d45186";
        const SLOTS: [&str; 2] = [
            "ea1b67adfd435c9e6a5253281c4d2576",
            "ea1b67adfd435c9e6a5253281c4d2577",
        ];
        let document = include_str!("../../../docs/format.md");
        for shown in [KEY, CHUNK, SLOTS[0], SLOTS[1]] {
            assert!(document.contains(shown), "{shown}");
        }
        let key = MacKey::new(Zeroizing::new(bytes(KEY)));
        let layout = Layout::new(crate::ChunkSize::MIN);
        for (slot, root) in SLOTS.iter().enumerate() {
            let superblock = Superblock {
                epoch: 1,
                counter: 1,
                size: 1,
                root: bytes(root),
                elder: (0, 0),
                unique: [0; 16],
            };
            // A disk that is the leaf alone, in that slot.
            let place = layout.node_offset(0, 0).unwrap() as usize + slot * SLOT_LEN;
            let mut disk = vec![0; place];
            disk.extend_from_slice(&bytes::<TAG_LEN>(CHUNK));
            let mut tree = Tree::new(key.clone(), layout, &superblock);
            assert_eq!(tree.tag(disk.as_slice(), 0), Ok(bytes(CHUNK)));
            // Nor in the other one.
            let wrong = Superblock {
                root: bytes(SLOTS[1 - slot]),
                ..superblock
            };
            let mut tree = Tree::new(key.clone(), layout, &wrong);
            assert!(tree.tag(disk.as_slice(), 0).is_err());
        }
    }
}
