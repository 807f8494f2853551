//! Binary data goes through all built-ins as it is.

use std::sync::LazyLock;

use proptest::prelude::*;
use redact::{Action, Builtin, Pattern, RuleSet, Terms};

use crate::builtins::{all_builtins, examples};
use crate::exact;
use crate::generate::{self, Rules};

/// Numbers that look random: a xorshift generator.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Everything that the built-ins that go by looks find, line by line.
fn looks() -> Vec<u8> {
    let examples = examples();
    let is_text_only = |builtin: &Builtin| {
        let mut patterns = builtin.patterns().iter();
        patterns.all(|pattern| pattern.text_only())
    };
    let lines = Builtin::all().filter(is_text_only);
    let lines = lines.flat_map(|builtin| &examples[builtin.name()].matches);
    lines.fold(Vec::new(), |text, (line, _)| {
        [&text[..], line, b"\n"].concat()
    })
}

/// A tar archive of one file (POSIX 1003.1, ustar), whose name looks like a secret.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..12].copy_from_slice(b"jane@a.bc.de");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let padding = vec![0; content.len().next_multiple_of(512) - content.len() + 1024];
    [&header[..], content, &padding].concat()
}

/// A local entry of a zip archive that is stored as it is (APPNOTE.TXT, 4.3.7).
fn zip(content: &[u8]) -> Vec<u8> {
    let mut entry = b"PK\x03\x04\x0a\x00\x00\x00\x00\x00\x21\x5b\x21\x5b".to_vec();
    entry.extend([1, 2, 3, 4]);
    let len = (content.len() as u32).to_le_bytes();
    entry.extend([&len[..], &len, &[5, 0, 0, 0], b"a.log", content].concat());
    entry
}

fn passes(name: &str, bytes: &[u8]) {
    static RULES: LazyLock<Rules> = LazyLock::new(all_builtins);
    let rules = &*RULES;
    for pieces in [
        vec![bytes],
        bytes.chunks(4096).collect(),
        bytes.chunks(777).collect(),
    ] {
        let (out, _) = exact::in_pieces(rules.set.filter().stream(), pieces);
        let differs = out.iter().zip(bytes).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let around = &bytes[at.saturating_sub(40)..(at + 40).min(bytes.len())];
            panic!("{name}: changed at {at}: {}", around.escape_ascii());
        }
        assert_eq!(out.len(), bytes.len(), "{name}");
    }
}

#[test]
fn binary_files_pass_unchanged() {
    let looks = looks();
    let log = looks.repeat(64);
    passes(
        "an executable",
        &std::fs::read(std::env::current_exe().unwrap()).unwrap(),
    );
    passes("noise", &noise(32 << 20, 1));
    passes("a tar archive", &tar(&log));
    passes("a zip archive", &zip(&log));
    // What is random from its first byte on, in all lengths: there may be no NUL in its head.
    for len in 1..2000 {
        passes("a piece of noise", &noise(len, len as u64 * 77));
    }
    // A script with an archive behind it.
    passes(
        "a script and noise",
        &[&b"#!/bin/sh\nexit 0\n"[..], &noise(8 << 20, 2)].concat(),
    );
    // Records with lengths, as databases and messages have them.
    let records = looks
        .split(|&byte| byte == b'\n')
        .fold(Vec::new(), |records, line| {
            [&records[..], &(line.len() as u32).to_be_bytes(), line].concat()
        });
    passes("records", &records);
    // Another encoding of text: each byte in sixteen bits.
    let wide: Vec<u8> = log.iter().flat_map(|&byte| [byte, 0]).collect();
    passes("UTF-16", &wide);
}

#[test]
fn what_has_a_distinctive_beginning_is_found_in_binary() {
    let rules = all_builtins();
    let token = format!("ghp_{}", "a".repeat(36));
    let text = [&noise(5000, 3)[..], b"\0 ", token.as_bytes(), b"\0"].concat();
    let (out, events) = exact::in_pieces(rules.set.filter().stream(), [&text[..]]);
    assert_eq!(events.len(), 1);
    let expected = [&text[..5002], "*".repeat(40).as_bytes(), b"\0"].concat();
    assert!(out == expected);
}

#[test]
fn a_rule_may_ask_for_binary() {
    let pattern = Pattern::Builtin("email".parse().unwrap());
    let text = b"\0\xff jane@example.org \0";
    for (binary, masked) in [(None, false), (Some(false), false), (Some(true), true)] {
        let mut rules = RuleSet::builder();
        let terms = Terms {
            binary,
            ..Terms::default()
        };
        rules.rule_with("r", &pattern, Action::Mask, terms).unwrap();
        let (out, _) = exact::in_pieces(rules.build().filter().stream(), [&text[..]]);
        assert_eq!(out != text, masked, "{binary:?}");
    }
}

/// Bytes before a text: as many as are looked at, or nearly, with what makes them binary here and
/// there.
fn before() -> impl Strategy<Value = Vec<u8>> {
    let len = prop::sample::select(vec![0, 1, 1022, 1023, 1024, 1025, 4093, 4096, 5120, 5200]);
    let stray = (
        prop::sample::select(vec![0u8, 0, 2, 0xff, 0xc3, b'\n']),
        any::<prop::sample::Index>(),
    );
    (len, prop::collection::vec(stray, 0..3)).prop_map(|(len, strays)| {
        let mut bytes = vec![b'x'; len];
        for (stray, place) in strays.iter().filter(|_| len > 0) {
            bytes[place.index(len)] = *stray;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(exact::cases() / 10))]

    #[test]
    fn what_lies_far_before_does_not_mind_cuts(
        patterns in prop::collection::vec((generate::pattern(), generate::action(), any::<Option<bool>>()), 1..4),
        pieces in prop::collection::vec((before(), generate::text(60)), 1..3),
        offsets in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let rules = generate::rules_on_terms(&patterns, 1 << 16);
        let text = pieces.iter().fold(Vec::new(), |all, (before, text)| [&all[..], before, text].concat());
        exact::check_in_steps(&rules, &text, &offsets, 501);
    }
}
