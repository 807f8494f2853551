//! Which version of each chunk is the newest: a tree of MACs over the tags of all chunks.
//!
//! A chunk authenticates by itself, and so does every older version of it at the same place. The
//! tree tells them apart: the tags of 256 chunks, a *group*, stand in a table before them; each
//! table has a digest; and the root, in the head of the file, covers the digests of all groups. An
//! old chunk does not have the tag in the table, an old table not the digest, and an old digest not
//! the root. What remains is to put back all of an older file.
//!
//! ```text
//!                  root = MAC(size, XOR of nodes, XOR of the last group's rows)
//!            node = MAC(g, digest)          node = MAC(g, digest)      ...    |
//!           digest = MAC(g, XOR of rows)   digest = MAC(g, XOR of rows)       |
//!       row = MAC(r, 4 tags) ...       row = MAC(r, 4 tags) ...        row = MAC(r, 4 tags) ...
//! ```
//!
//! The sums are those of an XOR MAC (Bellare, Guérin and Rogaway, 1995): a change of one chunk costs
//! a handful of short MACs, however large the file. They are secret, for linear relations between
//! known ones would let other sets of tags be found that have the same sum; what stands in the file
//! are MACs of them. All MACs are BLAKE2s (RFC 7693) under one key a file, told apart by its
//! personalization and numbered by its salt.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use blake2::Blake2sMac;
use blake2::digest::{FixedOutput, Update, typenum::U16};

use crate::keys::SecretKey;
use crate::layout::{DIGEST_LEN, GROUP_CHUNKS};
use crate::{Error, Layout, TAG_LEN};

/// The authentication tag of a chunk.
pub type Tag = [u8; TAG_LEN];

/// Tags that are put into a MAC together: as many as fill a block of it.
const ROW: usize = 4;

/// Groups whose tags are kept at most, beside the last one: 4 MiB of tags, of a gibibyte of chunks
/// of the default size.
const KEPT_GROUPS: usize = 1024;

/// What a MAC here is about: the personalization of BLAKE2s.
#[derive(Clone, Copy)]
enum Of {
    Row,
    Group,
    Node,
    Root,
}

impl Of {
    fn personalization(self) -> &'static [u8; 8] {
        match self {
            Self::Row => b"tree row",
            Self::Group => b"tree grp",
            Self::Node => b"tree nod",
            Self::Root => b"tree top",
        }
    }
}

/// Stands for all tags of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; DIGEST_LEN]);

impl Digest {
    /// Bytes of a digest.
    pub const LEN: usize = DIGEST_LEN;

    /// The digest of these bytes, from where they stand in a table.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The digest of a group with these tags, as they stand in its table.
    pub(crate) fn of(key: &TreeKey, group: u64, tags: &[u8]) -> Self {
        Group::from_table(key, group, tags).digest(key)
    }

    /// The digest as it stands in a table.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// Stands for the tags of all chunks of a file, and its size.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Root([u8; Root::LEN]);

impl Root {
    /// Bytes of a root.
    pub const LEN: usize = 16;

    /// The root of these bytes.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The root as it stands in the file.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(")?;
        crate::write_hex(f, &self.0)?;
        f.write_str(")")
    }
}

/// The key of a file's tree. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct TreeKey(SecretKey);

impl TreeKey {
    pub fn new(secret: SecretKey) -> Self {
        Self(secret)
    }

    fn mac(&self, of: Of, number: u64, message: &[u8]) -> [u8; DIGEST_LEN] {
        let mut mac = Blake2sMac::<U16>::new_with_salt_and_personal(
            Some(self.0.as_slice()),
            &number.to_le_bytes(),
            of.personalization(),
        )
        .expect("32, 8 and 8 bytes are what BLAKE2s takes");
        mac.update(message);
        mac.finalize_fixed().into()
    }

    fn sum(&self, of: Of, number: u64, message: &[u8]) -> u128 {
        u128::from_le_bytes(self.mac(of, number, message))
    }
}

/// The tags of one group's chunks.
struct Group {
    index: u64,
    tags: Vec<Tag>,
    /// The MAC of each row.
    rows: Vec<u128>,
    /// The rows, taken together.
    sum: u128,
}

impl Group {
    fn new(index: u64) -> Self {
        Self {
            index,
            tags: Vec::new(),
            rows: Vec::new(),
            sum: 0,
        }
    }

    /// The tags in a table, which begins with them.
    fn from_table(key: &TreeKey, index: u64, tags: &[u8]) -> Self {
        let mut group = Self::new(index);
        group.put(key, 0, tags.as_chunks().0.iter().copied());
        group
    }

    /// Makes the MACs of rows anew, those of the slots in a range.
    fn renew(&mut self, key: &TreeKey, from: usize, to: usize) {
        self.rows.resize(self.tags.len().div_ceil(ROW), 0);
        let first = from / ROW;
        let number = self.index * (GROUP_CHUNKS / ROW as u64) + first as u64;
        let tags = self.tags.chunks(ROW).zip(&mut self.rows);
        for (number, (tags, row)) in (number..).zip(tags.take(to.div_ceil(ROW)).skip(first)) {
            let renewed = key.sum(Of::Row, number, tags.as_flattened());
            self.sum ^= core::mem::replace(row, renewed) ^ renewed;
        }
    }

    /// Replaces tags from a slot on, or adds to them.
    fn put(&mut self, key: &TreeKey, slot: usize, tags: impl ExactSizeIterator<Item = Tag>) {
        let end = slot + tags.len();
        self.tags.resize(self.tags.len().max(end), [0; TAG_LEN]);
        for (place, tag) in self.tags[slot..].iter_mut().zip(tags) {
            *place = tag;
        }
        self.renew(key, slot, end);
    }

    /// Forgets all tags but the first ones.
    fn truncate(&mut self, key: &TreeKey, len: usize) {
        self.tags.truncate(len);
        let gone = self.rows.drain(len.div_ceil(ROW).min(self.rows.len())..);
        self.sum = gone.fold(self.sum, |sum, row| sum ^ row);
        // The row that the cut goes through is shorter now.
        if !len.is_multiple_of(ROW) {
            self.renew(key, len, len);
        }
    }

    fn digest(&self, key: &TreeKey) -> Digest {
        Digest(key.mac(Of::Group, self.index, &self.sum.to_le_bytes()))
    }
}

/// A group that is not the last.
struct Closed {
    digest: Digest,
    /// The MAC of the digest.
    node: u128,
}

impl Closed {
    fn new(key: &TreeKey, group: u64, digest: Digest) -> Self {
        Self {
            node: key.sum(Of::Node, group, &digest.0),
            digest,
        }
    }
}

/// What is known of the tags of a file: the digests of all groups, the tags of the last one, and
/// those of others that were asked for.
///
/// It does no I/O: who has the file reads tables, or parts of them, and gives them to
/// [`Tree::verify`] and [`Tree::admit`].
pub struct Tree {
    key: TreeKey,
    closed: Vec<Closed>,
    /// The nodes of those, taken together.
    sum: u128,
    last: Group,
    kept: BTreeMap<u64, Group>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("groups", &(self.closed.len() + 1))
            .finish_non_exhaustive()
    }
}

impl Tree {
    /// The tree of a file without chunks.
    pub(crate) fn new(key: TreeKey) -> Self {
        Self {
            key,
            closed: Vec::new(),
            sum: 0,
            last: Group::new(0),
            kept: BTreeMap::new(),
        }
    }

    /// The tree of a file of `size` bytes of plaintext: from the digests of all groups but the
    /// last, and the tags of the last one as they stand in its table.
    ///
    /// # Errors
    /// [`Error::RootCorrupt`] where they are not those that the root was made of.
    pub(crate) fn verify(
        key: TreeKey,
        digests: Vec<Digest>,
        last_tags: &[u8],
        size: u64,
        root: Root,
    ) -> Result<Self, Error> {
        let index = digests.len() as u64;
        let mut tree = Self::new(key);
        tree.last = Group::from_table(&tree.key, index, last_tags);
        tree.closed = (0..)
            .zip(digests)
            .map(|(index, digest)| Closed::new(&tree.key, index, digest))
            .collect();
        tree.sum = tree.closed.iter().fold(0, |sum, closed| sum ^ closed.node);
        if tree.root(size) != root {
            return Err(Error::RootCorrupt);
        }
        Ok(tree)
    }

    /// The root of the file, given the size of its plaintext.
    pub fn root(&self, size: u64) -> Root {
        let sums = [self.sum.to_le_bytes(), self.last.sum.to_le_bytes()];
        Root(self.key.mac(Of::Root, size, sums.as_flattened()))
    }

    /// Index of the last group.
    pub fn last_group(&self) -> u64 {
        self.last.index
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.last.index * GROUP_CHUNKS + self.last.tags.len() as u64
    }

    fn group(&self, index: u64) -> Option<&Group> {
        if index == self.last.index {
            Some(&self.last)
        } else {
            self.kept.get(&index)
        }
    }

    /// Whether the tags of a group are at hand.
    pub fn has(&self, group: u64) -> bool {
        self.group(group).is_some()
    }

    /// Takes the tags of a group that is not the last, as they stand in its table.
    ///
    /// # Errors
    /// [`Error::TableCorrupt`] where they are not those that its digest was made of.
    pub fn admit(&mut self, group: u64, tags: &[u8]) -> Result<(), Error> {
        let corrupt = Error::TableCorrupt { group };
        let read = Group::from_table(&self.key, group, tags);
        let closed = self.closed(group).ok_or(corrupt)?;
        if read.tags.len() as u64 != GROUP_CHUNKS || read.digest(&self.key) != closed.digest {
            return Err(corrupt);
        }
        self.keep(read);
        Ok(())
    }

    fn closed(&self, group: u64) -> Option<&Closed> {
        self.closed.get(usize::try_from(group).ok()?)
    }

    fn keep(&mut self, group: Group) {
        if self.kept.len() >= KEPT_GROUPS {
            // The farthest goes: what is being changed now lies together.
            let first = self.kept.first_key_value().map_or(0, |(&index, _)| index);
            let last = self.kept.last_key_value().map_or(0, |(&index, _)| index);
            let farthest = if group.index.abs_diff(first) > group.index.abs_diff(last) {
                first
            } else {
                last
            };
            self.kept.remove(&farthest);
        }
        self.kept.insert(group.index, group);
    }

    /// The tag of a chunk, if its group is at hand.
    pub fn tag(&self, chunk: u64) -> Option<&Tag> {
        self.group(chunk / GROUP_CHUNKS)?
            .tags
            .get((chunk % GROUP_CHUNKS) as usize)
    }

    /// Whether sealed chunks, of which the first has index `first`, are the newest at their places.
    /// They are as they lie on the disk, of one group, and the last one may be shorter.
    ///
    /// # Errors
    /// [`Error::Stale`] where one is not.
    pub fn check(&self, layout: &Layout, first: u64, sealed: &[u8]) -> Result<(), Error> {
        (first..)
            .zip(tags_of(layout, sealed))
            .find(|(index, tag)| self.tag(*index) != Some(tag))
            .map_or(Ok(()), |(index, _)| Err(Error::Stale { index }))
    }

    /// Takes the tags of chunks that are about to be written, of which the first has index `first`:
    /// in the place of others, or at the end.
    ///
    /// # Errors
    /// [`Error::BufferSize`] where chunks would be left out, or a group is not at hand.
    pub fn put(&mut self, first: u64, tags: &[Tag]) -> Result<(), Error> {
        if first > self.chunks() {
            return Err(Error::BufferSize);
        }
        let (mut first, mut rest) = (first, tags);
        while !rest.is_empty() {
            let slot = (first % GROUP_CHUNKS) as usize;
            let count = rest.len().min(GROUP_CHUNKS as usize - slot);
            let (tags, others) = rest.split_at(count);
            self.put_in_group(first / GROUP_CHUNKS, slot, tags)?;
            first += count as u64;
            rest = others;
        }
        Ok(())
    }

    fn put_in_group(&mut self, group: u64, slot: usize, tags: &[Tag]) -> Result<(), Error> {
        if group > self.last.index {
            let full = core::mem::replace(&mut self.last, Group::new(group));
            let closed = Closed::new(&self.key, full.index, full.digest(&self.key));
            self.sum ^= closed.node;
            self.closed.push(closed);
            self.keep(full);
        }
        let tags = tags.iter().copied();
        if group == self.last.index {
            self.last.put(&self.key, slot, tags);
            return Ok(());
        }
        let changed = self.kept.get_mut(&group).ok_or(Error::BufferSize)?;
        changed.put(&self.key, slot, tags);
        let now = Closed::new(&self.key, group, changed.digest(&self.key));
        let known = usize::try_from(group)
            .ok()
            .and_then(|group| self.closed.get_mut(group))
            .ok_or(Error::BufferSize)?;
        self.sum ^= now.node ^ known.node;
        *known = now;
        Ok(())
    }

    /// Forgets all chunks but the first `chunks`, at least one.
    ///
    /// # Errors
    /// [`Error::BufferSize`] where the group that becomes the last is not at hand.
    pub fn truncate(&mut self, chunks: u64) -> Result<(), Error> {
        let group = chunks.saturating_sub(1) / GROUP_CHUNKS;
        if group < self.last.index {
            self.last = self.kept.remove(&group).ok_or(Error::BufferSize)?;
            self.kept.retain(|&index, _| index < group);
            for closed in self.closed.drain(group as usize..) {
                self.sum ^= closed.node;
            }
        }
        let len = (chunks - group * GROUP_CHUNKS) as usize;
        if len < self.last.tags.len() {
            self.last.truncate(&self.key, len);
        }
        Ok(())
    }

    /// The table of a group up to the last tag there is, with its digest: empty for one that is not
    /// at hand.
    pub fn table(&self, group: u64) -> Vec<u8> {
        let Some(group) = self.group(group) else {
            return Vec::new();
        };
        let digest = match self.closed(group.index) {
            Some(closed) => closed.digest,
            None => group.digest(&self.key),
        };
        let mut table = digest.0.to_vec();
        table.extend_from_slice(group.tags.as_flattened());
        table
    }

    /// What the table of a group has to say after the `count` chunks from `first` on, all of that
    /// group, have changed: an offset into the table, and the bytes from there on.
    pub fn table_part(&self, first: u64, count: usize) -> (usize, Vec<u8>) {
        let index = first / GROUP_CHUNKS;
        let slot = (first % GROUP_CHUNKS) as usize;
        let Some(group) = self.group(index) else {
            return (0, Vec::new());
        };
        let end = (slot + count).min(group.tags.len());
        match self.closed(index) {
            Some(closed) => {
                let tags = group.tags[..end].as_flattened();
                (0, [closed.digest.0.as_slice(), tags].concat())
            }
            // The digest counts from when another group follows.
            None => {
                let tags = group.tags.get(slot..end).unwrap_or_default();
                (DIGEST_LEN + slot * TAG_LEN, tags.as_flattened().to_vec())
            }
        }
    }
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

    use super::*;
    use crate::layout::TABLE_LEN;

    fn key() -> TreeKey {
        TreeKey::new(SecretKey::new([7; 32]))
    }

    fn tag(seed: u64) -> Tag {
        let mut tag = [0x5A; TAG_LEN];
        tag[..8].copy_from_slice(&seed.to_le_bytes());
        tag
    }

    /// The tree made from scratch.
    fn root_of(tags: &[Tag], size: u64) -> Root {
        let mut tree = Tree::new(key());
        tree.put(0, tags).unwrap();
        assert_eq!(tree.chunks(), tags.len() as u64);
        tree.root(size)
    }

    /// A tree as a reader makes it from tables.
    fn read(tables: &[Vec<u8>], chunks: u64, size: u64, root: Root) -> Result<Tree, Error> {
        let last = (chunks - 1) / GROUP_CHUNKS;
        let digests = tables[..last as usize]
            .iter()
            .map(|table| Digest::from_bytes(*table.first_chunk().unwrap()))
            .collect();
        let len = (chunks - last * GROUP_CHUNKS) as usize * TAG_LEN;
        let tags = &tables[last as usize][DIGEST_LEN..][..len];
        Tree::verify(key(), digests, tags, size, root)
    }

    #[derive(Clone, Debug)]
    enum Change {
        Put { first: u64, count: usize, seed: u64 },
        Truncate(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (any::<u64>(), 1..600usize, any::<u64>())
                .prop_map(|(first, count, seed)| { Change::Put { first, count, seed } }),
            (any::<u64>(), 1..5usize, any::<u64>())
                .prop_map(|(first, count, seed)| { Change::Put { first, count, seed } }),
            any::<u64>().prop_map(Change::Truncate),
        ]
    }

    proptest! {
        /// However a file came to be, its root is that of its tags, and its tables are read again.
        #[test]
        fn changes_leave_the_root_of_what_is_there(changes in prop::collection::vec(change(), 1..12)) {
            let mut tags = vec![tag(1)];
            let mut tree = Tree::new(key());
            tree.put(0, &tags).unwrap();
            let mut tables: Vec<Vec<u8>> = Vec::new();
            let mut write = |tree: &Tree, first: u64, count: usize| {
                let (mut first, end) = (first, first + count as u64);
                while first < end {
                    let group = (first / GROUP_CHUNKS) as usize;
                    let count = (end - first).min(GROUP_CHUNKS - first % GROUP_CHUNKS);
                    if tables.len() <= group {
                        tables.resize(group + 1, vec![0; TABLE_LEN]);
                    }
                    let (offset, part) = tree.table_part(first, count as usize);
                    tables[group][offset..][..part.len()].copy_from_slice(&part);
                    first += count;
                }
                tables.clone()
            };
            let mut read_tables = write(&tree, 0, 1);
            for change in changes {
                match change {
                    Change::Put { first, count, seed } => {
                        // A file grows from its final chunk on.
                        let first = first % tree.chunks();
                        let new: Vec<Tag> = (0..count as u64).map(|i| tag(seed ^ i)).collect();
                        tree.put(first, &new).unwrap();
                        tags.resize(tags.len().max(first as usize + count), [0; TAG_LEN]);
                        tags[first as usize..][..count].copy_from_slice(&new);
                        read_tables = write(&tree, first, count);
                    }
                    Change::Truncate(chunks) => {
                        let chunks = chunks % tree.chunks() + 1;
                        tree.truncate(chunks).unwrap();
                        tags.truncate(chunks as usize);
                    }
                }
                prop_assert_eq!(tree.root(9), root_of(&tags, 9));
                let mut again = read(&read_tables, tree.chunks(), 9, tree.root(9)).unwrap();
                for group in 0..again.last_group() {
                    again.admit(group, &read_tables[group as usize][DIGEST_LEN..]).unwrap();
                }
                for (index, tag) in (0..).zip(&tags) {
                    prop_assert_eq!(again.tag(index), Some(tag));
                }
                prop_assert_eq!(again.tag(tags.len() as u64), None);
            }
        }
    }

    #[test]
    fn the_root_tells_every_difference() {
        let tags: Vec<Tag> = (0..300).map(tag).collect();
        let root = root_of(&tags, 5);
        assert_ne!(root, root_of(&tags, 6));
        assert_ne!(root, root_of(&tags[..299], 5));
        for at in [0, 1, 3, 4, 255, 256, 299] {
            let mut other = tags.clone();
            other[at][15] ^= 1;
            assert_ne!(root, root_of(&other, 5), "{at}");
            let mut swapped = tags.clone();
            swapped.swap(at, (at + 1) % 300);
            assert_ne!(root, root_of(&swapped, 5), "{at}");
        }
    }

    #[test]
    fn what_is_not_of_the_newest_state_is_refused() {
        let tags: Vec<Tag> = (0..600).map(tag).collect();
        let mut tree = Tree::new(key());
        tree.put(0, &tags).unwrap();
        let tables: Vec<Vec<u8>> = (0..3)
            .map(|group| {
                let mut table = vec![0; TABLE_LEN];
                let (offset, part) = tree.table_part(group * GROUP_CHUNKS, 256);
                table[offset..][..part.len()].copy_from_slice(&part);
                table
            })
            .collect();
        let root = tree.root(1);
        assert!(read(&tables, 600, 1, root).is_ok());
        for (group, at) in [(0, 0), (1, 15), (2, DIGEST_LEN), (2, DIGEST_LEN + 87 * 16)] {
            let mut altered = tables.clone();
            altered[group][at] ^= 1;
            assert_eq!(
                read(&altered, 600, 1, root).unwrap_err(),
                Error::RootCorrupt
            );
        }
        // The digest of the last group, and what stands behind its tags, count for nothing.
        for at in [0, DIGEST_LEN + 88 * 16] {
            let mut altered = tables.clone();
            altered[2][at] ^= 1;
            assert!(read(&altered, 600, 1, root).is_ok());
        }
        let mut known = read(&tables, 600, 1, root).unwrap();
        assert!(
            !known.has(1) && known.put(256, &[tag(0)]).is_err() && known.truncate(300).is_err()
        );
        assert!(known.put(601, &[tag(0)]).is_err());
        let mut altered = tables[1].clone();
        altered[TABLE_LEN - 1] ^= 1;
        for (group, tags) in [
            (1, &altered[DIGEST_LEN..]),
            (0, &tables[1][DIGEST_LEN..]),
            (1, &tables[1][DIGEST_LEN..TABLE_LEN - 16]),
            (2, &tables[2][DIGEST_LEN..]),
        ] {
            assert_eq!(known.admit(group, tags), Err(Error::TableCorrupt { group }));
        }
        known.admit(1, &tables[1][DIGEST_LEN..]).unwrap();
        assert_eq!(known.tag(257), Some(&tags[257]));
    }

    #[test]
    fn no_more_than_so_many_groups_are_kept() {
        let mut tree = Tree::new(key());
        let tags = vec![tag(3); GROUP_CHUNKS as usize];
        for group in 0..KEPT_GROUPS as u64 + 10 {
            tree.put(group * GROUP_CHUNKS, &tags).unwrap();
        }
        assert!(tree.kept.len() <= KEPT_GROUPS);
        let debug = alloc::format!("{tree:?}");
        assert_eq!(debug, "Tree { groups: 1034, .. }");
    }
}
