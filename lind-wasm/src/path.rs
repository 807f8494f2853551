//! The cages' root directory: every path of a cage is looked up inside it, by the kernel itself
//! (`openat2` with `RESOLVE_IN_ROOT`), so that neither `..` nor a symlink leads out.

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest path in bytes, its NUL included, as `PATH_MAX`.
pub const PATH_MAX: usize = 4096;
/// Largest program file that is loaded.
pub const PROGRAM_MAX: u64 = 1 << 30;
/// Where a program without a slash in its name is looked for after the current directory.
const PROGRAM_FOLDERS: [&[u8]; 2] = [b"/grates/", b"/bin/"];
/// How often a look-up is tried again that a rename elsewhere disturbed.
const RACE_RETRIES: usize = 64;
/// How long is waited in between for the end of a lease, at first, and how often twice as long the next time: a
/// machine may be too busy to wake who has it at once, and all naps together are a few seconds.
const LEASE_NAP: Duration = Duration::from_millis(1);
const LEASE_NAP_GROWS: usize = 6;

/// The root directory.
#[derive(Debug)]
pub struct Root {
    top: Arc<OwnedFd>,
    /// Where it lies on the host, to turn host paths of open directories into the cages'.
    host_path: Vec<u8>,
}

/// The last part of a path, and the directory that it is in.
#[derive(Debug)]
pub struct Leaf {
    /// The directory, open with `O_PATH`.
    pub parent: OwnedFd,
    /// The name in it, with any trailing slashes; never an absolute path.
    pub name: Vec<u8>,
}

impl Root {
    /// Opens the root directory.
    ///
    /// # Errors
    /// In a line, with what to do.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let top = rustix::fs::openat(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .with_context(|| {
            format!(
                "cannot open the cages' root {} (name another with --root or LINDFS_ROOT)",
                path.display()
            )
        })?;
        let root = Self {
            host_path: host_path(&top)?,
            top: Arc::new(top),
        };
        root.open_at(&root.top, b"/", OFlags::PATH, 0)
            .map_err(|errno| {
                anyhow::anyhow!("this kernel does not let paths be confined: openat2: {errno}")
            })?;
        Ok(root)
    }

    /// The root directory itself, open with `O_PATH`.
    pub fn top(&self) -> Arc<OwnedFd> {
        self.top.clone()
    }

    /// The path of an open directory as cages see it: absolute, without a trailing slash but for
    /// the root.
    ///
    /// # Errors
    /// `ENOENT` when it is not inside the root (removed, or moved out).
    pub fn path_of(&self, directory: &Arc<OwnedFd>) -> Result<Vec<u8>, Errno> {
        if Arc::ptr_eq(directory, &self.top) {
            return Ok(b"/".to_vec());
        }
        let path = host_path(directory)?;
        if path.ends_with(b" (deleted)") && stat(directory)?.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        self.inside(&path).map(<[u8]>::to_vec).ok_or(Errno::NOENT)
    }

    /// An absolute path of the host as cages see it; `None` when it is not inside the root.
    pub fn inside<'p>(&self, host: &'p [u8]) -> Option<&'p [u8]> {
        let inside = if self.host_path == b"/" {
            host
        } else {
            host.strip_prefix(self.host_path.as_slice())?
        };
        match inside {
            b"" => Some(b"/"),
            _ => inside.starts_with(b"/").then_some(inside),
        }
    }

    /// A path as the kernel takes it relative to the root.
    fn absolute(&self, from: &Arc<OwnedFd>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if path.starts_with(b"/") || Arc::ptr_eq(from, &self.top) {
            return Ok(path.to_vec());
        }
        let mut absolute = self.path_of(from)?;
        absolute.push(b'/');
        absolute.extend_from_slice(path);
        Ok(absolute)
    }

    /// Opens a path, relative ones from `from`. `mode` is used when a file is created.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_at(
        &self,
        from: &Arc<OwnedFd>,
        path: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, Errno> {
        let absolute = self.absolute(from, path)?;
        let creates =
            flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY));
        let mode = if creates {
            Mode::from_raw_mode(mode & 0o7777)
        } else {
            Mode::empty()
        };
        for attempt in 0..RACE_RETRIES {
            match self.open_once(&absolute, flags, mode) {
                Err(Errno::AGAIN) if !flags.contains(OFlags::NONBLOCK) => {}
                // Some run, perhaps this one, has a lease on the file, which it gives back at once. Who does not want
                // to wait for others need not know of it.
                Err(Errno::AGAIN) => {
                    std::thread::sleep(LEASE_NAP * (1 << attempt.min(LEASE_NAP_GROWS)));
                }
                // Who does wait would not without a lease: a signal ends the waiting for it alone.
                Err(Errno::INTR) if self.is_regular(&absolute, flags) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn open_once(&self, absolute: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&*self.top, absolute, flags | OFlags::CLOEXEC, mode, resolve)
    }

    /// Whether such an open finds a regular file.
    fn is_regular(&self, absolute: &[u8], flags: OFlags) -> bool {
        let node = OFlags::PATH | flags.intersection(OFlags::NOFOLLOW);
        let stat = self.open_once(absolute, node, Mode::empty());
        stat.and_then(|node| self::stat(&node))
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// The directory that holds the last part of a path, for calls that act on the name itself
    /// (unlink, rename, mkdir, ...). The name is not looked at.
    ///
    /// # Errors
    /// As path resolution has them; `EBUSY` for the root itself.
    pub fn leaf(&self, from: &Arc<OwnedFd>, path: &[u8]) -> Result<Leaf, Errno> {
        let absolute = self.absolute(from, path)?;
        let end = absolute
            .iter()
            .rposition(|&byte| byte != b'/')
            .ok_or(Errno::BUSY)?;
        let start = absolute[..=end]
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |slash| slash + 1);
        let parent = if start == 0 {
            &b"."[..]
        } else {
            &absolute[..start]
        };
        Ok(Leaf {
            parent: self.open_at(&self.top, parent, OFlags::PATH | OFlags::DIRECTORY, 0)?,
            name: absolute[start..].to_vec(),
        })
    }

    /// Opens a program file; `searched` says whether a name without a slash is looked for in the
    /// program folders too.
    ///
    /// # Errors
    /// As open(2); `EACCES` for what is no regular file, `ENOEXEC` for one that is too large.
    pub fn open_program(
        &self,
        cwd: &Arc<OwnedFd>,
        name: &[u8],
        searched: bool,
    ) -> Result<std::fs::File, Errno> {
        let mut opened = self.open_at(cwd, name, OFlags::RDONLY, 0);
        if searched && !name.contains(&b'/') {
            for folder in PROGRAM_FOLDERS {
                if !matches!(opened, Err(Errno::NOENT)) {
                    break;
                }
                let path = [folder, name].concat();
                opened = self.open_at(cwd, &path, OFlags::RDONLY, 0);
            }
        }
        let file = opened?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        if stat.st_size as u64 > PROGRAM_MAX {
            return Err(Errno::NOEXEC);
        }
        Ok(file.into())
    }
}

/// A path through which the kernel finds an open file again, also one open with `O_PATH`.
pub fn proc_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn host_path(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    Ok(rustix::fs::readlinkat(CWD, proc_path(file), Vec::new())?.into_bytes())
}

/// `fstat` of what `open_at` opened with `O_PATH`.
///
/// # Errors
/// As fstat(2).
pub fn stat(file: &OwnedFd) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(file, "", AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("root");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/file"), "inside").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("../secret", top.join("up")).unwrap();
        symlink(dir.path().join("secret"), top.join("absolute")).unwrap();
        symlink("/a/file", top.join("good")).unwrap();
        let root = Root::open(&top).unwrap();
        (dir, root)
    }

    fn read(root: &Root, path: &str) -> Result<String, Errno> {
        program(root, &root.top(), path.as_bytes())
    }

    fn program(root: &Root, from: &Arc<OwnedFd>, name: &[u8]) -> Result<String, Errno> {
        let file = root.open_program(from, name, true)?;
        Ok(std::io::read_to_string(file).unwrap())
    }

    #[test]
    fn no_path_leads_out() {
        let (_dir, root) = root();
        for path in [
            "../secret",
            "/../secret",
            "a/../../secret",
            "up",
            "absolute",
            "a/b/../../../secret",
        ] {
            assert_eq!(read(&root, path), Err(Errno::NOENT), "{path}");
        }
        assert_eq!(read(&root, "good").unwrap(), "inside");
        assert_eq!(read(&root, "../../a/file").unwrap(), "inside");
    }

    #[test]
    fn relative_paths_start_where_they_should() {
        let (_dir, root) = root();
        let a = Arc::new(root.open_at(&root.top(), b"a", OFlags::PATH, 0).unwrap());
        assert_eq!(root.path_of(&a).unwrap(), b"/a");
        assert_eq!(root.path_of(&root.top()).unwrap(), b"/");
        assert_eq!(program(&root, &a, b"file").unwrap(), "inside");
        assert_eq!(program(&root, &a, b"../good").unwrap(), "inside");
        assert_eq!(program(&root, &a, b""), Err(Errno::NOENT));
        assert_eq!(program(&root, &a, &[b'x'; 5000]), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_leaf_is_a_name_in_a_directory() {
        let (_dir, root) = root();
        for (path, parent, name) in [
            ("x", "/", "x"),
            ("/x", "/", "x"),
            ("a/b/", "/a", "b/"),
            ("/a//b", "/a", "b"),
            ("a/..", "/a", ".."),
        ] {
            let leaf = root.leaf(&root.top(), path.as_bytes()).unwrap();
            assert_eq!(leaf.name, name.as_bytes(), "{path}");
            assert_eq!(
                root.path_of(&Arc::new(leaf.parent)).unwrap(),
                parent.as_bytes(),
                "{path}"
            );
        }
        assert_eq!(root.leaf(&root.top(), b"/").unwrap_err(), Errno::BUSY);
        assert_eq!(root.leaf(&root.top(), b"none/x").unwrap_err(), Errno::NOENT);
    }
}
