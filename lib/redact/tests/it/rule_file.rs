//! Rule files: what they mean, and what is said of wrong ones.

use redact::{Action, HashKey, Place, RuleFileError, RuleSet};
use zeroize::Zeroizing;

fn with_key(text: &[u8], key: bool) -> Result<RuleSet, RuleFileError> {
    let mut rules = RuleSet::builder();
    if key {
        rules.hash_key(HashKey::new(Zeroizing::new(vec![7; 32])).unwrap());
    }
    rules.rule_file(text, &mut |name| match name {
        "words" => Ok(b"one\r\n\ntwo\n".to_vec()),
        "none" => Ok(b"\n".to_vec()),
        _ => Err(format!("{name}: cannot be read; name another")),
    })?;
    Ok(rules.build())
}

fn filtered(rules: &RuleSet, place: Place<'_>, text: &str) -> String {
    let mut stream = rules.filter_of(&rules.at(place)).stream();
    let mut out = Vec::new();
    assert_eq!(
        stream.push(text.as_bytes(), &mut out),
        redact::Verdict::Passed
    );
    stream.finish(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn rules_do_what_is_written() {
    let text = r#"
        [[rule]]
        name = "words"
        literals-file = "words"
        short = true

        [[rule]]
        name = "shown"
        literals = ["three", 'four']
        action = "label"
        scope = ["stdout", "socket:10.0.0.0/8"]

        [[rule]]
        name = "id"
        regex = 'id=(?<secret>\d{8})'
        action = "keep-suffix:2"
        scope = ["/data/**", "stdout"]

        [[rule]]
        name = "mail"
        builtin = "email"
        action = "hash"
        append-only = true
    "#;
    let rules = with_key(text.as_bytes(), true).unwrap();
    let names: Vec<_> = rules.rules().iter().map(redact::Rule::name).collect();
    assert_eq!(names, ["words", "shown", "id", "mail"]);
    assert_eq!(rules.rules()[2].action(), Action::KeepSuffix(2));
    assert!(rules.rules()[3].append_only());

    let line = "one three id=12345678";
    assert_eq!(
        filtered(&rules, Place::Stdout, line),
        "*** [REDACTED:shown] id=******78"
    );
    assert_eq!(filtered(&rules, Place::Pipe, line), "*** three id=12345678");
    assert_eq!(
        filtered(&rules, Place::File(b"/data/x/y"), line),
        "*** three id=******78"
    );
    let peer = |text: &str| Place::Socket(Some(text.parse().unwrap()));
    assert_eq!(
        filtered(&rules, peer("10.1.1.1:1"), line),
        "*** [REDACTED:shown] id=12345678"
    );
    assert_eq!(
        filtered(&rules, peer("11.1.1.1:1"), line),
        "*** three id=12345678"
    );
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    for (text, line, message) in [
        ("", 1, "holds no rule"),
        ("rule = 3", 1, "invalid type"),
        ("[[rule]]\nname = \"a\nregex = 'x'", 2, "; correct it"),
        ("[[rule]]\nregex = 'x'", 1, "missing field `name`"),
        (
            "[[rule]]\nname = 'a'\nregexp = 'x'",
            3,
            "unknown field `regexp`",
        ),
        (
            "[[rules]]\nname = 'a'\nregex = 'x'",
            1,
            "unknown field `rules`",
        ),
        (
            "[[rule]]\nname = 'a'",
            1,
            "rule `a` has no pattern; give one of",
        ),
        ("[[rule]]\nname = ''\nregex = 'x'", 2, "the name is empty"),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\nbuiltin = 'aws'",
            4,
            "rule `a` has two patterns",
        ),
        (
            "[[rule]]\nname = 'a'\nbuiltin = 'awz'",
            3,
            "unknown built-in `awz`; use all, tokens",
        ),
        ("[[rule]]\nname = 'a'\nregex = '(x'", 3, "does not compile"),
        (
            "[[rule]]\nname = 'a'\nregex = 'x*'",
            3,
            "matches the empty text",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = '[a-z]{1,60000}x{60000}'",
            3,
            "too large",
        ),
        (
            "[[rule]]\nname = 'a'\nliterals = [\n'x',\n'']",
            5,
            "an empty literal",
        ),
        (
            "[[rule]]\nname = 'a'\nliterals = ['xyz']",
            3,
            "text 1 is shorter than 4 bytes",
        ),
        (
            "[[rule]]\nname = 'a'\nliterals = []",
            3,
            "list of literals is empty",
        ),
        (
            "[[rule]]\nname = 'a'\nliterals-file = 'none'",
            3,
            "list of literals is empty",
        ),
        (
            "[[rule]]\nname = 'a'\nliterals-file = 'x'",
            3,
            "x: cannot be read; name another",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\naction = 'hide'",
            4,
            "unknown action `hide`; use",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\naction = 'hash'\nscope = ['stdout']",
            4,
            "--hash-key",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\naction = 'label'",
            4,
            "append-only",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\naction = 'drop'\nscope = ['/a']",
            4,
            "append-only",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\nscope = ['stdout',\n'tape']",
            5,
            "unknown scope `tape`",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\nscope = []",
            4,
            "the scope is empty",
        ),
        (
            "[[rule]]\nname = 'a'\nregex = 'x'\n[[rule]]\nname = 'a'\nregex = 'y'",
            5,
            "already",
        ),
        ("[[rule]]\nname = 'a'\nregex = 3", 3, "invalid type"),
    ] {
        let error = with_key(text.as_bytes(), false).unwrap_err();
        assert_eq!(error.line, line, "{text}\n{error}");
        assert!(error.message.contains(message), "{text}\n{error}");
        assert!(!error.message.contains('\n'), "{error}");
    }
    let error = with_key(b"[[rule]]\nname = '\xff'", false).unwrap_err();
    assert_eq!((error.line, &error.message[..9]), (2, "not UTF-8"));
}
