//! What the result should be, worked out the plain way: the whole text in one piece, each pattern
//! searched for by the `regex` crate.

use redact::{Action, Check, Found as Candidate, Pattern};
use regex::bytes::{Regex, RegexBuilder};

/// A regex, what is asked of its matches, and whether they are to be text.
struct Searched {
    regex: Regex,
    check: Option<Check>,
    text: Option<Text>,
}

/// How text is told from binary.
#[derive(Clone, Copy)]
struct Text {
    /// The byte behind a match counts.
    peeks: bool,
}

impl Text {
    /// Whether a match is text, as the documentation has it, the plain way.
    fn allows(self, all: &[u8], found: std::ops::Range<usize>) -> bool {
        let end = (found.end + usize::from(self.peeks)).min(all.len());
        let head = &all[..end.min(4096)];
        let beside = &all[found.start.saturating_sub(1024)..found.start];
        if head.contains(&0) || beside.contains(&0) {
            return false;
        }
        let newline = beside.iter().rposition(|&byte| byte == b'\n');
        let line = match newline {
            Some(at) => &all[found.start - beside.len() + at + 1..end],
            None => &all[found.start - beside.len()..end],
        };
        match std::str::from_utf8(line) {
            Ok(text) => !text.contains(is_no_text),
            // A character that is not complete at the end is none that is wrong.
            Err(error) if error.error_len().is_none() => !line[..error.valid_up_to()]
                .iter()
                .any(|&byte| is_no_text(byte.into())),
            Err(_) => false,
        }
    }
}

fn is_no_text(c: char) -> bool {
    let allowed = "\x01\x07\x08\t\n\x0b\x0c\r\x1b\x1c\x1d\x1e\x1f";
    c.is_ascii_control() && !allowed.contains(c)
}

/// A rule as the reference has it.
pub struct Rule {
    pub name: String,
    pub action: Action,
    patterns: Vec<Searched>,
}

/// A match: rule, offset, length.
pub type Found = (usize, u64, u64);

impl Rule {
    pub fn new(name: &str, pattern: &Pattern, action: Action, binary: Option<bool>) -> Self {
        let searched = |regex: Regex, check: Option<Check>, is_text: bool, peeks: bool| Searched {
            regex,
            check,
            text: binary
                .map_or(is_text, |binary| !binary)
                .then_some(Text { peeks }),
        };
        let patterns = match pattern {
            Pattern::Regex(regex) => vec![searched(compile(regex), None, true, false)],
            Pattern::Builtin(_) | Pattern::Builtins(_) => {
                let builtins = match pattern {
                    Pattern::Builtin(one) => std::slice::from_ref(one),
                    Pattern::Builtins(some) => some,
                    _ => &[],
                };
                let patterns = builtins.iter().flat_map(|builtin| builtin.patterns());
                patterns
                    .map(|pattern| {
                        let (check, is_text) = (pattern.check(), pattern.text_only());
                        searched(compile(pattern.regex()), check, is_text, is_text)
                    })
                    .collect()
            }
            Pattern::Literals(literals)
            | Pattern::Secrets(literals)
            | Pattern::Listed(literals, _) => {
                let escaped: Vec<String> = literals.iter().map(|text| escape(text)).collect();
                vec![searched(compile(&escaped.join("|")), None, false, false)]
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
            for searched in &rule.patterns {
                if let Some((start, end, secret)) = first(searched, text, at)
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

fn first(searched: &Searched, text: &[u8], at: usize) -> Option<Span> {
    let mut from = at;
    loop {
        let captures = searched.regex.captures_at(text, from)?;
        let whole = captures.get(0)?.range();
        let len = match searched.check {
            Some(check) => check(Candidate {
                text: &text[whole.clone()],
                before: &text[whole.start.saturating_sub(32)..whole.start],
                after: text.get(whole.end).copied(),
            }),
            None => Some(whole.len()),
        };
        let is_text = |len: &usize| match searched.text {
            Some(rule) => rule.allows(text, whole.start..whole.start + len),
            None => true,
        };
        let len = len.filter(is_text);
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
