//! The built-ins do what docs/redaction.md says by example.

use std::collections::BTreeMap;

use redact::{Action, Builtin, Pattern};

use crate::exact;
use crate::generate::{self, Rules};

const DOC: &str = include_str!("../../../../docs/redaction.md");

/// The examples of a built-in, as they stand in the document.
#[derive(Default)]
pub struct Examples {
    /// Texts, and the same with what is replaced masked.
    pub matches: Vec<(Vec<u8>, Vec<u8>)>,
    pub passes: Vec<Vec<u8>>,
}

/// All examples, by the name of the built-in.
pub fn examples() -> BTreeMap<&'static str, Examples> {
    let mut all: BTreeMap<&str, Examples> = BTreeMap::new();
    let mut name = "";
    let mut block = "";
    for line in DOC.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            name = heading;
        } else if let Some(info) = line.strip_prefix("```") {
            block = info;
        } else if block == "matches" {
            let matches = &mut all.entry(name).or_default().matches;
            matches.push((expand(line, false), expand(line, true)));
        } else if block == "passes" {
            all.entry(name)
                .or_default()
                .passes
                .push(expand(line, false));
        }
    }
    all
}

/// Writes out what the document abbreviates: `{3*A}` and `\n`. What stands between « and » is
/// masked on demand.
fn expand(line: &str, masked: bool) -> Vec<u8> {
    let mut text = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let repeated = rest.strip_prefix('{').and_then(|inside| {
            let (inside, after) = inside.split_once('}')?;
            let (count, unit) = inside.split_once('*')?;
            Some((unit.repeat(count.parse().ok()?), after))
        });
        if let Some((units, after)) = repeated {
            text += &units;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\\\n") {
            text += "\\n";
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\n") {
            text.push('\n');
            rest = after;
        } else {
            text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    let mut out = Vec::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '«' => inside = true,
            '»' => inside = false,
            _ if inside && masked => out.push(b'*'),
            _ => out.push(u8::try_from(c).unwrap()),
        }
    }
    out
}

/// Rules with every built-in.
pub fn all_builtins() -> Rules {
    let patterns = Builtin::ALL
        .iter()
        .map(|&builtin| (Pattern::Builtin(builtin), Action::Mask));
    generate::rules(&patterns.collect::<Vec<_>>(), 1 << 16)
}

#[test]
fn every_example_is_what_it_says() {
    let examples = examples();
    for &builtin in Builtin::ALL {
        let rules = generate::rules(&[(Pattern::Builtin(builtin), Action::Mask)], 1 << 16);
        let run = |text: &[u8]| {
            let (out, _) = exact::in_pieces(rules.set.filter().stream(), [text]);
            out.escape_ascii().to_string()
        };
        let examples = &examples[builtin.name()];
        assert!(
            examples.matches.len() >= 2 && examples.passes.len() >= 2,
            "{builtin}"
        );
        for (text, masked) in &examples.matches {
            assert!(masked.contains(&b'*'), "{builtin}");
            assert_eq!(run(text), masked.escape_ascii().to_string(), "{builtin}");
            exact::check(&rules, text, &[]);
        }
        for text in &examples.passes {
            assert_eq!(run(text), text.escape_ascii().to_string(), "{builtin}");
            exact::check(&rules, text, &[]);
        }
    }
    assert_eq!(examples.len(), Builtin::ALL.len(), "an example of nothing");
}

/// Every built-in's examples, one after the other, at every cut in two and byte by byte.
#[test]
fn every_cut_of_a_text_with_everything() {
    let examples = examples();
    let lines = examples.values().flat_map(|examples| {
        let matches = examples.matches.iter().map(|(text, _)| text);
        matches.chain(&examples.passes)
    });
    let text = lines.fold(Vec::new(), |mut text, line| {
        text.extend_from_slice(line);
        text.push(b'\n');
        text
    });
    let rules = all_builtins();
    exact::check(&rules, &text, &[]);
    let filter = rules.set.filter();
    let (whole, _) = exact::in_pieces(filter.stream(), [&text[..]]);
    for at in 0..text.len() {
        let (cut, _) = exact::in_pieces(filter.stream(), [&text[..at], &text[at..]]);
        assert!(cut == whole, "cut at {at}: {}", text[at..].escape_ascii());
    }
    for len in [2, 3, 7, 64] {
        let (cut, _) = exact::in_pieces(filter.stream(), text.chunks(len));
        assert!(cut == whole, "cut into pieces of {len}");
    }
}
