//! `socket_tour DIR`: what programs do with sockets that wait: clients and servers in different
//! cages, time limits, readiness, sharing over fork and exec. Each step is checked. `socket_tour unwritable`:
//! what a receive can't give its program, by the data that epoll keeps.

use cage_libc::net::{
    AF_INET, AF_INET6, AF_UNIX, Address, SHUT_RD, SHUT_WR, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK,
    SOCK_SEQPACKET, SOCK_STREAM, Socket,
};
use cage_libc::sys::{self, Errno, address, nr};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, String>;

const EAGAIN: Errno = Errno(11);
const EFAULT: Errno = Errno(14);
const EPIPE: Errno = Errno(32);
const EADDRINUSE: Errno = Errno(98);
const ECONNRESET: Errno = Errno(104);
const ECONNREFUSED: Errno = Errno(111);
const EINPROGRESS: Errno = Errno(115);
const EPERM: Errno = Errno(1);

const SOL_SOCKET: i32 = 1;
const SO_ERROR: i32 = 4;
const SO_LINGER: i32 = 13;
const SO_RCVTIMEO: i32 = 20;
const SO_SNDTIMEO: i32 = 21;
const MSG_PEEK: i32 = 2;
const MSG_DONTWAIT: i32 = 0x40;
const MSG_WAITALL: i32 = 0x100;

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;
const POLLHUP: i16 = 0x10;
const POLLRDHUP: i16 = 0x2000;

/// Long enough to be in the kernel by then.
const SOON: Duration = Duration::from_millis(30);

trait Said<T> {
    fn said(self, what: &str) -> Outcome<T>;
}

impl<T> Said<T> for Result<T, Errno> {
    fn said(self, what: &str) -> Outcome<T> {
        self.map_err(|errno| format!("{what}: {errno:?}"))
    }
}

/// Fails unless the two are the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {got:?} instead of {wanted:?}"))
    }
}

/// Does something in a child.
fn child(work: impl FnOnce() -> Outcome) -> Outcome<i32> {
    match sys::fork().said("fork")? {
        0 => {
            let done = work();
            if let Err(error) = &done {
                println!("child: {error}");
            }
            sys::exit(i32::from(done.is_err()))
        }
        child => Ok(child),
    }
}

fn wait_for(child: i32) -> Outcome {
    same("the child's end", sys::waitpid(child, 0), Ok((child, 0)))
}

/// The families that this machine has.
fn families() -> Vec<i32> {
    let v6 = Socket::new(AF_INET6, SOCK_DGRAM).and_then(|socket| socket.bind(&anywhere(AF_INET6)));
    // Lind shows no more than the beginning of such an address.
    let v6 = (v6.is_ok() && sys::base() == 0).then_some(AF_INET6);
    [AF_INET, AF_UNIX].into_iter().chain(v6).collect()
}

fn anywhere(family: i32) -> Address {
    let ip: SocketAddr = match family {
        AF_INET6 => ([0, 0, 0, 0, 0, 0, 0, 1], 0).into(),
        _ => (Ipv4Addr::LOCALHOST, 0).into(),
    };
    ip.into()
}

/// A listening stream socket, and where it is.
fn listener(family: i32, path: &str) -> Outcome<(Socket, Address)> {
    let socket = Socket::new(family, SOCK_STREAM).said("socket")?;
    let at = if family == AF_UNIX {
        Address::unix(path.as_bytes())
    } else {
        anywhere(family)
    };
    socket.bind(&at).said("bind")?;
    socket.listen(5).said("listen")?;
    let name = socket.name().said("getsockname")?;
    Ok((socket, name))
}

fn receive(socket: &Socket, flags: i32) -> Result<Vec<u8>, Errno> {
    let mut buffer = [0; 1000];
    let len = socket.receive(&mut buffer, flags)?;
    Ok(buffer[..len].to_vec())
}

/// A server and a client in two cages, over each kind of stream.
fn streams(dir: &str) -> Outcome {
    for family in families() {
        let path = format!("{dir}/stream");
        let (listener, name) = listener(family, &path)?;
        if family == AF_UNIX {
            same("the name", name.path(), Some(path.as_bytes()))?;
        }
        let client = child(|| {
            let socket = Socket::new(family, SOCK_STREAM).said("socket")?;
            socket.connect(&name).said("connect")?;
            same("the peer", socket.peer(), Ok(name))?;
            std::thread::sleep(SOON);
            socket.send(b"first", 0).said("send")?;
            std::thread::sleep(SOON);
            socket.send(b" second", 0).said("send")?;
            same("the answer", receive(&socket, 0), Ok(b"thanks".to_vec()))?;
            socket.shutdown(SHUT_WR).said("shutdown")?;
            // What the other end says after that still comes.
            same(
                "the rest",
                receive(&socket, MSG_WAITALL),
                Ok(b"bye".to_vec()),
            )?;
            same("sent after the end", socket.send(b"x", 0), Err(EPIPE))
        })?;
        let (connection, from) = listener.accept(0).said("accept")?;
        if family == AF_UNIX {
            same("a peer without a name", from.path(), None)?;
        } else {
            same("the peer", connection.peer(), Ok(from))?;
        }
        // The second may be there already, where making the connection takes its time.
        let peeked = receive(&connection, MSG_PEEK).said("peek")?;
        same("peeked", peeked.get(..5), Some(&b"first"[..]))?;
        let mut all = [0; 12];
        let got = connection.receive(&mut all, MSG_WAITALL);
        same("both pieces", (got, &all), (Ok(12), b"first second"))?;
        connection.send(b"thanks", 0).said("send")?;
        same("the end", receive(&connection, 0), Ok(Vec::new()))?;
        connection.send(b"bye", 0).said("send")?;
        drop(connection);
        wait_for(client)?;
        if family == AF_UNIX {
            std::fs::remove_file(&path).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Datagrams by IP and by path, and who they are from.
fn datagrams(dir: &str) -> Outcome {
    let paths = [format!("{dir}/one"), format!("{dir}/other")];
    for family in families() {
        let mut ends = Vec::new();
        for path in &paths {
            let socket = Socket::new(family, SOCK_DGRAM).said("socket")?;
            let at = match family {
                AF_UNIX => Address::unix(path.as_bytes()),
                _ => anywhere(family),
            };
            socket.bind(&at).said("bind")?;
            let name = socket.name().said("getsockname")?;
            ends.push((socket, name));
        }
        let [(one, at_one), (other, at_other)] = &ends[..] else {
            return Err("no two ends".to_owned());
        };
        let asked = child(|| {
            let mut buffer = [0; 100];
            let (len, from) = other.receive_from(&mut buffer, 0).said("receive")?;
            same("from", &from, at_one)?;
            let text = [&buffer[..len], b"!"].concat();
            same("sent", other.send_to(&text, 0, &from), Ok(len + 1))
        })?;
        std::thread::sleep(SOON);
        same("sent", one.send_to(b"hello", 0, at_other), Ok(5))?;
        let mut buffer = [0; 4];
        let got = one.receive_from(&mut buffer, 0).said("receive")?;
        same("cut", (got, &buffer), ((4, *at_other), b"hell"))?;
        wait_for(asked)?;
        // One that is bound to the other only hears from that.
        one.connect(at_other).said("connect")?;
        same("sent", one.send(b"", 0), Ok(0))?;
        same("an empty one", receive(other, 0), Ok(Vec::new()))?;
        same("sent", other.send_to(b"the last", 0, at_one), Ok(8))?;
        // What has come is received yet, and nothing more waited for.
        one.shutdown(SHUT_RD).said("shutdown")?;
        for wanted in [b"the last".as_slice(), b""] {
            let mut entries = [(one.fd(), POLLIN | POLLRDHUP, 0)];
            same("poll", poll(&mut entries, -1), Ok(1))?;
            same("events", entries[0].2, POLLIN | POLLRDHUP)?;
            same("received", receive(one, 0), Ok(wanted.to_vec()))?;
        }
        same("none is there", receive(one, MSG_DONTWAIT), Err(EAGAIN))?;
    }
    for path in &paths {
        let socket = Socket::new(AF_UNIX, SOCK_DGRAM).said("socket")?;
        let at = Address::unix(path.as_bytes());
        same("nobody", socket.send_to(b"x", 0, &at), Err(ECONNREFUSED))?;
        same("taken", socket.bind(&at), Err(EADDRINUSE))?;
        std::fs::remove_file(path).map_err(|e| e.to_string())?;
        same("free", socket.bind(&at), Ok(()))?;
        std::fs::remove_file(path).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Limits of time, for receiving and for sending to one who does not listen.
fn time_limits() -> Outcome {
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?;
    let limit = [0i64.to_le_bytes(), 30_000i64.to_le_bytes()].concat();
    one.set_option(SOL_SOCKET, SO_RCVTIMEO, &limit)
        .said("limit")?;
    one.set_option(SOL_SOCKET, SO_SNDTIMEO, &limit)
        .said("limit")?;
    let start = Instant::now();
    same("received", receive(&one, 0), Err(EAGAIN))?;
    let block = [7; 100_000];
    let mut sent = 0;
    loop {
        match one.send(&block, 0) {
            Ok(len) => sent += len,
            Err(errno) => {
                same("full", errno, EAGAIN)?;
                break;
            }
        }
    }
    if start.elapsed() < 2 * SOON {
        return Err("it did not wait".to_owned());
    }
    let mut left = sent;
    let mut buffer = [0; 4096];
    while left > 0 {
        let got = other.receive(&mut buffer, 0).said("receive")?;
        if buffer[..got].iter().any(|&byte| byte != 7) {
            return Err("other bytes".to_owned());
        }
        left -= got;
    }
    Ok(())
}

fn poll(entries: &mut [(i32, i16, i16)], timeout: i32) -> Result<i32, Errno> {
    let mut bytes = Vec::new();
    for (fd, events, _) in entries.iter() {
        bytes.extend(fd.to_le_bytes());
        bytes.extend(events.to_le_bytes());
        bytes.extend([0; 2]);
    }
    let args = [
        address(bytes.as_mut_ptr()),
        entries.len() as u64,
        timeout as i64 as u64,
    ];
    // SAFETY: the array has that many entries.
    let ready = unsafe { sys::syscall(nr::POLL, &args) }?;
    for (entry, bytes) in entries.iter_mut().zip(bytes.chunks(8)) {
        entry.2 = i16::from_le_bytes([bytes[6], bytes[7]]);
    }
    Ok(ready)
}

fn select_read(fd: i32, milliseconds: i64) -> Result<i32, Errno> {
    let mut set = [0u64; 16];
    set[fd as usize / 64] = 1 << (fd % 64);
    let mut time = [milliseconds / 1000, milliseconds % 1000 * 1000];
    let args = [
        fd as u64 + 1,
        address(set.as_mut_ptr()),
        0,
        0,
        address(time.as_mut_ptr()),
    ];
    // SAFETY: the set has 1024 bits, and the time is one.
    unsafe { sys::syscall(nr::SELECT, &args) }
}

/// An epoll instance that tells of one descriptor.
fn epoll_of(fd: i32, events: u32) -> Outcome<Socket> {
    // SAFETY: no address among the arguments.
    let instance = unsafe { sys::syscall(nr::EPOLL_CREATE1, &[0]) }.said("epoll_create1")?;
    let event = [&events.to_le_bytes()[..], &0xfeed_f00d_u64.to_le_bytes()].concat();
    let args = [instance as u64, 1, fd as u64, address(event.as_ptr())];
    // SAFETY: the event is whole.
    unsafe { sys::syscall(nr::EPOLL_CTL, &args) }.said("epoll_ctl")?;
    Ok(Socket::from_fd(instance))
}

fn epoll_wait(instance: &Socket, timeout: i32) -> Result<Option<(u32, u64)>, Errno> {
    let mut events = [0u8; 24];
    let args = [
        instance.fd() as u64,
        address(events.as_mut_ptr()),
        2,
        timeout as i64 as u64,
    ];
    // SAFETY: there is room for two events.
    let count = unsafe { sys::syscall(nr::EPOLL_WAIT, &args) }?;
    let mut data = [0; 8];
    data.copy_from_slice(&events[4..12]);
    let flags = u32::from_le_bytes([events[0], events[1], events[2], events[3]]);
    Ok((count == 1).then(|| (flags, u64::from_le_bytes(data))))
}

/// Waiting for readiness ends when another cage sends, and not before.
fn readiness() -> Outcome {
    const EDGE: u32 = 1 << 31;
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?;
    let later = || {
        child(|| {
            std::thread::sleep(SOON);
            other.send(b"x", 0).map(drop).said("send")
        })
    };
    let is_late = |since: Instant| {
        if since.elapsed() < SOON / 2 {
            return Err("it did not wait".to_owned());
        }
        receive(&one, 0).map(drop).said("receive")
    };
    let fd = one.fd();
    let sender = later()?;
    let start = Instant::now();
    let mut entries = [(fd, POLLIN, 0), (-1, POLLIN, 0), (0, 0, 0)];
    same("poll", poll(&mut entries[..2], -1), Ok(1))?;
    same("events", entries[0].2, POLLIN)?;
    is_late(start)?;
    wait_for(sender)?;
    same("poll in vain", poll(&mut entries[..1], 10), Ok(0))?;

    let sender = later()?;
    let start = Instant::now();
    same("select", select_read(fd, 60_000), Ok(1))?;
    is_late(start)?;
    wait_for(sender)?;
    same("select in vain", select_read(fd, 10), Ok(0))?;

    for mode in [0, EDGE] {
        let instance = epoll_of(fd, 1 | mode)?;
        same("too early", epoll_wait(&instance, 0), Ok(None))?;
        let sender = later()?;
        let start = Instant::now();
        // Lind keeps the descriptor in the place of the data, unless a grate knows better.
        let kept = |found: Option<(u32, u64)>| {
            found.map(|(events, data)| match sys::base() {
                0 => (events, data),
                _ if data == fd as u64 => (events, 0xfeed_f00d),
                _ => (events, data),
            })
        };
        let found = epoll_wait(&instance, -1).map(kept);
        same("epoll_wait", found, Ok(Some((1, 0xfeed_f00d))))?;
        let again = (mode == 0).then_some((1, 0xfeed_f00d));
        same("again", epoll_wait(&instance, 0).map(kept), Ok(again))?;
        is_late(start)?;
        wait_for(sender)?;
        same("no more", epoll_wait(&instance, 10), Ok(None))?;
        if sys::base() != 0 {
            // Lind has no waiting for an instance itself.
            continue;
        }
        same("idle", select_read(instance.fd(), 10), Ok(0))?;
        other.send(b"y", 0).said("send")?;
        same("busy", select_read(instance.fd(), 10), Ok(1))?;
        receive(&one, 0).said("receive")?;
    }
    drop(other);
    same("poll", poll(&mut entries[..1], -1), Ok(1))?;
    same("hang-up", entries[0].2, POLLIN | POLLHUP)
}

/// Connections that are refused, cut, or made without waiting.
fn connections() -> Outcome {
    let (listener, name) = listener(AF_INET, "")?;
    let client = Socket::new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK).said("socket")?;
    same("at once", client.connect(&name), Err(EINPROGRESS))?;
    let mut entries = [(client.fd(), POLLOUT, 0)];
    same("made", poll(&mut entries, 1000), Ok(1))?;
    same("no error", client.option(SOL_SOCKET, SO_ERROR), Ok(0))?;
    let (connection, _) = listener
        .accept(SOCK_NONBLOCK | SOCK_CLOEXEC)
        .said("accept")?;
    same("nothing yet", receive(&connection, 0), Err(EAGAIN))?;
    let at_once = [1i32.to_le_bytes(), 0i32.to_le_bytes()].concat();
    connection
        .set_option(SOL_SOCKET, SO_LINGER, &at_once)
        .said("linger")?;
    drop(connection);
    same("cut", poll(&mut [(client.fd(), POLLIN, 0)], 1000), Ok(1))?;
    same("reset", receive(&client, 0), Err(ECONNRESET))?;
    let other = Socket::new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK).said("socket")?;
    drop(listener);
    same("at once", other.connect(&name), Err(EINPROGRESS))?;
    same(
        "refused",
        poll(&mut [(other.fd(), POLLOUT, 0)], 1000),
        Ok(1),
    )?;
    same(
        "why",
        other.option(SOL_SOCKET, SO_ERROR),
        Ok(ECONNREFUSED.0),
    )?;
    let blocking = Socket::new(AF_INET, SOCK_STREAM).said("socket")?;
    same("refused", blocking.connect(&name), Err(ECONNREFUSED))
}

/// A connection that two cages share, and one that exec closes.
fn sharing() -> Outcome {
    let (one, other) = Socket::pair(AF_UNIX, SOCK_SEQPACKET).said("socketpair")?;
    let helper = child(|| {
        one.send(b"from the child", 0).said("send")?;
        same("an answer", receive(&one, 0), Ok(b"for whom?".to_vec()))
    })?;
    same("heard", receive(&other, 0), Ok(b"from the child".to_vec()))?;
    other.send(b"for whom?", 0).said("send")?;
    wait_for(helper)?;
    // The child's end was not the last.
    one.send(b"from the parent", 0).said("send")?;
    same("heard", receive(&other, 0), Ok(b"from the parent".to_vec()))?;
    one.shutdown(SHUT_RD).said("shutdown")?;
    same("deaf", other.send(b"x", 0), Err(EPIPE))?;

    let (kept, own) = Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?;
    let (closed, end) = Socket::pair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC).said("socketpair")?;
    let program = child(|| {
        let args = [c"socket_tour.cwasm".as_ptr(), c"exec".as_ptr()].map(|arg| arg.cast::<u8>());
        let fds = format!("{} {}\0", kept.fd(), closed.fd());
        let args = [args[0], args[1], fds.as_ptr()];
        // SAFETY: all are strings.
        let errno = unsafe {
            sys::execve(
                c"/bin/socket_tour.cwasm".as_ptr().cast(),
                &args,
                &[c"A=B".as_ptr().cast()],
            )
        };
        Err(format!("exec: {errno:?}"))
    })?;
    drop((kept, closed));
    same("inherited", receive(&own, 0), Ok(b"here".to_vec()))?;
    same("closed", receive(&end, 0), Ok(Vec::new()))?;
    wait_for(program)
}

/// What exec left over: the first is open, the second is not.
fn after_exec(fds: &str) -> Outcome {
    let mut fds = fds.split(' ').map(|fd| fd.parse().unwrap_or(-1));
    let (kept, closed) = (fds.next().unwrap_or(-1), fds.next().unwrap_or(-1));
    let kept = Socket::from_fd(kept);
    let closed = Socket::from_fd(closed).into_fd();
    same("closed", sys::read(closed, &mut [0]), Err(Errno(9)))?;
    kept.send(b"here", 0).map(drop).said("send")
}

/// `std` reads and writes sockets as files and as its own streams.
fn files() -> Outcome {
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?;
    let text = |e: std::io::Error| e.to_string();
    // SAFETY: both descriptors are given up.
    let (mut stream, mut file) = unsafe {
        (
            std::net::TcpStream::from_raw_fd(one.into_fd()),
            File::from_raw_fd(other.into_fd()),
        )
    };
    write!(stream, "hello {}", 5).map_err(text)?;
    let mut buffer = [0; 7];
    file.read_exact(&mut buffer).map_err(text)?;
    same("read", &buffer, b"hello 5")?;
    file.write_all(b"back").map_err(text)?;
    drop(file);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(text)?;
    same("read", &all[..], b"back")
}

/// What a receive can't give its program is still there, and told of.
fn unwritable() -> Outcome {
    // No program has so much memory.
    const NOWHERE: u64 = 0xffff_ff00;
    for family in families() {
        let (one, other) = if family == AF_UNIX {
            Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?
        } else {
            let (listener, name) = listener(family, "")?;
            let one = Socket::new(family, SOCK_STREAM).said("socket")?;
            one.connect(&name).said("connect")?;
            (one, listener.accept(0).said("accept")?.0)
        };
        other.send(b"first", 0).said("send")?;
        same("before", receive(&one, 0), Ok(b"first".to_vec()))?;
        other.send(b"second", 0).said("send")?;
        let args = [one.fd() as u64, NOWHERE, 6, 0, 0, 0];
        // SAFETY: that nothing is there is what is asked for.
        let received = unsafe { sys::syscall(nr::RECVFROM, &args) };
        same("received nowhere", received, Err(EFAULT))?;
        let instance = epoll_of(one.fd(), POLLIN as u32)?;
        let told = Some((POLLIN as u32, 0xfeed_f00d));
        same("epoll", epoll_wait(&instance, 5000), Ok(told))?;
        same("poll", poll(&mut [(one.fd(), POLLIN, 0)], 5000), Ok(1))?;
        same("after", receive(&one, 0), Ok(b"second".to_vec()))?;
        same("nothing", epoll_wait(&instance, 0), Ok(None))?;
    }
    Ok(())
}

/// Descriptors do not travel in messages.
fn passing() -> Outcome {
    let (one, _other) = Socket::pair(AF_UNIX, SOCK_STREAM).said("socketpair")?;
    let mut control = [0u8; 24];
    control[0] = 20;
    control[8] = 1;
    control[12] = 1;
    let data = *b"x";
    let parts = [address(data.as_ptr()), 1];
    let header = [
        0,
        0,
        address(parts.as_ptr()),
        1,
        address(control.as_ptr()),
        24,
        0,
    ];
    let args = [one.fd() as u64, address(header.as_ptr()), 0];
    // SAFETY: the header and what it names are whole.
    let sent = unsafe { sys::syscall(nr::SENDMSG, &args) };
    same("a descriptor in a message", sent, Err(EPERM))
}

fn run(args: &[String]) -> Outcome {
    match args {
        [mode, fds] if mode == "exec" => after_exec(fds),
        [mode] if mode == "unwritable" => unwritable(),
        [dir] => {
            streams(dir)?;
            datagrams(dir)?;
            time_limits()?;
            readiness()?;
            connections()?;
            sharing()?;
            files()?;
            passing()?;
            println!("socket tour done");
            Ok(())
        }
        _ => Err("usage: socket_tour DIR".to_owned()),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = run(&args) {
        println!("{error}");
        std::process::exit(1);
    }
}
