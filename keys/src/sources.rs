//! From the key files that are named to the keys in them.

use std::path::{Path, PathBuf};

use sealed::{KeyId, MasterKey};

use crate::files::{self, KeyFileError};
use crate::key_file::KeyFile;
use crate::ring::{KeyRing, UnknownKey};
use crate::wrapped::WrappedKey;

/// One key, as it lies in its file.
#[derive(Clone, Debug)]
pub enum Key {
    /// At hand.
    Raw(MasterKey),
    /// Behind a passphrase.
    Wrapped(WrappedKey),
}

impl Key {
    /// The key's id; of a wrapped one, what its file says.
    pub fn id(&self) -> KeyId {
        match self {
            Self::Raw(key) => key.id(),
            Self::Wrapped(key) => key.key_id(),
        }
    }
}

/// One key and the file it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The key file.
    pub path: PathBuf,
    /// The key in it.
    pub key: Key,
}

/// The keys that were named, in their order, with rings replaced by what they name: at least one.
#[derive(Clone, Debug)]
pub struct Sources(Vec<Source>);

/// Which keys are wanted: a passphrase is asked for those only.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// All.
    All,
    /// The first, which seals.
    First,
    /// The one of this id, which opens a file.
    Id(KeyId),
}

impl Sources {
    /// Reads key files, and those that rings among them name.
    ///
    /// # Errors
    /// Where one of them can't be used.
    ///
    /// # Panics
    /// If no path is given.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, KeyFileError> {
        assert!(!paths.is_empty(), "no key is named");
        let mut sources = Vec::new();
        for path in paths {
            let path = path.as_ref();
            match files::read(path)? {
                KeyFile::Raw(key) => sources.push(Source::new(path, Key::Raw(key))),
                KeyFile::Wrapped(key) => sources.push(Source::new(path, Key::Wrapped(key))),
                KeyFile::Ring(ring) => {
                    let directory = path.parent().unwrap_or(Path::new(""));
                    for name in ring.names() {
                        let named = directory.join(name);
                        let key = match files::read(&named)? {
                            KeyFile::Raw(key) => Key::Raw(key),
                            KeyFile::Wrapped(key) => Key::Wrapped(key),
                            KeyFile::Ring(_) => {
                                return Err(KeyFileError::Nested {
                                    path: named,
                                    ring: path.to_owned(),
                                });
                            }
                        };
                        sources.push(Source { path: named, key });
                    }
                }
            }
        }
        Ok(Self(sources))
    }

    /// The keys and their files, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// The ring of the wanted keys. `unlock` is asked for those that a passphrase wraps; each key
    /// is asked for once.
    ///
    /// # Errors
    /// As `unlock`, and where a wanted key is not among these.
    pub fn ring<E: From<UnknownKey>>(
        &self,
        wanted: Wanted,
        mut unlock: impl FnMut(&Path, &WrappedKey) -> Result<MasterKey, E>,
    ) -> Result<KeyRing, E> {
        let mut ring: Option<KeyRing> = None;
        for (at, source) in self.0.iter().enumerate() {
            let id = source.key.id();
            let is_wanted = match wanted {
                Wanted::All => true,
                Wanted::First => at == 0,
                Wanted::Id(wanted) => id == wanted,
            };
            if !is_wanted || ring.as_ref().is_some_and(|ring| ring.get(&id).is_some()) {
                continue;
            }
            let key = match &source.key {
                Key::Raw(key) => key.clone(),
                Key::Wrapped(key) => unlock(&source.path, key)?,
            };
            let name = source.path.display().to_string();
            match &mut ring {
                Some(ring) => {
                    ring.add(name, key);
                }
                None => ring = Some(KeyRing::new(name, key)),
            }
        }
        match (ring, wanted) {
            (Some(ring), _) => Ok(ring),
            (None, Wanted::Id(file)) => Err(self.unknown(file).into()),
            (None, Wanted::All | Wanted::First) => unreachable!("there is at least one key"),
        }
    }

    /// That none of these is the key of a file.
    fn unknown(&self, file: KeyId) -> UnknownKey {
        let mut given: Vec<(KeyId, String)> = Vec::new();
        for source in &self.0 {
            let id = source.key.id();
            if given.iter().all(|(known, _)| *known != id) {
                given.push((id, source.path.display().to_string()));
            }
        }
        UnknownKey { file, given }
    }
}

impl Source {
    fn new(path: &Path, key: Key) -> Self {
        Self {
            path: path.to_owned(),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ring_file::FIRST_LINE;
    use crate::testing::{TestRng, passphrase};
    use crate::wrapped::Cost;

    /// Keys 1 and 2 raw, 3 wrapped by "open", and a ring of 3, 1 and 3 again in another directory.
    fn room() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for byte in [1, 2] {
            files::create(&path(&format!("{byte}")), &[byte; 32]).unwrap();
        }
        let wrapped = WrappedKey::wrap(
            &MasterKey::from_bytes([3; 32]),
            &passphrase("open"),
            Cost::new(8 << 10, 4, 1).unwrap(),
            &mut TestRng::new(0),
        );
        files::create(&path("3"), &wrapped.unwrap().encode()).unwrap();
        fs::create_dir(path("rings")).unwrap();
        let ring = format!("{FIRST_LINE}\n../3\n../1\n../3\n");
        files::create(&path("rings/ring"), ring.as_bytes()).unwrap();
        dir
    }

    fn id(byte: u8) -> KeyId {
        MasterKey::from_bytes([byte; 32]).id()
    }

    fn ids(ring: &KeyRing) -> Vec<KeyId> {
        ring.keys().iter().map(MasterKey::id).collect()
    }

    #[test]
    fn rings_and_keys_come_in_order_and_are_merged() {
        let dir = room();
        let sources =
            Sources::read(&["2", "rings/ring", "1"].map(|name| dir.path().join(name))).unwrap();
        let mut asked = Vec::new();
        let ring = sources.ring::<UnknownKey>(Wanted::All, |path, key| {
            asked.push(path.file_name().unwrap().to_owned());
            Ok(key.unwrap_with(&passphrase("open")).unwrap())
        });
        assert_eq!(ids(&ring.unwrap()), [id(2), id(3), id(1)]);
        assert_eq!(asked, ["3"]);
    }

    #[test]
    fn only_what_is_wanted_is_unlocked() {
        let dir = room();
        let sources =
            Sources::read(&["2", "rings/ring"].map(|name| dir.path().join(name))).unwrap();
        let refuse = |_: &Path, _: &WrappedKey| -> Result<MasterKey, UnknownKey> {
            panic!("not wanted");
        };
        let ring = sources.ring(Wanted::First, refuse).unwrap();
        assert_eq!(ids(&ring), [id(2)]);
        let ring = sources.ring(Wanted::Id(id(1)), refuse).unwrap();
        assert_eq!(ids(&ring), [id(1)]);
        let unknown = sources.ring(Wanted::Id(id(9)), refuse).unwrap_err();
        assert_eq!(unknown.file, id(9));
        let given: Vec<_> = unknown.given.iter().map(|(id, _)| *id).collect();
        assert_eq!(given, [id(2), id(3), id(1)]);
    }

    #[test]
    fn a_ring_names_keys_only() {
        let dir = room();
        let path = dir.path().join("outer");
        let ring = format!("{FIRST_LINE}\nrings/ring\n");
        files::create(&path, ring.as_bytes()).unwrap();
        assert!(matches!(
            Sources::read(&[path]),
            Err(KeyFileError::Nested { .. })
        ));
    }
}
