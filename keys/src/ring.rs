//! Several keys at once: one seals, all open.

use std::fmt;

use sealed::{KeyId, MasterKey};

/// The keys at hand. The first seals; which one opens a file is what the key id in its header says.
///
/// A key is in a ring once: one that comes again is the same key, and keeps its first place.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<MasterKey>,
    /// Of each key, where it came from.
    names: Vec<String>,
}

/// No key of a ring is the one that a file was sealed with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong key: the file was sealed with key {file}, {}", Given(given))]
pub struct UnknownKey {
    /// The key the file names.
    pub file: KeyId,
    /// The keys of the ring, each with where it came from.
    pub given: Vec<(KeyId, String)>,
}

/// The end of a message: which keys there are.
struct Given<'a>(&'a [(KeyId, String)]);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            [_] => "the key given is ",
            _ => "the keys given are ",
        })?;
        for (i, (id, name)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{id} ({name})")?;
        }
        Ok(())
    }
}

impl KeyRing {
    /// A ring with the key that seals, which came from the file of this name.
    pub fn new(name: impl Into<String>, first: MasterKey) -> Self {
        Self {
            keys: vec![first],
            names: vec![name.into()],
        }
    }

    /// Puts another key behind the others. Answers whether it was not there yet.
    pub fn add(&mut self, name: impl Into<String>, key: MasterKey) -> bool {
        let is_new = self.get(&key.id()).is_none();
        if is_new {
            self.keys.push(key);
            self.names.push(name.into());
        }
        is_new
    }

    /// The key that seals.
    pub fn sealing(&self) -> &MasterKey {
        &self.keys[0]
    }

    /// The keys that only open.
    pub fn others(&self) -> &[MasterKey] {
        &self.keys[1..]
    }

    /// All keys, the one that seals first.
    pub fn keys(&self) -> &[MasterKey] {
        &self.keys
    }

    /// The key of this id.
    pub fn get(&self, id: &KeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id() == *id)
    }

    /// As [`get`](Self::get), for a file that names the key.
    ///
    /// # Errors
    /// Where it is not in the ring: says which ones are.
    pub fn for_file(&self, id: KeyId) -> Result<&MasterKey, UnknownKey> {
        self.get(&id).ok_or_else(|| UnknownKey {
            file: id,
            given: self
                .keys
                .iter()
                .map(MasterKey::id)
                .zip(self.names.iter().cloned())
                .collect(),
        })
    }

    /// Where the key of this id came from.
    pub fn name(&self, id: &KeyId) -> Option<&str> {
        let at = self.keys.iter().position(|key| key.id() == *id)?;
        Some(&self.names[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    #[test]
    fn the_first_seals_and_all_open() {
        let mut ring = KeyRing::new("a", key(1));
        assert!(ring.add("b", key(2)));
        assert_eq!(ring.sealing().id(), key(1).id());
        assert_eq!(ring.others().len(), 1);
        for byte in [1, 2] {
            let id = key(byte).id();
            assert_eq!(ring.get(&id).unwrap().id(), id);
            assert_eq!(ring.for_file(id).unwrap().id(), id);
        }
        assert!(ring.get(&key(3).id()).is_none());
    }

    #[test]
    fn a_key_is_there_once_and_keeps_its_place() {
        let mut ring = KeyRing::new("a", key(1));
        assert!(ring.add("b", key(2)));
        assert!(!ring.add("c", key(1)));
        assert!(!ring.add("d", key(2)));
        assert_eq!(ring.keys().len(), 2);
        assert_eq!(ring.name(&key(1).id()), Some("a"));
        assert_eq!(ring.name(&key(2).id()), Some("b"));
    }

    #[test]
    fn an_unknown_key_is_told_with_those_at_hand() {
        let mut ring = KeyRing::new("a", key(1));
        let one = ring.for_file(key(3).id()).unwrap_err().to_string();
        let (first, file) = (key(1).id(), key(3).id());
        assert_eq!(
            one,
            format!("wrong key: the file was sealed with key {file}, the key given is {first} (a)")
        );
        ring.add("b", key(2));
        let two = ring.for_file(file).unwrap_err().to_string();
        let second = key(2).id();
        assert!(two.ends_with(&format!("the keys given are {first} (a), {second} (b)")));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", KeyRing::new("a", key(0xAB)));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"));
    }
}
