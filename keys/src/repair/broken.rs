//! One file: what is to be done to it, and doing it.

use std::io;
use std::ops::Range;

use getrandom::SysRng;
use rand_core::TryRng;
use sealed::{
    Digest, ENTRY_LEN, Entry, Error, FileCipher, FinalChunk, GROUP_CHUNKS, HEADER_LEN, Header,
    Layout, Restore, Root, Stamp, TABLE_LEN, TAG_LEN, Tag,
};
use zeroize::Zeroizing;

use super::disk::{Disk, read_up_to};
use super::{RepairError, Report};
use crate::recover::push;
use crate::ring::KeyRing;

/// Bytes of chunks that are read at a time.
const RUN_LEN: usize = 1 << 20;

/// Where the chunk of the journal lies.
const ROOM_AT: u64 = (HEADER_LEN + ENTRY_LEN) as u64;

/// A file with its key. It is not changed by others meanwhile.
pub struct Broken<'a, D> {
    disk: &'a D,
    size: u64,
    cipher: FileCipher,
    root: Root,
    /// What is in the journal behind its entry.
    room: Vec<u8>,
    /// The chunk that is there by a live entry.
    live: Option<Live>,
    /// Whether the entry is as it should be; a void one is not, and readers that don't know the size
    /// of the file may go by it.
    is_clear: bool,
}

/// What a live entry says of its chunk.
struct Live {
    index: u64,
    final_len: Option<usize>,
}

/// The file's end, as it is to be.
#[derive(Clone, Copy)]
struct End {
    last: FinalChunk,
    origin: Origin,
}

/// Where a final chunk that authenticates was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// At the end of the file as it lies.
    End,
    /// In the journal, and the entry is live.
    Journal,
    /// In the journal, of a change that was completed.
    Room,
    /// At its place, and something that is no chunk behind it.
    Place,
}

impl Origin {
    fn is_in_journal(self) -> bool {
        matches!(self, Self::Journal | Self::Room)
    }
}

/// What a group looks like.
#[derive(Default)]
struct Group {
    /// Its table as it stands.
    table: Vec<u8>,
    /// The tags that belong there.
    tags: Vec<Tag>,
    /// Chunks that don't authenticate.
    lost: Vec<Range<u64>>,
    /// A chunk that is in the journal, and belongs to its place.
    journaled: Option<u64>,
}

/// What is to be done.
pub struct Plan {
    end: End,
    root: Root,
    /// Groups with a wrong table.
    groups: Vec<u64>,
    /// Chunks that don't authenticate.
    lost: Vec<Range<u64>>,
    /// The full chunk that comes from the journal.
    journaled: Option<u64>,
    is_needed: bool,
}

impl Plan {
    /// Whether there is anything to be done.
    pub fn is_needed(&self) -> bool {
        self.is_needed
    }
}

impl<'a, D: Disk> Broken<'a, D> {
    /// Reads the head of a file. `None` for one that its journal has empty: it is in order,
    /// whatever lies behind.
    pub fn open(ring: &KeyRing, disk: &'a D) -> Result<Option<Self>, RepairError> {
        let mut head = [0; HEADER_LEN + ENTRY_LEN];
        let len = read_up_to(disk, &mut head, 0).map_err(RepairError::Read)?;
        let key = ring.for_file(Header::parse(&head[..len])?.key_id())?;
        let cipher = FileCipher::open(key, &head[..len])?;
        let entry = head[HEADER_LEN..len]
            .first_chunk()
            .map(|entry| cipher.parse_entry(entry))
            .ok_or(RepairError::NoEnd)?;
        if entry.restore == Some(Restore::Empty) {
            return Ok(None);
        }
        let mut room = vec![0; cipher.layout().sealed_chunk_len()];
        let len = read_up_to(disk, &mut room, ROOM_AT).map_err(RepairError::Read)?;
        room.truncate(len);
        let mut broken = Self {
            disk,
            size: disk.size().map_err(RepairError::Read)?,
            cipher,
            root: entry.root,
            room,
            live: None,
            is_clear: entry.restore.is_none(),
        };
        broken.live = entry.restore.and_then(|restore| broken.live(&restore));
        Ok(Some(broken))
    }

    fn layout(&self) -> &Layout {
        self.cipher.layout()
    }

    /// What a live entry says; `None` for one that is void.
    fn live(&self, restore: &Restore) -> Option<Live> {
        let Restore::Chunk {
            index, final_len, ..
        } = *restore
        else {
            return None;
        };
        let sealed = self.room.get(..restore.sealed_len(self.layout()))?;
        let end = self.layout().chunk_offset(index).ok()? + sealed.len() as u64;
        (end <= self.size && self.cipher.is_restorable(restore, sealed))
            .then_some(Live { index, final_len })
    }

    fn read(&self, len: usize, at: u64) -> Result<Vec<u8>, RepairError> {
        let mut bytes = vec![0; len];
        match read_up_to(self.disk, &mut bytes, at).map_err(RepairError::Read)? {
            read if read < len => Err(RepairError::Read(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(bytes),
        }
    }

    /// Whether full chunks authenticate, at least one.
    fn opens(&self, first: u64, sealed: &[u8]) -> bool {
        let len = self.layout().opened_run_len(sealed.len()).unwrap_or(0);
        let mut plaintext = Zeroizing::new(vec![0; len]);
        len > 0 && self.cipher.open_run(first, sealed, &mut plaintext).is_ok()
    }

    /// How many bytes of plaintext there are in the final chunk that some bytes begin with: the
    /// longest that authenticates.
    fn final_len(&self, index: u64, bytes: &[u8]) -> Option<usize> {
        let overhead = self.layout().overhead();
        let most = (bytes.len() + 1)
            .saturating_sub(overhead)
            .min(self.layout().chunk_size());
        let mut plaintext = Zeroizing::new(vec![0; most]);
        (0..most).rev().find(|&len| {
            let (sealed, plaintext) = (&bytes[..len + overhead], &mut plaintext[..len]);
            self.cipher.open_to_end(index, sealed, plaintext).is_ok()
        })
    }

    /// Whether the chunk at its place authenticates as a full one.
    fn has_full(&self, index: u64) -> Result<bool, RepairError> {
        let sealed = self.layout().sealed_chunk_len();
        let sealed = self.read(sealed, self.layout().chunk_offset(index)?)?;
        Ok(self.opens(index, &sealed))
    }

    /// The final chunk at the end of the file as it lies, if it authenticates.
    fn end_as_it_lies(&self) -> Result<Option<FinalChunk>, RepairError> {
        let Ok(size) = self.layout().plaintext_size(self.size) else {
            return Ok(None);
        };
        let last = self.layout().final_chunk(size);
        let place = self.layout().chunk_offset(last.index)?;
        let sealed = self.read(last.len + self.layout().overhead(), place)?;
        let mut plaintext = Zeroizing::new(vec![0; last.len]);
        let opened = self
            .cipher
            .open_to_end(last.index, &sealed, &mut plaintext)
            .is_ok();
        Ok(opened.then_some(last))
    }

    /// Where the file is to end.
    fn end(&self) -> Result<End, RepairError> {
        let lies = self.end_as_it_lies()?;
        if let Some(Live {
            index,
            final_len: Some(len),
        }) = self.live
        {
            let last = FinalChunk { index, len };
            // The entry may have come to the disk before changes that came there whole: then
            // nothing of them is given up.
            let is_outdated = match lies {
                Some(lies) if lies.index == index => lies.len > len,
                Some(lies) => lies.index > index && self.has_full(index)?,
                None => false,
            };
            if !is_outdated {
                let origin = Origin::Journal;
                return Ok(End { last, origin });
            }
        }
        match lies {
            Some(last) => Ok(End {
                last,
                origin: Origin::End,
            }),
            None => self.end_before(),
        }
    }

    /// An earlier end behind the last chunk that authenticates: the one whose remains are in the
    /// journal or at its place, of both the longer one.
    fn end_before(&self) -> Result<End, RepairError> {
        let sealed_len = self.layout().sealed_chunk_len();
        let mut index = self.full_chunks();
        while index > 0 && !self.has_full(index - 1)? && !self.opens(index - 1, &self.room) {
            index -= 1;
        }
        let place = self.layout().chunk_offset(index)?;
        let mut lies = vec![0; sealed_len];
        let read = read_up_to(self.disk, &mut lies, place).map_err(RepairError::Read)?;
        let found = [
            (self.room.as_slice(), Origin::Room),
            (&lies[..read], Origin::Place),
        ];
        found
            .into_iter()
            .filter_map(|(bytes, origin)| Some((self.final_len(index, bytes)?, origin)))
            .max_by_key(|(len, _)| *len)
            .map(|(len, origin)| End {
                last: FinalChunk { index, len },
                origin,
            })
            .ok_or(RepairError::NoEnd)
    }

    /// How many full chunks there is room for in the file.
    fn full_chunks(&self) -> u64 {
        let sealed_len = self.layout().sealed_chunk_len() as u64;
        let fits = |index| {
            let place = self.layout().chunk_offset(index);
            place.is_ok_and(|place| place + sealed_len <= self.size)
        };
        let mut count = 0..self.size / sealed_len;
        while count.start < count.end {
            let middle = count.start.midpoint(count.end);
            if fits(middle) {
                count.start = middle + 1;
            } else {
                count.end = middle;
            }
        }
        count.start
    }

    /// Goes through the chunks of a group, of those that the file is to have.
    fn group(&self, index: u64, end: &End) -> Result<Group, RepairError> {
        let layout = self.layout();
        let sealed_len = layout.sealed_chunk_len();
        let mut group = Group {
            table: vec![0; TABLE_LEN],
            ..Group::default()
        };
        let place = layout.table_offset(index)?;
        read_up_to(self.disk, &mut group.table, place).map_err(RepairError::Read)?;
        let first = index * GROUP_CHUNKS;
        let full = first..(first + GROUP_CHUNKS).min(end.last.index);
        let mut next = full.start;
        while next < full.end {
            let count = (RUN_LEN as u64 / sealed_len as u64).min(full.end - next);
            let sealed = self.read(count as usize * sealed_len, layout.chunk_offset(next)?)?;
            let all_open = self.opens(next, &sealed);
            for (index, sealed) in (next..).zip(sealed.chunks_exact(sealed_len)) {
                self.put_full(&mut group, index, sealed, all_open);
            }
            next += count;
        }
        if end.last.index / GROUP_CHUNKS == index {
            let len = end.last.len + layout.overhead();
            let read;
            let sealed = if end.origin.is_in_journal() {
                &self.room[..len]
            } else {
                read = self.read(len, layout.chunk_offset(end.last.index)?)?;
                &read
            };
            group.tags.push(tag_of(sealed));
        }
        Ok(group)
    }

    /// Takes the next chunk of a group, as it lies at its place.
    fn put_full(&self, group: &mut Group, index: u64, sealed: &[u8], opens: bool) {
        let is_live = |live: &Live| live.final_len.is_none() && live.index == index;
        let tag = if self.live.as_ref().is_some_and(is_live) {
            group.journaled = Some(index);
            tag_of(&self.room)
        } else if opens || self.opens(index, sealed) {
            tag_of(sealed)
        } else if self.opens(index, &self.room) {
            // What it was to become, or has been.
            group.journaled = Some(index);
            tag_of(&self.room)
        } else {
            push(&mut group.lost, index..index + 1);
            // Any would do, for no chunk with it is there. This one leaves a tree that fits as it
            // is.
            group.slot(group.tags.len())
        };
        group.tags.push(tag);
    }

    /// What belongs into the table of a group, from which offset in it on.
    fn table(&self, index: u64, group: &Group, end: &End) -> (usize, Vec<u8>) {
        let tags = group.tags.as_flattened();
        if end.last.index / GROUP_CHUNKS == index {
            return (Digest::LEN, tags.to_vec());
        }
        let digest = self.cipher.digest_of(index, tags);
        (0, [digest.as_bytes().as_slice(), tags].concat())
    }

    /// Finds out what is to be done.
    pub fn plan(&self) -> Result<Plan, RepairError> {
        let end = self.end()?;
        let mut tree = self.cipher.new_tree();
        let (mut groups, mut lost, mut journaled) = (Vec::new(), Vec::new(), None);
        for index in 0..=end.last.index / GROUP_CHUNKS {
            let group = self.group(index, &end)?;
            let (at, table) = self.table(index, &group, &end);
            if !group.table[at..].starts_with(&table) {
                groups.push(index);
            }
            tree.put(index * GROUP_CHUNKS, &group.tags)?;
            journaled = journaled.or(group.journaled);
            for chunks in group.lost {
                push(&mut lost, chunks);
            }
        }
        let root = tree.root(self.plaintext_size(&end)?);
        let is_needed = !groups.is_empty()
            || journaled.is_some()
            || end.origin != Origin::End
            || !self.is_clear
            || root != self.root;
        Ok(Plan {
            end,
            root,
            groups,
            lost,
            journaled,
            is_needed,
        })
    }

    fn plaintext_size(&self, end: &End) -> Result<u64, Error> {
        let start = self.layout().chunk_start(end.last.index)?;
        Ok(start + end.last.len as u64)
    }

    /// What there is to say.
    pub fn report(&self, plan: &Plan) -> Result<Report, RepairError> {
        let chunk_size = self.layout().chunk_size() as u64;
        let is_cut = matches!(plan.end.origin, Origin::Room | Origin::Place);
        let bytes = |chunks: &Range<u64>| chunks.start * chunk_size..chunks.end * chunk_size;
        Ok(Report {
            is_repaired: plan.is_needed,
            is_restored: plan.journaled.is_some() || plan.end.origin == Origin::Journal,
            lost: plan.lost.iter().map(bytes).collect(),
            cut_at: match is_cut {
                true => Some(self.plaintext_size(&plan.end)?),
                false => None,
            },
        })
    }

    /// Does it. Wherever this ends too early, the file is refused as before, and all that it was
    /// found out by is still there.
    pub fn mend(&self, plan: &Plan) -> Result<(), RepairError> {
        let layout = self.layout();
        if let Some(index) = plan.journaled {
            self.write(&self.room, layout.chunk_offset(index)?)?;
        }
        let end = plan.end;
        let place = layout.chunk_offset(end.last.index)?;
        let len = end.last.len + layout.overhead();
        if end.origin.is_in_journal() {
            self.write(&self.room[..len], place)?;
        }
        if end.origin != Origin::End {
            let size = place + len as u64;
            self.disk.set_size(size).map_err(RepairError::Write)?;
        }
        for &index in &plan.groups {
            // The same as before: nobody else writes. Where somebody does, the root tells.
            let group = self.group(index, &end)?;
            let (at, table) = self.table(index, &group, &end);
            self.write(&table, layout.table_offset(index)? + at as u64)?;
        }
        // From here on the journal is not there to begin anew with.
        self.sync()?;
        let mut stamp = [0; Stamp::LEN];
        SysRng
            .try_fill_bytes(&mut stamp)
            .map_err(|_| Error::Randomness)?;
        let entry = Entry {
            root: plan.root,
            stamp: Stamp::from_bytes(stamp),
            restore: None,
        };
        self.write(&self.cipher.encode_entry(&entry), HEADER_LEN as u64)?;
        self.sync()
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), RepairError> {
        let written = self.disk.write_all_at(bytes, at);
        written.map_err(RepairError::Write)
    }

    fn sync(&self) -> Result<(), RepairError> {
        self.disk.sync().map_err(RepairError::Write)
    }
}

impl Group {
    /// A slot of the table as it stands.
    fn slot(&self, slot: usize) -> Tag {
        let at = Digest::LEN + slot * TAG_LEN;
        let rest = self.table.get(at..).unwrap_or_default();
        rest.first_chunk().copied().unwrap_or_default()
    }
}

/// The tag of a sealed chunk.
fn tag_of(sealed: &[u8]) -> Tag {
    sealed.last_chunk().copied().unwrap_or_default()
}
