//! What is held may have to go out before it is decided: masked, and never a secret with it.

use proptest::prelude::*;
use redact::{Action, Pattern, RuleSet, Verdict};

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
