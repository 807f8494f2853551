//! The entry points of the fuzz targets, for a moment each.

use proptest::prelude::*;

use crate::entry;
use crate::exact;

/// Bytes that rule files are made of.
fn toml() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "[[rule]]\n",
        "name",
        "regex",
        "builtin",
        "literals",
        "literals-file",
        "action",
        "scope",
        "append-only",
        " = ",
        "'a'",
        "\"b\\n\"",
        "'aws'",
        "'mask'",
        "'label'",
        "'hash'",
        "'deny'",
        "['stdout']",
        "['/a/**', 'socket:1.2.3.4/8:1-2']",
        "true",
        "\n",
        "[",
        "]",
        ",",
        "#",
        "'",
        "\"",
        "\u{e9}",
        "{}",
        "1",
        "'keep-suffix:2'",
        "['x', '']",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes())
}

/// A rule that is nearly right.
fn rule() -> impl Strategy<Value = Vec<u8>> {
    let keys = prop::sample::subsequence(
        vec![
            "name = 'a'",
            "regex = 'x+'",
            "builtin = 'jwt'",
            "literals = ['x']",
            "literals-file = 'f'",
            "action = 'label'",
            "action = 'drop'",
            "scope = ['stdout']",
            "scope = ['/x']",
            "append-only = true",
        ],
        1..6,
    );
    let rules = prop::collection::vec(keys, 1..3);
    rules.prop_map(|rules| {
        let rules: Vec<_> = rules
            .iter()
            .map(|keys| format!("[[rule]]\n{}\n", keys.join("\n")))
            .collect();
        rules.concat().into_bytes()
    })
}

/// Text that looks like secrets, and lengths to cut it by before.
fn secrets() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "AKIA",
        "IOSFODNN7EXAMPLE",
        "ghp_",
        "0123456789abcdefghij",
        "4111 1111 1111 1111",
        "password",
        "=",
        ":",
        "\"",
        " ",
        "\n",
        "eyJ",
        ".",
        "jane@example",
        "com",
        "https://",
        "u:p@",
        "Bearer ",
        "192.168.0.1",
        "::1",
        "2001:db8::",
        "::ffff:",
        "4111-1111-1111-1111",
        "3782 822463 10005",
        "415-555-0123",
        "2026-11-24T04:05:06.123456Z INFO storage::cache ",
        "request completed method=GET path=/api/v1/items/55 ",
        "-----BEGIN PRIVATE KEY-----",
        "MIIB",
        "+49 30 123456",
        "xoxb-",
        "DE89 3704 0044 0532 0130 00",
        "123-45-6789",
        "\\",
        "'",
        "-",
    ]);
    let text = prop::collection::vec(word, 0..24).prop_map(|words| words.concat());
    let cuts = prop::collection::vec(prop_oneof![0u8..20, any::<u8>()], 0..15);
    (cuts, text).prop_map(|(cuts, text)| [&[cuts.len() as u8][..], &cuts, text.as_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_bytes_are_a_rule_file_or_an_error(data: Vec<u8>) {
        entry::rule_file(&data);
    }

    #[test]
    fn words_of_rule_files_are_one_or_an_error(data in toml()) {
        entry::rule_file(&data);
    }

    #[test]
    fn rules_are_taken_or_refused(data in rule()) {
        entry::rule_file(&data);
    }

    #[test]
    fn regexes_do_not_mind_cuts(
        regex in "([ab]|\\(\\?:|\\)|\\||[*+?]|\\{1,3\\}|\\[\\^?a\\]|\\\\[bBwdsA]|\\(\\?<secret>|\\.|\\^|\\$){1,9}",
        data in "[ab1 \n]{0,20}",
    ) {
        entry::regex(&[regex.as_bytes(), &[0, 3, 1, 2, 3], data.as_bytes()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(exact::cases()))]

    #[test]
    fn built_ins_do_not_mind_cuts(data in secrets()) {
        entry::builtins(&data);
    }
}

/// What a search of some minutes has found.
#[test]
fn what_was_found_stays_mended() {
    entry::regex(b"\x08.\0\x11]\x08\xef\xbf\xbd\x08\xc5");
}
