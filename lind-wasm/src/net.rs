//! The network that cages reach, and listening sockets that a run hands to its program.

use anyhow::Context;
use clap::ValueEnum;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

/// The network interface that leads to this machine alone.
const LOOPBACK_INTERFACE: &[u8] = b"lo\0";

/// What cages reach by IPv4 and IPv6. UNIX sockets are files, and confined as files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// Nothing: IPv4 and IPv6 sockets can't be made
    None,
    /// This machine alone, as if the loopback interface were its only one
    Loopback,
    /// What the machine reaches
    #[default]
    All,
}

impl Net {
    /// Makes a new socket one of this network.
    ///
    /// # Errors
    /// `EACCES` where there is none, and what setsockopt(2) answers.
    pub fn adopt(self, socket: &OwnedFd, family: AddressFamily) -> Result<(), Errno> {
        if !is_internet(family) {
            return Ok(());
        }
        match self {
            Net::None => Err(Errno::ACCESS),
            // What is bound to all addresses, or to none, is not to be reached from outside.
            Net::Loopback => bind_to_loopback(socket),
            Net::All => Ok(()),
        }
    }

    /// Whether packets may go to an address.
    ///
    /// # Errors
    /// `ENETUNREACH`, as on a machine without an interface that leads there.
    pub fn check_destination(self, address: IpAddr) -> Result<(), Errno> {
        self.check(address, Errno::NETUNREACH)
    }

    /// Whether a socket may be bound to an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`, as on a machine that does not have it.
    pub fn check_source(self, address: IpAddr) -> Result<(), Errno> {
        self.check(address, Errno::ADDRNOTAVAIL)
    }

    fn check(self, address: IpAddr, otherwise: Errno) -> Result<(), Errno> {
        let address = address.to_canonical();
        // For Linux, to no address means to this machine. From no address is from any that the
        // socket has, and those are this machine's: see `adopt`.
        let inside = match self {
            Net::None => false,
            Net::Loopback => address.is_loopback() || address.is_unspecified(),
            Net::All => true,
        };
        if inside { Ok(()) } else { Err(otherwise) }
    }
}

/// Whether sockets of a family are for IPv4 or IPv6.
pub fn is_internet(family: AddressFamily) -> bool {
    family == AddressFamily::INET || family == AddressFamily::INET6
}

fn bind_to_loopback(socket: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the value is a string of that length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            LOOPBACK_INTERFACE.as_ptr().cast(),
            LOOPBACK_INTERFACE.len() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(crate::errno::last_error()),
    }
}

/// The IP address in a `struct sockaddr`, if that is what it is for the kernel. Both families put
/// the port, which comes first, into two bytes.
pub fn ip_address(sockaddr: &[u8]) -> Option<IpAddr> {
    const INET_ADDRESS: usize = 4;
    const INET6_ADDRESS: usize = 8;
    let family = AddressFamily::from_raw(u16::from_ne_bytes(*sockaddr.first_chunk()?));
    if family == AddressFamily::INET6 {
        let bytes: &[u8; 16] = sockaddr.get(INET6_ADDRESS..)?.first_chunk()?;
        Some(Ipv6Addr::from(*bytes).into())
    } else if family == AddressFamily::INET || family == AddressFamily::UNSPEC {
        // An IPv4 socket takes an address without a family for one of its own.
        let bytes: &[u8; 4] = sockaddr.get(INET_ADDRESS..)?.first_chunk()?;
        Some(Ipv4Addr::from(*bytes).into())
    } else {
        None
    }
}

/// Opens a listening TCP socket for a program to inherit.
///
/// # Errors
/// In a line, with the address.
pub fn listen(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    TcpListener::bind(address)
        .map(OwnedFd::from)
        .with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        Ipv4Addr::new(a, b, c, d).into()
    }

    #[test]
    fn loopback_is_this_machine_in_all_spellings() {
        let inside: [IpAddr; 7] = [
            v4(127, 0, 0, 1),
            v4(127, 255, 255, 255),
            v4(0, 0, 0, 0),
            Ipv6Addr::LOCALHOST.into(),
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(),
        ];
        let outside: [IpAddr; 6] = [
            v4(128, 0, 0, 1),
            v4(192, 0, 2, 1),
            v4(255, 255, 255, 255),
            v4(224, 0, 0, 1),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
            Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into(),
        ];
        for address in inside {
            assert_eq!(Net::Loopback.check_destination(address), Ok(()));
            assert_eq!(Net::Loopback.check_source(address), Ok(()));
            assert_eq!(
                Net::None.check_source(address),
                Err(Errno::ADDRNOTAVAIL),
                "{address}"
            );
        }
        for address in outside {
            assert_eq!(
                Net::Loopback.check_destination(address),
                Err(Errno::NETUNREACH),
                "{address}"
            );
            assert_eq!(
                Net::Loopback.check_source(address),
                Err(Errno::ADDRNOTAVAIL)
            );
            assert_eq!(Net::All.check_destination(address), Ok(()));
        }
    }

    #[test]
    fn addresses_are_where_the_kernel_looks() {
        let mut inet = vec![2, 0, 0, 80, 127, 0, 0, 1];
        assert_eq!(ip_address(&inet), Some(v4(127, 0, 0, 1)));
        inet[0] = 0;
        assert_eq!(ip_address(&inet), Some(v4(127, 0, 0, 1)));
        inet[0] = 1;
        assert_eq!(ip_address(&inet), None);
        let mut inet6 = vec![10, 0, 0, 80, 9, 9, 9, 9];
        inet6.extend(Ipv6Addr::LOCALHOST.octets());
        assert_eq!(ip_address(&inet6), Some(Ipv6Addr::LOCALHOST.into()));
        inet6.pop();
        assert_eq!(ip_address(&inet6), None);
        assert_eq!(ip_address(&[2]), None);
        assert_eq!(ip_address(&[]), None);
    }

    #[test]
    fn a_loopback_socket_is_bound_to_that_interface() {
        use rustix::net::{SocketFlags, SocketType, socket_with};
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let new =
                || socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
            let (inside, outside) = (new(), new());
            assert_eq!(Net::Loopback.adopt(&inside, family), Ok(()));
            assert_eq!(Net::All.adopt(&outside, family), Ok(()));
            assert_eq!(
                (&device(&inside)[..], &device(&outside)[..]),
                (LOOPBACK_INTERFACE, &b""[..])
            );
            assert_eq!(Net::None.adopt(&outside, family), Err(Errno::ACCESS));
            assert_eq!(Net::None.adopt(&outside, AddressFamily::UNIX), Ok(()));
        }
    }

    fn device(socket: &OwnedFd) -> Vec<u8> {
        let mut name = [0u8; 16];
        let mut len = name.len() as libc::socklen_t;
        // SAFETY: the buffer is as long as said.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                name.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        assert_eq!(result, 0);
        name[..len as usize].to_vec()
    }
}
