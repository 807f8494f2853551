//! Options of sockets: those in the table, whose values are plain numbers and structures without
//! addresses, and that give a cage no more than its sockets. Others do not exist (`ENOPROTOOPT`).

use super::io::{OUT_OF_REACH, answer};
use super::messages::refused;
use super::{Call, Entry};
use crate::net::Net;
use crate::regions::Prot;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(54, "setsockopt", 5, setsockopt),
    Entry::new(55, "getsockopt", 5, getsockopt),
];

/// What can be done with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// It can be asked for.
    Get,
    /// It can be asked for and set, as far as the kernel lets one.
    Any,
    /// As [`Access::Any`], where the network is the machine's.
    Outside,
}

/// An option that cages have.
struct Opt {
    level: i32,
    name: i32,
    /// Most bytes of its value.
    size: usize,
    access: Access,
}

/// Most bytes of any value.
const MAX_SIZE: usize = 256;

const INT: usize = 4;
const TIMEVAL: usize = 16;
const LINGER: usize = 8;
/// `struct ucred`: pid, uid, gid.
const CREDENTIALS: usize = 12;
/// `struct ip_mreqn`, the larger of two forms.
const IP_GROUP: usize = 12;
/// `struct ipv6_mreq`.
const IPV6_GROUP: usize = 20;
/// The kernel's `TCP_CA_NAME_MAX`.
const CONGESTION_NAME: usize = 16;

// Numbers that the `libc` crate lacks or has the old of.
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
const IPV6_MTU_DISCOVER: i32 = 23;
const IPV6_MTU: i32 = 24;

const fn option(level: i32, name: i32, size: usize, access: Access) -> Opt {
    Opt {
        level,
        name,
        size,
        access,
    }
}

const fn socket(name: i32, size: usize, access: Access) -> Opt {
    option(libc::SOL_SOCKET, name, size, access)
}

const fn tcp(name: i32, size: usize, access: Access) -> Opt {
    option(libc::IPPROTO_TCP, name, size, access)
}

const fn ip(name: i32, size: usize, access: Access) -> Opt {
    option(libc::IPPROTO_IP, name, size, access)
}

const fn ipv6(name: i32, size: usize, access: Access) -> Opt {
    option(libc::IPPROTO_IPV6, name, size, access)
}

static OPTIONS: &[Opt] = &[
    socket(libc::SO_REUSEADDR, INT, Access::Any),
    socket(libc::SO_TYPE, INT, Access::Get),
    socket(libc::SO_ERROR, INT, Access::Get),
    socket(libc::SO_DONTROUTE, INT, Access::Any),
    socket(libc::SO_BROADCAST, INT, Access::Any),
    socket(libc::SO_SNDBUF, INT, Access::Any),
    socket(libc::SO_RCVBUF, INT, Access::Any),
    socket(libc::SO_KEEPALIVE, INT, Access::Any),
    socket(libc::SO_OOBINLINE, INT, Access::Any),
    socket(libc::SO_LINGER, LINGER, Access::Any),
    socket(libc::SO_REUSEPORT, INT, Access::Any),
    socket(libc::SO_PEERCRED, CREDENTIALS, Access::Get),
    socket(libc::SO_RCVLOWAT, INT, Access::Any),
    socket(libc::SO_SNDLOWAT, INT, Access::Any),
    socket(libc::SO_RCVTIMEO, TIMEVAL, Access::Any),
    socket(libc::SO_SNDTIMEO, TIMEVAL, Access::Any),
    socket(SO_RCVTIMEO_NEW, TIMEVAL, Access::Any),
    socket(SO_SNDTIMEO_NEW, TIMEVAL, Access::Any),
    socket(libc::SO_TIMESTAMP, INT, Access::Any),
    socket(libc::SO_TIMESTAMPNS, INT, Access::Any),
    socket(libc::SO_ACCEPTCONN, INT, Access::Get),
    socket(libc::SO_PROTOCOL, INT, Access::Get),
    socket(libc::SO_DOMAIN, INT, Access::Get),
    socket(libc::SO_RXQ_OVFL, INT, Access::Any),
    tcp(libc::TCP_NODELAY, INT, Access::Any),
    tcp(libc::TCP_MAXSEG, INT, Access::Any),
    tcp(libc::TCP_CORK, INT, Access::Any),
    tcp(libc::TCP_KEEPIDLE, INT, Access::Any),
    tcp(libc::TCP_KEEPINTVL, INT, Access::Any),
    tcp(libc::TCP_KEEPCNT, INT, Access::Any),
    tcp(libc::TCP_SYNCNT, INT, Access::Any),
    tcp(libc::TCP_LINGER2, INT, Access::Any),
    tcp(libc::TCP_DEFER_ACCEPT, INT, Access::Any),
    tcp(libc::TCP_WINDOW_CLAMP, INT, Access::Any),
    tcp(libc::TCP_INFO, MAX_SIZE, Access::Get),
    tcp(libc::TCP_QUICKACK, INT, Access::Any),
    tcp(libc::TCP_CONGESTION, CONGESTION_NAME, Access::Any),
    tcp(libc::TCP_USER_TIMEOUT, INT, Access::Any),
    tcp(libc::TCP_NOTSENT_LOWAT, INT, Access::Any),
    ip(libc::IP_TOS, INT, Access::Any),
    ip(libc::IP_TTL, INT, Access::Any),
    ip(libc::IP_PKTINFO, INT, Access::Any),
    ip(libc::IP_MTU_DISCOVER, INT, Access::Any),
    ip(libc::IP_RECVERR, INT, Access::Any),
    ip(libc::IP_RECVTTL, INT, Access::Any),
    ip(libc::IP_RECVTOS, INT, Access::Any),
    ip(libc::IP_MTU, INT, Access::Get),
    ip(libc::IP_BIND_ADDRESS_NO_PORT, INT, Access::Any),
    ip(libc::IP_MULTICAST_TTL, INT, Access::Any),
    ip(libc::IP_MULTICAST_LOOP, INT, Access::Any),
    ip(libc::IP_MULTICAST_IF, IP_GROUP, Access::Outside),
    ip(libc::IP_ADD_MEMBERSHIP, IP_GROUP, Access::Outside),
    ip(libc::IP_DROP_MEMBERSHIP, IP_GROUP, Access::Outside),
    ipv6(libc::IPV6_UNICAST_HOPS, INT, Access::Any),
    ipv6(libc::IPV6_MULTICAST_HOPS, INT, Access::Any),
    ipv6(libc::IPV6_MULTICAST_LOOP, INT, Access::Any),
    ipv6(libc::IPV6_MULTICAST_IF, INT, Access::Outside),
    ipv6(libc::IPV6_ADD_MEMBERSHIP, IPV6_GROUP, Access::Outside),
    ipv6(libc::IPV6_DROP_MEMBERSHIP, IPV6_GROUP, Access::Outside),
    ipv6(IPV6_MTU_DISCOVER, INT, Access::Any),
    ipv6(IPV6_MTU, INT, Access::Any),
    ipv6(libc::IPV6_RECVERR, INT, Access::Any),
    ipv6(libc::IPV6_V6ONLY, INT, Access::Any),
    ipv6(libc::IPV6_RECVPKTINFO, INT, Access::Any),
    ipv6(libc::IPV6_RECVHOPLIMIT, INT, Access::Any),
    ipv6(libc::IPV6_RECVTCLASS, INT, Access::Any),
    ipv6(libc::IPV6_TCLASS, INT, Access::Any),
    ipv6(libc::IPV6_DONTFRAG, INT, Access::Any),
];

/// The option that arguments 1 and 2 name.
fn find(call: &Call<'_>) -> Result<&'static Opt, Errno> {
    let (level, name) = (call.int(1), call.int(2));
    OPTIONS
        .iter()
        .find(|option| (option.level, option.name) == (level, name))
        .ok_or(Errno::NOPROTOOPT)
}

fn setsockopt(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let len = usize::try_from(call.int(4)).map_err(|_| Errno::INVAL)?;
    let option = find(call)
        .and_then(|option| match option.access {
            Access::Get => Err(Errno::NOPROTOOPT),
            Access::Outside if call.rt.net != Net::All => Err(Errno::NODEV),
            Access::Any | Access::Outside => Ok(option),
        })
        .map_err(|errno| refused(&socket, errno))?;
    let len = len.min(option.size);
    let mut value = [0; MAX_SIZE];
    let image = call.image_of(3)?;
    let place = match image.memory.read(call.raw(3), &mut value[..len]) {
        Ok(()) => value.as_ptr().cast(),
        // The kernel finds the fault itself, after what it checks before.
        Err(_) => OUT_OF_REACH.0 as *const libc::c_void,
    };
    // SAFETY: the value has that many bytes, or its address is no process's.
    answer(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            option.level,
            option.name,
            place,
            len as libc::socklen_t,
        )
    })
}

fn getsockopt(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let (image, len_image) = (call.image_of(3)?, call.image_of(4)?);
    let room = len_image
        .memory
        .read_array(call.raw(4))
        .map(i32::from_le_bytes)
        .and_then(|room| usize::try_from(room).map_err(|_| Errno::INVAL));
    let (room, option) = room
        .and_then(|room| Ok((room, find(call)?)))
        .map_err(|errno| refused(&socket, errno))?;
    let mut value = [0; MAX_SIZE];
    let mut len = room.min(option.size) as libc::socklen_t;
    // SAFETY: the value has room for that many bytes.
    answer(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            option.level,
            option.name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    if (option.level, option.name) == (libc::SOL_SOCKET, libc::SO_PEERCRED) {
        // A process of the host, whose numbers mean nothing to a cage: as Linux shows one of
        // another name space.
        value[..size_of::<libc::pid_t>()].fill(0);
    }
    let given = &value[..(len as usize).min(MAX_SIZE)];
    // Faults are found before the length is written.
    len_image.memory.exact(call.raw(4), 4, Prot::WRITE)?;
    image.memory.write(call.raw(3), given)?;
    len_image.memory.write(call.raw(4), &len.to_le_bytes())?;
    Ok(0)
}
