//! Decisions on calls: what a grate does with each, kept beside the table and checked against it.

use crate::{CALLS, COPY_DATA, COPY_TABLE, REGISTER_HANDLER};

/// Calls that are decided on alike.
#[derive(Clone, Copy, Debug)]
pub struct Group<D: 'static> {
    /// What is done.
    pub decision: D,
    /// Why.
    pub why: &'static str,
    /// Their names.
    pub calls: &'static [&'static str],
}

/// Calls that are decided on alike.
pub const fn group<D>(decision: D, why: &'static str, calls: &'static [&'static str]) -> Group<D> {
    Group {
        decision,
        why,
        calls,
    }
}

/// Checks groups by [`check`], and makes what a grate asks of them: `decision`, of a call by its number, and `HANDLED`,
/// how many calls have a handler. `Pass` is to be one of the decisions: such a call has none.
#[macro_export]
macro_rules! decisions {
    ($groups:ident: $decision:ident) => {
        const _: () = $crate::decided::check($groups);

        /// The decision on a call.
        pub const fn decision(nr: u64) -> Option<$decision> {
            match $crate::decided::group_of($groups, nr) {
                Some(group) => Some($groups[group].decision),
                None => None,
            }
        }

        /// How many calls have a handler: all but those that pass.
        pub const HANDLED: usize = {
            let (mut count, mut group) = (0, 0);
            while group < $groups.len() {
                if !matches!($groups[group].decision, $decision::Pass) {
                    count += $groups[group].calls.len();
                }
                group += 1;
            }
            count
        };
    };
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The number of groups that name a call, and the last of them.
const fn groups_with<D>(groups: &[Group<D>], name: &str) -> (usize, usize) {
    let (mut count, mut last, mut group) = (0, 0, 0);
    while group < groups.len() {
        let calls = groups[group].calls;
        let mut at = 0;
        while at < calls.len() {
            if same(calls[at], name) {
                count += 1;
                last = group;
            }
            at += 1;
        }
        group += 1;
    }
    (count, last)
}

/// Which group the call of that number is in; `None` for what is no call, or is 3i's own.
pub const fn group_of<D>(groups: &[Group<D>], nr: u64) -> Option<usize> {
    let mut at = 0;
    while at < CALLS.len() {
        if CALLS[at].nr as u64 == nr {
            return match groups_with(groups, CALLS[at].name) {
                (0, _) => None,
                (_, group) => Some(group),
            };
        }
        at += 1;
    }
    None
}

/// Checks that every call of the table is decided on just once, and nothing else is. For a
/// constant, so that what does not hold is not compiled.
///
/// # Panics
/// Where it does not hold.
pub const fn check<D>(groups: &[Group<D>]) {
    let (mut at, mut decided) = (0, 0);
    while at < CALLS.len() {
        let (count, _) = groups_with(groups, CALLS[at].name);
        // What 3i serves is about grates themselves.
        if matches!(CALLS[at].nr, REGISTER_HANDLER | COPY_DATA | COPY_TABLE) {
            assert!(count == 0, "3i's own calls are not for grates to decide on");
        } else {
            assert!(count == 1, "a call is not decided on, or twice");
        }
        decided += count;
        at += 1;
    }
    let (mut named, mut group) = (0, 0);
    while group < groups.len() {
        assert!(!groups[group].why.is_empty(), "a decision has no reason");
        named += groups[group].calls.len();
        group += 1;
    }
    assert!(named == decided, "a decision names what is no call");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_number() {
        const GROUPS: &[Group<u8>] = &[
            Group {
                decision: 1,
                why: "one",
                calls: &["read", "write"],
            },
            Group {
                decision: 2,
                why: "two",
                calls: &["close"],
            },
        ];
        assert_eq!(group_of(GROUPS, 0), Some(0));
        assert_eq!(group_of(GROUPS, 3), Some(1));
        assert_eq!(group_of(GROUPS, 2), None);
        assert_eq!(group_of(GROUPS, 9999), None);
    }

    #[test]
    #[should_panic(expected = "not decided on")]
    fn what_is_left_out_is_found() {
        const NONE: &[Group<u8>] = &[];
        check(NONE);
    }
}
