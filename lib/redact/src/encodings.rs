//! The forms in which a secret leaks that is known.

/// Fewest bytes of a form that is not the secret itself: shorter ones are found where no secret is.
const SHORTEST: usize = 6;
/// Fewest bytes of a line that is a secret by itself.
const LINE: usize = 8;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A way in which a text is written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Base64, also within something longer, and URL-safe.
    Base64,
    /// Hexadecimal, in both cases.
    Hex,
    /// Percent encoding.
    Percent,
    /// A string of JSON.
    Json,
    /// A text of XML.
    Xml,
    /// A word of a shell.
    Shell,
    /// Each line by itself, and with the ends of lines of terminals and other systems.
    Lines,
    /// With control sequences of terminals in between.
    Terminal,
}

impl Encoding {
    const ALL: [(&str, Self); 8] = [
        ("base64", Self::Base64),
        ("hex", Self::Hex),
        ("percent", Self::Percent),
        ("json", Self::Json),
        ("xml", Self::Xml),
        ("shell", Self::Shell),
        ("lines", Self::Lines),
        ("terminal", Self::Terminal),
    ];
}

/// Some ways in which texts are written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encodings(u8);

/// There is no such encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding `{0}`; use base64, hex, percent, json, xml, shell, lines or terminal")]
pub struct UnknownEncoding(String);

impl Encodings {
    /// All of them.
    pub const ALL: Self = Self(u8::MAX);
    /// None: texts are looked for as they are.
    pub const NONE: Self = Self(0);

    /// Those of these names.
    ///
    /// # Errors
    /// There is none of a name.
    pub fn named(names: &[impl AsRef<str>]) -> Result<Self, UnknownEncoding> {
        names.iter().try_fold(Self::NONE, |all, name| {
            let mut known = Encoding::ALL.iter();
            match known.find(|(known, _)| *known == name.as_ref()) {
                Some((_, encoding)) => Ok(Self(all.0 | 1 << *encoding as u8)),
                None => Err(UnknownEncoding(name.as_ref().to_owned())),
            }
        })
    }

    pub(crate) fn has(self, encoding: Encoding) -> bool {
        self.0 >> encoding as u8 & 1 != 0
    }

    /// All forms of some secrets, the longest first, so that of two that begin alike the longer one
    /// is found.
    pub(crate) fn forms(self, secrets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for secret in secrets {
            self.add(secret, &mut all);
            let lines = || secret.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
            if self.has(Encoding::Lines) && lines().count() > 1 {
                lines()
                    .filter(|line| line.len() >= LINE)
                    .for_each(|line| self.add(line, &mut all));
                // As it is printed on terminals and by other systems.
                all.push(lines().collect::<Vec<_>>().join(&b"\r\n"[..]));
            }
        }
        all.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        all
    }

    fn add(self, secret: &[u8], all: &mut Vec<Vec<u8>>) {
        let mut encoded = Vec::new();
        let each = Encoding::ALL.iter().map(|(_, encoding)| *encoding);
        each.filter(|encoding| self.has(*encoding))
            .for_each(|encoding| encode(secret, encoding, &mut encoded));
        encoded.retain(|form| form.len() >= SHORTEST);
        encoded.push(secret.to_vec());
        // Most are the same: letters and digits are escaped nowhere.
        encoded.sort_unstable();
        encoded.dedup();
        encoded.iter_mut().for_each(Vec::shrink_to_fit);
        all.append(&mut encoded);
    }
}

/// What different encoders leave alone besides letters and digits.
const KEPT: [&[u8]; 10] = [
    // What is unreserved (RFC 3986, section 2.3), and slashes between parts of a path.
    b"-_.~",
    b"-_.~/",
    // encodeURIComponent and encodeURI of ECMAScript.
    b"-_.!~*'()",
    b"-_.!~*'();,/?:@&=+$#",
    // What may stand in a part of a path (RFC 3986, section 3.3), all of it or some, and slashes.
    b"-_.~!$&'()*+,;=:@",
    b"-_.~!$&'()*+,;=:@/",
    b"-_.~$&+=:@",
    b"-_.!~*'()/:@",
    // A path and a query of a URL as browsers have it.
    b"!$%&'()*+,-./:;=@[\\]^_|~",
    b"!$%&()*+,-./:;=?@[\\]^_`{|}~",
];

/// Adds a text in the forms of an encoding.
fn encode(secret: &[u8], encoding: Encoding, all: &mut Vec<Vec<u8>>) {
    const DIGITS: [&[u8; 16]; 2] = [b"0123456789abcdef", b"0123456789ABCDEF"];
    match encoding {
        Encoding::Base64 => {
            for alphabet in [STANDARD, URL_SAFE] {
                all.extend((0..3).map(|before| base64(secret, before, alphabet)));
                all.push(base64_whole(secret, alphabet));
            }
        }
        Encoding::Hex => all.extend(DIGITS.map(|digits| hex(secret, digits))),
        Encoding::Percent => {
            for digits in DIGITS {
                for kept in KEPT {
                    all.push(percent(secret, digits, |byte| !kept.contains(&byte)));
                }
                // As forms are sent, by browsers and by others.
                for kept in [&b"-_.*"[..], b"-_.~"] {
                    let form =
                        percent(secret, digits, |byte| byte != b' ' && !kept.contains(&byte));
                    all.push(escaped(&form, |byte, out| {
                        out.push(if byte == b' ' { b'+' } else { byte });
                    }));
                }
            }
        }
        Encoding::Json => {
            all.push(escaped(secret, json));
            all.push(escaped(secret, |byte, out| match byte {
                b'/' => out.extend(b"\\/"),
                _ => json(byte, out),
            }));
            // What some escape so that it is safe within HTML: in lower case, or in capitals with
            // quotes and a plus.
            all.push(json_safe(secret, b"<>&", DIGITS[0]));
            all.push(json_safe(secret, b"<>&\"'+`", DIGITS[1]));
            // In ASCII, with and without an escaped slash; and a string of JSON within one.
            for slash in [&b"/"[..], b"\\/"] {
                all.extend(json_ascii(secret, slash));
            }
            all.push(escaped(&escaped(secret, json), json));
        }
        Encoding::Xml => {
            all.push(escaped(secret, xml));
            for [double, single] in [
                ["\"", "'"],
                ["&#34;", "&#39;"],
                ["&quot;", "&#39;"],
                ["&quot;", "&#x27;"],
            ] {
                all.push(escaped(secret, |byte, out| match byte {
                    b'"' => out.extend(double.as_bytes()),
                    b'\'' => out.extend(single.as_bytes()),
                    _ => xml(byte, out),
                }));
            }
        }
        Encoding::Shell => {
            all.push(escaped(secret, |byte, out| match byte {
                b'\'' => out.extend(b"'\\''"),
                _ => out.push(byte),
            }));
            all.push(escaped(secret, |byte, out| {
                if b"\"\\$`".contains(&byte) {
                    out.push(b'\\');
                }
                out.push(byte);
            }));
            all.push(escaped(secret, |byte, out| {
                if !byte.is_ascii_alphanumeric()
                    && !b"_-./:=@%+,".contains(&byte)
                    && byte.is_ascii()
                {
                    out.push(b'\\');
                }
                out.push(byte);
            }));
        }
        Encoding::Lines | Encoding::Terminal => {}
    }
}

/// What base64 of anything that holds the secret holds for sure, where `before` bytes, modulo three,
/// stand before it (RFC 4648, section 4).
fn base64(secret: &[u8], before: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bits = 8 * secret.len();
    // Sextets begin at multiples of six, counted from the first byte of a group.
    let skipped = (6 - (8 * before) % 6) % 6;
    (skipped..(bits + 1).saturating_sub(6))
        .step_by(6)
        .map(|bit| alphabet[sextet(secret, bit)])
        .collect()
}

/// Base64 of the secret alone, without padding.
fn base64_whole(secret: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    (0..8 * secret.len())
        .step_by(6)
        .map(|bit| alphabet[sextet(secret, bit)])
        .collect()
}

/// Six bits from one on; zeros behind the end.
fn sextet(bytes: &[u8], bit: usize) -> usize {
    let byte = |at: usize| usize::from(bytes.get(at).copied().unwrap_or(0));
    let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    pair >> (10 - bit % 8) & 63
}

fn hex(secret: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    secret.iter().flat_map(|&byte| pair(byte, digits)).collect()
}

fn pair(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]
}

/// Percent encoding (RFC 3986, section 2.1) of what is neither a letter or digit nor left alone.
fn percent(secret: &[u8], digits: &[u8; 16], is_encoded: impl Fn(u8) -> bool) -> Vec<u8> {
    escaped(secret, |byte, out| match byte {
        byte if byte.is_ascii_alphanumeric() || !is_encoded(byte) => out.push(byte),
        byte => {
            out.push(b'%');
            out.extend(pair(byte, digits));
        }
    })
}

fn escaped(secret: &[u8], each: impl Fn(u8, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len());
    secret.iter().for_each(|&byte| each(byte, &mut out));
    out
}

/// As a string of JSON (RFC 8259, section 7).
fn json(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend([b'\\', byte]),
        b'\n' => out.extend(b"\\n"),
        b'\r' => out.extend(b"\\r"),
        b'\t' => out.extend(b"\\t"),
        byte if byte < 0x20 => {
            out.extend(b"\\u00");
            out.extend(pair(byte, b"0123456789abcdef"));
        }
        _ => out.push(byte),
    }
}

/// As [`json`], with these escaped by their code.
fn json_safe(secret: &[u8], unsafe_bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    escaped(secret, |byte, out| match unsafe_bytes.contains(&byte) {
        true => {
            out.extend(b"\\u00");
            out.extend(pair(byte, digits));
        }
        false => json(byte, out),
    })
}

/// As [`json`], with all that is not ASCII escaped; nothing if it is not UTF-8.
fn json_ascii(secret: &[u8], slash: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for letter in std::str::from_utf8(secret).ok()?.chars() {
        match u8::try_from(letter) {
            Ok(b'/') => out.extend(slash),
            Ok(byte) if byte.is_ascii() => json(byte, &mut out),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    out.extend(b"\\u");
                    let digits = b"0123456789abcdef";
                    unit.to_be_bytes()
                        .iter()
                        .for_each(|&byte| out.extend(pair(byte, digits)));
                }
            }
        }
    }
    Some(out)
}

/// As the text of XML (section 2.4), with its quotes.
fn xml(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'&' => out.extend(b"&amp;"),
        b'<' => out.extend(b"&lt;"),
        b'>' => out.extend(b"&gt;"),
        b'"' => out.extend(b"&quot;"),
        b'\'' => out.extend(b"&apos;"),
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(secret: &str, form: &str) -> bool {
        Encodings::ALL
            .forms(&[secret.as_bytes().to_vec()])
            .contains(&form.as_bytes().to_vec())
    }

    #[test]
    fn the_forms_are_those_of_the_standards() {
        // RFC 4648, section 10.
        assert!(has("foobar", "Zm9vYmFy"));
        assert!(has("foobar", "666f6f626172"));
        assert!(has("a b/c&\"d", "a%20b%2Fc%26%22d"));
        assert!(has("a b/c&\"d", "a%20b/c%26%22d"));
        assert!(has("a b/c&\"d'", "a%20b/c&%22d'"));
        assert!(has("a b/c&\"d'", "a%20b%2Fc%26%22d'"));
        assert!(has("a/b c\"d", "a/b%20c%22d"));
        assert!(has("a b/c&\"d", "a b/c&\\\"d"));
        assert!(has("a b/c&\"d", "a b\\/c&\\\"d"));
        assert!(has("a b/c&\"d", "a b/c&amp;&quot;d"));
        assert!(has("it's one", "it'\\''s one"));
        assert!(has("a b/c&\"d", "a+b%2Fc%26%22d"));
        assert!(has("a b/c&\"d", "a b/c\\u0026\\\"d"));
        assert!(has("a b/c&\"d", "a b/c\\u0026\\u0022d"));
        assert!(has("a b/c&\"d", "a b/c&\\\\\\\"d"));
        assert!(has("a b/c&\"d", "a b/c&amp;\"d"));
        assert!(has("it's one", "it&#39;s one"));
        assert!(has("it's one", "it&#x27;s one"));
        assert!(has("gr\u{fc}n/\u{1f511}", "gr\\u00fcn/\\ud83d\\udd11"));
        assert!(has("gr\u{fc}n/\u{1f511}", "gr\\u00fcn\\/\\ud83d\\udd11"));
        assert!(has("one and\nanother one", "another one"));
        assert!(has("one and\nanother one", "one and\\nanother one"));
    }

    #[test]
    fn base64_of_what_holds_a_secret_holds_a_form_of_it() {
        let secret = b"correct horse battery\xff\xfe";
        let forms = Encodings::ALL.forms(&[secret.to_vec()]);
        for before in 0..6 {
            for after in 0..3 {
                let text = [&vec![b'x'; before][..], secret, &vec![b'y'; after]].concat();
                for alphabet in [STANDARD, URL_SAFE] {
                    let encoded = base64_whole(&text, alphabet);
                    let holds = |form: &Vec<u8>| {
                        form.len() > 24 && encoded.windows(form.len()).any(|part| part == form)
                    };
                    assert!(forms.iter().any(holds), "{before} {after}");
                }
            }
        }
    }
}
