//! Descriptors that nobody has seen opened: what the program was started with, and what is used
//! before the call that opened it is over.

use super::kernel::{self, File, int};
use super::net;
use super::state::{OpenFile, Opened, State, lock};
use crypt_grate::sealed_file::Content;
use grate_rs::constants::{SYS_FCNTL, error, fs};
use grate_rs::{CageFd, Errno};
use std::sync::Arc;

const EACCES: Errno = Errno(error::EACCES);

/// What a descriptor is. A regular file that may be written is a sealed one, or closed: in the
/// clear nothing gets into a file that was not opened as one that stays so.
///
/// # Errors
/// EBADF where there is none; EACCES for a key file.
pub fn find_out(state: &State, fd: CageFd) -> Result<Opened, Errno> {
    let stat = fd.stat()?;
    state.check_key(stat.inode())?;
    if stat.mode & fs::S_IFMT == fs::S_IFSOCK {
        return state.found_socket(fd);
    }
    let flags = flags_of(fd)?;
    if !stat.is_regular() || flags & fs::O_PATH != 0 || flags & fs::O_ACCMODE == fs::O_RDONLY {
        return Ok(Opened::PLAIN);
    }
    if flags & fs::O_ACCMODE == fs::O_RDWR && flags & fs::O_APPEND == 0 {
        let file = state.file(stat.inode());
        let content = lock(&file).identify(&File::to_write(fd), state.keys());
        let is_sealed = match content {
            Ok(Content::Sealed) => true,
            Ok(Content::Empty) => state.subtrees.is_everything(),
            _ => false,
        };
        if is_sealed {
            return Ok(Opened::File(Arc::new(OpenFile::new(file, flags))));
        }
    }
    state.explain(format_args!(
        "cage {}, descriptor {}: a file that was not seen opened is not written to",
        fd.cage, fd.fd
    ));
    Ok(Opened::Closed)
}

fn flags_of(fd: CageFd) -> Result<i32, Errno> {
    let args = [fd.arg(), int(fd.cage, fs::F_GETFL), int(fd.cage, 0)];
    kernel::call(SYS_FCNTL, fd.cage, &args)
}

/// Descriptors that the program may have been started with.
const INHERITED: std::ops::Range<i32> = 0..64;

impl State {
    /// Looks at what the program is started with. Where the user has sent its streams is the
    /// user's choice, but for a sealed file, which would be one no longer, and the key; a socket
    /// that listens may have been handed to it.
    pub fn note_inherited(&self, cage: u64) {
        for fd in INHERITED {
            let fd = CageFd { cage, fd };
            match self.inherited(fd) {
                Ok(opened) => self.descriptors.note(fd, Some(opened)),
                Err(Errno(error::EBADF)) => {}
                // What can't be told or sealed is not for the program.
                Err(_) => fd.close(),
            }
        }
    }

    fn inherited(&self, fd: CageFd) -> Result<Opened, Errno> {
        let stat = fd.stat()?;
        self.check_key(stat.inode())?;
        if stat.mode & fs::S_IFMT == fs::S_IFSOCK {
            return self.found_socket(fd);
        }
        let flags = flags_of(fd)?;
        if stat.is_regular() && flags & fs::O_ACCMODE == fs::O_RDWR {
            let content = lock(&self.file(stat.inode())).identify(&File::to_read(fd), self.keys());
            if content != Ok(Content::Plain) && content != Ok(Content::Empty) {
                return Ok(Opened::Closed);
            }
        }
        Ok(Opened::PLAIN)
    }

    /// A socket that nobody has seen made.
    fn found_socket(&self, fd: CageFd) -> Result<Opened, Errno> {
        if !self.network.is_sealed() || !net::is_internet(fd) {
            return Ok(Opened::PLAIN);
        }
        net::found(self, fd).map_err(|_| EACCES)
    }
}
