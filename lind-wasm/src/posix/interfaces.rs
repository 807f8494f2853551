//! A netlink socket of which programs learn the network's interfaces, as getifaddrs(3) does, and
//! nothing else.
//!
//! The kernel's own would tell of the whole machine, and lets who may change its network. So a cage
//! gets one of the protocol that is for users, connected to itself, which keeps all others from
//! sending to it. What the cage asks is answered here, into the socket's own queue: receiving,
//! waiting, copies and closing are the kernel's.

use super::abi;
use super::io::MAX_PARTS;
use crate::errno::last_error;
use crate::interfaces::{Address, Interfaces, Link};
use crate::memory::GuestMemory;
use crate::net::Net;
use crate::runtime::Runtime;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_protocol};
use rustix::net::{AddressFamily, netlink};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;

/// Most bytes of what is asked at a time.
const MOST: usize = 4096;
/// Bytes of an answer's part: those who ask have room for twice as much.
const PIECE: usize = 4096;
/// `struct sockaddr_nl`: family, two bytes, port, groups.
const NAME_LEN: usize = 12;
/// `struct nlmsghdr`: length, type, flags, number, port.
const HEADER_LEN: usize = 16;
/// Ports from here on are no process's.
const PORTS: u32 = 1 << 31;

/// Makes one. `flags` is its type, with `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
///
/// # Errors
/// As socket(2).
pub(super) fn open(rt: &Runtime, flags: i32) -> Result<OwnedFd, Errno> {
    if rt.net == Net::None {
        return Err(Errno::ACCESS);
    }
    rt.tells_interfaces.store(true, Relaxed);
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_USERSOCK) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: it is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // Of so many numbers one is free.
    for _ in 0..64 {
        let mut port = [0; 4];
        getrandom::fill(&mut port).map_err(|_| Errno::IO)?;
        let name = name(u32::from_ne_bytes(port) | PORTS);
        match named(&socket, &name, libc::bind) {
            Err(Errno::ADDRINUSE) => {}
            other => {
                other?;
                named(&socket, &name, libc::connect)?;
                return Ok(socket);
            }
        }
    }
    Err(Errno::ADDRINUSE)
}

/// Whether a socket is one of these, and not another netlink socket that a run was given.
pub(super) fn is_one(rt: &Runtime, socket: &OwnedFd) -> bool {
    rt.tells_interfaces.load(Relaxed)
        && socket_domain(socket) == Ok(AddressFamily::NETLINK)
        && socket_protocol(socket) == Ok(Some(netlink::USERSOCK))
}

fn name(port: u32) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..2].copy_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
    name[4..8].copy_from_slice(&port.to_ne_bytes());
    name
}

/// bind and connect.
type NameFn =
    unsafe extern "C" fn(libc::c_int, *const libc::sockaddr, libc::socklen_t) -> libc::c_int;

fn named(socket: &OwnedFd, name: &[u8; NAME_LEN], act: NameFn) -> Result<(), Errno> {
    let len = NAME_LEN as libc::socklen_t;
    // SAFETY: the name has that many bytes.
    match unsafe { act(socket.as_raw_fd(), name.as_ptr().cast(), len) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// The port of a socket.
fn port(socket: &OwnedFd) -> Result<u32, Errno> {
    let (mut name, mut len) = ([0u8; NAME_LEN], NAME_LEN as libc::socklen_t);
    // SAFETY: there is room for a name of that length.
    let result =
        unsafe { libc::getsockname(socket.as_raw_fd(), name.as_mut_ptr().cast(), &raw mut len) };
    match (result, name) {
        (0, [_, _, _, _, a, b, c, d, ..]) => Ok(u32::from_ne_bytes([a, b, c, d])),
        _ => Err(last_error()),
    }
}

/// Port and groups of a `struct sockaddr_nl`.
///
/// # Errors
/// `EINVAL` for another address.
fn port_and_groups(name: &[u8]) -> Result<(u32, u32), Errno> {
    let [f0, f1, _, _, p0, p1, p2, p3, g0, g1, g2, g3] =
        *name.first_chunk::<NAME_LEN>().ok_or(Errno::INVAL)?;
    if u16::from_ne_bytes([f0, f1]) != libc::AF_NETLINK as u16 {
        return Err(Errno::INVAL);
    }
    let word = u32::from_ne_bytes;
    Ok((word([p0, p1, p2, p3]), word([g0, g1, g2, g3])))
}

/// bind: it has a port already, and hears of no changes.
///
/// # Errors
/// `EINVAL` for another port or another kind of address; `EPERM` for groups.
pub(super) fn bind(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    match port_and_groups(address)? {
        (_, 1..) => Err(Errno::PERM),
        (wanted, 0) if wanted == 0 || wanted == port(socket)? => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

/// connect, and the address of a message: there is nobody but the kernel.
///
/// # Errors
/// `EINVAL` for another kind of address; `EPERM` for others than the kernel.
pub(super) fn check_destination(address: &[u8]) -> Result<(), Errno> {
    match port_and_groups(address)? {
        (0, 0) => Ok(()),
        _ => Err(Errno::PERM),
    }
}

/// The flags of a message: nothing is urgent.
///
/// # Errors
/// `EOPNOTSUPP`, as Linux.
pub(super) fn check_flags(flags: i32) -> Result<(), Errno> {
    match flags & libc::MSG_OOB {
        0 => Ok(()),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// What the vector of `count` buffers at `iov` holds, in one.
///
/// # Errors
/// `EMSGSIZE` for more than is looked at, or too many buffers; `EFAULT`.
pub(super) fn gathered(memory: &GuestMemory, iov: u64, count: u64) -> Result<Vec<u8>, Errno> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_PARTS {
        return Err(Errno::MSGSIZE);
    }
    let mut entries = vec![0; count * abi::IOVEC_LEN];
    memory.read(iov, &mut entries)?;
    let mut all = Vec::new();
    for entry in entries.as_chunks::<{ abi::IOVEC_LEN }>().0 {
        let (base, len) = abi::iovec(entry);
        add(memory, base, len, &mut all)?;
    }
    Ok(all)
}

/// Adds what a buffer holds.
///
/// # Errors
/// As [`gathered`].
pub(super) fn add(
    memory: &GuestMemory,
    base: u64,
    len: u64,
    all: &mut Vec<u8>,
) -> Result<(), Errno> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MOST - all.len() {
        return Err(Errno::MSGSIZE);
    }
    let before = all.len();
    all.resize(before + len, 0);
    memory.read(base, &mut all[before..])
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Types below this are no requests.
const NLMSG_MIN_TYPE: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

/// The header of a request.
struct Header {
    len: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] =
            *bytes.first_chunk::<HEADER_LEN>()?;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        (HEADER_LEN..=bytes.len()).contains(&len).then_some(Self {
            len,
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        })
    }
}

/// Answers what is asked in a message, of which all is taken.
///
/// # Errors
/// `ENOBUFS` where answers that nobody has read leave no room.
pub(super) fn ask(net: Net, socket: &OwnedFd, message: &[u8]) -> Result<i32, Errno> {
    let port = port(socket)?;
    let mut rest = message;
    // What has no header is passed over, as the kernel does.
    while let Some(header) = Header::of(rest) {
        let (request, after) = rest.split_at(header.len);
        if header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE {
            answer(net, socket, port, &header, request)?;
        } else if header.flags & NLM_F_ACK != 0 {
            send(socket, &refusal(port, &header, request, 0))?;
        }
        let padding = header.len.next_multiple_of(4) - header.len;
        rest = after.get(padding..).unwrap_or_default();
    }
    Ok(message.len() as i32) // At most `MOST`.
}

fn answer(
    net: Net,
    socket: &OwnedFd,
    port: u32,
    header: &Header,
    request: &[u8],
) -> Result<(), Errno> {
    let dumps = header.flags & NLM_F_DUMP != 0;
    let all = match header.kind {
        RTM_GETLINK | RTM_GETADDR if dumps => Interfaces::of(net)?,
        // Those in fours that ask are the third; the others change something.
        kind => {
            let asks = kind % 4 == RTM_GETLINK % 4;
            let errno = if asks { Errno::OPNOTSUPP } else { Errno::PERM };
            let code = errno.raw_os_error();
            return send(socket, &refusal(port, header, request, code));
        }
    };
    let family = request.get(HEADER_LEN).copied().unwrap_or_default();
    let parts: Vec<Vec<u8>> = match header.kind {
        RTM_GETLINK => all.links.iter().map(link).collect(),
        _ => {
            let wanted = |one: &&Address| family == 0 || family == family_of(one.address);
            let addresses = all.addresses.iter().filter(wanted);
            addresses.map(address).collect()
        }
    };
    let kind = match header.kind {
        RTM_GETLINK => RTM_NEWLINK,
        _ => RTM_NEWADDR,
    };
    let mut piece = Vec::new();
    for body in parts {
        let part = message(kind, NLM_F_MULTI, header.sequence, port, &body);
        if piece.len() + part.len() > PIECE {
            send(socket, &std::mem::take(&mut piece))?;
        }
        piece.extend(part);
    }
    if !piece.is_empty() {
        send(socket, &piece)?;
    }
    send(
        socket,
        &message(NLMSG_DONE, NLM_F_MULTI, header.sequence, port, &[0; 4]),
    )
}

/// An answer with an errno, or 0, and the header of what was asked.
fn refusal(port: u32, header: &Header, request: &[u8], errno: i32) -> Vec<u8> {
    let mut body = (-errno).to_ne_bytes().to_vec();
    body.extend(&request[..HEADER_LEN]);
    message(NLMSG_ERROR, 0, header.sequence, port, &body)
}

fn message(kind: u16, flags: u16, sequence: u32, port: u32, body: &[u8]) -> Vec<u8> {
    let len = (HEADER_LEN + body.len()) as u32; // Far below.
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(port.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Adds a `struct rtattr` with its value.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = (4 + value.len()) as u16; // Names and addresses are short.
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn text(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

/// A `struct ifinfomsg` and what follows it.
fn link(link: &Link) -> Vec<u8> {
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_BROADCAST: u16 = 2;
    const IFLA_IFNAME: u16 = 3;
    let mut bytes = vec![0; 2];
    bytes.extend(link.kind.to_ne_bytes());
    bytes.extend(link.index.to_ne_bytes());
    bytes.extend(link.flags.to_ne_bytes());
    bytes.extend([0; 4]);
    attribute(&mut bytes, IFLA_IFNAME, &text(&link.name));
    if link.address_len > 0 {
        let zeros = vec![0; link.address_len];
        attribute(&mut bytes, IFLA_ADDRESS, &zeros);
        attribute(&mut bytes, IFLA_BROADCAST, &zeros);
    }
    bytes
}

fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// A `struct ifaddrmsg` and what follows it.
fn address(one: &Address) -> Vec<u8> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_LABEL: u16 = 3;
    const IFA_BROADCAST: u16 = 4;
    const EVERYWHERE: u8 = 0;
    const ON_THE_LINK: u8 = 253;
    const IN_THE_HOST: u8 = 254;
    let scope = match one.address {
        address if address.is_loopback() => IN_THE_HOST,
        IpAddr::V6(address) if address.is_unicast_link_local() => ON_THE_LINK,
        _ => EVERYWHERE,
    };
    let mut bytes = vec![family_of(one.address), one.prefix, 0, scope];
    bytes.extend(one.index.to_ne_bytes());
    match one.address {
        IpAddr::V4(address) => {
            attribute(&mut bytes, IFA_ADDRESS, &address.octets());
            attribute(&mut bytes, IFA_LOCAL, &address.octets());
            if let Some(broadcast) = one.broadcast {
                attribute(&mut bytes, IFA_BROADCAST, &broadcast.octets());
            }
            attribute(&mut bytes, IFA_LABEL, &text(&one.label));
        }
        IpAddr::V6(address) => attribute(&mut bytes, IFA_ADDRESS, &address.octets()),
    }
    bytes
}

/// Puts a part of an answer into the socket's queue.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer is as long as said.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if sent >= 0 {
        return Ok(());
    }
    match last_error() {
        Errno::AGAIN => Err(Errno::NOBUFS),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
    use super::*;

    const WRITE: u32 = 1;
    const WRITEV: u32 = 20;
    const SOCKET: u32 = 41;
    const CONNECT: u32 = 42;
    const SENDTO: u32 = 44;
    const RECVFROM: u32 = 45;
    const SENDMSG: u32 = 46;
    const BIND: u32 = 49;
    const NAME: u32 = 51;
    const PEER: u32 = 52;
    const DONTWAIT: u64 = 0x40;
    const ASKED: u64 = 0x1000;
    const TO: u64 = 0x2000;
    const TOLD: u64 = 0x4000;
    const ROOM: usize = 0x4000;

    fn netlink(net: Net) -> Fixture {
        let cage = Fixture::with_net(net);
        assert_eq!(cage.call(SOCKET, &[16, 0x8_0003, 0]), Ok(0));
        cage
    }

    /// A request for all of a kind.
    fn request(kind: u16, flags: u16, family: u8) -> Vec<u8> {
        message(kind, flags, 7, 0, &[family, 0, 0, 0])
    }

    fn asks(cage: &Fixture, request: &[u8]) -> Result<i32, Errno> {
        cage.put(ASKED, request);
        cage.call(SENDTO, &[0, ASKED, request.len() as u64, 0, 0, 0])
    }

    /// All answers that wait: kind, flags, number, port, and what follows.
    fn told(cage: &Fixture) -> Vec<(u16, u16, u32, u32, Vec<u8>)> {
        let mut all = Vec::new();
        let args = [0, TOLD, ROOM as u64, DONTWAIT, 0, 0];
        while let Ok(len) = cage.call(RECVFROM, &args) {
            let piece = cage.get(TOLD, len as usize);
            assert!(piece.len() <= PIECE);
            let mut rest = &piece[..];
            while let Some(header) = Header::of(rest) {
                let port = u32::from_ne_bytes(*rest[12..].first_chunk().unwrap());
                let body = rest[HEADER_LEN..header.len].to_vec();
                all.push((header.kind, header.flags, header.sequence, port, body));
                rest = &rest[header.len.next_multiple_of(4)..];
            }
            assert!(rest.is_empty());
        }
        all
    }

    fn kinds(cage: &Fixture) -> Vec<u16> {
        told(cage).iter().map(|one| one.0).collect()
    }

    fn code(cage: &Fixture) -> i32 {
        let all = told(cage);
        let [(NLMSG_ERROR, 0, 7, _, body)] = &all[..] else {
            panic!("{all:?}");
        };
        i32::from_ne_bytes(*body.first_chunk().unwrap())
    }

    fn own_port(cage: &Fixture, nr: u32) -> u32 {
        cage.put(TO, &[ROOM as u8, 64, 0, 0]);
        assert_eq!(cage.call(nr, &[0, TOLD, TO]), Ok(0));
        assert_eq!(cage.get(TO, 4), [NAME_LEN as u8, 0, 0, 0]);
        let name = cage.get(TOLD, NAME_LEN);
        assert_eq!((&name[..4], &name[8..]), (&[16, 0, 0, 0][..], &[0; 4][..]));
        u32::from_ne_bytes(*name[4..].first_chunk().unwrap())
    }

    #[test]
    fn interfaces_and_addresses_are_told() {
        for net in [Net::All, Net::Loopback] {
            let cage = netlink(net);
            let all = Interfaces::of(net).unwrap();
            let port = own_port(&cage, NAME);
            // Nobody's number, this process's least of all.
            assert!(port >= PORTS);
            assert_eq!(own_port(&cage, PEER), 0);
            let request = request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0);
            assert_eq!(asks(&cage, &request), Ok(request.len() as i32));
            let links = told(&cage);
            assert_eq!(links.len(), all.links.len() + 1);
            for ((kind, flags, sequence, to, body), one) in links.iter().zip(&all.links) {
                assert_eq!((*kind, *flags), (RTM_NEWLINK, NLM_F_MULTI));
                assert_eq!((*sequence, *to), (7, port));
                assert_eq!(*body, link(one));
            }
            assert_eq!(links.last().unwrap().0, NLMSG_DONE);
            for family in [0, libc::AF_INET as u8, libc::AF_INET6 as u8] {
                let wanted = |one: &&Address| family == 0 || family == family_of(one.address);
                let expected = all.addresses.iter().filter(wanted).map(address);
                let request = super::tests::request(RTM_GETADDR, 0x301, family);
                asks(&cage, &request).unwrap();
                let mut bodies: Vec<_> = told(&cage).into_iter().map(|one| one.4).collect();
                assert_eq!(bodies.pop(), Some(vec![0; 4]));
                assert_eq!(bodies, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_address_below_ip_is_not_told() {
        let told = link(&Link {
            name: b"eth0".to_vec(),
            index: 3,
            flags: 1,
            kind: 1,
            address_len: 6,
        });
        let name = [9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0];
        let zeros = |kind| [10, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let head = [0, 0, 1, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let parts = [&head[..], &name, &zeros(1), &zeros(2)];
        assert_eq!(told, parts.concat());
    }

    #[test]
    fn there_is_none_without_a_network_and_no_other_kind() {
        let cage = Fixture::with_net(Net::None);
        assert_eq!(cage.call(SOCKET, &[16, 3, 0]), Err(Errno::ACCESS));
        let cage = Fixture::new();
        assert_eq!(cage.call(SOCKET, &[16, 2, 0]), Ok(0));
        for protocol in [1, 2, 4, 15, 31, 32, u64::MAX] {
            let made = cage.call(SOCKET, &[16, 3, protocol]);
            assert_eq!(made, Err(Errno::PROTONOSUPPORT), "{protocol}");
        }
        for kind in [1, 4, 5] {
            let made = cage.call(SOCKET, &[16, kind, 0]);
            assert_eq!(made, Err(Errno::SOCKTNOSUPPORT), "{kind}");
        }
        assert!(cage.call(53, &[16, 3, 0, TOLD]).is_err());
    }

    #[test]
    fn who_writes_asks_as_who_sends() {
        let cage = netlink(Net::Loopback);
        let good = request(RTM_GETLINK, 0x301, 0);
        let all = good.len() as u64;
        cage.put(ASKED, &good);
        let words = [ASKED, 9, ASKED + 9, all - 9];
        let pieces: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        cage.put(TO, &pieces);
        for (nr, args) in [(WRITE, [0, ASKED, all]), (WRITEV, [0, TO, 2])] {
            assert_eq!(cage.call(nr, &args), Ok(all as i32), "{nr}");
            assert_eq!(kinds(&cage), [RTM_NEWLINK, NLMSG_DONE], "{nr}");
        }
        for (nr, args, errno) in [
            (WRITE, [0, UNMAPPED, all], Errno::FAULT),
            (WRITE, [0, ASKED, MOST as u64 + 1], Errno::MSGSIZE),
            (WRITEV, [0, UNMAPPED, 1], Errno::FAULT),
            (WRITEV, [0, TO, 1025], Errno::INVAL),
        ] {
            assert_eq!(cage.call(nr, &args), Err(errno), "{nr} {args:?}");
            assert!(told(&cage).is_empty());
        }
    }

    #[test]
    fn nothing_is_urgent() {
        let cage = netlink(Net::Loopback);
        let good = request(RTM_GETLINK, 0x301, 0);
        cage.put(ASKED, &good);
        let urgent = libc::MSG_OOB as u64;
        let sent = cage.call(SENDTO, &[0, ASKED, good.len() as u64, urgent, 0, 0]);
        assert_eq!(sent, Err(Errno::OPNOTSUPP));
        cage.put(TOLD, &[0; 56]);
        assert_eq!(
            cage.call(SENDMSG, &[0, TOLD, urgent]),
            Err(Errno::OPNOTSUPP)
        );
        assert!(told(&cage).is_empty());
    }

    #[test]
    fn nothing_is_changed_and_nothing_else_is_told() {
        let cage = netlink(Net::All);
        // New, changed and gone links, addresses, routes; neighbours, routes and rules asked for.
        for kind in [16, 17, 19, 20, 21, 24, 25] {
            asks(&cage, &request(kind, 5, 0)).unwrap();
            assert_eq!(code(&cage), -libc::EPERM, "{kind}");
        }
        for kind in [26, 30, 34, 0xfffe] {
            asks(&cage, &request(kind, 0x301, 0)).unwrap();
            assert_eq!(code(&cage), -libc::EOPNOTSUPP, "{kind}");
        }
        // One link alone.
        asks(&cage, &request(RTM_GETLINK, NLM_F_REQUEST, 0)).unwrap();
        assert_eq!(code(&cage), -libc::EOPNOTSUPP);
        // No request, and one that wants to hear that it was.
        asks(&cage, &request(RTM_GETLINK, 0x300, 0)).unwrap();
        asks(&cage, &request(NLMSG_DONE, NLM_F_REQUEST, 0)).unwrap();
        assert!(told(&cage).is_empty());
        asks(&cage, &request(NLMSG_DONE, NLM_F_REQUEST | NLM_F_ACK, 0)).unwrap();
        assert_eq!(code(&cage), 0);
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        let cage = netlink(Net::Loopback);
        let good = request(RTM_GETADDR, 0x301, 0);
        let mut long = good.clone();
        long[0] = 21;
        let mut short = good.clone();
        short[0] = 15;
        let mut huge = good.clone();
        huge[3] = 0xff;
        for bytes in [&b""[..], b"x", &good[..15], &long, &short, &huge, &[0; 64]] {
            assert_eq!(asks(&cage, bytes), Ok(bytes.len() as i32), "{bytes:?}");
            assert!(told(&cage).is_empty(), "{bytes:?}");
        }
        // A header alone asks for all; what follows is looked at.
        let mut bare = good[..16].to_vec();
        bare[0] = 16;
        asks(&cage, &[&bare[..], &good, &long].concat()).unwrap();
        let ends = kinds(&cage)
            .iter()
            .filter(|&&kind| kind == NLMSG_DONE)
            .count();
        assert_eq!(ends, 2);
    }

    #[test]
    fn addresses_and_buffers_that_are_wrong_are_errors() {
        let cage = netlink(Net::All);
        let good = request(RTM_GETLINK, 0x301, 0);
        cage.put(ASKED, &good);
        let port = own_port(&cage, NAME);
        let own = name(port);
        let mut group = name(0);
        group[8] = 1;
        let mut inet = name(0);
        inet[0] = 2;
        for (address, len, bound, reached) in [
            (name(0), 12, Ok(0), Ok(0)),
            (own, 12, Ok(0), Err(Errno::PERM)),
            (name(1), 12, Err(Errno::INVAL), Err(Errno::PERM)),
            (group, 12, Err(Errno::PERM), Err(Errno::PERM)),
            (inet, 12, Err(Errno::INVAL), Err(Errno::INVAL)),
            (name(0), 11, Err(Errno::INVAL), Err(Errno::INVAL)),
            (name(0), 0, Err(Errno::INVAL), Err(Errno::INVAL)),
            (name(0), 129, Err(Errno::INVAL), Err(Errno::INVAL)),
        ] {
            cage.put(TO, &address);
            assert_eq!(cage.call(BIND, &[0, TO, len]), bound, "{address:?}");
            assert_eq!(cage.call(CONNECT, &[0, TO, len]), reached, "{address:?}");
            let sent = cage.call(SENDTO, &[0, ASKED, good.len() as u64, 0, TO, len]);
            let all = good.len() as i32;
            assert_eq!(sent, reached.map(|_| all), "{address:?}");
        }
        assert_eq!(own_port(&cage, NAME), port);
        for (at, len, errno) in [
            (UNMAPPED, 20, Errno::FAULT),
            (ASKED, MOST as u64 + 1, Errno::MSGSIZE),
            (ASKED, u64::MAX, Errno::MSGSIZE),
            (u64::MAX - 3, 20, Errno::FAULT),
        ] {
            let sent = cage.call(SENDTO, &[0, at, len, 0, 0, 0]);
            assert_eq!(sent, Err(errno), "{at:#x} {len}");
        }
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = |iov: u64, count: u64| -> Vec<u8> { words(&[0, 0, iov, count, 0, 0, 0]) };
        // In two pieces, in none, and in far too many.
        let pieces: Vec<u8> = words(&[ASKED, 9, ASKED + 9, good.len() as u64 - 9]);
        cage.put(TO, &pieces);
        for (iov, count, sent) in [
            (TO, 2, Ok(good.len() as i32)),
            (TO, 0, Ok(0)),
            (TO, 1025, Err(Errno::MSGSIZE)),
            (TO, u64::MAX, Err(Errno::MSGSIZE)),
            (UNMAPPED, 1, Err(Errno::FAULT)),
        ] {
            let _ = told(&cage);
            cage.put(TOLD, &header(iov, count));
            let got = cage.call(SENDMSG, &[0, TOLD, 0]);
            assert_eq!(got, sent, "{count}");
        }
    }

    /// Answers that nobody reads end in an error, and the socket goes on.
    #[test]
    fn a_full_queue_is_an_error() {
        let cage = netlink(Net::Loopback);
        let good = request(RTM_GETLINK, 0x301, 0);
        let full = (0..100_000).find_map(|_| asks(&cage, &good).err());
        assert_eq!(full, Some(Errno::NOBUFS));
        assert!(kinds(&cage).len() > 10);
        asks(&cage, &good).unwrap();
        assert_eq!(kinds(&cage), [RTM_NEWLINK, NLMSG_DONE]);
    }

    /// Who knows the port can't put anything into the queue.
    #[test]
    fn nobody_else_is_heard() {
        let cage = netlink(Net::All);
        let to = name(own_port(&cage, NAME));
        // SAFETY: no memory is involved, and then a buffer and a name of those lengths.
        let sent = unsafe {
            let other = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_USERSOCK);
            assert!(other >= 0);
            let (text, len) = (b"forged".as_ptr().cast(), 6);
            let sent = libc::sendto(other, text, len, 0, to.as_ptr().cast(), NAME_LEN as u32);
            let why = last_error();
            libc::close(other);
            (sent, why)
        };
        assert_eq!(sent, (-1, Errno::CONNREFUSED));
        assert!(told(&cage).is_empty());
    }
}
