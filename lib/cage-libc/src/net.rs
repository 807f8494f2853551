//! Sockets, which `std` does not offer on this target. What `std` has of them (`TcpStream`,
//! `File`) reads and writes one by its descriptor.

use crate::sys::{self, Errno, address, nr};
use core::mem::{MaybeUninit, size_of};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Families.
pub const AF_UNSPEC: i32 = 0;
/// UNIX sockets, named by paths.
pub const AF_UNIX: i32 = 1;
/// IPv4.
pub const AF_INET: i32 = 2;
/// IPv6.
pub const AF_INET6: i32 = 10;

/// Type of a socket: a stream of bytes.
pub const SOCK_STREAM: i32 = 1;
/// Type of a socket: single messages.
pub const SOCK_DGRAM: i32 = 2;
/// Type of a socket: a connection of messages.
pub const SOCK_SEQPACKET: i32 = 5;
/// With a type: calls answer EAGAIN where they would wait.
pub const SOCK_NONBLOCK: i32 = 0o4000;
/// With a type: exec closes it.
pub const SOCK_CLOEXEC: i32 = 0o2_000_000;

/// For [`Socket::shutdown`].
pub const SHUT_RD: i32 = 0;
/// For [`Socket::shutdown`].
pub const SHUT_WR: i32 = 1;
/// For [`Socket::shutdown`].
pub const SHUT_RDWR: i32 = 2;

/// An address as the kernel has it, of any family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    bytes: [u8; Address::ROOM],
    len: u32,
}

impl Address {
    /// Bytes of the largest.
    pub const ROOM: usize = 128;

    /// From the bytes of a `struct sockaddr`; those beyond [`Address::ROOM`] are left out.
    pub fn new(sockaddr: &[u8]) -> Self {
        let mut bytes = [0; Self::ROOM];
        let len = sockaddr.len().min(Self::ROOM);
        bytes[..len].copy_from_slice(&sockaddr[..len]);
        Self {
            bytes,
            len: len as u32,
        }
    }

    /// Of a UNIX socket. A path of more than 108 bytes makes an address that is refused.
    pub fn unix(path: &[u8]) -> Self {
        let mut address = Self::new(&(AF_UNIX as u16).to_le_bytes());
        let room = &mut address.bytes[2..];
        let len = path.len().min(room.len());
        room[..len].copy_from_slice(&path[..len]);
        address.len = (2 + len) as u32;
        address
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Sets the length to that of the family, if nobody has told it.
    fn measure(&mut self) {
        if self.len as usize != Self::ROOM {
            return;
        }
        let family = u16::from_le_bytes([self.bytes[0], self.bytes[1]]);
        self.len = match i32::from(family) {
            AF_INET => 16,
            AF_INET6 => 28,
            // Who connects has no name as a rule, and one that is cut is none.
            _ => 2,
        };
    }

    /// The port of an IPv4 or IPv6 address, of which no more need be there.
    pub fn port(&self) -> Option<u16> {
        let (family, rest) = self.as_bytes().split_first_chunk()?;
        let port = rest.first_chunk()?;
        match i32::from(u16::from_le_bytes(*family)) {
            AF_INET | AF_INET6 => Some(u16::from_be_bytes(*port)),
            _ => None,
        }
    }

    /// The path of a UNIX address; none when it is another, or has no name.
    pub fn path(&self) -> Option<&[u8]> {
        let (family, path) = self.as_bytes().split_first_chunk()?;
        let end = path.iter().position(|&byte| byte == 0);
        let path = &path[..end.unwrap_or(path.len())];
        (i32::from(u16::from_le_bytes(*family)) == AF_UNIX && !path.is_empty()).then_some(path)
    }

    /// The IPv4 or IPv6 address, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        let bytes = self.as_bytes();
        let (family, rest) = bytes.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_le_bytes(*family)) {
            AF_INET => {
                let ip: &[u8; 4] = rest.first_chunk()?;
                Some(SocketAddrV4::new(Ipv4Addr::from(*ip), port).into())
            }
            AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk()?;
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let scope = rest.first_chunk()?;
                Some(
                    SocketAddrV6::new(
                        Ipv6Addr::from(*ip),
                        port,
                        u32::from_be_bytes(*flow),
                        u32::from_le_bytes(*scope),
                    )
                    .into(),
                )
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(ip: SocketAddr) -> Self {
        let mut address = Self::new(&[]);
        let mut put = |bytes: &[u8]| {
            let at = address.len as usize;
            address.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            address.len += bytes.len() as u32;
        };
        match ip {
            SocketAddr::V4(ip) => {
                put(&(AF_INET as u16).to_le_bytes());
                put(&ip.port().to_be_bytes());
                put(&ip.ip().octets());
                put(&[0; 8]);
            }
            SocketAddr::V6(ip) => {
                put(&(AF_INET6 as u16).to_le_bytes());
                put(&ip.port().to_be_bytes());
                put(&ip.flowinfo().to_be_bytes());
                put(&ip.ip().octets());
                put(&ip.scope_id().to_le_bytes());
            }
        }
        address
    }
}

/// An open socket, closed when it is dropped.
#[derive(Debug)]
pub struct Socket(i32);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = sys::close(self.0);
    }
}

/// An `int` argument.
fn int(value: i32) -> u64 {
    value as i64 as u64
}

impl Socket {
    /// Takes a descriptor over.
    pub fn from_fd(fd: i32) -> Self {
        Self(fd)
    }

    /// The descriptor.
    pub fn fd(&self) -> i32 {
        self.0
    }

    /// Gives the descriptor up.
    pub fn into_fd(self) -> i32 {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }

    /// Makes a socket.
    ///
    /// # Errors
    /// As socket(2); so for all that follow.
    pub fn new(family: i32, kind: i32) -> Result<Self, Errno> {
        // SAFETY: no address among the arguments.
        unsafe { sys::syscall(nr::SOCKET, &[int(family), int(kind), 0]) }.map(Self)
    }

    /// Makes two that are connected.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn pair(family: i32, kind: i32) -> Result<(Self, Self), Errno> {
        let mut pair = [0i32; 2];
        let args = [int(family), int(kind), 0, address(&raw mut pair)];
        // SAFETY: `pair` is a place for two ints.
        unsafe { sys::syscall(nr::SOCKETPAIR, &args) }?;
        Ok((Self(pair[0]), Self(pair[1])))
    }

    /// A TCP socket that listens, at once also on an address that was in use before.
    ///
    /// # Errors
    /// As the calls that it takes.
    pub fn tcp_listen(at: SocketAddr) -> Result<Self, Errno> {
        const SOL_SOCKET: i32 = 1;
        const SO_REUSEADDR: i32 = 2;
        let socket = Self::new(family(at), SOCK_STREAM | SOCK_CLOEXEC)?;
        socket.set_option(SOL_SOCKET, SO_REUSEADDR, &1i32.to_le_bytes())?;
        socket.bind(&at.into())?;
        socket.listen(128)?;
        Ok(socket)
    }

    /// A TCP connection.
    ///
    /// # Errors
    /// As the calls that it takes.
    pub fn tcp_connect(to: SocketAddr) -> Result<Self, Errno> {
        let socket = Self::new(family(to), SOCK_STREAM | SOCK_CLOEXEC)?;
        socket.connect(&to.into())?;
        Ok(socket)
    }

    fn with_address(&self, nr: u32, to: &Address) -> Result<(), Errno> {
        let args = [int(self.0), address(to.bytes.as_ptr()), u64::from(to.len)];
        // SAFETY: the address has that many bytes.
        unsafe { sys::syscall(nr, &args) }.map(drop)
    }

    /// Gives it an address.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(&self, at: &Address) -> Result<(), Errno> {
        self.with_address(nr::BIND, at)
    }

    /// Connects it.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(&self, to: &Address) -> Result<(), Errno> {
        self.with_address(nr::CONNECT, to)
    }

    /// Makes it one that connections are accepted from.
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(&self, backlog: i32) -> Result<(), Errno> {
        // SAFETY: no address among the arguments.
        unsafe { sys::syscall(nr::LISTEN, &[int(self.0), int(backlog)]) }.map(drop)
    }

    fn asked<T>(
        &self,
        call: impl FnOnce(u64, u64) -> Result<T, Errno>,
    ) -> Result<(T, Address), Errno> {
        // Lind's accept takes the room to be that of the family which stands there.
        let mut empty = Address::new(&(AF_INET6 as u16).to_le_bytes());
        empty.len = Address::ROOM as u32;
        let mut room = MaybeUninit::new(empty);
        let place: *mut Address = room.as_mut_ptr();
        // SAFETY: the fields are inside of `room`.
        let (bytes, len) = unsafe { (&raw mut (*place).bytes, &raw mut (*place).len) };
        let result = call(address(bytes), address(len))?;
        // SAFETY: it was whole from the start, and any bytes are.
        let mut from = unsafe { room.assume_init() };
        from.len = from.len.min(Address::ROOM as u32);
        Ok((result, from))
    }

    /// Accepts a connection; who it is from.
    ///
    /// # Errors
    /// As accept4(2).
    pub fn accept(&self, flags: i32) -> Result<(Self, Address), Errno> {
        self.asked(|at, len| {
            // SAFETY: there is room for an address, and a place for its length.
            unsafe { sys::syscall(nr::ACCEPT4, &[int(self.0), at, len, int(flags)]) }.map(Self)
        })
        .map(|(socket, mut from)| {
            from.measure();
            (socket, from)
        })
    }

    /// Its own address. Lind tells no more than the first 16 bytes of it.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn name(&self) -> Result<Address, Errno> {
        self.asked(|at, len| {
            // SAFETY: as in `accept`.
            unsafe { sys::syscall(nr::GETSOCKNAME, &[int(self.0), at, len]) }
        })
        .map(|(_, name)| name)
    }

    /// The address of who it is connected to; on Lind as for [`Socket::name`].
    ///
    /// # Errors
    /// As getpeername(2).
    pub fn peer(&self) -> Result<Address, Errno> {
        self.asked(|at, len| {
            // SAFETY: as in `accept`.
            unsafe { sys::syscall(nr::GETPEERNAME, &[int(self.0), at, len]) }
        })
        .map(|(_, name)| name)
    }

    /// Sends; how many bytes were taken.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, data: &[u8], flags: i32) -> Result<usize, Errno> {
        let args = [
            int(self.0),
            address(data.as_ptr()),
            data.len() as u64,
            int(flags),
            0,
            0,
        ];
        // SAFETY: the buffer is as long as said.
        unsafe { sys::syscall(nr::SENDTO, &args) }.map(|n| n as usize)
    }

    /// Sends to an address.
    ///
    /// # Errors
    /// As sendto(2).
    pub fn send_to(&self, data: &[u8], flags: i32, to: &Address) -> Result<usize, Errno> {
        let args = [
            int(self.0),
            address(data.as_ptr()),
            data.len() as u64,
            int(flags),
            address(to.bytes.as_ptr()),
            u64::from(to.len),
        ];
        // SAFETY: the buffer and the address are as long as said.
        unsafe { sys::syscall(nr::SENDTO, &args) }.map(|n| n as usize)
    }

    /// Receives; how many bytes.
    ///
    /// # Errors
    /// As recv(2).
    pub fn receive(&self, data: &mut [u8], flags: i32) -> Result<usize, Errno> {
        let args = [
            int(self.0),
            address(data.as_mut_ptr()),
            data.len() as u64,
            int(flags),
            0,
            0,
        ];
        // SAFETY: the buffer is as long as said.
        unsafe { sys::syscall(nr::RECVFROM, &args) }.map(|n| n as usize)
    }

    /// Receives; how many bytes, and from whom.
    ///
    /// # Errors
    /// As recvfrom(2).
    pub fn receive_from(&self, data: &mut [u8], flags: i32) -> Result<(usize, Address), Errno> {
        let (base, len) = (address(data.as_mut_ptr()), data.len() as u64);
        self.asked(|at, len_at| {
            let args = [int(self.0), base, len, int(flags), at, len_at];
            // SAFETY: the buffer is as long as said, and there is room for an address.
            unsafe { sys::syscall(nr::RECVFROM, &args) }.map(|n| n as usize)
        })
    }

    /// Ends one direction of it, or both.
    ///
    /// # Errors
    /// As shutdown(2).
    pub fn shutdown(&self, how: i32) -> Result<(), Errno> {
        // SAFETY: no address among the arguments.
        unsafe { sys::syscall(nr::SHUTDOWN, &[int(self.0), int(how)]) }.map(drop)
    }

    /// Sets an option.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_option(&self, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
        let args = [
            int(self.0),
            int(level),
            int(option),
            address(value.as_ptr()),
            value.len() as u64,
        ];
        // SAFETY: the value is as long as said.
        unsafe { sys::syscall(nr::SETSOCKOPT, &args) }.map(drop)
    }

    /// An option of type `int`.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn option(&self, level: i32, option: i32) -> Result<i32, Errno> {
        let mut value = 0i32;
        let mut len = size_of::<i32>() as u32;
        let args = [
            int(self.0),
            int(level),
            int(option),
            address(&raw mut value),
            address(&raw mut len),
        ];
        // SAFETY: `value` has as much room as `len` says.
        unsafe { sys::syscall(nr::GETSOCKOPT, &args) }.map(|_| value)
    }
}

fn family(ip: SocketAddr) -> i32 {
    match ip {
        SocketAddr::V4(_) => AF_INET,
        SocketAddr::V6(_) => AF_INET6,
    }
}
