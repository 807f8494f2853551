//! Sending to sockets and receiving from them.
//!
//! Control messages have the kernel's layout (headers of 16 bytes, each at a multiple of 8). Of
//! those that are sent, the kernel gets what is in a list. None passes through a UNIX socket: all
//! that could be are descriptors and credentials. A descriptor in a message would reach a cage
//! past its grates, who know files by the calls that open them: a sealed file would be taken for
//! a plain one.

use super::addresses::{Address, Destination, ROOM};
use super::io::{MAX_PARTS, Parts, moved};
use super::{Call, Entry, abi};
use crate::memory::GuestMemory;
use crate::net;
use crate::regions::Prot;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_type};
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(44, "sendto", 6, sendto),
    Entry::new(45, "recvfrom", 6, recvfrom),
    Entry::new(46, "sendmsg", 3, sendmsg),
    Entry::new(47, "recvmsg", 3, recvmsg),
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

fn sendto(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let flags = call.int(3);
    let image = call.image_of(1)?;
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::READ);
    let mut header = header(&parts);
    let to;
    if call.raw(4) != 0 {
        let address = Address::read(&call.image_of(4)?.memory, call.raw(4), call.int(5))
            .map_err(|errno| refused(&socket, errno))?;
        to = Destination::of_message(call, 4, &socket, flags, address)?;
        to.address.name_in(&mut header);
    }
    // SAFETY: the parts are guest memory that `image` keeps mapped, or no memory at all; the
    // address is this frame's.
    moved(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })
}

fn recvfrom(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    let image = call.image_of(1)?;
    let parts = Parts::buffer(&image.memory, call.raw(1), call.raw(2), Prot::WRITE);
    let mut header = header(&parts);
    let mut from = Address::none();
    header.msg_name = from.as_mut_ptr().cast();
    header.msg_namelen = ROOM as libc::socklen_t;
    // SAFETY: as in `sendto`; there is room for an address of that length.
    let count = moved(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, call.int(3)) })?;
    if call.raw(4) != 0 {
        from.set_len(header.msg_namelen);
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
    let socket = call.file(0)?;
    let flags = call.int(2);
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
    let parts = parts(memory, &guest, Prot::READ).map_err(no)?;
    let mut header = header(&parts);
    let control = control_to_send(memory, &guest, &socket)?;
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = 8 * control.len();
    }
    let to;
    if let Some(address) = address {
        to = Destination::of_message(call, 1, &socket, flags, address)?;
        to.address.name_in(&mut header);
    }
    // SAFETY: as in `sendto`; the control messages are this frame's too.
    moved(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) })
}

fn recvmsg(call: &Call<'_>) -> Result<i32, Errno> {
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
    let count = moved(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, call.int(2)) })?;
    let at = call.raw(1);
    if guest.name != 0 {
        from.set_len(header.msg_namelen);
        let len_at = at + abi::MSGHDR_NAME_LEN;
        from.give(call, (memory, guest.name), (memory, len_at))?;
    }
    // The header was read at these addresses: nothing overflows.
    let flags = header.msg_flags & !libc::MSG_CMSG_CLOEXEC;
    memory.write(at + abi::MSGHDR_FLAGS, &flags.to_le_bytes())?;
    let used = header.msg_controllen as u64;
    memory.write(at + abi::MSGHDR_CONTROL_LEN, &used.to_le_bytes())?;
    Ok(count)
}

/// Control messages that may be sent through IPv4 and IPv6 sockets: level, type, bytes of data.
/// They are numbers, and addresses and interfaces that packets come from.
const SENDABLE: &[(i32, i32, usize)] = &[
    (libc::IPPROTO_IP, libc::IP_TOS, 4),
    (libc::IPPROTO_IP, libc::IP_TTL, 4),
    (libc::IPPROTO_IP, libc::IP_PKTINFO, 12),
    (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 4),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 4),
    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20),
];

/// A header's control messages for the kernel, in words so that they are aligned.
///
/// # Errors
/// `EINVAL` for what is malformed or not in the list; `EPERM` for descriptors and credentials
/// in a UNIX socket's; `ENOBUFS`, `EFAULT`.
fn control_to_send(
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
        if is_passed(family, level, kind, data)? {
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
fn is_passed(family: AddressFamily, level: i32, kind: i32, data: &[u8]) -> Result<bool, Errno> {
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
        _ if SENDABLE.contains(&(level, kind, data.len())) => Ok(true),
        _ => Err(Errno::INVAL),
    }
}
