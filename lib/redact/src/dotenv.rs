//! Files of variables, such as `.env`: `NAME=value` on each line, as shells read them.

use std::ops::Range;

/// A variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, without quotes.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Variable({})", self.name)
    }
}

/// What is wrong with such a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct DotenvError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: &'static str,
}

/// Parts of names whose values are secret, however they look.
const SECRET_NAMES: &[&str] = &[
    "KEY", "TOKEN", "SECRET", "PASS", "PWD", "AUTH", "CRED", "PRIVATE", "DSN", "SALT", "SIGN",
    "PIN", "COOKIE", "SESSION", "WEBHOOK",
];

/// Fewest bytes of a value that is hidden for its name, and for how it looks.
const NAMED: Range<usize> = 4..usize::MAX;
const LOOKS: Range<usize> = 12..usize::MAX;

impl Variable {
    /// Whether it is to be hidden: its name says so, or it looks like nothing that a person has
    /// chosen, or there is a password in it. `DEBUG=true` and `PORT=8080` would else be masked
    /// wherever these words stand.
    pub fn is_secret(&self) -> bool {
        let name = self.name.to_ascii_uppercase();
        let value = &self.value[..];
        let is_plain = value.eq_ignore_ascii_case(b"true") || value.eq_ignore_ascii_case(b"false");
        if SECRET_NAMES.iter().any(|part| name.contains(part)) {
            return NAMED.contains(&value.len()) && !is_plain;
        }
        let has = |test: fn(&u8) -> bool| value.iter().any(test);
        let is_url = value.windows(3).any(|part| part == b"://");
        let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
        let is_path = value.contains(&b'/') || value.contains(&b' ') || value.contains(&b'.');
        match is_url {
            true => value.contains(&b'@'),
            false => LOOKS.contains(&value.len()) && is_mixed && !is_path,
        }
    }
}

/// The variables of a file.
///
/// # Errors
/// A quote that does not end.
pub fn variables(text: &[u8]) -> Result<Vec<Variable>, DotenvError> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let end = at
            + text[at..]
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(text.len() - at);
        let begun = line;
        let whole = text[at..end].trim_ascii();
        let whole = match whole.strip_prefix(b"export ") {
            Some(rest) => rest.trim_ascii_start(),
            None => whole,
        };
        line += 1;
        let equals = whole.iter().position(|&byte| byte == b'=');
        let Some(equals) = equals.filter(|_| !whole.starts_with(b"#")) else {
            at = end + 1;
            continue;
        };
        let name = String::from_utf8_lossy(whole[..equals].trim_ascii()).into_owned();
        let value = whole[equals + 1..].trim_ascii_start();
        // Where the value begins in the text.
        let from = value.as_ptr() as usize - text.as_ptr() as usize;
        let (value, next) = match value.first() {
            Some(quote @ (b'"' | b'\'' | b'`')) => {
                let (value, next) = quoted(&text[from + 1..], *quote).ok_or(DotenvError {
                    line: begun,
                    message: "a quote does not end; close it",
                })?;
                let next = from + 1 + next;
                let rest = text[next..].iter().position(|&byte| byte == b'\n');
                line += text[end.min(next)..next]
                    .iter()
                    .filter(|&&byte| byte == b'\n')
                    .count();
                (value, rest.map_or(text.len(), |rest| next + rest + 1))
            }
            _ => {
                let comment = value.windows(2).position(|pair| pair == b" #");
                let value = value[..comment.unwrap_or(value.len())].trim_ascii_end();
                (value.to_vec(), end + 1)
            }
        };
        found.push(Variable { name, value });
        at = next;
    }
    Ok(found)
}

/// What stands in quotes, and where they end.
fn quoted(text: &[u8], quote: u8) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        let byte = *text.get(at)?;
        at += 1;
        if byte == quote {
            return Some((value, at));
        }
        if byte != b'\\' || quote != b'"' {
            value.push(byte);
            continue;
        }
        let escaped = *text.get(at)?;
        at += 1;
        match escaped {
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'"' | b'\\' | b'$' | b'`' => value.push(escaped),
            _ => value.extend([b'\\', escaped]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_shells_read_them() {
        let text = b"# A comment\nexport API_KEY=abc def # not this\nA='x#y'\n\nB=\"p\\nq\\\"r\"\nC=\"one\ntwo\"\nD=\r\nnothing\nE=`z`";
        let all = variables(text).unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|one| (one.name.as_str(), one.value.escape_ascii().to_string()))
            .collect();
        let expected = [
            ("API_KEY", "abc def"),
            ("A", "x#y"),
            ("B", "p\\nq\\\"r"),
            ("C", "one\\ntwo"),
            ("D", ""),
            ("E", "z"),
        ];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(all, expected);
        let error = variables(b"\nA='x\n").unwrap_err();
        assert_eq!(error.line, 2);
    }

    #[test]
    fn plain_settings_are_no_secrets() {
        let is_secret = |name: &str, value: &str| {
            let name = name.to_owned();
            let value = value.as_bytes().to_vec();
            Variable { name, value }.is_secret()
        };
        for (name, value) in [
            ("DEBUG", "true"),
            ("PORT", "8080"),
            ("NODE_ENV", "development"),
            ("URL", "https://example.org/api"),
            ("LOG", "/var/log/app1/current"),
            ("USE_TOKEN", "true"),
            ("KEY", "abc"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("db_pass", "hunter2"),
            ("DATABASE_URL", "postgres://a:b@c/d"),
            ("X", "9f86d081884c7d65"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
    }
}
