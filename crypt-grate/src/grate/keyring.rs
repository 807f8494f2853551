//! The keys: raw and wrapped key files, rings of them, and the passphrases they ask for.

use super::exclusion;
use super::kernel::{self, File, Inode, int, value};
use crypt_grate::storage::read_up_to;
use grate_rs::constants::{SYS_IOCTL, SYS_READ, error, fs};
use grate_rs::places::own_trail;
use grate_rs::{CageFd, Errno, getcageid, own_buffer};
use keys::key_file::{self, KeyFile};
use keys::wrapped::WrappedKey;
use keys::{KeyRing, Passphrase};
use sealed::MasterKey;
use std::ffi::CString;
use zeroize::Zeroizing;

const STANDARD_INPUT: i32 = 0;

/// The keys, and what programs are kept from because of them.
pub struct KeyFiles {
    /// The keys.
    pub ring: KeyRing,
    /// The files themselves.
    pub inodes: Vec<Inode>,
    /// All that their names lead through, directories and symlinks: who moved one of these could
    /// put another key in the place of this one.
    pub trail: Vec<Inode>,
}

/// Reads the key files, in order. The first key seals.
///
/// # Errors
/// A line that names the file and says what to do.
pub fn read(paths: &[String], passphrase_fd: Option<i32>) -> Result<KeyFiles, String> {
    let mut reader = Reader {
        ring: None,
        inodes: Vec::new(),
        trail: Vec::new(),
        passphrase_fd,
    };
    for path in paths {
        reader.add(path, true)?;
    }
    Ok(KeyFiles {
        ring: reader.ring.ok_or("no key: name a key file with --key")?,
        inodes: reader.inodes,
        trail: reader.trail,
    })
}

struct Reader {
    ring: Option<KeyRing>,
    inodes: Vec<Inode>,
    trail: Vec<Inode>,
    passphrase_fd: Option<i32>,
}

impl Reader {
    fn add(&mut self, path: &str, may_be_ring: bool) -> Result<(), String> {
        let (contents, inode) = contents(path)?;
        self.inodes.push(inode);
        let trail = own_trail(path).map_err(|errno| format!("{path}: {}", described(errno)))?;
        self.trail.extend(trail);
        let unusable = |why| {
            format!("{path}: {why}; restore it from a copy, or make a new one with `keys gen`")
        };
        let key = match key_file::parse(&contents).map_err(unusable)? {
            KeyFile::Raw(key) => key,
            KeyFile::Wrapped(wrapped) => self.unwrap(path, &wrapped)?,
            KeyFile::Ring(ring) if may_be_ring => {
                let folder = path.rfind('/').map_or("", |end| &path[..=end]);
                for name in ring.names() {
                    if name.starts_with('/') {
                        self.add(name, false)?;
                    } else {
                        self.add(&format!("{folder}{name}"), false)?;
                    }
                }
                return Ok(());
            }
            KeyFile::Ring(_) => return Err(format!("{path}: a key ring inside a key ring")),
        };
        match &mut self.ring {
            Some(ring) => {
                ring.add(path, key);
            }
            None => self.ring = Some(KeyRing::new(path, key)),
        }
        Ok(())
    }

    fn unwrap(&self, path: &str, wrapped: &WrappedKey) -> Result<MasterKey, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{path}: {why}");
        let line = match self.passphrase_fd {
            Some(fd) => {
                let unreadable = |errno: Errno| {
                    format!(
                        "{path}: cannot read the passphrase from descriptor {fd}: {}",
                        described(errno)
                    )
                };
                read_line(fd).map_err(unreadable)?
            }
            None => ask(path)?,
        };
        let passphrase = Passphrase::new(line).map_err(|why| failed(&why))?;
        wrapped.unwrap_with(&passphrase).map_err(|why| failed(&why))
    }
}

fn described(errno: Errno) -> &'static str {
    error::name(errno.0).unwrap_or("cannot be read")
}

/// All of a key file, which must be its owner's alone.
fn contents(path: &str) -> Result<(Zeroizing<Vec<u8>>, Inode), String> {
    let describe = |errno: Errno| match errno.0 {
        error::ENOENT => {
            format!("{path}: no such key file; make one with `keys gen` inside the cages' root")
        }
        _ => format!("{path}: {}", described(errno)),
    };
    let name = CString::new(path).map_err(|_| format!("{path:?}: not a file name"))?;
    let file = kernel::open_for_grate(own_buffer(name.as_ptr()), fs::O_RDONLY).map_err(describe)?;
    let stat = file.0.stat().map_err(describe)?;
    if !stat.is_regular() {
        return Err(format!("{path}: not a regular file"));
    }
    if stat.mode & 0o077 != 0 {
        return Err(format!(
            "{path}: others can read this key: chmod 600 it on the host"
        ));
    }
    // One byte more tells a file that is too long for any key file.
    let most = stat.size.min(key_file::MAX_LEN as u64 + 1) as usize;
    let mut bytes = Zeroizing::new(vec![0; most]);
    // Any file of the grate's own does, and this one is there.
    exclusion::probe(file.0);
    let read = read_up_to(&File::to_read(file.0), &mut bytes, 0)
        .map_err(|errno| describe(Errno(errno.0)))?;
    bytes.truncate(read);
    Ok((bytes, stat.inode()))
}

/// Reads up to the end of a line and no further: what follows may be the program's.
fn read_line(fd: i32) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let own = getcageid();
    let mut line = Zeroizing::new(Vec::with_capacity(Passphrase::MAX_LEN + 1));
    let mut byte = [0u8];
    while line.len() <= Passphrase::MAX_LEN {
        let args = [int(own, fd), own_buffer(byte.as_mut_ptr()), value(own, 1)];
        if kernel::call(SYS_READ, own, &args)? == 0 || byte == [b'\n'] {
            break;
        }
        line.push(byte[0]);
    }
    Ok(line)
}

/// Asks at the terminal, without an echo.
fn ask(path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let Ok(terminal) = Terminal::quiet() else {
        return Err(format!(
            "{path}: wrapped by a passphrase, and standard input is no terminal to ask at; give it \
             with --passphrase-fd, 0 for the first line of standard input"
        ));
    };
    eprint!("passphrase for {path}: ");
    let line = read_line(STANDARD_INPUT).map_err(|errno| format!("{path}: {}", described(errno)));
    drop(terminal);
    eprintln!();
    line
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Terminal([u8; Terminal::LEN]);

impl Terminal {
    /// Bytes of the kernel's `struct termios`; its local flags are the fourth word.
    const LEN: usize = 36;
    const LOCAL_FLAGS_AT: usize = 12;
    const ECHO: u8 = 0o10;

    fn quiet() -> Result<Self, Errno> {
        let mut before = [0; Self::LEN];
        Self::request(fs::TCGETS, &mut before)?;
        let mut quiet = before;
        quiet[Self::LOCAL_FLAGS_AT] &= !Self::ECHO;
        Self::request(fs::TCSETS, &mut quiet)?;
        Ok(Self(before))
    }

    fn request(request: u64, termios: &mut [u8; Self::LEN]) -> Result<(), Errno> {
        let own = getcageid();
        let input = CageFd {
            cage: own,
            fd: STANDARD_INPUT,
        };
        let args = [
            input.arg(),
            value(own, request),
            own_buffer(termios.as_mut_ptr()),
        ];
        kernel::call(SYS_IOCTL, own, &args).map(drop)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal was there a moment ago; if it is gone, so is its state.
        let _ = Self::request(fs::TCSETS, &mut self.0);
    }
}
