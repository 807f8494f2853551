//! Sealed datagrams: each message of a program is one of the wire, and the other way round.

use super::below;
use super::message::{Sink, Source};
use crate::grate::native::WireAead;
use crate::grate::state;
use crypt_grate::peers::socket_address;
use grate_rs::constants::{SYS_RECVMSG, SYS_SENDMSG, error, net};
use grate_rs::message::{self, Below, MOST_NAME, word};
use grate_rs::{CageFd, Errno, own_buffer};
use sealed::Secret;
use sealed::wire::{DATAGRAM_OVERHEAD, DatagramError, Datagrams, MAX_DATAGRAM_LEN, payload_room};

/// A datagram socket.
#[derive(Debug)]
pub struct Messages {
    sealed: Datagrams<WireAead>,
    /// Whether what has no address of its own goes to a peer that stays in the clear.
    is_plain: bool,
}

/// A message that came.
pub struct Received {
    payload: Secret,
    /// Who sent it.
    pub name: Vec<u8>,
    /// Control messages.
    pub control: Vec<u8>,
    /// What the kernel says of it.
    flags: i32,
}

impl Messages {
    /// Of a new socket.
    pub fn new(sealed: Datagrams<WireAead>) -> Self {
        Self {
            sealed,
            is_plain: false,
        }
    }

    /// The socket was connected to an address, or to none any more.
    pub fn set_peer(&mut self, name: &[u8]) {
        self.is_plain = is_plain(name);
    }

    /// Bytes on the wire of a message to an address, or to the peer.
    fn seal(&mut self, payload: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let is_plain = if name.is_empty() {
            self.is_plain
        } else {
            is_plain(name)
        };
        if is_plain {
            return Ok(payload);
        }
        let payload = Secret::new(payload);
        let mut wire = vec![0; payload.len() + DATAGRAM_OVERHEAD];
        match self.sealed.seal(&payload, &mut wire) {
            Ok(len) => {
                wire.truncate(len);
                Ok(wire)
            }
            Err(DatagramError::TooLarge(_)) => Err(Errno(error::EMSGSIZE)),
            Err(why) => {
                state().explain(format_args!("a datagram was not sent: {why}"));
                Err(Errno(error::EIO))
            }
        }
    }

    /// Opens a message. What is not authentic is told to who asked to hear it, and is no message.
    fn open(&mut self, wire: Vec<u8>, name: &[u8], stays: bool) -> Option<Secret> {
        if is_plain(name) || (name.is_empty() && self.is_plain) {
            return Some(Secret::new(wire));
        }
        let mut payload = Secret::zeros(payload_room(wire.len()));
        let opened = if stays {
            self.sealed.peek(&wire, &mut payload)
        } else {
            self.sealed.open(&wire, &mut payload)
        };
        match opened {
            Ok(len) => {
                payload.truncate(len);
                Some(payload)
            }
            Err(why) => {
                match socket_address(name) {
                    Some(peer) => state().explain(format_args!("{peer}: dropped: {why}")),
                    None => state().explain(format_args!("a datagram was dropped: {why}")),
                }
                None
            }
        }
    }

    /// Sends one message; whether it waits is for the flags and the socket to say, below.
    pub fn prepare(&mut self, source: &mut Source, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if source.left() > MAX_DATAGRAM_LEN as u64 {
            return Err(Errno(error::EMSGSIZE));
        }
        let mut payload = Vec::new();
        source.take(&mut payload, MAX_DATAGRAM_LEN)?;
        self.seal(payload, name)
    }

    /// Receives the next message that is authentic, without waiting.
    ///
    /// # Errors
    /// As recvmsg(2): EAGAIN where there is none.
    pub fn receive(
        &mut self,
        fd: CageFd,
        flags: i32,
        mut control: Vec<u8>,
    ) -> Result<Received, Errno> {
        let kept = flags & (net::MSG_PEEK | net::MSG_CMSG_CLOEXEC);
        loop {
            let mut wire = vec![0; MAX_DATAGRAM_LEN];
            let mut name = vec![0; MOST_NAME];
            let place = own_buffer(wire.as_mut_ptr());
            let mut below = Below::new(place, wire.len(), &name, &control);
            let len = below.make(SYS_RECVMSG as u32, fd, kept | net::MSG_DONTWAIT)? as usize;
            let told = |at: usize| word(below.header(), at);
            wire.truncate(len);
            name.truncate(told(message::NAME_LEN) as u32 as usize);
            if let Some(payload) = self.open(wire, &name, flags & net::MSG_PEEK != 0) {
                control.truncate(told(message::CONTROL_LEN) as usize);
                return Ok(Received {
                    payload,
                    name,
                    control,
                    flags: told(message::FLAGS) as i32,
                });
            }
            if flags & net::MSG_PEEK != 0 {
                below::receive(fd, &mut [0], 0)?;
            }
        }
    }

    /// Whether a receive would not wait. What is not authentic is thrown away.
    pub fn is_readable(&mut self, fd: CageFd) -> bool {
        match self.receive(fd, net::MSG_PEEK, Vec::new()) {
            Err(Errno(error::EAGAIN)) => below::is_read_shut(fd),
            _ => true,
        }
    }

    /// Bytes of the next message.
    pub fn next_len(&mut self, fd: CageFd) -> usize {
        self.receive(fd, net::MSG_PEEK, Vec::new())
            .map_or(0, |received| received.payload.len())
    }
}

impl Received {
    /// Gives the message to the cage. Answers what the call answers, and its flags.
    ///
    /// # Errors
    /// EFAULT.
    pub fn give(&self, sink: &mut Sink, flags: i32) -> Result<(i32, i32), Errno> {
        let put = sink.put(&self.payload)?;
        if put == self.payload.len() {
            return Ok((put as i32, self.flags & !net::MSG_TRUNC));
        }
        let answer = if flags & net::MSG_TRUNC != 0 {
            self.payload.len()
        } else {
            put
        };
        Ok((answer as i32, self.flags | net::MSG_TRUNC))
    }
}

fn is_plain(name: &[u8]) -> bool {
    socket_address(name).is_some_and(|peer| state().network.is_plain(peer))
}

/// Sends a message that is sealed already, with control messages.
///
/// # Errors
/// As sendmsg(2).
pub fn send(fd: CageFd, wire: &[u8], flags: i32, name: &[u8], control: &[u8]) -> Result<(), Errno> {
    if control.is_empty() {
        return below::send_to(fd, wire, flags, name).map(drop);
    }
    let mut below = Below::new(own_buffer(wire.as_ptr()), wire.len(), name, control);
    below.make(SYS_SENDMSG as u32, fd, flags).map(drop)
}
