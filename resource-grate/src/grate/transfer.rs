//! Calls that move bytes.

use super::known::{self, Kind, Socket};
use super::rates::{Account, Peer, Way};
use super::sockets::{is_port, judge, judge_name, socket_of};
use super::state;
use grate_rs::constants::{
    SYS_FCNTL, SYS_PREAD, SYS_PWRITE, SYS_READ, SYS_RECVMSG, SYS_SENDMSG, SYS_WRITE, error, fs,
    mman, net,
};
use grate_rs::kernel::{self, int, pass, value};
use grate_rs::message::{
    self, Below, CONTROL, CONTROL_LEN, FLAGS, Header, MOST_CONTROL, MOST_NAME, MSGHDR_LEN, NAME,
    NAME_LEN, word,
};
use grate_rs::sockets::{address, peer_name};
use grate_rs::{Arg, CageFd, Call, Errno, GuestPtr, Vectors, own_buffer};
use resource_grate::limits::Rate;

const EINVAL: Errno = Errno(error::EINVAL);

/// Most bytes one call moves, as Linux's `MAX_RW_COUNT`.
const MAX_RW: u64 = 0x7fff_f000;
/// Most bytes that the grate has in its hands at a time.
const BOUNCE: u64 = 1 << 20;
/// A message is no longer than that.
const MOST_MESSAGE: u64 = 64 << 10;

/// Where the bytes of a call are.
enum Bytes {
    /// In one buffer of the program's, which the kernel is told of as it is.
    Plain(GuestPtr, u64),
    /// In several: they go through the grate's hands, for vectors can change in memory.
    Many(Vectors),
}

impl Bytes {
    fn one(call: &Call) -> Self {
        Self::Plain(call.place(1), call.size(2))
    }

    fn many(call: &Call) -> Result<Self, Errno> {
        Ok(Self::Many(call.take_vectors(1, call.int(2))?))
    }

    fn len(&self) -> u64 {
        match self {
            Self::Plain(_, len) => *len,
            Self::Many(vectors) => vectors.iter().map(|(_, len)| *len).sum(),
        }
    }

    /// The most that one call moves of them.
    fn most(&self) -> u64 {
        match self {
            Self::Plain(..) => MAX_RW,
            Self::Many(_) => BOUNCE,
        }
    }

    /// The parts of `len` bytes from `done` on.
    fn parts(&self, done: u64, len: u64) -> Vectors {
        let plain;
        let vectors = match self {
            Self::Plain(start, all) => {
                plain = [(*start, *all)];
                &plain[..]
            }
            Self::Many(vectors) => vectors,
        };
        let (mut skip, mut left) = (done, len);
        let mut parts = Vec::new();
        for &(start, all) in vectors {
            let skipped = skip.min(all);
            skip -= skipped;
            let part = left.min(all - skipped);
            left -= part;
            if part > 0 {
                parts.push((start.add(skipped), part));
            }
        }
        parts
    }

    /// Copies `len` bytes from `done` on.
    fn gather(&self, done: u64, len: u64) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0; len as usize];
        let mut rest = &mut data[..];
        for (start, part) in self.parts(done, len) {
            let (into, after) = rest.split_at_mut(part as usize);
            start.read_into(into)?;
            rest = after;
        }
        Ok(data)
    }

    /// Puts bytes there, from `done` on.
    fn scatter(&self, done: u64, mut data: &[u8]) -> Result<(), Errno> {
        for (start, part) in self.parts(done, data.len() as u64) {
            let (these, rest) = data.split_at(part as usize);
            start.write(these)?;
            data = rest;
        }
        Ok(())
    }
}

/// Where in a file bytes are moved, where that is not the descriptor's own place.
type At = Option<u64>;

/// Moves `len` bytes from `done` on by one call.
fn move_piece(
    fd: CageFd,
    way: Way,
    bytes: &Bytes,
    done: u64,
    len: u64,
    at: At,
) -> Result<i32, Errno> {
    let nr = match (way, at) {
        (Way::In, None) => SYS_READ,
        (Way::In, Some(_)) => SYS_PREAD,
        (Way::Out, None) => SYS_WRITE,
        (Way::Out, Some(_)) => SYS_PWRITE,
    };
    let make = |buffer: Arg| {
        let at = at.unwrap_or(0).saturating_add(done);
        let args = [fd.arg(), buffer, value(fd.cage, len), value(fd.cage, at)];
        let count = if nr == SYS_READ || nr == SYS_WRITE {
            3
        } else {
            4
        };
        kernel::call(nr, fd.cage, &args[..count])
    };
    match bytes {
        Bytes::Plain(start, _) => {
            let start = start.add(done);
            make(value(start.cage, start.addr))
        }
        Bytes::Many(_) if way == Way::Out => {
            let data = bytes.gather(done, len)?;
            make(own_buffer(data.as_ptr()))
        }
        Bytes::Many(_) => {
            let mut data = vec![0; len as usize];
            let moved = make(own_buffer(data.as_mut_ptr()))?;
            bytes.scatter(done, &data[..moved as usize])?;
            Ok(moved)
        }
    }
}

/// Whether a descriptor's calls do not wait for peers.
fn is_nonblocking(fd: CageFd) -> bool {
    let args = [fd.arg(), int(fd.cage, fs::F_GETFL), int(fd.cage, 0)];
    kernel::call(SYS_FCNTL, fd.cage, &args).is_ok_and(|flags| flags & fs::O_NONBLOCK != 0)
}

/// Bytes of one call that may be cut: what the program sees is a file or stream that is slower.
struct Stream {
    fd: CageFd,
    way: Way,
    total: u64,
    /// The most for one call below.
    most: u64,
    /// Flags of the call, where it has some.
    flags: i32,
}

/// What came of a piece.
enum Piece {
    /// So many of so many bytes were moved.
    Moved(u64, u64, Kind),
    /// The descriptor leads to something else by now.
    Changed,
}

impl Stream {
    /// Moves bytes at the pace of what the descriptor leads to; `act` moves `len` bytes from `done`
    /// on. Nothing of it is cut that a second's worth has room for.
    fn run(&self, mut act: impl FnMut(u64, u64) -> Result<i32, Errno>) -> Result<i32, Errno> {
        let total = self.total.min(MAX_RW);
        let mut done = 0;
        loop {
            match self.piece(total - done, |len| act(done, len)) {
                Ok(Piece::Moved(asked, moved, kind)) => {
                    done += moved;
                    let waits_for_all = kind == Kind::Regular
                        || self.way == Way::Out
                        || self.flags & net::MSG_WAITALL != 0;
                    if done >= total || moved < asked || !waits_for_all {
                        return Ok(done as i32);
                    }
                    let no_wait = self.flags & net::MSG_DONTWAIT != 0;
                    if kind != Kind::Regular && (no_wait || is_nonblocking(self.fd)) {
                        return Ok(done as i32);
                    }
                }
                Ok(Piece::Changed) => {}
                Err(_) if done > 0 => return Ok(done as i32),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn piece(
        &self,
        left: u64,
        act: impl FnOnce(u64) -> Result<i32, Errno>,
    ) -> Result<Piece, Errno> {
        let fd = self.fd;
        let of = |kind| Account::of_bytes(fd, kind, self.way);
        let (held, kind) = known::hold(fd)?;
        let account = of(kind);
        // Nobody is kept from closing a descriptor by who sleeps.
        drop(held);
        // Who reads what is no file may wait for a peer, and get less.
        let may_wait = self.way == Way::In && kind != Kind::Regular;
        let most = self.most.min(if may_wait { BOUNCE } else { MAX_RW });
        let most = most.min(account.rate()).min(left);
        let least = match may_wait || left > most {
            true => account.piece().min(most),
            false => left,
        };
        let grant = account.wait(least, most)?;
        let (held, now) = known::hold(fd).inspect_err(|_| grant.settle(0))?;
        if now != kind || of(now) != account {
            grant.settle(0);
            return Ok(Piece::Changed);
        }
        let held = (!may_wait).then_some(held);
        let asked = grant.bytes;
        let moved = grant.spend(act);
        if held.is_none()
            && let Ok((_, kind)) = known::hold(fd)
            && of(kind) != account
        {
            // It has become another while bytes were waited for: that one pays too.
            of(kind).pay(moved.map_or(0, |moved| moved as u64));
        }
        Ok(Piece::Moved(asked, moved? as u64, kind))
    }
}

/// A call that reads or writes by descriptor alone.
fn by_descriptor(
    call: &Call,
    way: Way,
    bytes: impl FnOnce(&Call) -> Result<Bytes, Errno>,
    at: At,
) -> Result<i32, Errno> {
    if !state().limits_rates() {
        return pass(call, 0);
    }
    let fd = CageFd::of(call, 0);
    let (held, kind) = known::hold(fd)?;
    drop(held);
    let bytes = bytes(call)?;
    match (kind, way) {
        (Kind::Socket(socket), Way::In) if socket.is_message && at.is_none() => {
            receive_message(fd, socket, &bytes, 0, &Reply::None)
        }
        (Kind::Socket(socket), Way::Out) if socket.is_message && at.is_none() => {
            let header = Header::default();
            send_message(fd, socket, &bytes, 0, &header)
        }
        _ => {
            let (total, most) = (bytes.len(), bytes.most());
            let stream = Stream {
                fd,
                way,
                total,
                most,
                flags: 0,
            };
            stream.run(|done, len| move_piece(fd, way, &bytes, done, len, at))
        }
    }
}

fn plain(call: &Call) -> Result<Bytes, Errno> {
    match call.size(2) > i64::MAX as u64 {
        true => Err(EINVAL),
        false => Ok(Bytes::one(call)),
    }
}

fn offset(call: &Call) -> Result<At, Errno> {
    Ok(Some(u64::try_from(call.long(3)).map_err(|_| EINVAL)?))
}

/// read: descriptor, buffer, length.
pub fn read(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::In, plain, None)
}

/// write: descriptor, buffer, length.
pub fn write(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::Out, plain, None)
}

/// pread: descriptor, buffer, length, offset.
pub fn pread(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::In, plain, offset(call)?)
}

/// pwrite: descriptor, buffer, length, offset.
pub fn pwrite(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::Out, plain, offset(call)?)
}

/// readv: descriptor, vectors, count.
pub fn readv(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::In, Bytes::many, None)
}

/// writev: descriptor, vectors, count.
pub fn writev(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::Out, Bytes::many, None)
}

/// preadv: descriptor, vectors, count, offset.
pub fn preadv(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::In, Bytes::many, offset(call)?)
}

/// pwritev: descriptor, vectors, count, offset.
pub fn pwritev(call: &Call) -> Result<i32, Errno> {
    by_descriptor(call, Way::Out, Bytes::many, offset(call)?)
}

fn send_below(fd: CageFd, data: &[u8], flags: i32, header: &Header) -> Result<i32, Errno> {
    let buffer = own_buffer(data.as_ptr());
    let mut below = Below::new(buffer, data.len(), &header.name, &header.control);
    below.make(SYS_SENDMSG as u32, fd, flags)
}

/// Receives up to `len` bytes, with what goes beside them, of which there is so much room.
fn receive_below(
    fd: CageFd,
    len: usize,
    flags: i32,
    control_room: usize,
) -> Result<(i32, Vec<u8>, Header), Errno> {
    let (mut data, name) = (vec![0; len], vec![0; MOST_NAME]);
    let control = vec![0; control_room];
    let mut below = Below::new(own_buffer(data.as_mut_ptr()), len, &name, &control);
    let moved = below.make(SYS_RECVMSG as u32, fd, flags)?;
    data.truncate(moved as usize);
    let [mut name, mut control] = [name, control];
    name.truncate(word(below.header(), NAME_LEN) as u32 as usize);
    control.truncate(word(below.header(), CONTROL_LEN) as usize);
    let flags = word(below.header(), FLAGS) as i32;
    let header = Header {
        name,
        control,
        flags,
    };
    Ok((moved, data, header))
}

/// Sends a message, which is not cut.
fn send_message(
    fd: CageFd,
    socket: Socket,
    bytes: &Bytes,
    flags: i32,
    header: &Header,
) -> Result<i32, Errno> {
    let len = bytes.len();
    if len > BOUNCE {
        return Err(Errno(error::EMSGSIZE));
    }
    let peer;
    let mut header = header;
    let account = if socket.is_unix {
        Account::of_peer(Peer::Here, Way::Out)
    } else {
        if header.name.is_empty() {
            // Who is asked for now is who gets it, wherever the socket is connected then.
            const EDESTADDRREQ: Errno = Errno(89);
            let name = peer_name(fd).map_err(|_| EDESTADDRREQ)?;
            let control = header.control.clone();
            peer = Header {
                name,
                control,
                flags: 0,
            };
            header = &peer;
        }
        let to = address(&header.name).map_or(Peer::There, Peer::at);
        Account::of_peer(to, Way::Out)
    };
    let grant = account.wait(len, len)?;
    let (held, kind) = known::hold(fd).inspect_err(|_| grant.settle(0))?;
    if kind != Kind::Socket(socket) {
        grant.settle(0);
        return Err(Errno(error::EBADF));
    }
    let sent = grant.spend(|_| send_below(fd, &bytes.gather(0, len)?, flags, header));
    drop(held);
    sent
}

/// What of a received message the program is told beside its bytes.
enum Reply {
    None,
    /// The address, and where its length is.
    Name(GuestPtr, GuestPtr),
    /// A header: where it is, and what it said.
    Header(GuestPtr, Box<[u8; MSGHDR_LEN]>),
}

impl Reply {
    fn control_room(&self) -> usize {
        match self {
            Self::Header(_, header) if word(&header[..], CONTROL) != 0 => {
                let room = usize::try_from(word(&header[..], CONTROL_LEN));
                room.unwrap_or(MOST_CONTROL).min(MOST_CONTROL)
            }
            _ => 0,
        }
    }

    fn tell(&self, said: &Header) -> Result<(), Errno> {
        match self {
            Self::None => Ok(()),
            Self::Name(to, len_at) => {
                if to.is_null() {
                    return Ok(());
                }
                let room = u32::from_le_bytes(len_at.read()?);
                let room = usize::try_from(room as i32).map_err(|_| EINVAL)?;
                to.write(&said.name[..room.min(said.name.len())])?;
                len_at.write(&(said.name.len() as u32).to_le_bytes())
            }
            Self::Header(at, header) => {
                let mut header = **header;
                let place = |at: usize, header: &[u8]| GuestPtr {
                    addr: word(header, at),
                    cage: self.cage(),
                };
                let name = place(NAME, &header);
                if !name.is_null() {
                    let room = word(&header, NAME_LEN) as u32 as usize;
                    name.write(&said.name[..room.min(said.name.len())])?;
                }
                let control = place(CONTROL, &header);
                if !control.is_null() {
                    control.write(&said.control)?;
                }
                let name_len = (said.name.len() as u32).to_le_bytes();
                header[NAME_LEN..NAME_LEN + 4].copy_from_slice(&name_len);
                let control_len = (said.control.len() as u64).to_le_bytes();
                header[CONTROL_LEN..CONTROL_LEN + 8].copy_from_slice(&control_len);
                header[FLAGS..FLAGS + 4].copy_from_slice(&said.flags.to_le_bytes());
                at.write(&header)
            }
        }
    }

    fn cage(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Name(at, _) | Self::Header(at, _) => at.cage,
        }
    }
}

/// Receives a message, which is not cut. Who sent it is known afterwards, and says who pays.
fn receive_message(
    fd: CageFd,
    socket: Socket,
    bytes: &Bytes,
    flags: i32,
    reply: &Reply,
) -> Result<i32, Errno> {
    let len = bytes.len().min(BOUNCE);
    let peer = match socket.is_unix {
        true => Peer::Here,
        false => Peer::Unknown,
    };
    let account = Account::of_peer(peer, Way::In);
    let least = account.piece().min(len).min(MOST_MESSAGE);
    let grant = account.wait(least, len.min(account.rate()).min(MOST_MESSAGE))?;
    let received = receive_below(fd, len as usize, flags, reply.control_room());
    let (moved, data, header) = received.inspect_err(|_| grant.settle(0))?;
    let payer = match address(&header.name) {
        Some(from) if !socket.is_unix => Account::of_peer(Peer::at(from), Way::In),
        _ => account,
    };
    grant.settle_for(payer, data.len() as u64);
    bytes.scatter(0, &data)?;
    reply.tell(&header)?;
    Ok(moved)
}

/// sendto: descriptor, buffer, length, flags, address, its length.
pub fn sendto(call: &Call) -> Result<i32, Errno> {
    if !state().limits_sockets() && !state().limits_ports() {
        return pass(call, 0);
    }
    let fd = CageFd::of(call, 0);
    let Some(socket) = socket_of(fd)? else {
        return pass(call, 0);
    };
    let mut name = Vec::new();
    if !call.is_null(4) {
        name = judge(call, 4, 5, socket)?;
    }
    if !state().limits_sockets() {
        let (_held, now) = known::hold(fd)?;
        return is_port(now == Kind::Socket(socket)).and_then(|()| pass(call, 0));
    }
    let (bytes, flags) = (plain(call)?, call.int(3));
    let header = Header {
        name,
        ..Header::default()
    };
    if socket.is_message {
        return send_message(fd, socket, &bytes, flags, &header);
    }
    stream_out(fd, &bytes, flags, &header)
}

/// Sends what may be cut.
fn stream_out(fd: CageFd, bytes: &Bytes, flags: i32, header: &Header) -> Result<i32, Errno> {
    let stream = Stream {
        fd,
        way: Way::Out,
        total: bytes.len(),
        most: BOUNCE,
        flags: flags & !net::MSG_WAITALL,
    };
    stream.run(|done, len| send_below(fd, &bytes.gather(done, len)?, flags, header))
}

/// A message header of the program's.
fn header_of(call: &Call) -> Result<(Box<[u8; MSGHDR_LEN]>, Bytes), Errno> {
    let (header, vectors) = message::vectors(call, 1)?;
    Ok((Box::new(header), Bytes::Many(vectors)))
}

/// sendmsg: descriptor, message header, flags.
pub fn sendmsg(call: &Call) -> Result<i32, Errno> {
    if !state().limits_sockets() && !state().limits_ports() {
        return pass(call, 0);
    }
    let fd = CageFd::of(call, 0);
    let Some(socket) = socket_of(fd)? else {
        return pass(call, 0);
    };
    let (header, vectors) = message::take(call, 1)?;
    let bytes = Bytes::Many(vectors);
    if !header.name.is_empty() {
        judge_name(&header.name, socket)?;
    }
    if socket.is_message {
        send_message(fd, socket, &bytes, call.int(2), &header)
    } else {
        stream_out(fd, &bytes, call.int(2), &header)
    }
}

/// recvfrom: descriptor, buffer, length, flags, address, its length.
pub fn recvfrom(call: &Call) -> Result<i32, Errno> {
    if !state().limits_sockets() {
        return pass(call, 0);
    }
    let reply = Reply::Name(call.place(4), call.place(5));
    receive(call, || plain(call), call.int(3), || Ok(reply))
}

/// recvmsg: descriptor, message header, flags.
pub fn recvmsg(call: &Call) -> Result<i32, Errno> {
    if !state().limits_sockets() {
        return pass(call, 0);
    }
    let (header, bytes) = header_of(call)?;
    let reply = Reply::Header(call.place(1), header);
    receive(call, || Ok(bytes), call.int(2), || Ok(reply))
}

fn receive(
    call: &Call,
    bytes: impl FnOnce() -> Result<Bytes, Errno>,
    flags: i32,
    reply: impl FnOnce() -> Result<Reply, Errno>,
) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let Some(socket) = socket_of(fd)? else {
        return pass(call, 0);
    };
    let (bytes, reply) = (bytes()?, reply()?);
    if socket.is_message {
        return receive_message(fd, socket, &bytes, flags, &reply);
    }
    let stream = Stream {
        fd,
        way: Way::In,
        total: bytes.len(),
        most: BOUNCE,
        flags,
    };
    let mut said = None;
    let moved = stream.run(|done, len| {
        let room = reply.control_room();
        let (moved, data, header) = receive_below(fd, len as usize, flags, room)?;
        bytes.scatter(done, &data)?;
        said = Some(header);
        Ok(moved)
    })?;
    if let Some(said) = said {
        reply.tell(&said)?;
    }
    Ok(moved)
}

/// getdents64: descriptor, buffer, length. Entries are not cut.
pub fn getdents(call: &Call) -> Result<i32, Errno> {
    let account = Account::of(Rate::FileRead);
    if account.is_free() {
        return pass(call, 0);
    }
    let len = call.size(2).min(MOST_MESSAGE);
    let grant = account.wait(account.piece().min(len), len.min(account.rate()))?;
    let mut args = call.args();
    args[2].value = len;
    grant.spend(|_| call.forward_with(call.cage_of(0), &args))
}

/// copy_file_range: descriptor, offset, descriptor to write to, offset, length, flags. Both files
/// pay; less is copied than asked for where there is no more to be had.
pub fn copy_file_range(call: &Call) -> Result<i32, Errno> {
    if !state().limits_rates() {
        return pass(call, 0);
    }
    let (from, to) = (CageFd::of(call, 0), CageFd::of(call, 2));
    let account = || {
        let (from, from_kind) = known::hold(from)?;
        let (to, to_kind) = known::hold(to)?;
        let account = Account::both(
            Account::of_file(from_kind, Way::In),
            Account::of_file(to_kind, Way::Out),
        );
        Ok(([from, to], account))
    };
    loop {
        let (held, asked) = account()?;
        drop(held);
        let most = call.size(4).min(MAX_RW).min(asked.rate());
        let grant = asked.wait(asked.piece().min(most), most)?;
        let (_held, now) = account().inspect_err(|_: &Errno| grant.settle(0))?;
        if now != asked {
            grant.settle(0);
            continue;
        }
        let mut args = call.args();
        return grant.spend(|len| {
            args[4].value = len;
            call.forward_with(call.cage_of(0), &args)
        });
    }
}

/// mmap: address, length, protection, flags, descriptor, offset. What stands in memory is read in
/// one go; what is stored there could not be seen.
pub fn mmap(call: &Call) -> Result<i32, Errno> {
    const ENODEV: Errno = Errno(error::ENODEV);
    let cage = call.cage_of(1);
    let flags = call.int(3);
    if flags & mman::MAP_ANONYMOUS != 0 || !state().limits_rates() {
        return call.forward(cage);
    }
    let fd = CageFd {
        cage,
        fd: call.int(4),
    };
    let (held, kind) = known::hold(fd)?;
    drop(held);
    let limits_writing =
        state().bucket(Rate::FileWrite).is_some() || state().bucket(Rate::LogRate).is_some();
    // mprotect could open it for writing later.
    let is_shared = flags & mman::MAP_SHARED != 0;
    if is_shared && limits_writing && fd.is_writable().unwrap_or(true) {
        return Err(ENODEV);
    }
    let size = fd.stat()?.size.saturating_sub(call.size(5));
    let len = call.size(1).min(size);
    let grant = Account::of_file(kind, Way::In).wait(len, len)?;
    let (_held, now) = known::hold(fd).inspect_err(|_| grant.settle(0))?;
    if is_shared && (now != kind || limits_writing && fd.is_writable().unwrap_or(true)) {
        grant.settle(0);
        return Err(ENODEV);
    }
    let mapped = call.forward(cage);
    grant.settle(if mapped.is_ok() { len } else { 0 });
    mapped
}

/// getrandom: buffer, length, flags.
pub fn getrandom(call: &Call) -> Result<i32, Errno> {
    const MOST: u64 = 1 << 20;
    let account = Account::of(Rate::Random);
    let total = call.size(1).min(MOST);
    let mut done = 0;
    loop {
        let left = total - done;
        let most = left.min(account.rate());
        let least = match left > most {
            true => account.piece().min(most),
            false => left,
        };
        let piece = account.wait(least, most).and_then(|grant| {
            grant.spend(|len| {
                let mut args = call.args();
                args[0].value = args[0].value.wrapping_add(done);
                args[1].value = len;
                call.forward_with(call.cage_of(1), &args)
            })
        });
        match piece {
            Ok(moved) => {
                done += moved as u64;
                if done >= total || moved == 0 {
                    return Ok(done as i32);
                }
            }
            Err(_) if done > 0 => return Ok(done as i32),
            Err(errno) => return Err(errno),
        }
    }
}
