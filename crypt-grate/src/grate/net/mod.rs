//! The network: what leaves through an IPv4 or IPv6 socket is sealed.

mod below;
mod calls;
mod datagram;
pub mod epoll;
mod lives;
mod message;
mod options;
mod pump;
mod stream;
pub mod wait;

pub use calls::{
    accept, accept4, connect, read, recvfrom, recvmsg, sendmsg, sendto, socket, write,
};
pub use lives::{clone_cage, close, dup2, dup3, execve, exit_group, wait4};
pub use options::{fionread, getsockopt, setsockopt, shutdown};

use super::native::WireAead;
use super::options::{Net, Options};
use super::state;
use super::state::{Opened, State, lock};
use crypt_grate::peers::{Peers, socket_address};
use datagram::Messages;
use grate_rs::constants::{error, net};
use grate_rs::sockets::family;
use grate_rs::{CageFd, Errno, Held};
use keys::KeyRing;
use pump::Pump;
use sealed::wire::{Connection, Datagrams, Keys};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use stream::Link;

/// What is sealed of the network, and what it is sealed with.
pub struct Network {
    is_sealed: bool,
    plain: Vec<Peers>,
    keys: Keys,
    /// How long a peer has to prove that it has the key.
    pub handshake_timeout: Duration,
    /// What goes on without the program.
    pub pump: Pump,
    /// Whether there may be plaintext that no byte in the kernel stands for.
    may_be_unheld: AtomicBool,
}

/// A socket of IPv4 or IPv6.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
    /// Whether the program has closed it, and it is kept open until all is sent.
    is_orphan: AtomicBool,
    /// Whether a program may have set what calls look at: limits to how long they wait, and SO_LINGER.
    is_tuned: AtomicBool,
}

#[derive(Debug)]
enum Kind {
    Stream(Mutex<Stream>),
    Messages(Mutex<Messages>),
}

/// What has become of a stream socket.
#[derive(Debug)]
enum Stream {
    /// It is not connected, and may be listening.
    Idle,
    /// The peer stays in the clear.
    Plain,
    /// It is sealed.
    Sealed(Box<Link>),
}

impl Network {
    /// From the command line.
    pub fn new(options: &Options, ring: &KeyRing) -> Self {
        Self {
            is_sealed: options.net == Net::Seal,
            plain: options.plain.clone(),
            keys: Keys::new(ring.sealing().clone(), ring.others().iter().cloned()),
            handshake_timeout: Duration::from_secs(options.handshake_timeout),
            pump: Pump::default(),
            may_be_unheld: AtomicBool::new(false),
        }
    }

    /// Whether sockets are sealed at all.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Whether a peer stays in the clear.
    pub fn is_plain(&self, peer: SocketAddr) -> bool {
        self.plain.iter().any(|peers| peers.contains(peer))
    }
}

impl Socket {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            is_orphan: AtomicBool::new(false),
            is_tuned: AtomicBool::new(false),
        }
    }

    fn stream(stream: Stream) -> Self {
        Self::new(Kind::Stream(Mutex::new(stream)))
    }

    fn messages(messages: Messages) -> Self {
        Self::new(Kind::Messages(Mutex::new(messages)))
    }

    /// Does something with the sealed connection; `None` where there is none.
    fn with_link<T>(&self, act: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let Kind::Stream(stream) = &self.kind else {
            return None;
        };
        match &mut *lock(stream) {
            Stream::Sealed(link) => Some(act(link)),
            Stream::Idle | Stream::Plain => None,
        }
    }

    /// As [`Socket::with_link`], through a descriptor that leads here for as long as it takes: who
    /// closes one does so while nobody uses it. Without that a number that was closed, and given
    /// to another connection, would carry the bytes of this one.
    fn with_link_at<T>(
        &self,
        fd: CageFd,
        act: impl FnOnce(&mut Link) -> T,
    ) -> Result<Option<T>, Errno> {
        self.with_link(|link| {
            let leads_here = self.is_at(fd);
            leads_here.then(|| act(link)).ok_or(Errno(error::EBADF))
        })
        .transpose()
    }

    fn is_at(&self, fd: CageFd) -> bool {
        state()
            .socket(fd)
            .is_some_and(|socket| std::ptr::eq(Arc::as_ptr(&socket), self))
    }

    /// The descriptor, if it leads here, or one that leads nowhere. Who has the connection to himself is sure
    /// of it for as long.
    fn at(&self, fd: CageFd) -> CageFd {
        let nowhere = CageFd { fd: -1, ..fd };
        if self.is_at(fd) { fd } else { nowhere }
    }

    /// Keeps everybody from using the connection.
    fn hold(&self) -> Option<MutexGuard<'_, Stream>> {
        match &self.kind {
            Kind::Stream(stream) => Some(lock(stream)),
            Kind::Messages(_) => None,
        }
    }

    /// The limit to how long a call waits, of SO_RCVTIMEO or SO_SNDTIMEO.
    fn time_limit(&self, fd: CageFd, name: i32) -> Option<Duration> {
        if self.is_tuned() {
            below::time_limit(fd, name)
        } else {
            None
        }
    }

    fn is_tuned(&self) -> bool {
        self.is_tuned.load(Ordering::Acquire)
    }

    fn set_tuned(&self) {
        self.is_tuned.store(true, Ordering::Release);
    }

    /// The program is done with the connection: sends what is left, and the end, unless it is to be cut.
    fn finish(&self, fd: CageFd) {
        let is_cut = self.is_tuned() && below::is_cut_by_close(fd);
        self.with_link(|link| match is_cut {
            true => link.cut(),
            false => link.finish(fd),
        });
    }
}

impl State {
    /// The socket behind a descriptor, if it is one whose bytes are sealed; it stays that for as
    /// long as the first is kept.
    ///
    /// # Errors
    /// As [`State::hold`].
    pub fn hold_socket(
        &self,
        fd: CageFd,
    ) -> Result<(Held<'_, Opened>, Option<Arc<Socket>>), Errno> {
        let held = self.hold(fd)?;
        let socket = match held.what() {
            Some(Opened::Socket(socket)) => Some(Arc::clone(socket)),
            _ => None,
        };
        Ok((held, socket))
    }

    /// The socket behind a descriptor, as far as is known: for calls that wait or show something.
    pub fn socket(&self, fd: CageFd) -> Option<Arc<Socket>> {
        match self.descriptors.get(fd)? {
            Opened::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    /// A connection that begins. Only for want of randomness there is none.
    fn connection(&self, is_initiator: bool) -> Result<Connection<WireAead>, Errno> {
        let rng = &mut self.random();
        let keys = &self.network.keys;
        let connection = if is_initiator {
            Connection::initiator_with(keys, rng, WireAead)
        } else {
            Connection::responder_with(keys, rng, WireAead)
        };
        connection.map_err(|why| self.no_randomness(&why))
    }

    fn datagrams(&self) -> Result<Datagrams<WireAead>, Errno> {
        Datagrams::with_aead(&self.network.keys, &mut self.random(), WireAead)
            .map_err(|why| self.no_randomness(&why))
    }

    fn no_randomness(&self, why: &dyn std::fmt::Display) -> Errno {
        const EIO: i32 = 5;
        self.explain(format_args!("{why}"));
        Errno(EIO)
    }

    /// What an accepted connection is.
    fn accepted(&self, fd: CageFd) -> Result<Socket, Errno> {
        let peer = below::peer_name(fd)
            .ok()
            .and_then(|name| socket_address(&name));
        // The peer's port is any; the one that it has connected to says what service it is.
        let port = below::own_name(fd)
            .ok()
            .and_then(|name| socket_address(&name))
            .map_or(0, |own| own.port());
        let service = peer.map(|peer| SocketAddr::new(peer.ip(), port));
        if service.is_some_and(|service| self.network.is_plain(service)) {
            return Ok(Socket::stream(Stream::Plain));
        }
        let connection = self.connection(false)?;
        let link = Link::new(connection, peer, true);
        Ok(Socket::stream(Stream::Sealed(Box::new(link))))
    }

    /// What a socket is that was made unseen.
    fn unseen(&self, fd: CageFd) -> Result<Socket, Errno> {
        if !below::is_stream(fd)? {
            let mut messages = Messages::new(self.datagrams()?);
            if let Ok(peer) = below::peer_name(fd) {
                messages.set_peer(&peer);
            }
            return Ok(Socket::messages(messages));
        }
        match below::peer_name(fd) {
            // Who accepts a connection and hands it on is the end that accepts.
            Ok(_) => self.accepted(fd),
            Err(_) => Ok(Socket::stream(Stream::Idle)),
        }
    }

    fn opened(&self, socket: Socket) -> Opened {
        let socket = Arc::new(socket);
        self.set_has_sockets();
        self.network.pump.watch(&socket);
        Opened::Socket(socket)
    }

    fn note_socket(&self, fd: CageFd, socket: Socket) {
        self.descriptors.note(fd, Some(self.opened(socket)));
    }

    /// A descriptor of a socket, for calls that are made without a program's.
    fn descriptor_of(&self, socket: &Arc<Socket>) -> Option<CageFd> {
        let of = self.descriptors.all_where(
            |opened| matches!(opened, Opened::Socket(other) if Arc::ptr_eq(other, socket)),
        );
        of.first().copied()
    }
}

/// What an internet socket is that was made unseen.
///
/// # Errors
/// That it can't be sealed.
pub fn found(state: &State, fd: CageFd) -> Result<Opened, Errno> {
    let socket = state.unseen(fd)?;
    socket.set_tuned();
    Ok(state.opened(socket))
}

/// Whether it is a socket of IPv4 or IPv6.
pub fn is_internet(fd: CageFd) -> bool {
    below::own_name(fd)
        .is_ok_and(|name| matches!(family(&name), Some(net::AF_INET | net::AF_INET6)))
}
