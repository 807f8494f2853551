//! Options of sockets: those in the table, whose values are plain numbers and structures without
//! addresses, and that give a cage no more than its sockets. Others do not exist (`ENOPROTOOPT`).

use super::io::{OUT_OF_REACH, answer};
use super::messages::refused;
use super::{Call, Entry};
use crate::net::Net;
use crate::regions::Prot;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[Entry::new(54, setsockopt), Entry::new(55, getsockopt)];

/// An option that cages have. Whether it can be set, too, the kernel knows.
struct Opt {
    level: i32,
    name: i32,
    /// Most bytes of its value.
    size: usize,
    /// It is set only where the network is the machine's: it acts on the machine's interfaces.
    outside: bool,
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

const fn option(level: i32, name: i32, size: usize) -> Opt {
    Opt {
        level,
        name,
        size,
        outside: false,
    }
}

const fn outside(option: Opt) -> Opt {
    Opt {
        outside: true,
        ..option
    }
}

const fn socket(name: i32, size: usize) -> Opt {
    option(libc::SOL_SOCKET, name, size)
}

const fn tcp(name: i32, size: usize) -> Opt {
    option(libc::IPPROTO_TCP, name, size)
}

const fn ip(name: i32, size: usize) -> Opt {
    option(libc::IPPROTO_IP, name, size)
}

const fn ipv6(name: i32, size: usize) -> Opt {
    option(libc::IPPROTO_IPV6, name, size)
}

static OPTIONS: &[Opt] = &[
    socket(libc::SO_REUSEADDR, INT),
    socket(libc::SO_TYPE, INT),
    socket(libc::SO_ERROR, INT),
    socket(libc::SO_DONTROUTE, INT),
    socket(libc::SO_BROADCAST, INT),
    socket(libc::SO_SNDBUF, INT),
    socket(libc::SO_RCVBUF, INT),
    socket(libc::SO_KEEPALIVE, INT),
    socket(libc::SO_OOBINLINE, INT),
    socket(libc::SO_LINGER, LINGER),
    socket(libc::SO_REUSEPORT, INT),
    socket(libc::SO_PEERCRED, CREDENTIALS),
    socket(libc::SO_RCVLOWAT, INT),
    socket(libc::SO_SNDLOWAT, INT),
    socket(libc::SO_RCVTIMEO, TIMEVAL),
    socket(libc::SO_SNDTIMEO, TIMEVAL),
    socket(SO_RCVTIMEO_NEW, TIMEVAL),
    socket(SO_SNDTIMEO_NEW, TIMEVAL),
    socket(libc::SO_TIMESTAMP, INT),
    socket(libc::SO_TIMESTAMPNS, INT),
    socket(libc::SO_ACCEPTCONN, INT),
    socket(libc::SO_PROTOCOL, INT),
    socket(libc::SO_DOMAIN, INT),
    socket(libc::SO_RXQ_OVFL, INT),
    tcp(libc::TCP_NODELAY, INT),
    tcp(libc::TCP_MAXSEG, INT),
    tcp(libc::TCP_CORK, INT),
    tcp(libc::TCP_KEEPIDLE, INT),
    tcp(libc::TCP_KEEPINTVL, INT),
    tcp(libc::TCP_KEEPCNT, INT),
    tcp(libc::TCP_SYNCNT, INT),
    tcp(libc::TCP_LINGER2, INT),
    tcp(libc::TCP_DEFER_ACCEPT, INT),
    tcp(libc::TCP_WINDOW_CLAMP, INT),
    tcp(libc::TCP_INFO, MAX_SIZE),
    tcp(libc::TCP_QUICKACK, INT),
    tcp(libc::TCP_CONGESTION, CONGESTION_NAME),
    tcp(libc::TCP_USER_TIMEOUT, INT),
    tcp(libc::TCP_NOTSENT_LOWAT, INT),
    ip(libc::IP_TOS, INT),
    ip(libc::IP_TTL, INT),
    ip(libc::IP_PKTINFO, INT),
    ip(libc::IP_MTU_DISCOVER, INT),
    ip(libc::IP_RECVERR, INT),
    ip(libc::IP_RECVTTL, INT),
    ip(libc::IP_RECVTOS, INT),
    ip(libc::IP_MTU, INT),
    ip(libc::IP_BIND_ADDRESS_NO_PORT, INT),
    ip(libc::IP_MULTICAST_TTL, INT),
    ip(libc::IP_MULTICAST_LOOP, INT),
    outside(ip(libc::IP_MULTICAST_IF, IP_GROUP)),
    outside(ip(libc::IP_ADD_MEMBERSHIP, IP_GROUP)),
    outside(ip(libc::IP_DROP_MEMBERSHIP, IP_GROUP)),
    ipv6(libc::IPV6_UNICAST_HOPS, INT),
    ipv6(libc::IPV6_MULTICAST_HOPS, INT),
    ipv6(libc::IPV6_MULTICAST_LOOP, INT),
    outside(ipv6(libc::IPV6_MULTICAST_IF, INT)),
    outside(ipv6(libc::IPV6_ADD_MEMBERSHIP, IPV6_GROUP)),
    outside(ipv6(libc::IPV6_DROP_MEMBERSHIP, IPV6_GROUP)),
    ipv6(IPV6_MTU_DISCOVER, INT),
    ipv6(IPV6_MTU, INT),
    ipv6(libc::IPV6_RECVERR, INT),
    ipv6(libc::IPV6_V6ONLY, INT),
    ipv6(libc::IPV6_RECVPKTINFO, INT),
    ipv6(libc::IPV6_RECVHOPLIMIT, INT),
    ipv6(libc::IPV6_RECVTCLASS, INT),
    ipv6(libc::IPV6_TCLASS, INT),
    ipv6(libc::IPV6_DONTFRAG, INT),
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
    let len = usize::try_from(call.int(4)).map_err(|_| refused(&socket, Errno::INVAL))?;
    let option = find(call)
        .and_then(|option| {
            if option.outside && call.rt.net != Net::All {
                return Err(Errno::NODEV);
            }
            Ok(option)
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
    let option = find(call).map_err(|errno| refused(&socket, errno))?;
    let mut value = [0; MAX_SIZE];
    let mut len = 0;
    // What is wrong with the length the kernel finds itself, as in `setsockopt`.
    let len_place = match len_image.memory.read_array(call.raw(4)) {
        Ok(room) => {
            let room = i32::from_le_bytes(room);
            len = room.min(option.size as i32) as libc::socklen_t;
            &raw mut len
        }
        Err(_) => OUT_OF_REACH.0 as *mut libc::socklen_t,
    };
    // SAFETY: the value has room for that many bytes, or the length's address is no process's. The
    // kernel refuses a negative length.
    answer(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            option.level,
            option.name,
            value.as_mut_ptr().cast(),
            len_place,
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

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, Twins};
    use super::*;

    #[test]
    fn each_option_stands_once_and_fits() {
        for (index, option) in OPTIONS.iter().enumerate() {
            assert!(option.size <= MAX_SIZE);
            let again = OPTIONS[index + 1..]
                .iter()
                .any(|other| (other.level, other.name) == (option.level, option.name));
            assert!(!again, "{} {}", option.level, option.name);
        }
    }

    /// Options whose values are the machine's of the moment, or of the process.
    fn varies(option: &Opt) -> bool {
        let (level, name) = (option.level, option.name);
        (level == libc::SOL_SOCKET && name == libc::SO_PEERCRED)
            || (level == libc::IPPROTO_TCP && name == libc::TCP_INFO)
    }

    #[test]
    fn options_are_the_kernels() {
        let (twins, fds) = Twins::with_sockets();
        let value = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for &fd in &fds {
            for option in OPTIONS.iter().filter(|option| !option.outside) {
                let (level, name) = (A::I(option.level.into()), A::I(option.name.into()));
                for len in [0i32, 1, 3, 4, 8, 16, 300, -1] {
                    let args = [fd, level, name, A::In(&value), A::I(len.into())];
                    let _ = twins.agree(54, &args);
                    let room = len.to_le_bytes();
                    if varies(option) {
                        continue;
                    }
                    let rooms = twins.rooms(55, &[fd, level, name, A::Room(300), A::Change(&room)]);
                    assert!(
                        rooms.iter().all(|(cage, host)| cage == host),
                        "{} {}",
                        option.level,
                        option.name
                    );
                    let _ = twins.agree(55, &[fd, level, name, A::Nowhere, A::Change(&room)]);
                }
                let _ = twins.agree(54, &[fd, level, name, A::Nowhere, A::I(4)]);
                let _ = twins.agree(55, &[fd, level, name, A::Room(4), A::Nowhere]);
            }
        }
    }

    #[test]
    fn other_options_do_not_exist() {
        let (twins, fds) = Twins::with_sockets();
        for &fd in &fds {
            let none = [fd, A::I(1), A::I(999), A::In(&[1, 0, 0, 0]), A::I(4)];
            let _ = twins.agree(54, &none);
            let _ = twins.agree(
                55,
                &[
                    none[0],
                    none[1],
                    none[2],
                    A::Room(4),
                    A::Change(&[4, 0, 0, 0]),
                ],
            );
        }
        let cage = Fixture::new();
        assert_eq!(cage.call(41, &[2, 1, 0]), Ok(0));
        cage.put(0x1000, &[4, 0, 0, 0]);
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
            (libc::SOL_SOCKET, libc::SO_MARK),
            (libc::SOL_SOCKET, libc::SO_PASSCRED),
            (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
            (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
            (libc::IPPROTO_IP, 64), // IPT_SO_SET_REPLACE
            (libc::IPPROTO_TCP, libc::TCP_ULP),
            (libc::IPPROTO_TCP, libc::TCP_REPAIR),
        ] {
            let (level, name) = (level as u64, name as u64);
            let set = cage.call(54, &[0, level, name, 0x1000, 4]);
            let get = cage.call(55, &[0, level, name, 0x2000, 0x1000]);
            assert_eq!((set, get), (Err(Errno::NOPROTOOPT), Err(Errno::NOPROTOOPT)));
        }
    }

    #[test]
    fn groups_are_joined_in_the_whole_network_only() {
        use crate::net::Net;
        for (net, joined) in [(Net::All, Ok(0)), (Net::Loopback, Err(Errno::NODEV))] {
            let cage = Fixture::with_net(net);
            assert_eq!(cage.call(41, &[2, 2, 0]), Ok(0));
            // On the loopback interface: no packet leaves.
            cage.put(0x1000, &[224, 0, 0, 251, 127, 0, 0, 1]);
            assert_eq!(cage.call(54, &[0, 0, 35, 0x1000, 8]), joined);
            assert_eq!(cage.call(54, &[0, 0, 36, 0x1000, 8]), joined);
        }
    }

    #[test]
    fn peers_have_no_number_of_the_host() {
        let cage = Fixture::new();
        assert_eq!(cage.call(53, &[1, 1, 0, 0x1000]), Ok(0));
        cage.put(0x1000, &[12, 0, 0, 0]);
        assert_eq!(cage.call(55, &[0, 1, 17, 0x2000, 0x1000]), Ok(0));
        let own = rustix::process::getuid().as_raw().to_le_bytes();
        assert_eq!(cage.get(0x2000, 8), [&[0; 4], &own[..]].concat());
    }
}
