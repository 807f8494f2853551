//! Whatever the rules and however the text is cut: the output is that of the whole.

use proptest::prelude::*;
use redact::{Action, Pattern, Stream, Verdict};

use crate::generate::{self, Rules};
use crate::reference;

/// What a text becomes when it is written in these pieces.
pub fn in_pieces<'t>(
    mut stream: Stream,
    pieces: impl IntoIterator<Item = &'t [u8]>,
) -> (Vec<u8>, Vec<reference::Found>) {
    let mut out = Vec::new();
    for piece in pieces {
        assert_eq!(stream.push(piece, &mut out), Verdict::Passed);
        // An empty write changes nothing.
        let (len, held) = (out.len(), stream.held());
        assert_eq!(stream.push(&[], &mut out), Verdict::Passed);
        assert_eq!((out.len(), stream.held()), (len, held));
    }
    stream.finish(&mut out);
    let events = stream.take_events().into_iter().map(|event| {
        assert!(!event.cut);
        (event.rule, event.offset, event.len)
    });
    (out, events.collect())
}

/// Cuts a text at offsets, which are taken modulo its length.
pub fn cut<'t>(text: &'t [u8], offsets: &[usize]) -> Vec<&'t [u8]> {
    let mut offsets: Vec<usize> = offsets.iter().map(|at| at % (text.len() + 1)).collect();
    offsets.extend([0, text.len()]);
    offsets.sort_unstable();
    offsets
        .windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .collect()
}

fn sorted(mut events: Vec<reference::Found>) -> Vec<reference::Found> {
    events.sort_unstable();
    events
}

/// Checks one text, whole, in the given pieces and byte by byte.
pub fn check(rules: &Rules, text: &[u8], offsets: &[usize]) {
    check_in_steps(rules, text, offsets, 1);
}

/// As [`check`], but in small pieces instead of byte by byte.
pub fn check_in_steps(rules: &Rules, text: &[u8], offsets: &[usize], step: usize) {
    let filter = rules.set.filter();
    let (out, events) = reference::one_piece(&rules.reference, text);
    let ways = [vec![text], cut(text, offsets), text.chunks(step).collect()];
    for way in ways {
        let (got, got_events) = in_pieces(filter.stream(), way.iter().copied());
        assert_eq!(
            got.escape_ascii().to_string(),
            out.escape_ascii().to_string(),
            "{} cut as {:?}",
            text.escape_ascii(),
            way.iter().map(|piece| piece.len()).collect::<Vec<_>>()
        );
        assert_eq!(sorted(got_events), sorted(events.clone()));
    }
}

/// How many random cases to try.
pub fn cases() -> u32 {
    let cases = std::env::var("REDACT_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_rules_any_text_any_cut(
        patterns in prop::collection::vec(
            (generate::pattern(), generate::action(), any::<Option<bool>>()),
            1..4,
        ),
        texts in prop::collection::vec(generate::text(60), 1..6),
        offsets in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let rules = generate::rules_on_terms(&patterns, 1 << 16);
        for text in &texts {
            check(&rules, text, &offsets);
        }
    }
}

#[test]
fn literals_and_regexes_are_masked() {
    let patterns = [
        (Pattern::Literals(vec![b"hunter2".to_vec()]), Action::Mask),
        (
            Pattern::Regex(r"\bid=(?<secret>\d+)".to_owned()),
            Action::Label,
        ),
    ];
    let rules = generate::rules(&patterns, 1 << 16);
    let text = b"user hunter2, id=4711; hunter id=x";
    let (out, _) = in_pieces(rules.set.filter().stream(), [&text[..]]);
    assert_eq!(out, b"user *******, id=[REDACTED:r1]; hunter id=x");
    check(&rules, text, &[3, 8, 9, 20]);
}
