//! Times connections.
//!
//! - `bench_net serve IP:PORT COUNT` serves COUNT connections, one after the other.
//! - `bench_net bulk IP:PORT LEN` sends LEN bytes and prints the nanoseconds that it took until
//!   the other end had them.
//! - `bench_net ping IP:PORT SIZE COUNT` sends and gets back SIZE bytes, COUNT times, and prints the
//!   median of the nanoseconds that one took.
//! - `bench_net idle COUNT` makes COUNT connections to itself, says a word over each, prints a line,
//!   and waits for a line.

use cage_libc::net::{SHUT_WR, Socket};
use cage_libc::sys::Errno;
use std::net::SocketAddr;
use std::time::Instant;

type Outcome<T> = Result<T, String>;

const PIECE: usize = 1 << 18;
/// The first byte of a connection: what it is for.
const BULK: u8 = b'B';
const PING: u8 = b'P';

fn said<T>(what: &str, result: Result<T, Errno>) -> Outcome<T> {
    result.map_err(|errno| format!("{what}: {}", errno.0))
}

fn send_all(socket: &Socket, mut data: &[u8]) -> Outcome<()> {
    while !data.is_empty() {
        let sent = said("send", socket.send(data, 0))?;
        data = &data[sent..];
    }
    Ok(())
}

/// Fills the buffer; `false` at the end of the stream.
fn receive_all(socket: &Socket, data: &mut [u8]) -> Outcome<bool> {
    let mut got = 0;
    while got < data.len() {
        match said("receive", socket.receive(&mut data[got..], 0))? {
            0 => return Ok(false),
            len => got += len,
        }
    }
    Ok(true)
}

fn no_delay(socket: &Socket) -> Outcome<()> {
    const IPPROTO_TCP: i32 = 6;
    const TCP_NODELAY: i32 = 1;
    said(
        "setsockopt",
        socket.set_option(IPPROTO_TCP, TCP_NODELAY, &1i32.to_le_bytes()),
    )
}

fn serve(at: SocketAddr, count: usize) -> Outcome<()> {
    let listener = said("listen", Socket::tcp_listen(at))?;
    println!("listening");
    let mut buffer = vec![0; PIECE];
    for _ in 0..count {
        let (socket, _) = said("accept", listener.accept(0))?;
        no_delay(&socket)?;
        let mut kind = [0];
        if !receive_all(&socket, &mut kind)? {
            continue;
        }
        if kind == [BULK] {
            while said("receive", socket.receive(&mut buffer, 0))? > 0 {}
            send_all(&socket, &kind)?;
        } else {
            loop {
                match said("receive", socket.receive(&mut buffer, 0))? {
                    0 => break,
                    len => send_all(&socket, &buffer[..len])?,
                }
            }
        }
    }
    Ok(())
}

fn bulk(at: SocketAddr, len: usize) -> Outcome<u128> {
    let socket = said("connect", Socket::tcp_connect(at))?;
    send_all(&socket, &[BULK])?;
    let data = vec![7; PIECE];
    let start = Instant::now();
    let mut left = len;
    while left > 0 {
        let part = left.min(PIECE);
        send_all(&socket, &data[..part])?;
        left -= part;
    }
    said("shutdown", socket.shutdown(SHUT_WR))?;
    if !receive_all(&socket, &mut [0])? {
        return Err("no answer".to_owned());
    }
    Ok(start.elapsed().as_nanos())
}

fn ping(at: SocketAddr, size: usize, count: usize) -> Outcome<u128> {
    let socket = said("connect", Socket::tcp_connect(at))?;
    no_delay(&socket)?;
    send_all(&socket, &[PING])?;
    let (data, mut answer) = (vec![7; size], vec![0; size]);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        send_all(&socket, &data)?;
        if !receive_all(&socket, &mut answer)? {
            return Err("the other end has ended".to_owned());
        }
        times.push(start.elapsed().as_nanos());
    }
    times.sort_unstable();
    Ok(times[count / 2])
}

fn idle(count: usize) -> Outcome<()> {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = said("listen", Socket::tcp_listen(at))?;
    let at = said("getsockname", listener.name())?.ip();
    let at = at.ok_or("no address")?;
    let mut held = Vec::new();
    for _ in 0..count {
        let client = said("connect", Socket::tcp_connect(at))?;
        send_all(&client, b"word")?;
        let (server, _) = said("accept", listener.accept(0))?;
        let mut word = [0; 4];
        receive_all(&server, &mut word)?;
        send_all(&server, &word)?;
        receive_all(&client, &mut word)?;
        held.push((client, server));
    }
    println!("idle");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn run(args: &[&str]) -> Outcome<()> {
    let address = |at: &str| at.parse().map_err(|_| format!("{at} is no address"));
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{text} is no number above 0"))
    };
    match args {
        ["serve", at, count] => serve(address(at)?, number(count)?),
        ["bulk", at, len] => bulk(address(at)?, number(len)?).map(|ns| println!("{ns}")),
        ["ping", at, size, count] => {
            ping(address(at)?, number(size)?, number(count)?).map(|ns| println!("{ns}"))
        }
        ["idle", count] => idle(number(count)?),
        _ => Err("usage: bench_net serve|bulk|ping|idle ...".to_owned()),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let Err(error) = run(&args) {
        eprintln!("bench_net: {error}");
        std::process::exit(1);
    }
}
