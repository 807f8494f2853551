//! Passphrases: asked for without echo, or read from a descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use keys::Passphrase;
use keys::wrapped::{WrappedKey, WrappedKeyError};
use sealed::MasterKey;
use zeroize::Zeroizing;

/// How often a person may mistype.
const TRIES: usize = 3;

/// Unlocks wrapped keys. A passphrase that is known already is tried before another is asked for:
/// often several keys have the same.
pub struct Passphrases {
    /// Where the one passphrase comes from, instead of a person.
    fd: Option<u32>,
    known: Vec<Passphrase>,
}

impl Passphrases {
    /// From a descriptor if one is named, else from the terminal.
    pub fn new(fd: Option<u32>) -> Self {
        Self {
            fd,
            known: Vec::new(),
        }
    }

    /// The key in the file of that path.
    pub fn unlock(&mut self, path: &Path, key: &WrappedKey) -> Result<MasterKey> {
        let path = path.display();
        if let (Some(fd), []) = (self.fd, self.known.as_slice()) {
            self.known.push(read_line(fd)?);
        }
        for passphrase in &self.known {
            match key.unwrap_with(passphrase) {
                Err(WrappedKeyError::Refused) => {}
                outcome => return outcome.with_context(|| path.to_string()),
            }
        }
        if self.fd.is_some() {
            bail!("{path}: {}", WrappedKeyError::Refused);
        }
        for _ in 0..TRIES {
            let passphrase = ask(&format!("Passphrase of {path}: "))?;
            match key.unwrap_with(&passphrase) {
                Err(WrappedKeyError::Refused) => eprintln!("keys: {path}: wrong passphrase"),
                outcome => {
                    self.known.push(passphrase);
                    return outcome.with_context(|| path.to_string());
                }
            }
        }
        bail!("{path}: {}", WrappedKeyError::Refused);
    }
}

/// A passphrase for the key in the file of that path: from a descriptor if one is named, else asked
/// for twice.
pub fn new_passphrase(path: &Path, fd: Option<u32>) -> Result<Passphrase> {
    if let Some(fd) = fd {
        return read_line(fd);
    }
    let path = path.display();
    for _ in 0..TRIES {
        let first = ask(&format!("New passphrase for {path}: "))?;
        if ask("The same again: ")? == first {
            return Ok(first);
        }
        eprintln!("keys: the two differ");
    }
    bail!("{path}: no passphrase was given twice alike");
}

fn ask(prompt: &str) -> Result<Passphrase> {
    let typed = rpassword::prompt_password(prompt)
        .context("no terminal to ask for a passphrase at; give it with --passphrase-fd")?;
    Ok(Passphrase::new(Zeroizing::new(typed.into_bytes()))?)
}

/// The first line of what a descriptor of this process reads.
fn read_line(fd: u32) -> Result<Passphrase> {
    let line = if fd == 0 {
        // Buffered, so that what comes behind the line is there for who reads the input.
        first_line(io::stdin().lock())
    } else {
        // The kernel opens it anew: a pipe is the same pipe, a file is read from its beginning.
        File::open(format!("/proc/self/fd/{fd}")).and_then(first_line)
    };
    line.map_err(anyhow::Error::from)
        .and_then(|line| Ok(Passphrase::new(line)?))
        .with_context(|| format!("passphrase from descriptor {fd}"))
}

/// Reads byte by byte, so that nothing behind the line is taken, and into memory that never moves.
fn first_line(mut reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(Passphrase::MAX_LEN + 1));
    let mut byte = Zeroizing::new([0]);
    while line.len() <= Passphrase::MAX_LEN {
        match reader.read(byte.as_mut_slice()) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_is_taken() {
        let mut input = &b"open sesame \nmore"[..];
        assert_eq!(first_line(&mut input).unwrap().as_slice(), b"open sesame ");
        assert_eq!(input, b"more");
        assert_eq!(
            first_line(&b"to the end"[..]).unwrap().as_slice(),
            b"to the end"
        );
        assert!(first_line(&b"\n"[..]).unwrap().is_empty());
        let long = first_line(io::repeat(b'x')).unwrap();
        assert!(Passphrase::new(long).is_err());
    }
}
