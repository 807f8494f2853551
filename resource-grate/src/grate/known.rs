//! What is known of a descriptor: what it leads to, and what it counts as.

use super::{lives, state};
use grate_rs::constants::net::{AF_INET, AF_INET6, AF_UNIX, SO_TYPE, SOCK_STREAM, SOL_SOCKET};
use grate_rs::constants::{SYS_GETPEERNAME, SYS_GETSOCKNAME, SYS_GETSOCKOPT, error, fs};
use grate_rs::kernel::{self, Stat, int};
use grate_rs::{CageFd, Errno, Held, own_buffer};
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
        let mut kind = [0; 4];
        let mut len = 4u32.to_le_bytes();
        let args = [
            fd.arg(),
            int(fd.cage, SOL_SOCKET),
            int(fd.cage, SO_TYPE),
            own_buffer(kind.as_mut_ptr()),
            own_buffer(len.as_mut_ptr()),
        ];
        kernel::call(SYS_GETSOCKOPT, fd.cage, &args)?;
        let name = name(fd)?;
        let family = name.first_chunk().map_or(0, |f| u16::from_le_bytes(*f));
        Ok(Self::new(family.into(), i32::from_le_bytes(kind)))
    }
}

/// Longest address of a socket.
pub const MOST_ADDRESS: usize = 128;

/// A socket's own address.
///
/// # Errors
/// As getsockname(2).
pub fn name(fd: CageFd) -> Result<Vec<u8>, Errno> {
    ask(SYS_GETSOCKNAME, fd)
}

/// The address of a socket's peer.
///
/// # Errors
/// As getpeername(2).
pub fn peer(fd: CageFd) -> Result<Vec<u8>, Errno> {
    ask(SYS_GETPEERNAME, fd)
}

fn ask(nr: u64, fd: CageFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; MOST_ADDRESS];
    let mut len = (MOST_ADDRESS as u32).to_le_bytes();
    let args = [
        fd.arg(),
        own_buffer(bytes.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    kernel::call(nr, fd.cage, &args)?;
    bytes.truncate(u32::from_le_bytes(len) as usize);
    Ok(bytes)
}

/// An address as the kernel has it, if it is an IPv4 or IPv6 one.
pub fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_le_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        AF_INET => {
            let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some((ip, port).into())
        }
        AF_INET6 => {
            let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            Some((ip, port).into())
        }
        _ => None,
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
