//! One sealed TCP connection: the protocol's state machine between a program's calls and the
//! socket below.
//!
//! # What the kernel holds
//!
//! Programs wait for the socket below, in poll, epoll or select, so it has to be readable whenever
//! there is plaintext, and not readable because of what is none yet: half a record, a handshake.
//! Hence what is read below is taken out of the kernel at once, but for one case: while there is
//! plaintext that the program has not read, a byte that belongs to it stays in the kernel. It is
//! only looked at (MSG_PEEK), and taken out together with the last of the plaintext. Nor does one stay for
//! plaintext that was to go straight to the program, whose place for it then could not be written: of that who
//! waits is told by [`Link::is_unheld`].
//!
//! # Who waits
//!
//! A receive that finds nothing to do but to wait does so in the kernel, in one call that brings the bytes
//! too ([`Link::start_reading`]), and others use the connection meanwhile. They take nothing out of the kernel:
//! the bytes are to be opened in the order in which they come. Who waits beside, or asks whether there is
//! something to read, is told what is left.

use super::below;
use super::message::{Sink, Source};
use crate::grate::native::WireAead;
use crate::grate::state;
use grate_rs::constants::{error, net, poll};
use grate_rs::{CageFd, Errno};
use sealed::Secret;
use sealed::wire::{Connection, INCOMING_LIMIT, Incoming, MAX_RECORD_PLAINTEXT, OVERHEAD};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// Plaintext that is taken from a program before the peer has answered the handshake, at most: as
/// the kernel takes bytes before the peer has accepted.
const EARLY_LIMIT: usize = 256 << 10;
/// Bytes that are taken from a cage at a time.
const PIECE: usize = 64 << 10;
/// So many bytes more a receive takes out of the kernel at once, at least, where it has the beginning of a
/// record already: what belongs to a long one is not fetched in small pieces.
const DIRECT_LEAST: usize = 512;

/// A pause before who waits for a handshake looks at it again.
pub const AGAIN: Duration = Duration::from_millis(5);
/// A pause before who waits beside a receive looks at what it has left.
const BESIDE: Duration = Duration::from_millis(50);

thread_local! {
    /// What the wire brings, and the program wants sent.
    static WIRE: RefCell<Vec<u8>> = RefCell::new(vec![0; INCOMING_LIMIT + 1]);
}

/// Lends the memory for what the wire brings.
pub fn with_wire<T>(act: impl FnOnce(&mut [u8]) -> T) -> T {
    WIRE.with_borrow_mut(|wire| act(wire))
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
    /// Whether a receive waits in the kernel, and takes what comes.
    is_being_read: bool,
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
            is_being_read: false,
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

    /// Takes what the kernel has. To a program that wants it now goes what fits there. Answers whether
    /// anything is new.
    fn feed(&mut self, fd: CageFd, sink: Option<&mut Sink>) -> bool {
        if self.is_being_read {
            self.is_drained = true;
            return false;
        }
        if self.receive_over || !self.connection.wants_read() || !self.check_connected(fd) {
            return false;
        }
        WIRE.with_borrow_mut(|wire| match self.read_wire(fd, sink, wire) {
            Ok(is_new) => is_new,
            Err(errno) if below::is_for_now(errno) => {
                self.is_drained = true;
                false
            }
            Err(errno) => {
                self.lose(errno);
                true
            }
        })
    }

    /// The kernel has no more of the connection.
    fn lose(&mut self, errno: Errno) {
        self.receive_over = true;
        self.send_over = true;
        self.failure = Some(errno.0);
    }

    /// How many bytes may be taken out of the kernel at once, for a program that has room for `want`: all that
    /// they open to fits there, with the beginning of a record that is here. None where that is too little to
    /// be worth it.
    fn direct_room(&self, want: usize) -> usize {
        let room = self.connection.wire_room();
        let partial = INCOMING_LIMIT - room - self.connection.plaintext_len();
        // No record has more plaintext for its length than a full one.
        let records = want.div_ceil(MAX_RECORD_PLAINTEXT);
        let fits = want
            .saturating_add(records.saturating_mul(OVERHEAD))
            .saturating_sub(partial)
            .min(room);
        let is_worth_it = want > 0 && (partial == 0 || fits >= DIRECT_LEAST);
        if is_worth_it { fits } else { 0 }
    }

    fn read_wire(
        &mut self,
        fd: CageFd,
        sink: Option<&mut Sink>,
        wire: &mut [u8],
    ) -> Result<bool, Errno> {
        let room = self.connection.wire_room();
        let fits = sink
            .as_ref()
            .map_or(0, |sink| self.direct_room(sink.room()));
        if self.held == 0 && !self.has_plaintext() && fits > 0 {
            let read = below::receive(fd, &mut wire[..fits], 0)?;
            self.is_drained = read < fits;
            self.take(fd, &wire[..read], sink)?;
            return Ok(true);
        }
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
        self.take(fd, &wire[before..read], None)?;
        Ok(true)
    }

    /// Takes bytes of the wire; none are its end. What is whole is opened where the program wants it,
    /// if it all fits there in one piece.
    fn take(&mut self, fd: CageFd, wire: &[u8], sink: Option<&mut Sink>) -> Result<(), Errno> {
        if wire.is_empty() {
            self.end(fd);
            return Ok(());
        }
        let mut sink = sink.filter(|_| WireAead::is_native());
        let place = sink.as_mut().and_then(|sink| sink.next_piece());
        let taken = match (&mut sink, place) {
            (Some(sink), Some((at, room))) => {
                let (taken, filled) =
                    self.connection
                        .read_wire_to(wire, room, |key, run, sealed, range| {
                            let there = (at.add(range.start as u64), range.len());
                            WireAead::open_to(key, run, sealed, there)
                        });
                sink.filled(filled);
                taken
            }
            _ => self.connection.read_wire(wire),
        };
        if let Err(why) = taken {
            self.fail(fd, &why);
        }
        self.settle(fd)
    }

    /// For a receive that has room for `want` bytes, where there is nothing to do but to wait: how many bytes
    /// of the wire it may wait for in the kernel, and take, while others use the connection. It has to say
    /// what came of it, by [`Self::finish_reading`].
    pub fn start_reading(&mut self, want: usize) -> Option<usize> {
        let is_quiet = self.is_connected
            && self.is_open()
            && !self.is_being_read
            && !self.is_busy()
            && !self.is_readable()
            && self.held == 0
            && self.connection.wants_read();
        let fits = if is_quiet { self.direct_room(want) } else { 0 };
        self.is_being_read |= fits > 0;
        (fits > 0).then_some(fits)
    }

    /// What came of waiting for up to `most` bytes.
    ///
    /// # Errors
    /// That nothing has come, and the call is not to wait any longer.
    pub fn finish_reading(
        &mut self,
        fd: CageFd,
        read: Result<&[u8], Errno>,
        most: usize,
        sink: &mut Sink,
    ) -> Result<Step, Errno> {
        self.is_being_read = false;
        let before = sink.room();
        match read {
            Ok(wire) => {
                self.is_drained = wire.len() < most;
                // Nothing is held, hence nothing to be taken out.
                let _ = self.take(fd, wire, Some(sink));
            }
            Err(errno) if below::is_for_now(errno) => return Err(errno),
            Err(errno) => self.lose(errno),
        }
        Ok(self.deliver(fd, sink, 0, before - sink.room()))
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

    /// Whether there is plaintext that no byte in the kernel stands for.
    pub fn is_unheld(&self) -> bool {
        self.has_plaintext() && self.held == 0
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
        if self.feed(fd, None) {
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

    /// Leaves an error for the next call, unless that finds it anew, or is told none: that nothing can be sent
    /// is nothing to who receives.
    pub fn put_back(&mut self, errno: Errno) {
        if !matches!(errno.0, error::EFAULT | error::EPIPE) {
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

    /// The program is done with the connection, and wants it cut: the peer gets no end.
    pub fn cut(&mut self) {
        self.send_over = true;
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
        let before = sink.room();
        self.is_drained = false;
        if flags & net::MSG_PEEK != 0 {
            while self.plaintext_len() < before && !self.is_drained && self.feed(fd, None) {}
        } else {
            // The beginning of a record is nothing yet, with more of it there.
            while !self.has_plaintext()
                && sink.room() == before
                && !self.is_drained
                && self.feed(fd, Some(&mut *sink))
            {}
        }
        self.flush(fd);
        self.deliver(fd, sink, flags, before - sink.room())
    }

    /// Gives the program what there is, beside the bytes that it has got where it wants them.
    fn deliver(&mut self, fd: CageFd, sink: &mut Sink, flags: i32, filled: usize) -> Step {
        let mut count = filled;
        match self.connection.peek() {
            Ok(Incoming::Data(data)) => match sink.put(data) {
                Ok(put) => {
                    if flags & net::MSG_PEEK == 0 {
                        self.connection.consume(put);
                        // What fails now fails again when more is asked for.
                        let _ = self.settle(fd);
                    }
                    count += put;
                }
                Err(errno) => {
                    if self.is_unheld() {
                        state().network.may_be_unheld.store(true, Ordering::Release);
                    }
                    if count == 0 {
                        return Step::Failed(errno);
                    }
                }
            },
            // What comes after them is said when more is asked for.
            _ if count > 0 => {}
            _ if self.failure.is_some() => {
                return self.take_failure().map_or(Step::End, Step::Failed);
            }
            Ok(Incoming::End) | Err(_) => return Step::End,
            Ok(Incoming::Pending) if self.receive_over || self.is_read_closed => return Step::End,
            Ok(Incoming::Pending) => {
                return match self.refusal(fd) {
                    // It was there and has ended since, without an end that is the peer's.
                    Some(Errno(error::EPIPE)) => Step::Failed(Errno(error::ECONNRESET)),
                    Some(errno) => Step::Failed(errno),
                    None if self.receive_over => Step::End,
                    None => Step::Wait(self.events_below(poll::POLLIN)),
                };
            }
        }
        Step::Received {
            count,
            is_all: self.is_drained && !self.has_plaintext(),
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
        let sealed = self.seal_where_it_lies(source, room);
        if sealed > 0 {
            self.flush(fd);
            return self.sent(sealed);
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
        self.sent(piece.len())
    }

    /// What a send of so many bytes answers after the kernel has got what it takes.
    fn sent(&mut self, count: usize) -> Step {
        if self.send_over {
            let errno = self.take_failure().unwrap_or(Errno(error::EPIPE));
            return Step::Failed(errno);
        }
        Step::Sent(count)
    }

    /// Seals what a program sends where it lies, if all that can go now lies in one piece. How much that was.
    fn seal_where_it_lies(&mut self, source: &mut Source, room: usize) -> usize {
        let wanted = (room as u64).min(source.left()) as usize;
        let is_ready = self.is_open() && self.early.is_empty() && WireAead::is_native();
        let Some((at, len)) = source.next_piece().filter(|_| is_ready) else {
            return 0;
        };
        if len < wanted {
            return 0;
        }
        let sealed = self
            .connection
            .write_by(wanted, usize::MAX, |key, run, range, records| {
                let there = (at.add(range.start as u64), range.len());
                WireAead::seal_from(key, run, there, records)
            })
            .unwrap_or(0);
        source.skip(sealed);
        sealed
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

    /// How long a wait may last before it is looked again: while a handshake lasts others go on with it,
    /// and what they take out of the kernel wakes nobody. Nor does what a receive takes and can't give its program.
    pub fn look_again(&self) -> Option<Duration> {
        let handshake = self.handshake_left().map(|left| left.min(AGAIN));
        handshake.or_else(|| self.is_being_read.then_some(BESIDE))
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
