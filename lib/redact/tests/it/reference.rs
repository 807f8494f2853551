//! What the result should be, worked out the plain way: the whole text in one piece, each pattern
//! searched for by the `regex` crate.

use redact::{Action, Pattern};
use regex::bytes::{Regex, RegexBuilder};

/// What a pattern says to a text that its regex takes.
pub type Check = fn(&[u8]) -> Option<usize>;

/// A rule as the reference has it.
pub struct Rule {
    pub name: String,
    pub action: Action,
    patterns: Vec<(Regex, Option<Check>)>,
}

/// A match: rule, offset, length.
pub type Found = (usize, u64, u64);

impl Rule {
    pub fn new(name: &str, pattern: &Pattern, action: Action) -> Self {
        let patterns = match pattern {
            Pattern::Regex(regex) => vec![(compile(regex), None)],
            Pattern::Builtin(builtin) => {
                let patterns = builtin.patterns().iter();
                patterns
                    .map(|pattern| (compile(pattern.regex()), pattern.check()))
                    .collect()
            }
            Pattern::Literals(literals) => {
                let escaped: Vec<String> = literals.iter().map(|text| escape(text)).collect();
                vec![(compile(&escaped.join("|")), None)]
            }
        };
        Self {
            name: name.to_owned(),
            action,
            patterns,
        }
    }
}

fn compile(regex: &str) -> Regex {
    RegexBuilder::new(regex).unicode(false).build().unwrap()
}

fn escape(literal: &[u8]) -> String {
    literal
        .iter()
        .map(|byte| format!(r"\x{byte:02x}"))
        .collect()
}

/// The output and the matches.
pub fn one_piece(rules: &[Rule], text: &[u8]) -> (Vec<u8>, Vec<Found>) {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    let mut sent = 0;
    matches(
        rules,
        text,
        |action| action != Action::Audit,
        |rule, secret| {
            events.push((rule, secret.start as u64, secret.len() as u64));
            out.extend_from_slice(&text[sent..secret.start]);
            replace(&rules[rule], &text[secret.clone()], &mut out);
            sent = secret.end;
        },
    );
    out.extend_from_slice(&text[sent..]);
    matches(
        rules,
        text,
        |action| action == Action::Audit,
        |rule, secret| {
            events.push((rule, secret.start as u64, secret.len() as u64));
        },
    );
    (out, events)
}

fn replace(rule: &Rule, secret: &[u8], out: &mut Vec<u8>) {
    let shown = match rule.action {
        Action::Label => {
            return out.extend_from_slice(format!("[REDACTED:{}]", rule.name).as_bytes());
        }
        Action::KeepSuffix(count) => count.min(secret.len() / 4),
        _ => 0,
    };
    let hidden = secret.len() - shown;
    out.extend(std::iter::repeat_n(b'*', hidden));
    out.extend_from_slice(&secret[hidden..]);
}

/// Calls `each` with the rule and the secret of every match: the leftmost, of the first rule among
/// those, as long as the regex has it; then on behind it.
fn matches(
    rules: &[Rule],
    text: &[u8],
    applies: impl Fn(Action) -> bool,
    mut each: impl FnMut(usize, std::ops::Range<usize>),
) {
    let mut at = 0;
    while at < text.len() {
        let mut best: Option<(usize, usize, usize, std::ops::Range<usize>)> = None;
        for (index, rule) in rules.iter().enumerate() {
            if !applies(rule.action) {
                continue;
            }
            for (regex, check) in &rule.patterns {
                if let Some((start, end, secret)) = first(regex, *check, text, at)
                    && best.as_ref().is_none_or(|best| start < best.1)
                {
                    best = Some((index, start, end, secret));
                }
            }
        }
        let Some((rule, _, end, secret)) = best else {
            return;
        };
        each(rule, secret);
        at = end;
    }
}

type Span = (usize, usize, std::ops::Range<usize>);

fn first(regex: &Regex, check: Option<Check>, text: &[u8], at: usize) -> Option<Span> {
    let mut from = at;
    loop {
        let captures = regex.captures_at(text, from)?;
        let whole = captures.get(0)?.range();
        let len = match check {
            Some(check) => check(&text[whole.clone()]),
            None => Some(whole.len()),
        };
        match len {
            Some(len) => {
                let end = whole.start + len;
                let secret = captures.name("secret").map(|group| group.range());
                return Some((whole.start, end, secret.unwrap_or(whole.start..end)));
            }
            None => from = whole.start + 1,
        }
    }
}
