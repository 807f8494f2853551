//! The sockets of some ports.
//!
//! A socket has no port when it is made. So the grates inside hear of every socket of the Internet
//! that is made, and what becomes of its options; what is sent through it, and to whom it is
//! connected, they hear where the port is one of theirs: its own, or its peer's.

use calls::Entry;
use clamp::paths::Paths;
use clamp::{Front, Mark, marks};
use grate_rs::constants::{
    SYS_ACCEPT, SYS_ACCEPT4, SYS_BIND, SYS_CONNECT, SYS_EPOLL_CREATE, SYS_EPOLL_CREATE1,
    SYS_EPOLL_CTL, SYS_EPOLL_PWAIT, SYS_EPOLL_WAIT, SYS_GETPEERNAME, SYS_LISTEN, SYS_POLL,
    SYS_PPOLL, SYS_PSELECT6, SYS_READ, SYS_READV, SYS_RECVFROM, SYS_RECVMSG, SYS_SELECT,
    SYS_SENDMSG, SYS_SENDTO, SYS_SOCKET, SYS_WRITE, SYS_WRITEV, error, net,
};
use grate_rs::kernel::Inode;
use grate_rs::message::{self, Below, Header, MOST_NAME};
use grate_rs::sockets::{family, is_stream, own_name, peer_name, port};
use grate_rs::{CageFd, Errno, Vectors, own_buffer};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

const EINVAL: Errno = Errno(error::EINVAL);

/// Ports.
pub struct Border {
    ports: Vec<RangeInclusive<u16>>,
    /// Sockets that were bound to one, by whatever copy of a descriptor.
    bound: Mutex<HashSet<Inode>>,
}

impl Border {
    /// Those of some ranges.
    pub fn new(ports: Vec<RangeInclusive<u16>>) -> Self {
        Self {
            ports,
            bound: Mutex::default(),
        }
    }

    /// Whether an address has one of the ports.
    fn has(&self, name: &[u8]) -> bool {
        port(name).is_some_and(|port| self.ports.iter().any(|ports| ports.contains(&port)))
    }
}

impl clamp::Border for Border {
    fn tracks(&self, entry: &Entry) -> bool {
        let is_of_sockets = matches!(u64::from(entry.nr), SYS_POLL | SYS_SELECT);
        let names_one = entry.args.iter().any(|kind| kind.is_descriptor());
        let names_one = names_one || Paths::are_in(entry);
        is_of_sockets || names_one || entry.result == calls::Outcome::Fd
    }

    fn begins(&self, cage: u64) {
        /// As many as a runtime hands to a program, and more than anybody does.
        const MOST: i32 = 64;
        for fd in 0..MOST {
            let fd = CageFd { cage, fd };
            if self.inherited(fd).is_err() {
                // What can't be told may be inside.
                fd.close();
            }
        }
    }

    fn serve(&self, front: &Front<'_>) -> Result<i32, Errno> {
        if !front.entry.is_ours() && !front.entry.is_on_lind() {
            // What no runtime serves might move bytes in ways that nobody judges.
            return Err(Errno(error::ENOSYS));
        }
        match u64::from(front.call.nr) {
            SYS_SOCKET => socket(front),
            // They may wait for sockets that the grates inside know more of than the kernel.
            SYS_EPOLL_CREATE | SYS_EPOLL_CREATE1 => {
                front.opened(Some(Mark::Open), || front.pass_inside())
            }
            SYS_EPOLL_CTL | SYS_EPOLL_WAIT | SYS_EPOLL_PWAIT => front.pass_inside(),
            SYS_POLL | SYS_PPOLL | SYS_SELECT | SYS_PSELECT6 => match front.has_any_inside() {
                true => front.pass_inside(),
                false => front.past(),
            },
            _ if Paths::are_in(front.entry) => Paths::default().serve(front),
            _ if front.descriptors().next().is_some() => self.by_descriptor(front),
            _ if front.makes_one() => front.opened(None, || front.past()),
            _ => front.past(),
        }
    }
}

/// socket: domain, type, protocol.
fn socket(front: &Front<'_>) -> Result<i32, Errno> {
    match u16::try_from(front.call.int(0)) {
        Ok(net::AF_INET | net::AF_INET6) => front.opened(Some(Mark::Open), || front.pass_inside()),
        _ => front.opened(None, || front.past()),
    }
}

/// Does something inside, or past the grates there.
fn on(front: &Front<'_>, is_inside: bool) -> Result<i32, Errno> {
    match is_inside {
        true => front.pass_inside(),
        false => front.past(),
    }
}

impl Border {
    fn by_descriptor(&self, front: &Front<'_>) -> Result<i32, Errno> {
        let fd = front.fd(0);
        let mark = marks().get(fd).map(|mark| self.now(fd, mark));
        let is_inside = mark.is_some_and(Mark::is_inside);
        match (u64::from(front.call.nr), mark) {
            (_, None) => {
                // Perhaps another of its descriptors is one.
                let known = |fd| marks().get(fd).is_some_and(Mark::is_inside);
                let act = || on(front, front.descriptors().any(known));
                match front.makes_one() {
                    true => front.opened(None, act),
                    false => {
                        let _held = writes(front).then(|| marks().hold(fd)).transpose()?;
                        match marks().get(fd) {
                            // It has become a socket that is known.
                            Some(_) => Err(Errno(error::EBADF)),
                            None => act(),
                        }
                    }
                }
            }
            (SYS_LISTEN, Some(Mark::Open)) => {
                let result = front.past()?;
                if self.has(&own_name(fd)?) {
                    self.note_bound(fd)?;
                }
                Ok(result)
            }
            (SYS_LISTEN, _) => on(front, is_inside),
            (SYS_BIND, Some(mark)) => self.bind(front, fd, mark),
            (SYS_CONNECT, Some(mark)) => self.connect(front, fd, mark),
            (SYS_SENDTO, Some(mark)) => self.sendto(front, fd, mark),
            (SYS_SENDMSG, Some(mark)) => self.sendmsg(front, fd, mark),
            (SYS_ACCEPT | SYS_ACCEPT4, _) => {
                front.opened(is_inside.then_some(Mark::Inside), || on(front, is_inside))
            }
            (SYS_WRITE | SYS_WRITEV, Some(mark)) => self.write(front, fd, mark),
            (SYS_READ | SYS_READV | SYS_RECVFROM | SYS_RECVMSG | SYS_GETPEERNAME, _) => {
                on(front, is_inside)
            }
            // Options and the like: those inside knew the socket from the start.
            _ => front.pass_inside(),
        }
    }

    /// Marks a socket that the program was given: one that listens, say.
    fn inherited(&self, fd: CageFd) -> Result<(), Errno> {
        match fd.stat() {
            Ok(stat) if stat.is_socket() => {}
            Ok(_) | Err(Errno(error::EBADF)) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        let own = own_name(fd)?;
        if !matches!(family(&own), Some(net::AF_INET | net::AF_INET6)) {
            return Ok(());
        }
        if self.has(&own) {
            return self.note_bound(fd);
        }
        let mark = match peer_name(fd) {
            Ok(peer) if self.has(&peer) => Mark::Peer,
            Ok(_) if is_stream(fd)? => Mark::Past,
            _ => Mark::Open,
        };
        marks().note(fd, Some(mark));
        Ok(())
    }

    fn bound(&self) -> MutexGuard<'_, HashSet<Inode>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a socket that has one of the ports for its own.
    fn note_bound(&self, fd: CageFd) -> Result<(), Errno> {
        /// So many are kept before those that are gone are forgotten.
        const MANY: usize = 4096;
        let inode = fd.stat()?.inode();
        if self.bound().len() >= MANY {
            let all = marks().all_where(|_| true).into_iter();
            let there: HashSet<Inode> =
                all.filter_map(|fd| Some(fd.stat().ok()?.inode())).collect();
            self.bound().retain(|inode| there.contains(inode));
        }
        self.bound().insert(inode);
        marks().note(fd, Some(Mark::Inside));
        Ok(())
    }

    /// What a socket's mark is by now: it may have got its port by a copy of the descriptor.
    fn now(&self, fd: CageFd, mark: Mark) -> Mark {
        let is_bound = || {
            let stat = fd.stat();
            stat.is_ok_and(|stat| self.bound().contains(&stat.inode()))
        };
        if mark == Mark::Open && is_bound() {
            marks().note(fd, Some(Mark::Inside));
            return Mark::Inside;
        }
        mark
    }

    /// The address in arguments of a call, copied.
    fn name(front: &Front<'_>, index: usize, len_index: usize) -> Result<Vec<u8>, Errno> {
        let call = front.call;
        let len = usize::try_from(call.int(len_index)).map_err(|_| EINVAL)?;
        if len > MOST_NAME {
            return Err(EINVAL);
        }
        let mut name = vec![0; len];
        call.place(index).read_into(&mut name)?;
        Ok(name)
    }

    /// bind: descriptor, address, its length.
    fn bind(&self, front: &Front<'_>, fd: CageFd, mark: Mark) -> Result<i32, Errno> {
        let name = Self::name(front, 1, 2)?;
        let is_inside = self.has(&name) || mark == Mark::Inside;
        let result = make(front, is_inside, 1, &name)?;
        // The kernel may have chosen one of the ports.
        if is_inside || self.has(&own_name(fd)?) {
            self.note_bound(fd)?;
        }
        Ok(result)
    }

    /// connect: descriptor, address, its length. The mark is there before the peer is, and a stream
    /// stays with its peer.
    fn connect(&self, front: &Front<'_>, fd: CageFd, mark: Mark) -> Result<i32, Errno> {
        let name = Self::name(front, 1, 2)?;
        if name.starts_with(&net::AF_UNSPEC.to_le_bytes()) {
            if is_stream(fd)? {
                return Err(Errno(error::EOPNOTSUPP));
            }
            return make(front, mark.is_inside(), 1, &name);
        }
        let is_inside = mark == Mark::Inside || self.has(&name);
        if mark == Mark::Past && is_inside {
            // What was on its way to another peer would go to this one, past the grates inside.
            return Err(Errno(error::EISCONN));
        }
        if mark != Mark::Inside {
            let now = match (is_inside, is_stream(fd)?) {
                (true, _) => Mark::Peer,
                (false, true) => Mark::Past,
                (false, false) => Mark::Open,
            };
            marks().note(fd, Some(now));
        }
        make(front, is_inside, 1, &name)
    }

    /// To whom a message goes that names nobody: it goes on with that name, so that it is who was
    /// judged, wherever the socket is connected then. None for a stream, which stays with its peer.
    fn peer_of(fd: CageFd, mark: Mark) -> Result<Vec<u8>, Errno> {
        const EDESTADDRREQ: Errno = Errno(89);
        if !is_stream(fd)? {
            return peer_name(fd).map_err(|_| EDESTADDRREQ);
        }
        match mark {
            // It may come to be connected inside while this is on its way.
            Mark::Open => Err(Errno(error::EPIPE)),
            _ => Ok(Vec::new()),
        }
    }

    /// write and writev on a socket: what they send is sent as it is judged.
    fn write(&self, front: &Front<'_>, fd: CageFd, mark: Mark) -> Result<i32, Errno> {
        let name = match mark {
            Mark::Inside | Mark::Past => Vec::new(),
            _ => Self::peer_of(fd, mark)?,
        };
        let is_inside = self.sends_inside(fd, mark, &name);
        let held = marks().hold(fd)?;
        if held.what().is_none() {
            return Err(Errno(error::EBADF));
        }
        if name.is_empty() {
            return on(front, is_inside);
        }
        let vectors = match u64::from(front.call.nr) {
            SYS_WRITE => vec![(front.call.place(1), front.call.size(2))],
            _ => front.call.place(1).read_iovecs(front.call.int(2))?,
        };
        let data = gather(vectors)?;
        let header = Header {
            name,
            ..Header::default()
        };
        send(front, fd, is_inside, &data, &header, 0)
    }

    /// Whether what is sent to a named peer goes inside. One whose peer is inside hears from it
    /// inside, too.
    fn sends_inside(&self, fd: CageFd, mark: Mark, name: &[u8]) -> bool {
        let is_inside = match (mark, name) {
            (Mark::Inside, _) => true,
            (Mark::Past, _) => false,
            (mark, []) => mark == Mark::Peer,
            (_, name) => self.has(name),
        };
        if is_inside && mark == Mark::Open {
            marks().note(fd, Some(Mark::Peer));
        }
        is_inside
    }

    /// sendto: descriptor, buffer, length, flags, address, its length.
    fn sendto(&self, front: &Front<'_>, fd: CageFd, mark: Mark) -> Result<i32, Errno> {
        let name = match (mark, front.call.is_null(4)) {
            (Mark::Inside | Mark::Past, true) => return on(front, mark.is_inside()),
            (_, true) => Self::peer_of(fd, mark)?,
            (_, false) => Self::name(front, 4, 5)?,
        };
        let is_inside = self.sends_inside(fd, mark, &name);
        if name.is_empty() {
            return on(front, is_inside);
        }
        let data = gather(vec![(front.call.place(1), front.call.size(2))])?;
        let header = Header {
            name,
            ..Header::default()
        };
        send(front, fd, is_inside, &data, &header, front.call.int(3))
    }

    /// sendmsg: descriptor, message header, flags. The message goes on in one piece of the clamp's
    /// own: who it is for is who gets it.
    fn sendmsg(&self, front: &Front<'_>, fd: CageFd, mark: Mark) -> Result<i32, Errno> {
        if matches!(mark, Mark::Inside | Mark::Past) {
            return on(front, mark.is_inside());
        }
        let (mut header, vectors) = message::take(front.call, 1)?;
        if header.name.is_empty() {
            header.name = Self::peer_of(fd, mark)?;
        }
        let is_inside = self.sends_inside(fd, mark, &header.name);
        let data = gather(vectors)?;
        send(front, fd, is_inside, &data, &header, front.call.int(2))
    }
}

/// Copies what a message consists of.
fn gather(vectors: Vectors) -> Result<Vec<u8>, Errno> {
    const MOST: u64 = 1 << 20;
    let total = vectors.iter().map(|(_, len)| *len).sum::<u64>();
    if total > MOST {
        return Err(Errno(error::EMSGSIZE));
    }
    let mut data = vec![0; total as usize];
    let mut rest = &mut data[..];
    for (start, len) in vectors {
        let (into, after) = rest.split_at_mut(len as usize);
        start.read_into(into)?;
        rest = after;
    }
    Ok(data)
}

/// Sends a message of the clamp's own.
fn send(
    front: &Front<'_>,
    fd: CageFd,
    is_inside: bool,
    data: &[u8],
    header: &Header,
    flags: i32,
) -> Result<i32, Errno> {
    let nr = match is_inside {
        true => front.inside_as(SYS_SENDMSG as u32),
        false => SYS_SENDMSG as u32,
    };
    let buffer = own_buffer(data.as_ptr());
    Below::new(buffer, data.len(), &header.name, &header.control).make(nr, fd, flags)
}

/// Makes the call with an address that was judged.
fn make(front: &Front<'_>, is_inside: bool, index: usize, name: &[u8]) -> Result<i32, Errno> {
    let call = match is_inside {
        true => front.inside(),
        false => front.call.numbered(front.call.nr),
    };
    call.replace(index, name);
    call.forward(front.cage)
}

fn writes(front: &Front<'_>) -> bool {
    matches!(
        u64::from(front.call.nr),
        SYS_WRITE | SYS_WRITEV | SYS_SENDTO | SYS_SENDMSG
    )
}
