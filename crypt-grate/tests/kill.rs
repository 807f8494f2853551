//! Changes of a sealed file that are cut off at every place there is: by the end of the process, by
//! a full disk, by a disk that takes no more writes.
//!
//! A change is first made on a [`Disk`] that only counts, which gives the [`Place`]s where it can be
//! cut, then once more for each of them. A process that is killed leaves the writes before the cut
//! whole, a beginning of the one it strikes, and nothing of the later ones. What the next process
//! finds must be the old content or the new one, chunk by chunk where several were being replaced.

mod disk;

use crypt_grate::storage::{Errno, Storage};
use disk::Pages;
use engine::{Chunks, File};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

/// All that is known here of the engine under test.
mod engine {
    use super::{Change, Disk};
    use crypt_grate::sealed_file::{Content, Error, Keys, SealedFile, Sealing, Windows, software};
    use crypt_grate::storage::Storage;
    use rand_core::{TryCryptoRng, TryRng};
    use sealed::{ChunkSize, Cipher, MasterKey, Params};
    use std::convert::Infallible;

    /// How new files are cut and sealed.
    #[derive(Clone, Copy, Debug)]
    pub struct Chunks {
        pub size: usize,
        pub gcm: bool,
    }

    impl Chunks {
        fn params(self) -> Params {
            Params {
                cipher: if self.gcm {
                    Cipher::Xaes256Gcm
                } else {
                    Cipher::XChaCha20Poly1305
                },
                chunk_size: ChunkSize::from_bytes(self.size).expect("a chunk size"),
            }
        }
    }

    /// A repeatable source of distinct bytes, for tests only.
    struct Counter(u64);

    impl TryRng for Counter {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.try_next_u64().map(|word| word as u32)
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.0 += 1;
            Ok(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
            for part in dst.chunks_mut(8) {
                let word = self.try_next_u64()?.to_le_bytes();
                part.copy_from_slice(&word[..part.len()]);
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Counter {}

    /// A file as one process has it open.
    pub struct File {
        file: SealedFile,
        key: MasterKey,
        chunks: Chunks,
        rng: Counter,
    }

    impl File {
        /// Nothing is known yet. `process` differs between processes, whose random bytes do.
        pub fn open(chunks: Chunks, process: u64) -> Self {
            Self {
                file: SealedFile::default(),
                key: MasterKey::from_bytes([3; 32]),
                chunks,
                rng: Counter(process << 40),
            }
        }

        /// Answers how many bytes were written, or for a cut the new length.
        pub fn change(&mut self, disk: &Disk, change: Change) -> Result<usize, Error> {
            let mut with = Sealing {
                keys: Keys {
                    master: &self.key,
                    others: &[],
                    aead: software,
                    derive: sealed::derive,
                },
                params: self.chunks.params(),
                rng: &mut self.rng,
            };
            match change {
                Change::Write { at, len } => {
                    let data = change.data(len);
                    self.file.write(disk, &mut with, at as u64, &data)
                }
                Change::SetLen(len) => self.file.set_len(disk, &mut with, len as u64).map(|()| len),
            }
        }

        /// Whether the file would be taken for one that is not sealed.
        pub fn looks_plain(&self, disk: &impl Storage) -> Result<bool, Error> {
            let keys = Keys {
                master: &self.key,
                others: &[],
                aead: software,
                derive: sealed::derive,
            };
            Ok(SealedFile::default().identify(disk, keys)? == Content::Plain)
        }

        /// All of the file.
        pub fn content(&mut self, disk: &impl Storage) -> Result<Vec<u8>, Error> {
            let keys = Keys {
                master: &self.key,
                others: &[],
                aead: software,
                derive: sealed::derive,
            };
            let len = self.file.len(disk, keys)?;
            // More than there is: the end is checked only by who asks for it.
            let mut content = vec![0; len as usize + 1];
            let read = self
                .file
                .read(&mut Windows::default(), disk, keys, 0, &mut content)?;
            content.truncate(read);
            Ok(content)
        }
    }
}

/// A change of a file.
#[derive(Clone, Copy, Debug)]
enum Change {
    Write { at: usize, len: usize },
    SetLen(usize),
}

impl Change {
    /// Bytes that no other change writes at the same place.
    fn data(self, len: usize) -> Vec<u8> {
        let Self::Write { at, len: whole } = self else {
            return vec![0; len];
        };
        let own = (at * 7 + whole * 13 + 1) as u8;
        (0..len)
            .map(|i| own.wrapping_add((i + 3 * (i / 256)) as u8))
            .collect()
    }

    /// What becomes of `old` when the change is done; of a write, its first `done` bytes.
    fn of(self, old: &[u8], done: usize) -> Vec<u8> {
        let mut new = old.to_vec();
        match self {
            Self::Write { at, len } => {
                if done > 0 {
                    new.resize(new.len().max(at + done), 0);
                    new[at..at + done].copy_from_slice(&self.data(len)[..done]);
                }
            }
            Self::SetLen(len) => new.resize(len, 0),
        }
        new
    }

    fn whole(self, old: &[u8]) -> Vec<u8> {
        let (Self::Write { len, .. } | Self::SetLen(len)) = self;
        self.of(old, len)
    }

    /// Whether a file may be `found` where it was `old` and this change was cut off. What was there
    /// is old or new, chunk by chunk; what is added is there up to some byte; a file is cut or not.
    fn may_leave(self, old: &[u8], found: &[u8], chunk: usize) -> bool {
        let new = self.whole(old);
        if new.len() < old.len() {
            return found == old || found == new;
        }
        let added = old.len()..found.len();
        found.len() >= old.len()
            && new.get(added.clone()) == found.get(added)
            && (0..old.len()).step_by(chunk).all(|start| {
                let part = start..old.len().min(start + chunk);
                found[part.clone()] == old[part.clone()] || found[part.clone()] == new[part]
            })
    }
}

/// What happens at a cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The process is gone.
    Kill,
    /// The file can't grow any more.
    Full,
    /// Nothing can be written any more.
    Broken,
}

/// Where a sequence of changes of the disk is cut: in the one with this number, after some bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    step: usize,
    bytes: usize,
}

/// One change of the disk.
#[derive(Clone, Copy, Debug)]
struct Step {
    offset: usize,
    /// 0 for a change of the size.
    len: usize,
    grows: bool,
}

impl Step {
    /// How much of it is written where it is cut after so many bytes: of a write that begins the
    /// file, whole pages. The kernel copies what is within one in one go, and looks for signals only between
    /// them.
    fn part(&self, bytes: usize) -> usize {
        const PAGE: usize = 4096;
        match self.offset {
            0 => bytes - bytes % PAGE,
            _ => bytes,
        }
    }

    /// At which of its bytes it is cut: around its ends and at the borders of sectors, which are
    /// among those of pages, where the kernel looks for signals.
    fn cuts(&self) -> Vec<usize> {
        const SECTOR: usize = 512;
        let border = SECTOR - self.offset % SECTOR;
        let mut cuts = vec![0, 1, self.len / 3, self.len.saturating_sub(1)];
        cuts.extend((border..self.len).step_by(SECTOR));
        cuts.retain(|&cut| cut < self.len.max(1));
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}

/// A disk in memory that keeps count of its changes and fails at a place.
#[derive(Default)]
struct Disk {
    bytes: RefCell<Pages>,
    steps: RefCell<Vec<Step>>,
    fault: Cell<Option<(Fault, Place)>>,
}

impl Disk {
    fn of(bytes: &Pages) -> Self {
        Self {
            bytes: RefCell::new(bytes.clone()),
            ..Self::default()
        }
    }

    /// What is there when the process is gone.
    fn left(&self) -> Self {
        Self::of(&self.bytes.borrow())
    }

    /// Counts from here on and fails there.
    fn arm(&self, fault: Option<(Fault, Place)>) {
        self.steps.borrow_mut().clear();
        self.fault.set(fault);
    }

    fn is_gone(&self) -> bool {
        matches!(self.fault.get(), Some((Fault::Kill, place)) if place.step < self.steps.borrow().len())
    }

    /// How much of a step takes place, and the error that it ends in.
    fn step(&self, step: Step) -> (usize, Option<Errno>) {
        let number = self.steps.borrow().len();
        self.steps.borrow_mut().push(step);
        let Some((fault, place)) = self.fault.get() else {
            return (step.len, None);
        };
        if number < place.step {
            return (step.len, None);
        }
        let part = if number == place.step {
            step.part(place.bytes)
        } else {
            0
        };
        match fault {
            Fault::Kill => (part, Some(Errno::EIO)),
            Fault::Full if !step.grows => (step.len, None),
            Fault::Full => {
                let inside = (self.bytes.borrow().len() as usize).saturating_sub(step.offset);
                (part.max(inside.min(step.len)), Some(Errno::ENOSPC))
            }
            Fault::Broken => (part, Some(Errno::EIO)),
        }
    }
}

impl Storage for Disk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.is_gone() {
            return Err(Errno::EIO);
        }
        Ok(self.bytes.borrow().read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let offset = offset as usize;
        let grows = (offset + buf.len()) as u64 > self.bytes.borrow().len();
        let (done, error) = self.step(Step {
            offset,
            len: buf.len(),
            grows,
        });
        if done > 0 {
            self.bytes.borrow_mut().write(&buf[..done], offset as u64);
        }
        match error {
            // A short write says nothing; the next one does.
            Some(error) if done == 0 || self.is_gone() => Err(error),
            _ => Ok(done),
        }
    }

    fn size(&self) -> Result<u64, Errno> {
        if self.is_gone() {
            return Err(Errno::EIO);
        }
        Ok(self.bytes.borrow().len())
    }

    fn sync(&self) -> Result<(), Errno> {
        if self.is_gone() {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        let grows = size > self.bytes.borrow().len();
        let step = Step {
            offset: size as usize,
            len: 0,
            grows,
        };
        match self.step(step) {
            (_, Some(error)) => Err(error),
            (_, None) => {
                self.bytes.borrow_mut().set_len(size);
                Ok(())
            }
        }
    }
}

/// A disk through a descriptor that may only read.
struct ReadOnly<'a>(&'a Disk);

impl Storage for ReadOnly<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<usize, Errno> {
        const EBADF: Errno = Errno(9);
        Err(EBADF)
    }

    fn size(&self) -> Result<u64, Errno> {
        self.0.size()
    }

    fn sync(&self) -> Result<(), Errno> {
        self.0.sync()
    }

    fn set_size(&self, _: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn is_writable(&self) -> bool {
        false
    }
}

/// A file and a change of it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    chunks: Chunks,
    /// Size of the file before the change.
    size: usize,
    change: Change,
    /// Whether the process that makes the change has made the file too.
    warm: bool,
}

impl Scene {
    /// The disk before the change, its content, and the file as the process has it open.
    fn set(&self) -> (Disk, Vec<u8>, File) {
        let disk = Disk::default();
        let mut file = File::open(self.chunks, 1);
        let content = Change::Write {
            at: 0,
            len: self.size,
        };
        file.change(&disk, content).expect("a disk without faults");
        if !self.warm {
            file = File::open(self.chunks, 2);
        }
        disk.arm(None);
        (disk, content.whole(&[]), file)
    }

    /// The steps that the change consists of.
    fn steps(&self) -> Vec<Step> {
        let (disk, _, mut file) = self.set();
        file.change(&disk, self.change)
            .expect("a disk without faults");
        disk.steps.take()
    }

    /// Makes the change with a fault, then checks what a new process sees, and the old one if it
    /// lives. Answers the content.
    fn strike(&self, fault: Fault, place: Place) -> Result<(Disk, Vec<u8>), String> {
        let (disk, old, mut file) = self.set();
        disk.arm(Some((fault, place)));
        let result = file.change(&disk, self.change);
        let disk = match fault {
            Fault::Kill => disk.left(),
            _ => disk,
        };
        let mut next = File::open(self.chunks, 3);
        if next.looks_plain(&ReadOnly(&disk)) != Ok(false) {
            return Err("it can't be opened, or passes for a plain file".to_owned());
        }
        let found = next
            .content(&ReadOnly(&disk))
            .map_err(|error| format!("it can't be read: {error:?}"))?;
        if !self.change.may_leave(&old, &found, self.chunks.size) {
            return Err(differs("left", &old, &self.change.whole(&old), &found));
        }
        if let (Ok(done), Change::Write { at, .. }) = (&result, self.change) {
            let written = self.change.of(&old, *done);
            if found.get(at..at + done) != written.get(at..at + done) {
                return Err(format!("{done} bytes that were written are lost"));
            }
        }
        if fault == Fault::Full {
            // Nothing else has gone wrong: the answer is exact.
            let told = match result {
                Ok(done) => self.change.of(&old, done),
                Err(_) => old.clone(),
            };
            if found != told {
                let what = format!("left by {result:?}");
                return Err(differs(&what, &old, &told, &found));
            }
        }
        // Who may write sees the same, and puts it in order for all.
        let other = disk.left();
        for process in [4, 5] {
            let seen = File::open(self.chunks, process).content(&other);
            if seen.as_ref() != Ok(&found) {
                return Err(format!("process {process} may write and reads other bytes"));
            }
        }
        if fault != Fault::Kill {
            let seen = file.content(&disk);
            if seen.as_ref() != Ok(&found) {
                return Err(format!(
                    "the process sees {:?}, a new one {} bytes",
                    seen.map(|content| content.len()),
                    found.len()
                ));
            }
            // The disk gets well.
            disk.arm(None);
            let next = Change::Write {
                at: found.len() / 2,
                len: 700,
            };
            file.change(&disk, next)
                .map_err(|error| format!("then it can't be written: {error:?}"))?;
            let after = File::open(self.chunks, 4).content(&ReadOnly(&disk));
            if after.as_ref() != Ok(&next.whole(&found)) {
                return Err("what is written when the disk is well again is not there".to_owned());
            }
        }
        Ok((disk, found))
    }

    /// Every place where the change can be cut.
    fn places(&self, fault: Fault) -> Vec<Place> {
        let steps = self.steps();
        let places = steps.iter().enumerate().flat_map(|(number, step)| {
            step.cuts().into_iter().map(move |bytes| Place {
                step: number,
                bytes,
            })
        });
        places
            .filter(|place| fault != Fault::Full || steps[place.step].grows)
            .collect()
    }
}

fn differs(what: &str, old: &[u8], new: &[u8], found: &[u8]) -> String {
    let unlike = |other: &[u8]| {
        let at = found.iter().zip(other).position(|(one, two)| one != two);
        at.unwrap_or(found.len().min(other.len()))
    };
    format!(
        "{what}: {} bytes, like the {} old ones up to {}, like the {} new ones up to {}",
        found.len(),
        old.len(),
        unlike(old),
        new.len(),
        unlike(new)
    )
}

/// Counts what was tried and keeps what failed, so that one run shows how a fault spreads: the
/// first failure of each scene.
#[derive(Default)]
struct Tally {
    tried: usize,
    failed: usize,
    shown: BTreeMap<String, String>,
}

impl Tally {
    fn count<T>(
        &mut self,
        scene: &Scene,
        what: impl fmt::Debug,
        result: Result<T, String>,
    ) -> Option<T> {
        self.tried += 1;
        let failure = |why| format!("{what:?}: {why}");
        result
            .map_err(|why| {
                self.failed += 1;
                let shown = self.shown.entry(format!("{scene:?}"));
                shown.or_insert_with(|| failure(why));
            })
            .ok()
    }

    fn conclude(self, least: usize) {
        const SHOWN: usize = 12;
        let Self {
            tried,
            failed,
            shown,
        } = self;
        let scenes = shown.len();
        let shown: Vec<String> = shown
            .iter()
            .step_by(scenes / SHOWN + 1)
            .map(|(scene, failure)| format!("{scene} {failure}"))
            .collect();
        assert!(
            failed == 0,
            "{failed} of {tried}, in {scenes} scenes, some of which:\n{}",
            shown.join("\n")
        );
        assert!(tried >= least, "only {tried} cuts");
    }
}

const SMALL: usize = 512;

/// Both ciphers, whose chunks differ in length on the disk.
const CHUNKS: [Chunks; 2] = [
    Chunks {
        size: SMALL,
        gcm: false,
    },
    Chunks {
        size: SMALL,
        gcm: true,
    },
];

/// Changes of a file of `size` bytes around every edge of a chunk of 512.
fn changes(size: usize) -> Vec<Change> {
    let mut places = vec![0, 1, 200, 511, 512, 513, 1000, size, size + 1, size + 600];
    places.extend(size.checked_sub(1));
    places.retain(|&at| at <= size + 600);
    places.sort_unstable();
    places.dedup();
    let mut changes = Vec::new();
    for &at in &places {
        for len in [1, 100, 511, 512, 513, 1200] {
            changes.push(Change::Write { at, len });
        }
        changes.push(Change::SetLen(at));
    }
    changes.push(Change::SetLen(size + 1024));
    changes
}

fn scenes(sizes: &[usize]) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for chunks in CHUNKS {
        for &size in sizes {
            for change in changes(size) {
                for warm in [false, true] {
                    scenes.push(Scene {
                        chunks,
                        size,
                        change,
                        warm,
                    });
                }
            }
        }
    }
    scenes
}

fn strike_everywhere(fault: Fault) -> Tally {
    let mut tally = Tally::default();
    for scene in scenes(&[0, 1, 300, 511, 512, 513, 1024, 1300, 1536, 2000]) {
        for place in scene.places(fault) {
            tally.count(&scene, place, scene.strike(fault, place));
        }
    }
    tally
}

#[test]
fn a_kill_anywhere_leaves_old_or_new() {
    strike_everywhere(Fault::Kill).conclude(10_000);
}

#[test]
fn a_full_disk_damages_nothing() {
    strike_everywhere(Fault::Full).conclude(5_000);
}

#[test]
fn a_disk_that_takes_no_more_damages_nothing() {
    strike_everywhere(Fault::Broken).conclude(10_000);
}

/// As above, for a few changes and with a cut at each byte.
#[test]
fn a_kill_at_every_byte_leaves_old_or_new() {
    let mut tally = Tally::default();
    for chunks in CHUNKS {
        for (size, change) in [
            (0, Change::Write { at: 0, len: 600 }),
            (100, Change::Write { at: 100, len: 100 }),
            (500, Change::Write { at: 500, len: 100 }),
            (1100, Change::Write { at: 10, len: 600 }),
            (1100, Change::SetLen(700)),
            (700, Change::SetLen(1100)),
        ] {
            let scene = Scene {
                chunks,
                size,
                change,
                warm: true,
            };
            for (step, facts) in scene.steps().iter().enumerate() {
                for bytes in 0..facts.len.max(1) {
                    let place = Place { step, bytes };
                    tally.count(&scene, place, scene.strike(Fault::Kill, place));
                }
            }
        }
    }
    tally.conclude(5_000);
}

/// The process that comes after a kill is killed too, in its first change, which begins by bringing
/// the file in order.
#[test]
fn a_kill_after_a_kill_leaves_old_or_new() {
    let mut tally = Tally::default();
    for scene in scenes(&[0, 300, 512, 1300]) {
        let (Change::Write { len: 1 | 513, .. } | Change::SetLen(_)) = scene.change else {
            continue;
        };
        for place in scene.places(Fault::Kill) {
            let struck = scene.strike(Fault::Kill, place);
            let Some((disk, found)) = tally.count(&scene, place, struck) else {
                continue;
            };
            for change in [
                Change::Write { at: 0, len: 7 },
                Change::Write {
                    at: found.len(),
                    len: 900,
                },
                Change::SetLen(found.len() / 2),
            ] {
                let struck = second_kill(&scene, &disk, &found, change);
                tally.count(&scene, (place, change), struck);
            }
        }
    }
    tally.conclude(8_000);
}

/// Makes a change in a file that a kill has left, to the end and with a kill at each place.
fn second_kill(scene: &Scene, left: &Disk, old: &[u8], change: Change) -> Result<(), String> {
    let chunks = scene.chunks;
    let read = |disk: &Disk, process: u64| {
        File::open(chunks, process)
            .content(&ReadOnly(disk))
            .map_err(|error| format!("it can't be read: {error:?}"))
    };
    let disk = left.left();
    File::open(chunks, 5)
        .change(&disk, change)
        .map_err(|error| format!("it can't be written: {error:?}"))?;
    let found = read(&disk, 6)?;
    if found != change.whole(old) {
        return Err(differs("whole", old, &change.whole(old), &found));
    }
    for (step, facts) in disk.steps.take().iter().enumerate() {
        for bytes in facts.cuts() {
            let place = Place { step, bytes };
            let disk = left.left();
            disk.arm(Some((Fault::Kill, place)));
            // What becomes of it is on the disk.
            let _ = File::open(chunks, 5).change(&disk, change);
            let disk = disk.left();
            let found = read(&disk, 6).map_err(|why| format!("{place:?}: {why}"))?;
            if !change.may_leave(old, &found, chunks.size) {
                let why = differs("left", old, &change.whole(old), &found);
                return Err(format!("{place:?}: {why}"));
            }
        }
    }
    Ok(())
}

/// Changes at the edges of groups, whose tables change with them.
#[test]
fn a_kill_at_the_edge_of_a_group_leaves_old_or_new() {
    const GROUP: usize = 256 * SMALL;
    let mut tally = Tally::default();
    for size in [GROUP - 1, GROUP, GROUP + 700, 2 * GROUP + 5] {
        let mut changes = vec![Change::SetLen(1000), Change::SetLen(2 * GROUP + 1000)];
        for at in [0, GROUP - 513, GROUP - 1, GROUP, GROUP + 1, size] {
            for len in [1, 514, 1500] {
                changes.push(Change::Write { at, len });
            }
            changes.push(Change::SetLen(at.max(1)));
        }
        for (number, change) in changes.into_iter().enumerate() {
            let scene = Scene {
                chunks: CHUNKS[number % 2],
                size,
                change,
                warm: number % 3 == 0,
            };
            for fault in [Fault::Kill, Fault::Full, Fault::Broken] {
                for place in scene.places(fault) {
                    tally.count(&scene, (fault, place), scene.strike(fault, place));
                }
            }
        }
    }
    tally.conclude(1_000);
}

/// Changes that the engine makes in several runs of chunks.
#[test]
fn a_kill_in_a_long_change_leaves_old_or_new() {
    const LONG: usize = 2_500_000;
    const MOST_CUTS: usize = 60;
    let chunks = Chunks {
        size: 1 << 16,
        gcm: true,
    };
    let mut tally = Tally::default();
    for (size, change) in [
        (0, Change::Write { at: 0, len: LONG }),
        (
            3 * LONG / 2,
            Change::Write {
                at: 1000,
                len: LONG,
            },
        ),
        (
            LONG / 2,
            Change::Write {
                at: 70_000,
                len: LONG,
            },
        ),
        (1000, Change::SetLen(LONG)),
        (1000, Change::Write { at: LONG, len: 10 }),
        (LONG, Change::SetLen(1000)),
    ] {
        let scene = Scene {
            chunks,
            size,
            change,
            warm: false,
        };
        for fault in [Fault::Kill, Fault::Full, Fault::Broken] {
            let places = scene.places(fault);
            // The first and last ones of all steps lie close together, others may be left out.
            for place in places.iter().step_by(places.len() / MOST_CUTS + 1) {
                tally.count(&scene, (fault, place), scene.strike(fault, *place));
            }
        }
    }
    tally.conclude(500);
}

fn change() -> impl Strategy<Value = Change> {
    // Around the edges of chunks of 512 bytes, mostly.
    let place = prop_oneof![
        0usize..2100,
        (0usize..5).prop_flat_map(|chunk| (chunk * SMALL).saturating_sub(2)..chunk * SMALL + 3)
    ];
    let len = prop_oneof![1usize..1200, Just(512), Just(511), Just(513), Just(1)];
    prop_oneof![
        3 => (place.clone(), len).prop_map(|(at, len)| Change::Write { at, len }),
        1 => place.prop_map(Change::SetLen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Processes that each make some changes until one is cut off, the next going on from there.
    #[test]
    fn a_life_of_kills_loses_nothing(
        lives in prop::collection::vec((prop::collection::vec(change(), 1..6), 0.0..1.0f64), 1..8),
        gcm in any::<bool>(),
    ) {
        let chunks = Chunks { size: SMALL, gcm };
        let mut disk = Disk::default();
        let mut content = Vec::new();
        for (life, (changes, when)) in lives.into_iter().enumerate() {
            // Of two processes that do the same, the second is killed.
            let attempt = |disk: &Disk, changes: &[Change]| {
                let mut file = File::open(chunks, life as u64);
                changes.iter().try_for_each(|&change| file.change(disk, change).map(drop))
            };
            let (last, before) = changes.split_last().expect("at least one");
            for change in before {
                content = change.whole(&content);
            }
            let rehearsal = disk.left();
            prop_assert_eq!(attempt(&rehearsal, before), Ok(()));
            let first = rehearsal.steps.borrow().len();
            let rehearsal = disk.left();
            prop_assert_eq!(attempt(&rehearsal, &changes), Ok(()));
            let steps = rehearsal.steps.take();
            let last_steps = &steps[first..];
            let total: usize = last_steps.iter().map(|step| step.len + 1).sum();
            let mut left = (total as f64 * when) as usize;
            let place = last_steps.iter().enumerate().find_map(|(number, step)| {
                let place = Place { step: first + number, bytes: left.min(step.len) };
                let here = left <= step.len;
                left = left.saturating_sub(step.len + 1);
                here.then_some(place)
            });
            if let Some(place) = place {
                disk.arm(Some((Fault::Kill, place)));
            }
            let _ = attempt(&disk, &changes);
            disk = disk.left();
            let found = File::open(chunks, 1000).content(&ReadOnly(&disk));
            let found = found.map_err(|error| TestCaseError::fail(format!("{last:?} {place:?}: {error:?}")))?;
            prop_assert!(
                last.may_leave(&content, &found, SMALL),
                "{:?} {:?}: {}", last, place, differs("left", &content, &last.whole(&content), &found)
            );
            content = found;
        }
    }
}
