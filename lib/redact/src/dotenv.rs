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

/// What is in names whose values are secret, however they look.
const SECRET_NAMES: &[&str] = &["SECRET", "TOKEN", "PASSW", "PASSPHRASE", "CREDENTIAL"];
/// What ends a word of such names.
const SECRET_ENDS: &[&str] = &["KEY", "PASS", "PWD", "AUTH"];
/// Whole words of such names.
const SECRET_WORDS: &[&str] = &[
    "CRED",
    "CREDS",
    "PRIVATE",
    "DSN",
    "SALT",
    "SIGNATURE",
    "SIGNING",
    "PIN",
    "COOKIE",
    "SESSION",
    "WEBHOOK",
];
/// What a name ends with that does not have the secret itself, but says something of it, such as
/// `SESSION_DRIVER` and `TOKEN_TTL`.
const ABOUT: &[&str] = &[
    "ALG",
    "ALGO",
    "ALGORITHM",
    "AUDIENCE",
    "BACKEND",
    "BITS",
    "CONNECTION",
    "COUNT",
    "DAYS",
    "DIR",
    "DOMAIN",
    "DRIVER",
    "ENABLED",
    "ENV",
    "EXPIRATION",
    "EXPIRES",
    "EXPIRY",
    "FILE",
    "FORMAT",
    "HEADER",
    "HOST",
    "HOURS",
    "ISSUER",
    "LENGTH",
    "LEVEL",
    "LIFETIME",
    "LIMIT",
    "MAX",
    "METHOD",
    "MIN",
    "MINUTES",
    "MODE",
    "NAME",
    "PATH",
    "PORT",
    "PREFIX",
    "PROVIDER",
    "REALM",
    "REGION",
    "REQUIRED",
    "ROUNDS",
    "SAMESITE",
    "SCHEME",
    "SCOPE",
    "SCOPES",
    "SECONDS",
    "SECURE",
    "SITE",
    "SIZE",
    "STORE",
    "TIMEOUT",
    "TTL",
    "TYPE",
    "URI",
    "URL",
    "USER",
    "USERNAME",
    "VERSION",
];
/// Values that anybody would guess, and that stand everywhere for other reasons.
const GUESSED: &[&str] = &[
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "yes",
    "no",
    "test",
    "testing",
    "dev",
    "development",
    "production",
    "local",
    "localhost",
    "default",
    "example",
    "secret",
    "password",
    "root",
    "admin",
    "user",
    "guest",
    "postgres",
    "mysql",
    "redis",
    "file",
    "database",
    "basic",
];

/// Fewest bytes of a value that is hidden for its name, and for how it looks.
const NAMED: Range<usize> = 4..usize::MAX;
const LOOKS: Range<usize> = 12..usize::MAX;

impl Variable {
    /// Whether its name says that it is secret.
    fn is_called_secret(&self) -> bool {
        let name = self.name.to_ascii_uppercase();
        let words = || {
            name.split(|c: char| !c.is_ascii_alphabetic())
                .filter(|word| !word.is_empty())
        };
        let is_about = words()
            .next_back()
            .is_some_and(|last| ABOUT.contains(&last));
        let is_secret = |word: &str| {
            SECRET_NAMES.iter().any(|part| word.contains(part))
                || SECRET_ENDS.iter().any(|end| word.ends_with(end))
                || SECRET_WORDS.contains(&word)
        };
        // Who knows the address of a hook may call it.
        let is_hook = words().any(|word| word == "WEBHOOK");
        (is_hook || !is_about) && words().any(is_secret)
    }

    /// Whether it is to be hidden: its name says so, or it looks like nothing that a person has
    /// chosen, or there is a password in it. `DEBUG=true` and `PORT=8080` would else be masked
    /// wherever these words stand, and so would words that anybody would guess.
    pub fn is_secret(&self) -> bool {
        let value = &self.value[..];
        let is_plain = is_guessed(value);
        if self.is_called_secret() {
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

/// What is secret in the value of a variable that is hidden: all of it, and where it is a URL, the
/// password in it by itself, as it stands and decoded.
pub(crate) fn secrets(value: &[u8]) -> Vec<Vec<u8>> {
    let mut secrets = vec![value.to_vec()];
    if let Some(password) = password(value) {
        secrets.extend([password.to_vec(), decoded(password)]);
        secrets.dedup();
    }
    secrets
}

/// The password in a URL, if it is one that hides anything.
fn password(url: &[u8]) -> Option<&[u8]> {
    let behind = url.windows(3).position(|part| part == b"://")? + 3;
    let authority = url[behind..].split(|byte| b"/?#".contains(byte)).next()?;
    let user = &authority[..authority.iter().rposition(|&byte| byte == b'@')?];
    let password = &user[user.iter().position(|&byte| byte == b':')? + 1..];
    (NAMED.contains(&password.len()) && !is_guessed(password)).then_some(password)
}

/// A text without percent encoding.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| Some(char::from(byte).to_digit(16)? as u8);
    let mut decoded = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let code = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let (byte, len) = match code {
            Some((high, low)) => (high << 4 | low, 3),
            None => (*first, 1),
        };
        decoded.push(byte);
        rest = &rest[len..];
    }
    decoded
}

fn is_guessed(value: &[u8]) -> bool {
    GUESSED
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
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
            ("SESSION_DRIVER", "file1"),
            ("NEXTAUTH_URL", "http://localhost:3000"),
            ("TOKEN_TTL", "3600"),
            ("KEYCLOAK_REALM", "master"),
            ("DESIGN", "round"),
            ("AUTHOR_NAME", "Jane Doe"),
            ("PASSENGER", "anybody"),
            ("DB_PASSWORD", "postgres"),
            ("COOKIE_DOMAIN", "localhost"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("db_pass", "hunter2"),
            ("DATABASE_URL", "postgres://a:b@c/d"),
            ("X", "9f86d081884c7d65"),
            ("apiKey", "swordfish"),
            ("OAUTH", "swordfish"),
            ("AWS_ACCESS_KEY_ID", "swordfish"),
            ("SLACK_WEBHOOK_URL", "https://example.org/x"),
            ("DOOR_PIN", "4711"),
        ] {
            assert!(is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn the_password_of_a_url_is_secret_by_itself() {
        let of = |url: &str| {
            let all = secrets(url.as_bytes());
            let all = all
                .iter()
                .map(|one| String::from_utf8_lossy(one).into_owned());
            all.skip(1).collect::<Vec<_>>()
        };
        assert_eq!(
            of("postgres://app:sword%66ish@h:1/d?x=@"),
            ["sword%66ish", "swordfish"]
        );
        assert_eq!(of("redis://:p%zz@:w%4@h"), ["p%zz@:w%4"]);
        for without in [
            "swordfish",
            "http://h:80/a:b@c",
            "pg://postgres:postgres@h",
            "x://a:b@c",
        ] {
            assert_eq!(of(without), [""; 0], "{without}");
        }
    }
}
