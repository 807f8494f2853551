//! Finding the files of one or several directory trees, and opening them again by where they were
//! found.
//!
//! No symbolic link is followed below a tree's root, neither when files are looked for nor when
//! they are opened: what is opened lies in the tree, whoever may rename things meanwhile.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::stat::{Inode, Stat};

/// How long, and how often, it is waited for the end of a lease.
const LEASE_NAP: Duration = Duration::from_millis(5);
const LEASE_NAPS: usize = 1000;

/// What the temporary files of this program are called: see [`is_temporary`].
pub const TEMPORARY_PREFIX: &str = ".keys-";
/// The end of their names.
pub const TEMPORARY_SUFFIX: &str = ".partial";

/// Whether a file is one that this program had not finished.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(TEMPORARY_PREFIX.as_bytes()) && name.ends_with(TEMPORARY_SUFFIX.as_bytes())
}

/// Where a file was found: in which tree, and the path in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    root: usize,
    path: PathBuf,
}

impl Place {
    /// The path in its tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of the path.
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// A file of that name beside this one.
    pub fn beside(&self, name: impl AsRef<Path>) -> Self {
        Self {
            root: self.root,
            path: self.path.with_file_name(name.as_ref()),
        }
    }
}

/// A regular file that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// What it was then.
    pub stat: Stat,
}

/// What was found in all trees.
#[derive(Debug, Default)]
pub struct Findings {
    /// Regular files, but for the temporary ones of this program.
    pub files: Vec<Found>,
    /// Temporary files of this program.
    pub temporary: Vec<Found>,
    /// What could not be looked into.
    pub failures: Vec<(Place, io::Error)>,
}

#[derive(Debug)]
struct Root {
    directory: OwnedFd,
    /// The path it was named by.
    shown: PathBuf,
    /// The only name in it that is asked for; `None` for all.
    only: Option<PathBuf>,
}

/// Directory trees, and files named by themselves.
#[derive(Debug, Default)]
pub struct Forest {
    roots: Vec<Root>,
}

impl Forest {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a path names: a directory, with all below it, or a file.
    ///
    /// # Errors
    /// Where there is neither.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(directory) => Root {
                directory,
                shown: path.to_owned(),
                only: None,
            },
            Err(rustix::io::Errno::NOTDIR) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                let parent = path.parent().unwrap_or(Path::new(""));
                let directory = match parent.as_os_str().is_empty() {
                    true => Path::new("."),
                    false => parent,
                };
                let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
                match Stat::at(&directory, Path::new(name))?.kind() {
                    FileType::RegularFile => {}
                    FileType::Symlink => {
                        return Err(io::Error::other("a symbolic link, which is not followed"));
                    }
                    _ => return Err(io::Error::other("neither a file nor a directory")),
                }
                Root {
                    directory,
                    shown: parent.to_owned(),
                    only: Some(name.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        };
        self.roots.push(root);
        Ok(())
    }

    /// The path of a place, for people.
    pub fn shown(&self, place: &Place) -> PathBuf {
        self.roots[place.root].shown.join(&place.path)
    }

    /// Opens a directory.
    fn directory(&self, root: usize, path: &Path) -> io::Result<OwnedFd> {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        Ok(rustix::fs::openat2(
            &self.roots[root].directory,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// Opens the directory that a place is in.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn directory_of(&self, place: &Place) -> io::Result<OwnedFd> {
        self.directory(place.root, place.path.parent().unwrap_or(Path::new("")))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn open(&self, place: &Place) -> io::Result<File> {
        open_in(self.directory_of(place)?, place.name(), OFlags::RDONLY)
    }

    /// Looks for all files. A directory that is named twice, or lies in another one that is named,
    /// is looked into once.
    pub fn find(&self) -> Findings {
        let mut findings = Findings::default();
        let mut seen = HashSet::new();
        for (root, Root { only, .. }) in self.roots.iter().enumerate() {
            if only.is_none() {
                self.walk(root, &mut seen, &mut findings);
            }
        }
        for (
            root,
            Root {
                only, directory, ..
            },
        ) in self.roots.iter().enumerate()
        {
            let Some(name) = only else { continue };
            let place = Place {
                root,
                path: name.clone(),
            };
            let found = Stat::of(directory).and_then(|parent| {
                let is_new = !seen.contains(&parent.inode());
                Ok((is_new, Stat::at(directory, name)?))
            });
            match found {
                Ok((true, stat)) => findings.files.push(Found { place, stat }),
                Ok((false, _)) => {}
                Err(error) => findings.failures.push((place, error)),
            }
        }
        findings
    }

    fn walk(&self, root: usize, seen: &mut HashSet<Inode>, findings: &mut Findings) {
        let mut stack = vec![PathBuf::new()];
        while let Some(path) = stack.pop() {
            if let Err(error) = self.look_into(root, &path, seen, findings, &mut stack) {
                findings.failures.push((Place { root, path }, error));
            }
        }
    }

    fn look_into(
        &self,
        root: usize,
        path: &Path,
        seen: &mut HashSet<Inode>,
        findings: &mut Findings,
        stack: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let directory = self.directory(root, path)?;
        if !seen.insert(Stat::of(&directory)?.inode()) {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let mut directories = Vec::new();
        for name in names {
            let path = path.join(&name);
            let stat = match Stat::at(&directory, Path::new(&name)) {
                Ok(stat) => stat,
                // Gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    findings.failures.push((Place { root, path }, error));
                    continue;
                }
            };
            match stat.kind() {
                FileType::Directory => directories.push(path),
                FileType::RegularFile => {
                    let list = match is_temporary(&name) {
                        true => &mut findings.temporary,
                        false => &mut findings.files,
                    };
                    let place = Place { root, path };
                    list.push(Found { place, stat });
                }
                // Links lead to what has another name, and the others have no contents.
                _ => {}
            }
        }
        // The last one is looked into next.
        stack.extend(directories.into_iter().rev());
        Ok(())
    }
}

/// Opens a file in a directory: no symbolic link, and without waiting if it has become a pipe. But for who has a
/// lease on it (fcntl(2), as runs have that read it), and is to give it back now, it is waited.
///
/// # Errors
/// As openat(2).
pub fn open_in(directory: impl AsFd, name: &OsStr, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..LEASE_NAPS {
        match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Err(Errno::AGAIN) => std::thread::sleep(LEASE_NAP),
            opened => return Ok(File::from(opened?)),
        }
    }
    Err(Errno::AGAIN.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    fn shown(forest: &Forest, found: &[Found]) -> Vec<String> {
        found
            .iter()
            .map(|found| forest.shown(&found.place).display().to_string())
            .collect()
    }

    fn forest(paths: &[&Path]) -> Forest {
        let mut forest = Forest::new();
        for path in paths {
            forest.add(path).unwrap();
        }
        forest
    }

    /// Takes a lease to read, says so, and gives it back a little after it is asked to.
    const HOLDER: &str = "
import fcntl, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
file = os.open(sys.argv[1], os.O_RDONLY)
try:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
except OSError:
    print('none', flush=True)
    sys.exit()
print('held', flush=True)
signal.sigwait([signal.SIGIO])
time.sleep(0.05)
";

    #[test]
    fn who_has_a_lease_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let mut holder = Command::new("python3")
            .args(["-c", HOLDER])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(holder.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert!(["held\n", "none\n"].contains(&said.as_str()), "{said}");
        open_in(
            File::open(dir.path()).unwrap(),
            "file".as_ref(),
            OFlags::RDWR,
        )
        .unwrap();
        assert!(holder.wait().unwrap().success());
    }

    #[test]
    fn regular_files_are_found_once_and_links_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("tree/sub/deep")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        for name in [
            "tree/b",
            "tree/a",
            "tree/sub/c",
            "tree/sub/deep/d",
            "outside/o",
        ] {
            fs::write(at(name), name).unwrap();
        }
        fs::write(at("tree/sub/.keys-x.partial"), "").unwrap();
        symlink("../outside", at("tree/out")).unwrap();
        symlink("a", at("tree/link")).unwrap();

        let forest = forest(&[
            &at("tree/sub"),
            &at("tree"),
            &at("tree/a"),
            &at("outside/o"),
        ]);
        let findings = forest.find();
        let expected = [
            "tree/sub/c",
            "tree/sub/deep/d",
            "tree/a",
            "tree/b",
            "outside/o",
        ];
        let expected = expected.map(|name| at(name).display().to_string());
        assert_eq!(shown(&forest, &findings.files), expected);
        assert_eq!(findings.temporary.len(), 1);
        assert!(findings.failures.is_empty());
        for found in &findings.files {
            let file = forest.open(&found.place).unwrap();
            let stat = Stat::of(&file).unwrap();
            assert_eq!(stat.fingerprint, found.stat.fingerprint);
        }
    }

    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("tree/sub")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("tree/sub/a"), "").unwrap();
        fs::write(at("outside/a"), "").unwrap();
        let forest = forest(&[&at("tree")]);
        let findings = forest.find();
        fs::rename(at("tree/sub"), at("tree/gone")).unwrap();
        symlink("../outside", at("tree/sub")).unwrap();
        assert!(forest.open(&findings.files[0].place).is_err());
        fs::remove_file(at("tree/gone/a")).unwrap();
        fs::remove_file(at("tree/sub")).unwrap();
        fs::rename(at("tree/gone"), at("tree/sub")).unwrap();
        symlink("../../outside/a", at("tree/sub/a")).unwrap();
        assert!(forest.open(&findings.files[0].place).is_err());
    }

    #[test]
    fn what_is_neither_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("x", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        let mut forest = Forest::new();
        assert!(forest.add(&dir.path().join("none")).is_err());
        assert!(forest.add(&dir.path().join("link")).is_err());
        assert!(forest.add(Path::new("/dev/null")).is_err());
        assert!(forest.add(&dir.path().join("x")).is_ok());
    }
}
