//! One sealed TCP connection: the protocol's state machine between a program's calls and the
//! socket below.
//!
//! # What the kernel holds
//!
//! Programs wait for the socket below, in poll, epoll or select, so it has to be readable whenever
//! there is plaintext, and not readable because of what is none yet: half a record, a handshake.
//! Hence what is read below is taken out of the kernel at once, but for one case: while there is
//! plaintext that the program has not read, a byte that belongs to it stays in the kernel. It is
//! only looked at (MSG_PEEK), and taken out together with the last of the plaintext.

use super::below;
use super::message::{Sink, Source};
use crate::grate::native::WireAead;
use crate::grate::state;
use grate_rs::constants::{error, net, poll};
use grate_rs::{CageFd, Errno};
use sealed::Secret;
use sealed::wire::{Connection, INCOMING_LIMIT, Incoming};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// Plaintext that is taken from a program before the peer has answered the handshake, at most: as
/// the kernel takes bytes before the peer has accepted.
const EARLY_LIMIT: usize = 256 << 10;
/// Bytes that are taken from a cage at a time.
const PIECE: usize = 64 << 10;
/// From this room on a receive takes bytes out of the kernel at once: what they open to fits.
const DIRECT_LEAST: usize = 512;

thread_local! {
    /// What the wire brings, and the program wants sent.
    static WIRE: RefCell<Vec<u8>> = RefCell::new(vec![0; INCOMING_LIMIT + 1]);
}

/// One end of a sealed connection.
#[derive(Debug)]
pub struct Link {
    connection: Connection<WireAead>,
    peer: Option<SocketAddr>,
    /// Whether the kernel's connection is there.
    is_connected: bool,
    /// When the handshake must be over.
    deadline: Option<Instant>,
    /// Plaintext from before the connection could take any.
    early: Secret,
    /// Bytes that have been read, and are still in the kernel too.
    held: usize,
    /// Whether the last read below found less than there was room for.
    is_drained: bool,
    /// What the program has not been told yet.
    failure: Option<i32>,
    /// The kernel has told that the connection is gone: what ends then is no cut of its own.
    is_reset: bool,
    /// Nothing is sent, or received, any more.
    send_over: bool,
    receive_over: bool,
    /// The program has closed its direction, or does not want the other.
    is_write_closed: bool,
    is_read_closed: bool,
    /// The end of this direction has been told to the kernel.
    is_shut_below: bool,
}

impl Link {
    /// Before any byte has gone either way.
    pub fn new(
        connection: Connection<WireAead>,
        peer: Option<SocketAddr>,
        is_connected: bool,
    ) -> Self {
        Self {
            connection,
            peer,
            is_connected,
            deadline: None,
            early: Secret::default(),
            held: 0,
            is_drained: false,
            failure: None,
            is_reset: false,
            send_over: false,
            receive_over: false,
            is_write_closed: false,
            is_read_closed: false,
            is_shut_below: false,
        }
    }

    /// The kernel's connection is there.
    pub fn set_connected(&mut self) {
        self.is_connected = true;
    }

    /// Whether the kernel's connection is there; `false` while it is being made, and if it can't
    /// be made.
    fn check_connected(&mut self, fd: CageFd) -> bool {
        if !self.is_connected {
            let found = below::wait(fd, poll::POLLOUT, 0).unwrap_or(poll::POLLERR);
            self.is_connected = found & poll::POLLOUT != 0
                && found & (poll::POLLERR | poll::POLLHUP | poll::POLLNVAL) == 0;
        }
        self.is_connected
    }

    /// Sends what waits to be sent, as far as the kernel takes it.
    pub fn flush(&mut self, fd: CageFd) {
        if self.send_over || !self.check_connected(fd) {
            return;
        }
        self.watch_the_clock(fd);
        loop {
            self.seal_early();
            let wire = self.connection.wire_output();
            if wire.is_empty() || self.send_over {
                break;
            }
            match below::send(fd, wire) {
                Ok(sent) => self.connection.wire_sent(sent),
                Err(errno) if below::is_for_now(errno) => break,
                Err(errno) => {
                    self.send_over = true;
                    // That the other end is gone is told to who sends, and not to who receives.
                    if errno.0 != error::EPIPE {
                        self.failure = self.failure.or(Some(errno.0));
                        self.is_reset = true;
                    }
                }
            }
        }
        if self.connection.is_write_finished() && !self.is_shut_below {
            self.is_shut_below = true;
            below::shut_down(fd, net::SHUT_WR);
        }
    }

    /// Gives the connection what it could not take before, and then the end.
    fn seal_early(&mut self) {
        while !self.early.is_empty() {
            match self.connection.write(&self.early, usize::MAX) {
                Ok(0) | Err(_) => return,
                Ok(taken) => {
                    let rest = self.early.len() - taken;
                    self.early.copy_within(taken.., 0);
                    self.early[rest..].zeroize();
                    self.early.truncate(rest);
                }
            }
        }
        if self.early.is_empty() && self.early.capacity() > 0 {
            self.early = Secret::default();
        }
        if self.is_write_closed && !self.connection.is_write_closed() {
            // It has failed otherwise, and there is nothing to end.
            let _ = self.connection.close_write();
        }
    }

    /// Ends a handshake that takes too long.
    fn watch_the_clock(&mut self, fd: CageFd) {
        if !self.connection.is_handshaking() {
            self.deadline = None;
            return;
        }
        let limit = state().network.handshake_timeout;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
        if !self.receive_over && Instant::now() >= deadline {
            self.fail(fd, &"the peer did not go on with the handshake in time");
        }
    }

    /// Reads what the wire has brought. `want` bytes of plaintext are asked for. Answers whether
    /// anything is new.
    pub fn feed(&mut self, fd: CageFd, want: usize) -> bool {
        if self.receive_over || !self.connection.wants_read() || !self.check_connected(fd) {
            return false;
        }
        WIRE.with_borrow_mut(|wire| match self.read_wire(fd, want, wire) {
            Ok(is_new) => is_new,
            Err(errno) if below::is_for_now(errno) => {
                self.is_drained = true;
                false
            }
            Err(errno) => {
                self.receive_over = true;
                self.send_over = true;
                self.failure = Some(errno.0);
                true
            }
        })
    }

    fn read_wire(&mut self, fd: CageFd, want: usize, wire: &mut [u8]) -> Result<bool, Errno> {
        let room = self.connection.wire_room();
        let partial = INCOMING_LIMIT - room - self.connection.plaintext_len();
        let fits = want.saturating_sub(partial).min(room);
        let read = if self.held == 0 && !self.has_plaintext() && fits >= DIRECT_LEAST {
            let read = below::receive(fd, &mut wire[..fits], 0)?;
            self.is_drained = read < fits;
            if read == 0 {
                self.end(fd);
                return Ok(true);
            }
            &wire[..read]
        } else {
            self.release(fd, self.held.saturating_sub(1))?;
            let before = self.held;
            let read = below::receive(fd, &mut wire[..before + room], net::MSG_PEEK)?;
            self.is_drained = read < before + room;
            if read <= before {
                if before == 0 {
                    self.end(fd);
                }
                return Ok(before == 0);
            }
            self.held = read;
            &wire[before..read]
        };
        if let Err(why) = self.connection.read_wire(read) {
            self.fail(fd, &why);
        }
        self.settle(fd)?;
        Ok(true)
    }

    /// Takes out of the kernel what has been read, unless it stands for what the program may read.
    fn settle(&mut self, fd: CageFd) -> Result<(), Errno> {
        if !self.has_plaintext() && !self.connection.is_peer_closed() {
            self.release(fd, self.held)?;
        }
        Ok(())
    }

    /// Takes bytes out of the kernel that have been read.
    fn release(&mut self, fd: CageFd, len: usize) -> Result<(), Errno> {
        let mut left = len;
        while left > 0 {
            // The kernel throws them away. A system that can't fills the room that is there.
            let taken = below::receive(fd, &mut vec![0; left], net::MSG_TRUNC)?.min(left);
            if taken == 0 {
                break;
            }
            left -= taken;
            self.held -= taken;
        }
        Ok(())
    }

    /// The kernel's connection has ended.
    fn end(&mut self, fd: CageFd) {
        // An end that the program or the kernel has made is no cut, and what is sent goes on.
        if self.is_read_closed || self.is_reset {
            self.receive_over = true;
            return;
        }
        match self.connection.wire_eof() {
            Err(why) => self.fail(fd, &why),
            Ok(()) => self.receive_over = true,
        }
    }

    /// The connection is not to be trusted any more, or never was.
    fn fail(&mut self, fd: CageFd, why: &dyn std::fmt::Display) {
        if self.receive_over {
            return;
        }
        match self.peer {
            Some(peer) => state().explain(format_args!("{peer}: {why}")),
            None => state().explain(format_args!(
                "cage {}, descriptor {}: {why}",
                fd.cage, fd.fd
            )),
        }
        self.receive_over = true;
        self.send_over = true;
        self.failure = Some(error::ECONNRESET);
        self.early = Secret::default();
        below::shut_down(fd, net::SHUT_RDWR);
    }

    fn has_plaintext(&self) -> bool {
        self.connection.plaintext_len() > 0
    }

    /// Whether a receive would not wait.
    pub fn is_readable(&self) -> bool {
        self.has_plaintext()
            || (self.receive_over && self.is_connected)
            || self.is_read_closed
            || self.failure.is_some()
            || self.connection.is_peer_closed()
    }

    /// Whether a send would not wait.
    pub fn is_writable(&self) -> bool {
        self.send_over || self.failure.is_some() || self.is_write_closed || self.write_room() > 0
    }

    /// Bytes of plaintext that can be read.
    pub fn plaintext_len(&self) -> usize {
        self.connection.plaintext_len()
    }

    /// Whether both ends have keys for what is sent.
    fn is_open(&self) -> bool {
        self.connection.key_id().is_some()
    }

    /// How much plaintext is taken now. What waits is sent first, so that the kernel's own
    /// accounting tells how much is on its way.
    fn write_room(&self) -> usize {
        if !self.is_open() {
            EARLY_LIMIT.saturating_sub(self.early.len())
        } else if self.connection.wants_write() || !self.early.is_empty() {
            0
        } else {
            PIECE
        }
    }

    /// The events below that it takes to go on, for a program that waits for these.
    pub fn events_below(&self, wanted: i16) -> i16 {
        if !self.is_connected {
            return wanted | poll::POLLOUT;
        }
        let mut events = wanted & !(poll::POLLOUT | poll::POLLWRNORM | poll::POLLWRBAND);
        let wants_out = wanted & (poll::POLLOUT | poll::POLLWRNORM | poll::POLLWRBAND);
        if self.connection.wants_write() || self.is_writable() {
            events |= wants_out;
        }
        if !self.send_over && self.connection.wants_write() {
            events |= poll::POLLOUT;
        }
        if self.connection.is_handshaking() && !self.receive_over {
            events |= poll::POLLIN;
        }
        events
    }

    /// Whether there is something to do that the program need not ask for.
    pub fn is_busy(&self) -> bool {
        let waits = self.connection.wants_write()
            || !self.early.is_empty()
            || (self.is_write_closed && !self.is_shut_below);
        (waits && !self.send_over) || (self.connection.is_handshaking() && !self.receive_over)
    }

    /// Whether all that the program has sent, and the end, are with the kernel, or never will be.
    pub fn is_finished(&self) -> bool {
        self.send_over || self.is_shut_below
    }

    /// Does what can be done without waiting, after events below.
    pub fn service(&mut self, fd: CageFd) {
        self.flush(fd);
        if self.feed(fd, 0) {
            self.flush(fd);
        }
    }

    /// Whether there is an error that the program has not been told.
    pub fn has_failure(&self) -> bool {
        self.failure.is_some()
    }

    /// That error, which is told once.
    pub fn take_failure(&mut self) -> Option<Errno> {
        self.failure.take().map(Errno)
    }

    /// Leaves an error for the next call.
    pub fn put_back(&mut self, errno: Errno) {
        if errno.0 != error::EFAULT {
            self.failure = Some(errno.0);
        }
    }

    /// Whether the kernel's connection could not be made, and the program knows.
    pub fn is_refused(&self) -> bool {
        !self.is_connected && self.send_over
    }

    /// Whether the kernel's connection was there at some time.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The program is done with the connection: sends what is left, and the end. Where bytes have
    /// come that nobody will read, the kernel resets the connection instead, as it always does.
    pub fn finish(&mut self, fd: CageFd) {
        self.service(fd);
        if self.has_plaintext() {
            self.send_over = true;
        } else {
            self.is_write_closed = true;
            self.flush(fd);
            // The other end's end is no data that nobody has read.
            let _ = self.release(fd, self.held);
        }
    }

    /// One step of a receive.
    pub fn receive(&mut self, fd: CageFd, sink: &mut Sink, flags: i32) -> Step {
        self.flush(fd);
        let want = sink.room();
        self.is_drained = false;
        if flags & net::MSG_PEEK != 0 {
            while self.plaintext_len() < want && !self.is_drained && self.feed(fd, 0) {}
        } else if !self.has_plaintext() {
            self.feed(fd, want);
        }
        self.flush(fd);
        match self.connection.peek() {
            Ok(Incoming::Data(data)) => match sink.put(data) {
                Ok(put) => {
                    if flags & net::MSG_PEEK == 0 {
                        self.connection.consume(put);
                        // What fails now fails again when more is asked for.
                        let _ = self.settle(fd);
                    }
                    Step::Received {
                        count: put,
                        is_all: self.is_drained && !self.has_plaintext(),
                    }
                }
                Err(errno) => Step::Failed(errno),
            },
            _ if self.failure.is_some() => match self.take_failure() {
                Some(errno) => Step::Failed(errno),
                None => Step::End,
            },
            Ok(Incoming::End) | Err(_) => Step::End,
            Ok(Incoming::Pending) if self.receive_over || self.is_read_closed => Step::End,
            Ok(Incoming::Pending) => match self.refusal(fd) {
                Some(errno) => Step::Failed(errno),
                None if self.receive_over => Step::End,
                None => Step::Wait(self.events_below(poll::POLLIN)),
            },
        }
    }

    /// The error of a connection that could not be made.
    fn refusal(&mut self, fd: CageFd) -> Option<Errno> {
        if self.is_connected {
            return None;
        }
        match below::wait(fd, poll::POLLOUT, 0) {
            Ok(found) if found & (poll::POLLERR | poll::POLLHUP) == 0 => None,
            _ => {
                self.receive_over = true;
                self.send_over = true;
                below::take_error(fd).err()
            }
        }
    }

    /// One step of a send.
    pub fn send(&mut self, fd: CageFd, source: &mut Source) -> Step {
        self.flush(fd);
        if let Some(errno) = self.take_failure().or_else(|| self.refusal(fd)) {
            return Step::Failed(errno);
        }
        let is_over = self.send_over || self.is_write_closed;
        if self.is_connected && (is_over || source.left() == 0) {
            // Only the kernel knows what else is wrong with it.
            if let Err(errno) = below::send(fd, &[]) {
                self.is_reset |= errno.0 != error::EPIPE;
                return Step::Failed(errno);
            }
        }
        if is_over {
            return Step::Failed(Errno(error::EPIPE));
        }
        let room = self.write_room().min(PIECE);
        if room == 0 && source.left() > 0 {
            return Step::Wait(self.events_below(poll::POLLOUT));
        }
        if source.left() == 0 {
            return Step::Sent(0);
        }
        let mut piece = Secret::with_capacity((room as u64).min(source.left()) as usize);
        if let Err(errno) = source.take(&mut piece, room)
            && piece.is_empty()
        {
            return Step::Failed(errno);
        }
        // Nothing is taken while the handshake lasts, and all of it once it is over.
        let taken = self.connection.write(&piece, usize::MAX).unwrap_or(0);
        self.early.extend_from_slice(&piece[taken..]);
        self.flush(fd);
        if self.send_over {
            let errno = self.take_failure().unwrap_or(Errno(error::EPIPE));
            return Step::Failed(errno);
        }
        Step::Sent(piece.len())
    }

    /// shutdown(2).
    pub fn shut_down(&mut self, fd: CageFd, how: i32) {
        if matches!(how, net::SHUT_RD | net::SHUT_RDWR) && !self.is_read_closed {
            self.is_read_closed = true;
            if !self.connection.is_handshaking() {
                below::shut_down(fd, net::SHUT_RD);
            }
        }
        if matches!(how, net::SHUT_WR | net::SHUT_RDWR) {
            self.is_write_closed = true;
            self.flush(fd);
        }
    }

    /// How long a wait may last before the handshake's time is over.
    pub fn handshake_left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// What came of a step.
pub enum Step {
    /// That many bytes were sent.
    Sent(usize),
    /// Bytes were received.
    Received {
        /// How many.
        count: usize,
        /// Whether they are all that has come.
        is_all: bool,
    },
    /// There is nothing more to come.
    End,
    /// These events below must come first.
    Wait(i16),
    /// An error.
    Failed(Errno),
}
