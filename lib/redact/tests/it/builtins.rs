//! The built-ins do what their files say by example.

use std::collections::BTreeMap;

use redact::{Action, Builtin, Pattern};
use serde::Deserialize;

use crate::exact;
use crate::generate::{self, Rules};

/// The examples of a built-in, as they stand in the catalogue.
#[derive(Default)]
pub struct Examples {
    /// Texts, and the same with what is replaced masked.
    pub matches: Vec<(Vec<u8>, Vec<u8>)>,
    pub passes: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct File {
    examples: Written,
}

#[derive(Deserialize)]
struct Written {
    matches: Vec<String>,
    passes: Vec<String>,
}

/// All examples, by the name of the built-in.
pub fn examples() -> BTreeMap<String, Examples> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    let files = std::fs::read_dir(folder).unwrap();
    let examples = files.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let file: File = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let Written { matches, passes } = file.examples;
        let matches = matches.iter();
        let examples = Examples {
            matches: matches
                .map(|line| (expand(line, false), expand(line, true)))
                .collect(),
            passes: passes.iter().map(|line| expand(line, false)).collect(),
        };
        (name, examples)
    });
    examples.collect()
}

/// Writes out what the files abbreviate: `{3*A}` and `\n`. What stands between « and » is
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
    let patterns = Builtin::all().map(|builtin| (Pattern::Builtin(builtin), Action::Mask));
    generate::rules(&patterns.collect::<Vec<_>>(), 1 << 16)
}

#[test]
fn every_example_is_what_it_says() {
    let examples = examples();
    let mut wrong = Vec::new();
    for builtin in Builtin::all() {
        let rules = generate::rules(&[(Pattern::Builtin(builtin), Action::Mask)], 1 << 16);
        let mut compare = |text: &[u8], expected: &[u8]| {
            let (out, _) = exact::in_pieces(rules.set.filter().stream(), [text]);
            if out != expected {
                let (out, expected) = (out.escape_ascii(), expected.escape_ascii());
                wrong.push(format!("{builtin}:\n    {out}\n    {expected}"));
            } else {
                exact::check(&rules, text, &[]);
            }
        };
        let examples = &examples[builtin.name()];
        assert!(
            examples.matches.len() >= 2 && examples.passes.len() >= 2,
            "{builtin}"
        );
        for (text, masked) in &examples.matches {
            assert!(masked.contains(&b'*'), "{builtin}");
            compare(text, masked);
        }
        for text in &examples.passes {
            compare(text, text);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        examples.len(),
        Builtin::all().len(),
        "an example of nothing"
    );
}

/// Every built-in's examples, one after the other, at many cuts in two, and in pieces of many lengths.
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
    exact::check_in_steps(&rules, &text, &[], 5);
    let filter = rules.set.filter();
    let (whole, _) = exact::in_pieces(filter.stream(), [&text[..]]);
    // Each of them takes long for a text of this length.
    for at in (0..text.len()).step_by(29) {
        let (cut, _) = exact::in_pieces(filter.stream(), [&text[..at], &text[at..]]);
        assert!(cut == whole, "cut at {at}: {}", text[at..].escape_ascii());
    }
    for len in [2, 3, 7, 64] {
        let (cut, _) = exact::in_pieces(filter.stream(), text.chunks(len));
        assert!(cut == whole, "cut into pieces of {len}");
    }
}
