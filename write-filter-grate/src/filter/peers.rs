//! Who is at the other end of a socket.

use grate_rs::constants::net::{AF_INET, AF_INET6, AF_UNIX};
use grate_rs::constants::{SYS_GETPEERNAME, SYS_GETSOCKNAME};
use grate_rs::kernel;
use grate_rs::{CageFd, own_buffer};
use std::net::SocketAddr;

/// Longest address.
pub const MOST_ADDRESS: usize = 128;

/// An address as the kernel writes it, if it is an IPv4 or IPv6 one.
pub fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    if family(bytes)? == AF_INET {
        let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
        return Some((ip, port).into());
    }
    if family(bytes)? == AF_INET6 {
        let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
        return Some((ip, port).into());
    }
    None
}

fn family(bytes: &[u8]) -> Option<u16> {
    bytes
        .first_chunk()
        .map(|family| u16::from_le_bytes(*family))
}

/// Whether it is a UNIX socket.
pub fn is_unix(fd: CageFd) -> bool {
    let own = ask(SYS_GETSOCKNAME, fd);
    own.as_deref().and_then(family) == Some(AF_UNIX)
}

/// Whether it is a socket that has a peer.
pub fn is_connected(fd: CageFd) -> bool {
    ask(SYS_GETPEERNAME, fd).is_some()
}

/// The peer of a socket that is connected by IPv4 or IPv6.
pub fn peer(fd: CageFd) -> Option<SocketAddr> {
    address(&ask(SYS_GETPEERNAME, fd)?)
}

fn ask(nr: u64, fd: CageFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MOST_ADDRESS];
    let mut len = (MOST_ADDRESS as u32).to_le_bytes();
    let args = [
        fd.arg(),
        own_buffer(bytes.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    kernel::call(nr, fd.cage, &args).ok()?;
    bytes.truncate(u32::from_le_bytes(len) as usize);
    Some(bytes)
}
