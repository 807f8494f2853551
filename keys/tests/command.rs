//! The command from outside: exit status, messages, and what it leaves on disk.

mod room;

use std::fs;
use std::path::Path;

use sealed::Params;

use room::{Room, assert_failure, is_root};

const SEAL: [&str; 6] = ["seal", "--key", "k.bin", "in", "-o", "out"];
const OPEN: [&str; 6] = ["open", "--key", "k.bin", "out", "-o", "back"];

#[test]
fn gen_makes_a_private_key_and_never_overwrites() {
    let room = Room::new();
    let key = room.read("k.bin");
    assert_eq!(key.len(), 32);
    assert_eq!(room.mode("k.bin"), 0o600);
    room.fails(&["gen", "k.bin"], &["k.bin", "already exists"]);
    assert_eq!(room.read("k.bin"), key);
    room.fails(&["gen", "no/such/k.bin"], &["no/such/k.bin"]);
    // A dangling link is not a free name either.
    std::os::unix::fs::symlink("elsewhere", room.path("link")).unwrap();
    room.fails(&["gen", "link"], &["link", "already exists"]);
    assert!(!room.path("elsewhere").exists());
}

#[test]
fn show_names_the_key_without_giving_it_away() {
    let room = Room::new();
    let made = room.ok(&["gen", "other.bin"]);
    let shown = room.ok(&["show", "other.bin"]);
    let id = shown.lines().next().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(id.len(), 32);
    assert!(made.contains(id));
    assert!(shown.contains("raw 32-byte"));
    let secret: String = room
        .read("other.bin")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(!shown.contains(&secret) && !shown.contains(&secret[..16]));
}

#[test]
fn every_bad_key_file_is_named_with_its_fix() {
    let room = Room::new();
    room.write("in", b"x");
    let check = |name: &str, contents: Option<&[u8]>, mode, says: &[&str]| {
        if let Some(contents) = contents {
            room.write(name, contents);
            room.set_mode(name, mode);
        }
        let says = [&[name], says].concat();
        room.fails(&["show", name], &says);
        room.fails(&["seal", "--key", name, "in", "-o", "out"], &says);
        room.fails(&["open", "--key", name, "in", "-o", "out"], &says);
        room.fails(&["verify", "--key", name, "in"], &says);
    };
    let key = Some(&[1; 32][..]);
    check(
        "missing",
        None,
        0,
        &["no such key file", "keys gen missing"],
    );
    check("empty", Some(&[]), 0o600, &["empty", "exactly 32"]);
    check(
        "short",
        Some(&[1; 31]),
        0o600,
        &["only 31 bytes", "exactly 32"],
    );
    check(
        "long",
        Some(&[1; 33]),
        0o600,
        &["more than 32", "exactly 32"],
    );
    check("group", key, 0o640, &["0640", "chmod 600 group"]);
    check("world", key, 0o604, &["0604", "chmod 600 world"]);
    check("written", key, 0o620, &["0620", "chmod 600 written"]);
    fs::create_dir(room.path("dir")).unwrap();
    room.fails(&["show", "dir"], &["dir", "a directory"]);
    if !is_root() {
        room.set_mode("k.bin", 0);
        room.fails(&["show", "k.bin"], &["k.bin", "chmod 600 k.bin"]);
    }
    assert!(!room.path("out").exists());
}

#[test]
fn round_trips() {
    let room = Room::new();
    for cipher in ["xchacha20poly1305", "xaes-256-gcm"] {
        for chunk_size in ["512", "4096", "65536"] {
            for len in [0, 1, 4095, 4096, 4097, 70_000, 2_100_000] {
                let contents: Vec<u8> = (0..len).map(|i| (i ^ (i >> 8)) as u8).collect();
                room.write("in", &contents);
                let options = ["--cipher", cipher, "--chunk-size", chunk_size, "--force"];
                room.ok(&[&SEAL[..], &options].concat());
                room.ok(&[&OPEN[..], &["--force"]].concat());
                assert!(room.read("back") == contents);
                room.ok(&["verify", "--key", "k.bin", "out"]);
            }
        }
    }
    assert_eq!(room.entries(), ["back", "in", "k.bin", "out"]);
}

#[test]
fn standard_streams() {
    let room = Room::new();
    let contents = vec![7; 3_000_000];
    let sealed = room.run_with_input(&["seal", "-k", "k.bin", "-", "-o", "-"], &contents);
    assert!(sealed.status.success());
    let opened = room.run_with_input(&["open", "-k", "k.bin", "-", "-o", "-"], &sealed.stdout);
    assert!(opened.status.success());
    assert!(opened.stdout == contents);

    let verified = room.run_with_input(&["verify", "-k", "k.bin", "-"], &sealed.stdout);
    assert!(verified.status.success());

    // A bad byte near the end: nothing but authentic bytes come out, and the failure is told.
    let mut altered = sealed.stdout;
    let near_end = altered.len() - 5000;
    altered[near_end] ^= 1;
    let opened = room.run_with_input(&["open", "-k", "k.bin", "-", "-o", "-"], &altered);
    assert_failure(&opened, &["standard input", "chunk 731 is damaged"]);
    assert!(opened.stdout.len() < contents.len());
    assert!(contents.starts_with(&opened.stdout));
}

#[test]
fn existing_output_is_replaced_only_by_force() {
    let room = Room::new();
    room.write("in", b"plain");
    room.write("out", b"precious");
    room.fails(&SEAL, &["out", "already exists", "--force"]);
    assert_eq!(room.read("out"), b"precious");
    room.ok(&[&SEAL[..], &["--force"]].concat());
    room.write("back", b"precious");
    room.fails(&OPEN, &["back", "already exists", "--force"]);
    assert_eq!(room.read("back"), b"precious");

    // Onto itself, too: the input is whole until the output is.
    room.ok(&["open", "--key", "k.bin", "out", "-o", "out", "--force"]);
    assert_eq!(room.read("out"), b"plain");
}

#[test]
fn a_failure_leaves_neither_output_nor_temporary_file() {
    let room = Room::new();
    room.write("in", &[5; 3_000_000]);
    room.ok(&SEAL);
    let mut sealed = room.read("out");
    let len = sealed.len();
    sealed[len - 1] ^= 1;
    room.write("out", &sealed);
    let before = room.entries();
    room.fails(&OPEN, &["out", "chunk 732 is damaged"]);
    assert_eq!(room.entries(), before);

    room.write("back", b"precious");
    room.fails(&[&OPEN[..], &["--force"]].concat(), &["chunk 732"]);
    assert_eq!(room.read("back"), b"precious");
}

#[test]
fn faults_are_told_apart() {
    let room = Room::new();
    room.ok(&["gen", "other.bin"]);
    room.write("in", &[5; 50_000]);
    room.ok(&SEAL);
    let sealed = room.read("out");
    let with = |at: usize, value: u8| {
        let mut altered = sealed.clone();
        altered[at] = value;
        altered
    };
    let flipped = |at: usize| with(at, sealed[at] ^ 1);
    let layout = Params::default().layout();
    let at = |index| layout.chunk_offset(index).unwrap() as usize;
    let cases = [
        (b"just some text".to_vec(), "not a sealed file"),
        (with(8, 3), "format version 3"),
        (with(8, 5), "format version 5"),
        (with(9, 77), "unknown cipher (number 77)"),
        (with(60, sealed[60] ^ 1), "header is damaged"),
        (flipped(at(0) + 300), "chunk 0 is damaged"),
        (flipped(at(1) + 164), "chunk 1 is damaged"),
        (
            flipped(at(0) - 8192 + 3),
            "the tags of chunks 0 to 12 are damaged",
        ),
        (flipped(512 + 17), "superblock 0 is damaged"),
        (sealed[..50].to_vec(), "cut short"),
        (sealed[..200].to_vec(), "cut short"),
        (sealed[..at(0) - 10].to_vec(), "chunk 0 is damaged"),
        (sealed[..at(1)].to_vec(), "chunk 1 is damaged"),
    ];
    for (contents, message) in cases {
        room.write("out", &contents);
        room.fails(&OPEN, &["out: ", message]);
        room.fails(&["verify", "--key", "k.bin", "out"], &["out: ", message]);
        assert!(!room.path("back").exists());
    }
    room.write("out", &sealed);
    let ids = ["k.bin", "other.bin"].map(|key| {
        let shown = room.ok(&["show", key]);
        shown.lines().next().unwrap()["key id: ".len()..].to_owned()
    });
    room.fails(
        &["open", "--key", "other.bin", "out", "-o", "back"],
        &["out: wrong key", &ids[0], &ids[1]],
    );
    room.fails(
        &["open", "--key", "k.bin", "absent", "-o", "back"],
        &["absent: cannot read"],
    );
    room.fails(
        &["open", "--key", "k.bin", ".", "-o", "back"],
        &[".: a directory"],
    );
    room.fails(
        &["open", "--key", "k.bin", "out", "-o", "no/such/dir/back"],
        &["no/such/dir/back: cannot write"],
    );
}

#[test]
fn verify_looks_at_every_file() {
    let room = Room::new();
    room.write("in", &[5; 5000]);
    room.ok(&SEAL);
    room.write("bad1", b"text");
    room.write("bad2", &room.read("out")[..200]);
    room.write("zero", b"");
    let output = room.run(&["verify", "-k", "k.bin", "bad1", "out", "bad2", "zero"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("bad1") && lines[1].contains("bad2"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("out: whole and unaltered"));
    assert!(said.contains("zero: zero bytes"));
}

#[test]
fn a_file_of_zero_bytes_opens_as_empty_with_a_warning() {
    let room = Room::new();
    room.write("out", b"");
    let output = room.run(&OPEN);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing vouches for it"));
    assert_eq!(room.read("back"), b"");
}

#[test]
fn outputs_are_no_more_open_than_inputs() {
    let room = Room::new();
    room.write("in", b"x");
    room.set_mode("in", 0o640);
    room.ok(&SEAL);
    assert_eq!(room.mode("out"), 0o640);
    room.ok(&OPEN);
    assert_eq!(room.mode("back"), 0o600);
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let room = Room::new();
    let wrong: [&[&str]; 10] = [
        &[],
        &["frobnicate"],
        &["gen"],
        &["gen", "a", "b"],
        &["seal", "in", "-o", "out"],
        &["seal", "--key", "k.bin", "in"],
        &[
            "seal", "--key", "k.bin", "in", "-o", "out", "--cipher", "rot13",
        ],
        &[
            "seal",
            "--key",
            "k.bin",
            "in",
            "-o",
            "out",
            "--chunk-size",
            "1000",
        ],
        &[
            "seal",
            "--key",
            "k.bin",
            "in",
            "-o",
            "out",
            "--chunk-size",
            "256",
        ],
        &["verify", "--key", "k.bin"],
    ];
    for args in wrong {
        let output = room.run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    for args in [&["--help"][..], &["--version"], &["seal", "--help"]] {
        assert!(!room.ok(args).is_empty());
    }
}

#[test]
fn a_device_is_written_to_not_replaced() {
    let room = Room::new();
    room.write("in", b"x");
    room.ok(&["seal", "--key", "k.bin", "in", "-o", "/dev/null"]);
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    if Path::new("/dev/full").exists() {
        room.fails(
            &["seal", "--key", "k.bin", "in", "-o", "/dev/full"],
            &["/dev/full: cannot write"],
        );
    }
}

/// A file of a gibibyte that takes next to no room takes none when it is sealed, nor when it is opened.
#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    const SIZE: u64 = 1 << 30;
    let room = Room::new();
    let file = fs::File::create(room.path("in")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"in the middle", 500_000_001).unwrap();
    file.write_all_at(b"at the end", SIZE - 10).unwrap();
    room.ok(&SEAL);
    room.ok(&OPEN);
    for name in ["out", "back"] {
        let metadata = fs::metadata(room.path(name)).unwrap();
        assert!(
            metadata.blocks() * 512 < 1 << 20,
            "{name}: {}",
            metadata.blocks()
        );
    }
    let back = fs::File::open(room.path("back")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), SIZE);
    for (offset, expected) in [
        (500_000_001 - 5, &b"\0\0\0\0\0in the middle\0\0"[..]),
        (SIZE - 12, b"\0\0at the end"),
    ] {
        let mut found = vec![0; expected.len()];
        back.read_exact_at(&mut found, offset).unwrap();
        assert_eq!(found, expected);
    }
    room.ok(&["verify", "--key", "k.bin", "out"]);
}
