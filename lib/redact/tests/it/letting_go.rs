//! What is held may have to go out before it is decided: masked, and never a secret with it.

use proptest::prelude::*;
use redact::{Action, Builtin, Pattern, RuleSet, Verdict};

const SECRET: &[u8] = b"jane.doe@example.com";

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    LetGo,
    /// The stream ends, and another one goes on at the same place.
    End,
    /// It ends and goes on.
    EndForNow,
    /// It ends, and another one goes on that knows what is there and can change it.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let piece = (0..=SECRET.len(), 0..=SECRET.len())
        .prop_map(|(a, b)| Step::Write(SECRET[a.min(b)..a.max(b)].to_vec()));
    let pieces =
        prop::collection::vec((0..=SECRET.len(), 0..=SECRET.len()), 0..4).prop_map(|list| {
            let parts = list.iter().map(|&(a, b)| &SECRET[a.min(b)..a.max(b)]);
            Step::Write(parts.collect::<Vec<_>>().concat())
        });
    prop_oneof![
        piece,
        pieces,
        Just(Step::LetGo),
        Just(Step::End),
        Just(Step::EndForNow),
        Just(Step::Reopen)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20000))]
    #[test]
    fn no_secret_comes_out_however_often_what_is_held_is_let_go(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        let mut rules = RuleSet::builder();
        rules.rule("words", &Pattern::Literals(vec![SECRET.to_vec()]), Action::Mask).unwrap();
        let rules = rules.build();
        let (mut stream, mut out) = (rules.filter().stream(), Vec::new());
        let mut written = 0;
        // Where in what came out the stream begins.
        let mut begins = 0;
        for step in &steps {
            let is_known_up_to = out.len();
            match step {
                Step::Write(bytes) => {
                    written += bytes.len();
                    prop_assert_eq!(stream.push(bytes, &mut out), Verdict::Passed);
                }
                Step::LetGo if stream.held() > 0 => stream.flush_masked(&mut out),
                Step::LetGo => {}
                Step::End => stream.finish_masked(&mut out),
                Step::EndForNow => stream.finish_for_now(&mut out),
                Step::Reopen => {
                    stream.finish(&mut out);
                    stream = rules.filter().stream();
                    stream.precede(&out);
                    prop_assert!(stream.take_events().is_empty());
                    begins = 0;
                }
            }
            for event in stream.take_events().iter().filter(|event| event.cut) {
                let from = begins + event.offset as usize;
                let until = (from + event.len as usize).min(is_known_up_to);
                out[from.min(until)..until].fill(b'*');
            }
            // Else it goes on.
            if matches!(step, Step::End) && stream.position() == 0 {
                begins = out.len();
            }
            prop_assert_eq!(out.len() + stream.held(), written);
        }
        stream.finish(&mut out);
        prop_assert_eq!(out.len(), written);
        let shown = out.windows(SECRET.len()).any(|window| window == SECRET);
        prop_assert!(!shown, "{}", out.escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20000))]
    #[test]
    fn at_most_a_quarter_of_a_secret_is_shown_to_who_waits(
        pieces in prop::collection::vec(
            (0..=SECRET.len(), 1..=SECRET.len(), any::<bool>(), any::<bool>()),
            1..40,
        )
    ) {
        let mut rules = RuleSet::builder();
        rules.rule("words", &Pattern::Literals(vec![SECRET.to_vec()]), Action::Mask).unwrap();
        let mut stream = rules.build().filter().stream();
        let (mut input, mut out) = (Vec::new(), Vec::new());
        let mut at = 0;
        for (jump, len, jumps, is_late) in pieces {
            at = if jumps { jump } else { at } % SECRET.len();
            let piece = &SECRET[at..(at + len).min(SECRET.len())];
            at += piece.len();
            input.extend_from_slice(piece);
            prop_assert_eq!(stream.push(piece, &mut out), Verdict::Passed);
            if stream.held() > 0 {
                match is_late {
                    true => stream.flush_late(&mut out),
                    false => stream.flush_masked(&mut out),
                }
                prop_assert_eq!(out.len(), input.len());
            }
        }
        stream.finish(&mut out);
        prop_assert_eq!(out.len(), input.len());
        for start in 0..input.len() {
            if input[start..].starts_with(SECRET) {
                let shown = &out[start..start + SECRET.len()];
                let shown = shown.iter().filter(|&&byte| byte != b'*').count();
                prop_assert!(shown <= SECRET.len() / 4, "{}", out.escape_ascii());
            }
        }
    }
}

/// What comes out when nothing comes for a while after each part.
fn late(patterns: &[Pattern], parts: &[&str]) -> String {
    let mut rules = RuleSet::builder();
    for (index, pattern) in patterns.iter().enumerate() {
        rules
            .rule(&index.to_string(), pattern, Action::Mask)
            .unwrap();
    }
    let mut stream = rules.build().filter().stream();
    let mut out = Vec::new();
    for part in parts {
        if stream.held() > 0 {
            stream.flush_late(&mut out);
        }
        assert_eq!(stream.held(), 0);
        assert_eq!(stream.push(part.as_bytes(), &mut out), Verdict::Passed);
    }
    stream.finish(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn words_that_somebody_waits_behind_are_shown() {
    let listed = Pattern::Literals(vec![b"goodsecret1".to_vec()]);
    let tokens = Pattern::Builtins(Builtin::named("tokens").unwrap());
    let all = [listed.clone(), tokens.clone()];
    for word in [
        "Working",
        "Step 12",
        "Name: ",
        "log",
        "Downloading it",
        "token: ",
        "g",
    ] {
        assert_eq!(late(&all, &[word, " done"]), format!("{word} done"));
    }
    for (patterns, parts, shown) in [
        (
            &[listed][..],
            &["go", "odsecret1 x", "y"][..],
            "go********* xy",
        ),
        (&all, &["good", "s", " x"], "***** x"),
        (&all, &["g", "o", "o", "d", " x"], "go** x"),
        (
            &[tokens],
            &["ghp_x1x1", "x1x1x1x1", " x"],
            "ghp_x1x1******** x",
        ),
        // Where a match may be so small, nothing of it is shown.
        (
            &[Pattern::Regex("key=(?<secret>[a-z]{1,9})".to_owned())],
            &["key=a", "bc", " d"],
            "key=*** d",
        ),
    ] {
        assert_eq!(late(patterns, parts), shown, "{parts:?}");
    }
}
