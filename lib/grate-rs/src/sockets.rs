//! What a grate asks of a socket, and what an address says.

use crate::constants::net::{AF_INET, AF_INET6, AF_UNSPEC, SO_TYPE, SOCK_STREAM, SOL_SOCKET};
use crate::constants::{SYS_GETPEERNAME, SYS_GETSOCKNAME, SYS_GETSOCKOPT};
use crate::kernel::{self, int};
use crate::message::MOST_NAME;
use crate::{CageFd, Errno, own_buffer};
use std::net::SocketAddr;

/// Its own address.
///
/// # Errors
/// As getsockname(2).
pub fn own_name(fd: CageFd) -> Result<Vec<u8>, Errno> {
    name(SYS_GETSOCKNAME, fd)
}

/// The address of its peer.
///
/// # Errors
/// As getpeername(2).
pub fn peer_name(fd: CageFd) -> Result<Vec<u8>, Errno> {
    name(SYS_GETPEERNAME, fd)
}

fn name(nr: u64, fd: CageFd) -> Result<Vec<u8>, Errno> {
    let mut name = vec![0; MOST_NAME];
    let mut len = (MOST_NAME as u32).to_le_bytes();
    let args = [
        fd.arg(),
        own_buffer(name.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    kernel::call(nr, fd.cage, &args)?;
    name.truncate(u32::from_le_bytes(len) as usize);
    Ok(name)
}

/// An option that is an `int`.
///
/// # Errors
/// As getsockopt(2).
pub fn option(fd: CageFd, level: i32, name: i32) -> Result<i32, Errno> {
    option_bytes(fd, level, name).map(i32::from_le_bytes)
}

/// An option of so many bytes; those that the kernel does not fill are zeros.
///
/// # Errors
/// As getsockopt(2).
pub fn option_bytes<const N: usize>(fd: CageFd, level: i32, name: i32) -> Result<[u8; N], Errno> {
    let (mut bytes, mut len) = ([0; N], (N as u32).to_le_bytes());
    let args = [
        fd.arg(),
        int(fd.cage, level),
        int(fd.cage, name),
        own_buffer(bytes.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    kernel::call(SYS_GETSOCKOPT, fd.cage, &args)?;
    Ok(bytes)
}

/// Whether it is a stream.
///
/// # Errors
/// As getsockopt(2).
pub fn is_stream(fd: CageFd) -> Result<bool, Errno> {
    Ok(option(fd, SOL_SOCKET, SO_TYPE)? == SOCK_STREAM)
}

/// The family of an address as the kernel has it.
pub fn family(name: &[u8]) -> Option<u16> {
    name.first_chunk().map(|family| u16::from_le_bytes(*family))
}

/// An address as the kernel has it, if it is an IPv4 or IPv6 one.
pub fn address(name: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family(name)? {
        AF_INET => {
            let ip: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some((ip, port).into())
        }
        AF_INET6 => {
            let ip: [u8; 16] = *name.get(8..)?.first_chunk()?;
            Some((ip, port).into())
        }
        _ => None,
    }
}

/// The port of an IPv4 or IPv6 address; also of one without a family, which the kernel takes for IPv4 where it binds and
/// sends.
pub fn port(name: &[u8]) -> Option<u16> {
    let port = name.get(2..)?.first_chunk()?;
    matches!(family(name)?, AF_INET | AF_INET6 | AF_UNSPEC).then(|| u16::from_be_bytes(*port))
}
