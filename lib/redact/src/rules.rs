//! Rules, and sets of them.

use std::sync::Arc;

use crate::action::{Action, HashKey, Replacer};
use crate::automaton::PatternError;
use crate::builtin::Builtin;
use crate::engine::Engine;
use crate::filter::Filter;

/// What a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Any of these texts; where two match at one place, the one that is listed first.
    Literals(Vec<Vec<u8>>),
    /// A regex over bytes.
    Regex(String),
    /// A pattern that comes with the crate.
    Builtin(Builtin),
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    name: Arc<str>,
    action: Action,
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
    /// Adds a rule.
    pub fn rule(
        &mut self,
        name: &str,
        pattern: &Pattern,
        action: Action,
    ) -> Result<&mut Self, PatternError> {
        let rule = self.rules.len();
        let engines = match pattern {
            Pattern::Literals(literals) => vec![Engine::literals(rule, literals)?],
            Pattern::Regex(regex) => vec![Engine::regex(rule, regex)?],
            Pattern::Builtin(builtin) => {
                let patterns = builtin.patterns().iter();
                patterns
                    .map(|pattern| pattern.engine(rule))
                    .collect::<Result<_, _>>()?
            }
        };
        self.engines.extend(engines.into_iter().map(Arc::new));
        self.rules.push(Rule {
            name: name.into(),
            action,
        });
        Ok(self)
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

    /// The rules that apply.
    pub fn filter(&self) -> Arc<Filter> {
        Arc::new(Filter::new(
            Arc::clone(&self.rules),
            &self.engines,
            self.replacer.clone(),
            self.max_hold,
        ))
    }
}
