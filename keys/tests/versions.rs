//! Parts of an older version of a file that are put back, damage in tables, and changes that were cut
//! short, in files of several groups of chunks.

mod history;
mod room;

use std::fs::File;
use std::io::{Cursor, Write};
use std::ops::Range;

use getrandom::SysRng;
use keys::KeyRing;
use keys::recover::{self, Options, Report};
use proptest::prelude::*;
use sealed::{GROUP_CHUNKS, HEADER_LEN, MasterKey, TABLE_LEN, tags_of};

use history::{
    CHUNK, GROUP, History, KEY, ROOT, at, chunk, digest, group, layout, mixed, slot, with,
};
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
    let history = History::new();
    let len = 2 * GROUP + 700;
    let [older, newest] = [0, 1].map(|number| history.version(number, len));
    for version in [&older, &newest] {
        room.write("f", &version.sealed);
        room.ok(&["verify", "-k", "a.bin", "f"]);
    }
    let (all, behind_root) = (0..usize::MAX, at(0) - TABLE_LEN..usize::MAX);
    let stale = |index| format!("chunk {index} is not the one that was written last");
    let table = "the table of chunks 0 to 255 is damaged";
    let root = "the tables of chunks are damaged, or parts of an older version";
    for (parts, says) in [
        (&[chunk(0)][..], stale(0)),
        (&[chunk(300)], stale(300)),
        (&[chunk(513)], stale(513)),
        (&[slot(300)], stale(300)),
        (&[chunk(7), slot(7)], table.to_owned()),
        (&[digest(0)], table.to_owned()),
        (&[chunk(513), slot(513)], root.to_owned()),
        (&[group(0)], root.to_owned()),
        (&[group(0), group(1)], root.to_owned()),
        (&[behind_root], root.to_owned()),
        (&[ROOT], root.to_owned()),
    ] {
        assert_refused(&room, &with(&newest.sealed, &older.sealed, parts), &says);
    }
    // All of it is what cannot be told.
    let whole = with(&newest.sealed, &older.sealed, &[all]);
    room.write("f", &whole);
    room.ok(&["verify", "-k", "a.bin", "f"]);

    // Nor does a file of another size go.
    let shorter = history.version(0, GROUP + 100);
    let mut cut = with(&newest.sealed, &shorter.sealed, &[chunk(256), slot(256)]);
    cut.truncate(shorter.sealed.len());
    assert_refused(&room, &cut, "tables of chunks are damaged");
}

#[test]
fn files_that_end_at_a_groups_edge_or_in_a_table_are_cut_short() {
    let room = Room::with_key(&KEY);
    let whole = History::new().version(0, 2 * GROUP + 9).sealed;
    for len in [
        at(0),
        at(255),
        chunk(255).end,
        chunk(255).end + 1,
        at(256) - 1,
        at(256),
        at(512) + 39,
    ] {
        assert_refused(&room, &whole[..len], "cut short");
    }
}

#[test]
fn recovery_tells_what_is_of_an_older_version() {
    let room = Room::with_key(&KEY);
    let history = History::new();
    let len = 2 * GROUP + 700;
    let [older, newest] = [0, 1].map(|number| history.version(number, len));
    let recover = ["recover", "-k", "a.bin", "f", "-o", "out", "--force"];
    let recovered = |parts: &[Range<usize>]| {
        room.write("f", &with(&newest.sealed, &older.sealed, parts));
        let output = room.run(&recover);
        assert_eq!(output.status.code(), Some(1));
        let (out, all) = (room.read("out"), &newest.plaintext);
        assert_eq!(out.len(), len);
        for (i, byte) in out.iter().enumerate() {
            assert!(*byte == all[i] || *byte == older.plaintext[i]);
        }
        String::from_utf8(output.stdout).unwrap()
    };
    let all = format!("f: recovered {len} bytes\n");
    let stale = |len: usize, from: usize| {
        format!(
            "f: stale: {len} bytes from offset {from} are of an older version that was put back\n"
        )
    };
    let said = recovered(&[
        chunk(1),
        chunk(2),
        chunk(255),
        chunk(256),
        chunk(300),
        chunk(513),
    ]);
    let expected = [
        stale(1024, 512),
        stale(1024, 255 * 512),
        stale(512, 300 * 512),
        stale(188, 513 * 512),
        all.clone(),
    ];
    assert_eq!(said, expected.concat());
    assert_eq!(room.read("out")[512..1536], older.plaintext[512..1536]);

    // Which of a group it is can't be told where the table is older too.
    let said = recovered(&[chunk(1), slot(1), chunk(300)]);
    assert!(said.starts_with(&stale(512, 300 * 512)), "{said}");
    assert!(
        said.contains("f: unproven: of 131072 bytes from offset 0 some may be"),
        "{said}"
    );
    let said = recovered(&[group(0)]);
    assert!(
        said.starts_with("f: unproven: what is left does not fit the root") && said.ends_with(&all),
        "{said}"
    );
    // A digest that is damaged in one group does not hide an old chunk in another.
    room.write(
        "f",
        &with(&newest.sealed, &older.sealed, &[digest(0), chunk(300)]),
    );
    let said = String::from_utf8(room.run(&recover).stdout).unwrap();
    assert_eq!(said, [stale(512, 300 * 512), all].concat());
}

/// A file is opened as its journal restores it, by all commands.
#[track_caller]
fn assert_restored(room: &Room, sealed: &[u8], plaintext: &[u8]) {
    let cut = "its last change was cut short";
    room.write("f", sealed);
    let said = room.ok(&["verify", "-k", "a.bin", "f"]);
    assert!(said.contains(cut), "{said}");
    let opened = room.run(&["open", "-k", "a.bin", "f", "-o", "-"]);
    assert!(opened.status.success() && opened.stdout == plaintext);
    let said = room.ok(&["recover", "-k", "a.bin", "f", "-o", "out", "--force"]);
    assert!(said.contains(cut), "{said}");
    assert!(room.read("out") == plaintext);
    room.ok(&["rekey", "-k", "k.bin", "--from", "a.bin", "f"]);
    let opened = room.run(&["open", "-k", "k.bin", "f", "-o", "-"]);
    assert!(opened.stdout == plaintext && opened.stderr.is_empty());
}

#[test]
fn changes_that_were_cut_short_in_several_groups() {
    let room = Room::with_key(&KEY);
    let history = History::new();
    let file = &history.0;
    for (len, index) in [
        (2 * GROUP + 700, 3),
        (2 * GROUP + 700, 256),
        (GROUP + 9, 255),
    ] {
        let before = history.version(0, len);
        // A full chunk that is being overwritten: it, its slot and the digest are half there.
        let mut new = vec![0; 552];
        file.seal_run(index, &[b'n'; CHUNK], &mut new, &mut SysRng)
            .unwrap();
        let mut tree = history.tree(&before);
        tree.put(index, &tags_of(&layout(), &new).collect::<Vec<_>>())
            .unwrap();
        let mut after = before.plaintext.clone();
        after[index as usize * CHUNK..][..CHUNK].fill(b'n');
        let root = tree.root(len as u64);
        let restore = file.restore_of(index, None, &new, root);
        let mut torn = before.sealed.clone();
        torn[at(index) + 5..][..100].fill(7);
        torn[slot(index).start + 8..slot(index).end].fill(7);
        torn[digest(index / GROUP_CHUNKS).start + 3..][..5].fill(7);
        history.set_journal(&mut torn, restore, &new);
        assert_restored(&room, &torn, &after);
        // Nothing but that may be torn.
        torn[slot(index + 1)][0] ^= 1;
        assert_refused(&room, &torn, "is not the one that was written last");
        torn[slot(index + 1)][0] ^= 1;
        torn[HEADER_LEN + 48] ^= 1;
        assert_refused(&room, &torn, "tables of chunks are damaged");
    }

    // One that grows, within its group or beyond it.
    for len in [100, GROUP - 1, GROUP, 2 * GROUP - 5] {
        let before = history.version(0, len);
        let last = layout().final_chunk(len as u64);
        let end = before.sealed[at(last.index)..].to_vec();
        let root = history.tree(&before).root(len as u64);
        let mut torn = before.sealed.clone();
        torn[slot(last.index).start..at(last.index / GROUP_CHUNKS * GROUP_CHUNKS)].fill(7);
        torn[digest(last.index / GROUP_CHUNKS)].fill(7);
        torn[at(last.index)..].fill(7);
        torn.extend_from_slice(&[7; 200_000]);
        let restore = file.restore_of(last.index, Some(last.len), &end, root);
        history.set_journal(&mut torn, restore, &end);
        assert_restored(&room, &torn, &before.plaintext);
    }

    // One that shrinks, from its third group to its first.
    for len in [0, 700, GROUP - 1] {
        let before = history.version(0, 2 * GROUP + 700);
        let after = before.plaintext[..len].to_vec();
        let last = layout().final_chunk(len as u64);
        let mut end = vec![0; last.len + layout().overhead()];
        file.seal_to_end(last.index, &after[len - last.len..], &mut end, &mut SysRng)
            .unwrap();
        let mut tree = history.tree(&before);
        tree.truncate(last.index + 1).unwrap();
        tree.put(last.index, &tags_of(&layout(), &end).collect::<Vec<_>>())
            .unwrap();
        let restore = file.restore_of(last.index, Some(last.len), &end, tree.root(len as u64));
        let mut torn = before.sealed.clone();
        torn[at(last.index)..][..20].fill(7);
        torn[slot(last.index)].fill(7);
        history.set_journal(&mut torn, restore, &end);
        assert_restored(&room, &torn, &after);
    }
}

#[test]
fn what_goes_through_pipes_is_whole() {
    let room = Room::with_key(&KEY);
    let plaintext: Vec<u8> = (0..3 * GROUP + 77).map(|i| (i * 7) as u8).collect();
    let seal = ["seal", "-k", "a.bin", "-", "-o", "-", "--chunk-size", "512"];
    for len in [0, 1, GROUP, plaintext.len()] {
        let sealed = room.run_with_input(&seal, &plaintext[..len]);
        assert!(sealed.status.success() && sealed.stderr.is_empty());
        let expected = layout().physical_size(len as u64).unwrap();
        assert_eq!(sealed.stdout.len() as u64, expected);
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
    let mut out = Cursor::new(Vec::new());
    let options = Options {
        fill: 0,
        search: 600,
    };
    let report = recover_file(&ring, &file, &mut out, options);
    (out.into_inner(), report)
}

fn recover_file(ring: &KeyRing, file: &File, out: impl Write, options: Options) -> Report {
    recover::recover(ring, file, out, options, |_| ()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever is put together from two versions of a file, and damaged besides: what recovery
    /// gives is of one of the two, and what it does not call into question is of the one that the
    /// root belongs to.
    #[test]
    fn what_is_not_called_into_question_is_the_newest(
        sizes in prop::array::uniform2(0..2 * GROUP + 2000),
        same_size in any::<bool>(),
        root_of in 0..2_usize,
        length_of in 0..2_usize,
        old in prop::collection::vec((0..4_u8, 0..520_u64), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..40_usize), 0..3),
    ) {
        let history = History::new();
        let sizes = [sizes[0], if same_size { sizes[0] } else { sizes[1] }];
        let versions = [0, 1].map(|number| history.version(number as u8, sizes[number]));
        let (base, other) = (&versions[length_of].sealed, &versions[1 - length_of].sealed);
        let mut mixed = mixed(base, other, &old);
        mixed[ROOT].copy_from_slice(&versions[root_of].sealed[ROOT]);
        for (place, len) in damage {
            let start = HEADER_LEN + place.index(mixed.len() - HEADER_LEN);
            let end = (start + len).min(mixed.len());
            mixed[start..end].fill(0xEE);
        }

        let (out, report) = recovered(&mixed);
        let newest = &versions[root_of].plaintext;
        let is_in = |ranges: &[Range<u64>], i| ranges.iter().any(|range| range.contains(&(i as u64)));
        if !report.root_is_lost {
            prop_assert_eq!(out.len(), newest.len());
        }
        for (i, byte) in out.iter().enumerate() {
            if is_in(&report.lost, i) {
                prop_assert_eq!(*byte, 0);
                continue;
            }
            prop_assert!(versions.iter().any(|version| version.plaintext.get(i) == Some(byte)));
            if is_in(&report.stale, i) {
                prop_assert!(newest[i] != *byte);
            } else if !report.root_is_lost && !is_in(&report.unproven, i) {
                prop_assert_eq!(newest[i], *byte);
            }
        }
        if report.is_complete() {
            prop_assert!(out == *newest);
        }
    }
}
