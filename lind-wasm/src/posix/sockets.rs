//! Sockets: making, naming and connecting them. What goes through them is in `messages` and, by
//! read and write, in `io`.

use super::addresses::{self, Address, Destination, ROOM};
use super::fds::{check_room, put_pair};
use super::io::answer;
use super::{Call, Entry};
use crate::regions::Prot;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_type};
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(41, "socket", 3, socket),
    Entry::new(42, "connect", 3, connect),
    Entry::new(43, "accept", 3, |call| accept(call, 0)),
    Entry::new(48, "shutdown", 2, shutdown),
    Entry::new(49, "bind", 3, bind),
    Entry::new(50, "listen", 2, listen),
    Entry::new(51, "getsockname", 3, |call| name(call, libc::getsockname)),
    Entry::new(52, "getpeername", 3, |call| name(call, libc::getpeername)),
    Entry::new(53, "socketpair", 4, socketpair),
    Entry::new(288, "accept4", 4, |call| accept(call, call.int(3))),
];

/// A socket about to be made.
struct New {
    domain: i32,
    kind: i32,
    protocol: i32,
    /// `SOCK_NONBLOCK` or nothing.
    nonblock: i32,
    cloexec: bool,
}

/// The types of sockets, without the flags that come with them.
const TYPES: i32 = 0xf;
/// Types are below this, families and protocols below those, or they do not exist.
const MAX_TYPE: i32 = 11;
const MAX_PROTOCOL: i32 = 263;
/// The type that makes a packet socket of an IPv4 one.
const SOCK_PACKET: i32 = 10;

impl New {
    /// The one that the first three arguments ask for.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags.
    fn of(call: &Call<'_>) -> Result<Self, Errno> {
        let (domain, kind, protocol) = (call.int(0), call.int(1), call.int(2));
        let flags = kind & !TYPES;
        if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            domain,
            kind: kind & TYPES,
            protocol,
            nonblock: flags & libc::SOCK_NONBLOCK,
            cloexec: flags & libc::SOCK_CLOEXEC != 0,
        })
    }

    /// Refuses what no cage may have: families other than IPv4, IPv6 and UNIX, raw sockets, and
    /// protocols other than TCP and UDP. The answers are those of a kernel without them, to a
    /// process without privileges.
    fn check(&self) -> Result<(), Errno> {
        let (stream, datagram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
        match self.domain {
            // The kernel knows best, and there is nothing in it that a cage may not have.
            libc::AF_UNIX => return Ok(()),
            libc::AF_INET | libc::AF_INET6 => {}
            _ if (0..MAX_TYPE).contains(&self.kind) => return Err(Errno::AFNOSUPPORT),
            0..=45 => return Err(Errno::INVAL),
            _ => return Err(Errno::AFNOSUPPORT),
        }
        let pings = match self.domain {
            libc::AF_INET => libc::IPPROTO_ICMP,
            _ => libc::IPPROTO_ICMPV6,
        };
        match (self.kind, self.protocol) {
            (MAX_TYPE.., _) => Err(Errno::INVAL),
            (SOCK_PACKET, _) if self.domain == libc::AF_INET => Err(Errno::PERM),
            (_, ..0 | MAX_PROTOCOL..) => Err(Errno::INVAL),
            (kind, 0 | libc::IPPROTO_TCP) if kind == stream => Ok(()),
            (kind, 0 | libc::IPPROTO_UDP) if kind == datagram => Ok(()),
            (kind, protocol) if kind == datagram && protocol == pings => Err(Errno::ACCESS),
            (libc::SOCK_STREAM | libc::SOCK_DGRAM, _) | (libc::SOCK_RAW, 0) => {
                Err(Errno::PROTONOSUPPORT)
            }
            (libc::SOCK_RAW, _) => Err(Errno::PERM),
            _ => Err(Errno::SOCKTNOSUPPORT),
        }
    }

    fn flags(&self) -> i32 {
        self.kind | self.nonblock | libc::SOCK_CLOEXEC
    }
}

/// Takes a new descriptor of the host.
fn owned(fd: libc::c_int) -> Result<OwnedFd, Errno> {
    let fd = answer(fd)?;
    // SAFETY: the caller has it from the kernel, and it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn socket(call: &Call<'_>) -> Result<i32, Errno> {
    let new = New::of(call)?;
    new.check()?;
    // SAFETY: no memory is involved.
    let socket = owned(unsafe { libc::socket(new.domain, new.flags(), new.protocol) })?;
    let family = AddressFamily::from_raw(new.domain as u16); // Checked, or the kernel took it.
    call.rt.net.adopt(&socket, family)?;
    call.target.fds().insert(0, Arc::new(socket), new.cloexec)
}

fn socketpair(call: &Call<'_>) -> Result<i32, Errno> {
    let new = New::of(call)?;
    check_room(&call.target)?;
    let place = pair_place(call)?;
    call.image_of(3)?.memory.exact(place, 8, Prot::WRITE)?;
    new.check()?;
    let mut pair = [0; 2];
    // SAFETY: `pair` is room for two descriptors.
    answer(unsafe { libc::socketpair(new.domain, new.flags(), new.protocol, pair.as_mut_ptr()) })?;
    let ends = (owned(pair[0])?, owned(pair[1])?);
    put_pair(call, (3, place), ends, new.cloexec)
}

/// Where the pair goes. On Lind, and there alone, a grate that makes the call for a cage names an
/// offset in its own memory instead of an address.
fn pair_place(call: &Call<'_>) -> Result<u64, Errno> {
    let cage = call.cage_of(3)?;
    if call.rt.strict && cage.id != call.target.id {
        return Ok(cage.image()?.memory.base().wrapping_add(call.raw(3)));
    }
    Ok(call.raw(3))
}

/// The socket in argument 0, and its family.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
fn socket_of(call: &Call<'_>) -> Result<(Arc<OwnedFd>, AddressFamily), Errno> {
    let file = call.file(0)?;
    let family = socket_domain(&file)?;
    Ok((file, family))
}

fn address_of(call: &Call<'_>) -> Result<Address, Errno> {
    Address::read(&call.image_of(1)?.memory, call.raw(1), call.int(2))
}

fn bind(call: &Call<'_>) -> Result<i32, Errno> {
    let (socket, family) = socket_of(call)?;
    addresses::bind(call, 1, &socket, family, &address_of(call)?)?;
    Ok(0)
}

fn connect(call: &Call<'_>) -> Result<i32, Errno> {
    let (socket, family) = socket_of(call)?;
    let to = Destination::of_connection(call, 1, family, address_of(call)?)?;
    // SAFETY: the address has that many bytes.
    answer(unsafe { libc::connect(socket.as_raw_fd(), to.address.as_ptr(), to.address.len()) })
}

fn listen(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::listen(socket.as_raw_fd(), call.int(1)) })
}

fn shutdown(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    // SAFETY: no memory is involved.
    answer(unsafe { libc::shutdown(socket.as_raw_fd(), call.int(1)) })
}

fn accept(call: &Call<'_>, flags: i32) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let unknown = flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    if unknown == 0 {
        socket_type(&socket)?;
        // Before a connection is taken that there is no number for.
        check_room(&call.target)?;
    }
    let mut peer = Address::none();
    let mut len = ROOM as libc::socklen_t;
    // SAFETY: there is room for an address of that length.
    let accepted = owned(unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            peer.as_mut_ptr(),
            &raw mut len,
            unknown | (flags & libc::SOCK_NONBLOCK) | libc::SOCK_CLOEXEC,
        )
    })?;
    peer.set_len(len);
    if call.raw(1) != 0 {
        give(call, &peer)?;
    }
    let cloexec = flags & libc::SOCK_CLOEXEC != 0;
    call.target.fds().insert(0, Arc::new(accepted), cloexec)
}

/// Gives an address to the guest by arguments 1 and 2.
fn give(call: &Call<'_>, address: &Address) -> Result<(), Errno> {
    let len_at = match call.raw(2) {
        0 => return Err(Errno::FAULT),
        at => at,
    };
    let (image, len_image) = (call.image_of(1)?, call.image_of(2)?);
    address.give(
        call,
        (&image.memory, call.raw(1)),
        (&len_image.memory, len_at),
    )
}

/// getsockname and getpeername.
type NameFn =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(call: &Call<'_>, ask: NameFn) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let mut address = Address::none();
    let mut len = ROOM as libc::socklen_t;
    // SAFETY: there is room for an address of that length.
    answer(unsafe { ask(socket.as_raw_fd(), address.as_mut_ptr(), &raw mut len) })?;
    address.set_len(len);
    give(call, &address)?;
    Ok(0)
}
