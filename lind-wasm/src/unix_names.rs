//! Names of UNIX sockets: what the kernel is told in place of a cage's path, and what a cage is
//! told in place of the kernel's.
//!
//! The kernel looks the path in an address up by itself, through every link and from the host's
//! root. So a cage's path is looked up inside the root first, and the kernel gets what leads to
//! the result and nowhere else: `/proc/PID/fd/N`, a link of the kernel's own to an open file, and
//! the name in it. That is then the socket's address, which its peers are shown: turned back into
//! a path inside the root, also when it is of another run on the same root.

use crate::path::{Leaf, Root, stat};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// Most bytes of a path in an address (`sizeof sun_path`).
pub const PATH_ROOM: usize = 108;
/// Spellings that are remembered, of the paths that sockets were bound to last.
const MAX_SPELLINGS: usize = 4096;
/// Folders that are kept open, those that sockets were bound in last.
const MAX_FOLDERS: usize = 256;

/// A path for the kernel.
#[derive(Debug)]
pub struct KernelPath {
    /// The path, without a NUL.
    pub path: Vec<u8>,
    /// Where it must be looked up from when it is a bare name: in this folder. It was too long to
    /// be named by way of the folder.
    pub from: Option<Arc<OwnedFd>>,
}

/// The names of a run.
#[derive(Debug)]
pub struct UnixNames {
    /// The directory of this process in `/proc`, as that counts processes.
    process: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Folders that sockets were bound in, with device and inode. They stay open so that the
    /// numbers in addresses keep their meaning.
    folders: Vec<((u64, u64), Arc<OwnedFd>)>,
    /// What cages called the sockets: kernel's path, cage's path.
    spelled: HashMap<Vec<u8>, Vec<u8>>,
}

impl UnixNames {
    /// No names.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn new() -> Result<Self, Errno> {
        let own = rustix::fs::readlinkat(CWD, "/proc/self", Vec::new())?;
        Ok(Self {
            process: [b"/proc/", own.to_bytes()].concat(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What leads to an open file, and only there.
    pub fn path_to(&self, file: &OwnedFd) -> Vec<u8> {
        let number = file.as_raw_fd().to_string();
        [&self.process, &b"/fd/"[..], number.as_bytes()].concat()
    }

    /// What never exists, though the folder that it is in does.
    pub fn nowhere(&self) -> Vec<u8> {
        [&self.process, &b"/fd/none"[..]].concat()
    }

    /// What leads to a name that a socket is to be bound to.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn path_for(&self, leaf: Leaf) -> Result<KernelPath, Errno> {
        let identity = stat(&leaf.parent)?;
        let identity = (identity.st_dev, identity.st_ino);
        let mut state = self.state();
        let known = state.folders.iter().position(|(id, _)| *id == identity);
        // The last one used is the last one forgotten.
        let folder = known.map_or_else(
            || Arc::new(leaf.parent),
            |index| state.folders.remove(index).1,
        );
        if state.folders.len() == MAX_FOLDERS {
            // Its number may come to mean another folder, and so do paths by way of it.
            let (_, gone) = state.folders.remove(0);
            let gone = [&self.path_to(&gone)[..], b"/"].concat();
            state.spelled.retain(|path, _| !path.starts_with(&gone));
        }
        state.folders.push((identity, folder.clone()));
        drop(state);
        let path = [&self.path_to(&folder)[..], b"/", &leaf.name].concat();
        Ok(if path.len() < PATH_ROOM {
            KernelPath { path, from: None }
        } else {
            KernelPath {
                path: leaf.name,
                from: Some(folder),
            }
        })
    }

    /// Remembers how a cage spelled the path of a socket that was bound.
    pub fn note(&self, path: Vec<u8>, spelled: Vec<u8>) {
        let mut state = self.state();
        if state.spelled.len() == MAX_SPELLINGS {
            state.spelled.clear();
        }
        state.spelled.insert(path, spelled);
    }

    /// The path that cages have for one of the kernel's; `None` for what is not inside the root.
    pub fn shown(&self, root: &Root, path: &[u8]) -> Option<Vec<u8>> {
        if let Some(spelled) = self.state().spelled.get(path) {
            return Some(spelled.clone());
        }
        let inside = match through_folder(path) {
            Some((folder, name)) => {
                let folder = self.folder(root, folder)?;
                let folder = folder.strip_suffix(b"/").unwrap_or(&folder);
                [folder, b"/", name].concat()
            }
            None => root.inside(path)?.to_vec(),
        };
        (inside.len() <= PATH_ROOM).then_some(inside)
    }

    /// The path inside the root of a folder by its number in some process.
    fn folder(&self, root: &Root, path: &[u8]) -> Option<Vec<u8>> {
        if path.starts_with(&[&self.process, &b"/"[..]].concat()) {
            // A number of this process that is no folder's any more may be another file's.
            let folder = self
                .state()
                .folders
                .iter()
                .find(|(_, folder)| self.path_to(folder) == path)
                .map(|(_, folder)| folder.clone())?;
            return root.path_of(&folder).ok();
        }
        let host = rustix::fs::readlinkat(CWD, path, Vec::new()).ok()?;
        root.inside(host.to_bytes()).map(<[u8]>::to_vec)
    }
}

/// Splits a path as [`UnixNames::path_for`] makes them, in whatever run.
fn through_folder(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let end = path.iter().rposition(|&byte| byte == b'/')?;
    let (folder, name) = (&path[..end], &path[end + 1..]);
    let mut parts = folder.strip_prefix(b"/proc/")?.split(|&byte| byte == b'/');
    let matches = is_number(parts.next()?)
        && parts.next()? == b"fd"
        && is_number(parts.next()?)
        && parts.next().is_none();
    matches.then_some((folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;

    fn fixture() -> (tempfile::TempDir, Root, UnixNames) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        (dir, root, UnixNames::new().unwrap())
    }

    fn leaf(root: &Root, path: &str) -> Leaf {
        root.leaf(&root.top(), path.as_bytes()).unwrap()
    }

    #[test]
    fn names_come_back() {
        let (dir, root, names) = fixture();
        for path in ["/name", "/sub/name"] {
            let kernel = names.path_for(leaf(&root, path)).unwrap();
            assert!(kernel.from.is_none());
            assert_eq!(names.shown(&root, &kernel.path).unwrap(), path.as_bytes());
            // One that a process of the host has bound.
            let host = format!("{}/root{path}", dir.path().display());
            let seen = names.shown(&root, host.as_bytes());
            assert_eq!(seen.unwrap(), path.as_bytes());
            names.note(kernel.path.clone(), b"./as it was said".to_vec());
            assert_eq!(
                names.shown(&root, &kernel.path).unwrap(),
                b"./as it was said"
            );
        }
        assert_eq!(names.shown(&root, b"/run/some.socket"), None);
        assert_eq!(names.shown(&root, b"/proc/self/fd/0/name"), None);
        assert_eq!(names.shown(&root, b"/proc/1/fd/999999/name"), None);
        assert_eq!(names.shown(&root, b"relative"), None);
    }

    #[test]
    fn a_number_that_means_another_file_by_now_is_not_shown() {
        let (_dir, root, names) = fixture();
        let other = root.open_at(&root.top(), b"/sub", OFlags::PATH, 0).unwrap();
        let path = [&names.path_to(&other)[..], b"/name"].concat();
        assert_eq!(names.shown(&root, &path), None);
    }

    #[test]
    fn long_names_are_bare() {
        let (_dir, root, names) = fixture();
        let name = "n".repeat(100);
        let kernel = names.path_for(leaf(&root, &format!("/{name}"))).unwrap();
        assert_eq!(kernel.path, name.as_bytes());
        assert!(kernel.from.is_some());
    }

    #[test]
    fn folders_are_kept_once_and_not_for_ever() {
        let (dir, root, names) = fixture();
        let first = names.path_for(leaf(&root, "/a")).unwrap().path;
        let second = names.path_for(leaf(&root, "/b")).unwrap().path;
        names.note(first.clone(), b"a".to_vec());
        assert_eq!(first[..first.len() - 1], second[..second.len() - 1]);
        for number in 0..MAX_FOLDERS {
            std::fs::create_dir(dir.path().join(format!("root/{number}"))).unwrap();
            names
                .path_for(leaf(&root, &format!("/{number}/x")))
                .unwrap();
        }
        assert_eq!(names.shown(&root, &first), None);
        assert_eq!(names.state().folders.len(), MAX_FOLDERS);
    }
}
