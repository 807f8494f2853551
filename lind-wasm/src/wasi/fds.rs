//! Descriptors: how WASI's numbers relate to the cage's, the preopened root, and what a
//! descriptor says of itself.
//!
//! Numbers are the same on both sides but for one pair. WASI programs look for preopened
//! directories from 3 upwards, so the root has to be their 3, or the first number after the
//! listening sockets that the run hands out, which are looked for from 3 too. A program may have
//! inherited a descriptor of that number: then the two change places.

use super::abi::{Errno, Failure, FileType, Outcome, fdflags, linux, nr, rights};
use super::context::Context;
use crate::image::Preopen;
use std::sync::{MutexGuard, PoisonError};

const ROOT_NAME: &[u8] = b"/";
/// Standard streams are below this, and never the root.
const FIRST_FILE: i32 = 3;
/// Kind of a preopen that is no directory. WASI has no number for one; a program that looks for
/// directories passes over it.
const NO_DIRECTORY: u8 = 1;

/// How its number relates to the cage's.
impl Preopen {
    /// The cage's number for WASI's, and the other way round, where WASI's number of the root is
    /// `number`.
    fn exchange(&self, number: i32, fd: i32) -> i32 {
        let root = match *self {
            Preopen::Pending => number,
            Preopen::Open(fd) | Preopen::Gone(fd) => fd,
        };
        if fd == number {
            root
        } else if fd == root {
            number
        } else {
            fd
        }
    }
}

impl Context<'_> {
    /// The preopened root, which all threads have in common.
    fn preopen(&self) -> MutexGuard<'_, Preopen> {
        let preopen = &self.caller.data().image.preopen;
        preopen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// WASI's number of the preopened root.
    fn root(&self) -> i32 {
        FIRST_FILE + self.caller.data().rt.listeners() as i32
    }

    fn exchange(&mut self, fd: i32) -> i32 {
        let root = self.root();
        self.preopen().exchange(root, fd)
    }

    /// The cage's descriptor for WASI's.
    ///
    /// # Errors
    /// `EBADF` for a number that none can have. (As an `int`, one of those is `AT_FDCWD`.)
    pub fn fd(&mut self, fd: u32) -> Outcome<u64> {
        let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
        // Opened late, so that a program that only uses its standard streams makes no call more.
        if fd >= FIRST_FILE && matches!(*self.preopen(), Preopen::Pending) {
            self.open_root()?;
        }
        Ok(self.exchange(fd) as u64)
    }

    fn open_root(&mut self) -> Outcome<()> {
        let path = self.stage_string(ROOT_NAME)?;
        let flags = linux::O_RDONLY | linux::O_DIRECTORY;
        let opened = self.call(
            nr::OPENAT,
            [linux::AT_FDCWD as u64, path, u64::from(flags), 0],
        );
        let opened = match opened {
            Ok(fd) => Preopen::Open(fd as i32),
            Err(Failure::Errno(_)) => Preopen::Gone(self.root()),
            Err(stop) => return Err(stop),
        };
        let mut preopen = self.preopen();
        if matches!(*preopen, Preopen::Pending) {
            *preopen = opened;
            return Ok(());
        }
        // Another thread was as late, and came before.
        drop(preopen);
        if let Preopen::Open(fd) = opened {
            self.call(nr::CLOSE, [fd as u64])?;
        }
        Ok(())
    }

    /// WASI's descriptor for a new one of the cage.
    pub fn new_fd(&mut self, fd: u32) -> u32 {
        self.exchange(fd as i32) as u32
    }

    /// Whether this descriptor of WASI's is the preopened root.
    pub fn is_root(&mut self, fd: u32) -> bool {
        fd == self.root() as u32 && matches!(*self.preopen(), Preopen::Open(_))
    }

    /// Notes that the root's number means something else from now on, or nothing.
    fn forget_root(&mut self, fd: u32) {
        let number = self.root() as u32;
        let mut preopen = self.preopen();
        if let Preopen::Open(root) = *preopen
            && fd == number
        {
            *preopen = Preopen::Gone(root);
        }
    }

    /// The root, if this descriptor is it.
    ///
    /// # Errors
    /// `EBADF` for every other descriptor, open or not: it ends a program's search.
    fn require_root(&mut self, fd: u32) -> Outcome<()> {
        self.fd(fd)?;
        if self.is_root(fd) {
            Ok(())
        } else {
            Err(Errno::BADF.into())
        }
    }

    fn open_flags(&mut self, fd: u64) -> Outcome<u32> {
        self.call(nr::FCNTL, [fd, linux::F_GETFL])
    }

    /// Type, flags of open, and rights.
    fn describe(&mut self, fd: u64) -> Outcome<(FileType, u32, (u64, u64))> {
        let flags = self.open_flags(fd)?;
        let mut file = self.stat(fd)?.file_type();
        if file == FileType::Socket && self.is_datagram(fd)? {
            file = FileType::DatagramSocket;
        }
        let (mut base, inheriting) = rights::of(file, flags);
        if file == FileType::CharacterDevice && self.is_terminal(fd)? {
            // How libc's isatty tells a terminal.
            base &= !(rights::FD_SEEK | rights::FD_TELL);
        }
        Ok((file, flags, (base, inheriting)))
    }

    fn is_datagram(&mut self, fd: u64) -> Outcome<bool> {
        let kind = self.stage(&[0; 4])?;
        let len = self.stage(&4u32.to_le_bytes())?;
        self.call(
            nr::GETSOCKOPT,
            [fd, linux::SOL_SOCKET, linux::SO_TYPE, kind, len],
        )?;
        Ok(u32::from_le_bytes(self.staged(kind)?) == linux::SOCK_DGRAM)
    }

    fn is_terminal(&mut self, fd: u64) -> Outcome<bool> {
        let winsize = self.reserve(8)?;
        match self.call(nr::IOCTL, [fd, linux::TIOCGWINSZ, winsize]) {
            Ok(_) => Ok(true),
            Err(Failure::Errno(_)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }
}

/// Closes a descriptor.
pub fn fd_close(cx: &mut Context<'_>, fd: u32) -> Outcome<()> {
    let own = cx.fd(fd)?;
    cx.call(nr::CLOSE, [own])?;
    cx.forget_root(fd);
    Ok(())
}

/// Moves a descriptor to the number of another one, which is closed.
pub fn fd_renumber(cx: &mut Context<'_>, from: u32, to: u32) -> Outcome<()> {
    let (old, new) = (cx.fd(from)?, cx.fd(to)?);
    for fd in [old, new] {
        cx.call(nr::FCNTL, [fd, linux::F_GETFD])?;
    }
    if old == new {
        return Ok(());
    }
    cx.call(nr::DUP2, [old, new])?;
    // A directory that has moved is not found by a search for preopens any more.
    cx.forget_root(to);
    cx.call(nr::CLOSE, [old])?;
    cx.forget_root(from);
    Ok(())
}

/// Type, flags and rights. Rights are not kept anywhere: they are what type and access mode allow.
pub fn fd_fdstat_get(cx: &mut Context<'_>, fd: u32, stat: u32) -> Outcome<()> {
    let own = cx.fd(fd)?;
    let (file, flags, (base, inheriting)) = cx.describe(own)?;
    let mut out = [0; 24];
    out[0] = file as u8;
    out[2..4].copy_from_slice(&fdflags::from_linux(flags).to_le_bytes());
    out[8..16].copy_from_slice(&base.to_le_bytes());
    out[16..].copy_from_slice(&inheriting.to_le_bytes());
    cx.put(stat, &out)
}

/// Changes the flags that can be changed; asking for another kind of sync is an error.
pub fn fd_fdstat_set_flags(cx: &mut Context<'_>, fd: u32, flags: u32) -> Outcome<()> {
    let flags = fdflags::to_linux(flags).ok_or(Errno::INVAL)?;
    let own = cx.fd(fd)?;
    let now = cx.open_flags(own)?;
    if (now ^ flags) & linux::O_SYNC != 0 {
        return Err(Errno::NOTSUP.into());
    }
    cx.call(nr::FCNTL, [own, linux::F_SETFL, u64::from(flags)])?;
    Ok(())
}

/// Refused for every descriptor: no right can be given up, and a program that believes it has
/// would be mistaken.
pub fn fd_fdstat_set_rights(
    cx: &mut Context<'_>,
    fd: u32,
    _base: u64,
    _inheriting: u64,
) -> Outcome<()> {
    let own = cx.fd(fd)?;
    cx.call(nr::FCNTL, [own, linux::F_GETFD])?;
    Err(Errno::NOTSUP.into())
}

/// Kind of a preopen, and the length of its name.
pub fn fd_prestat_get(cx: &mut Context<'_>, fd: u32, prestat: u32) -> Outcome<()> {
    let mut out = [0; 8];
    if (FIRST_FILE..cx.root()).contains(&(fd as i32)) {
        out[0] = NO_DIRECTORY;
        return cx.put(prestat, &out);
    }
    cx.require_root(fd)?;
    out[4] = ROOT_NAME.len() as u8;
    cx.put(prestat, &out)
}

/// Name of a preopen.
pub fn fd_prestat_dir_name(cx: &mut Context<'_>, fd: u32, path: u32, len: u32) -> Outcome<()> {
    cx.require_root(fd)?;
    if (len as usize) < ROOT_NAME.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    cx.put(path, ROOT_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_its_number_and_none_is_lost() {
        for number in [3, 5] {
            for preopen in [
                Preopen::Pending,
                Preopen::Open(3),
                Preopen::Open(7),
                Preopen::Gone(0),
            ] {
                let exchange = |fd| preopen.exchange(number, fd);
                let mut seen: Vec<i32> = (0..10).map(exchange).collect();
                for fd in 0..10 {
                    assert_eq!(exchange(exchange(fd)), fd);
                }
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..10));
            }
            assert_eq!(Preopen::Open(7).exchange(number, number), 7);
            assert_eq!(Preopen::Open(7).exchange(number, 7), number);
        }
    }
}
