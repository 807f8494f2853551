//! One end of a sealed stream.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use rand_core::TryCryptoRng;

use super::aead::{AeadError, MessageAead, MessageCipher, MessageKey, Run, Software};
use super::handshake::{Established, Handshake};
use super::queue::Queue;
use super::record::{
    self, Direction, HEADER_LEN, MAX_RECORD_LEN, MAX_RECORD_PLAINTEXT, OVERHEAD, RecordRun,
};
use super::{Error, Keys};
use crate::KeyId;

/// Bytes a connection holds that have come in, at most: plaintext not yet read and the beginning
/// of a record that is not whole.
pub const INCOMING_LIMIT: usize = 4 * MAX_RECORD_LEN;

/// Sealed bytes a connection holds that are not yet sent, at most. The end of the stream and the
/// confirmation of the handshake, an empty record each, may come on top.
pub const OUTGOING_LIMIT: usize = 4 * MAX_RECORD_LEN;

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Plaintext, authentic and in order.
    Data(&'a [u8]),
    /// Nothing yet.
    Pending,
    /// The peer has closed its direction, and all it sent has been read.
    End,
}

/// One end of a sealed stream: a state machine between a program's plaintext and a transport that
/// carries bytes in order.
///
/// # The transport's side
///
/// Give it what the transport brought with [`read_wire`](Self::read_wire), at most
/// [`wire_room`](Self::wire_room) bytes at a time, and the transport's end with
/// [`wire_eof`](Self::wire_eof). Send what [`wire_output`](Self::wire_output) shows and say with
/// [`wire_sent`](Self::wire_sent) how much of it went. Any call may make more of it, so look after
/// each. Once [`is_write_finished`](Self::is_write_finished), shut the transport down for sending.
///
/// # The program's side
///
/// [`write`](Self::write) takes as much as there is room for and says how much that was; what it
/// took will not be asked for again. [`read`](Self::read), or [`peek`](Self::peek) and
/// [`consume`](Self::consume), give plaintext. [`close_write`](Self::close_write) ends this
/// direction and leaves the other.
///
/// A small write is a record at once: nothing waits for more to come.
///
/// # Latency
///
/// The initiator's confirmation is there to be sent as soon as the responder's flight has been
/// read. Where the program's first write follows at once, send both together. Over TCP set
/// `TCP_NODELAY` while the handshake lasts: otherwise that write may be held back until the peer
/// has acknowledged the confirmation sent before it.
///
/// # Errors
///
/// An error other than [`Error::WriteClosed`] ends the connection: keys and whatever was still to
/// be sent are dropped, and every later call fails with the same error. Only reading goes on, as
/// it does on a TCP socket that was reset: plaintext that was authentic and whole before the error
/// can be read first. Not one byte that is not authentic is ever shown.
///
/// # Memory
///
/// An idle connection holds its keys and two counters. Buffers exist while something is in them,
/// within [`INCOMING_LIMIT`] and [`OUTGOING_LIMIT`].
#[derive(Debug)]
pub struct Connection<A = Software> {
    aead: A,
    phase: Phase,
    key_id: Option<KeyId>,
    /// The beginning of a record that is not whole yet.
    partial: Vec<u8>,
    incoming: Queue,
    incoming_ended: bool,
    outgoing: Queue,
    /// Whether the program has closed its direction. The record that says so is made as soon as
    /// there are keys.
    write_closed: bool,
}

#[derive(Debug)]
enum Phase {
    Handshake(Box<Handshake>),
    Open {
        sending: Direction,
        receiving: Direction,
        /// False while a responder does not know yet that its peer is alive: the first flight
        /// that it answered may have been recorded from an earlier connection.
        confirmed: bool,
    },
    Failed(Error),
}

impl Connection {
    /// The end that connected. Its first flight is ready to be sent.
    pub fn initiator<R: TryCryptoRng + ?Sized>(keys: &Keys, rng: &mut R) -> Result<Self, Error> {
        Self::initiator_with(keys, rng, Software)
    }

    /// The end that accepted.
    pub fn responder<R: TryCryptoRng + ?Sized>(keys: &Keys, rng: &mut R) -> Result<Self, Error> {
        Self::responder_with(keys, rng, Software)
    }
}

impl<A: MessageAead> Connection<A> {
    /// As [`initiator`](Connection::initiator), with another implementation of the AEAD.
    pub fn initiator_with<R: TryCryptoRng + ?Sized>(
        keys: &Keys,
        rng: &mut R,
        aead: A,
    ) -> Result<Self, Error> {
        let mut outgoing = Queue::public();
        let handshake = Handshake::initiator(keys, rng, aead.offers_aes(), &mut outgoing)?;
        Ok(Self::new(handshake, outgoing, aead))
    }

    /// As [`responder`](Connection::responder), with another implementation of the AEAD.
    pub fn responder_with<R: TryCryptoRng + ?Sized>(
        keys: &Keys,
        rng: &mut R,
        aead: A,
    ) -> Result<Self, Error> {
        let handshake = Handshake::responder(keys, rng, aead.offers_aes())?;
        Ok(Self::new(handshake, Queue::public(), aead))
    }

    fn new(handshake: Handshake, outgoing: Queue, aead: A) -> Self {
        Self {
            aead,
            phase: Phase::Handshake(Box::new(handshake)),
            key_id: None,
            partial: Vec::new(),
            incoming: Queue::secret(),
            incoming_ended: false,
            outgoing,
            write_closed: false,
        }
    }

    /// How many bytes of the transport's the next [`read_wire`](Self::read_wire) takes at most.
    /// Zero means that plaintext must be read first, or that the connection has failed.
    pub fn wire_room(&self) -> usize {
        match self.phase {
            Phase::Failed(_) => 0,
            // Opening never makes bytes more, so what fits now still fits when it is opened.
            _ => INCOMING_LIMIT.saturating_sub(self.incoming.len() + self.partial.len()),
        }
    }

    /// Takes bytes from the transport, and says how many: all of them, unless there are more than
    /// [`wire_room`](Self::wire_room). The others are to be given again.
    ///
    /// # Errors
    ///
    /// What the peer, or who sits between, did wrong. It ends the connection.
    pub fn read_wire(&mut self, wire: &[u8]) -> Result<usize, Error> {
        let mut nowhere = Elsewhere {
            room: 0,
            filled: 0,
            open: |_: &MessageKey, _: Run, _: &[u8], _: Range<usize>| Err(AeadError),
        };
        let wire = &wire[..wire.len().min(self.wire_room())];
        self.latched(|connection| connection.take(wire, &mut nowhere))?;
        Ok(wire.len())
    }

    /// As [`read_wire`](Self::read_wire), for a program that has room for `room` bytes of plaintext
    /// somewhere: while none waits here, whole records are opened there by `open`. It is given a
    /// key, which messages, their bytes, and from where to where in the room their plaintext goes. What it
    /// fails at is opened here. Answers how many bytes of the wire were taken, and how many of the room
    /// are filled.
    ///
    /// # Errors
    ///
    /// As [`read_wire`](Self::read_wire), beside how much of the room is filled all the same.
    pub fn read_wire_to(
        &mut self,
        wire: &[u8],
        room: usize,
        open: impl FnMut(&MessageKey, Run, &[u8], Range<usize>) -> Result<(), AeadError>,
    ) -> (Result<usize, Error>, usize) {
        let mut there = Elsewhere {
            room,
            filled: 0,
            open,
        };
        let wire = &wire[..wire.len().min(self.wire_room())];
        let taken = self.latched(|connection| connection.take(wire, &mut there));
        (taken.map(|()| wire.len()), there.filled)
    }

    /// The transport has ended: no more bytes come.
    ///
    /// # Errors
    ///
    /// [`Error::Cut`] or [`Error::HandshakeCut`] if the peer had not closed its direction, and the
    /// error the connection failed with before, if it did.
    pub fn wire_eof(&mut self) -> Result<(), Error> {
        self.latched(|connection| match connection.phase {
            _ if connection.incoming_ended => Ok(()),
            Phase::Open {
                confirmed: true, ..
            } => Err(Error::Cut),
            _ => Err(Error::HandshakeCut),
        })
    }

    /// What the transport is to send, in order.
    pub fn wire_output(&self) -> &[u8] {
        self.outgoing.as_slice()
    }

    /// The transport took the first `len` bytes of [`wire_output`](Self::wire_output).
    pub fn wire_sent(&mut self, len: usize) {
        self.outgoing.consume(len);
    }

    /// Takes plaintext to send, and says how much: as much as fits while no more than `limit` bytes
    /// (and no more than [`OUTGOING_LIMIT`]) wait to be sent. Nothing is taken before the handshake
    /// has come far enough.
    ///
    /// A limit below what the transport will take at once keeps sealed bytes from piling up here,
    /// where the transport's own accounting does not see them.
    ///
    /// # Errors
    ///
    /// [`Error::WriteClosed`] after [`close_write`](Self::close_write); the connection's error if
    /// it failed.
    pub fn write(&mut self, plaintext: &[u8], limit: usize) -> Result<usize, Error> {
        self.check()?;
        if self.write_closed {
            return Err(Error::WriteClosed);
        }
        let len = plaintext.len().min(self.write_room(limit));
        if len > 0 {
            self.latched(|connection| connection.seal(&plaintext[..len]))?;
        }
        Ok(len)
    }

    /// As [`write`](Self::write), of `len` bytes of plaintext that are elsewhere: `seal` is given a key,
    /// which messages, from where to where in the plaintext they are, and where their sealed bytes go, with the
    /// headers there already. What is sealed before it fails counts, and is sent.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); that `seal` has failed is none.
    pub fn write_by(
        &mut self,
        len: usize,
        limit: usize,
        mut seal: impl FnMut(&MessageKey, Run, Range<usize>, &mut [u8]) -> Result<(), AeadError>,
    ) -> Result<usize, Error> {
        self.check()?;
        if self.write_closed {
            return Err(Error::WriteClosed);
        }
        let len = len.min(self.write_room(limit));
        let mut sealed = 0;
        if len > 0 {
            self.latched(|connection| {
                let Phase::Open { sending, .. } = &mut connection.phase else {
                    return Ok(());
                };
                let seal = |key: &MessageKey, run, range: Range<usize>, records: &mut [u8]| {
                    let end = range.end;
                    seal(key, run, range, records).inspect(|()| sealed = end)
                };
                match sending.seal_by(len, &mut connection.outgoing, seal) {
                    Err(Error::Aead) => Ok(()),
                    outcome => outcome,
                }
            })?;
        }
        Ok(sealed)
    }

    /// How much plaintext [`write`](Self::write) would take now, with the same limit.
    pub fn write_room(&self, limit: usize) -> usize {
        if self.write_closed || !matches!(self.phase, Phase::Open { .. }) {
            return 0;
        }
        let room = limit
            .min(OUTGOING_LIMIT)
            .saturating_sub(self.outgoing.len());
        room / MAX_RECORD_LEN * MAX_RECORD_PLAINTEXT
            + (room % MAX_RECORD_LEN).saturating_sub(OVERHEAD)
    }

    /// Ends this direction: what was written so far is followed by an authenticated end. The other
    /// direction stays as it is. Doing it again does nothing.
    ///
    /// # Errors
    ///
    /// The connection's error if it failed.
    pub fn close_write(&mut self) -> Result<(), Error> {
        self.check()?;
        if core::mem::replace(&mut self.write_closed, true) {
            return Ok(());
        }
        match self.phase {
            Phase::Open { .. } => self.latched(|connection| connection.seal(&[])),
            _ => Ok(()),
        }
    }

    /// Copies plaintext to `out` and takes it off. `None` if there is nothing yet; `Some(0)`, for
    /// an `out` that has room, is the end of the peer's direction.
    ///
    /// # Errors
    ///
    /// The connection's error, once all plaintext from before it has been read.
    pub fn read(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error> {
        match self.peek()? {
            Incoming::Data(data) => {
                let len = data.len().min(out.len());
                out[..len].copy_from_slice(&data[..len]);
                self.consume(len);
                Ok(Some(len))
            }
            Incoming::Pending => Ok(None),
            Incoming::End => Ok(Some(0)),
        }
    }

    /// What there is to read, without taking it off. `Data` is never empty.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn peek(&self) -> Result<Incoming<'_>, Error> {
        if !self.incoming.is_empty() {
            return Ok(Incoming::Data(self.incoming.as_slice()));
        }
        self.check()?;
        Ok(if self.incoming_ended {
            Incoming::End
        } else {
            Incoming::Pending
        })
    }

    /// Takes the first `len` bytes of plaintext off, or all there are.
    pub fn consume(&mut self, len: usize) {
        self.incoming.consume(len);
    }

    /// Bytes of plaintext that can be read now.
    pub fn plaintext_len(&self) -> usize {
        self.incoming.len()
    }

    /// Whether the peer is not yet known to be alive and to have the key. The initiator knows from
    /// the answer to its first flight, the responder from the confirmation that follows; it may
    /// write before that.
    ///
    /// Put a limit on the time this takes: nothing else bounds a peer that never goes on.
    pub fn is_handshaking(&self) -> bool {
        matches!(
            self.phase,
            Phase::Handshake(_)
                | Phase::Open {
                    confirmed: false,
                    ..
                }
        )
    }

    /// Whether bytes from the transport are wanted now.
    pub fn wants_read(&self) -> bool {
        !self.incoming_ended && self.wire_room() > 0
    }

    /// Whether there are bytes for the transport.
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the peer has closed its direction in order. There may still be plaintext to read.
    pub fn is_peer_closed(&self) -> bool {
        self.incoming_ended
    }

    /// Whether this end has closed its direction.
    pub fn is_write_closed(&self) -> bool {
        self.write_closed
    }

    /// Whether this end has closed its direction and all of it has been sent.
    pub fn is_write_finished(&self) -> bool {
        self.write_closed && matches!(self.phase, Phase::Open { .. }) && self.outgoing.is_empty()
    }

    /// What the connection failed with, if it did.
    pub fn error(&self) -> Option<Error> {
        self.check().err()
    }

    /// The key both ends have, once the handshake has found it.
    pub fn key_id(&self) -> Option<KeyId> {
        self.key_id
    }

    /// What records are sealed with, once both ends have agreed on it and while there are keys.
    pub fn cipher(&self) -> Option<MessageCipher> {
        match &self.phase {
            Phase::Open { sending, .. } => Some(sending.cipher()),
            Phase::Handshake(_) | Phase::Failed(_) => None,
        }
    }

    fn check(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Does one step; an error in it is the connection's last.
    fn latched(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.check()?;
        step(self).inspect_err(|&error| {
            self.phase = Phase::Failed(error);
            self.partial = Vec::new();
            self.outgoing.clear();
        })
    }

    fn take<F: OpenElsewhere>(
        &mut self,
        mut wire: &[u8],
        there: &mut Elsewhere<F>,
    ) -> Result<(), Error> {
        if let Phase::Handshake(handshake) = &mut self.phase {
            let confirmed = handshake.is_initiator();
            let Some(established) = handshake.read(&mut wire, &mut self.outgoing)? else {
                return Ok(());
            };
            self.open(established, confirmed)?;
        }
        if !self.partial.is_empty() {
            top_up(&mut self.partial, &mut wire, HEADER_LEN);
            let Some(len) = record::record_len(&self.partial)? else {
                return Ok(());
            };
            top_up(&mut self.partial, &mut wire, len);
            if self.partial.len() < len {
                return Ok(());
            }
            let partial = core::mem::take(&mut self.partial);
            self.open_records(&mut &partial[..], there)?;
        }
        self.open_records(&mut wire, there)?;
        self.partial.extend_from_slice(wire);
        Ok(())
    }

    /// The handshake has come far enough for records.
    fn open(&mut self, established: Established, is_initiator: bool) -> Result<(), Error> {
        self.key_id = Some(established.key_id);
        self.phase = Phase::Open {
            sending: established.sending,
            receiving: established.receiving,
            confirmed: is_initiator,
        };
        if is_initiator {
            self.seal(&[])?;
        }
        if self.write_closed {
            self.seal(&[])?;
        }
        Ok(())
    }

    fn seal(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        let Phase::Open { sending, .. } = &mut self.phase else {
            return Ok(());
        };
        sending.seal(&self.aead, plaintext, &mut self.outgoing)
    }

    /// Opens the whole records at the front of `wire`.
    fn open_records<F: OpenElsewhere>(
        &mut self,
        wire: &mut &[u8],
        there: &mut Elsewhere<F>,
    ) -> Result<(), Error> {
        let Phase::Open {
            receiving,
            confirmed,
            ..
        } = &mut self.phase
        else {
            return Ok(());
        };
        loop {
            if self.incoming_ended && !wire.is_empty() {
                return Err(Error::AfterEnd);
            }
            let Some(run) = RecordRun::split_off(wire, receiving.run_limit())? else {
                return Ok(());
            };
            let is_empty = run.plaintext_len() == 0;
            let goes_there = *confirmed && !is_empty && self.incoming.is_empty();
            if !(goes_there && there.open(receiving, run)) {
                open_run(receiving, &self.aead, run, &mut self.incoming)?;
            }
            match (*confirmed, is_empty) {
                (true, false) => {}
                (true, true) => self.incoming_ended = true,
                (false, true) => *confirmed = true,
                (false, false) => {
                    self.incoming.clear();
                    return Err(Error::Unconfirmed);
                }
            }
        }
    }
}

/// Room for plaintext somewhere else, and what opens records there.
struct Elsewhere<F> {
    room: usize,
    filled: usize,
    open: F,
}

trait OpenElsewhere: FnMut(&MessageKey, Run, &[u8], Range<usize>) -> Result<(), AeadError> {}

impl<F: FnMut(&MessageKey, Run, &[u8], Range<usize>) -> Result<(), AeadError>> OpenElsewhere for F {}

impl<F: OpenElsewhere> Elsewhere<F> {
    /// Opens a run of records there, if there is room for all of it; whether it did.
    fn open(&mut self, receiving: &mut Direction, records: RecordRun<'_>) -> bool {
        let place = self.filled..self.filled + records.plaintext_len();
        if place.end > self.room {
            return false;
        }
        let opened = receiving.open_by(records, |key, run, sealed| {
            (self.open)(key, run, sealed, place.clone())
        });
        if opened.is_ok() {
            self.filled = place.end;
        }
        opened.is_ok()
    }
}

/// Opens a run of records. If it fails, those before the first bad one are opened by themselves.
fn open_run(
    receiving: &mut Direction,
    aead: &impl MessageAead,
    run: RecordRun<'_>,
    out: &mut Queue,
) -> Result<(), Error> {
    let outcome = receiving.open(aead, run, out);
    if outcome.is_ok() || run.count() == 1 {
        return outcome;
    }
    let mut rest = Some(run);
    while let Some(run) = rest {
        let (first, others) = run.split_first();
        receiving.open(aead, first, out)?;
        rest = others;
    }
    outcome
}

/// Moves bytes from the front of `from` to `to` until it is `len` bytes long.
fn top_up(to: &mut Vec<u8>, from: &mut &[u8], len: usize) {
    let missing = len.saturating_sub(to.len());
    let (now, later) = from.split_at(from.len().min(missing));
    to.reserve_exact(missing);
    to.extend_from_slice(now);
    *from = later;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterKey;
    use crate::testing::TestRng;

    /// A peer that has the key and does not keep to the protocol.
    #[test]
    fn the_first_record_must_be_the_confirmation() {
        let keys = Keys::from(MasterKey::from_bytes([1; 32]));
        let mut rng = TestRng::new(1);
        let mut flight = Queue::public();
        let mut peer = Handshake::initiator(&keys, &mut rng, false, &mut flight).unwrap();
        let mut end = Connection::responder(&keys, &mut rng).unwrap();
        end.read_wire(flight.as_slice()).unwrap();
        let mut peer = peer
            .read(&mut end.wire_output(), &mut Queue::public())
            .unwrap()
            .unwrap();

        let mut wire = Queue::public();
        peer.sending.seal(&Software, b"early", &mut wire).unwrap();
        assert_eq!(end.read_wire(wire.as_slice()), Err(Error::Unconfirmed));
        assert_eq!(end.peek(), Err(Error::Unconfirmed));
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = Keys::from(MasterKey::from_bytes([0xAB; 32]));
        let mut end = Connection::initiator(&keys, &mut TestRng::new(1)).unwrap();
        end.incoming.extend_from_slice(b"secret");
        let shown = alloc::format!("{keys:?} {end:?}");
        let secret = alloc::format!("{:?}", b"secret");
        assert!(!shown.contains("171, 171") && !shown.contains(&secret));
    }
}
