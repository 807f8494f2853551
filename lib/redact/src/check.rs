//! Checksums that tell a number from the kind it looks like.
//!
//! A check takes what an automaton found and answers how many of its bytes are one, or `None`.

use crate::byteset::ByteSet;
use crate::engine::Found;

/// Payment card numbers: the Luhn checksum (ISO/IEC 7812-1) over the digits.
pub(crate) fn luhn(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    let digits = text.iter().rev().filter(|byte| byte.is_ascii_digit());
    let sum: u32 = digits
        .zip([false, true].into_iter().cycle())
        .map(|(byte, doubled)| {
            let digit = u32::from(byte - b'0');
            match (doubled, digit) {
                (true, 5..) => digit * 2 - 9,
                (true, _) => digit * 2,
                (false, _) => digit,
            }
        })
        .sum();
    sum.is_multiple_of(10).then_some(text.len())
}

/// IBANs: the length that the country has (ISO 13616) and the checksum (ISO 7064, modulo 97). In
/// groups, what follows the last group is no part of it.
pub(crate) fn iban(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    let country = std::str::from_utf8(text.get(..2)?).ok()?;
    let len: usize = IBAN_LENGTHS
        .split_ascii_whitespace()
        .find_map(|entry| entry.strip_prefix(country)?.parse().ok())?;
    let mut characters = text.iter().enumerate().filter(|(_, byte)| **byte != b' ');
    let (last, _) = characters.nth(len - 1)?;
    let (iban, rest) = text.split_at(last + 1);
    if rest.first().is_some_and(|&byte| byte != b' ') {
        return None;
    }
    let (head, tail) = iban.split_at(4);
    let remainder = tail
        .iter()
        .chain(head)
        .filter(|&&byte| byte != b' ')
        .try_fold(0u32, |remainder, &byte| match byte {
            b'0'..=b'9' => Some((remainder * 10 + u32::from(byte - b'0')) % 97),
            b'A'..=b'Z' => Some((remainder * 100 + u32::from(byte - b'A') + 10) % 97),
            _ => None,
        });
    (remainder == Some(1)).then_some(iban.len())
}

/// Characters of an IBAN by country, from the registry that SWIFT keeps under ISO 13616.
const IBAN_LENGTHS: &str = "\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 \
    DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 \
    GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 \
    LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 \
    PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 \
    SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// Telephone numbers in groups: as many groups as make no more digits than E.164 allows, and not
/// too few to be a number.
pub(crate) fn phone(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    if is_date(text) {
        return None;
    }
    let mut digits = 0;
    let mut best = None;
    for (at, byte) in text.iter().enumerate() {
        digits += usize::from(byte.is_ascii_digit());
        let ends_group = text.get(at + 1).is_none_or(|next| !next.is_ascii_digit());
        if byte.is_ascii_digit() && ends_group && (8..=15).contains(&digits) {
            best = Some(at + 1);
        }
    }
    best
}

/// What a text ends with that may be a value: letters, digits and what stands between them in one.
fn value(text: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-=.:/+%@~".contains(byte);
    let text = match text.split_last() {
        Some((last, rest)) if !is_part(last) => rest,
        _ => text,
    };
    let len = text.iter().rev().take_while(|byte| is_part(byte)).count();
    &text[text.len() - len..]
}

/// Values that are no word: there is a digit in them, or capitals where no name has them.
pub(crate) fn digit(found: Found<'_>) -> Option<usize> {
    let value = value(found.text);
    let has_digit = value.iter().any(u8::is_ascii_digit);
    (has_digit || is_jumbled(value)).then_some(found.text.len())
}

/// Whether letters are so mixed as those of no name of words that begin with capitals: there are
/// many such words, or one that nobody could say.
fn is_jumbled(value: &[u8]) -> bool {
    /// Fewest letters of each case, without which nothing is said of words.
    const FEWEST: usize = 3;
    /// Fewest letters of a word, on average.
    const WORD: usize = 3;
    /// Most letters without a vowel.
    const MOST: usize = 4;
    let count = |test: fn(&u8) -> bool| value.iter().filter(|byte| test(byte)).count();
    if count(u8::is_ascii_uppercase).min(count(u8::is_ascii_lowercase)) < FEWEST {
        return false;
    }
    let begins = |three: &[u8]| match three {
        [before, at, after] => {
            at.is_ascii_uppercase() && (before.is_ascii_lowercase() || after.is_ascii_lowercase())
        }
        _ => false,
    };
    let words = 1 + value.windows(3).filter(|three| begins(three)).count();
    let is_vowel = |byte: &u8| b"aeiouyAEIOUY".contains(byte) || !byte.is_ascii_alphabetic();
    let unspoken = value.split(is_vowel).map(<[u8]>::len).max().unwrap_or(0);
    value.len() < words * WORD || unspoken > MOST
}

/// Values without quotes that are assigned to a field, and are neither code nor prose.
///
/// `password=swordfish` and `DB_PASSWORD: swordfish` are settings. Where there are spaces beside the
/// sign, as in `token: invalid`, `let token = next.token();` and `token: String`, a word is one of a
/// sentence or a program unless there is something in it that no word has.
pub(crate) fn assigned(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    let sign = text.iter().position(|byte| b"=:".contains(byte))?;
    let (name, rest) = text.split_at(sign);
    let rest = match rest {
        [b'=', b'>', rest @ ..] | [b':', b'=', rest @ ..] | [_, rest @ ..] => rest,
        [] => return None,
    };
    let is_spaced = |bytes: &[u8]| bytes.iter().any(|byte| b" \t".contains(byte));
    let is_apart = is_spaced(rest) || is_spaced(name);
    let is_shouted = !name.iter().any(u8::is_ascii_lowercase);
    let value = rest.trim_ascii_start();
    let is_quoted = value.first().is_some_and(|byte| b"\"'".contains(byte));
    let is_config = is_shouted || !is_apart;
    (is_quoted || !is_code(value, name, is_config)).then_some(text.len())
}

/// Whether a value is a word or a part of a program. In a setting, fewer words are none.
fn is_code(value: &[u8], name: &[u8], is_config: bool) -> bool {
    /// What is said instead of a value, and of which type it is.
    const WORDS: &[&str] = &[
        "u8",
        "u16",
        "u32",
        "u64",
        "usize",
        "i8",
        "i16",
        "i32",
        "i64",
        "isize",
        "c_int",
        "c_uint",
        "c_long",
        "c_ulong",
        "none",
        "null",
        "nil",
        "undefined",
        "true",
        "false",
        "str",
        "string",
        "bytes",
        "int",
        "any",
        "self",
        "this",
        "yes",
        "no",
        "required",
        "optional",
    ];
    let is_around = |byte: &u8| b".,:!?`*()[]{}<>|".contains(byte);
    let before = value.iter().take_while(|byte| is_around(byte)).count();
    let after = value
        .iter()
        .rev()
        .take_while(|byte| is_around(byte))
        .count();
    let core = &value[before..value.len().saturating_sub(after).max(before)];
    let is_name = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let begins_as_name = core.first().is_some_and(is_name);
    let has_digit = core.iter().any(u8::is_ascii_digit);
    let is_word = core.iter().all(|byte| is_name(byte) || *byte == b'-');
    // What a value is made of elsewhere: a variable, a call, what is in something else.
    let is_variable =
        matches!(value, [b'$' | b'%', next, ..] if is_name(next) || b"{(".contains(next));
    let name_len = core
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
        .count();
    let is_call = begins_as_name && matches!(value.get(before + name_len), Some(b'('));
    let is_path = |part: &[u8]| part.first().is_some_and(is_name);
    let is_inside = !has_digit
        && begins_as_name
        && core
            .iter()
            .all(|byte| is_name(byte) || b".:>-?!".contains(byte))
        && core.contains(&b'.')
        && core.split(|&byte| byte == b'.').all(is_path);
    if core.is_empty() || is_variable || is_call || is_inside {
        return true;
    }
    if (is_word || begins_as_name)
        && WORDS
            .iter()
            .any(|word| core.eq_ignore_ascii_case(word.as_bytes()))
    {
        return true;
    }
    let is_argument = core.contains(&b'_') && is_word && ends_as(core, name);
    if is_argument || is_config {
        return is_argument || core.eq_ignore_ascii_case(name.trim_ascii_end());
    }
    let is_small = core.len() < 4 && core.iter().all(u8::is_ascii_digit);
    let is_file = matches!(value, [b'/', ..] | [b'.', b'/', ..] | [b'~', b'/', ..]) && !has_digit;
    let has_brackets = begins_as_name && core.iter().any(|byte| b"()<>[]{}|".contains(byte));
    let is_member = begins_as_name && core.windows(2).any(|pair| pair == b"::" || pair == b"->");
    is_word || is_small || is_file || has_brackets || is_member
}

/// Whether a text ends with another, in whichever case.
fn ends_as(text: &[u8], end: &[u8]) -> bool {
    let end = end.trim_ascii_end();
    let from = text.len().checked_sub(end.len());
    from.is_some_and(|from| text[from..].eq_ignore_ascii_case(end))
}

/// Values in quotes that are values: not what stands behind the quote that ends a question
/// (`'Password: ' + name`), none of the words that browsers take, and no colour.
pub(crate) fn quoted(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    let sign = text.iter().position(|byte| b"=:".contains(byte))?;
    let quote = text[sign..].iter().position(|byte| b"\"'".contains(byte))?;
    let value = text[sign + quote + 1..].trim_ascii_start();
    let is_behind = value.first().is_none_or(|byte| b"),;+&|".contains(byte));
    let is_word = [&b"include"[..], b"same-origin", b"omit"].contains(&value);
    let is_colour = matches!(value, [b'#', digits @ ..]
        if matches!(digits.len(), 3 | 4 | 6 | 8) && digits.iter().all(u8::is_ascii_hexdigit));
    (!is_behind && !is_word && !is_colour).then_some(text.len())
}

/// Tokens that are no part of something longer of base64 or the like.
pub(crate) fn alone(found: Found<'_>) -> Option<usize> {
    let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+/".contains(&byte);
    let is_part =
        found.before.last().copied().is_some_and(goes_on) || found.after.is_some_and(goes_on);
    (!is_part).then_some(found.text.len())
}

/// Values that look random: letters and digits, and so many different ones that no word or number
/// has them.
pub(crate) fn random(found: Found<'_>) -> Option<usize> {
    /// Fewest different bytes.
    const DIFFERENT: u32 = 9;
    let value = value(found.text);
    let different: ByteSet = value.iter().copied().collect();
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    let is_random =
        different.len() >= DIFFERENT && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    is_random.then_some(found.text.len())
}

/// IPv4 addresses that are no version of four numbers, by what stands before them.
///
/// Where both are usual, as behind a hyphen, a sign of comparison or a slash, only what hardly any
/// address looks like is a version: an address that passes is worse than a version that is masked.
pub(crate) fn ipv4(found: Found<'_>) -> Option<usize> {
    let octets = found.text.split(|&byte| byte == b'.');
    let mut octets = octets.filter_map(|octet| std::str::from_utf8(octet).ok()?.parse::<u8>().ok());
    let (first, second) = (octets.next()?, octets.next()?);
    let is_private = matches!(
        (first, second),
        (10 | 127, _) | (172, 16..32) | (192, 168) | (169, 254)
    );
    let is_version = is_called_version(found.before)
        || (first < 10 && is_behind_package(found.before))
        // The later parts of a browser's version are often 0.
        || ((!is_private || found.text.ends_with(b".0")) && is_behind_product(found.before));
    (!is_version).then_some(found.text.len())
}

/// What a text ends with that are letters and digits, and what stands before that.
fn last_word(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric());
    let (rest, word) = text.split_at(text.len() - len.count());
    (word, rest)
}

/// Whether a word says of what stands behind it that it is an address, or is the name of what has
/// one.
fn has_address(word: &[u8]) -> bool {
    const WORDS: [&str; 25] = [
        "ip",
        "ips",
        "ipv4",
        "inet",
        "addr",
        "address",
        "host",
        "hostname",
        "node",
        "peer",
        "client",
        "server",
        "src",
        "source",
        "dst",
        "dest",
        "destination",
        "from",
        "to",
        "remote",
        "local",
        "gateway",
        "router",
        "dns",
        "net",
    ];
    let word = word.to_ascii_lowercase();
    WORDS.iter().any(|name| word.ends_with(name.as_bytes()))
}

/// Whether what comes next is called a version: `version 1.2.3.4`, `"FileVersion": "1.2.3.4"`.
fn is_called_version(before: &[u8]) -> bool {
    const BETWEEN: &[u8] = b" \t\"'=:(.";
    let between = before
        .iter()
        .rev()
        .take_while(|byte| BETWEEN.contains(byte));
    let len = between.count();
    let (word, _) = last_word(&before[..before.len() - len]);
    let word = word.to_ascii_lowercase();
    (1..=4).contains(&len) && (word.ends_with(b"version") || word == b"ver")
}

/// Whether what comes next stands behind the name of a package: `libfoo-1.2.3.4`, `foo==1.2.3.4`,
/// and not behind what addresses are given to: `host-1.2.3.4`, `ip.src==1.2.3.4`.
fn is_behind_package(before: &[u8]) -> bool {
    const SIGNS: [&[u8]; 6] = [b"==", b">=", b"<=", b"~=", b"~>", b"-"];
    let Some(before) = SIGNS.iter().find_map(|sign| before.strip_suffix(*sign)) else {
        return false;
    };
    let (word, _) = last_word(before);
    word.iter().any(u8::is_ascii_alphabetic) && !has_address(word)
}

/// Whether what comes next stands behind the name of a product, as in a list of them:
/// `Chrome/120.0.6.109`, and not `localhost/203.0.113.7`.
fn is_behind_product(before: &[u8]) -> bool {
    let Some(before) = before.strip_suffix(b"/") else {
        return false;
    };
    let (word, rest) = last_word(before);
    let is_apart = rest.last().is_none_or(|byte| b" \t\r\n\"'(".contains(byte));
    let [first, more @ ..] = word else {
        return false;
    };
    is_apart
        && !has_address(word)
        && first.is_ascii_uppercase()
        && more.iter().all(u8::is_ascii_alphabetic)
        && more.len() >= 2
}

/// Whether groups of digits are a date: a year, and two of two digits beside it.
fn is_date(text: &[u8]) -> bool {
    let groups: Vec<&[u8]> = text
        .split(|byte| !byte.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .collect();
    let is_year = |group: &[u8]| group.len() == 4 && matches!(&group[..2], b"19" | b"20");
    groups.windows(3).any(|three| {
        let [a, b, c] = [three[0], three[1], three[2]];
        (is_year(a) && b.len() == 2 && c.len() == 2) || (a.len() == 2 && b.len() == 2 && is_year(c))
    })
}

/// IPv6 addresses that are no path of a programming language, no fingerprint and no time: the
/// groups of a shortened one do not all begin as names do, unless there are many.
pub(crate) fn ipv6(found: Found<'_>) -> Option<usize> {
    let text = found.text;
    let is_joined = |byte: Option<u8>| byte.is_some_and(|byte| matches!(byte, b':' | b'.' | b'_'));
    let groups = || {
        text.split(|&byte| byte == b':')
            .filter(|group| !group.is_empty())
    };
    if (is_joined(found.before.last().copied()) && groups().count() < 3)
        || found.after == Some(b'_')
    {
        return None;
    }
    let is_ipv4 = text.contains(&b'.');
    let is_short = text.windows(2).any(|pair| pair == b"::");
    let is_address = match (groups().count(), is_short) {
        _ if is_ipv4 => true,
        (8, false) => groups().any(|group| group.len() != 2),
        (0 | 1, _) => false,
        (count, _) => {
            let first = groups().next().unwrap_or_default();
            let begins_with_digit = |group: &[u8]| group.first().is_some_and(u8::is_ascii_digit);
            let digits = groups().filter(|group| begins_with_digit(group)).count();
            (digits > 0 || count >= 4) && (first.len() >= 3 || count >= 3)
        }
    };
    is_address.then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8]) -> Found<'_> {
        Found {
            text,
            before: b"",
            after: None,
        }
    }

    fn luhn(text: &[u8]) -> Option<usize> {
        super::luhn(found(text))
    }

    fn iban(text: &[u8]) -> Option<usize> {
        super::iban(found(text))
    }

    fn phone(text: &[u8]) -> Option<usize> {
        super::phone(found(text))
    }

    #[test]
    fn luhn_takes_the_published_test_numbers() {
        for number in [
            "4111 1111 1111 1111",
            "378282246310005",
            "5555-5555-5555-4444",
            "79927398713",
        ] {
            assert_eq!(luhn(number.as_bytes()), Some(number.len()));
        }
        assert_eq!(luhn(b"79927398710"), None);
        assert_eq!(luhn(b"4111 1111 1111 1112"), None);
    }

    #[test]
    fn iban_takes_the_registry_examples_and_ends_where_the_country_says() {
        for iban in [
            "GB29NWBK60161331926819",
            "DE89370400440532013000",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(
                super::iban(found(iban.as_bytes())),
                Some(iban.len()),
                "{iban}"
            );
        }
        let grouped = b"GB29 NWBK 6016 1331 9268 19 AND";
        assert_eq!(iban(grouped), Some(27));
        // One digit changed, a country without IBANs, one character more, one less.
        for text in [
            "GB29NWBK60161331926818",
            "US29NWBK60161331926819",
            "GB29NWBK601613319268190",
            "GB29NWBK6016133192681",
        ] {
            assert_eq!(iban(text.as_bytes()), None, "{text}");
        }
        for len in 0..grouped.len() {
            let found = iban(&grouped[..len]);
            assert_eq!(found.is_some(), len >= 27, "{len}");
        }
    }

    #[test]
    fn what_is_assigned_is_no_code_and_no_prose() {
        let assigned = |text: &str| super::assigned(found(text.as_bytes())).is_some();
        for text in [
            "password=swordfish",
            "password:swordfish",
            "PASSWORD: swordfish",
            "PASSWORD = swordfish",
            "password: hunter2",
            "token = a1b2c3",
            "secret: p@ssword",
            "pass=>x5x",
            "password=k-1",
            "token: 12345678",
            "pass: \"swordfish\"",
            "token=abc/def+gh==",
            "password: correct.horse9",
            "api_key=/x9f",
            "token: eyJhbGciOi.eyJzdWIi.c2ln1",
        ] {
            assert!(assigned(text), "{text}");
        }
        for text in [
            "token: invalid",
            "token: `abcd`",
            "token: String",
            "token = token.trim()",
            "token: *",
            "password=process.env.PASSWORD",
            "password=$PASSWORD",
            "password=${PASSWORD}",
            "token=get()",
            "TOKEN: None",
            "password=null",
            "token: syn::token::Comma",
            "token: Option<Token>",
            "token=token",
            "secret: /run/secrets/db",
            "token: 5",
            "token: non-empty.",
            "pwd=os.getcwd()",
            "token: T![]",
            "password: self->password",
            "secret = args[1]",
            "password=%s",
            "token=next_token",
            "token: u32",
            "TOKEN=%(token)",
        ] {
            assert!(!assigned(text), "{text}");
        }
    }

    #[test]
    fn what_is_quoted_is_a_value() {
        let quoted = |text: &str| super::quoted(found(text.as_bytes())).is_some();
        for text in ["token: \"abc", "password='x", "password=\" x", "pwd: \"(x"] {
            assert!(quoted(text), "{text}");
        }
        for text in [
            "Password: ' + name",
            "password:\", password)",
            "credentials: 'include",
            "token=' ",
        ] {
            assert!(!quoted(text), "{text}");
        }
    }

    #[test]
    fn phone_takes_as_many_groups_as_fit() {
        assert_eq!(phone(b"+49 30 123456"), Some(13));
        assert_eq!(phone(b"+49 30 1"), None);
        assert_eq!(phone(b"+1234567890123456"), None);
        assert_eq!(phone(b"+1 415 555 0123 20261124"), Some(15));
        assert_eq!(phone(b"+1 415 555 (0123)"), Some(16));
    }
}
