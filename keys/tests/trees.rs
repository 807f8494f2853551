//! Verifying and rekeying whole trees, from outside: in peace, under writers, and killed.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::{Cursor, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, fchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use getrandom::SysRng;
use keys::KeyRing;
use keys::disk::FileDisk;
use keys::lock::{LockMode, lock};
use keys::transfer::{self, SealedFile};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use sealed::{FileCipher, KeyId, MasterKey, Params, Volume};

use room::{Room, is_root};

const A: [u8; 32] = [0xAA; 32];
const B: [u8; 32] = [0xBB; 32];

fn ring() -> KeyRing {
    let mut ring = KeyRing::new("a", MasterKey::from_bytes(A));
    ring.add("b", MasterKey::from_bytes(B));
    ring
}

fn id(key: [u8; 32]) -> KeyId {
    MasterKey::from_bytes(key).id()
}

/// A room with the keys `a.bin` and `b.bin`.
fn room() -> Room {
    let room = Room::new();
    for (name, key) in [("a.bin", A), ("b.bin", B)] {
        room.write(name, &key);
        room.set_mode(name, 0o600);
    }
    room
}

fn plaintext(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i * 7 + seed * 13 + (i >> 8)) as u8)
        .collect()
}

fn seal(path: &Path, key: [u8; 32], plaintext: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, sealed(key, plaintext)).unwrap();
}

fn sealed(key: [u8; 32], plaintext: &[u8]) -> Vec<u8> {
    let key = MasterKey::from_bytes(key);
    let mut sealed = Cursor::new(Vec::new());
    transfer::seal(&key, Params::default(), plaintext, &mut sealed, |_| ()).unwrap();
    sealed.into_inner()
}

/// Where a chunk of such a file begins.
fn at(path: &Path, index: u64) -> u64 {
    let sealed = fs::read(path).unwrap();
    if sealed.len() >= sealed::DATA_START as usize {
        return Params::default().layout().chunk_offset(index).unwrap();
    }
    // All log: a record with one part.
    let count = u64::from_le_bytes(*sealed[1536 + 40..].first_chunk().unwrap());
    1536 + 56 + 16 * count + index * 4136
}

/// The key and plaintext of a file.
#[track_caller]
fn open(path: &Path) -> (KeyId, Vec<u8>) {
    let file = File::open(path).unwrap();
    let input = SealedFile::new(&file).unwrap();
    let key = input.key_id().unwrap();
    let mut plaintext = Vec::new();
    if let Err(error) = transfer::open(&ring(), &input, Duration::ZERO, &mut plaintext, |_| ()) {
        panic!("{}: {error}", path.display());
    }
    (key, plaintext)
}

/// All names below a directory, sorted.
fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            names.extend(self::names(&path));
        } else {
            names.push(path);
        }
    }
    names.sort();
    names
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn verify_checks_all_of_a_tree() {
    let room = room();
    for i in 0..20 {
        let key = if i % 2 == 0 { A } else { B };
        let path = room.path(&format!("tree/{}/f{i}", i % 3));
        seal(&path, key, &plaintext(i, i * 1000));
    }
    fs::hard_link(room.path("tree/0/f0"), room.path("tree/also-f0")).unwrap();
    room.write("tree/plain", b"text");
    room.write("tree/empty", b"");
    symlink("../a.bin", room.path("tree/link")).unwrap();
    symlink("..", room.path("tree/loop")).unwrap();
    let verify = ["verify", "-k", "a.bin", "-k", "b.bin", "tree"];
    let said = room.ok(&verify);
    assert_eq!(
        said,
        "20 whole and unaltered, 1 of zero bytes, which nothing vouches for, 1 not sealed\n"
    );
    let output = room.run(&[&verify[..], &["--strict"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 2, "{errors}");

    let flip_in = |name: &str, index, offset| {
        let path = room.path(name);
        flip(&path, at(&path, index) + offset);
    };
    flip_in("tree/2/f5", 0, 100);
    flip_in("tree/1/f19", 1, 500);
    fs::write(room.path("tree/0/f3"), &room.read("tree/0/f3")[..1540]).unwrap();
    for jobs in ["1", "3"] {
        let output = room.run(&[&verify[..], &["--jobs", jobs]].concat());
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = errors.lines().collect();
        assert!(lines.len() == 3, "{errors}");
        assert!(
            lines[0].starts_with("keys: tree/0/f3: ") && lines[0].contains("record 1 of the log")
        );
        assert!(lines[1].starts_with("keys: tree/1/f19: chunk 1 is damaged"));
        assert!(lines[2].starts_with("keys: tree/2/f5: chunk 0 is damaged"));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("17 whole and unaltered, 3 bad"), "{said}");
    }
    // Of one key only, every other file is another's.
    let output = room.run(&["verify", "-k", "a.bin", "tree/1"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.lines().all(|line| line.contains("wrong key")),
        "{errors}"
    );
}

#[test]
fn verify_waits_for_who_changes_a_file() {
    let room = room();
    let path = room.path("tree/f");
    seal(&path, A, &plaintext(1, 9000));
    let damaged = at(&path, 1) + 500;
    flip(&path, damaged);
    let writer = File::options().write(true).open(&path).unwrap();
    assert!(lock(&writer, LockMode::Exclusive, Duration::ZERO).unwrap());
    room.fails_with(
        &["verify", "-k", "a.bin", "--wait", "0", "tree"],
        "being changed",
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            flip(&path, damaged);
            drop(writer);
        });
        room.ok(&["verify", "-k", "a.bin", "tree"]);
    });
}

#[test]
fn a_killed_check_goes_on_where_it_was_and_trusts_no_file_that_changed() {
    const FILES: usize = 40;
    let room = room();
    let path = |i: usize| room.path(&format!("tree/f{i:02}"));
    for i in 0..FILES {
        seal(&path(i), A, &plaintext(i, 1 << 20));
    }
    // What changed a moment ago is not noted.
    thread::sleep(Duration::from_millis(2100));
    let verify = [
        "verify", "-k", "a.bin", "tree", "--state", "state", "--jobs", "1",
    ];
    let noted = || {
        let state = fs::read_to_string(room.path("state")).unwrap_or_default();
        let whole = state.lines().filter(|line| line.starts_with("whole "));
        whole.count()
    };

    // Killed twice, it never loses what it had done. One that was too fast to be killed is gone,
    // with all it had noted.
    let (mut kills, mut before) = (0, 0);
    for _ in 0..20 {
        let mut child = room.command(&verify).stdout(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && noted() < before + 8 {
            thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            (kills, before) = (0, 0);
            continue;
        }
        assert!(noted() >= before, "notes were lost");
        (kills, before) = (kills + 1, noted());
        if kills == 2 {
            break;
        }
    }
    assert_eq!(kills, 2, "it was never killed in the middle");
    assert!(before > 2 && before < FILES, "{before}");

    // A file that was found whole is damaged now, and its time of modification set back.
    let times = fs::metadata(path(0)).unwrap();
    flip(&path(0), 500_000);
    let file = File::options().write(true).open(path(0)).unwrap();
    file.set_times(FileTimes::new().set_modified(times.modified().unwrap()))
        .unwrap();
    let output = room.run(&verify);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("keys: tree/f00: chunk "), "{errors}");
    let said = String::from_utf8(output.stdout).unwrap();
    // One file is not known any more.
    let known = before - 1;
    let whole = FILES - 1;
    let summary = format!("{whole} whole and unaltered, {known} of them checked before, 1 bad\n");
    assert_eq!(said, summary);
    // What is left is how old each file is.
    let state = fs::read_to_string(room.path("state")).unwrap();
    assert!(state.lines().skip(1).all(|line| line.starts_with("age ")));
}

/// What a tree has to have, whatever becomes of it.
struct Tree {
    room: Room,
    /// Each name with its plaintext.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Names of one file each.
    groups: Vec<Vec<PathBuf>>,
}

const MODIFIED: Duration = Duration::from_nanos(1_000_000_000_123_456_789);

impl Tree {
    /// Files of all sizes under key A, some with several names, in three directories; and what is
    /// not sealed.
    fn new(count: usize) -> Self {
        let room = room();
        let mut files = BTreeMap::new();
        let mut groups = Vec::new();
        for i in 0..count {
            let first = room.path(&format!("tree/d{}/f{i}", i % 3));
            let contents = plaintext(i, [0, 1, 4096, 9000, 200_000][i % 5]);
            seal(&first, A, &contents);
            let mut group = vec![first.clone()];
            for more in 0..(i % 4) {
                let name = room.path(&format!("tree/d{}/l{i}-{more}", (i + more) % 3));
                fs::create_dir_all(name.parent().unwrap()).unwrap();
                fs::hard_link(&first, &name).unwrap();
                group.push(name);
            }
            let file = File::options().write(true).open(&first).unwrap();
            file.set_permissions(PermissionsExt::from_mode(0o600 + (i as u32 % 0o100)))
                .unwrap();
            let modified = SystemTime::UNIX_EPOCH + MODIFIED + Duration::from_secs(i as u64);
            file.set_times(FileTimes::new().set_modified(modified))
                .unwrap();
            files.extend(group.iter().map(|name| (name.clone(), contents.clone())));
            groups.push(group);
        }
        room.write("tree/plain", b"text");
        room.write("tree/d1/empty", b"");
        symlink("d0/f0", room.path("tree/link")).unwrap();
        Self {
            room,
            files,
            groups,
        }
    }

    /// Every name there is stands for its contents, under one of the two keys.
    fn check_contents(&self) {
        for (name, contents) in &self.files {
            assert!(open(name).1 == *contents, "{}", name.display());
        }
        assert_eq!(self.room.read("tree/plain"), b"text");
        assert_eq!(self.room.read("tree/d1/empty"), b"");
        assert!(self.room.path("tree/link").is_symlink());
    }

    /// All of it is under that key, as it was before in all else, and nothing else is there.
    fn check_moved(&self, key: [u8; 32]) {
        self.check_contents();
        for (i, group) in self.groups.iter().enumerate() {
            let inodes: BTreeSet<_> = group
                .iter()
                .map(|name| fs::metadata(name).unwrap().ino())
                .collect();
            assert_eq!(inodes.len(), 1, "{group:?} are one file no more");
            let metadata = fs::metadata(&group[0]).unwrap();
            assert_eq!(metadata.nlink(), group.len() as u64);
            assert_eq!(open(&group[0]).0, id(key), "{group:?}");
            assert_eq!(metadata.mode() & 0o7777, 0o600 + (i as u32 % 0o100));
            let modified = metadata.modified().unwrap();
            let expected = SystemTime::UNIX_EPOCH + MODIFIED + Duration::from_secs(i as u64);
            assert_eq!(modified, expected);
        }
        let mut expected: Vec<_> = self.files.keys().cloned().collect();
        expected
            .extend(["plain", "d1/empty", "link"].map(|name| self.room.path("tree").join(name)));
        expected.sort();
        assert_eq!(names(&self.room.path("tree")), expected);
    }
}

impl Tree {
    /// As a killed run leaves it: all names of a file but the last one are the new file's. Answers
    /// the temporary name.
    fn leave_apart(&self, group: &[PathBuf]) -> PathBuf {
        let (last, moved) = group.split_last().unwrap();
        let old = fs::metadata(last).unwrap();
        let (inode, links) = (old.ino(), group.len());
        let temporary =
            group[0].with_file_name(format!(".keys-rekey-{inode:x}-{links:x}-0.partial"));
        seal(&temporary, B, &self.files[last]);
        let file = File::options().write(true).open(&temporary).unwrap();
        file.set_permissions(old.permissions()).unwrap();
        file.set_times(FileTimes::new().set_modified(old.modified().unwrap()))
            .unwrap();
        for name in moved {
            fs::remove_file(name).unwrap();
            fs::hard_link(&temporary, name).unwrap();
        }
        temporary
    }
}

const TO_B: [&str; 6] = ["rekey", "--key", "b.bin", "--from", "a.bin", "tree"];
const TO_A: [&str; 6] = ["rekey", "--key", "a.bin", "--from", "b.bin", "tree"];

#[test]
fn a_tree_moves_to_another_key_and_stays_what_it_was() {
    let tree = Tree::new(24);
    let room = &tree.room;
    let said = room.ok(&[&TO_B[..], &["--dry-run"]].concat());
    assert!(
        said.contains(": 24 to be moved, 1 of zero bytes, 1 not sealed"),
        "{said}"
    );
    tree.check_moved(A);
    let said = room.ok(&TO_B);
    assert!(
        said.contains(": 24 moved, 1 of zero bytes, 1 not sealed"),
        "{said}"
    );
    assert!(said.contains(&id(B).to_string()));
    tree.check_moved(B);

    // Nothing to do for a second run: nothing is touched.
    let state = || -> Vec<_> {
        names(&room.path("tree"))
            .iter()
            .map(|name| fs::symlink_metadata(name).unwrap())
            .map(|metadata| (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
            .collect()
    };
    let before = state();
    let said = room.ok(&TO_B);
    assert!(
        said.contains(": 0 moved, ") && said.contains("24 sealed with it before"),
        "{said}"
    );
    assert_eq!(state(), before);
    room.ok(&["verify", "-k", "b.bin", "tree"]);
}

#[test]
fn owner_and_extended_attributes_stay() {
    let room = room();
    let path = room.path("tree/f");
    seal(&path, A, b"x");
    if is_root() {
        fchown(File::open(&path).unwrap(), Some(4711), Some(815)).unwrap();
    }
    room.set_mode("tree/f", 0o4640);
    let has_attributes = setxattr(&path, "user.note", b"kept", XattrFlags::empty()).is_ok();
    let before = fs::metadata(&path).unwrap();
    room.ok(&TO_B);
    let after = fs::metadata(&path).unwrap();
    assert_ne!(after.ino(), before.ino());
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert_eq!(after.mode(), before.mode());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!(after.accessed().unwrap(), before.accessed().unwrap());
    if has_attributes {
        let mut value = [0; 16];
        let len = getxattr(&path, "user.note", &mut value).unwrap();
        assert_eq!(&value[..len], b"kept");
    }
}

#[test]
fn what_cannot_be_moved_is_told_and_left_alone() {
    let room = room();
    let path = |name: &str| room.path(&format!("tree/{name}"));
    for (i, name) in ["good", "damaged", "shared", "locked"].iter().enumerate() {
        seal(&path(name), A, &plaintext(i, 9000));
    }
    seal(&path("other"), [0xCC; 32], b"x");
    flip(&path("damaged"), at(&path("damaged"), 1) + 500);
    fs::hard_link(path("shared"), room.path("elsewhere")).unwrap();
    let locked = File::options().write(true).open(path("locked")).unwrap();
    assert!(lock(&locked, LockMode::Exclusive, Duration::ZERO).unwrap());
    let left = ["damaged", "shared", "locked", "other"];
    let before = left.map(|name| fs::read(path(name)).unwrap());

    let output = room.run(&[&TO_B[..], &["--wait", "0"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let other = id([0xCC; 32]).to_string();
    let says: [&[&str]; 4] = [
        &["tree/damaged: chunk 1 is damaged"],
        &["tree/locked: in use"],
        &["tree/other: wrong key", &other, "a.bin", "b.bin"],
        &["tree/shared: has 2 names, and only 1"],
    ];
    assert_eq!(errors.lines().count(), says.len(), "{errors}");
    for (line, says) in errors.lines().zip(says) {
        assert!(says.iter().all(|part| line.contains(part)), "{line}");
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(": 1 moved, 4 failed"), "{said}");
    assert!(left.map(|name| fs::read(path(name)).unwrap()) == before);
    assert_eq!(names(&room.path("tree")).len(), 5);

    // With the lock released, and all names in view.
    drop(locked);
    let output = room.run(&[&TO_B[..], &["elsewhere"]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains(": 2 moved, 2 failed, 1 sealed with it before"),
        "{said}"
    );
    assert_eq!(open(&path("shared")).0, id(B));
    let inodes = [path("shared"), room.path("elsewhere")].map(|name| fs::metadata(name).unwrap());
    assert_eq!(inodes[0].ino(), inodes[1].ino());

    room.fails(
        &["rekey", "--key", "a.bin", "tree"],
        &["only key", "--from"],
    );
    room.fails(
        &["rekey", "--key", "a.bin", "--from", "a.bin", "tree"],
        &["only key"],
    );
    room.fails(&[&TO_B[..5], &["none"]].concat(), &["none: "]);
}

#[test]
fn a_file_that_changes_all_the_time_is_not_lost() {
    let room = room();
    let path = room.path("tree/f");
    seal(&path, A, &plaintext(3, 30 << 20));
    let file = File::options().write(true).open(&path).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seconds = 0;
            while !stop.load(Ordering::Relaxed) {
                seconds += 1;
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                file.set_times(FileTimes::new().set_modified(modified))
                    .unwrap();
            }
        });
        room.fails_with(&TO_B, "tree/f: changed each time");
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(open(&path).0, id(A));
    assert_eq!(names(&room.path("tree")).len(), 1);
}

#[test]
fn who_has_the_old_file_open_gets_no_silence() {
    let room = room();
    let path = room.path("tree/f");
    seal(&path, A, b"x");
    let old = File::options().read(true).write(true).open(&path).unwrap();
    let master = MasterKey::from_bytes(A);
    let opened = Volume::open(&FileDisk(&old), |head| FileCipher::open(&master, head));
    let mut volume = opened.unwrap().volume.unwrap();
    assert!(matches!(volume.refresh(&FileDisk(&old)), Ok(true)));
    room.ok(&TO_B);
    // It is still a sealed file, and refused.
    let disk = FileDisk(&old);
    let master = MasterKey::from_bytes(A);
    let opened = Volume::open(&disk, |head| FileCipher::open(&master, head));
    assert!(matches!(
        opened,
        Err(sealed::Failure::Sealed(sealed::Error::SuperblockCorrupt {
            slot: 0
        }))
    ));
    // To who had it open, too.
    assert!(matches!(volume.refresh(&disk), Ok(false)));
    assert_eq!(open(&path), (id(B), b"x".to_vec()));
}

#[test]
fn a_killed_run_loses_nothing_and_the_next_goes_on() {
    let tree = Tree::new(40);
    let mut kills = 0;
    let mut between = 0;
    // A repeatable scatter of moments.
    let mut state = 1_u64;
    let mut moment = |most: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_micros((state >> 33) % most)
    };
    for (round, command) in [TO_B, TO_A].into_iter().cycle().enumerate() {
        if kills >= 60 && between >= 5 || round == 60 {
            break;
        }
        loop {
            let mut child = tree
                .room
                .command(&[&command[..], &["--jobs", "3"]].concat())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(moment(25_000));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            kills += 1;
            tree.check_contents();
            between += tree
                .groups
                .iter()
                .filter(|group| {
                    let inode = |name: &PathBuf| fs::metadata(name).unwrap().ino();
                    group.iter().any(|name| inode(name) != inode(&group[0]))
                })
                .count();
        }
        tree.check_moved(if command == TO_B { B } else { A });
    }
    assert!(
        kills >= 60 && between >= 5,
        "{kills} kills, {between} between names"
    );
}

#[test]
fn names_that_were_left_apart_come_together_again() {
    let tree = Tree::new(8);
    let group = &tree.groups[2];
    let temporary = tree.leave_apart(group);
    // Not by a run that does not see all of them.
    assert!(group[0].starts_with(tree.room.path("tree/d2")));
    assert!(group[2].starts_with(tree.room.path("tree/d0")));
    let part = [&TO_B[..5], &["tree/d2"]].concat();
    tree.room
        .fails_with(&part, "left by a killed run that moved some names");
    assert!(temporary.exists());
    tree.check_contents();
    tree.room.ok(&TO_B);
    tree.check_moved(B);
}

#[test]
fn names_that_were_left_apart_and_changed_stay_apart() {
    let tree = Tree::new(8);
    let room = &tree.room;
    let group = &tree.groups[2];
    let temporary = tree.leave_apart(group);
    // Meanwhile the old one changed, by its remaining name.
    let changed = plaintext(99, 5000);
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .open(&group[2])
        .unwrap();
    file.write_all(&sealed(A, &changed)).unwrap();

    for _ in 0..2 {
        let output = room.run(&TO_B);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains("was the same file as"), "{errors}");
        assert_eq!(open(&group[2]), (id(A), changed.clone()));
        assert_eq!(open(&group[0]), (id(B), tree.files[&group[0]].clone()));
    }
    // As the message says.
    fs::remove_file(&temporary).unwrap();
    room.ok(&TO_B);
    assert_eq!(open(&group[2]), (id(B), changed));
    assert_ne!(
        fs::metadata(&group[2]).unwrap().ino(),
        fs::metadata(&group[0]).unwrap().ino()
    );
}

/// A file to which a record was added that a kill cut short.
fn cut_short(path: &Path, key: [u8; 32], plaintext: &[u8]) {
    seal(path, key, plaintext);
    let file = File::options().read(true).write(true).open(path).unwrap();
    let disk = FileDisk(&file);
    let master = MasterKey::from_bytes(key);
    let opened = Volume::open(&disk, |head| FileCipher::open(&master, head)).unwrap();
    let mut volume = opened.volume.unwrap();
    volume.write(&disk, &mut SysRng, 100, &[1; 9000]).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 5000).unwrap();
}

#[test]
fn a_file_whose_last_change_was_cut_short_is_whole_to_all_commands() {
    let room = room();
    let contents = plaintext(1, 9000);
    let path = room.path("tree/f");
    cut_short(&path, A, &contents);
    let said = room.ok(&["verify", "-k", "a.bin", "tree"]);
    assert_eq!(said, "1 whole and unaltered\n");
    let said = room.ok(&["recover", "-k", "a.bin", "tree/f", "-o", "out"]);
    assert_eq!(said, "tree/f: recovered 9000 bytes\n");
    assert_eq!(room.read("out"), contents);
    let output = room.run(&["open", "-k", "a.bin", "tree/f", "-o", "-"]);
    assert!(output.status.success() && output.stdout == contents && output.stderr.is_empty());
    let before = room.read("tree/f");
    room.ok(&["repair", "-k", "a.bin", "tree"]);
    assert!(room.read("tree/f") == before);

    room.ok(&TO_B);
    assert_eq!(open(&path), (id(B), contents));
    let said = room.ok(&["verify", "-k", "b.bin", "tree"]);
    assert_eq!(said, "1 whole and unaltered\n");
}

#[test]
fn a_file_that_went_back_is_told_by_who_remembers_it() {
    let room = room();
    let path = room.path("tree/f");
    seal(&path, A, &plaintext(1, 9000));
    let older = fs::read(&path).unwrap();
    let verify = ["verify", "-k", "a.bin", "tree", "--state", "state"];
    room.ok(&verify);
    cut_short(&path, A, &plaintext(1, 9000));
    let other = fs::read(&path).unwrap();
    room.ok(&verify);
    // The first one again, which was here before the other.
    fs::write(&path, &older).unwrap();
    room.fails_with(&verify, "tree/f: was here before");
    fs::write(&path, &other).unwrap();
    room.ok(&verify);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let disk = FileDisk(&file);
    let master = MasterKey::from_bytes(A);
    let opened = Volume::open(&disk, |head| FileCipher::open(&master, head)).unwrap();
    let mut volume = opened.volume.unwrap();
    volume.write(&disk, &mut SysRng, 0, b"new").unwrap();
    room.ok(&verify);
    fs::write(&path, &other).unwrap();
    room.fails_with(
        &verify,
        "tree/f: an older version of itself: it has had 1 changes, and had 2",
    );
    // Without the state nothing tells.
    room.ok(&verify[..4]);
}

#[test]
fn holes_stay_holes() {
    let room = room();
    let path = room.path("tree/f");
    fs::create_dir(room.path("tree")).unwrap();
    let file = File::create_new(&path).unwrap();
    let disk = FileDisk(&file);
    let cipher = FileCipher::create(&MasterKey::from_bytes(A), Params::default(), &mut SysRng);
    let mut volume = Volume::create(cipher.unwrap(), &mut SysRng).unwrap();
    volume.set_len(&disk, &mut SysRng, 1 << 40).unwrap();
    volume
        .write(&disk, &mut SysRng, 1 << 39, b"middle")
        .unwrap();
    volume.checkpoint(&disk, &mut SysRng).unwrap();
    drop(file);
    room.ok(&["verify", "-k", "a.bin", "tree"]);
    room.ok(&TO_B);
    room.ok(&["verify", "-k", "b.bin", "tree"]);
    assert!(fs::metadata(&path).unwrap().blocks() < 1024);
    room.ok(&["open", "-k", "b.bin", "tree/f", "-o", "out"]);
    let opened = fs::metadata(room.path("out")).unwrap();
    assert!(opened.len() == 1 << 40 && opened.blocks() < 1024);
}

#[test]
fn what_others_left_or_are_at_is_not_removed() {
    let room = room();
    seal(&room.path("tree/f"), A, b"x");
    // One of a killed run, one of a run at work, and one of another command.
    for name in [
        ".keys-rekey-5-1-1.partial",
        ".keys-rekey-6-1-2.partial",
        ".keys-x.partial",
    ] {
        room.write(&format!("tree/{name}"), b"half");
    }
    let at_work = File::open(room.path("tree/.keys-rekey-6-1-2.partial")).unwrap();
    at_work.try_lock().unwrap();
    let said = room.ok(&TO_B);
    assert!(
        said.contains("1 left by a killed run and removed, 2 left behind"),
        "{said}"
    );
    let left: Vec<_> = names(&room.path("tree"));
    assert_eq!(
        left,
        [".keys-rekey-6-1-2.partial", ".keys-x.partial", "f"]
            .map(|name| room.path("tree").join(name))
    );
    let said = room.ok(&["verify", "-k", "b.bin", "tree"]);
    assert_eq!(said, "1 whole and unaltered, 2 left behind unfinished\n");
}

#[test]
fn what_is_left_of_a_damaged_file_is_recovered() {
    let room = room();
    let contents = plaintext(1, 20_000);
    seal(&room.path("f"), A, &contents);
    room.ok(&["recover", "-k", "a.bin", "f", "-o", "out"]);
    assert_eq!(room.read("out"), contents);
    room.fails(&["recover", "-k", "a.bin", "f", "-o", "out"], &["--force"]);

    // A byte in chunk 2.
    flip(&room.path("f"), at(&room.path("f"), 2) + 50);
    let output = room.run(&[
        "recover", "-k", "a.bin", "f", "-o", "out", "--force", "--fill", "63",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "f: lost: 4096 bytes from offset 8192\nf: recovered 15904 bytes\n"
    );
    let mut expected = contents.clone();
    expected[8192..12288].fill(b'?');
    assert_eq!(room.read("out"), expected);

    // To standard output, what there is to say comes beside it.
    let output = room.run(&["recover", "-k", "a.bin", "f", "-o", "-"]);
    assert!(output.stdout.len() == contents.len() && !output.stderr.is_empty());

    let sealed = room.read("f");
    fs::write(room.path("f"), &sealed[..sealed.len() - 1000]).unwrap();
    let output = room.run(&["recover", "-k", "a.bin", "f", "-o", "out", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("lost: the end"), "{said}");

    room.write("f", &[&[0; 96], &sealed[96..]].concat());
    let recover = ["recover", "-k", "a.bin", "f", "-o", "none"];
    room.fails(
        &recover,
        &["f: not a sealed file", "nothing can be recovered"],
    );
    room.write("f", &sealed);
    let recover = ["recover", "-k", "b.bin", "f", "-o", "none"];
    room.fails(&recover, &["f: wrong key"]);
    room.fails(
        &["recover", "-k", "a.bin", "-", "-o", "none"],
        &["standard input"],
    );
    room.fails(
        &["recover", "-k", "a.bin", ".", "-o", "none"],
        &["not a regular file"],
    );
    assert!(!room.path("none").exists());
}

#[test]
fn nothing_is_written_where_nothing_may_be() {
    // A directory that can't be written to: the temporary file can't be made.
    if is_root() {
        return;
    }
    let room = room();
    seal(&room.path("tree/f"), A, b"x");
    room.set_mode("tree", 0o500);
    room.fails_with(&TO_B, "cannot write a copy");
    room.set_mode("tree", 0o700);
    assert_eq!(open(&room.path("tree/f")).0, id(A));
}
