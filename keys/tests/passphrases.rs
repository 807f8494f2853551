//! Wrapped keys and key rings, from outside.

mod room;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use room::{Room, assert_failure};

/// As cheap as can be: the tests are about everything else.
const CHEAP: [&str; 2] = ["--argon2", "m=8192,t=4,p=1"];

/// A room with the key `k.bin`, the same wrapped by the first line of `three` as `w.bin`, and
/// another one so wrapped as `v.bin`.
fn room() -> Room {
    let room = Room::new();
    room.write("three", b"open sesame\nsecond line");
    room.write("four", b"another one\n");
    fs::copy(room.path("k.bin"), room.path("w.bin")).unwrap();
    let passwd = ["passwd", "w.bin", "--new-passphrase-fd", "3"];
    succeeded(&room.run_with_fds(&[&passwd[..], &CHEAP].concat()));
    let generate = ["gen", "v.bin", "--passphrase-fd", "3"];
    succeeded(&room.run_with_fds(&[&generate[..], &CHEAP].concat()));
    room.write("in", b"plaintext");
    room
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn id(room: &Room, key: &str) -> String {
    let shown = room.ok(&["show", key]);
    shown.lines().next().unwrap()["key id: ".len()..].to_owned()
}

#[test]
fn a_wrapped_key_works_as_the_raw_one_does() {
    let room = room();
    assert_eq!(room.mode("w.bin"), 0o600);
    assert_eq!(room.read("w.bin").len(), 128);
    assert_eq!(id(&room, "w.bin"), id(&room, "k.bin"));
    let shown = room.ok(&["show", "w.bin"]);
    assert!(
        shown.contains("argon2id: 8 MiB, 4 passes, 1 lane"),
        "{shown}"
    );

    let seal = [
        "seal",
        "-k",
        "w.bin",
        "--passphrase-fd",
        "3",
        "in",
        "-o",
        "out",
    ];
    succeeded(&room.run_with_fds(&seal));
    room.ok(&["verify", "-k", "k.bin", "out"]);
    let open = [
        "open",
        "-k",
        "w.bin",
        "--passphrase-fd",
        "3",
        "out",
        "-o",
        "-",
    ];
    assert_eq!(succeeded(&room.run_with_fds(&open)), "plaintext");
    let wrong = [
        "open",
        "-k",
        "w.bin",
        "--passphrase-fd",
        "4",
        "out",
        "-o",
        "-",
    ];
    assert_failure(&room.run_with_fds(&wrong), &["w.bin: wrong passphrase"]);
    assert_failure(
        &room.run_with_fds(&[
            "open",
            "-k",
            "w.bin",
            "--passphrase-fd",
            "9",
            "out",
            "-o",
            "-",
        ]),
        &["passphrase from descriptor 9"],
    );
    // Standard input gives the passphrase and then what is sealed.
    let sealed = room.run_with_input(
        &[
            "seal",
            "-k",
            "w.bin",
            "--passphrase-fd",
            "0",
            "-",
            "-o",
            "-",
        ],
        b"open sesame\nfrom a pipe",
    );
    assert!(sealed.status.success());
    let opened = room.run_with_input(&["open", "-k", "k.bin", "-", "-o", "-"], &sealed.stdout);
    assert_eq!(opened.stdout, b"from a pipe");
}

#[test]
fn a_passphrase_is_changed_added_and_removed() {
    let room = room();
    let raw = room.read("k.bin");
    let before = room.read("w.bin");
    let change = [
        "passwd",
        "w.bin",
        "--passphrase-fd",
        "3",
        "--new-passphrase-fd",
        "4",
    ];
    succeeded(&room.run_with_fds(&[&change[..], &CHEAP].concat()));
    assert_ne!(room.read("w.bin"), before);
    // The old passphrase opens it no more.
    let again = room.run_with_fds(&[&change[..], &CHEAP].concat());
    assert_failure(&again, &["w.bin: wrong passphrase"]);
    let changed = room.read("w.bin");
    let remove = ["passwd", "w.bin", "--remove", "--passphrase-fd"];
    assert_failure(
        &room.run_with_fds(&[&remove[..], &["3"]].concat()),
        &["wrong"],
    );
    assert_eq!(room.read("w.bin"), changed);
    succeeded(&room.run_with_fds(&[&remove[..], &["4"]].concat()));
    assert_eq!(room.read("w.bin"), raw);
    assert_eq!(room.mode("w.bin"), 0o600);
    room.fails(
        &["passwd", "w.bin", "--remove"],
        &["w.bin", "has no passphrase"],
    );
    let entries = ["four", "in", "k.bin", "three", "v.bin", "w.bin"];
    assert_eq!(room.entries(), entries);
}

#[test]
fn bad_passphrases_and_costs_are_refused() {
    let room = room();
    room.write("three", b"\nnot this");
    let generate = ["gen", "new.bin", "--passphrase-fd", "3"];
    assert_failure(&room.run_with_fds(&generate), &["the passphrase is empty"]);
    room.write("three", &[b'x'; 1025]);
    assert_failure(&room.run_with_fds(&generate), &["longer than 1024 bytes"]);
    assert!(!room.path("new.bin").exists());
    for wrong in [
        &["gen", "new.bin", "--argon2", "m=8192,t=4,p=1"][..],
        &["gen", "new.bin", "--passphrase", "--passphrase-fd", "3"],
        &[
            "gen",
            "new.bin",
            "--passphrase-fd",
            "3",
            "--argon2",
            "m=4294967295,t=1,p=1",
        ],
        &["passwd", "w.bin", "--remove", "--argon2", "m=8192,t=4,p=1"],
        // So weak that guessing is cheap.
        &["passwd", "w.bin", "--argon2", "m=8192,t=3,p=1"],
        &["passwd", "w.bin", "--argon2", "m=1024,t=64,p=1"],
    ] {
        assert_eq!(room.run(wrong).status.code(), Some(64), "{wrong:?}");
    }
}

#[test]
fn every_altered_byte_of_a_wrapped_key_is_told() {
    let room = room();
    let whole = room.read("w.bin");
    // Not those of memory and passes: what they ask for may be slow, and is tested elsewhere.
    for at in (0..12).chain(20..128).step_by(3) {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        room.write("w.bin", &altered);
        let open = [
            "seal",
            "-k",
            "w.bin",
            "--passphrase-fd",
            "3",
            "in",
            "-o",
            "-",
        ];
        assert_failure(&room.run_with_fds(&open), &["w.bin: "]);
    }
}

fn ring(names: &[&str]) -> Vec<u8> {
    let lines = names.join("\n");
    format!("sealed key ring, version 1: one key file a line\n# keys\n{lines}\n").into_bytes()
}

#[test]
fn rings_seal_with_the_first_and_open_with_all() {
    let room = room();
    for name in ["a.bin", "b.bin"] {
        room.ok(&["gen", name]);
    }
    fs::create_dir(room.path("rings")).unwrap();
    room.write("rings/ring", &ring(&["../b.bin", "../a.bin", "../w.bin"]));
    room.ok(&["seal", "-k", "a.bin", "in", "-o", "by-a"]);
    room.ok(&["seal", "-k", "rings/ring", "in", "-o", "by-b"]);
    room.ok(&[
        "seal",
        "-k",
        "k.bin",
        "-k",
        "rings/ring",
        "in",
        "-o",
        "by-k",
    ]);
    room.ok(&["verify", "-k", "b.bin", "by-b"]);
    room.ok(&["verify", "-k", "k.bin", "by-k"]);
    // No passphrase is asked for where it is not needed.
    for sealed in ["by-a", "by-b"] {
        let open = ["open", "-k", "rings/ring", sealed, "-o", "-"];
        assert_eq!(room.ok(&open), "plaintext");
    }
    let open = [
        "open",
        "-k",
        "rings/ring",
        "by-k",
        "-o",
        "-",
        "--passphrase-fd",
        "3",
    ];
    assert_eq!(succeeded(&room.run_with_fds(&open)), "plaintext");
    let verify = [
        "verify",
        "-k",
        "rings/ring",
        "--passphrase-fd",
        "3",
        "by-a",
        "by-b",
        "by-k",
    ];
    succeeded(&room.run_with_fds(&verify));

    // One passphrase for all keys it opens.
    let both = ["-k", "w.bin", "-k", "v.bin", "--passphrase-fd", "3"];
    succeeded(&room.run_with_fds(&[&["verify", "by-k"][..], &both].concat()));

    let shown = room.ok(&["show", "rings/ring"]);
    for key in ["a.bin", "b.bin", "w.bin"] {
        assert!(shown.contains(&format!("rings/../{key}\nkey id: {}", id(&room, key))));
    }
    room.fails(
        &["open", "-k", "a.bin", "-k", "b.bin", "by-k", "-o", "-"],
        &[
            "by-k: wrong key",
            &id(&room, "k.bin"),
            &format!("{} (a.bin)", id(&room, "a.bin")),
            &format!("{} (b.bin)", id(&room, "b.bin")),
        ],
    );
}

#[test]
fn every_bad_ring_is_named() {
    let room = room();
    let fails = |contents: &[u8], says: &[&str]| {
        room.write("ring", contents);
        room.fails(&["verify", "-k", "ring", "in"], says);
        room.fails(&["show", "ring"], says);
    };
    fails(&ring(&["none.bin"]), &["none.bin: no such key file"]);
    fails(&ring(&[]), &["ring: ", "names no key file"]);
    fails(&ring(&["a\x07b"]), &["ring: line 3"]);
    fails(
        b"sealed key ring, version 2: something\nk.bin\n",
        &["ring: ", "version 1"],
    );
    fails(
        &ring(&["ring"]),
        &["ring: a key ring, named in the ring ring"],
    );
    room.set_mode("k.bin", 0o644);
    fails(&ring(&["k.bin"]), &["k.bin", "0644", "chmod 600"]);
    room.set_mode("k.bin", 0o600);
    room.write("ring", &ring(&["k.bin"]));
    room.set_mode("ring", 0o646);
    room.fails(&["show", "ring"], &["ring: ", "0646", "chmod go-w ring"]);
    room.fails(&["passwd", "ring"], &["ring: "]);
}

fn echoes(terminal: &File) -> bool {
    let modes = rustix::termios::tcgetattr(terminal).unwrap().local_modes;
    modes.contains(rustix::termios::LocalModes::ECHO)
}

/// The command with a terminal of its own: what is typed when it asks, and all it shows.
fn at_a_terminal(room: &Room, args: &[&str], typed: &[&str]) -> (bool, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let open = || File::from(rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap());
    let kept_open = open();
    let mut child = Command::new("setsid")
        .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_keys")])
        .args(args)
        .current_dir(room.path("."))
        .stdin(Stdio::from(open()))
        .stdout(Stdio::from(open()))
        .stderr(Stdio::from(open()))
        .spawn()
        .unwrap();
    rustix::io::ioctl_fionbio(&terminal, true).unwrap();
    let mut terminal = File::from(terminal);
    let mut shown = String::new();
    let mut typed = typed.iter();
    let mut answered = 0;
    let started = Instant::now();
    let mut ended = false;
    loop {
        let mut buffer = [0; 4096];
        match terminal.read(&mut buffer) {
            Ok(len) => shown.push_str(&String::from_utf8_lossy(&buffer[..len])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if ended {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        // Each prompt ends so; who types before it is asked is seen.
        if shown[answered..].ends_with(": ") && !echoes(&terminal) {
            answered = shown.len();
            if let Some(line) = typed.next() {
                writeln!(terminal, "{line}").unwrap();
            }
        }
        ended = child.try_wait().unwrap().is_some();
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "stuck: {shown}"
        );
    }
    drop(kept_open);
    (child.wait().unwrap().success(), shown)
}

#[test]
fn passphrases_are_asked_for_without_echo() {
    let room = room();
    let generate = [&["gen", "t.bin", "--passphrase"][..], &CHEAP].concat();
    let (ok, shown) = at_a_terminal(&room, &generate, &["geheim", "gehiem", "geheim", "geheim"]);
    assert!(ok, "{shown}");
    assert!(shown.contains("New passphrase for t.bin: ") && shown.contains("the two differ"));
    assert!(!shown.contains("geheim") && !shown.contains("gehiem"));
    room.write("three", b"geheim");
    let seal = [
        "seal",
        "-k",
        "t.bin",
        "--passphrase-fd",
        "3",
        "in",
        "-o",
        "out",
    ];
    succeeded(&room.run_with_fds(&seal));

    let open = ["open", "-k", "t.bin", "out", "-o", "back"];
    let (ok, shown) = at_a_terminal(&room, &open, &["wrong", "geheim"]);
    assert!(ok && shown.contains("wrong passphrase"), "{shown}");
    assert_eq!(room.read("back"), b"plaintext");
    let (ok, shown) = at_a_terminal(&room, &open, &["no", "not", "nor this"]);
    assert!(!ok && shown.contains("t.bin: wrong passphrase"), "{shown}");
}
