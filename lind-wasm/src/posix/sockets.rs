//! Sockets: making, naming and connecting them. What goes through them is in `messages` and, by
//! read and write, in `io`.

use super::addresses::{self, Address, Destination, ROOM};
use super::fds::{check_room, put_pair};
use super::io::answer;
use super::{Call, Entry, interfaces};
use crate::regions::Prot;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_type};
use std::os::fd::AsRawFd;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(41, socket),
    Entry::new(42, connect),
    Entry::new(43, |call| accept(call, 0)),
    Entry::new(48, shutdown),
    Entry::new(49, bind),
    Entry::new(50, listen),
    Entry::new(51, |call| {
        give(call, &name(call, libc::getsockname)?).map(|()| 0)
    }),
    Entry::new(52, |call| {
        give(call, &name(call, libc::getpeername)?.of_peer()).map(|()| 0)
    }),
    Entry::new(53, socketpair),
    Entry::new(288, |call| accept(call, call.int(3))),
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

    /// Refuses what no cage may have: families other than IPv4, IPv6, UNIX and what tells of
    /// interfaces, raw sockets, and protocols other than TCP and UDP. The answers are those of a kernel without them, to a
    /// process without privileges.
    fn check(&self) -> Result<(), Errno> {
        let (stream, datagram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
        match self.domain {
            // The kernel knows best, and there is nothing in it that a cage may not have.
            libc::AF_UNIX => return Ok(()),
            libc::AF_INET | libc::AF_INET6 => {}
            libc::AF_NETLINK if (0..MAX_TYPE).contains(&self.kind) => {
                return match (self.kind, self.protocol) {
                    (libc::SOCK_RAW | libc::SOCK_DGRAM, libc::NETLINK_ROUTE) => Ok(()),
                    (libc::SOCK_RAW | libc::SOCK_DGRAM, _) => Err(Errno::PROTONOSUPPORT),
                    _ => Err(Errno::SOCKTNOSUPPORT),
                };
            }
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
    if new.domain == libc::AF_NETLINK {
        let socket = interfaces::open(call.rt, new.flags())?;
        return call.target.fds().insert(0, Arc::new(socket), new.cloexec);
    }
    // SAFETY: no memory is involved.
    let socket = owned(unsafe { libc::socket(new.domain, new.flags(), new.protocol) })?;
    let family = AddressFamily::from_raw(new.domain as u16); // Checked, or the kernel took it.
    call.rt.net.adopt(&socket, family)?;
    call.target.fds().insert(0, Arc::new(socket), new.cloexec)
}

fn socketpair(call: &Call<'_>) -> Result<i32, Errno> {
    let new = New::of(call)?;
    check_room(call.target)?;
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
        return Ok(call.image_of(3)?.memory.base().wrapping_add(call.raw(3)));
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
    let address = address_of(call)?;
    if interfaces::is_one(call.rt, &socket) {
        return interfaces::bind(&socket, address.bytes()).map(|()| 0);
    }
    addresses::bind(call, 1, &socket, family, &address)?;
    Ok(0)
}

fn connect(call: &Call<'_>) -> Result<i32, Errno> {
    let socket = call.file(0)?;
    // What is wrong with the address comes before what is wrong with the file.
    let address = address_of(call).map_err(|errno| match socket_domain(&socket) {
        Err(Errno::BADF) => Errno::BADF,
        _ => errno,
    })?;
    if interfaces::is_one(call.rt, &socket) {
        return interfaces::check_destination(address.bytes()).map(|()| 0);
    }
    let family = socket_domain(&socket)?;
    let to = Destination::of_connection(call, 1, family, address)?;
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
        check_room(call.target)?;
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
    match call.raw(1) {
        0 => {}
        at if call.rt.strict => peer.give_unmeasured(call, &call.image_of(1)?.memory, at)?,
        _ => give(call, &peer)?,
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

fn name(call: &Call<'_>, ask: NameFn) -> Result<Address, Errno> {
    let socket = call.file(0)?;
    let mut address = Address::none();
    let mut len = ROOM as libc::socklen_t;
    // SAFETY: there is room for an address of that length.
    answer(unsafe { ask(socket.as_raw_fd(), address.as_mut_ptr(), &raw mut len) })?;
    address.set_len(len);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, SOCKETS, Twins, UNMAPPED, families, inet, unix};
    use super::*;
    use crate::net::Net;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    const STREAM: A<'_> = A::I(1);
    const DATAGRAM: A<'_> = A::I(2);
    const UNIX: A<'_> = A::I(1);
    const INET: A<'_> = A::I(2);
    const ZERO: A<'_> = A::I(0);
    const NONBLOCK: i64 = 0o4000;

    /// What is refused although the kernel has it, for a process with all privileges at least.
    fn is_refused(domain: i64, kind: i64, protocol: i64) -> bool {
        match domain {
            1 => false,
            2 | 10 => kind == 3 || kind == 10 || ![0, 6, 17].contains(&protocol),
            _ => true,
        }
    }

    #[test]
    fn sockets_are_those_of_a_kernel_without_the_others() {
        let twins = Twins::new();
        let mut made = 0;
        let domains = [-1, 0, 1, 2, 3, 10, 16, 17, 29, 38, 40, 44, 45, 46, 1000];
        let kinds = [
            -1, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 15, 16, 0x801, 0x8_0802, 0x1001,
        ];
        let protocols = [-1, 0, 1, 2, 6, 17, 58, 132, 136, 255, 262, 263, 1000];
        for domain in domains {
            for kind in kinds {
                for protocol in protocols {
                    let args = [domain, kind, protocol];
                    let (cage, host) = twins.each(41, &args.map(A::I));
                    if let Ok(fd) = host {
                        // SAFETY: it was opened by the call before.
                        unsafe { libc::close(fd) };
                    }
                    match (cage, host) {
                        (Ok(fd), Ok(_)) => {
                            made += 1;
                            assert_eq!(twins.cage.call(3, &[fd as u64]), Ok(0));
                        }
                        (Err(cage), Err(host)) => {
                            let is_foreign = ![1, 2, 10].contains(&domain);
                            let same = cage == host
                                || is_foreign
                                || is_refused(domain, kind & 0xf, protocol);
                            assert!(same, "{args:?}: {cage} instead of {host}");
                        }
                        (Err(_), Ok(_)) => {
                            assert!(is_refused(domain, kind & 0xf, protocol), "{args:?}");
                        }
                        (Ok(_), Err(host)) => panic!("{args:?}: {host}"),
                    }
                }
            }
        }
        assert!(made > 20);
    }

    #[test]
    fn what_only_privileges_give_is_not_given() {
        let cage = Fixture::new();
        for (args, errno) in [
            ([2, 3, 0], Errno::PROTONOSUPPORT),
            ([2, 3, 1], Errno::PERM),
            ([10, 3, 58], Errno::PERM),
            ([2, 10, 3], Errno::PERM),
            ([2, 2, 1], Errno::ACCESS),
            ([2, 1, 262], Errno::PROTONOSUPPORT),
            ([2, 2, 136], Errno::PROTONOSUPPORT),
            ([16, 3, 4], Errno::PROTONOSUPPORT),
            ([16, 1, 0], Errno::SOCKTNOSUPPORT),
            ([17, 3, 0], Errno::AFNOSUPPORT),
        ] {
            assert_eq!(cage.call(41, &args), Err(errno), "{args:?}");
        }
    }

    #[test]
    fn descriptors_of_sockets_have_their_flags() {
        let cage = Fixture::new();
        assert_eq!(cage.call(41, &[2, 0x8_0801, 0]), Ok(0));
        assert_eq!(cage.call(72, &[0, 1, 0]), Ok(1));
        assert_eq!(cage.call(72, &[0, 3, 0]), Ok(0o4002));
        assert_eq!(cage.call(53, &[1, 0x8_0001, 0, 0x1000]), Ok(0));
        assert_eq!(cage.get(0x1000, 8), [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(cage.call(72, &[1, 1, 0]), Ok(1));
        assert_eq!(cage.call(72, &[2, 1, 0]), Ok(1));
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Ok(0));
        assert_eq!(cage.call(72, &[3, 1, 0]), Ok(0));
        while cage.call(41, &[1, 1, 0]).is_ok() {}
        assert_eq!(cage.call(41, &[1, 1, 0]), Err(Errno::MFILE));
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Err(Errno::MFILE));
        assert_eq!(cage.call(3, &[9]), Ok(0));
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Err(Errno::MFILE));
        assert_eq!(cage.call(41, &[1, 1, 0]), Ok(9));
    }

    #[test]
    fn pairs_come_as_the_kernel_gives_them() {
        let mut twins = Twins::new();
        for kind in [1, 2, 5, 0x801, 3, 4, 0x1001] {
            let _ = twins.pair(53, &[UNIX, A::I(kind), ZERO]);
            let (cage, host) = twins.each(53, &[UNIX, A::I(kind), ZERO, A::Nowhere]);
            assert_eq!((cage, host), (host, cage));
        }
        assert_eq!(twins.pair(53, &[INET, STREAM, ZERO]), Err(Errno::OPNOTSUPP));
        assert!(twins.pair(53, &[A::I(77), STREAM, ZERO]).is_err());
        let cage = Fixture::new();
        assert_eq!(cage.call(53, &[1, 1, 0, UNMAPPED]), Err(Errno::FAULT));
        assert_eq!(cage.call(41, &[1, 1, 0]), Ok(0));
    }

    #[test]
    fn calls_fail_as_the_kernels_do() {
        let none = unix(b"/no/such/folder/socket");
        // Nobody listens on port 0, and who is bound to it gets another.
        let remote = inet("127.0.0.1:0");
        let remote6 = inet("[::1]:0");
        let elsewhere = inet("192.0.2.77:0");
        let mut unspecified = inet("0.0.0.0:0");
        unspecified[0] = 0;
        let addresses: Vec<(A<'_>, i64)> = vec![
            (A::In(&none), none.len() as i64),
            (A::In(&none), 111),
            (A::In(&remote), 16),
            (A::In(&remote), 15),
            (A::In(&remote), 2),
            (A::In(&remote), 1),
            (A::In(&remote), 0),
            (A::In(&remote), -1),
            (A::In(&remote), 129),
            (A::In(&remote6), 28),
            (A::In(&remote6), 24),
            (A::In(&remote6), 23),
            (A::In(&elsewhere), 16),
            (A::In(&unspecified), 16),
            (A::Nowhere, 16),
            (A::Nowhere, 0),
        ];
        // Connecting and binding change what comes after: fresh sockets for each address.
        for nr in [42, 49] {
            for &(address, len) in &addresses {
                let (twins, fds) = Twins::with_sockets();
                for fd in fds {
                    let _ = twins.agree(nr, &[fd, address, A::I(len)]);
                    let _ = twins.agree(nr, &[fd, address, A::I(len)]);
                }
            }
        }
        let (twins, fds) = Twins::with_sockets();
        for fd in fds {
            for how in [-1, 0, 1, 2, 3] {
                let _ = twins.agree(48, &[fd, A::I(how)]);
            }
            let _ = twins.agree(43, &[fd, ZERO, ZERO]);
            for flags in [0, NONBLOCK, 0x8_0000, 1] {
                let _ = twins.agree(288, &[fd, ZERO, ZERO, A::I(flags)]);
            }
            let _ = twins.agree(52, &[fd, A::Room(128), A::In(&[128, 0, 0, 0])]);
            for room in [A::In(&[16, 0, 0, 0]), A::In(&[0xff; 4]), A::Nowhere] {
                let (cage, host) = twins.each(51, &[fd, A::Room(128), room]);
                assert_eq!(cage, host, "{fd:?} {room:?}");
            }
            let _ = twins.agree(51, &[fd, A::Nowhere, A::In(&[16, 0, 0, 0])]);
            let _ = twins.agree(50, &[fd, A::I(-1)]);
        }
    }

    /// Room for an address, and the place that says how much.
    const NAME: [A<'_>; 2] = [A::Room(128), A::Change(&[128, 0, 0, 0])];

    fn name_of(twins: &Twins, nr: u32, fd: A<'_>) -> (Vec<u8>, Vec<u8>) {
        let rooms = twins.rooms(nr, &[fd, NAME[0], NAME[1]]);
        let len = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
        let (cage, host) = &rooms[0];
        let (mine, its) = (len(&rooms[1].0), len(&rooms[1].1));
        (cage[..mine].to_vec(), host[..its].to_vec())
    }

    #[test]
    fn addresses_come_cut_to_the_room_and_with_their_length() {
        let (twins, _) = Twins::with_sockets();
        for room in [0i32, 1, 2, 4, 15, 16, 17, 1000, -1] {
            let room = room.to_le_bytes();
            for fd in (0..SOCKETS).map(A::Fd) {
                // No port in these: both worlds have the same.
                let args = [fd, A::Out(128), A::Change(&room)];
                let rooms = twins.rooms(51, &args);
                assert!(rooms.iter().all(|(cage, host)| cage == host));
                let _ = twins.agree(51, &args);
            }
        }
    }

    #[test]
    fn connections_are_made_and_named() {
        for (family, any) in families() {
            let family = A::I(family);
            let mut twins = Twins::new();
            let any = inet(any);
            let len = A::I(any.len() as i64);
            twins.descriptor(41, &[family, STREAM, ZERO]).unwrap();
            assert_eq!(twins.agree(49, &[A::Fd(0), A::In(&any), len]), Ok(0));
            assert_eq!(twins.agree(50, &[A::Fd(0), A::I(5)]), Ok(0));
            let (mine, its) = name_of(&twins, 51, A::Fd(0));
            assert_eq!((&mine[4..], mine.len()), (&any[4..], any.len()));
            twins.descriptor(41, &[family, STREAM, ZERO]).unwrap();
            let connect = [A::Fd(1), A::Each(&mine, &its), len];
            assert_eq!(twins.agree(42, &connect), Ok(0));
            assert_eq!(twins.agree(42, &connect), Err(Errno::ISCONN));
            twins.descriptor(43, &[A::Fd(0), NAME[0], NAME[1]]).unwrap();
            assert_eq!(name_of(&twins, 52, A::Fd(1)), (mine.clone(), its.clone()));
            assert_eq!(name_of(&twins, 52, A::Fd(2)), name_of(&twins, 51, A::Fd(1)));
            // A connection is lost when there is no place for its address, as in the kernel.
            twins.descriptor(41, &[family, STREAM, ZERO]).unwrap();
            assert_eq!(twins.agree(42, &[A::Fd(3), connect[1], len]), Ok(0));
            for args in [[A::Fd(0), A::Nowhere, NAME[1]], [A::Fd(0), NAME[0], ZERO]] {
                assert_eq!(twins.agree(43, &args), Err(Errno::FAULT));
                twins.descriptor(41, &[family, STREAM, ZERO]).unwrap();
                let last = A::Fd(twins.count() - 1);
                assert_eq!(twins.agree(42, &[last, connect[1], len]), Ok(0));
            }
        }
    }

    #[test]
    fn a_connection_stays_when_there_is_no_number_for_it() {
        let cage = Fixture::new();
        assert_eq!(cage.call(41, &[2, 1, 0]), Ok(0));
        cage.put(0x1000, &inet("127.0.0.1:0"));
        assert_eq!(cage.call(49, &[0, 0x1000, 16]), Ok(0));
        assert_eq!(cage.call(50, &[0, 5]), Ok(0));
        cage.put(0x2000, &[16, 0, 0, 0]);
        assert_eq!(cage.call(51, &[0, 0x1000, 0x2000]), Ok(0));
        assert_eq!(cage.call(41, &[2, 1, 0]), Ok(1));
        assert_eq!(cage.call(42, &[1, 0x1000, 16]), Ok(0));
        while cage.call(32, &[0]).is_ok() {}
        assert_eq!(cage.call(43, &[0, 0, 0]), Err(Errno::MFILE));
        assert_eq!(cage.call(288, &[0, 0, 0, 1]), Err(Errno::INVAL));
        assert_eq!(cage.call(3, &[700]), Ok(0));
        assert_eq!(cage.call(288, &[0, 0, 0, 0x8_0800]), Ok(700));
        assert_eq!(cage.call(72, &[700, 1, 0]), Ok(1));
        assert_eq!(cage.call(72, &[700, 3, 0]), Ok(0o4002));
    }

    /// The same place, as a cage and as the host names it, in addresses of one length.
    fn places(twins: &Twins, name: &str) -> (Vec<u8>, Vec<u8>) {
        let top = twins.host().as_os_str().as_bytes();
        let (mut mine, mut its) = (
            unix(name.as_bytes()),
            unix(&[top, name.as_bytes()].concat()),
        );
        mine.resize(110, 0);
        its.resize(110, 0);
        (mine, its)
    }

    const UNIX_LEN: A<'_> = A::I(110);

    #[test]
    fn unix_sockets_live_in_the_root() {
        let mut twins = Twins::new();
        twins.prepare(|top| {
            fs::create_dir(top.join("sub")).unwrap();
            fs::write(top.join("file"), "").unwrap();
            symlink("sub", top.join("link")).unwrap();
            symlink("sub/socket", top.join("alias")).unwrap();
            symlink("nothing", top.join("dangling")).unwrap();
        });
        for name in [
            "/file",
            "/file/",
            "/sub",
            "/sub/",
            "/none/socket",
            "/file/socket",
            "/dangling",
            "/sub/.",
            "/sub/..",
            "/fresh/",
            "/alias",
        ] {
            let (mine, its) = places(&twins, name);
            for kind in [STREAM, DATAGRAM] {
                twins.descriptor(41, &[UNIX, kind, ZERO]).unwrap();
                let fd = A::Fd(twins.count() - 1);
                for nr in [42, 49] {
                    let args = [fd, A::Each(&mine, &its), UNIX_LEN];
                    assert!(
                        twins.agree(nr, &args).is_err() || name == "/sub/..",
                        "{name}"
                    );
                }
            }
        }
        // Bound below a link, connected to by another.
        let (mine, its) = places(&twins, "/link/socket");
        twins.descriptor(41, &[UNIX, STREAM, ZERO]).unwrap();
        let server = A::Fd(twins.count() - 1);
        let bind = [server, A::Each(&mine, &its), UNIX_LEN];
        assert_eq!(twins.agree(49, &bind), Ok(0));
        assert_eq!(twins.agree(49, &bind), Err(Errno::ADDRINUSE));
        assert_eq!(name_of(&twins, 51, server).0, unix(b"/link/socket"));
        let (other, other_its) = places(&twins, "/sub/other");
        let again = [server, A::Each(&other, &other_its), UNIX_LEN];
        assert_eq!(twins.agree(49, &again), Err(Errno::INVAL));
        let (alias, alias_its) = places(&twins, "/alias");
        twins.descriptor(41, &[UNIX, STREAM, ZERO]).unwrap();
        let client = A::Fd(twins.count() - 1);
        let connect = [client, A::Each(&alias, &alias_its), UNIX_LEN];
        assert_eq!(twins.agree(42, &connect), Err(Errno::CONNREFUSED));
        assert_eq!(twins.agree(50, &[server, A::I(1)]), Ok(0));
        assert_eq!(twins.agree(42, &connect), Ok(0));
        twins.descriptor(43, &[server, NAME[0], NAME[1]]).unwrap();
        let accepted = A::Fd(twins.count() - 1);
        for (nr, fd) in [(52, client), (51, accepted)] {
            let (cage, host) = name_of(&twins, nr, fd);
            assert_eq!(
                (cage, host.len()),
                (
                    unix(b"/link/socket"),
                    unix(its.split(|&b| b == 0).next().unwrap())
                        .len()
                        .max(host.len())
                )
            );
        }
        assert_eq!(name_of(&twins, 52, accepted).0, [1, 0]);
        assert!(
            fs::metadata(twins.cage.path("sub/socket"))
                .unwrap()
                .file_type()
                .is_socket()
        );
    }

    #[test]
    fn a_bound_socket_has_the_mode_of_its_cage() {
        let cage = Fixture::new();
        for (index, (umask, mode)) in [(0o022, 0o755), (0, 0o777), (0o777, 0)].iter().enumerate() {
            assert!(cage.call(95, &[*umask]).is_ok());
            let fd = cage.call(41, &[1, 1, 0]).unwrap() as u64;
            let name = format!("/socket {index}");
            let address = unix(name.as_bytes());
            cage.put(0x1000, &address);
            assert_eq!(cage.call(49, &[fd, 0x1000, address.len() as u64]), Ok(0));
            let file = fs::metadata(cage.path(name.trim_start_matches('/'))).unwrap();
            assert_eq!(file.permissions().mode() & 0o7777, *mode);
            // The open socket keeps its own.
            assert_eq!(cage.call(5, &[fd, 0x2000]), Ok(0));
            let stat = cage.get(0x2010, 4);
            assert_eq!(u32::from_le_bytes(stat.try_into().unwrap()) & 0o777, 0o777);
        }
    }

    #[test]
    fn relative_and_long_names_come_back_as_they_were_given() {
        let cage = Fixture::new();
        fs::create_dir(cage.path("here")).unwrap();
        let here = cage.text("/here");
        assert_eq!(cage.call(80, &[here]), Ok(0));
        let long = "n".repeat(107);
        let full = "m".repeat(108);
        for name in ["socket", "./../here/other", &long, &full] {
            let address = &unix(name.as_bytes())[..2 + name.len()];
            cage.put(0x1000, address);
            let len = address.len() as u64;
            let server = cage.call(41, &[1, 1, 0]).unwrap() as u64;
            assert_eq!(cage.call(49, &[server, 0x1000, len]), Ok(0), "{name}");
            assert_eq!(cage.call(50, &[server, 1]), Ok(0));
            let client = cage.call(41, &[1, 1, 0]).unwrap() as u64;
            assert_eq!(cage.call(42, &[client, 0x1000, len]), Ok(0), "{name}");
            for (nr, fd) in [(51, server), (52, client)] {
                cage.put(0x2000, &[128, 0, 0, 0]);
                assert_eq!(cage.call(nr, &[fd, 0x3000, 0x2000]), Ok(0));
                let shown = unix(name.as_bytes());
                assert_eq!(cage.get(0x2000, 4), (shown.len() as u32).to_le_bytes());
                assert_eq!(cage.get(0x3000, shown.len()), shown);
            }
            assert_eq!(cage.call(49, &[client, 0x1000, len]), Err(Errno::ADDRINUSE));
        }
        assert_eq!(fs::read_dir(cage.path("here")).unwrap().count(), 4);
    }

    #[test]
    fn no_unix_address_leads_out() {
        let cage = Fixture::new();
        let outside = cage.dir.path();
        let _server = std::os::unix::net::UnixListener::bind(outside.join("socket")).unwrap();
        symlink("../socket", cage.path("up")).unwrap();
        symlink(outside.join("socket"), cage.path("absolute")).unwrap();
        symlink(outside, cage.path("away")).unwrap();
        let host = outside.join("socket");
        let before = fs::read_dir(outside).unwrap().count();
        for name in [
            "../socket",
            "/../socket",
            "up",
            "absolute",
            "away/socket",
            host.to_str().unwrap(),
            "/proc/self/cwd/x",
        ] {
            let address = unix(name.as_bytes());
            let len = address.len() as u64;
            cage.put(0x1000, &address);
            for kind in [1, 2] {
                let fd = cage.call(41, &[1, kind, 0]).unwrap() as u64;
                let connected = cage.call(42, &[fd, 0x1000, len]);
                assert_eq!(connected, Err(Errno::NOENT), "{name}");
                let sent = cage.call(44, &[fd, 0x1000, 1, 0, 0x1000, len]);
                assert!(sent.is_err(), "{name}");
                assert_eq!(cage.call(3, &[fd]), Ok(0));
            }
        }
        for name in ["../bound", "/../bound2", "away/bound"] {
            let address = unix(name.as_bytes());
            cage.put(0x1000, &address);
            let fd = cage.call(41, &[1, 1, 0]).unwrap() as u64;
            let _ = cage.call(49, &[fd, 0x1000, address.len() as u64]);
        }
        assert_eq!(fs::read_dir(outside).unwrap().count(), before);
        assert!(cage.path("bound").exists());
    }

    #[test]
    fn abstract_names_are_refused() {
        let cage = Fixture::new();
        for (address, kind) in [
            (&[1, 0, 0, b'x'][..], 1),
            (&[1, 0, 0], 2),
            (&[1, 0, 0, b'/'], 5),
        ] {
            cage.put(0x1000, address);
            let len = address.len() as u64;
            let fd = cage.call(41, &[1, kind, 0]).unwrap() as u64;
            assert_eq!(cage.call(49, &[fd, 0x1000, len]), Err(Errno::PERM));
            assert_eq!(cage.call(42, &[fd, 0x1000, len]), Err(Errno::PERM));
            // The kernel would choose one.
            assert_eq!(cage.call(49, &[fd, 0x1000, 2]), Err(Errno::PERM));
            assert_eq!(cage.call(42, &[fd, 0x1000, 2]), Err(Errno::INVAL));
            if kind == 2 {
                let sent = cage.call(44, &[fd, 0x1000, 1, 0, 0x1000, len]);
                assert_eq!(sent, Err(Errno::PERM));
            }
        }
    }

    #[test]
    fn sockets_of_the_host_keep_their_names_for_themselves() {
        use std::os::unix::net::UnixStream;
        let cage = Fixture::new();
        let address = unix(b"/server");
        cage.put(0x1000, &address);
        assert_eq!(cage.call(41, &[1, 1, 0]), Ok(0));
        assert_eq!(cage.call(49, &[0, 0x1000, address.len() as u64]), Ok(0));
        assert_eq!(cage.call(50, &[0, 1]), Ok(0));
        let _client = UnixStream::connect(cage.path("server")).unwrap();
        cage.put(0x2000, &[110, 0, 0, 0]);
        assert_eq!(cage.call(43, &[0, 0x3000, 0x2000]), Ok(1));
        assert_eq!(cage.get(0x2000, 4), [2, 0, 0, 0]);
        // One that a process of the host has bound, inside of the root.
        let _server = std::os::unix::net::UnixListener::bind(cage.path("host")).unwrap();
        let address = unix(b"/host");
        cage.put(0x1000, &address);
        assert_eq!(cage.call(41, &[1, 1, 0]), Ok(2));
        assert_eq!(cage.call(42, &[2, 0x1000, address.len() as u64]), Ok(0));
        cage.put(0x2000, &[110, 0, 0, 0]);
        assert_eq!(cage.call(52, &[2, 0x3000, 0x2000]), Ok(0));
        assert_eq!(cage.get(0x3000, address.len()), address);
    }

    #[test]
    fn the_network_is_as_wide_as_it_was_made() {
        let reach = |cage: &Fixture, nr: u32, kind: u64, address: &str| {
            let address = inet(address);
            let fd = cage.call(41, &[u64::from(address[0]), kind | 0o4000, 0])? as u64;
            cage.put(0x1000, &address);
            let result = match nr {
                44 => cage.call(44, &[fd, 0x1000, 1, 0, 0x1000, address.len() as u64]),
                _ => cage.call(nr, &[fd, 0x1000, address.len() as u64]),
            };
            cage.call(3, &[fd])?;
            result
        };
        let cage = Fixture::with_net(Net::None);
        assert_eq!(reach(&cage, 42, 1, "127.0.0.1:1"), Err(Errno::ACCESS));
        assert_eq!(cage.call(41, &[10, 2, 0]), Err(Errno::ACCESS));
        assert_eq!(cage.call(41, &[2, 9, 0]), Err(Errno::SOCKTNOSUPPORT));
        assert_eq!(cage.call(41, &[1, 1, 0]), Ok(0));
        let cage = Fixture::with_net(Net::Loopback);
        for outside in [
            "192.0.2.9:9",
            "[2001:db8::9]:9",
            "[::ffff:192.0.2.9]:9",
            "224.0.0.1:9",
        ] {
            for (nr, kind, errno) in [
                (42, 1, Errno::NETUNREACH),
                (42, 2, Errno::NETUNREACH),
                (44, 2, Errno::NETUNREACH),
                (49, 1, Errno::ADDRNOTAVAIL),
            ] {
                assert_eq!(
                    reach(&cage, nr, kind, outside),
                    Err(errno),
                    "{nr} {outside}"
                );
            }
        }
        for (_, any) in families() {
            let inside = any.replace(":0", ":9");
            assert_eq!(reach(&cage, 44, 2, &inside), Ok(1), "{inside}");
            assert_eq!(reach(&cage, 42, 2, &inside), Ok(0), "{inside}");
            assert_eq!(reach(&cage, 49, 1, any), Ok(0), "{any}");
        }
        assert_eq!(reach(&cage, 42, 2, "0.0.0.0:9"), Ok(0));
        assert_eq!(reach(&cage, 49, 1, "0.0.0.0:0"), Ok(0));
        // An IPv4 socket takes an address without a family for one of its own.
        let mut outside = inet("192.0.2.9:9");
        outside[0] = 0;
        cage.put(0x1000, &outside);
        assert_eq!(cage.call(41, &[2, 2, 0]), Ok(0));
        let sent = cage.call(44, &[0, 0x1000, 1, 0, 0x1000, 16]);
        assert_eq!(sent, Err(Errno::NETUNREACH));
        assert_eq!(cage.call(42, &[0, 0x1000, 16]), Ok(0)); // Ends a connection.
        // Data that opens a connection.
        outside[0] = 2;
        cage.put(0x1000, &outside);
        assert_eq!(cage.call(41, &[2, 1, 0]), Ok(1));
        let fast_open = 0x2000_0000;
        let sent = cage.call(44, &[1, 0x1000, 1, fast_open, 0x1000, 16]);
        assert_eq!(sent, Err(Errno::NETUNREACH));
    }
}
