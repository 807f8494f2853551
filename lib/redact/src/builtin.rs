//! The patterns that come with the crate: the catalogue.
//!
//! Each file in `catalogue/` is a family of secrets: what it is, the patterns, and examples of what
//! they find and what they let pass, which are their tests. `build.rs` makes tables of them.

use std::fmt;
use std::str::FromStr;

use crate::byteset::ByteSet;
use crate::check;
use crate::engine::{Check, Engine, Mark};
use crate::groups::Group as ShapeGroup;
use crate::run::{KINDS, Kind, Run};
use crate::shape::{NEAR, Shape};
use crate::sieve::MadeGroups;

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// Most bytes of an open candidate that are looked at anew at each write, with no automaton.
const EARLY: usize = 32;

/// How many classes of patterns there are.
pub(crate) const CLASSES: usize = KINDS + 2;

/// The groups of all shapes of each class of patterns.
pub(crate) fn builtin_groups() -> &'static [MadeGroups; CLASSES] {
    &MADE_GROUPS
}

/// A family of secrets that the crate knows.
#[derive(Clone, Copy)]
pub struct Builtin(&'static Family);

/// What a [`Builtin`] is.
struct Family {
    name: &'static str,
    group: Group,
    about: &'static str,
    source: Option<&'static str>,
    /// Which of all patterns are its own: from this one,
    first: usize,
    /// and before that one.
    end: usize,
}

/// Families that are named together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// What services give out to be known by, and passwords.
    Tokens,
    /// Keys of cryptography.
    Keys,
    /// What is of persons: addresses, cards, telephone numbers.
    Personal,
    /// What looks random in a field whose name says that it is secret. Not in `all`.
    Entropy,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tokens, Self::Keys, Self::Personal, Self::Entropy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Keys => "keys",
            Self::Personal => "personal",
            Self::Entropy => "entropy",
        }
    }
}

/// A part of a [`Builtin`].
#[derive(Debug)]
pub struct BuiltinPattern {
    regex: &'static str,
    check: Option<Check>,
    text_only: bool,
    mark: Option<Mark>,
    /// Bytes of the shortest match.
    shortest: usize,
    /// Whether only a part of a match is the secret.
    has_secret: bool,
    run: Option<Run>,
    /// Which patterns it is looked for together with: of the same kind of runs, without one, or
    /// such as go by entropy.
    class: usize,
    /// Those of its beginnings, or of its mark, each with the number of the bucket it is in.
    shapes: &'static [(usize, Shape)],
}

impl Builtin {
    /// All of them, by name.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        FAMILIES.iter().map(Self)
    }

    /// Those that a name stands for: a family's, a group's, or `all`, which is all but those that
    /// go by entropy.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Vec<Self>, UnknownBuiltin> {
        let is_meant = |builtin: &Self| match name {
            "all" => builtin.group() != Group::Entropy,
            _ => builtin.name() == name || builtin.group().name() == name,
        };
        let found: Vec<_> = Self::all().filter(is_meant).collect();
        if found.is_empty() {
            return Err(UnknownBuiltin(name.to_owned()));
        }
        Ok(found)
    }

    /// The name that it has in a rule file.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The families that it is named with.
    pub fn group(self) -> Group {
        self.0.group
    }

    /// What it finds, in a sentence.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Where who gives such secrets out says what they look like.
    pub fn source(self) -> Option<&'static str> {
        self.0.source
    }

    /// What it consists of. Of two that match at one place the first is taken.
    pub fn patterns(self) -> &'static [BuiltinPattern] {
        &PATTERNS[self.0.first..self.0.end]
    }
}

impl BuiltinPattern {
    /// Its regex.
    pub fn regex(&self) -> &'static str {
        self.regex
    }

    /// What is asked of a text that the regex matches: how many of its bytes are the match, or
    /// `None` where it is none.
    pub fn check(&self) -> Option<Check> {
        self.check
    }

    /// Whether it goes by looks alone, and matches in text only.
    pub fn text_only(&self) -> bool {
        self.text_only
    }

    /// Whether the byte behind a match counts.
    pub fn peeks(&self) -> bool {
        self.text_only || self.check.is_some()
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    pub(crate) fn run(&self) -> Option<Run> {
        self.run
    }

    /// Whether a match may begin with these bytes, the last ones of a stream if it has `ended`, as
    /// far as it can be told without an automaton.
    pub(crate) fn may_match(&self, text: &[u8], ended: bool) -> bool {
        (!ended || text.len() >= self.shortest)
            && self.run.is_none_or(|run| run.may_be_in(text, ended))
    }

    /// From how many bytes on the walk of an open candidate is kept. No match is shorter; and where
    /// only a part of it is secret, what comes before that goes out early.
    pub(crate) fn early(&self) -> usize {
        let most = match self.has_secret {
            true => NEAR,
            false => EARLY,
        };
        self.shortest.min(most)
    }

    pub(crate) fn class(&self) -> usize {
        self.class
    }

    pub(crate) fn shapes(&self) -> &'static [(usize, Shape)] {
        self.shapes
    }

    pub(crate) fn engine(&'static self, rule: usize) -> Engine {
        Engine::builtin(rule, self)
    }
}

impl PartialEq for Builtin {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Builtin {}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builtin({})", self.name())
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such built-in pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown built-in `{0}`; use all, tokens, keys, personal, entropy, or one of {names}", names = names())]
pub struct UnknownBuiltin(String);

fn names() -> String {
    let names: Vec<&str> = Builtin::all().map(Builtin::name).collect();
    names.join(", ")
}

impl FromStr for Builtin {
    type Err = UnknownBuiltin;

    fn from_str(name: &str) -> Result<Self, UnknownBuiltin> {
        Self::all()
            .find(|builtin| builtin.name() == name)
            .ok_or_else(|| UnknownBuiltin(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::automaton::{Reach, RegexDfa, parse};

    #[test]
    fn each_pattern_compiles_to_little() {
        /// Bytes that one may take.
        const MOST: usize = 1 << 20;
        let mut wrong = Vec::new();
        let mut all = 0;
        for builtin in Builtin::all() {
            for pattern in builtin.patterns() {
                let memory = Engine::compiled_size(pattern.regex());
                if let Some(mark) = pattern.mark() {
                    let compiled =
                        parse(mark.inside).and_then(|hir| RegexDfa::new(&hir, Reach::Here));
                    assert!(
                        compiled.is_ok_and(|dfa| dfa.memory() <= MOST),
                        "{}",
                        mark.inside
                    );
                }
                match memory {
                    Ok(memory) if memory <= MOST => all += memory,
                    _ => wrong.push(format!("{builtin}: {memory:?}: {}", pattern.regex())),
                }
            }
        }
        println!("{} KiB", all >> 10);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
