//! Sockets made and connected, and what is sent and received through them.

use super::datagram::{self, Messages};
use super::message::{Places, Sink, Source, address_len, give_address};
use super::stream::{Link, Step, with_wire};
use super::{Kind, Socket, Stream, below, is_internet};
use crate::grate::state;
use crate::grate::state::lock;
use crypt_grate::peers::socket_address;
use grate_rs::constants::{SYS_SENDTO, SYS_WRITEV, error, net, poll};
use grate_rs::kernel::{self, int, pass, value};
use grate_rs::message::{self, Header};
use grate_rs::{CageFd, Call, Errno, Vectors};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const EAGAIN: Errno = Errno(error::EAGAIN);

/// socket: family, type, protocol. UNIX sockets pass: they stay among programs of this machine. So
/// does what tells of the network's interfaces.
pub fn socket(call: &Call) -> Result<i32, Errno> {
    let state = state();
    // None that is known is larger.
    let family = u16::try_from(call.int(0)).unwrap_or_default();
    let is_local = match family {
        net::AF_UNIX => true,
        net::AF_NETLINK => call.int(2) == net::NETLINK_ROUTE,
        _ => false,
    };
    if is_local || !state.network.is_sealed() {
        return pass(call, 0);
    }
    let flags = call.int(1) & !net::SOCK_TYPE_MASK;
    if flags & !(net::SOCK_CLOEXEC | net::SOCK_NONBLOCK) != 0 {
        return Err(Errno(error::EINVAL));
    }
    if !matches!(family, net::AF_INET | net::AF_INET6) {
        return Err(Errno(error::EAFNOSUPPORT));
    }
    let socket = match (call.int(1) & net::SOCK_TYPE_MASK, call.int(2)) {
        (net::SOCK_STREAM, 0 | net::IPPROTO_TCP) => Socket::stream(Stream::Idle),
        (net::SOCK_DGRAM, 0 | net::IPPROTO_UDP) => {
            Socket::messages(Messages::new(state.datagrams()?))
        }
        (net::SOCK_STREAM | net::SOCK_DGRAM, _) => {
            return Err(Errno(error::EPROTONOSUPPORT));
        }
        // Such sockets would send in the clear; the kernel knows the error for those it lacks.
        _ => return Err(Errno(error::ESOCKTNOSUPPORT)),
    };
    let cage = call.cage_of(0);
    let fd = pass(call, 0)?;
    state.note_socket(CageFd { cage, fd }, socket);
    Ok(fd)
}

/// connect: descriptor, address, length.
pub fn connect(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    let (_held, Some(socket)) = state.hold_socket(fd)? else {
        return pass(call, 0);
    };
    // What is looked at is what is connected to.
    let name = call.take_bytes(1, address_len(call.int(2))?)?;
    let forward = || call.forward(fd.cage);
    match &socket.kind {
        Kind::Messages(messages) => {
            let mut messages = lock(messages);
            let result = forward()?;
            messages.set_peer(&name);
            Ok(result)
        }
        Kind::Stream(stream) => {
            let result = connect_stream(fd, stream, &name, forward);
            state.network.pump.watch(&socket);
            result
        }
    }
}

fn connect_stream(
    fd: CageFd,
    stream: &Mutex<Stream>,
    name: &[u8],
    forward: impl Fn() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let state = state();
    let family = name.first_chunk().map_or(0, |&f| u16::from_le_bytes(f));
    if family == net::AF_UNSPEC {
        let result = forward()?;
        *lock(stream) = Stream::Idle;
        return Ok(result);
    }
    let peer = socket_address(name);
    let next = match peer {
        Some(peer) if state.network.is_plain(peer) => Stream::Plain,
        _ => {
            let connection = state.connection(true)?;
            Stream::Sealed(Box::new(Link::new(connection, peer, false)))
        }
    };
    let is_known = {
        let mut now = lock(stream);
        let is_known = match &*now {
            // It is connected, or will be; the kernel says which.
            Stream::Sealed(link) => !link.is_refused(),
            Stream::Plain => below::peer_name(fd).is_ok(),
            Stream::Idle => false,
        };
        if !is_known {
            // Sealed from before there is a connection, for who uses it at the same time.
            *now = next;
        }
        is_known
    };
    let result = forward();
    let mut now = lock(stream);
    match result {
        Ok(_) if !is_known => {
            if let Stream::Sealed(link) = &mut *now {
                link.set_connected();
                link.flush(fd);
            }
        }
        Ok(_)
        | Err(Errno(
            error::EINPROGRESS
            | error::EINTR
            | error::EALREADY
            | error::EAGAIN
            | error::EISCONN
            | error::EINVAL
            | error::EAFNOSUPPORT
            | error::EFAULT,
        )) if is_known => {}
        Err(Errno(error::EINPROGRESS | error::EINTR | error::EALREADY | error::EAGAIN)) => {}
        // The kernel has undone what there was of a connection.
        _ => *now = Stream::Idle,
    }
    result
}

/// accept: descriptor, where the address goes, where its length is.
pub fn accept(call: &Call) -> Result<i32, Errno> {
    accept_with(call)
}

/// accept4: as accept, with flags.
pub fn accept4(call: &Call) -> Result<i32, Errno> {
    accept_with(call)
}

fn accept_with(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let listener = CageFd::of(call, 0);
    let fd = pass(call, 0)?;
    let fd = CageFd { fd, ..listener };
    // What listens need not be known: only what it brings counts.
    if state.network.is_sealed() && is_internet(fd) {
        match state.accepted(fd) {
            Ok(socket) => {
                if state.socket(listener).is_none_or(|from| from.is_tuned()) {
                    socket.set_tuned();
                }
                state.note_socket(fd, socket);
            }
            Err(errno) => {
                fd.close();
                return Err(errno);
            }
        }
    }
    Ok(fd.fd)
}

/// How a call on a socket goes on.
enum Way {
    /// As it came.
    Pass,
    /// Here.
    Here(Result<i32, Errno>),
}

impl Way {
    fn finish(self, call: &Call) -> Result<i32, Errno> {
        match self {
            Self::Pass => pass(call, 0),
            Self::Here(result) => result,
        }
    }
}

/// Takes the buffers of a call, once it is known that it is not to pass.
type Take = fn(&Call) -> Result<Vectors, Errno>;

/// read and readv on a socket.
pub fn read(call: &Call, socket: &Arc<Socket>, take: Take) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    receive(socket, fd, 0, || {
        Ok(Room {
            vectors: take(call)?,
            beside: Beside::Nothing,
            skips_empty: true,
        })
    })
    .finish(call)
}

/// write and writev on a socket.
pub fn write(call: &Call, socket: &Arc<Socket>, take: Take) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    send(socket, fd, 0, || {
        Ok(Message {
            vectors: take(call)?,
            name: Vec::new(),
            control: Vec::new(),
            // As the kernel: of vectors without a byte the socket hears nothing.
            skips_empty: u64::from(call.nr) == SYS_WRITEV,
        })
    })
    .finish(call)
}

/// sendto: descriptor, buffer, length, flags, address, its length.
pub fn sendto(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let (_held, Some(socket)) = state().hold_socket(fd)? else {
        return pass(call, 0);
    };
    send(&socket, fd, call.int(3), || {
        let name = if call.is_null(4) {
            Vec::new()
        } else {
            call.take_bytes(4, address_len(call.int(5))?)?
        };
        Ok(Message {
            vectors: call.take_buffer(1, length(call.size(2))),
            name,
            control: Vec::new(),
            skips_empty: false,
        })
    })
    .finish(call)
}

/// sendmsg: descriptor, header, flags.
pub fn sendmsg(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let (_held, Some(socket)) = state().hold_socket(fd)? else {
        return pass(call, 0);
    };
    send(&socket, fd, call.int(2), || {
        let (Header { name, control, .. }, vectors) = message::take(call, 1)?;
        Ok(Message {
            vectors,
            name,
            control,
            skips_empty: false,
        })
    })
    .finish(call)
}

/// recvfrom: descriptor, buffer, length, flags, where the address goes, where its length is.
pub fn recvfrom(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    // Not held: what it waits for may be a close.
    let (_, Some(socket)) = state().hold_socket(fd)? else {
        return pass(call, 0);
    };
    receive(&socket, fd, call.int(3), || {
        Ok(Room {
            vectors: call.take_buffer(1, length(call.size(2))),
            beside: Beside::Address(call),
            skips_empty: false,
        })
    })
    .finish(call)
}

/// recvmsg: descriptor, header, flags.
pub fn recvmsg(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    // Not held: what it waits for may be a close.
    let (_, Some(socket)) = state().hold_socket(fd)? else {
        return pass(call, 0);
    };
    receive(&socket, fd, call.int(2), || {
        let (places, vectors) = Places::take(call, 1)?;
        Ok(Room {
            vectors,
            beside: Beside::Header(places),
            skips_empty: false,
        })
    })
    .finish(call)
}

/// What a call sends.
struct Message {
    vectors: Vectors,
    /// Where it goes; empty for the peer.
    name: Vec<u8>,
    /// Control messages.
    control: Vec<u8>,
    /// Whether nothing is done where there is no byte.
    skips_empty: bool,
}

/// What a call has room for.
struct Room<'a> {
    vectors: Vectors,
    beside: Beside<'a>,
    /// Whether nothing is done, nor waited for, where there is no room.
    skips_empty: bool,
}

fn is_empty(vectors: &Vectors) -> bool {
    vectors.iter().all(|(_, len)| *len == 0)
}

/// Most bytes one call moves, as Linux's `MAX_RW_COUNT`.
fn length(len: u64) -> u64 {
    len.min(0x7fff_f000)
}

/// Where a call wants what comes beside the data.
enum Beside<'a> {
    Nothing,
    Address(&'a Call),
    Header(Places),
}

impl Beside<'_> {
    fn control_room(&self) -> Vec<u8> {
        match self {
            Self::Header(places) => places.control_room(),
            Self::Nothing | Self::Address(_) => Vec::new(),
        }
    }

    fn give(&self, name: &[u8], control: &[u8], flags: i32) -> Result<(), Errno> {
        match self {
            Self::Nothing => Ok(()),
            Self::Address(call) => give_address(call, 4, name),
            Self::Header(places) => places.give(name, control, flags),
        }
    }
}

/// How long calls wait, and for what.
struct Patience {
    fd: CageFd,
    flags: i32,
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Patience {
    fn new(socket: &Socket, fd: CageFd, flags: i32, option: i32) -> Self {
        Self {
            fd,
            flags,
            limit: socket.time_limit(fd, option),
            since: None,
        }
    }

    /// Waits for events below, until the call's time is over or `most` is. Answers which are there.
    ///
    /// # Errors
    /// EAGAIN where the call is not to wait any more.
    fn wait(&mut self, events: i16, most: Option<Duration>) -> Result<i16, Errno> {
        if self.flags & net::MSG_DONTWAIT != 0 || below::is_nonblocking(self.fd)? {
            return Err(EAGAIN);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self
            .limit
            .map(|limit| limit.saturating_sub(since.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(EAGAIN);
        }
        let time = [left, most].into_iter().flatten().min();
        below::wait(self.fd, events, milliseconds(time))
    }
}

/// A time as poll(2) has it, rounded up.
pub fn milliseconds(time: Option<Duration>) -> i32 {
    time.map_or(-1, |time| {
        i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    })
}

fn receive<'a>(
    socket: &Arc<Socket>,
    fd: CageFd,
    flags: i32,
    take: impl FnOnce() -> Result<Room<'a>, Errno>,
) -> Way {
    if flags & net::MSG_ERRQUEUE != 0 {
        // Programs get no copies of what they have sent: it was sealed.
        return Way::Here(Err(EAGAIN));
    }
    if let Kind::Stream(stream) = &socket.kind
        && !matches!(*lock(stream), Stream::Sealed(_))
    {
        return Way::Pass;
    }
    let Room {
        vectors,
        beside,
        skips_empty,
    } = match take() {
        Ok(room) => room,
        Err(errno) => return Way::Here(Err(errno)),
    };
    if skips_empty && is_empty(&vectors) {
        // As the kernel: who wants nothing gets nothing, and does not wait.
        return Way::Here(Ok(0));
    }
    let mut patience = Patience::new(socket, fd, flags, net::SO_RCVTIMEO);
    let sink = Sink::new(vectors);
    Way::Here(match &socket.kind {
        Kind::Messages(messages) => receive_message(messages, &mut patience, sink, &beside),
        Kind::Stream(_) => receive_stream(socket, &mut patience, sink).and_then(|count| {
            beside.give(&[], &[], 0)?;
            Ok(count)
        }),
    })
}

fn receive_message(
    messages: &Mutex<Messages>,
    patience: &mut Patience,
    mut sink: Sink,
    beside: &Beside<'_>,
) -> Result<i32, Errno> {
    let flags = patience.flags;
    let mut is_last = false;
    loop {
        let received = lock(messages).receive(patience.fd, flags, beside.control_room());
        match received {
            Ok(received) => {
                let (count, told) = received.give(&mut sink, flags)?;
                beside.give(&received.name, &received.control, told)?;
                return Ok(count);
            }
            Err(EAGAIN) if is_last => {
                beside.give(&[], &[], 0)?;
                return Ok(0);
            }
            Err(EAGAIN) => {
                let found = patience.wait(poll::POLLIN | poll::POLLRDHUP, None)?;
                // What came before that is received yet.
                is_last = found & poll::POLLRDHUP != 0;
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// How a receive goes on.
enum Turn {
    /// By a step; how long what must come first may take; whether there is something to do beside.
    Step(Step, Option<Duration>, bool),
    /// By waiting in the kernel for so many bytes of the wire.
    Read(usize),
}

/// Waits in the kernel for bytes of the wire, while others use the connection. `None` where there is no
/// connection any more.
fn read_below(
    socket: &Socket,
    fd: CageFd,
    most: usize,
    sink: &mut Sink,
) -> Option<Result<Step, Errno>> {
    with_wire(|wire| {
        let read = below::await_bytes(fd, &mut wire[..most]);
        let read = read.map(|len| &wire[..len]);
        // Whatever the number leads to by now the bytes are this connection's, and what is done beside
        // that is not another's.
        socket.with_link(|link| link.finish_reading(socket.at(fd), read, most, sink))
    })
}

fn receive_stream(socket: &Arc<Socket>, patience: &mut Patience, sink: Sink) -> Result<i32, Errno> {
    let flags = patience.flags;
    if flags & net::MSG_OOB != 0 {
        return Err(Errno(error::EINVAL));
    }
    let mut sink = if flags & net::MSG_TRUNC != 0 {
        sink.discarding()
    } else {
        sink
    };
    let wants_all = flags & net::MSG_WAITALL != 0;
    let waits_below = flags & (net::MSG_PEEK | net::MSG_DONTWAIT) == 0 && patience.limit.is_none();
    let mut total = 0;
    loop {
        let may_wait = waits_below && (total == 0 || wants_all);
        let turn = socket.with_link_at(patience.fd, |link| {
            if may_wait && let Some(most) = link.start_reading(sink.room()) {
                return Turn::Read(most);
            }
            let step = link.receive(patience.fd, &mut sink, flags);
            Turn::Step(step, link.look_again(), link.is_busy())
        });
        let step = match turn {
            Err(_) if total > 0 => return Ok(total as i32),
            Err(errno) => return Err(errno),
            Ok(Some(Turn::Step(step, most, is_busy))) => Some((step, most, is_busy)),
            Ok(Some(Turn::Read(most))) => match read_below(socket, patience.fd, most, &mut sink) {
                Some(Err(_)) if total > 0 => return Ok(total as i32),
                Some(Err(errno)) => return Err(errno),
                // The beginning of a record, of which there may be more already.
                Some(Ok(Step::Wait(_))) => continue,
                read => read.and_then(Result::ok).map(|step| (step, None, false)),
            },
            Ok(None) => None,
        };
        let Some((step, most, is_busy)) = step else {
            // It was disconnected in between.
            return Ok(total as i32);
        };
        if is_busy {
            state().network.pump.watch(socket);
        }
        match step {
            Step::Received { count, is_all } => {
                total += count;
                let is_full = sink.room() == 0 || count == 0;
                if is_full || (is_all && !wants_all) || flags & net::MSG_PEEK != 0 {
                    return Ok(total as i32);
                }
            }
            Step::End | Step::Sent(_) => return Ok(total as i32),
            Step::Failed(errno) if total > 0 => {
                socket.with_link(|link| link.put_back(errno));
                return Ok(total as i32);
            }
            Step::Failed(errno) => return Err(errno),
            Step::Wait(_) if total > 0 && !wants_all => return Ok(total as i32),
            Step::Wait(events) => match patience.wait(events, most) {
                Err(_) if total > 0 => return Ok(total as i32),
                waited => {
                    waited?;
                }
            },
        }
    }
}

fn send(
    socket: &Arc<Socket>,
    fd: CageFd,
    flags: i32,
    take: impl FnOnce() -> Result<Message, Errno>,
) -> Way {
    let mut is_idle = false;
    if let Kind::Stream(stream) = &socket.kind {
        if flags & net::MSG_FASTOPEN != 0 {
            // Data in the first packet comes before any handshake, and goes to any peer: programs
            // connect then.
            return Way::Here(Err(Errno(error::EOPNOTSUPP)));
        }
        match &*lock(stream) {
            Stream::Plain => return Way::Pass,
            Stream::Idle => is_idle = true,
            Stream::Sealed(_) => {}
        }
    }
    let message = match take() {
        Ok(message) => message,
        Err(errno) => return Way::Here(Err(errno)),
    };
    if message.skips_empty && is_empty(&message.vectors) {
        return Way::Here(Ok(0));
    }
    let mut source = Source::new(message.vectors);
    Way::Here(match &socket.kind {
        Kind::Messages(messages) => {
            let len = source.left() as i32;
            let sealed = lock(messages).prepare(&mut source, &message.name);
            sealed.and_then(|wire| {
                datagram::send(fd, &wire, flags, &message.name, &message.control)?;
                Ok(len)
            })
        }
        Kind::Stream(_) if is_idle => send_unconnected(fd, flags),
        Kind::Stream(_) => send_stream(socket, fd, source, flags),
    })
}

/// The kernel's answer to who sends what is not connected; of the data it gets none.
fn send_unconnected(fd: CageFd, flags: i32) -> Result<i32, Errno> {
    let none = value(fd.cage, 0);
    let args = [fd.arg(), none, none, int(fd.cage, flags), none, none];
    kernel::call(SYS_SENDTO, fd.cage, &args)
}

fn send_stream(
    socket: &Arc<Socket>,
    fd: CageFd,
    mut source: Source,
    flags: i32,
) -> Result<i32, Errno> {
    if flags & net::MSG_OOB != 0 {
        return Err(Errno(error::EOPNOTSUPP));
    }
    let mut patience = Patience::new(socket, fd, flags, net::SO_SNDTIMEO);
    let mut total = 0;
    loop {
        let step = socket.with_link_at(fd, |link| {
            let step = link.send(fd, &mut source);
            (step, link.look_again(), link.is_busy())
        })?;
        let Some((step, most, is_busy)) = step else {
            return Err(Errno(error::EPIPE));
        };
        if is_busy {
            state().network.pump.watch(socket);
        }
        match step {
            Step::Sent(count) => {
                total += count;
                if source.left() == 0 || count == 0 {
                    return Ok(total as i32);
                }
            }
            Step::Failed(errno) if total > 0 => {
                socket.with_link(|link| link.put_back(errno));
                return Ok(total as i32);
            }
            Step::Failed(errno) => return Err(errno),
            Step::End | Step::Received { .. } => return Ok(total as i32),
            Step::Wait(events) => match patience.wait(events, most) {
                Err(_) if total > 0 => return Ok(total as i32),
                waited => {
                    waited?;
                }
            },
        }
    }
}
