//! `net_probe`: both ends of connections, told what comes of each.
//!
//! - `serve HOW IP:PORT COUNT` sends back what it gets, to many at once, and waits by HOW: `poll`,
//!   `select`, `epoll` or `epoll-et`. Ends once COUNT connections have, and says how.
//! - `ask IP:PORT TEXT TIMES [MS]` says TEXT in three parts, each time by another call, and says
//!   what came back. It waits for MS milliseconds once it is connected.
//! - `bulk IP:PORT LEN` sends and receives LEN bytes at once.
//! - `early IP:PORT`: one program at both ends, which never waits for itself.
//! - `manners IP:PORT` tells what calls answer at the edges: time limits, full buffers, a peer that is
//!   gone.
//! - `udp-serve IP:PORT COUNT` and `udp-ask IP:PORT TEXT TIMES` are the same for datagrams.

use cage_libc::net::{AF_INET, Address, SHUT_WR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, Socket};
use cage_libc::sys::{self, Errno};
use std::collections::BTreeMap;
use std::net::SocketAddr;

type Outcome<T> = Result<T, String>;

const EAGAIN: Errno = Errno(11);
const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;
const EPOLLET: u32 = 1 << 31;

fn said<T>(what: &str, result: Result<T, Errno>) -> Outcome<T> {
    result.map_err(|errno| format!("{what}: {}", errno.0))
}

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: addresses among the arguments are those of live buffers of the length that is said.
    unsafe { sys::syscall(nr, args) }
}

/// A connection that is served.
struct Served {
    socket: Socket,
    /// What is to be sent back.
    pending: Vec<u8>,
    has_ended: bool,
}

/// What has become of a connection.
enum Progress {
    Goes,
    Done,
    Failed,
}

impl Served {
    fn wants(&self) -> u16 {
        let reads = !self.has_ended && self.pending.len() < 1 << 16;
        (if reads { POLLIN } else { 0 }) | (if self.pending.is_empty() { 0 } else { POLLOUT })
    }

    fn work(&mut self) -> Progress {
        loop {
            let mut moved = false;
            while !self.pending.is_empty() {
                match self.socket.send(&self.pending, 0) {
                    Ok(sent) => {
                        self.pending.drain(..sent);
                        moved = true;
                    }
                    Err(EAGAIN) => break,
                    Err(_) => return Progress::Failed,
                }
            }
            if !self.has_ended && self.pending.len() < 1 << 16 {
                let mut buffer = [0; 8192];
                match self.socket.receive(&mut buffer, 0) {
                    Ok(0) => {
                        self.has_ended = true;
                        moved = true;
                    }
                    Ok(len) => {
                        self.pending.extend_from_slice(&buffer[..len]);
                        moved = true;
                    }
                    Err(EAGAIN) => {}
                    Err(_) => return Progress::Failed,
                }
            }
            if self.has_ended && self.pending.is_empty() {
                return match self.socket.shutdown(SHUT_WR) {
                    Ok(()) => Progress::Done,
                    Err(_) => Progress::Failed,
                };
            }
            if !moved {
                return Progress::Goes;
            }
        }
    }
}

/// Which descriptors are ready, of those that are waited for.
fn wait(how: &str, epoll: i32, wanted: &BTreeMap<i32, u16>) -> Outcome<Vec<i32>> {
    match how {
        "poll" => {
            let mut entries = Vec::new();
            for (fd, events) in wanted {
                entries.extend_from_slice(&fd.to_le_bytes());
                entries.extend_from_slice(&events.to_le_bytes());
                entries.extend_from_slice(&[0; 2]);
            }
            let at = sys::address(entries.as_mut_ptr());
            said("poll", call(7, &[at, wanted.len() as u64, u64::MAX]))?;
            let ready = entries.chunks(8).filter(|entry| entry[6..] != [0, 0]);
            Ok(ready
                .map(|entry| i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
                .collect())
        }
        "select" => {
            let mut sets = [[0u8; 128]; 2];
            for (fd, events) in wanted {
                let (byte, bit) = (*fd as usize / 8, 1 << (fd % 8));
                if events & POLLIN != 0 {
                    sets[0][byte] |= bit;
                }
                if events & POLLOUT != 0 {
                    sets[1][byte] |= bit;
                }
            }
            let [read, write] = [0, 1].map(|set| sys::address(sets[set].as_mut_ptr()));
            said("select", call(23, &[1024, read, write, 0, 0]))?;
            let has =
                |fd: i32| (sets[0][fd as usize / 8] | sets[1][fd as usize / 8]) & 1 << (fd % 8);
            Ok(wanted.keys().copied().filter(|fd| has(*fd) != 0).collect())
        }
        _ => {
            let mut events = [0u8; 12 * 64];
            let at = sys::address(events.as_mut_ptr());
            let count = said("epoll_wait", call(232, &[epoll as u64, at, 64, u64::MAX]))?;
            Ok(events
                .chunks(12)
                .take(count as usize)
                .map(|event| i32::from_le_bytes([event[4], event[5], event[6], event[7]]))
                .collect())
        }
    }
}

/// Tells an epoll instance what is waited for.
fn register(how: &str, epoll: i32, operation: u64, fd: i32, events: u16) -> Outcome<()> {
    if !how.starts_with("epoll") {
        return Ok(());
    }
    let events = match how {
        "epoll-et" => u32::from(POLLIN | POLLOUT) | EPOLLET,
        _ => u32::from(events),
    };
    let mut event = [0u8; 12];
    event[..4].copy_from_slice(&events.to_le_bytes());
    event[4..8].copy_from_slice(&fd.to_le_bytes());
    let args = [
        epoll as u64,
        operation,
        fd as u64,
        sys::address(event.as_ptr()),
    ];
    said("epoll_ctl", call(233, &args)).map(drop)
}

fn serve(how: &str, at: SocketAddr, count: usize) -> Outcome<String> {
    let listener = said("listen", Socket::tcp_listen(at))?;
    said("listen", listener.listen(1024))?;
    let epoll = said("epoll_create1", call(291, &[0]))?;
    register(how, epoll, 1, listener.fd(), POLLIN)?;
    println!("listening");
    let mut served: BTreeMap<i32, Served> = BTreeMap::new();
    let (mut done, mut failed) = (0, 0);
    while done + failed < count {
        let mut wanted: BTreeMap<i32, u16> =
            served.iter().map(|(fd, one)| (*fd, one.wants())).collect();
        wanted.insert(listener.fd(), POLLIN);
        for fd in wait(how, epoll, &wanted)? {
            let fd = if fd == listener.fd() {
                // A connection may be gone again by now.
                let Ok((socket, _)) = listener.accept(SOCK_NONBLOCK) else {
                    continue;
                };
                let fd = socket.fd();
                let one = Served {
                    socket,
                    pending: Vec::new(),
                    has_ended: false,
                };
                register(how, epoll, 1, fd, one.wants())?;
                served.insert(fd, one);
                fd
            } else {
                fd
            };
            let Some(one) = served.get_mut(&fd) else {
                continue;
            };
            match one.work() {
                Progress::Goes => {
                    let events = one.wants();
                    if how == "epoll" {
                        register(how, epoll, 3, fd, events)?;
                    }
                    continue;
                }
                Progress::Done => done += 1,
                Progress::Failed => failed += 1,
            }
            served.remove(&fd);
        }
    }
    Ok(format!("served {done}, failed {failed}"))
}

/// Sends by one call or another.
fn send(socket: &Socket, data: &[u8], way: usize) -> Result<usize, Errno> {
    let fd = socket.fd() as u64;
    let (base, len) = (sys::address(data.as_ptr()), data.len() as u64);
    let half = len / 2;
    let vectors = [base, half, base + half, len - half];
    let sent = match way % 5 {
        0 => call(1, &[fd, base, len])?,
        1 => call(44, &[fd, base, len, 0, 0, 0])?,
        2 => call(20, &[fd, sys::address(vectors.as_ptr()), 2])?,
        3 => {
            let mut header = [0u64; 7];
            header[2] = sys::address(vectors.as_ptr());
            header[3] = 2;
            call(46, &[fd, sys::address(header.as_ptr()), 0])?
        }
        _ => return socket.send(data, 0),
    };
    Ok(sent as usize)
}

/// Receives by one call or another.
fn receive(socket: &Socket, data: &mut [u8], way: usize) -> Result<usize, Errno> {
    const MSG_PEEK: i32 = 2;
    const MSG_WAITALL: i32 = 0x100;
    let fd = socket.fd() as u64;
    let (base, len) = (sys::address(data.as_mut_ptr()), data.len() as u64);
    let vectors = [base, 1, base + 1, len - 1];
    let got = match way % 5 {
        0 => call(0, &[fd, base, len])?,
        1 => {
            let peeked = socket.receive(data, MSG_PEEK)?;
            let seen = data[..peeked].to_vec();
            let got = socket.receive(&mut data[..peeked.max(1)], 0)?;
            if data[..got] != seen[..got] {
                return Err(Errno(0));
            }
            return Ok(got);
        }
        2 => call(19, &[fd, sys::address(vectors.as_ptr()), 2])?,
        3 => {
            let mut header = [0u64; 7];
            header[2] = sys::address(vectors.as_ptr());
            header[3] = 2;
            call(47, &[fd, sys::address(header.as_ptr()), 0])?
        }
        _ => return socket.receive(data, MSG_WAITALL),
    };
    Ok(got as usize)
}

fn ask_once(at: SocketAddr, text: &[u8], way: usize, pause: u64) -> Result<(), String> {
    let socket = said("connect", Socket::tcp_connect(at))?;
    if pause > 0 {
        std::thread::sleep(std::time::Duration::from_millis(pause));
    }
    for part in text.chunks(text.len().div_ceil(3).max(1)) {
        let mut part = part;
        while !part.is_empty() {
            let sent = said("send", send(&socket, part, way))?;
            part = &part[sent..];
        }
    }
    said("shutdown", socket.shutdown(SHUT_WR))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match said("receive", receive(&socket, &mut buffer, way))? {
            0 => break,
            len => answer.extend_from_slice(&buffer[..len]),
        }
        if !text.starts_with(&answer) {
            return Err("WRONG BYTES".to_owned());
        }
    }
    if answer == text {
        Ok(())
    } else {
        Err(format!("{} bytes and an orderly end", answer.len()))
    }
}

fn ask(at: SocketAddr, text: &[u8], times: usize, pause: u64) -> String {
    let mut lines = Vec::new();
    for way in 0..times {
        lines.push(match ask_once(at, text, way, pause) {
            Ok(()) => "ok".to_owned(),
            Err(why) => why,
        });
    }
    lines.join("\n")
}

fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// Sends and receives at once, without ever waiting but for readiness.
fn bulk(at: SocketAddr, len: usize) -> Outcome<String> {
    let socket = said("socket", Socket::new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK))?;
    match socket.connect(&Address::from(at)) {
        Ok(()) | Err(Errno(115)) => {}
        Err(errno) => return Err(format!("connect: {}", errno.0)),
    }
    let (mut sent, mut got) = (0, 0);
    let mut has_ended = false;
    let mut buffer = vec![0; 100_000];
    while !has_ended {
        let events = POLLIN | if sent < len { POLLOUT } else { 0 };
        let wanted = BTreeMap::from([(socket.fd(), events)]);
        wait("poll", -1, &wanted)?;
        while sent < len {
            let end = len.min(sent + 50_000);
            let piece: Vec<u8> = (sent..end).map(pattern).collect();
            match socket.send(&piece, 0) {
                Ok(count) => sent += count,
                Err(EAGAIN) => break,
                Err(errno) => return Err(format!("send: {}", errno.0)),
            }
            if sent == len {
                said("shutdown", socket.shutdown(SHUT_WR))?;
            }
        }
        loop {
            match socket.receive(&mut buffer, 0) {
                Ok(0) => {
                    has_ended = true;
                    break;
                }
                Ok(count) => {
                    if (0..count).any(|i| buffer[i] != pattern(got + i)) {
                        return Err("other bytes came back".to_owned());
                    }
                    got += count;
                }
                Err(EAGAIN) => break,
                Err(errno) => return Err(format!("receive: {}", errno.0)),
            }
        }
    }
    if got == len {
        Ok("bulk done".to_owned())
    } else {
        Err(format!("{got} bytes came back"))
    }
}

/// A program that connects to itself, and writes before it accepts.
fn early(at: SocketAddr) -> Outcome<String> {
    let listener = said("listen", Socket::tcp_listen(at))?;
    let at = said("getsockname", listener.name())?.ip();
    let client = said("connect", Socket::tcp_connect(at.ok_or("no address")?))?;
    let text = vec![7; 50_000];
    let mut sent = 0;
    while sent < text.len() {
        sent += said("send", client.send(&text[sent..], 0))?;
    }
    said("shutdown", client.shutdown(SHUT_WR))?;
    let (server, _) = said("accept", listener.accept(0))?;
    drop(client);
    let mut got = Vec::new();
    let mut buffer = [0; 3000];
    loop {
        match said("receive", server.receive(&mut buffer, 0))? {
            0 => break,
            len => got.extend_from_slice(&buffer[..len]),
        }
    }
    if got == text {
        Ok("early done".to_owned())
    } else {
        Err(format!("{} bytes arrived", got.len()))
    }
}

/// What a call came to: a length if it is `Some`, or an error.
fn shown(result: Result<usize, Errno>) -> String {
    match result {
        Ok(len) => format!("{len}"),
        Err(errno) => format!("error {}", errno.0),
    }
}

/// A connection of a program to itself.
fn pair(listener: &Socket, at: SocketAddr) -> Outcome<(Socket, Socket)> {
    let client = said("connect", Socket::tcp_connect(at))?;
    said("send", client.send(b"first", 0))?;
    let (server, _) = said("accept", listener.accept(0))?;
    // Both ends have all that they need of each other.
    let mut word = [0; 5];
    said("receive", server.receive(&mut word, 0))?;
    said("send", server.send(&word, 0))?;
    said("receive", client.receive(&mut word, 0))?;
    Ok((client, server))
}

fn manners(at: SocketAddr) -> Outcome<String> {
    const SOL_SOCKET: i32 = 1;
    const SO_ERROR: i32 = 4;
    const SO_RCVTIMEO: i32 = 20;
    const SO_SNDTIMEO: i32 = 21;
    const MSG_DONTWAIT: i32 = 0x40;
    const MSG_WAITALL: i32 = 0x100;
    const MSG_TRUNC: i32 = 0x20;
    let listener = said("listen", Socket::tcp_listen(at))?;
    let at = said("getsockname", listener.name())?
        .ip()
        .ok_or("no address")?;
    let mut story = Vec::new();
    let mut tell = |what: &str, how: String| story.push(format!("{what}: {how}"));
    let mut buffer = vec![0; 70_000];

    let (client, server) = pair(&listener, at)?;
    tell(
        "nothing there",
        shown(client.receive(&mut buffer, MSG_DONTWAIT)),
    );
    let mut limit = [0u8; 16];
    limit[8..12].copy_from_slice(&100_000u32.to_le_bytes());
    said(
        "setsockopt",
        client.set_option(SOL_SOCKET, SO_RCVTIMEO, &limit),
    )?;
    said(
        "setsockopt",
        client.set_option(SOL_SOCKET, SO_SNDTIMEO, &limit),
    )?;
    let start = std::time::Instant::now();
    tell("a time limit", shown(client.receive(&mut buffer, 0)));
    tell(
        "was kept to",
        (start.elapsed().as_millis() >= 100).to_string(),
    );
    said("send", server.send(b"some", 0))?;
    tell(
        "not all in time",
        shown(client.receive(&mut buffer[..9], MSG_WAITALL)),
    );
    said("send", server.send(b"thrown away, kept", 0))?;
    tell(
        "thrown away",
        shown(client.receive(&mut buffer[..13], MSG_TRUNC)),
    );
    tell("kept", shown(client.receive(&mut buffer, 0)));
    tell("nothing to send", shown(client.send(b"", 0)));
    let mut total = 0;
    let full = loop {
        match client.send(&buffer, 0) {
            Ok(sent) => total += sent,
            Err(errno) => break errno,
        }
    };
    tell(
        "nobody reads",
        format!("error {} after much: {}", full.0, total > 100_000),
    );
    let mut got = 0;
    while got < total {
        got += said("receive", server.receive(&mut buffer, 0))?;
    }
    tell("all arrived", (got == total).to_string());
    said("shutdown", client.shutdown(SHUT_WR))?;
    tell("sent after the end", shown(client.send(b"x", 0)));
    tell("the end", shown(server.receive(&mut buffer, 0)));
    tell("still the end", shown(server.receive(&mut buffer, 0)));
    tell("the other way", shown(server.send(b"goes on", 0)));
    tell("goes on", shown(client.receive(&mut buffer, 0)));
    drop(server);
    tell("its end", shown(client.receive(&mut buffer, 0)));
    drop(client);

    let (client, server) = pair(&listener, at)?;
    said("send", client.send(b"never read", 0))?;
    wait("poll", -1, &BTreeMap::from([(server.fd(), POLLIN)]))?;
    drop(server);
    wait("poll", -1, &BTreeMap::from([(client.fd(), POLLIN)]))?;
    tell("reset", shown(client.receive(&mut buffer, 0)));
    tell("told once", shown(client.receive(&mut buffer, 0)));
    tell("and then", shown(client.send(b"x", 0)));

    drop(listener);
    let nobody = said("socket", Socket::new(AF_INET, SOCK_STREAM | SOCK_NONBLOCK))?;
    tell(
        "nobody listens",
        shown(nobody.connect(&Address::from(at)).map(|()| 0)),
    );
    wait("poll", -1, &BTreeMap::from([(nobody.fd(), POLLOUT)]))?;
    let error = said("getsockopt", nobody.option(SOL_SOCKET, SO_ERROR))?;
    tell("as is told", format!("{error}"));
    tell("not connected", shown(nobody.receive(&mut buffer, 0)));
    tell("nor sent", shown(nobody.send(b"x", 0)));
    Ok(story.join("\n"))
}

fn udp(at: SocketAddr) -> Outcome<Socket> {
    let socket = said("socket", Socket::new(AF_INET, SOCK_DGRAM))?;
    said("bind", socket.bind(&Address::from(at)))?;
    Ok(socket)
}

fn udp_serve(at: SocketAddr, count: usize) -> Outcome<String> {
    let socket = udp(at)?;
    println!("listening");
    let mut buffer = vec![0; 65_536];
    for _ in 0..count {
        wait("poll", -1, &BTreeMap::from([(socket.fd(), POLLIN)]))?;
        // What poll has promised is there.
        const MSG_DONTWAIT: i32 = 0x40;
        let (len, from) = said("receive", socket.receive_from(&mut buffer, MSG_DONTWAIT))?;
        said("send", socket.send_to(&buffer[..len], 0, &from))?;
    }
    Ok(format!("answered {count}"))
}

fn udp_ask(at: SocketAddr, text: &[u8], times: usize) -> Outcome<String> {
    const SOL_SOCKET: i32 = 1;
    const SO_RCVTIMEO: i32 = 20;
    let socket = udp(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // A second.
    let mut limit = [0u8; 16];
    limit[0] = 1;
    said(
        "setsockopt",
        socket.set_option(SOL_SOCKET, SO_RCVTIMEO, &limit),
    )?;
    said("connect", socket.connect(&Address::from(at)))?;
    let mut lines = Vec::new();
    for time in 0..times {
        // Each another length, from none at all.
        let text = &text[..text.len().min(time * 7)];
        let mut buffer = vec![0; 65_536];
        lines.push(match socket.send(text, 0) {
            Err(errno) => format!("send: {}", errno.0),
            Ok(_) => match socket.receive(&mut buffer, 0) {
                Ok(len) if &buffer[..len] == text => "ok".to_owned(),
                Ok(len) => format!("WRONG BYTES: {len}"),
                Err(errno) => format!("receive: {}", errno.0),
            },
        });
    }
    let large = vec![1; 65_507];
    lines.push(match socket.send(&large, 0) {
        Ok(len) => format!("large {len}"),
        Err(errno) => format!("large: {}", errno.0),
    });
    Ok(lines.join("\n"))
}

fn run(args: &[&str]) -> Outcome<String> {
    let address = |at: &str| at.parse().map_err(|_| format!("{at} is no address"));
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    match args {
        ["serve", how, at, count] => serve(how, address(at)?, number(count)?),
        ["ask", at, text, times, pause @ ..] => {
            let pause = pause.first().map_or(Ok(0), |ms| number(ms))?;
            Ok(ask(
                address(at)?,
                text.as_bytes(),
                number(times)?,
                pause as u64,
            ))
        }
        ["bulk", at, len] => bulk(address(at)?, number(len)?),
        ["early", at] => early(address(at)?),
        ["manners", at] => manners(address(at)?),
        ["udp-serve", at, count] => udp_serve(address(at)?, number(count)?),
        ["udp-ask", at, text, times] => udp_ask(address(at)?, text.as_bytes(), number(times)?),
        _ => Err("usage: see the source".to_owned()),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            println!("{error}");
            std::process::exit(1);
        }
    }
}
