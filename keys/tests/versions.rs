//! Parts of an older version of a file that are put back, and damage in nodes of the tree, superblocks and
//! logs, in files of several groups of chunks.

mod history;
mod room;

use std::io::Write;
use std::ops::Range;

use keys::KeyRing;
use keys::recover::{self, Filling, Report};
use proptest::prelude::*;
use sealed::{HEADER_LEN, MasterKey};

use history::{CHUNK, GROUP, History, KEY, at, chunk, node, superblock, with};
use room::{Room, assert_failure};

/// No command takes the file, and none leaves anything behind but a line that says why.
#[track_caller]
fn assert_refused(room: &Room, sealed: &[u8], says: &str) {
    room.write("f", sealed);
    let before = room.entries();
    room.fails(&["verify", "-k", "a.bin", "f"], &["f: ", says]);
    room.fails(&["open", "-k", "a.bin", "f", "-o", "back"], &["f: ", says]);
    let opened = room.run_with_input(&["open", "-k", "a.bin", "-", "-o", "-"], sealed);
    assert_failure(&opened, &["standard input: ", says]);
    room.fails_with(&["rekey", "-k", "k.bin", "--from", "a.bin", "f"], says);
    assert_eq!(room.entries(), before);
    assert!(room.read("f") == sealed);
}

#[test]
fn every_part_of_an_older_version_that_is_put_back_is_found_out() {
    let room = Room::with_key(&KEY);
    let mut history = History::new();
    let len = 2 * GROUP + 700;
    // In the first two the nodes stand in slot 0 and 1, in the third in slot 0 again.
    let [oldest, older, newest] = [len; 3].map(|len| history.version(len));
    for version in [&oldest, &older, &newest] {
        room.write("f", &version.sealed);
        room.ok(&["verify", "-k", "a.bin", "f"]);
    }
    let (all, behind_head) = (0..usize::MAX, at(0) - 8192..usize::MAX);
    let stale = |index| format!("chunk {index} is not the one that was written last");
    let tree = |first, last| format!("the tags of chunks {first} to {last} are damaged");
    for (parts, says) in [
        (&[chunk(0)][..], stale(0)),
        (&[chunk(300)], stale(300)),
        (&[chunk(513)], stale(513)),
        (&[chunk(7), node(0, 0)], tree(0, 255)),
        (&[node(0, 1)], tree(256, 511)),
        (&[node(0, 0), node(0, 1), node(0, 2)], tree(0, 255)),
        (&[chunk(3), node(0, 0), node(1, 0)], tree(0, 513)),
        (&[node(1, 0)], tree(0, 513)),
        (&[behind_head], tree(0, 513)),
    ] {
        assert_refused(&room, &with(&newest.sealed, &oldest.sealed, parts), &says);
    }
    // Nor do the superblocks of an older version go with what is there.
    let head = 0..131_072;
    let back = with(&newest.sealed, &oldest.sealed, &[head]);
    assert_refused(&room, &back, &tree(0, 513));
    // All of it is what cannot be told.
    let whole = with(&newest.sealed, &oldest.sealed, &[all]);
    room.write("f", &whole);
    room.ok(&["verify", "-k", "a.bin", "f"]);
}

#[test]
fn damaged_superblocks_and_logs_are_named() {
    let room = Room::with_key(&KEY);
    let mut history = History::new();
    let [_, newest] = [GROUP, GROUP + 9].map(|len| history.version(len));
    for slot in [0, 1] {
        let mut damaged = newest.sealed.clone();
        damaged[superblock(slot).start + 20] ^= 1;
        assert_refused(&room, &damaged, &format!("superblock {slot} is damaged"));
    }
    // All in the log, and marked.
    room.write("in", &[7; 3000]);
    room.ok(&["seal", "-k", "a.bin", "in", "-o", "small"]);
    let small = room.read("small");
    for at in [1536 + 16, small.len() - 1] {
        let mut damaged = small.clone();
        damaged[at] ^= 1;
        assert_refused(&room, &damaged, "record 1 of the log is damaged");
    }
    let mut damaged = small.clone();
    damaged[small.len() - 200] ^= 1;
    assert_refused(&room, &damaged, "chunk 0 is damaged");
}

#[test]
fn files_that_were_cut_are_refused() {
    let room = Room::with_key(&KEY);
    let whole = History::new().version(2 * GROUP + 9).sealed;
    for (len, says) in [
        (50, "cut short"),
        // The inner node stands behind the first group.
        (at(0), "the tags of chunks 0 to 512"),
        (chunk(255).end, "the tags of chunks 0 to 512"),
        (at(256) - 8192, "the tags of chunks 256 to 511"),
        (at(256), "chunk 256 is damaged"),
        (at(512) + 39, "chunk 512 is damaged"),
    ] {
        assert_refused(&room, &whole[..len], says);
    }
}

#[test]
fn recovery_tells_what_is_of_an_older_version() {
    let room = Room::with_key(&KEY);
    let mut history = History::new();
    let len = 2 * GROUP + 700;
    let [oldest, _, newest] = [len; 3].map(|len| history.version(len));
    let recover = ["recover", "-k", "a.bin", "f", "-o", "out", "--force"];
    let recovered = |parts: &[Range<usize>]| {
        room.write("f", &with(&newest.sealed, &oldest.sealed, parts));
        let output = room.run(&recover);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let chunks = |range: Range<usize>| range.start * CHUNK..range.end * CHUNK;
    let said = recovered(&[chunk(3), chunk(4), chunk(300)]);
    assert_eq!(
        said,
        format!(
            "f: stale: 1024 bytes from offset 1536 are of an older version that was put back\n\
             f: stale: 512 bytes from offset 153600 are of an older version that was put back\n\
             f: recovered {len} bytes\n"
        )
    );
    let mut expected = newest.plaintext.clone();
    for range in [chunks(3..5), chunks(300..301)] {
        expected[range.clone()].copy_from_slice(&oldest.plaintext[range]);
    }
    assert!(room.read("out") == expected);

    let said = recovered(&[chunk(3), node(0, 0)]);
    assert!(
        said.contains("unproven: of 131072 bytes from offset 0 some may be of an older"),
        "{said}"
    );
    let said = recovered(&[node(1, 0)]);
    assert!(
        said.contains(&format!("unproven: of {len} bytes from offset 0")),
        "{said}"
    );

    // Without the newest superblock any of it may be older.
    let mut damaged = newest.sealed.clone();
    damaged[superblock(1).start + 3] ^= 1;
    room.write("f", &damaged);
    let output = room.run(&recover);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("unproven: a superblock or a part of the log is lost"),
        "{said}"
    );
    assert!(room.read("out") == newest.plaintext);
}

#[test]
fn what_goes_through_pipes_is_whole() {
    let room = Room::with_key(&KEY);
    let plaintext: Vec<u8> = (0..3 * GROUP + 77).map(|i| (i * 7) as u8).collect();
    let seal = ["seal", "-k", "a.bin", "-", "-o", "-", "--chunk-size", "512"];
    for len in [0, 1, GROUP, plaintext.len()] {
        let sealed = room.run_with_input(&seal, &plaintext[..len]);
        assert!(sealed.status.success() && sealed.stderr.is_empty());
        let opened = room.run_with_input(&["open", "-k", "a.bin", "-", "-o", "-"], &sealed.stdout);
        assert!(opened.status.success() && opened.stdout == plaintext[..len]);
    }
    // One that is named by a path, too, and what is appended to is not written into.
    let sh = |script: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-ec", script, env!("CARGO_BIN_EXE_keys")]);
        shell.current_dir(room.path(""));
        shell.output().unwrap()
    };
    room.write("in", &plaintext);
    let output = sh(r#"
        mkfifo pipe
        cat pipe >whole & "$0" seal -k a.bin in -o pipe; wait
        printf before >more; "$0" seal -k a.bin in -o - >>more; tail -c +7 more >end
        "$0" verify -k a.bin whole end
    "#);
    assert!(output.status.success(), "{output:?}");
    assert!(room.read("more").starts_with(b"before"));
}

fn recovered(sealed: &[u8]) -> (Vec<u8>, Report) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(sealed).unwrap();
    let ring = KeyRing::new("a", MasterKey::from_bytes(KEY));
    let mut filling = Filling {
        sink: Vec::new(),
        fill: 0,
    };
    let report = recover::recover(&ring, &file, &mut filling, 600, |_| ()).unwrap();
    (filling.sink, report)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Whatever is put together from two versions of a file, and damaged besides: what recovery
    /// gives is of one of the two, and what it does not call into question is of the newest.
    #[test]
    fn what_is_not_called_into_question_is_the_newest(
        sizes in prop::array::uniform2(30_000..2 * GROUP + 2000),
        old in prop::collection::vec((0..3_u8, 0..520_u64), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..40_usize), 0..3),
    ) {
        let mut history = History::new();
        let versions = sizes.map(|len| history.version(len));
        let [older, newest] = &versions;
        let parts: Vec<Range<usize>> = old
            .iter()
            .flat_map(|&(kind, index)| match kind {
                0 => vec![chunk(index)],
                1 => vec![chunk(index), node(0, index / 256)],
                _ => vec![node(0, index / 256)],
            })
            .collect();
        let mut mixed = with(&newest.sealed, &older.sealed, &parts);
        for (place, len) in damage {
            let start = HEADER_LEN + place.index(mixed.len() - HEADER_LEN);
            let end = (start + len).min(mixed.len());
            mixed[start..end].fill(0xEE);
        }

        let (out, report) = recovered(&mixed);
        let newest = &newest.plaintext;
        let is_in = |ranges: &[Range<u64>], i| ranges.iter().any(|range| range.contains(&(i as u64)));
        if !report.newest_is_lost && !report.end_is_lost {
            prop_assert_eq!(out.len(), newest.len());
        }
        for (i, byte) in out.iter().enumerate() {
            if is_in(&report.lost, i) {
                prop_assert_eq!(*byte, 0);
                continue;
            }
            let is_version = versions.iter().any(|version| version.plaintext.get(i) == Some(byte));
            prop_assert!(is_version || *byte == 0 && report.newest_is_lost);
            if is_in(&report.stale, i) {
                prop_assert!(newest[i] != *byte);
            } else if !report.newest_is_lost && !is_in(&report.unproven, i) {
                prop_assert_eq!(newest[i], *byte);
            }
        }
        if report.is_complete() {
            prop_assert!(out == *newest);
        }
    }
}
