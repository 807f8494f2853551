//! Making files whole again of what is left of them.

mod history;
mod room;

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use keys::lock::{LockMode, lock};

use history::{CHUNK, GROUP, History, KEY, Version, chunk, flip, node, superblock, with};
use room::{Room, is_root};

const REPAIR: [&str; 4] = ["repair", "-k", "a.bin", "tree"];

/// A tree with a file in order, one with an older chunk, one of which two chunks are torn, one without
/// its superblocks, one whose header is gone, and what is not sealed. In all others are the second version.
fn tree() -> (Room, [Version; 2]) {
    let room = Room::with_key(&KEY);
    let mut history = History::new();
    let versions = [0, 1].map(|_| history.version(GROUP + 5000));
    let [older, newest] = &versions;
    fs::create_dir(room.path("tree")).unwrap();
    room.write("tree/whole", &newest.sealed);
    room.write(
        "tree/mixed",
        &with(&newest.sealed, &older.sealed, &[chunk(3)]),
    );
    let mut torn = newest.sealed.clone();
    torn[chunk(8)].fill(0);
    torn[chunk(9)].fill(0);
    room.write("tree/torn", &torn);
    let mut headless = newest.sealed.clone();
    for slot in [0, 1] {
        headless[superblock(slot)].fill(0xEE);
    }
    room.write("tree/blind", &headless);
    let mut lost = newest.sealed.clone();
    lost[..96].fill(0xEE);
    lost[..9].copy_from_slice(&newest.sealed[..9]);
    room.write("tree/lost", &lost);
    room.write("tree/plain", b"text");
    room.write("tree/empty", b"");
    (room, versions)
}

fn said(room: &Room, args: &[&str]) -> [String; 2] {
    let output = room.run(args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap())
}

#[test]
fn a_tree_is_repaired() {
    let (room, [older, newest]) = tree();
    fs::hard_link(room.path("tree/mixed"), room.path("tree/other-name")).unwrap();
    room.set_mode("tree/mixed", 0o640);
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    let file = File::options().write(true).open(room.path("tree/whole"));
    file.unwrap().set_times(times).unwrap();
    let state = |name: &str| {
        let metadata = fs::metadata(room.path(name)).unwrap();
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        (metadata.ino(), changed, room.read(name))
    };
    let names = ["whole", "mixed", "torn", "blind", "lost"].map(|name| format!("tree/{name}"));
    let before = names.each_ref().map(|name| state(name));

    let [stdout, stderr] = said(&room, &[&REPAIR[..], &["--dry-run"]].concat());
    assert!(stdout.contains("tree/mixed: to be repaired\n"), "{stdout}");
    assert!(
        stdout.ends_with(
            "3 to be repaired, 3 with bytes that are lost or may be older, 1 failed, \
             1 whole and unaltered, 1 of zero bytes, 1 not sealed\n"
        ),
        "{stdout}"
    );
    for line in [
        "keys: tree/mixed: stale: 512 bytes from offset 1536 ",
        "keys: tree/torn: lost: 1024 bytes from offset 4096\n",
        "keys: tree/blind: unproven: a superblock or a part of the log is lost",
        "keys: tree/lost: ",
    ] {
        assert!(stderr.contains(line), "{line} in {stderr}");
    }
    assert!(before == names.each_ref().map(|name| state(name)));

    let [stdout, told] = said(&room, &REPAIR);
    assert!(stdout.contains("tree/torn: repaired\n"), "{stdout}");
    assert_eq!(told, stderr);
    for name in ["tree/whole", "tree/lost"] {
        let known = names.iter().position(|known| known == name).unwrap();
        assert!(before[known] == state(name), "{name}");
    }
    assert!(room.read("tree/other-name") == room.read("tree/mixed"));
    assert_eq!(room.mode("tree/other-name"), 0o640);
    let open = |name: &str| {
        let opened = room.run(&["open", "-k", "a.bin", name, "-o", "-"]);
        assert!(opened.status.success(), "{name}");
        opened.stdout
    };
    let mut expected = newest.plaintext.clone();
    assert!(open("tree/blind") == expected);
    expected[3 * CHUNK..4 * CHUNK].copy_from_slice(&older.plaintext[3 * CHUNK..4 * CHUNK]);
    assert!(open("tree/mixed") == expected);

    // What is lost stays so, and no version of it is taken for it that anyone puts there.
    room.fails(
        &["open", "-k", "a.bin", "tree/torn", "-o", "none"],
        &["chunk 8 "],
    );
    let torn = room.read("tree/torn");
    for version in [&older, &newest] {
        room.write(
            "tree/torn",
            &with(&torn, &version.sealed, &[chunk(8), chunk(9)]),
        );
        room.fails(&["verify", "-k", "a.bin", "tree/torn"], &["chunk 8 "]);
    }
    room.write("tree/torn", &torn);
    let output = room.run(&["recover", "-k", "a.bin", "tree/torn", "-o", "out"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        lines.starts_with("tree/torn: lost: 1024 bytes from offset 4096\n"),
        "{lines}"
    );
    let mut expected = newest.plaintext.clone();
    expected[8 * CHUNK..10 * CHUNK].fill(0);
    assert!(room.read("out") == expected);

    room.ok(&[
        "repair",
        "-k",
        "a.bin",
        "tree/mixed",
        "tree/other-name",
        "tree/whole",
    ]);
    room.fails(&["repair", "-k", "a.bin", "none"], &["none: "]);
    room.fails_with(&["repair", "-k", "k.bin", "tree"], "wrong key");
}

#[test]
fn a_file_in_use_is_told() {
    let (room, _) = tree();
    let path = room.path("tree/mixed");
    let before = room.read("tree/mixed");
    let repair = ["repair", "-k", "a.bin", "tree/mixed", "--wait", "0"];
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        let held = File::options().read(true).write(true).open(&path).unwrap();
        assert!(lock(&held, mode, Duration::ZERO).unwrap());
        room.fails_with(&repair, "in use");
    }
    assert!(room.read("tree/mixed") == before);
}

#[test]
fn damage_in_nodes_alone_loses_nothing() {
    let (room, [_, newest]) = tree();
    for place in [
        node(0, 0).start,
        node(0, 0).start + 4096,
        node(1, 0).start,
        node(1, 0).start + 4096,
    ] {
        room.write("tree/f", &newest.sealed);
        flip(&room.path("tree/f"), place);
        let output = room.run(&["repair", "-k", "a.bin", "tree/f"]);
        let opened = room.run(&["open", "-k", "a.bin", "tree/f", "-o", "-"]);
        assert!(opened.status.success() && opened.stdout == newest.plaintext);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            errors.is_empty() || errors.contains("unproven: of "),
            "{errors}"
        );
    }
}

#[test]
fn what_may_not_be_written_is_told() {
    if is_root() {
        return;
    }
    let (room, _) = tree();
    room.set_mode("tree", 0o500);
    let before = room.read("tree/mixed");
    room.fails_with(
        &["repair", "-k", "a.bin", "tree/mixed"],
        "cannot write a copy",
    );
    assert!(room.read("tree/mixed") == before);
    room.set_mode("tree", 0o700);
}
