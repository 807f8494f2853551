//! The patterns that come with the crate.
//!
//! `docs/redaction.md` describes each with examples, which are its tests.

use std::fmt;
use std::str::FromStr;

use crate::automaton::PatternError;
use crate::byteset::ByteSet;
use crate::check;
use crate::engine::{Check, Engine, Mark};

macro_rules! builtins {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal: $patterns:expr,)*) => {
        /// A pattern that comes with the crate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Builtin {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Builtin {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name that it has in a rule file.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it consists of. Of two that match at one place the first is taken.
            pub fn patterns(self) -> &'static [BuiltinPattern] {
                match self {
                    $(Self::$variant => const { $patterns },)*
                }
            }
        }
    };
}

/// A part of a [`Builtin`].
#[derive(Clone, Copy, Debug)]
pub struct BuiltinPattern {
    regex: &'static str,
    check: Option<Check>,
    mark: Option<BuiltinMark>,
    text_only: bool,
}

/// What stands inside every match of a pattern.
#[derive(Clone, Copy, Debug)]
struct BuiltinMark {
    /// A regex of it.
    inside: &'static str,
    /// Which bytes may stand before it in the match.
    before: &'static [u8],
    /// The most of them.
    most: usize,
}

impl BuiltinPattern {
    /// Its regex.
    pub fn regex(&self) -> &'static str {
        self.regex
    }

    /// What is asked of a text that the regex matches: how many of its bytes are the match, or
    /// `None` where it is none.
    pub fn check(&self) -> Option<Check> {
        self.check
    }

    /// Whether it goes by looks alone, and matches in text only.
    pub fn text_only(&self) -> bool {
        self.text_only
    }

    const fn in_text(self) -> Self {
        Self {
            text_only: true,
            ..self
        }
    }

    const fn checked(self, check: Check) -> Self {
        Self {
            check: Some(check),
            ..self
        }
    }

    /// Says that every match has a mark, found by a regex, with at most `most` bytes before it,
    /// each of them out of `before`.
    const fn marked(self, inside: &'static str, before: &'static [u8], most: usize) -> Self {
        Self {
            mark: Some(BuiltinMark {
                inside,
                before,
                most,
            }),
            ..self
        }
    }

    pub(crate) fn engine(&self, rule: usize) -> Result<Engine, PatternError> {
        let engine = match self.mark {
            None => Engine::regex(rule, self.regex)?,
            Some(mark) => {
                let before = ByteSet::of(mark.before);
                let most = mark.most;
                Engine::marked(rule, self.regex, mark.inside, Mark { before, most })?
            }
        };
        let mut engine = Engine {
            check: self.check,
            text_only: self.text_only,
            ..engine
        };
        if self.text_only {
            engine.peek();
        }
        Ok(engine)
    }
}

const fn regex(regex: &'static str) -> BuiltinPattern {
    BuiltinPattern {
        regex,
        check: None,
        mark: None,
        text_only: false,
    }
}

/// What may stand in the local part of an e-mail address without quotes.
const LOCAL_PART: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-";
/// What may stand in the scheme of a URL (RFC 3986, section 3.1).
const SCHEME: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-";
/// What an Azure client secret consists of.
const AZURE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~.-";
/// Decimal digits.
const DIGITS: &[u8] = b"0123456789";
/// Hexadecimal digits.
const HEX: &[u8] = b"0123456789abcdefABCDEF";
/// What an IPv6 address consists of.
const IPV6: &[u8] = b"0123456789abcdefABCDEF:";

/// The name of a field with a secret value, and what may stand between it and its name's end.
macro_rules! secret_field {
    ($quote:literal, $value:literal) => {
        regex(concat!(
            r"(?i:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|credentials?)",
            $quote,
            r"[ \t]{0,4}(?:=>|:=|[:=])[ \t]{0,4}",
            $value
        ))
    };
}

/// The first four digits of card numbers of sixteen.
macro_rules! issuer {
    () => {
        r"\b(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35[2-8]\d|6011|6[25]\d\d|64[4-9]\d)"
    };
}

/// The name of an AWS secret.
macro_rules! aws_field {
    () => {
        r#"(?i:aws_?secret_?(?:access_?)?key|secret_?access_?key|aws_?(?:session|security)_?token)["']?[ \t]{0,4}(?:=>|[:=])[ \t]{0,4}["']?"#
    };
}

/// The beginning of an authorization header.
macro_rules! authorization {
    () => {
        r#"(?i:authorization)["']?[ \t]{0,4}[:=][ \t]{0,4}["']?"#
    };
}

macro_rules! octet {
    () => {
        r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    };
}

macro_rules! ipv4 {
    () => {
        concat!("(?:", octet!(), r"\.){3}", octet!(), r"\b")
    };
}

builtins! {
    /// Private keys in PEM and OpenPGP armour: what stands between the first and the last line,
    /// also where the last is missing.
    PrivateKey = "private-key": &[regex(concat!(
        r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----",
        r"(?:\s|\\[rn])*(?:[A-Za-z][A-Za-z-]*: [^\r\n\\]*(?:\s|\\[rn])+)*",
        r"(?<secret>[A-Za-z0-9+/=]{16}(?:[A-Za-z0-9+/=\s\\]*[A-Za-z0-9+/=])?)",
    ))],
    /// AWS access key ids, and secret keys and session tokens in a field of their name.
    Aws = "aws": &[
        regex(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
        regex(concat!(aws_field!(), r"(?<secret>[A-Za-z0-9/+=]{40,})")).in_text(),
    ],
    /// GitHub tokens: personal, OAuth, user, server, refresh, fine-grained.
    Github = "github": &[
        regex(r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
        regex(r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ],
    /// GitLab tokens: personal, deploy, runner, job, trigger, feed, agent and others.
    Gitlab = "gitlab": &[
        regex(r"\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|agent|soat|oas|imt|ffct)-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?"),
        regex(r"\bGR1348941[A-Za-z0-9_-]{20}"),
    ],
    /// Slack tokens and webhook addresses.
    Slack = "slack": &[
        regex(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        regex(r"\bxoxe\.xox[bp]-[A-Za-z0-9-]{10,}"),
        regex(r"\bxapp-\d-[A-Z0-9]{3,}-\d{3,}-[A-Za-z0-9]{10,}"),
        regex(r"\bhooks\.slack\.com/(?:services|workflows|triggers)/(?<secret>[A-Za-z0-9/+_-]{20,})"),
    ],
    /// Stripe secret and restricted keys, and webhook secrets.
    Stripe = "stripe": &[
        regex(r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
        regex(r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    ],
    /// Google API keys, OAuth client secrets and access tokens.
    Google = "google": &[
        regex(r"\bAIza[A-Za-z0-9_-]{35}"),
        regex(r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
        regex(r"\bya29\.[A-Za-z0-9_.-]{20,}"),
    ],
    /// Azure storage and service bus keys, shared access signatures, client secrets.
    Azure = "azure": &[
        regex(r"(?i:accountkey|sharedaccesskey)=(?<secret>[A-Za-z0-9+/]{40,}={0,2})"),
        regex(r"[?&;]sig=(?<secret>[A-Za-z0-9%+/=_-]{20,})").in_text(),
        regex(r"[A-Za-z0-9_~.-]{3}\dQ~[A-Za-z0-9_~.-]{31,34}").marked(r"\dQ~[A-Za-z0-9_~.-]", AZURE, 3),
    ],
    /// JSON web tokens: signed, unsigned (JWS) and encrypted (JWE).
    Jwt = "jwt": &[
        regex(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?"),
        regex(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"),
    ],
    /// Bearer tokens, in an authorization header or by themselves.
    Bearer = "bearer": &[
        regex(concat!(authorization!(), r#"(?i:bearer)[ \t]{1,4}(?<secret>[^\s"',;]+)"#)).in_text(),
        regex(r"\b(?i:bearer)[ \t]{1,4}(?<secret>[A-Za-z0-9._~+/-]{16,}=*)").in_text(),
    ],
    /// The name and password of basic authorization headers.
    Basic = "basic": &[
        regex(concat!(authorization!(), r"(?i:basic)[ \t]{1,4}(?<secret>[A-Za-z0-9+/_-]{4,}=*)")).in_text(),
    ],
    /// Passwords in URLs.
    UrlCredentials = "url-credentials": &[
        regex(r#"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/?#:@"'<>]*:(?<secret>[^\s/?#@"'<>]+)@"#)
            .marked(r#"://[^\s/?#@"'<>]"#, SCHEME, 31).in_text(),
    ],
    /// The values of fields that are called password, secret, token and the like.
    Password = "password": &[
        secret_field!(r#"["']?"#, r#""(?<secret>(?:[^"\\\r\n]|\\[^\r\n])+)"#).in_text(),
        secret_field!(r#"["']?"#, r"'(?<secret>(?:[^'\\\r\n]|\\[^\r\n])+)").in_text(),
        secret_field!(r#"\\{1,3}["']"#, r#"\\{1,3}["'](?<secret>[^"'\\\r\n]+)"#).in_text(),
        secret_field!(r#"["']?"#, r#"(?<secret>[^\s"'\\,;&<>(){}\[\]=:][^\s"',;&]*)"#).in_text(),
    ],
    /// E-mail addresses.
    Email = "email": &[
        regex(r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b")
            .marked("@[A-Za-z0-9]", LOCAL_PART, 64).in_text(),
    ],
    /// Payment card numbers with a right checksum: 13 to 19 digits together, or in the groups
    /// that are printed on cards.
    Card = "card": &[
        regex(concat!(
            r"\b(?:4\d{15}(?:\d{3})?|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}",
            r"|220[0-4]\d{12}(?:\d{1,3})?|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}",
            r"|35(?:2[89]|[3-8]\d)\d{12}(?:\d{1,3})?|(?:6011|64[4-9]\d|65\d\d|62\d\d)\d{12}(?:\d{1,3})?)\b",
        )).checked(check::luhn).in_text(),
        regex(concat!(issuer!(), r"(?:-\d{4}){3}\b")).checked(check::luhn).marked(r"-\d{4}-\d{4}-", DIGITS, 4).in_text(),
        regex(concat!(issuer!(), r"(?: \d{4}){3}\b")).checked(check::luhn).marked(r" \d{4} \d{4} ", DIGITS, 4).in_text(),
        regex(r"\b3[47]\d\d[ -]\d{6}[ -]\d{5}\b").checked(check::luhn).marked(r"\d[ -]\d{6}[ -]", DIGITS, 3).in_text(),
    ],
    /// IBANs with a right length and checksum, together or in groups of four.
    Iban = "iban": &[
        regex(r"\b[A-Z]{2}\d\d[A-Z0-9]{11,30}\b").checked(check::iban).in_text(),
        regex(r"\b[A-Z]{2}\d\d(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b").checked(check::iban).in_text(),
    ],
    /// US social security numbers with dashes, of the areas, groups and serials that are given
    /// out.
    Ssn = "ssn": &[
        regex(r"\b(?:00[1-9]|0[1-9]\d|[1-578]\d\d|6[0-57-9]\d|66[0-57-9])-(?:0[1-9]|[1-9]\d)-(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})\b").in_text(),
    ],
    /// IPv4 addresses.
    Ipv4 = "ipv4": &[regex(concat!(r"\b", ipv4!())).marked(r"\.\d{1,3}\.\d{1,3}\.\d", DIGITS, 3).in_text()],
    /// IPv6 addresses, full and shortened, of two groups at least.
    Ipv6 = "ipv6": &[
        regex(r"\b(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b").marked(
            r":[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:",
            HEX,
            4,
        ).checked(check::ipv6).in_text(),
        regex(concat!(r"\B::(?:(?i:ffff)(?::0{1,4})?:)?", ipv4!())).marked(r"\B::(?:(?i:ffff):|\d{1,3}\.)", IPV6, 0).in_text(),
        regex(concat!(
            r"\b(?:[0-9A-Fa-f]{1,4}:(?::[0-9A-Fa-f]{1,4}){1,6}",
            r"|(?:[0-9A-Fa-f]{1,4}:){2}(?::[0-9A-Fa-f]{1,4}){1,5}",
            r"|(?:[0-9A-Fa-f]{1,4}:){3}(?::[0-9A-Fa-f]{1,4}){1,4}",
            r"|(?:[0-9A-Fa-f]{1,4}:){4}(?::[0-9A-Fa-f]{1,4}){1,3}",
            r"|(?:[0-9A-Fa-f]{1,4}:){5}(?::[0-9A-Fa-f]{1,4}){1,2}",
            r"|(?:[0-9A-Fa-f]{1,4}:){6}:[0-9A-Fa-f]{1,4})\b",
            r"|\B:(?::[0-9A-Fa-f]{1,4}){1,7}\b",
        )).marked(r"(?:[0-9A-Fa-f]|\B)::[0-9A-Fa-f]{1,4}(?::|\b)", IPV6, 39).checked(check::ipv6).in_text(),
        regex(r"\b(?:[0-9A-Fa-f]{1,4}:){1,7}:\B").marked(r"[0-9A-Fa-f]::\B", IPV6, 33).checked(check::ipv6).in_text(),
    ],
    /// Telephone numbers: international ones with a plus, North American ones in groups.
    Phone = "phone": &[
        regex(r"\B\+[1-9]\d{7,14}\b").in_text(),
        regex(r"\B\+[1-9]\d{0,2}(?:[ .-]?\(\d{1,4}\))?(?:[ .-]\d{1,8}){2,5}\b").checked(check::phone).in_text(),
        regex(r"\b(?:1[ .-][2-9]\d\d[ .-][2-9]\d\d[ .-]\d{4}|[2-9]\d\d(?:-[2-9]\d\d-|\.[2-9]\d\d\.)\d{4})\b").in_text(),
        regex(r"\B\([2-9]\d\d\)[ .-]?[2-9]\d\d[ .-]\d{4}\b").in_text(),
    ],
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such built-in pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown built-in `{0}`; use {names}", names = names())]
pub struct UnknownBuiltin(String);

fn names() -> String {
    let names: Vec<&str> = Builtin::ALL.iter().map(|builtin| builtin.name()).collect();
    match names.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

impl FromStr for Builtin {
    type Err = UnknownBuiltin;

    fn from_str(name: &str) -> Result<Self, UnknownBuiltin> {
        let mut all = Self::ALL.iter().copied();
        all.find(|builtin| builtin.name() == name)
            .ok_or_else(|| UnknownBuiltin(name.to_owned()))
    }
}
