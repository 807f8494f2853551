//! What is known of a descriptor: what it leads to, and what it counts as.

use super::{lives, state};
use grate_rs::constants::net::{AF_UNIX, SO_TYPE, SOCK_STREAM, SOL_SOCKET};
use grate_rs::constants::{error, fs};
use grate_rs::kernel::Stat;
use grate_rs::{CageFd, Errno, Held, sockets};
use resource_grate::limits::Count;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// What is neither that nor a socket: a pipe, a device, a directory.
    Other,
    /// A standard stream that the program was started with.
    Standard,
    /// A socket.
    Socket(Socket),
}

/// What kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Whether it sends messages, which are not cut.
    pub is_message: bool,
    /// Whether it is a UNIX socket, which has no ports.
    pub is_unix: bool,
}

/// What is known of a descriptor.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it leads to.
    pub kind: Kind,
    /// What it counts as, where that is limited. A child's copy is the same.
    permit: Option<Arc<Permit>>,
}

impl Known {
    /// What is known of a descriptor that has this permit.
    pub fn new(kind: Kind, permit: Option<Permit>) -> Self {
        Self {
            kind,
            permit: permit.map(Arc::new),
        }
    }

    /// What it is counted as, if it is.
    pub fn counts_as(&self) -> Option<Count> {
        self.permit.as_ref().map(|permit| permit.0)
    }
}

/// One of so many that there may be.
#[derive(Debug)]
pub struct Permit(Count);

impl Permit {
    /// Takes one; `None` where there is no limit.
    ///
    /// # Errors
    /// `EMFILE`, or `EAGAIN` for a thread.
    pub fn take(count: Count) -> Result<Option<Self>, Errno> {
        let Some(counter) = state().counter(count) else {
            return Ok(None);
        };
        if counter.take() {
            return Ok(Some(Self(count)));
        }
        // Those that were killed have given nothing back.
        lives::forget_gone();
        if counter.take() {
            return Ok(Some(Self(count)));
        }
        Err(Errno(match count {
            Count::Events => error::EAGAIN,
            _ => error::EMFILE,
        }))
    }

    /// Takes one that comes in place of another.
    pub fn take_anyway(count: Count) -> Option<Self> {
        state().counter(count)?.take_anyway();
        Some(Self(count))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(counter) = state().counter(self.0) {
            counter.give();
        }
    }
}

/// What the descriptors of that kind count as.
pub fn count_of(kind: Kind) -> Count {
    match kind {
        Kind::Socket(_) => Count::OutSockets,
        _ => Count::FilesOpened,
    }
}

/// Keeps a descriptor what it is, and says what it leads to. One that came by an unknown way is
/// looked at.
///
/// # Errors
/// `EBADF`, and as [`grate_rs::Descriptors::hold`].
pub fn hold(fd: CageFd) -> Result<(Held<'static, Known>, Kind), Errno> {
    let mut held = state().known.hold(fd)?;
    if let Some(known) = held.what() {
        let kind = known.kind;
        return Ok((held, kind));
    }
    let kind = look(fd)?;
    held.learn(Known::new(kind, None));
    let kind = held.what().map_or(kind, |known| known.kind);
    Ok((held, kind))
}

/// What a descriptor leads to.
///
/// # Errors
/// As fstat(2).
pub fn look(fd: CageFd) -> Result<Kind, Errno> {
    let stat = fd.stat()?;
    Ok(match stat.mode & fs::S_IFMT {
        fs::S_IFSOCK => Kind::Socket(Socket::look(fd)?),
        _ => file(&stat),
    })
}

/// What kind of file, if not a socket.
pub fn file(stat: &Stat) -> Kind {
    if stat.is_regular() {
        Kind::Regular
    } else {
        Kind::Other
    }
}

impl Socket {
    /// Of that family and type.
    pub fn new(family: i32, kind: i32) -> Self {
        Self {
            is_message: kind != SOCK_STREAM,
            is_unix: family == i32::from(AF_UNIX),
        }
    }

    fn look(fd: CageFd) -> Result<Self, Errno> {
        let kind = sockets::option(fd, SOL_SOCKET, SO_TYPE)?;
        let family = sockets::family(&sockets::own_name(fd)?).unwrap_or_default();
        Ok(Self::new(family.into(), kind))
    }
}

/// Whether an address is one of this machine's, by what it says.
pub fn is_loopback(address: SocketAddr) -> bool {
    let ip = match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    // Nobody's address means one's own to connect.
    ip.is_loopback() || ip.is_unspecified()
}
