//! Secrets that are listed: in files, in files of variables, and in the environment.

use globset::Glob;

use crate::action::Action;
use crate::dotenv;
use crate::rules::{Builder, Pattern};

/// Fewest bytes of a text that is listed, unless a rule says that it may be shorter.
pub(crate) const SHORTEST: usize = 4;

/// What is wrong with a list. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ListError {
    message: String,
}

fn wrong<T>(message: String) -> Result<T, ListError> {
    Err(ListError { message })
}

/// The texts of a list: one on each line, without the ends of lines; empty lines are left out. A
/// line `<<WORD` begins a text of several lines, which ends before a line that is WORD.
///
/// # Errors
/// A text of several lines that does not end.
pub fn texts(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ListError> {
    let lines = bytes.split(|&byte| byte == b'\n');
    let mut lines = lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .enumerate();
    let mut texts = Vec::new();
    while let Some((index, line)) = lines.next() {
        let Some(word) = line.strip_prefix(b"<<").filter(|word| is_word(word)) else {
            if !line.is_empty() {
                texts.push(line.to_vec());
            }
            continue;
        };
        let mut parts = Vec::new();
        loop {
            match lines.next() {
                Some((_, line)) if line == word => break,
                Some((_, line)) => parts.push(line),
                None => {
                    let word = String::from_utf8_lossy(word);
                    return wrong(format!(
                        "line {}: the text that <<{word} begins does not end; add a line {word}",
                        index + 1
                    ));
                }
            }
        }
        let text = parts.join(&b'\n');
        if !text.is_empty() {
            texts.push(text);
        }
    }
    Ok(texts)
}

/// The variables of this process's environment, by name and value, as [`Builder::secret_env`] takes them.
pub fn environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    std::env::vars_os()
        .map(|(name, value)| (name.into_encoded_bytes(), value.into_encoded_bytes()))
        .collect()
}

fn is_word(word: &[u8]) -> bool {
    !word.is_empty()
        && word
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first text that is too short to be looked for, by its number from 1.
pub(crate) fn too_short(texts: &[Vec<u8>]) -> Option<usize> {
    let at = texts.iter().position(|text| text.len() < SHORTEST);
    at.map(|at| at + 1)
}

impl Builder {
    /// Adds a rule that masks the texts of a list, as [`texts`] reads it, in all their forms.
    ///
    /// # Errors
    /// A list that holds nothing, or a text that is too short or does not end.
    pub fn secret_list(&mut self, name: &str, bytes: &[u8]) -> Result<&mut Self, ListError> {
        let texts = texts(bytes)?;
        if texts.is_empty() {
            return wrong("holds no secret; write one on each line".to_owned());
        }
        if let Some(number) = too_short(&texts) {
            return wrong(format!(
                "text {number} is shorter than {SHORTEST} bytes and would be masked all over; remove \
                 it, or list it in a rule that says short = true"
            ));
        }
        self.secrets(name, texts)
    }

    /// Adds a rule that masks what is secret in a file of variables, such as `.env`.
    ///
    /// # Errors
    /// A value that does not end.
    pub fn secret_dotenv(&mut self, name: &str, bytes: &[u8]) -> Result<&mut Self, ListError> {
        let variables = match dotenv::variables(bytes) {
            Ok(variables) => variables.into_iter(),
            Err(error) => return wrong(format!("line {}: {}", error.line, error.message)),
        };
        let values = variables
            .filter(dotenv::Variable::is_secret)
            .flat_map(|variable| dotenv::secrets(&variable.value));
        self.secrets(name, values.collect())
    }

    /// Adds a rule that masks the values of variables of an environment, given by name and value,
    /// whose names match one of these globs. Short values are left out where the name is a pattern.
    ///
    /// # Errors
    /// A glob that is none, one that no variable has that could be masked, or a value that is too
    /// short.
    pub fn secret_env(
        &mut self,
        name: &str,
        wanted: &[String],
        variables: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<&mut Self, ListError> {
        let mut values = Vec::new();
        for wanted in wanted {
            let glob = match Glob::new(wanted) {
                Ok(glob) => glob.compile_matcher(),
                Err(error) => return wrong(format!("{wanted}: {error}")),
            };
            let is_meant =
                |name: &[u8]| glob.is_match_candidate(&globset::Candidate::from_bytes(name));
            let mut found = 0;
            for (name, value) in variables.iter().filter(|(name, _)| is_meant(name)) {
                if value.len() >= SHORTEST {
                    found += 1;
                    values.extend(dotenv::secrets(value));
                } else if name == wanted.as_bytes() && !value.is_empty() {
                    return wrong(format!(
                        "{wanted}: its value is shorter than {SHORTEST} bytes and would be masked \
                         all over; leave it out"
                    ));
                }
            }
            if found == 0 {
                return wrong(format!(
                    "{wanted}: no variable of the environment has a value; name one that has"
                ));
            }
        }
        self.secrets(name, values)
    }

    /// Adds a rule for secrets that are known. No secrets are no rule.
    fn secrets(&mut self, name: &str, values: Vec<Vec<u8>>) -> Result<&mut Self, ListError> {
        if values.is_empty() {
            return Ok(self);
        }
        match self.rule(name, &Pattern::Secrets(values), Action::Mask) {
            Ok(_) => Ok(self),
            Err(error) => wrong(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_lines_and_texts_of_several() {
        let list = b"one1\r\n\n<<END\nfirst line\n\n  second\nEND\n<< no word\n<<\nlast\n";
        let expected: [&[u8]; 5] = [
            b"one1",
            b"first line\n\n  second",
            b"<< no word",
            b"<<",
            b"last",
        ];
        assert_eq!(texts(list).unwrap(), expected);
        let error = texts(b"one1\n<<END\nfirst").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    #[test]
    fn what_is_too_short_is_said() {
        let mut rules = Builder::default();
        let error = rules
            .secret_list("list", b"long enough\nabc\n")
            .unwrap_err();
        assert!(
            error.to_string().starts_with("text 2 is shorter"),
            "{error}"
        );
        let variables = [
            (b"API_KEY".to_vec(), b"a value".to_vec()),
            (b"API_ON".to_vec(), b"1".to_vec()),
        ];
        let mut env = |wanted: &str| {
            rules
                .secret_env(wanted, &[wanted.to_owned()], &variables)
                .map(drop)
        };
        assert!(env("API_*").is_ok());
        assert!(env("API_ON").is_err());
        assert!(env("OTHER").is_err());
        assert!(env("[").is_err());
    }
}
