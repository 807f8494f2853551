//! Rules, and sets of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::action::{Action, HashKey, Replacer};
use crate::automaton::PatternError;
use crate::builtin::Builtin;
use crate::encodings::Encodings;
use crate::engine::Engine;
use crate::filter::Filter;
use crate::scope::{Place, Scope};

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Any of these texts; where two match at one place, the one that is listed first.
    Literals(Vec<Vec<u8>>),
    /// Any of these texts in any form that they leak in: as they are, in base64, hexadecimal and
    /// percent encoding, as strings of JSON, XML and shells have them, each line of several by
    /// itself, and with terminal sequences in between.
    Secrets(Vec<Vec<u8>>),
    /// Any of these texts as they are and in some of those forms.
    Listed(Vec<Vec<u8>>, Encodings),
    /// A regex over bytes.
    Regex(String),
    /// A pattern that comes with the crate.
    Builtin(Builtin),
    /// Any of these.
    Builtins(Vec<Builtin>),
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    name: Arc<str>,
    action: Action,
    terms: Terms,
}

/// Where a rule applies, and how.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Where it applies.
    pub scope: Scope,
    /// Whether the regular files of its scope may be written at their ends only.
    pub append_only: bool,
    /// Whether it matches in binary data too. `None` leaves it to the pattern: literals and what has
    /// a distinctive beginning do, what goes by looks alone and regexes do not.
    pub binary: Option<bool>,
}

impl Rule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does with a match.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Where it applies.
    pub fn scope(&self) -> &Scope {
        &self.terms.scope
    }

    /// Whether the regular files of its scope may be written at their ends only.
    pub fn append_only(&self) -> bool {
        self.terms.append_only
    }
}

/// A set of rules, compiled.
#[derive(Debug)]
pub struct RuleSet {
    rules: Arc<[Rule]>,
    engines: Vec<Arc<Engine>>,
    replacer: Replacer,
    max_hold: usize,
}

/// What masks consist of.
pub const MASK: u8 = b'*';

/// Most bytes that a stream holds, unless said otherwise.
pub const DEFAULT_MAX_HOLD: usize = 64 << 10;

/// Makes a [`RuleSet`].
#[derive(Debug)]
pub struct Builder {
    rules: Vec<Rule>,
    engines: Vec<Arc<Engine>>,
    replacer: Replacer,
    max_hold: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            engines: Vec::new(),
            replacer: Replacer {
                mask: MASK,
                key: None,
            },
            max_hold: DEFAULT_MAX_HOLD,
        }
    }
}

impl Builder {
    /// Adds a rule that applies everywhere.
    ///
    /// # Errors
    /// As the pattern.
    pub fn rule(
        &mut self,
        name: &str,
        pattern: &Pattern,
        action: Action,
    ) -> Result<&mut Self, PatternError> {
        self.rule_with(name, pattern, action, Terms::default())
    }

    /// Adds a rule that applies on some terms.
    ///
    /// # Errors
    /// As the pattern.
    pub fn rule_with(
        &mut self,
        name: &str,
        pattern: &Pattern,
        action: Action,
        terms: Terms,
    ) -> Result<&mut Self, PatternError> {
        let rule = self.rules.len();
        let mut engines: Vec<Engine> = match pattern {
            Pattern::Literals(literals) => vec![Engine::literals(rule, literals)?],
            Pattern::Secrets(secrets) => vec![Engine::listed(rule, secrets, Encodings::ALL)?],
            Pattern::Listed(texts, encodings) => vec![Engine::listed(rule, texts, *encodings)?],
            Pattern::Regex(regex) => vec![Engine::regex(rule, regex)?],
            Pattern::Builtin(_) | Pattern::Builtins(_) => {
                let builtins = match pattern {
                    Pattern::Builtin(one) => std::slice::from_ref(one),
                    Pattern::Builtins(some) => some,
                    _ => &[],
                };
                let patterns = builtins.iter().flat_map(|builtin| builtin.patterns());
                patterns.map(|pattern| pattern.engine(rule)).collect()
            }
        };
        for engine in &mut engines {
            match terms.binary {
                Some(binary) => engine.text_only = !binary,
                None => engine.text_only |= matches!(pattern, Pattern::Regex(_)),
            }
        }
        self.engines.extend(engines.into_iter().map(Arc::new));
        self.rules.push(Rule {
            name: name.into(),
            action,
            terms,
        });
        Ok(self)
    }

    /// Whether there is a rule of that name.
    pub fn has_rule(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.name() == name)
    }

    /// Whether there is a key for pseudonyms.
    pub fn has_hash_key(&self) -> bool {
        self.replacer.key.is_some()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Sets the most bytes that a stream holds.
    pub fn max_hold(&mut self, bytes: usize) -> &mut Self {
        self.max_hold = bytes;
        self
    }

    /// Sets the key of pseudonyms.
    pub fn hash_key(&mut self, key: HashKey) -> &mut Self {
        self.replacer.key = Some(key);
        self
    }

    /// The set.
    pub fn build(self) -> RuleSet {
        RuleSet {
            rules: self.rules.into(),
            engines: self.engines,
            replacer: self.replacer,
            max_hold: self.max_hold,
        }
    }
}

impl RuleSet {
    /// A builder without rules.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// All rules, in the order of their priority.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules that apply at a place, as indices.
    pub fn at(&self, place: Place<'_>) -> BTreeSet<usize> {
        let rules = self.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.terms.scope.covers(place))
            .map(|(index, _)| index)
            .collect()
    }

    /// A filter of all rules.
    pub fn filter(&self) -> Arc<Filter> {
        self.compiled(&self.engines)
    }

    /// A filter of these rules.
    pub fn filter_of(&self, rules: &BTreeSet<usize>) -> Arc<Filter> {
        let engines = self.engines.iter();
        let engines: Vec<_> = engines
            .filter(|engine| rules.contains(&engine.rule))
            .cloned()
            .collect();
        self.compiled(&engines)
    }

    fn compiled(&self, engines: &[Arc<Engine>]) -> Arc<Filter> {
        Arc::new(Filter::new(
            Arc::clone(&self.rules),
            engines,
            self.replacer.clone(),
            self.max_hold,
        ))
    }
}
