//! The rules for one destination, ready for use.

use std::sync::Arc;

use crate::action::{Action, Replacer};
use crate::engine::Engine;
use crate::matcher::Matcher;
use crate::rules::Rule;
use crate::stream::Stream;
use crate::text;

/// The rules that apply to one destination, compiled. Any number of streams may share it.
#[derive(Debug)]
pub struct Filter {
    rules: Arc<[Rule]>,
    pub(crate) main: Matcher,
    pub(crate) audit: Option<Matcher>,
    pub(crate) judges_writes: bool,
    replacer: Replacer,
    max_hold: usize,
}

impl Filter {
    pub(crate) fn new(
        rules: Arc<[Rule]>,
        engines: &[Arc<Engine>],
        replacer: Replacer,
        max_hold: usize,
    ) -> Self {
        let action = |engine: &&Arc<Engine>| rules[engine.rule].action();
        let of = |audits: bool| -> Vec<Arc<Engine>> {
            let engines = engines.iter();
            engines
                .filter(|engine| (action(engine) == Action::Audit) == audits)
                .cloned()
                .collect()
        };
        let (main, audit) = (of(false), of(true));
        Self {
            judges_writes: engines.iter().any(|engine| action(&engine).judges_write()),
            main: Matcher::new(main),
            audit: (!audit.is_empty()).then(|| Matcher::new(audit)),
            rules,
            replacer,
            max_hold,
        }
    }

    /// All rules of the set, also those that do not apply here.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Most bytes that a stream holds.
    pub fn max_hold(&self) -> usize {
        self.max_hold
    }

    /// A stream from its beginning.
    pub fn stream(self: &Arc<Self>) -> Stream {
        self.stream_from(0, None)
    }

    /// A stream that is a part of something larger, such as a file: it begins there at `origin`,
    /// and `nul` is where the first NUL of that one's [`HEAD`](crate::HEAD) is, as far as it lies
    /// before. Events tell offsets in the stream.
    pub fn stream_from(self: &Arc<Self>, origin: u64, nul: Option<u64>) -> Stream {
        Stream::new(Arc::clone(self), origin, nul)
    }

    /// Where the first NUL is in the head of what these bytes are a part of, from `origin` on, if it
    /// was at `nul` before them.
    pub fn first_nul(&self, origin: u64, nul: Option<u64>, bytes: &[u8]) -> Option<u64> {
        nul.or_else(|| text::first_nul(origin, bytes))
    }

    /// Whether it tells text from binary.
    pub fn asks_for_text(&self) -> bool {
        self.main.looks_back || self.audit.as_ref().is_some_and(|audit| audit.looks_back)
    }

    /// Bytes of the longest literal, in the longest of its forms.
    pub fn longest_literal(&self) -> usize {
        let matchers = [Some(&self.main), self.audit.as_ref()];
        let engines = matchers.into_iter().flatten().flat_map(|one| &one.engines);
        engines
            .map(|engine| engine.longest_literal())
            .max()
            .unwrap_or(0)
    }

    /// How many patterns of built-ins have been compiled so far, for something was seen that begins
    /// as they do.
    pub fn compiled(&self) -> usize {
        let matchers = [Some(&self.main), self.audit.as_ref()];
        let engines = matchers.into_iter().flatten().flat_map(|one| &one.engines);
        engines
            .filter(|engine| engine.is_compiled_builtin())
            .count()
    }

    /// Bytes of memory that its patterns take, roughly.
    pub fn memory(&self) -> usize {
        let matchers = [Some(&self.main), self.audit.as_ref()];
        matchers.into_iter().flatten().map(Matcher::memory).sum()
    }

    pub(crate) fn replacer(&self) -> &Replacer {
        &self.replacer
    }
}
