//! Sending to sockets and receiving from them.
//!
//! Control messages have the kernel's layout (headers of 16 bytes, each at a multiple of 8). Of
//! those that are sent, the kernel gets what is in a list. None passes through a UNIX socket: all
//! that could be are descriptors and credentials. A descriptor in a message would reach a cage
//! past its grates, who know files by the calls that open them: a sealed file would be taken for
//! a plain one.

use super::addresses::{Address, Destination, ROOM};
use super::io::{MAX_PARTS, MAX_RW, Parts, moved};
use super::{Call, Entry, abi, interfaces};
use crate::image::Image;
use crate::memory::GuestMemory;
use crate::net::{self, Net};
use crate::regions::Prot;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_type};
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(44, sendto),
    Entry::new(45, recvfrom),
    Entry::new(46, sendmsg),
    Entry::new(47, recvmsg),
];

/// Most bytes of control messages, as Linux's default limit (`net.core.optmem_max`).
const MAX_CONTROL: u64 = 128 << 10;

/// What is wrong with an argument counts only for a socket.
pub(super) fn refused(file: &OwnedFd, errno: Errno) -> Errno {
    match socket_type(file) {
        Ok(_) => errno,
        Err(instead) => instead,
    }
}

/// A `struct msghdr` of the host.
fn header(parts: &Parts<'_>) -> libc::msghdr {
    // SAFETY: all zeros is a header without an address, data or control messages.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.ptr().cast_mut();
    header.msg_iovlen = parts.count() as usize;
    header
}

/// The buffer in arguments 1 and 2. One that is longer than can be counts as far as can be.
fn buffer<'a>(image: &'a Image, call: &Call<'_>, need: Prot) -> Parts<'a> {
    Parts::buffer(&image.memory, call.raw(1), call.raw(2).min(MAX_RW), need)
}

fn sendto(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let flags = call.int(3);
    let image = call.image_of(1)?;
    if interfaces::is_one(call.rt, &socket) {
        interfaces::check_flags(flags)?;
        if call.raw(4) != 0 {
            let to = Address::read(&call.image_of(4)?.memory, call.raw(4), call.int(5))?;
            interfaces::check_destination(to.bytes())?;
        }
        let mut asked = Vec::new();
        interfaces::add(&image.memory, call.raw(1), call.raw(2), &mut asked)?;
        return interfaces::ask(call.rt.net, &socket, &asked);
    }
    let parts = buffer(&image, call, Prot::READ);
    let to = match call.raw(4) {
        0 => None,
        at => {
            let address = Address::read(&call.image_of(4)?.memory, at, call.int(5))
                .map_err(|errno| refused(&socket, errno))?;
            Some(Destination::of_message(call, 4, &socket, flags, address)?)
        }
    };
    let (name, name_len) = to.as_ref().map_or((std::ptr::null(), 0), |to| {
        (to.address.as_ptr(), to.address.len())
    });
    let fd = socket.as_raw_fd();
    // SAFETY: the parts are guest memory that `image` keeps mapped, or no memory at all; the
    // address is this frame's, or null.
    moved(unsafe {
        match parts.single() {
            Some(buffer) => {
                let (base, len) = (buffer.iov_base, buffer.iov_len);
                libc::sendto(fd, base, len, flags, name, name_len)
            }
            None => {
                let mut header = header(&parts);
                header.msg_name = name.cast_mut().cast();
                header.msg_namelen = name_len;
                libc::sendmsg(fd, &raw const header, flags)
            }
        }
    })
}

fn recvfrom(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = buffer(&image, call, Prot::WRITE);
    let mut header = header(&parts);
    let mut from = Address::none();
    header.msg_name = from.as_mut_ptr().cast();
    header.msg_namelen = ROOM as libc::socklen_t;
    // SAFETY: as in `sendto`; there is room for an address of that length.
    let count = moved(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, call.int(3)) })?;
    if call.raw(4) != 0 {
        from.set_len(header.msg_namelen);
        from = from.of_peer();
        let len_at = match call.raw(5) {
            0 => return Err(Errno::FAULT),
            at => at,
        };
        let (image, len_image) = (call.image_of(4)?, call.image_of(5)?);
        from.give(
            call,
            (&image.memory, call.raw(4)),
            (&len_image.memory, len_at),
        )?;
    }
    Ok(count)
}

/// The flags in argument 2. One of the kernel's own, which stands for another layout, comes from
/// nobody else.
fn header_flags(call: &Call<'_>) -> Result<i32, Errno> {
    const MSG_CMSG_COMPAT: i32 = 1 << 31;
    match call.int(2) {
        flags if flags & MSG_CMSG_COMPAT != 0 => Err(Errno::INVAL),
        flags => Ok(flags),
    }
}

/// The guest's `struct msghdr` in argument 1.
fn guest_header(call: &Call<'_>, memory: &GuestMemory) -> Result<abi::MsgHdr, Errno> {
    let header = abi::msghdr(&memory.read_array(call.raw(1))?);
    if header.name_len < 0 && header.name != 0 {
        return Err(Errno::INVAL);
    }
    Ok(header)
}

/// The buffers that a header names.
fn parts<'a>(
    memory: &'a GuestMemory,
    header: &abi::MsgHdr,
    need: Prot,
) -> Result<Parts<'a>, Errno> {
    if header.iov_len > MAX_PARTS as u64 {
        return Err(Errno::MSGSIZE);
    }
    Parts::vector(memory, header.iov, header.iov_len, need)
}

fn sendmsg(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = header_flags(call)?;
    let socket = call.file(0)?;
    let image = call.image_of(1)?;
    let memory = &image.memory;
    let no = |errno| refused(&socket, errno);
    let guest = guest_header(call, memory).map_err(no)?;
    let address = match guest.name {
        0 => None,
        _ if guest.name_len == 0 => None,
        at => {
            let len = guest.name_len.min(ROOM as i32);
            Some(Address::read(memory, at, len).map_err(no)?)
        }
    };
    if interfaces::is_one(call.rt, &socket) {
        interfaces::check_flags(flags)?;
        if let Some(to) = address {
            interfaces::check_destination(to.bytes())?;
        }
        let asked = interfaces::gathered(memory, guest.iov, guest.iov_len)?;
        return interfaces::ask(call.rt.net, &socket, &asked);
    }
    let parts = parts(memory, &guest, Prot::READ).map_err(no)?;
    let mut header = header(&parts);
    let control = control_to_send(call.rt.net, memory, &guest, &socket)?;
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = 8 * control.len();
    }
    let to;
    if let Some(address) = address {
        to = Destination::of_message(call, 1, &socket, flags, address)?;
        header.msg_name = to.address.as_ptr().cast_mut().cast();
        header.msg_namelen = to.address.len();
    }
    // SAFETY: as in `sendto`; the control messages are this frame's too.
    moved(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })
}

fn recvmsg(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = header_flags(call)?;
    let socket = call.file(0)?;
    let image = call.image_of(1)?;
    let memory = &image.memory;
    let no = |errno| refused(&socket, errno);
    let guest = guest_header(call, memory).map_err(no)?;
    let parts = parts(memory, &guest, Prot::WRITE).map_err(no)?;
    let mut header = header(&parts);
    let mut from = Address::none();
    header.msg_name = from.as_mut_ptr().cast();
    header.msg_namelen = ROOM as libc::socklen_t;
    // Without room for them the kernel closes what descriptors there are in the message.
    let may_have_control =
        guest.control != 0 && guest.control_len != 0 && net::is_internet(socket_domain(&socket)?);
    if may_have_control
        && let Ok(room) = memory.prefix(guest.control, guest.control_len, Prot::WRITE)
    {
        header.msg_control = room.ptr().cast();
        header.msg_controllen = room.len();
    }
    // SAFETY: as in `recvfrom`; the room for control messages is guest memory, too.
    let count = moved(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })?;
    let at = call.raw(1);
    if guest.name != 0 {
        from.set_len(header.msg_namelen);
        from = from.of_peer();
        let len_at = at + abi::MSGHDR_NAME_LEN;
        from.give(call, (memory, guest.name), (memory, len_at))?;
    }
    // The header was read at these addresses: nothing overflows.
    memory.write(at + abi::MSGHDR_FLAGS, &header.msg_flags.to_le_bytes())?;
    let used = header.msg_controllen as u64;
    memory.write(at + abi::MSGHDR_CONTROL_LEN, &used.to_le_bytes())?;
    Ok(count)
}

/// Control messages that may be sent through IPv4 and IPv6 sockets: level, type, bytes of data.
const SENDABLE: &[(i32, i32, usize)] = &[
    (libc::IPPROTO_IP, libc::IP_TOS, 4),
    (libc::IPPROTO_IP, libc::IP_TTL, 4),
    (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 4),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 4),
];
/// More of them, where the network is the machine's: they choose an interface of it.
const SENDABLE_OUTSIDE: &[(i32, i32, usize)] = &[
    (libc::IPPROTO_IP, libc::IP_PKTINFO, 12),
    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20),
];

/// A header's control messages for the kernel, in words so that they are aligned.
///
/// # Errors
/// `EINVAL` for what is malformed or not in the lists; `EPERM` for descriptors and credentials
/// in a UNIX socket's; `ENODEV`, `ENOBUFS`, `EFAULT`.
fn control_to_send(
    net: Net,
    memory: &GuestMemory,
    guest: &abi::MsgHdr,
    socket: &OwnedFd,
) -> Result<Vec<u64>, Errno> {
    if guest.control == 0 || guest.control_len == 0 {
        return Ok(Vec::new());
    }
    let family = socket_domain(socket)?;
    if guest.control_len > MAX_CONTROL {
        return Err(Errno::NOBUFS);
    }
    let mut bytes = vec![0; guest.control_len as usize];
    memory.read(guest.control, &mut bytes)?;
    let mut kept = Vec::new();
    for message in abi::control_messages(&bytes) {
        let (level, kind, data) = message?;
        if is_passed(net, family, level, kind, data)? {
            let len = (abi::CMSGHDR_LEN + data.len()) as u64;
            kept.extend(len.to_le_bytes());
            kept.extend(level.to_le_bytes());
            kept.extend(kind.to_le_bytes());
            kept.extend(data);
            kept.resize(kept.len().next_multiple_of(8), 0);
        }
    }
    let (words, _) = kept.as_chunks();
    Ok(words.iter().map(|&word| u64::from_ne_bytes(word)).collect())
}

/// Whether a control message goes to the kernel; if not, it is one that is ignored.
fn is_passed(
    net: Net,
    family: AddressFamily,
    level: i32,
    kind: i32,
    data: &[u8],
) -> Result<bool, Errno> {
    let form = (level, kind, data.len());
    let is_local = family == AddressFamily::UNIX;
    match (level, kind) {
        (libc::SOL_SOCKET, libc::SCM_RIGHTS | libc::SCM_CREDENTIALS) => {
            if is_local {
                Err(Errno::PERM)
            } else {
                Ok(false)
            }
        }
        (libc::SOL_SOCKET, _) => Err(Errno::INVAL),
        _ if is_local => Ok(false),
        _ if SENDABLE.contains(&form) => Ok(true),
        _ if SENDABLE_OUTSIDE.contains(&form) => match net {
            Net::All => Ok(true),
            Net::None | Net::Loopback => Err(Errno::NODEV),
        },
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, SOCKETS, Twins, UNMAPPED, families, inet, unix};
    use super::*;
    use std::os::unix::net::UnixDatagram;

    const ZERO: A<'_> = A::I(0);
    const DONTWAIT: i64 = 0x40;

    /// A connected pair of sockets.
    fn pair(kind: i64) -> Twins {
        let mut twins = Twins::new();
        twins.pair(53, &[A::I(1), A::I(kind), ZERO]).unwrap();
        twins
    }

    const ONE: A<'_> = A::Fd(0);
    const OTHER: A<'_> = A::Fd(1);

    #[test]
    fn calls_fail_as_the_kernels_do() {
        let (twins, fds) = Twins::with_sockets();
        let nobody = inet("127.0.0.1:1");
        let (data, to) = (A::In(b"data"), A::In(&nobody));
        let room = A::Change(&[16, 0, 0, 0]);
        let flags = A::I(DONTWAIT);
        for fd in fds {
            let wild = A::Nowhere;
            for (data, len) in [(data, 4), (data, 0), (wild, 4), (wild, 0)] {
                let len = A::I(len);
                let _ = twins.agree(44, &[fd, data, len, flags, ZERO, ZERO]);
                let _ = twins.agree(44, &[fd, data, len, A::I(DONTWAIT | 1), ZERO, ZERO]);
                let _ = twins.agree(45, &[fd, data, len, flags, ZERO, ZERO]);
                let _ = twins.agree(45, &[fd, data, len, flags, A::Room(16), room]);
            }
            for (to, len) in [
                (to, 16),
                (to, 15),
                (to, 129),
                (to, -1),
                (to, 0),
                (A::Nowhere, 16),
                (ZERO, 16),
            ] {
                let _ = twins.agree(44, &[fd, data, A::I(4), flags, to, A::I(len)]);
                let parts = A::Vector(&[A::In(b"some"), A::In(b"bytes")]);
                let header = [to, A::I(len), parts, A::I(2), ZERO, ZERO, ZERO];
                let _ = twins.agree(46, &[fd, A::Struct(&header), flags]);
            }
            for (parts, count) in [
                (A::Nowhere, 0),
                (A::Nowhere, 1),
                (A::Nowhere, 1024),
                (A::Nowhere, 1025),
                (A::Nowhere, -1),
                (A::Vector(&[A::Nowhere]), 0),
                (A::Vector(&[A::Nowhere]), 1),
                (A::Vector(&[A::Room(9), A::Nowhere]), 2),
            ] {
                let header = [ZERO, ZERO, parts, A::I(count), ZERO, ZERO, ZERO];
                let _ = twins.agree(46, &[fd, A::Struct(&header), flags]);
                let _ = twins.agree(47, &[fd, A::Struct(&header), flags]);
            }
            for nr in [46, 47] {
                let _ = twins.agree(nr, &[fd, A::Nowhere, flags]);
                let _ = twins.agree(nr, &[fd, A::Nowhere, A::I(1 << 31)]);
            }
        }
        assert!(twins.count() > SOCKETS);
    }

    #[test]
    fn streams_flow_and_end() {
        let twins = pair(1);
        let send = |data: &[u8], flags| {
            let len = A::I(data.len() as i64);
            twins.agree(44, &[ONE, A::In(data), len, A::I(flags), ZERO, ZERO])
        };
        let receive = |len: usize, flags| {
            let args = [OTHER, A::Out(20), A::I(len as i64), A::I(flags), ZERO, ZERO];
            twins.agree(45, &args)
        };
        const PEEK: i64 = 2;
        const WAITALL: i64 = 0x100;
        assert_eq!(receive(5, DONTWAIT), Err(Errno::AGAIN));
        assert_eq!(send(b"hello", 0), Ok(5));
        assert_eq!(send(b" world", 0x4000), Ok(6));
        assert_eq!(receive(5, PEEK), Ok(5));
        assert_eq!(receive(11, WAITALL), Ok(11));
        assert_eq!(send(b"read", 0), Ok(4));
        assert_eq!(twins.agree(0, &[OTHER, A::Out(9), A::I(9)]), Ok(4));
        assert_eq!(twins.agree(1, &[OTHER, A::In(b"back"), A::I(4)]), Ok(4));
        assert_eq!(twins.agree(16, &[ONE, A::I(0x541B), A::Out(4)]), Ok(0));
        let parts = A::Vector(&[A::Out(1), A::Out(0), A::Out(9)]);
        let header = [
            A::Room(128),
            A::I(128),
            parts,
            A::I(3),
            ZERO,
            ZERO,
            A::I(77),
        ];
        assert_eq!(twins.agree(47, &[ONE, A::Struct(&header), ZERO]), Ok(4));
        assert_eq!(twins.agree(48, &[OTHER, A::I(0)]), Ok(0));
        assert_eq!(send(b"x", 0), Err(Errno::PIPE));
        assert_eq!(
            twins.agree(1, &[ONE, A::In(b"x"), A::I(1)]),
            Err(Errno::PIPE)
        );
        assert_eq!(twins.agree(48, &[ONE, A::I(1)]), Ok(0));
        assert_eq!(receive(9, 0), Ok(0));
    }

    #[test]
    fn messages_keep_their_edges_and_say_what_was_cut() {
        for kind in [2, 5] {
            let twins = pair(kind);
            for text in [&b"one message"[..], b"another", b"third"] {
                let parts = A::Vector(&[A::In(text), A::In(b"!")]);
                let header = [ZERO, ZERO, parts, A::I(2), ZERO, ZERO, ZERO];
                assert!(twins.agree(46, &[ONE, A::Struct(&header), ZERO]).is_ok());
            }
            const TRUNC: i64 = 0x20;
            for flags in [2, 2 | TRUNC, 0, TRUNC, 0] {
                let parts = A::Vector(&[A::Out(3), A::Out(3)]);
                let header = [
                    A::Room(128),
                    A::I(128),
                    parts,
                    A::I(2),
                    A::Room(64),
                    A::I(64),
                    A::I(9),
                ];
                let args = [OTHER, A::Struct(&header), A::I(flags)];
                assert!(twins.agree(47, &args).is_ok());
            }
        }
    }

    #[test]
    fn datagrams_say_where_they_come_from() {
        for (family, any) in families() {
            let mut twins = Twins::new();
            let any = inet(any);
            let len = any.len();
            for fd in [ONE, OTHER] {
                twins
                    .descriptor(41, &[A::I(family), A::I(2), ZERO])
                    .unwrap();
                let bind = [fd, A::In(&any), A::I(len as i64)];
                assert_eq!(twins.agree(49, &bind), Ok(0));
            }
            let room = 28u32.to_le_bytes();
            let name = |fd| {
                twins
                    .rooms(51, &[fd, A::Room(28), A::Change(&room)])
                    .remove(0)
            };
            let (own, to) = (name(ONE), name(OTHER));
            let address = A::Each(&to.0, &to.1);
            let send = [
                ONE,
                A::In(b"hello"),
                A::I(5),
                ZERO,
                address,
                A::I(len as i64),
            ];
            assert_eq!(twins.agree(44, &send), Ok(5));
            let args = [
                OTHER,
                A::Out(9),
                A::I(9),
                ZERO,
                A::Room(28),
                A::Change(&room),
            ];
            let rooms = twins.rooms(45, &args);
            assert_eq!(rooms[0], own);
            assert_eq!(rooms[1].0, (len as u32).to_le_bytes());
            // The same by a header.
            let parts = A::Vector(&[A::In(b"hello")]);
            let header = [address, A::I(len as i64), parts, A::I(1), ZERO, ZERO, ZERO];
            assert_eq!(twins.agree(46, &[ONE, A::Struct(&header), ZERO]), Ok(5));
            let parts = A::Vector(&[A::Out(9)]);
            let header = [A::Room(28), A::I(128), parts, A::I(1), ZERO, ZERO, ZERO];
            let rooms = twins.rooms(47, &[OTHER, A::Struct(&header), ZERO]);
            assert_eq!(rooms[0], own);
        }
    }

    #[test]
    fn packet_facts_come_as_control_messages() {
        let mut twins = Twins::new();
        let any = inet("127.0.0.1:0");
        twins.descriptor(41, &[A::I(2), A::I(2), ZERO]).unwrap();
        assert_eq!(twins.agree(49, &[ONE, A::In(&any), A::I(16)]), Ok(0));
        let on = A::In(&[1, 0, 0, 0]);
        const IP_RECVTTL: i64 = 12;
        const IP_PKTINFO: i64 = 8;
        for option in [IP_RECVTTL, IP_PKTINFO] {
            assert_eq!(
                twins.agree(54, &[ONE, ZERO, A::I(option), on, A::I(4)]),
                Ok(0)
            );
        }
        let own = twins
            .rooms(51, &[ONE, A::Room(16), A::Change(&[16, 0, 0, 0])])
            .remove(0);
        let to = A::Each(&own.0, &own.1);
        // The time to live is sent along, too.
        let ttl = control(&[(0, 2, &[7, 0, 0, 0])]);
        let (parts, len) = (A::Vector(&[A::In(b"x")]), A::I(16));
        let header = [
            to,
            len,
            parts,
            A::I(1),
            A::In(&ttl),
            A::I(ttl.len() as i64),
            ZERO,
        ];
        for room in [128, 60, 20, 8, 0] {
            assert_eq!(twins.agree(46, &[ONE, A::Struct(&header), ZERO]), Ok(1));
            let parts = A::Vector(&[A::Out(9)]);
            let header = [ZERO, ZERO, parts, A::I(1), A::Out(128), A::I(room), ZERO];
            assert_eq!(twins.agree(47, &[ONE, A::Struct(&header), ZERO]), Ok(1));
        }
        for (level, kind, data) in [(0, 2, &[7, 0][..]), (0, 999, &[0; 4]), (0, 2, &[0; 4])] {
            let control = control(&[(level, kind, data)]);
            let len = A::I(control.len() as i64);
            let header = [to, A::I(16), parts, A::I(1), A::In(&control), len, ZERO];
            let sent = twins.agree(46, &[ONE, A::Struct(&header), ZERO]);
            assert_eq!(sent, Err(Errno::INVAL), "{kind} {data:?}");
        }
    }

    #[test]
    fn interfaces_are_chosen_in_the_whole_network_only() {
        let choice = control(&[(0, 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]);
        for (net, sent) in [(Net::All, Ok(1)), (Net::Loopback, Err(Errno::NODEV))] {
            let cage = Fixture::with_net(net);
            assert_eq!(cage.call(41, &[2, 2, 0]), Ok(0));
            cage.put(0x2000, &inet("127.0.0.1:9"));
            cage.put(0x3000, &choice);
            cage.put(0x1800, &[0x2000u64, 1].map(u64::to_le_bytes).concat());
            let header = [0x2000u64, 16, 0x1800, 1, 0x3000, choice.len() as u64, 0];
            cage.put(0x1000, &header.map(u64::to_le_bytes).concat());
            assert_eq!(cage.call(46, &[0, 0x1000, 0]), sent);
        }
    }

    /// Control messages in memory.
    fn control(messages: &[(i32, i32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (level, kind, data) in messages {
            bytes.extend((16 + data.len() as u64).to_le_bytes());
            bytes.extend(level.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(*data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn no_descriptor_passes_in_a_message() {
        let cage = Fixture::new();
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Ok(0));
        assert_eq!(cage.call(41, &[2, 2, 0]), Ok(2));
        let send = |fd, control: &[u8]| {
            cage.put(0x3000, control);
            let mut header = [0; 56];
            header[32..40].copy_from_slice(&0x3000u64.to_le_bytes());
            header[40..48].copy_from_slice(&(control.len() as u64).to_le_bytes());
            cage.put(0x1000, &header);
            cage.call(46, &[fd, 0x1000, 0])
        };
        let rights = control(&[(1, 1, &[0, 0, 0, 0])]);
        let credentials = control(&[(1, 2, &[0; 12])]);
        assert_eq!(send(0, &rights), Err(Errno::PERM));
        assert_eq!(send(0, &credentials), Err(Errno::PERM));
        // After one that is ignored.
        let both = control(&[(41, 67, &[0; 4]), (1, 1, &[0; 4])]);
        assert_eq!(send(0, &both), Err(Errno::PERM));
        assert_eq!(send(0, &control(&[(1, 99, &[0; 4])])), Err(Errno::INVAL));
        for len in [0u64, 15, 17, 1 << 40, u64::MAX] {
            let mut malformed = rights.clone();
            malformed[..8].copy_from_slice(&len.to_le_bytes());
            let result = send(0, &malformed[..16]);
            assert_eq!(result, Err(Errno::INVAL), "{len}");
        }
        // It means nothing to sockets of other families.
        assert_eq!(send(2, &rights), Err(Errno::DESTADDRREQ));
        assert_eq!(
            cage.call(45, &[1, 0x2000, 9, 0x40, 0, 0]),
            Err(Errno::AGAIN)
        );
    }

    #[test]
    fn descriptors_that_the_host_sends_are_closed() {
        let cage = Fixture::new();
        let address = unix(b"/inbox");
        cage.put(0x1000, &address);
        assert_eq!(cage.call(41, &[1, 2, 0]), Ok(0));
        assert_eq!(cage.call(49, &[0, 0x1000, address.len() as u64]), Ok(0));
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(cage.path("inbox")).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let passed = [std::os::fd::AsFd::as_fd(&writer)];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&passed)));
        let data = [std::io::IoSlice::new(b"x")];
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&sender, &data, &mut control, flags).unwrap();
        drop(writer);
        let parts = [0x2000u64, 9].map(u64::to_le_bytes).concat();
        cage.put(0x1800, &parts);
        let mut header = [0; 56];
        header[16..24].copy_from_slice(&0x1800u64.to_le_bytes());
        header[24] = 1;
        header[32..40].copy_from_slice(&0x3000u64.to_le_bytes());
        header[40] = 64;
        cage.put(0x1000, &header);
        assert_eq!(cage.call(47, &[0, 0x1000, 0]), Ok(1));
        assert_eq!(cage.get(0x1028, 8), [0; 8]);
        const CTRUNC: u8 = 8;
        assert_eq!(cage.get(0x1030, 4), [CTRUNC, 0, 0, 0]);
        // The pipe has no end to be written to any more.
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
    }

    #[test]
    fn unix_datagrams_find_their_way_back() {
        let cage = Fixture::new();
        for (fd, name) in [(0, &b"/one"[..]), (1, b"/other")] {
            let address = unix(name);
            cage.put(0x1000, &address);
            assert_eq!(cage.call(41, &[1, 2, 0]), Ok(fd));
            let bind = [fd as u64, 0x1000, address.len() as u64];
            assert_eq!(cage.call(49, &bind), Ok(0));
        }
        cage.put(0x2000, b"hello");
        cage.put(0x1000, &unix(b"/other"));
        assert_eq!(cage.call(44, &[0, 0x2000, 5, 0, 0x1000, 9]), Ok(5));
        cage.put(0x1800, &[110, 0, 0, 0]);
        assert_eq!(cage.call(45, &[1, 0x3000, 9, 0, 0x1000, 0x1800]), Ok(5));
        assert_eq!(cage.get(0x1800, 4), [7, 0, 0, 0]);
        assert_eq!(cage.get(0x1000, 7), unix(b"/one"));
        assert_eq!(cage.call(44, &[1, 0x2000, 5, 0, 0x1000, 7]), Ok(5));
        assert_eq!(cage.call(45, &[0, 0x3000, 9, 0, 0, 0]), Ok(5));
        assert_eq!(
            cage.call(45, &[1, 0x3000, 9, 0x40, UNMAPPED, 0]),
            Err(Errno::AGAIN)
        );
    }
}
