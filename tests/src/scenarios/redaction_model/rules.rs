//! Random rules, and texts that have much to do with them: a small alphabet makes near misses as
//! common as matches.

use fastrand::Rng;
use redact::{HashKey, RuleSet};
use std::sync::Arc;

/// The key that pseudonyms are made with.
pub const HASH_KEY: [u8; 32] = [7; 32];

/// Rules as they are written, and compiled.
#[derive(Clone)]
pub struct Rules {
    /// One text for each.
    pub texts: Vec<String>,
    /// Most bytes that a stream holds.
    pub max_hold: usize,
    pub set: Arc<RuleSet>,
}

/// Scopes of rules that replace in place; the journal and what was read are outside of all.
const ANYWHERE: &[&str] = &[
    "/work/**", "/work/**", "/work/a", "stdout", "stderr", "pipe", "socket",
];
/// Scopes without files that could be sought in.
const STREAMS: &[&str] = &["stdout", "stderr", "pipe", "socket"];
const LEAVES: &[&str] = &["a", "b", "c", "ab", "abc", "ca", "1", "12", "-", " ", "A"];
const CLASSES: &[&str] = &[
    "[ab]", "[a-c]", r"\d", r"\w", r"\s", ".", "[^a]", "[^ab-]", r"\x00",
];
const PLACES: &[&str] = &[
    r"\b",
    r"\B",
    "^",
    "$",
    "(?m:^)",
    "(?m:$)",
    r"\z",
    r"\b{start}",
    r"\b{end}",
];
const SUFFIXES: &[&str] = &["*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}"];
/// Built-ins, and what they may find.
const BUILTINS: &[(&str, &str)] = &[
    ("email", "ab@bc.ca"),
    ("card", "4111111111111111"),
    ("password", "password=ab12 "),
    ("ipv4", "12.1.1.2"),
    ("ssn", "123-45-6789"),
    ("url-credentials", "a://b:c@a"),
    (
        "private-key",
        "-----BEGIN PRIVATE KEY-----\nMIIBOwIBAAJBAKj34GkxFhD90vcNLYLI\n",
    ),
];
/// What texts are made of beside single bytes.
const WORDS: &[&str] = &[
    "abc", "ab12", "aab", "abab", "ca", "bca", "\n", "--", "12", "\0",
];
const BYTES: &[u8] = b"aaaabbbbcccc112-- \n_A@.";

pub fn pick<'a, T: ?Sized>(rng: &mut Rng, from: &[&'a T]) -> &'a T {
    from[rng.usize(..from.len())]
}

impl Rules {
    /// Some rules.
    pub fn random(rng: &mut Rng) -> Self {
        // Files hold all of their bytes at once, so they are not to run into this.
        let max_hold = if rng.u8(..4) == 0 {
            64
        } else {
            redact::DEFAULT_MAX_HOLD
        };
        loop {
            let count = rng.usize(1..=4);
            let texts = (0..count).map(|index| rule(rng, index, max_hold)).collect();
            // A regex may be one that the grate refuses.
            if let Some(rules) = Self::new(texts, max_hold) {
                return rules;
            }
        }
    }

    /// These rules, if they are any.
    pub fn new(texts: Vec<String>, max_hold: usize) -> Option<Self> {
        let mut builder = RuleSet::builder();
        builder.max_hold(max_hold);
        builder.hash_key(HashKey::new(HASH_KEY.to_vec().into()).ok()?);
        let file = texts.concat();
        builder
            .rule_file(file.as_bytes(), &mut |_| Err(String::new()))
            .ok()?;
        let set = Arc::new(builder.build());
        Some(Self {
            texts,
            max_hold,
            set,
        })
    }

    /// Without one of them.
    pub fn without(&self, index: usize) -> Option<Self> {
        let mut texts = self.texts.clone();
        texts.remove(index);
        Self::new(texts, self.max_hold)
    }
}

/// A rule.
fn rule(rng: &mut Rng, index: usize, max_hold: usize) -> String {
    let pattern = match rng.u8(..8) {
        0..=1 => {
            let list: Vec<String> = (0..rng.usize(1..4)).map(|_| literal(rng)).collect();
            format!(
                "literals = [{}]\nshort = true\nencodings = {}",
                list.join(", "),
                rng.bool()
            )
        }
        2..=3 => format!("builtin = '{}'", BUILTINS[rng.usize(..BUILTINS.len())].0),
        _ => format!("regex = '{}'", secret_regex(rng)),
    };
    let only_added_to = rng.u8(..4) == 0;
    let (scopes, actions): (&[&str], &[&str]) = match (only_added_to, rng.u8(..4)) {
        (false, 1..) if max_hold == redact::DEFAULT_MAX_HOLD => {
            (ANYWHERE, &["mask", "mask", "keep-suffix:2", "audit"])
        }
        _ => (
            STREAMS,
            &[
                "mask",
                "label",
                "hash",
                "keep-suffix:2",
                "audit",
                "deny",
                "drop",
            ],
        ),
    };
    let mut scope: Vec<&str> = (0..rng.usize(1..4)).map(|_| pick(rng, scopes)).collect();
    let mut rest = "";
    if only_added_to {
        scope.push("/log/**");
        rest = "append-only = true\n";
    }
    let action = pick(rng, actions);
    format!(
        "[[rule]]\nname = 'r{index}'\n{pattern}\naction = '{action}'\nscope = {scope:?}\n{rest}"
    )
}

/// A literal, quoted.
fn literal(rng: &mut Rng) -> String {
    let len = rng.usize(1..8);
    let bytes: Vec<u8> = (0..len).map(|_| BYTES[rng.usize(..BYTES.len())]).collect();
    format!("\"{}\"", bytes.escape_ascii())
}

fn secret_regex(rng: &mut Rng) -> String {
    let [a, b, c] = [regex(rng, 3), regex(rng, 3), regex(rng, 3)];
    match rng.u8(..6) {
        0..=1 => format!("{a}(?<secret>{b}){c}"),
        2 => format!("(?:{a}|a(?<secret>{b})){c}"),
        3 => format!(r"\b{a}{b}\b"),
        _ => format!("{a}{b}{c}"),
    }
}

fn regex(rng: &mut Rng, depth: u8) -> String {
    let kind = if depth == 0 {
        rng.u8(..13)
    } else {
        rng.u8(..23)
    };
    match kind {
        0..=7 => pick(rng, LEAVES).to_owned(),
        8..=11 => pick(rng, CLASSES).to_owned(),
        12 => pick(rng, PLACES).to_owned(),
        13..=16 => (0..rng.usize(2..4))
            .map(|_| regex(rng, depth - 1))
            .collect(),
        17..=18 => {
            let parts = [regex(rng, depth - 1), regex(rng, depth - 1)];
            format!("(?:{})", parts.join("|"))
        }
        19..=21 => format!("(?:{}){}", regex(rng, depth - 1), pick(rng, SUFFIXES)),
        _ => format!("(?i:{})", regex(rng, depth - 1)),
    }
}

/// A text that is not empty.
pub fn text(rng: &mut Rng) -> Vec<u8> {
    let pieces = match rng.u8(..10) {
        0 => 40,
        1..=3 => 8,
        _ => 2,
    };
    let mut text = Vec::new();
    for _ in 0..rng.usize(1..=pieces) {
        match rng.u8(..12) {
            0..=6 => {
                let len = rng.usize(1..6);
                text.extend((0..len).map(|_| BYTES[rng.usize(..BYTES.len())]));
            }
            7 => text.extend(vec![BYTES[rng.usize(..BYTES.len())]; rng.usize(1..20)]),
            8..=10 => text.extend_from_slice(pick(rng, WORDS).as_bytes()),
            _ => text.extend_from_slice(BUILTINS[rng.usize(..BUILTINS.len())].1.as_bytes()),
        }
    }
    // A secret's beginning, now and then.
    if rng.u8(..3) == 0 {
        text.truncate(rng.usize(1..=text.len()));
    }
    text
}
