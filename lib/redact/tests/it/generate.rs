//! Random rules and texts that have much to do with each other: a small alphabet makes near misses
//! as common as matches.

use proptest::prelude::*;
use redact::{Action, Pattern, RuleSet, Terms};

use crate::reference;

/// A regex that the crate takes.
pub fn regex() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "ab", "abc", "ca", "1", "12", "-", " ", "A"]),
        4 => prop::sample::select(vec!["[ab]", "[a-c]", r"\d", r"\w", r"\s", ".", "[^a]", "[^ab-]", r"(?s:.)", r"\x00"]),
        1 => prop::sample::select(vec![
            r"\b", r"\B", "^", "$", "(?m:^)", "(?m:$)", r"\z", r"\b{start}", r"\b{end}",
            r"\b{start-half}", r"\b{end-half}", "(?Rm:^)", "(?Rm:$)",
        ]),
    ]
    .prop_map(str::to_owned);
    let regex = leaf.prop_recursive(4, 16, 4, |inner| {
        let suffix = prop::sample::select(vec![
            "*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{0,2}?",
        ]);
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 2..5).prop_map(|parts| parts.concat()),
            2 => prop::collection::vec(inner.clone(), 2..4)
                .prop_map(|parts| format!("(?:{})", parts.join("|"))),
            3 => (inner.clone(), suffix).prop_map(|(part, suffix)| format!("(?:{part}){suffix}")),
            1 => inner.prop_map(|part| format!("(?i:{part})")),
        ]
    });
    let secret = prop::sample::select(vec![
        "{}{}{}",
        "{}(?<secret>{}){}",
        "(?:{}|a(?<secret>{})){}",
    ]);
    (regex.clone(), regex.clone(), regex, secret)
        .prop_map(|(a, b, c, form)| {
            let regex = form
                .replacen("{}", &a, 1)
                .replacen("{}", &b, 1)
                .replacen("{}", &c, 1);
            if is_taken(&regex) {
                regex
            } else {
                format!("a(?:{a})b")
            }
        })
        .prop_filter("not a regex of this crate", |regex| is_taken(regex))
}

fn is_taken(regex: &str) -> bool {
    let pattern = Pattern::Regex(regex.to_owned());
    RuleSet::builder().rule("r", &pattern, Action::Mask).is_ok()
}

/// A pattern.
pub fn pattern() -> impl Strategy<Value = Pattern> {
    let literals = prop::collection::vec(prop::collection::vec(byte(), 1..10), 1..6);
    prop_oneof![
        3 => regex().prop_map(Pattern::Regex),
        1 => literals.prop_map(Pattern::Literals),
    ]
}

fn byte() -> impl Strategy<Value = u8> {
    prop::sample::select(&b"aaaaabbbbbccccc1122--- \n\n\r_A\x00\xff"[..])
}

/// A text of the same alphabet.
pub fn text(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::collection::vec(byte(), 1..6),
        1 => (byte(), 1usize..20).prop_map(|(byte, len)| vec![byte; len]),
        2 => prop::sample::select(vec!["abc", "ab12", "aab", "abab", "ca", "bca"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..most / 4).prop_map(|pieces| pieces.concat())
}

/// An action that leaves the writes alone.
pub fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => Just(Action::Mask),
        2 => Just(Action::Label),
        1 => Just(Action::KeepSuffix(2)),
        1 => Just(Action::Audit),
    ]
}

/// Rules, as the crate and as the reference have them.
pub struct Rules {
    pub set: RuleSet,
    pub reference: Vec<reference::Rule>,
}

/// Makes rules of patterns.
pub fn rules(patterns: &[(Pattern, Action)], max_hold: usize) -> Rules {
    let patterns = patterns.iter().cloned();
    let patterns: Vec<_> = patterns
        .map(|(pattern, action)| (pattern, action, None))
        .collect();
    rules_on_terms(&patterns, max_hold)
}

/// As [`rules`], where each says whether it matches in binary.
pub fn rules_on_terms(patterns: &[(Pattern, Action, Option<bool>)], max_hold: usize) -> Rules {
    let mut builder = RuleSet::builder();
    builder.max_hold(max_hold);
    let mut reference = Vec::new();
    for (i, (pattern, action, binary)) in patterns.iter().enumerate() {
        let name = format!("r{i}");
        let terms = Terms {
            binary: *binary,
            ..Terms::default()
        };
        builder.rule_with(&name, pattern, *action, terms).unwrap();
        reference.push(reference::Rule::new(&name, pattern, *action, *binary));
    }
    Rules {
        set: builder.build(),
        reference,
    }
}
