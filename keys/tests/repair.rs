//! Making files whole that a power loss left in parts: mixtures of versions, torn chunks and ends, and
//! repairs that are cut short themselves.

mod history;
mod room;

use std::cell::{Cell, RefCell};
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, SystemTime};

use getrandom::SysRng;
use keys::KeyRing;
use keys::lock::{LockMode, lock};
use keys::recover::{self, Options};
use keys::repair::{self, Disk, RepairError, Repaired, Report};
use keys::verify::{self, Verdict};
use proptest::prelude::*;
use sealed::{ENTRY_LEN, GROUP_CHUNKS, HEADER_LEN, MasterKey, TABLE_LEN};

use history::{
    CHUNK, GROUP, History, KEY, ROOT, Version, at, chunk, digest, group, layout, mixed, slot, with,
};
use room::{Room, is_root};

fn ring() -> KeyRing {
    KeyRing::new("a", MasterKey::from_bytes(KEY))
}

/// Something that is to be done to a file, not on the disk yet.
enum Pending {
    Write(u64, Vec<u8>),
    Size(u64),
}

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write(at, new) => {
            let (at, end) = (*at as usize, *at as usize + new.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[at..end].copy_from_slice(new);
        }
        Pending::Size(size) => bytes.resize(*size as usize, 0),
    }
}

/// A file whose changes end after so many.
struct Frail {
    seen: RefCell<Vec<u8>>,
    /// As of the last sync.
    synced: RefCell<Vec<u8>>,
    since: RefCell<Vec<Pending>>,
    left: Cell<usize>,
}

impl Frail {
    fn new(bytes: &[u8], left: usize) -> Self {
        Self {
            seen: RefCell::new(bytes.to_vec()),
            synced: RefCell::new(bytes.to_vec()),
            since: RefCell::default(),
            left: Cell::new(left),
        }
    }

    fn change(&self, pending: Pending) {
        apply(&mut self.seen.borrow_mut(), &pending);
        self.since.borrow_mut().push(pending);
    }

    fn count(&self) -> io::Result<()> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or(io::ErrorKind::StorageFull)?);
        Ok(())
    }

    /// What is there after a power loss: of what was not synced yet, some sectors.
    fn after_power_loss(&self, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.synced.borrow().clone();
        for pending in self.since.borrow().iter() {
            let Pending::Write(at, new) = pending else {
                if survives() {
                    apply(&mut bytes, pending);
                }
                continue;
            };
            let (mut at, mut rest) = (*at, new.as_slice());
            while !rest.is_empty() {
                let (sector, others) = rest.split_at(rest.len().min(512 - at as usize % 512));
                if survives() {
                    apply(&mut bytes, &Pending::Write(at, sector.to_vec()));
                }
                at += sector.len() as u64;
                rest = others;
            }
        }
        bytes
    }
}

impl Disk for Frail {
    fn size(&self) -> io::Result<u64> {
        Ok(self.seen.borrow().len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let seen = self.seen.borrow();
        let rest = seen.get(at as usize..).unwrap_or_default();
        // Less than there is, as a file may do.
        let len = rest.len().min(buffer.len()).min(5000);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let counted = self.count();
        // The one that fails comes half way.
        let len = counted.as_ref().map_or(bytes.len() / 2, |()| bytes.len());
        self.change(Pending::Write(at, bytes[..len].to_vec()));
        counted
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.count()?;
        self.change(Pending::Size(size));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.count()?;
        self.synced.replace(self.seen.borrow().clone());
        self.since.borrow_mut().clear();
        Ok(())
    }
}

fn repaired(sealed: &[u8]) -> Result<(Vec<u8>, Report), RepairError> {
    let disk = Frail::new(sealed, usize::MAX);
    let report = match repair::one(&ring(), &disk, false)? {
        Repaired::Sealed(report) => report,
        other => panic!("{other:?}"),
    };
    let after = disk.seen.into_inner();
    assert!(report.is_repaired || after == sealed);
    Ok((after, report))
}

/// The plaintext, with zeros for what is lost, of which all is there is the newest.
#[track_caller]
fn plaintext(sealed: &[u8], lost: &[Range<u64>]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(sealed).unwrap();
    let mut out = Vec::new();
    let options = Options { fill: 0, search: 0 };
    let report = recover::recover(&ring(), &file, &mut out, options, |_| ()).unwrap();
    assert_eq!(report.lost, lost);
    assert!(
        report.stale.is_empty() && report.unproven.is_empty(),
        "{report:?}"
    );
    assert!(!report.root_is_lost && !report.end_is_lost && !report.restored);
    out
}

fn verdict(sealed: &[u8]) -> Option<Verdict> {
    verify::stream(&ring(), sealed, |_| ()).ok()
}

/// Repairs a file that is refused; what comes of it is all right, and does not change again.
#[track_caller]
fn repair_all(sealed: &[u8]) -> (Vec<u8>, Report) {
    assert_eq!(verdict(sealed), None);
    let (after, report) = repaired(sealed).unwrap();
    assert!(report.is_repaired);
    let plaintext = plaintext(&after, &report.lost);
    assert_eq!(verdict(&after).is_some(), report.lost.is_empty());
    assert_eq!(after[..HEADER_LEN], sealed[..HEADER_LEN]);
    let (again, second) = repaired(&after).unwrap();
    assert!(!second.is_repaired && again == after && second.lost == report.lost);
    (plaintext, report)
}

/// The remains of a change in a journal that is clear.
fn leave(sealed: &mut [u8], remains: &[u8]) {
    sealed[HEADER_LEN + ENTRY_LEN..][..remains.len()].copy_from_slice(remains);
}

/// The final chunk of a version.
fn end(version: &Version) -> (u64, usize, Vec<u8>) {
    let last = layout().final_chunk(version.plaintext.len() as u64);
    let sealed = version.sealed[at(last.index)..].to_vec();
    (last.index, last.len, sealed)
}

/// Makes a live entry that ends a file with the final chunk of a version. Its root fits nothing.
fn announce_end(history: &History, sealed: &mut [u8], of: &Version) {
    let (index, len, end) = end(of);
    let restore = history
        .0
        .restore_of(index, Some(len), &end, Default::default());
    history.set_journal(sealed, restore, &end);
}

fn chunks(range: Range<usize>) -> Range<usize> {
    range.start * CHUNK..range.end * CHUNK
}

#[test]
fn parts_of_two_versions_are_taken_as_they_lie() {
    let history = History::new();
    let len = 2 * GROUP + 700;
    let [older, newest] = [0, 1].map(|number| history.version(number, len));
    let tables = [0, 1, 2].map(|group| digest(group).start..at(group * GROUP_CHUNKS));
    for (parts, old) in [
        (&[chunk(0)][..], Some((0, 1))),
        (&[chunk(300), slot(300)], Some((300, 301))),
        (&[chunk(513), slot(4)], Some((513, 514))),
        (&[slot(300)], None),
        (&[digest(0)], None),
        (&[ROOT], None),
        (&[group(1)], Some((256, 512))),
        (&tables, None),
        (&[ROOT, chunk(255), chunk(256)], Some((255, 257))),
    ] {
        let (plaintext, report) = repair_all(&with(&newest.sealed, &older.sealed, parts));
        assert!(report.is_lossless() && !report.is_restored);
        let mut expected = newest.plaintext.clone();
        if let Some((first, end)) = old {
            let range = chunks(first..end);
            let range = range.start..range.end.min(len);
            expected[range.clone()].copy_from_slice(&older.plaintext[range]);
        }
        assert!(plaintext == expected, "{parts:?}");
    }
}

#[test]
fn torn_chunks_are_told_and_stay() {
    let history = History::new();
    let [older, newest] = [0, 1].map(|number| history.version(number, GROUP + 5000));
    let mut torn = newest.sealed.clone();
    for (index, from) in [(3, 100), (4, 540), (255, 7), (256, 0)] {
        let place = chunk(index);
        torn[place.start + from..place.end].fill(0);
    }
    // As long as the tree fits, there is nothing to be done.
    let (_, report) = repaired(&torn).unwrap();
    let lost = [3 * 512..5 * 512, 255 * 512..257 * 512];
    assert!(!report.is_repaired && report.lost == lost && !report.is_lossless());

    let mixed = with(&torn, &older.sealed, &[chunk(7), digest(0)]);
    let (plaintext, report) = repair_all(&mixed);
    assert_eq!(report.lost, lost);
    assert!(plaintext[chunks(7..8)] == older.plaintext[chunks(7..8)]);
    assert!(plaintext[chunks(257..260)] == newest.plaintext[chunks(257..260)]);

    // The journal has what one of them was to become, whether it is live or not.
    let mut kept = mixed.clone();
    leave(&mut kept, &newest.sealed[chunk(4)]);
    let (mended, report) = repair_all(&kept);
    assert_eq!(report.lost, [3 * 512..4 * 512, 255 * 512..257 * 512]);
    assert!(mended[chunks(4..5)] == newest.plaintext[chunks(4..5)] && report.is_restored);
    let restore = history
        .0
        .restore_of(5, None, &older.sealed[chunk(5)], Default::default());
    history.set_journal(&mut kept, restore, &older.sealed[chunk(5)]);
    let (mended, report) = repair_all(&kept);
    assert!(mended[chunks(5..6)] == older.plaintext[chunks(5..6)] && report.is_restored);
    // A void entry counts as none.
    kept[HEADER_LEN + 32] ^= 1;
    let (mended, report) = repair_all(&kept);
    assert!(mended[chunks(5..6)] == newest.plaintext[chunks(5..6)] && !report.is_restored);
}

#[test]
fn a_torn_growth_ends_where_it_began() {
    let history = History::new();
    for len in [0, 100, 700, GROUP - 1, GROUP, GROUP + 513] {
        let [before, other] = [0, 1].map(|number| history.version(number, len));
        let (index, _, last) = end(&before);
        let mut torn = before.sealed.clone();
        torn[ROOT].copy_from_slice(&other.sealed[ROOT]);

        // By its live entry, whatever lies there.
        let mut live = torn.clone();
        live[at(index)..].fill(7);
        live.extend_from_slice(&[0; 9000]);
        announce_end(&history, &mut live, &before);
        let (plaintext, report) = repair_all(&live);
        assert!(plaintext == before.plaintext && report.is_lossless() && report.is_restored);

        // By what is left in a journal that is clear, or at its place.
        let mut clear = torn.clone();
        clear.extend_from_slice(&[0; 9000]);
        let at_place = clear.clone();
        leave(&mut clear, &last);
        clear[at(index)..].fill(0);
        for torn in [clear.clone(), at_place] {
            let (plaintext, report) = repair_all(&torn);
            assert!(plaintext == before.plaintext && report.lost.is_empty());
            assert_eq!(report.cut_at, Some(len as u64));
        }
        // The size may be one that no file has, too, as long as nothing before that end is missing.
        for size in [at(index), at(index) + 1, at(index) + last.len() - 1] {
            let (plaintext, _) = repair_all(&clear[..size]);
            assert!(plaintext == before.plaintext);
        }

        // Not where that would drop a chunk.
        let longer = history.version(1, len + 3 * CHUNK);
        let mut grown = longer.sealed.clone();
        leave(&mut grown, &last);
        let size = grown.len();
        grown[size - 1] ^= 1;
        assert!(matches!(repaired(&grown), Err(RepairError::NoEnd)));
        grown.extend_from_slice(&[0; 9000]);
        assert!(matches!(repaired(&grown), Err(RepairError::NoEnd)));
    }
}

#[test]
fn an_entry_that_is_older_than_the_end_cuts_nothing_off() {
    let history = History::new();
    for (from, to) in [(100, 200), (100, 3000), (GROUP - 1, 2 * GROUP)] {
        let [before, after] =
            [(0, from), (1, to)].map(|(number, len)| history.version(number, len));
        let mut live = after.sealed.clone();
        announce_end(&history, &mut live, &before);
        let (plaintext, report) = repair_all(&live);
        assert!(plaintext == after.plaintext && report.is_lossless() && !report.is_restored);
        // But what was in the chunk before is not given up for one that is torn.
        if to / CHUNK > from / CHUNK {
            live[at(end(&before).0) + 50] ^= 1;
            let mut rest = live.clone();
            let head = at(0)..at(end(&before).0);
            rest[head.clone()].copy_from_slice(&before.sealed[head]);
            rest[ROOT].fill(1);
            let (plaintext, report) = repair_all(&rest);
            assert!(plaintext == before.plaintext && report.is_restored);
        }
    }
}

#[test]
fn what_has_no_end_or_no_head_is_left_alone() {
    let whole = History::new().version(0, 2 * GROUP + 700).sealed;
    for len in [
        HEADER_LEN,
        HEADER_LEN + ENTRY_LEN,
        at(0) - TABLE_LEN - 1,
        at(0),
        at(3) + 50,
        chunk(255).end,
        at(256),
        whole.len() - 1,
    ] {
        let disk = Frail::new(&whole[..len], 0);
        let outcome = repair::one(&ring(), &disk, false);
        assert!(matches!(outcome, Err(RepairError::NoEnd)), "{len}");
        assert!(*disk.seen.borrow() == whole[..len]);
    }
    let mut damaged = whole.clone();
    damaged[70] ^= 1;
    for bytes in [&damaged[..], &whole[..95], b"plain"] {
        let outcome = repair::one(&ring(), &Frail::new(bytes, 0), false);
        assert!(matches!(outcome, Err(RepairError::Bad(_))));
    }
}

#[test]
fn whatever_ends_a_repair_the_next_one_goes_on() {
    let history = History::new();
    let [older, newest] = [0, 1].map(|number| history.version(number, 2 * GROUP + 700));
    let mixed = with(&newest.sealed, &older.sealed, &[chunk(3), slot(300), ROOT]);
    let shorter = history.version(2, GROUP + 100);
    let mut grown = mixed.clone();
    grown[group(0)].copy_from_slice(&shorter.sealed[group(0)]);
    let mut full = mixed.clone();
    let restore = history
        .0
        .restore_of(9, None, &older.sealed[chunk(9)], Default::default());
    history.set_journal(&mut full, restore, &older.sealed[chunk(9)]);
    let mut undone = grown.clone();
    undone.truncate(mixed.len() - 5);
    announce_end(&history, &mut undone, &shorter);
    let mut cut = grown.clone();
    cut[at(256)..].fill(0);
    leave(&mut cut, &end(&shorter).2);
    let mut torn = mixed.clone();
    torn[chunk(5)][50..90].fill(0);

    // A repeatable scatter.
    let mut state = 1_u64;
    let mut coin = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 63 == 0
    };
    for broken in [mixed, full, undone, cut, torn] {
        let (expected, report) = repair_all(&broken);
        let mut steps = 0;
        loop {
            let disk = Frail::new(&broken, steps);
            match repair::one(&ring(), &disk, false) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, RepairError::Write(_)), "{error}"),
            }
            let mut left = vec![disk.seen.borrow().clone()];
            left.extend((0..10).map(|_| disk.after_power_loss(&mut coin)));
            for left in left {
                // Either all is done, or it is refused and gone on with.
                let after = match verdict(&left) {
                    Some(verdict) => {
                        assert!(matches!(verdict, Verdict::Whole { .. }));
                        left
                    }
                    None => repaired(&left).unwrap().0,
                };
                assert!(plaintext(&after, &report.lost) == expected, "{steps}");
            }
            steps += 1;
        }
        assert!(steps > 3, "{steps}");
    }
}

#[test]
fn no_change_is_made_by_a_dry_run() {
    let history = History::new();
    let [older, newest] = [0, 1].map(|number| history.version(number, GROUP + 9));
    let mixed = with(&newest.sealed, &older.sealed, &[chunk(3)]);
    let planned = repair::one(&ring(), &Frail::new(&mixed, 0), true).unwrap();
    assert_eq!(planned, Repaired::Sealed(repaired(&mixed).unwrap().1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Whatever is put together from two versions of a file, and damaged besides: every chunk that is
    /// there stays as it is, and the others are told; and so it is where the power fails meanwhile.
    #[test]
    fn what_is_there_stays_and_what_is_not_is_told(
        sizes in prop::array::uniform2(0..2 * GROUP + 2000),
        same_size in any::<bool>(),
        length_of in 0..2_usize,
        root_of in 0..2_usize,
        old in prop::collection::vec((0..4_u8, 0..520_u64), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..40_usize), 0..3),
        room_of in 0..2_usize,
        live in any::<Option<bool>>(),
        steps in 0..9_usize,
        coins in any::<u64>(),
    ) {
        let history = History::new();
        let sizes = [sizes[0], if same_size { sizes[0] } else { sizes[1] }];
        let versions = [0, 1].map(|number| history.version(number as u8, sizes[number]));
        let (base, other) = (&versions[length_of].sealed, &versions[1 - length_of].sealed);
        let mut mixed = mixed(base, other, &old);
        mixed[ROOT].copy_from_slice(&versions[root_of].sealed[ROOT]);
        let place = HEADER_LEN + ENTRY_LEN + CHUNK + layout().overhead();
        for (index, len) in damage {
            let start = place + index.index(mixed.len() - place);
            let end = (start + len).min(mixed.len());
            mixed[start..end].fill(0xEE);
        }
        let kept = &versions[room_of];
        match live {
            Some(true) => announce_end(&history, &mut mixed, kept),
            Some(false) => leave(&mut mixed, &end(kept).2),
            None => {}
        }

        let Ok((after, report)) = repaired(&mixed) else {
            // Only where the end is not what one of the two ends with.
            let (index, _, last) = end(&versions[length_of]);
            prop_assert!(mixed[at(index)..] != last);
            return Ok(());
        };
        let out = plaintext(&after, &report.lost);
        let mut lost = Vec::new();
        for (index, piece) in (0..).zip(out.chunks(CHUNK)) {
            let from = index as usize * CHUNK;
            let of = |version: &&Version| version.plaintext.get(from..from + piece.len()) == Some(piece);
            if !versions.iter().any(|version| of(&version)) {
                lost.push(from as u64);
            } else if piece.len() == CHUNK && let Some(sealed) = mixed.get(chunk(index)) {
                // As it lay there.
                let lies = versions.iter().find(|version| version.sealed.get(chunk(index)) == Some(sealed));
                prop_assert!(lies.is_none_or(|version| of(&version)));
            }
        }
        let told: Vec<u64> = report.lost.iter().flat_map(|lost| lost.clone().step_by(CHUNK)).collect();
        prop_assert_eq!(told, lost);

        let disk = Frail::new(&mixed, steps);
        if repair::one(&ring(), &disk, false).is_err() {
            let mut coins = coins;
            let left = disk.after_power_loss(|| {
                coins = coins.rotate_left(1);
                coins & 1 == 0
            });
            let left = match verdict(&left) {
                Some(_) => left,
                None => repaired(&left).unwrap().0,
            };
            prop_assert!(plaintext(&left, &report.lost) == out);
        }
    }
}

const REPAIR: [&str; 4] = ["repair", "-k", "a.bin", "tree"];

/// A tree with a file in order, one that a power loss left in parts, one of which a chunk is torn as
/// well, one without an end, and what is not sealed.
fn tree() -> (Room, [Version; 2]) {
    let room = Room::with_key(&KEY);
    let history = History::new();
    let versions = [0, 1].map(|number| history.version(number, GROUP + 5000));
    let [older, newest] = &versions;
    let mixed = with(&newest.sealed, &older.sealed, &[chunk(3), chunk(260)]);
    fs::create_dir(room.path("tree")).unwrap();
    room.write("tree/whole", &newest.sealed);
    room.write("tree/mixed", &mixed);
    let mut torn = mixed.clone();
    torn[chunk(8)].fill(0);
    torn[chunk(9)].fill(0);
    room.write("tree/torn", &torn);
    room.write("tree/cut", &mixed[..mixed.len() - 1]);
    room.write("tree/plain", b"text");
    room.write("tree/empty", b"");
    (room, versions)
}

#[test]
fn a_tree_is_repaired_in_place() {
    let (room, [older, newest]) = tree();
    fs::hard_link(room.path("tree/mixed"), room.path("other-name")).unwrap();
    room.set_mode("tree/mixed", 0o640);
    let verify = ["verify", "-k", "a.bin", "tree/mixed"];
    room.fails(
        &verify,
        &[
            "chunk 3 is not the one",
            "(after a power loss: `keys repair`)",
        ],
    );
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    let whole = File::options().write(true).open(room.path("tree/whole"));
    whole.unwrap().set_times(times).unwrap();
    let state = |name: &str| {
        let metadata = fs::metadata(room.path(name)).unwrap();
        (
            metadata.ino(),
            metadata.mtime(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        )
    };
    let names = ["whole", "mixed", "torn", "cut"].map(|name| format!("tree/{name}"));
    let before = names.each_ref().map(|name| (state(name), room.read(name)));

    let said = |args: &[&str]| {
        let output = room.run(args);
        assert_eq!(output.status.code(), Some(1));
        [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap())
    };
    let rest = "1 with bytes that are lost, 1 failed, 1 whole and unaltered, 1 of zero bytes, \
                1 not sealed\n";
    let told = "keys: tree/cut: its end is lost, and it can't be made whole without; it is left as \
                it is, and `keys recover` saves what is left\n\
                keys: tree/torn: lost: 1024 bytes from offset 4096\n";
    let [stdout, stderr] = said(&[&REPAIR[..], &["--dry-run"]].concat());
    let lines = "tree/mixed: to be repaired\ntree/torn: to be repaired\n2 to be repaired, ";
    assert_eq!(
        (stdout, stderr),
        (format!("{lines}{rest}"), told.to_owned())
    );
    assert!(before == names.each_ref().map(|name| (state(name), room.read(name))));

    let [stdout, stderr] = said(&REPAIR);
    let lines = "tree/mixed: repaired\ntree/torn: repaired\n2 repaired, ";
    assert_eq!(
        (stdout, stderr),
        (format!("{lines}{rest}"), told.to_owned())
    );
    for name in ["tree/whole", "tree/cut"] {
        let known = names.iter().position(|known| known == name).unwrap();
        assert!(before[known] == (state(name), room.read(name)));
    }
    assert_eq!(state("tree/mixed").0, before[1].0.0);
    assert!(room.read("other-name") == room.read("tree/mixed"));
    assert_eq!(room.mode("other-name"), 0o640);
    room.ok(&verify);
    let mut expected = newest.plaintext.clone();
    for range in [chunks(3..4), chunks(260..261)] {
        expected[range.clone()].copy_from_slice(&older.plaintext[range]);
    }
    let opened = room.run(&["open", "-k", "a.bin", "tree/mixed", "-o", "-"]);
    assert!(opened.status.success() && opened.stdout == expected);
    let output = room.run(&["recover", "-k", "a.bin", "tree/torn", "-o", "out"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("tree/torn: lost: 1024 bytes from offset 4096\ntree/torn: recovered"));
    expected[chunks(8..10)].fill(0);
    assert!(room.read("out") == expected);

    // Nothing is left to be done, and what is lost is told again.
    let output = room.run(&REPAIR);
    let said = String::from_utf8(output.stdout).unwrap();
    let rest = rest.replace("1 whole", "2 whole");
    assert_eq!(said, format!("0 repaired, {rest}"));
    room.ok(&["repair", "-k", "a.bin", "tree/mixed", "tree/whole"]);
    room.fails(&["repair", "-k", "a.bin", "none"], &["none: "]);
    room.fails_with(&["repair", "-k", "k.bin", "tree"], "wrong key");
}

#[test]
fn a_file_in_use_is_waited_for_or_told() {
    let (room, _) = tree();
    let path = room.path("tree/mixed");
    let before = room.read("tree/mixed");
    let repair = ["repair", "-k", "a.bin", "tree/mixed"];
    let hold = |mode| {
        let held = File::options().read(true).write(true).open(&path).unwrap();
        assert!(lock(&held, mode, Duration::ZERO).unwrap());
        held
    };
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        let held = hold(mode);
        room.fails_with(&[&repair[..], &["--wait", "0"]].concat(), "in use");
        drop(held);
    }
    assert!(room.read("tree/mixed") == before);
    let held = hold(LockMode::Exclusive);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            drop(held);
        });
        let said = room.ok(&repair);
        assert_eq!(said, "tree/mixed: repaired\n1 repaired\n");
    });
}

#[test]
fn what_the_journal_restores_needs_no_repair() {
    let room = Room::with_key(&KEY);
    let history = History::new();
    let before = history.version(0, 700);
    let (index, len, last) = end(&before);
    let root = history.tree(&before).root(700);
    let mut torn = before.sealed.clone();
    torn.extend_from_slice(&[7; 5000]);
    let restore = history.0.restore_of(index, Some(len), &last, root);
    history.set_journal(&mut torn, restore, &last);
    room.write("f", &torn);
    let said = room.ok(&["repair", "-k", "a.bin", "f"]);
    assert!(
        said.starts_with("0 repaired, 1 with a change cut short"),
        "{said}"
    );
    assert!(room.read("f") == torn);
    // Where it does not fit, it is repaired by it.
    torn[ROOT.start + 48] ^= 1;
    room.write("f", &torn);
    let said = room.ok(&["repair", "-k", "a.bin", "f"]);
    assert_eq!(
        said,
        "f: repaired, with its last change undone or completed\n1 repaired\n"
    );
    let opened = room.run(&["open", "-k", "a.bin", "f", "-o", "-"]);
    assert!(opened.stdout == before.plaintext && opened.stderr.is_empty());
}

#[test]
fn where_a_file_was_cut_is_told() {
    let room = Room::with_key(&KEY);
    let version = History::new().version(0, 700);
    room.write("f", &[&version.sealed[..], &[0; 5000]].concat());
    let output = room.run(&["repair", "-k", "a.bin", "f"]);
    assert_eq!(output.status.code(), Some(1));
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    let lost = "keys: f: lost: what was behind offset 700\n";
    let repaired = "f: repaired\n1 repaired, 1 with bytes that are lost\n";
    assert_eq!(said, [repaired, lost]);
    assert!(room.read("f").len() == version.sealed.len());
    room.ok(&["verify", "-k", "a.bin", "f"]);
}

#[test]
fn what_may_not_be_written_is_told() {
    if is_root() {
        return;
    }
    let (room, _) = tree();
    room.set_mode("tree/mixed", 0o400);
    let before = room.read("tree/mixed");
    let repair = ["repair", "-k", "a.bin", "tree/mixed"];
    room.fails_with(&repair, "tree/mixed: cannot write: ");
    assert!(room.read("tree/mixed") == before);
    room.ok(&[&repair[..], &["--dry-run"]].concat());
}

#[test]
fn a_full_chunk_that_was_being_replaced_is_replaced() {
    let history = History::new();
    let version = history.version(0, 3000);
    let mut new = vec![0; CHUNK + layout().overhead()];
    history
        .0
        .seal_run(2, &[b'n'; CHUNK], &mut new, &mut SysRng)
        .unwrap();
    let mut live = version.sealed.clone();
    live[chunk(2)][..70].copy_from_slice(&new[..70]);
    let restore = history.0.restore_of(2, None, &new, Default::default());
    history.set_journal(&mut live, restore, &new);
    let (plaintext, report) = repair_all(&live);
    assert!(report.is_restored && report.is_lossless());
    assert!(plaintext[chunks(2..3)] == [b'n'; CHUNK]);
    assert!(plaintext[chunks(3..5)] == version.plaintext[chunks(3..5)]);
}
