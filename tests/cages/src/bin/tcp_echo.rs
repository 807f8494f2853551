//! `tcp_echo`: a child serves TCP connections on the loopback interface, this program uses them.
//! `tcp_echo serve IP:PORT COUNT` and `tcp_echo ask IP:PORT TEXT` are the two halves.

use cage_libc::net::{SHUT_WR, Socket};
use cage_libc::sys::{self, Errno};
use std::net::SocketAddr;

type Outcome<T> = Result<T, String>;

fn said<T>(what: &str, result: Result<T, Errno>) -> Outcome<T> {
    result.map_err(|errno| format!("{what}: {errno:?}"))
}

/// Sends everything back until the other end has said all.
fn echo(connection: &Socket) -> Outcome<()> {
    let mut buffer = [0; 4096];
    loop {
        match said("receive", connection.receive(&mut buffer, 0))? {
            0 => return said("shutdown", connection.shutdown(SHUT_WR)),
            len => send_all(connection, &buffer[..len])?,
        }
    }
}

fn send_all(connection: &Socket, mut data: &[u8]) -> Outcome<()> {
    while !data.is_empty() {
        let sent = said("send", connection.send(data, 0))?;
        data = &data[sent..];
    }
    Ok(())
}

fn serve(listener: &Socket, count: usize) -> Outcome<()> {
    for _ in 0..count {
        let (connection, _) = said("accept", listener.accept(0))?;
        echo(&connection)?;
    }
    Ok(())
}

/// Says something and checks what comes back.
fn ask(at: SocketAddr, text: &[u8]) -> Outcome<()> {
    let connection = said("connect", Socket::tcp_connect(at))?;
    let peer = said("getpeername", connection.peer())?;
    // Lind shows the beginning of an IPv6 address.
    if peer.port() != Some(at.port()) || peer.ip().is_some_and(|ip| ip != at) {
        return Err("the peer has another address".to_owned());
    }
    send_all(&connection, text)?;
    said("shutdown", connection.shutdown(SHUT_WR))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        match said("receive", connection.receive(&mut buffer, 0))? {
            0 => break,
            len => answer.extend_from_slice(&buffer[..len]),
        }
    }
    if answer != text {
        return Err(format!("{} bytes came back, or others", answer.len()));
    }
    Ok(())
}

fn both(at: &str) -> Outcome<()> {
    let at: SocketAddr = at.parse().map_err(|_| "no address".to_owned())?;
    let listener = said("listen", Socket::tcp_listen(at))?;
    let name = said("getsockname", listener.name())?;
    let port = name.port();
    let port = port.ok_or_else(|| format!("a name of another family: {:?}", name.as_bytes()))?;
    let at = SocketAddr::new(at.ip(), port);
    // What fits the buffers of two sockets is more than this, or the two would wait for each other.
    let texts = [&b"one"[..], &[7; 100_000], b""];
    match said("fork", sys::fork())? {
        0 => {
            let served = serve(&listener, texts.len());
            if let Err(error) = &served {
                println!("child: {error}");
            }
            sys::exit(i32::from(served.is_err()))
        }
        child => {
            drop(listener);
            for text in texts {
                ask(at, text)?;
            }
            let ended = said("wait", sys::waitpid(child, 0))?;
            if ended == (child, 0) {
                Ok(())
            } else {
                Err(format!("the child ended with {ended:?}"))
            }
        }
    }
}

fn run(args: &[&str]) -> Outcome<()> {
    let address = |at: &str| at.parse().map_err(|_| format!("{at} is no address"));
    match args {
        [] => {
            both("127.0.0.1:0")?;
            let v6 = "[::1]:0";
            match Socket::tcp_listen(address(v6)?) {
                // Not every machine has IPv6.
                Err(Errno(97 | 99)) => Ok(()),
                _ => both(v6),
            }
        }
        ["serve", at, count] => {
            let listener = said("listen", Socket::tcp_listen(address(at)?))?;
            serve(&listener, count.parse().unwrap_or(1))
        }
        ["ask", at, text] => ask(address(at)?, text.as_bytes()),
        _ => Err("usage: tcp_echo [serve IP:PORT COUNT|ask IP:PORT TEXT]".to_owned()),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => println!("echo done"),
        Err(error) => {
            println!("{error}");
            std::process::exit(1)
        }
    }
}
