//! Rule files: rules written down in TOML.

use std::fmt::Display;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::action::Action;
use crate::builtin::Builtin;
use crate::encodings::Encodings;
use crate::listed::{SHORTEST, texts, too_short};
use crate::rules::{Builder, Pattern, Terms};
use crate::scope::Scope;

/// What is wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct RuleFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do, in one line.
    pub message: String,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    rule: Vec<Spanned<WrittenRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenRule {
    name: Spanned<String>,
    builtin: Option<Spanned<String>>,
    literals: Option<Spanned<Vec<Spanned<String>>>>,
    literals_file: Option<Spanned<String>>,
    regex: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    scope: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    append_only: bool,
    binary: Option<bool>,
    encodings: Option<WrittenEncodings>,
    #[serde(default)]
    short: bool,
}

/// All of them or none, or some.
#[derive(Deserialize)]
#[serde(untagged, expecting = "true, false, or a list of encodings")]
enum WrittenEncodings {
    All(bool),
    Some(Vec<String>),
}

/// Where in the text something stands, and what is wrong with it.
struct Fault {
    at: usize,
    message: String,
}

fn fault(span: Range<usize>, message: impl Display) -> Fault {
    Fault {
        at: span.start,
        message: message.to_string(),
    }
}

impl Builder {
    /// Adds the rules of a file. `literals_file` reads the file that a rule names for its literals;
    /// its error says what is wrong and what to do.
    ///
    /// # Errors
    /// The first thing that is wrong; then the builder is of no use any more.
    pub fn rule_file(
        &mut self,
        bytes: &[u8],
        literals_file: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<&mut Self, RuleFileError> {
        let at_line = |fault: Fault| RuleFileError {
            line: 1 + bytes.iter().take(fault.at).filter(|&&b| b == b'\n').count(),
            message: one_line(&fault.message),
        };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            at_line(fault(at..at, "not UTF-8; write bytes as \\x.. in a regex"))
        })?;
        let written: Written = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            at_line(fault(span, format!("{}; correct it", error.message())))
        })?;
        if written.rule.is_empty() {
            return Err(at_line(fault(0..0, "holds no rule; write a [[rule]]")));
        }
        for rule in written.rule {
            let span = rule.span();
            self.written_rule(rule.into_inner(), span, literals_file)
                .map_err(at_line)?;
        }
        Ok(self)
    }

    fn written_rule(
        &mut self,
        rule: WrittenRule,
        span: Range<usize>,
        literals_file: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<(), Fault> {
        let name = rule.name.get_ref();
        if name.is_empty() || name.chars().any(char::is_control) {
            let why = "the name is empty or holds control characters; choose another";
            return Err(fault(rule.name.span(), why));
        }
        if self.has_rule(name) {
            let why = format!("there is a rule `{name}` already; choose another name");
            return Err(fault(rule.name.span(), why));
        }
        let action = match &rule.action {
            Some(text) => text
                .get_ref()
                .parse()
                .map_err(|error| fault(text.span(), error))?,
            None => Action::Mask,
        };
        let action_at = rule.action.as_ref().map_or(span.clone(), Spanned::span);
        if action == Action::Hash && !self.has_hash_key() {
            let why = "there is no key for hash; name a file that holds one with --hash-key";
            return Err(fault(action_at, why));
        }
        let scope = match &rule.scope {
            Some(parts) => scope(parts)?,
            None => Scope::EVERYWHERE,
        };
        if !action.keeps_offsets() && scope.has_files() && !rule.append_only {
            let why = format!(
                "{action} would move what follows in a regular file; give a scope of stdout, \
                 stderr, pipe or socket, or say append-only = true"
            );
            return Err(fault(action_at, why));
        }
        let (pattern, pattern_at) = pattern(&rule, span, literals_file)?;
        let terms = Terms {
            scope,
            append_only: rule.append_only,
            binary: rule.binary,
        };
        self.rule_with(name, &pattern, action, terms)
            .map_err(|error| fault(pattern_at, error))?;
        Ok(())
    }
}

fn scope(parts: &Spanned<Vec<Spanned<String>>>) -> Result<Scope, Fault> {
    for part in parts.get_ref() {
        Scope::new([part.get_ref().as_str()]).map_err(|error| fault(part.span(), error))?;
    }
    let texts = parts.get_ref().iter().map(|part| part.get_ref().as_str());
    Scope::new(texts).map_err(|error| fault(parts.span(), error))
}

/// The one pattern of a rule, and where it stands.
fn pattern(
    rule: &WrittenRule,
    span: Range<usize>,
    literals_file: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<(Pattern, Range<usize>), Fault> {
    const ONE: &str = "give one of builtin, literals, literals-file or regex";
    let spans = [
        rule.builtin.as_ref().map(Spanned::span),
        rule.literals.as_ref().map(Spanned::span),
        rule.literals_file.as_ref().map(Spanned::span),
        rule.regex.as_ref().map(Spanned::span),
    ];
    let mut spans = spans.into_iter().flatten();
    let Some(at) = spans.next() else {
        let why = format!("rule `{}` has no pattern; {ONE}", rule.name.get_ref());
        return Err(fault(span, why));
    };
    // Told where the later of them stands.
    if let Some(second) = spans.map(|span| span.start.max(at.start)).max() {
        let why = format!("rule `{}` has two patterns; {ONE}", rule.name.get_ref());
        return Err(fault(second..second, why));
    }
    let failed = |message: String| fault(at.clone(), message);
    let pattern = if let Some(name) = &rule.builtin {
        let found = Builtin::named(name.get_ref()).map_err(|error| failed(error.to_string()))?;
        match found[..] {
            [one] => Pattern::Builtin(one),
            _ => Pattern::Builtins(found),
        }
    } else if let Some(literals) = &rule.literals {
        let literals = literals.get_ref();
        if let Some(empty) = literals.iter().find(|text| text.get_ref().is_empty()) {
            return Err(fault(empty.span(), "an empty literal; remove it"));
        }
        let literals = literals
            .iter()
            .map(|text| text.get_ref().clone().into_bytes());
        listed(rule, literals.collect()).map_err(failed)?
    } else if let Some(name) = &rule.literals_file {
        let bytes = literals_file(name.get_ref()).map_err(failed)?;
        let texts = texts(&bytes).map_err(|error| failed(error.to_string()))?;
        listed(rule, texts).map_err(failed)?
    } else if let Some(regex) = &rule.regex {
        Pattern::Regex(regex.get_ref().clone())
    } else {
        return Err(failed(ONE.to_owned()));
    };
    Ok((pattern, at))
}

/// Texts that are listed.
fn listed(rule: &WrittenRule, texts: Vec<Vec<u8>>) -> Result<Pattern, String> {
    if let Some(number) = too_short(&texts).filter(|_| !rule.short) {
        return Err(format!(
            "text {number} is shorter than {SHORTEST} bytes and would be masked all over; remove it, or say short = true"
        ));
    }
    Ok(Pattern::Listed(texts, rule.forms()?))
}

impl WrittenRule {
    /// The forms in which its texts are looked for.
    fn forms(&self) -> Result<Encodings, String> {
        match &self.encodings {
            None | Some(WrittenEncodings::All(true)) => Ok(Encodings::ALL),
            Some(WrittenEncodings::All(false)) => Ok(Encodings::NONE),
            Some(WrittenEncodings::Some(names)) => {
                Encodings::named(names).map_err(|error| error.to_string())
            }
        }
    }
}

/// A message in one line.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .split(char::is_control)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}
