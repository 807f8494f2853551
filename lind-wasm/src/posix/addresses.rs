//! Addresses of sockets, from the guest to the kernel and back.
//!
//! The kernel checks their form, as it does for any process. Here it is decided where they may
//! lead: IPv4 and IPv6 by [`crate::net`], paths of UNIX sockets by look-ups inside the root.

use super::Call;
use super::lookup::{Dir, Lookup};
use crate::errno::last_error;
use crate::memory::GuestMemory;
use crate::net::{self, Net};
use crate::unix_names::KernelPath;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::UnshareFlags;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Room for any address (`struct sockaddr_storage`).
pub(super) const ROOM: usize = 128;
/// Where the path starts in a `struct sockaddr_un`.
const PATH: usize = 2;
/// Bytes of a `struct sockaddr_un`.
const UNIX_LEN: usize = 110;
/// Bytes of a `struct sockaddr_in6`.
const INET6_LEN: usize = 28;
/// Bytes of a `struct sockaddr_in`: of all addresses that Lind shows.
const STRICT_LEN: usize = 16;

/// A `struct sockaddr` of any family, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Address {
    bytes: [u8; ROOM],
    len: usize,
}

impl Address {
    /// No address.
    pub(super) fn none() -> Self {
        Self {
            bytes: [0; ROOM],
            len: 0,
        }
    }

    fn new(bytes: &[u8]) -> Self {
        let mut address = Self::none();
        address.len = bytes.len().min(ROOM);
        address.bytes[..address.len].copy_from_slice(&bytes[..address.len]);
        address
    }

    /// A path of a UNIX socket. The kernel takes it up to the address's end.
    fn unix(path: &[u8]) -> Self {
        let family = AddressFamily::UNIX.as_raw().to_ne_bytes();
        Self::new(&[&family[..], path].concat())
    }

    /// The one at a guest's address.
    ///
    /// # Errors
    /// `EINVAL` for a length that none has, `EFAULT`.
    pub(super) fn read(memory: &GuestMemory, at: u64, len: i32) -> Result<Self, Errno> {
        let mut address = Self::none();
        address.len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= ROOM)
            .ok_or(Errno::INVAL)?;
        memory.read(at, &mut address.bytes[..address.len])?;
        Ok(address)
    }

    /// For the kernel to fill; the pointer is good for [`ROOM`] bytes.
    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    /// For the kernel to read [`Address::len`] bytes of.
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Bytes in use.
    pub(super) fn len(&self) -> libc::socklen_t {
        self.len as libc::socklen_t // At most `ROOM`.
    }

    /// Notes how much the kernel has filled.
    pub(super) fn set_len(&mut self, len: libc::socklen_t) {
        self.len = (len as usize).min(ROOM);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Of a netlink socket's peer: it is the kernel.
    pub(super) fn of_peer(mut self) -> Self {
        const PORT: std::ops::Range<usize> = 4..8;
        if self.family() == Some(AddressFamily::NETLINK) {
            self.bytes[PORT].fill(0);
        }
        self
    }

    fn family(&self) -> Option<AddressFamily> {
        let raw = self.bytes().first_chunk()?;
        Some(AddressFamily::from_raw(u16::from_ne_bytes(*raw)))
    }

    /// The name in a UNIX address, if the kernel would take it for one.
    fn name(&self) -> Option<Name<'_>> {
        if self.family()? != AddressFamily::UNIX || self.len > UNIX_LEN {
            return None;
        }
        let bytes = &self.bytes()[PATH..];
        Some(match bytes.first() {
            None => Name::Unnamed,
            Some(0) => Name::Abstract,
            Some(_) => Name::Path(bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)),
        })
    }

    /// Leaves of it what Lind shows of any: as much as an IPv4 address has.
    fn cut(&mut self) {
        self.len = self.len.min(STRICT_LEN);
    }

    /// Gives this address of the kernel's to the guest as Lind's accept does: the room is the size
    /// of the family that stood there before, and nobody is told the length.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(super) fn give_unmeasured(
        &self,
        call: &Call<'_>,
        memory: &GuestMemory,
        at: u64,
    ) -> Result<(), Errno> {
        let family = AddressFamily::from_raw(u16::from_ne_bytes(memory.read_array(at)?));
        let room = match family {
            AddressFamily::INET6 => INET6_LEN,
            AddressFamily::UNIX => UNIX_LEN,
            _ => STRICT_LEN,
        };
        let address = self.shown(call);
        memory.write(at, &address.bytes()[..room.min(address.len)])
    }

    /// This address of the kernel's as the cage knows it.
    fn shown(&self, call: &Call<'_>) -> Self {
        match self.name() {
            Some(Name::Path(path)) => match call.rt.unix_names.shown(&call.rt.root, path) {
                // With a NUL, which may be one byte more than fits a `struct sockaddr_un`.
                Some(path) => Self::unix(&[&path[..], b"\0"].concat()),
                // It is a socket of the host, whose names are none of the cage's business.
                None => Self::new(&self.bytes[..PATH]),
            },
            Some(Name::Abstract) => Self::new(&self.bytes[..PATH]),
            Some(Name::Unnamed) | None => self.clone(),
        }
    }

    /// Gives this address of the kernel's to the guest: as much as there is room for, and how long
    /// it is. `len_at` is where the guest says how much room it has.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` for a negative length.
    pub(super) fn give(
        &self,
        call: &Call<'_>,
        (memory, at): (&GuestMemory, u64),
        (len_memory, len_at): (&GuestMemory, u64),
    ) -> Result<(), Errno> {
        let mut address = self.shown(call);
        if call.rt.strict {
            address.cut();
        }
        let room = i32::from_le_bytes(len_memory.read_array(len_at)?);
        let room = usize::try_from(room).map_err(|_| Errno::INVAL)?;
        memory.write(at, &address.bytes()[..room.min(address.len)])?;
        len_memory.write(len_at, &(address.len as u32).to_le_bytes())
    }
}

/// A name in a UNIX address.
enum Name<'a> {
    Unnamed,
    /// In a name space of the whole host, which has no directories to confine it by.
    Abstract,
    Path(&'a [u8]),
}

/// Refused: there is no such name in the root, and other processes of the host could be reached.
const ABSTRACT: Errno = Errno::PERM;

/// An address for the kernel that leads where the guest's does, if that may be.
pub(super) struct Destination {
    pub(super) address: Address,
    /// The socket file that the address leads through.
    _node: Option<OwnedFd>,
}

impl Destination {
    fn plain(address: Address) -> Self {
        Self {
            address,
            _node: None,
        }
    }

    /// Where a socket is to connect to. `index` is the argument that the address came with, whose
    /// cage's current directory counts.
    ///
    /// # Errors
    /// As path look-ups have them; what the network does not reach; `EPERM` for abstract names.
    pub(super) fn of_connection(
        call: &Call<'_>,
        index: usize,
        family: AddressFamily,
        address: Address,
    ) -> Result<Self, Errno> {
        if address.family() == Some(AddressFamily::UNSPEC) {
            // It leads nowhere: it ends what a socket is connected to.
            check_family(family)?;
            return Ok(Self::plain(address));
        }
        Self::new(call, index, family, address)
    }

    /// Where a message is to go.
    ///
    /// # Errors
    /// As [`Destination::of_connection`].
    pub(super) fn of_message(
        call: &Call<'_>,
        index: usize,
        socket: &OwnedFd,
        flags: i32,
        address: Address,
    ) -> Result<Self, Errno> {
        if call.rt.net == Net::All && address.family().is_some_and(net::is_internet) {
            // Wherever it leads, that may be; a socket of another family refuses it.
            return Ok(Self::plain(address));
        }
        let family = socket_domain(socket)?;
        let kind = socket_type(socket)?;
        let connects = net::is_internet(family) && flags & libc::MSG_FASTOPEN != 0;
        if kind == SocketType::DGRAM || connects {
            return Self::new(call, index, family, address);
        }
        // The others refuse an address or ignore it, but never follow it.
        check_family(family)?;
        Ok(Self::plain(match address.name() {
            Some(_) => Address::unix(b"/"),
            None => address,
        }))
    }

    fn new(
        call: &Call<'_>,
        index: usize,
        family: AddressFamily,
        address: Address,
    ) -> Result<Self, Errno> {
        check_family(family)?;
        if net::is_internet(family) {
            if let Some(ip) = net::ip_address(address.bytes()) {
                call.rt.net.check_destination(ip)?;
            }
            return Ok(Self::plain(address));
        }
        match address.name() {
            Some(Name::Path(path)) => {
                let names = &call.rt.unix_names;
                let lookup = Lookup::of(call, Dir::Cwd, index, path.to_vec())?;
                let node = match lookup.node(true) {
                    // The kernel says so itself, after what it checks before.
                    Err(Errno::NOENT) => return Ok(Self::plain(Address::unix(&names.nowhere()))),
                    other => other?,
                };
                Ok(Self {
                    address: Address::unix(&names.path_to(&node)),
                    _node: Some(node),
                })
            }
            Some(Name::Abstract) => Err(ABSTRACT),
            Some(Name::Unnamed) | None => Ok(Self::plain(address)),
        }
    }
}

/// Refuses sockets of families that no cage can make. It may have inherited one.
fn check_family(family: AddressFamily) -> Result<(), Errno> {
    if family == AddressFamily::UNIX || net::is_internet(family) {
        Ok(())
    } else {
        Err(Errno::AFNOSUPPORT)
    }
}

/// Binds a socket.
///
/// # Errors
/// As bind(2); what the network does not have; `EPERM` for abstract names, and for having the
/// kernel choose one.
pub(super) fn bind(
    call: &Call<'_>,
    index: usize,
    socket: &Arc<OwnedFd>,
    family: AddressFamily,
    address: &Address,
) -> Result<(), Errno> {
    check_family(family)?;
    if net::is_internet(family) {
        if let Some(ip) = net::ip_address(address.bytes()) {
            call.rt.net.check_source(ip)?;
        }
        return host_bind(socket, address);
    }
    match address.name() {
        Some(Name::Path(path)) => bind_path(call, index, socket, path),
        Some(Name::Abstract | Name::Unnamed) => Err(ABSTRACT),
        None => host_bind(socket, address),
    }
}

fn bind_path(
    call: &Call<'_>,
    index: usize,
    socket: &Arc<OwnedFd>,
    path: &[u8],
) -> Result<(), Errno> {
    let lookup = Lookup::of(call, Dir::Cwd, index, path.to_vec())?;
    let kernel = call
        .rt
        .unix_names
        .path_for(lookup.leaf(Errno::ADDRINUSE)?)?;
    // The kernel gives the file the mode of the open socket, less the umask: the host's, which is
    // empty.
    let before = rustix::fs::Mode::from_raw_mode(rustix::fs::fstat(socket)?.st_mode);
    let umask = call
        .target
        .fs
        .read()
        .unwrap_or_else(|e| e.into_inner())
        .umask;
    rustix::fs::fchmod(socket, before.difference(umask.into()))?;
    let bound = bind_kernel_path(socket, &kernel);
    let _ = rustix::fs::fchmod(socket, before);
    bound?;
    call.rt.unix_names.note(kernel.path, path.to_vec());
    Ok(())
}

fn bind_kernel_path(socket: &Arc<OwnedFd>, kernel: &KernelPath) -> Result<(), Errno> {
    let address = Address::unix(&kernel.path);
    let Some(from) = kernel.from.clone() else {
        return host_bind(socket, &address);
    };
    // Only a thread of its own can have a current directory of its own.
    let socket = socket.clone();
    let helper = std::thread::Builder::new().spawn(move || {
        // SAFETY: what is no longer shared is the current directory, root and umask alone, and
        // nothing else runs on this thread.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
        rustix::process::fchdir(from)?;
        host_bind(&socket, &address)
    });
    helper
        .map_err(|_| Errno::AGAIN)?
        .join()
        .unwrap_or(Err(Errno::IO))
}

fn host_bind(socket: &OwnedFd, address: &Address) -> Result<(), Errno> {
    // SAFETY: the address has that many bytes.
    match unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.len()) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}
