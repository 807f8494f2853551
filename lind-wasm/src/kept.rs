//! What large artifacts hold, kept for later runs, which map it without reading or hashing it.
//!
//! It lies in the folder `code` beside the artifact key, where programs can't reach it: a file for
//! each artifact, named by the artifact's tag, written whole or not at all, and only once its hash
//! was right. Who can change a file there could as well read the key and make artifacts of his own,
//! so that such a file is trusted as the key is. Whatever is not as it was made here (its owner,
//! mode, length, a second name, a symlink in its place) is not used, and goes.
//!
//! Nothing here is an error: where a file can't be kept the artifact is read anew by each run.

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, Stat, StatVfsMountFlags,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fs::{File, FileTimes};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The folder's name.
pub const FOLDER: &str = "code";
/// Fewest bytes that are worth a file: fewer are read and hashed in a millisecond.
const LEAST: u64 = 1 << 20;
/// Most bytes that are kept; those that were not used for the longest time go first.
const MOST: u64 = 2 << 30;
/// How long a use stays unsaid in a file's time, so that not every run writes to the disk.
const NOTED_AGAIN: Duration = Duration::from_secs(3600);
/// Mode of a file.
const MODE: u32 = 0o400;

/// Where files are kept.
#[derive(Debug)]
pub struct Kept {
    /// The folder of the artifact key.
    data: PathBuf,
    least: u64,
    most: u64,
}

/// A file that has no name yet, to be written.
#[derive(Debug)]
pub struct Draft {
    folder: OwnedFd,
    /// Its bytes.
    pub file: File,
}

/// Whether a file is the user's own, with none of these bits in its mode.
pub fn is_own(stat: &Stat, mode: u32) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & mode == 0
}

impl Kept {
    /// Beside the artifact key in that folder, of which no part is a symlink.
    pub fn beside_key(data: PathBuf) -> Self {
        Self {
            data,
            least: LEAST,
            most: MOST,
        }
    }

    /// The file of that name, if it is there as it was made, with that length.
    pub fn find(&self, name: &str, len: u64) -> Option<File> {
        if len < self.least {
            return None;
        }
        let folder = self.folder()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) if is_as_made(&file, len) => {
                let file = File::from(file);
                note_use(&file);
                return Some(file);
            }
            // It would stand in the way of a good one.
            Ok(_) | Err(Errno::LOOP | Errno::ACCESS | Errno::NXIO) => {
                let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
            }
            Err(_) => {}
        }
        None
    }

    /// A file to be kept, if there is room for `len` bytes.
    pub fn draft(&self, len: u64) -> Option<Draft> {
        let limit = getrlimit(Resource::Fsize).current;
        // Beyond the limit writing is a signal.
        if len < self.least || len > self.most || limit.is_some_and(|limit| len > limit) {
            return None;
        }
        let made = rustix::fs::mkdirat(CWD, self.data.join(FOLDER), Mode::RWXU);
        if !matches!(made, Ok(()) | Err(Errno::EXIST)) {
            return None;
        }
        let folder = self.folder()?;
        let disk = rustix::fs::fstatvfs(&folder).ok()?;
        // As much again stays free for others.
        if disk.f_bavail.saturating_mul(disk.f_frsize) / 2 < len {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(MODE);
        let file = File::from(rustix::fs::openat(&folder, ".", flags, mode).ok()?);
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Some(Draft { folder, file }),
            Err(_) => None,
        }
    }

    /// Keeps what was written, of which every byte was checked, for the runs to come. It can be
    /// mapped in any case.
    pub fn keep(&self, draft: Draft, name: &str) -> File {
        let Draft { folder, file } = draft;
        // A name that is there after a power cut is one of all of it.
        let kept = file.sync_data().and_then(|()| {
            self.make_room(&folder, file.metadata()?.len())?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, path, &folder, name, AtFlags::SYMLINK_FOLLOW)?;
            Ok(())
        });
        // Another run may have kept it first; and if it can't be kept it goes with this run.
        drop(kept);
        file
    }

    /// Lets go of what turned out to be of no use.
    pub fn forget(&self, name: &str) {
        if let Some(folder) = self.folder() {
            let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
        }
    }

    /// The folder, if nobody else can change what is in it, and code may be mapped from there.
    fn folder(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.data.join(FOLDER);
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
        let is_closed = is_own(&rustix::fs::fstat(&folder).ok()?, 0o077);
        let mount = rustix::fs::fstatvfs(&folder).ok()?.f_flag;
        (is_closed && !mount.contains(StatVfsMountFlags::NOEXEC)).then_some(folder)
    }

    /// Removes the files that were not used for the longest time, until `len` bytes more are not
    /// too many.
    fn make_room(&self, folder: &OwnedFd, len: u64) -> std::io::Result<()> {
        let mut files = Vec::new();
        let mut all = len;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let stat = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            if let (Ok(stat), true) = (stat, is_name(entry.file_name().to_bytes())) {
                all = all.saturating_add(stat.st_size as u64);
                let used = (stat.st_mtime, stat.st_mtime_nsec);
                files.push((used, stat.st_size as u64, entry.file_name().to_owned()));
            }
        }
        files.sort_unstable();
        for (_, size, name) in files {
            if all <= self.most {
                break;
            }
            // Another run may be doing the same.
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            all -= size;
        }
        Ok(())
    }
}

/// Whether a name is one that files have here: other files are not touched.
fn is_name(name: &[u8]) -> bool {
    name.len() == 2 * blake3::OUT_LEN && name.iter().all(u8::is_ascii_hexdigit)
}

fn is_as_made(file: &OwnedFd, len: u64) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else {
        return false;
    };
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && is_own(&stat, 0o7777 & !MODE)
        && stat.st_mode & MODE == MODE
        // By another name it could be changed from where this folder's mode keeps nobody out.
        && stat.st_nlink == 1
        && stat.st_size as u64 == len
}

fn note_use(file: &File) {
    let now = SystemTime::now();
    let is_recent = |noted: SystemTime| now.duration_since(noted).is_ok_and(|t| t < NOTED_AGAIN);
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    if !noted.is_ok_and(is_recent) {
        // It may go too early then, and be made again.
        let _ = file.set_times(FileTimes::new().set_modified(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;
    use tempfile::TempDir;

    const NAME: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn kept(most: u64) -> (Kept, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().canonicalize().unwrap();
        (
            Kept {
                data,
                least: 4,
                most,
            },
            folder,
        )
    }

    fn name(of: usize) -> String {
        format!("{of:064x}")
    }

    fn keep(kept: &Kept, name: &str, bytes: &[u8]) {
        let mut draft = kept.draft(bytes.len() as u64).expect("a draft");
        draft.file.write_all(bytes).unwrap();
        kept.keep(draft, name);
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_found_as_it_was_kept_and_no_other() {
        let (kept, folder) = kept(100);
        let path = folder.path().join(FOLDER).join(NAME);
        let elsewhere = folder.path().join("elsewhere");
        assert!(kept.find(NAME, 7).is_none());
        type Damage = (&'static str, fn(&Path, &Path));
        let damages: [Damage; 8] = [
            ("cut", |path, _| {
                set_mode(path, 0o600);
                fs::write(path, b"native").unwrap();
                set_mode(path, MODE);
            }),
            ("writable", |path, _| set_mode(path, 0o600)),
            ("readable for others", |path, _| set_mode(path, 0o444)),
            ("set-user-id", |path, _| set_mode(path, 0o4400)),
            ("another name", |path, other| {
                fs::hard_link(path, other).unwrap()
            }),
            ("a symlink", |path, other| {
                fs::rename(path, other).unwrap();
                symlink(other, path).unwrap();
            }),
            ("a pipe", |path, _| {
                fs::remove_file(path).unwrap();
                let mode = Mode::from_raw_mode(MODE);
                rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
            }),
            ("longer", |path, _| {
                set_mode(path, 0o600);
                fs::write(path, b"native code").unwrap();
                set_mode(path, MODE);
            }),
        ];
        for (what, damage) in damages {
            keep(&kept, NAME, b"natives");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
            let mut bytes = String::new();
            let mut found = kept.find(NAME, 7).expect(what);
            found.read_to_string(&mut bytes).unwrap();
            assert_eq!(bytes, "natives", "{what}");
            damage(&path, &elsewhere);
            assert!(kept.find(NAME, 7).is_none(), "{what}");
            // What it was is left alone, and makes room for a good one.
            assert!(fs::symlink_metadata(&path).is_err(), "{what}");
            let _ = fs::remove_file(&elsewhere);
        }
    }

    #[test]
    fn a_folder_that_others_reach_is_not_used() {
        let (kept, folder) = kept(100);
        keep(&kept, NAME, b"natives");
        let code = folder.path().join(FOLDER);
        for mode in [0o770, 0o707, 0o750, 0o701] {
            set_mode(&code, mode);
            assert!(kept.find(NAME, 7).is_none(), "{mode:o}");
            assert!(kept.draft(7).is_none(), "{mode:o}");
        }
        set_mode(&code, 0o700);
        assert!(kept.find(NAME, 7).is_some());
        let moved = folder.path().join("moved");
        fs::rename(&code, &moved).unwrap();
        symlink(&moved, &code).unwrap();
        assert!(kept.find(NAME, 7).is_none());
        assert!(kept.draft(7).is_none());
        fs::remove_file(&code).unwrap();
        fs::write(&code, "a file").unwrap();
        assert!(kept.draft(7).is_none());
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_and_nothing_else() {
        let (kept, folder) = kept(10);
        let code = folder.path().join(FOLDER);
        assert!(kept.draft(11).is_none(), "larger than all may be");
        keep(&kept, &name(0), b"0000");
        for other in ["notes", "0123", &"z".repeat(64)] {
            fs::write(code.join(other), [0; 100]).unwrap();
        }
        let long_ago = SystemTime::now() - 100 * NOTED_AGAIN;
        let made = |of: usize, ago: u32| {
            let file = File::open(code.join(name(of))).unwrap();
            let times = FileTimes::new().set_modified(long_ago - ago * NOTED_AGAIN);
            file.set_times(times).unwrap();
        };
        made(0, 2);
        keep(&kept, &name(1), b"1111");
        made(1, 1);
        // The older one is used again.
        assert!(kept.find(&name(0), 4).is_some());
        keep(&kept, &name(2), b"2222");
        assert!(kept.find(&name(1), 4).is_none());
        assert!(kept.find(&name(0), 4).is_some());
        assert!(kept.find(&name(2), 4).is_some());
        assert_eq!(fs::read_dir(&code).unwrap().count(), 5);
    }

    #[test]
    fn two_that_keep_the_same_at_once_both_go_on() {
        let (kept, folder) = kept(100);
        let mut drafts = [kept.draft(7).unwrap(), kept.draft(7).unwrap()];
        for draft in &mut drafts {
            draft.file.write_all(b"natives").unwrap();
        }
        for draft in drafts {
            assert_eq!(kept.keep(draft, NAME).metadata().unwrap().len(), 7);
            assert!(kept.find(NAME, 7).is_some());
        }
        // What was begun and not kept leaves nothing.
        drop(kept.draft(7));
        assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 1);
        kept.forget(NAME);
        assert!(kept.find(NAME, 7).is_none());
        // A few bytes are not worth it.
        assert!(kept.draft(3).is_none());
    }
}
