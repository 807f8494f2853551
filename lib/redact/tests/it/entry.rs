//! Entry points for hostile input. Each takes any bytes at all and panics if the crate breaks a
//! promise. The fuzz targets in `fuzz/` include this file; `hostile.rs` runs it briefly in every
//! `cargo test`.

use std::sync::OnceLock;

use redact::{Action, Builtin, Filter, Pattern, RuleSet, Verdict};

use super::reference;

/// Any bytes as a rule file: rules, or one line that says what is wrong and where.
pub fn rule_file(data: &[u8]) {
    let mut rules = RuleSet::builder();
    let read = rules.rule_file(data, &mut |_| Ok(b"some\nwords".to_vec()));
    if let Err(error) = read {
        let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&error.line), "{error}");
        assert!(!error.message.is_empty());
        assert!(!error.message.contains(char::is_control), "{error}");
        return;
    }
    // What was taken can be used.
    let rules = rules.build();
    let filter = rules.filter();
    let mut out = Vec::new();
    let mut stream = filter.stream();
    let _ = stream.push(data, &mut out);
    stream.finish(&mut out);
}

/// Sets of rules, as the crate and as the reference have them.
struct Rules {
    filter: std::sync::Arc<Filter>,
    reference: Vec<reference::Rule>,
}

impl Rules {
    fn new(rules: &[(&str, Pattern, Action)]) -> Option<Self> {
        let mut set = RuleSet::builder();
        // So much that nothing is cut.
        set.max_hold(1 << 30);
        for (name, pattern, action) in rules {
            set.rule(name, pattern, *action).ok()?;
        }
        let reference = rules
            .iter()
            .map(|(name, pattern, action)| reference::Rule::new(name, pattern, *action, None));
        Some(Self {
            filter: set.build().filter(),
            reference: reference.collect(),
        })
    }

    /// What a text becomes does not depend on how it is cut.
    fn check(&self, text: &[u8], cuts: &[u8]) {
        let (expected, _) = reference::one_piece(&self.reference, text);
        let (mut out, mut rest) = (Vec::new(), text);
        let mut stream = self.filter.stream();
        for &cut in cuts {
            let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
            assert_eq!(stream.push(piece, &mut out), Verdict::Passed);
            rest = after;
        }
        assert_eq!(stream.push(rest, &mut out), Verdict::Passed);
        stream.finish(&mut out);
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{} cut at {cuts:?}",
            text.escape_ascii()
        );
    }
}

/// A count, so many lengths of pieces, and a text that is cut into them, against all built-ins.
pub fn builtins(data: &[u8]) {
    static RULES: OnceLock<Rules> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let actions = [Action::Mask, Action::Label, Action::KeepSuffix(3)];
        let rules: Vec<_> = Builtin::all()
            .zip(actions.into_iter().cycle())
            .map(|(kind, action)| (kind.name(), Pattern::Builtin(kind), action))
            .collect();
        Rules::new(&rules).expect("they compile")
    });
    let (cuts, text) = take_cuts(data);
    rules.check(text, cuts);
}

/// A regex to the first zero byte, then as [`builtins`].
pub fn regex(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == 0);
    let Some((regex, rest)) = end.map(|end| data.split_at(end)) else {
        return;
    };
    // Long ones take long to compile, and are refused for their size.
    let Some(regex) = std::str::from_utf8(regex)
        .ok()
        .filter(|regex| regex.len() < 64)
    else {
        return;
    };
    let pattern = Pattern::Regex(regex.to_owned());
    if let Some(rules) = Rules::new(&[("r", pattern, Action::Label)]) {
        let (cuts, text) = take_cuts(&rest[1..]);
        rules.check(text, cuts);
    }
}

fn take_cuts(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(count & 15).min(rest.len()))
}
