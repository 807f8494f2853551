//! Several that use one connection at once, while some of them wait to receive. The program has both
//! ends, and what comes out is such as a plain kernel could give.

use cage_libc::net::{SHUT_RD, SHUT_WR, Socket};
use cage_libc::sys::{self, Errno, nr};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

type Done = Result<(), String>;
type Step = fn(&Socket, &Socket) -> Done;

const POLLIN: u16 = 1;
const SIGKILL: u64 = 9;
/// Time for somebody to come to where it waits. Nothing is wrong where it takes longer.
const SOON: Duration = Duration::from_millis(30);

const STEPS: [(&str, Step); 6] = [
    ("both ways at once", both_ways),
    ("several readers", several_readers),
    ("a poll beside a reader", poll_beside),
    ("a reader that is killed", killed_reader),
    ("the reading end closed beside a reader", shut_beside),
    ("a reader that waits for everything", everything),
];

fn main() -> ExitCode {
    for (name, step) in STEPS {
        if let Err(why) = pair().and_then(|(one, other)| step(&one, &other)) {
            eprintln!("readers: {name}: {why}");
            return ExitCode::FAILURE;
        }
    }
    println!("readers done");
    ExitCode::SUCCESS
}

fn said<T>(what: &str, result: Result<T, Errno>) -> Result<T, String> {
    result.map_err(|errno| format!("{what}: {}", errno.0))
}

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: addresses among the arguments are those of live buffers of the length that is said.
    unsafe { sys::syscall(nr, args) }
}

/// Two ends of a connection over which a word has gone both ways.
fn pair() -> Result<(Socket, Socket), String> {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = said("listen", Socket::tcp_listen(at))?;
    let port = said("name", listener.name())?.port().ok_or("no port")?;
    let one = said(
        "connect",
        Socket::tcp_connect(SocketAddr::new(at.ip(), port)),
    )?;
    let (other, _) = said("accept", listener.accept(0))?;
    for (from, to) in [(&one, &other), (&other, &one)] {
        send_all(from, b"!")?;
        expect(to, b"!")?;
    }
    Ok((one, other))
}

fn send_all(socket: &Socket, mut data: &[u8]) -> Done {
    while !data.is_empty() {
        let sent = said("send", socket.send(data, 0))?;
        data = &data[sent..];
    }
    Ok(())
}

fn expect(socket: &Socket, data: &[u8]) -> Done {
    let mut got = vec![0; data.len()];
    let mut len = 0;
    while len < got.len() {
        match said("receive", socket.receive(&mut got[len..], 0))? {
            0 => return Err("an end".to_owned()),
            more => len += more,
        }
    }
    if got != data {
        return Err("other bytes".to_owned());
    }
    Ok(())
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread panicked".to_owned())
}

/// Each end sends and receives, in pieces of many sizes, neither waiting for the other.
fn both_ways(one: &Socket, other: &Socket) -> Done {
    const LEN: usize = 3_000_000;
    let data =
        |seed: usize| -> Vec<u8> { (0..LEN).map(|i| (i * 7 + (i >> 9) * seed) as u8).collect() };
    let data = [data(1), data(2)];
    let sends = |socket: &Socket, data: &[u8]| -> Done {
        let mut rest = data;
        for len in (1..).map(|step: usize| step * step * 37 % 90_000 + 1) {
            let (now, later) = rest.split_at(len.min(rest.len()));
            send_all(socket, now)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        said("shutdown", socket.shutdown(SHUT_WR))
    };
    let receives = |socket: &Socket, data: &[u8]| -> Done {
        const ROOM: usize = 100_000;
        let mut buffer = vec![0; ROOM];
        let mut at = 0;
        for len in (1..).map(|step: usize| step * step * 53 % ROOM + 1) {
            let got = said("receive", socket.receive(&mut buffer[..len], 0))?;
            if got == 0 {
                break;
            }
            if data.get(at..at + got) != Some(&buffer[..got]) {
                return Err(format!("other bytes at {at}"));
            }
            at += got;
        }
        match at {
            LEN => Ok(()),
            _ => Err(format!("{at} bytes")),
        }
    };
    thread::scope(|scope| {
        let threads = [
            scope.spawn(|| receives(one, &data[1])),
            scope.spawn(|| receives(other, &data[0])),
            scope.spawn(|| sends(one, &data[0])),
            scope.spawn(|| sends(other, &data[1])),
        ];
        threads.into_iter().try_for_each(|thread| joined(thread)?)
    })
}

/// Whoever of them gets a byte, each comes once.
fn several_readers(one: &Socket, other: &Socket) -> Done {
    const READERS: usize = 4;
    const MESSAGES: usize = 200;
    const LEN: usize = 100;
    let counts = Mutex::new([0usize; MESSAGES]);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let counts = &counts;
                scope.spawn(move || -> Done {
                    let mut buffer = vec![0; [7, LEN, 1000, 70_000][reader]];
                    loop {
                        let len = said("receive", other.receive(&mut buffer, 0))?;
                        if len == 0 {
                            return Ok(());
                        }
                        let mut counts = counts.lock().map_err(|_| "poisoned")?;
                        for &byte in &buffer[..len] {
                            counts[usize::from(byte)] += 1;
                        }
                    }
                })
            })
            .collect();
        thread::sleep(SOON);
        for message in 0..MESSAGES {
            send_all(one, &[message as u8; LEN])?;
            if message % 50 == 0 {
                thread::sleep(SOON);
            }
        }
        said("shutdown", one.shutdown(SHUT_WR))?;
        readers.into_iter().try_for_each(|reader| joined(reader)?)
    })?;
    let counts = counts.into_inner().map_err(|_| "poisoned")?;
    match counts.iter().find(|&&count| count != LEN) {
        Some(count) => Err(format!("{count} of {LEN}")),
        None => Ok(()),
    }
}

fn poll(socket: &Socket, milliseconds: u64) -> Result<i32, String> {
    let mut entry = [0; 8];
    entry[..4].copy_from_slice(&socket.fd().to_le_bytes());
    entry[4..6].copy_from_slice(&POLLIN.to_le_bytes());
    said(
        "poll",
        call(
            nr::POLL,
            &[sys::address(entry.as_mut_ptr()), 1, milliseconds],
        ),
    )
}

/// One that only asks takes nothing, and is told of what nobody has taken.
fn poll_beside(one: &Socket, other: &Socket) -> Done {
    thread::scope(|scope| {
        let reader = scope.spawn(|| expect(other, &[5; 1000]));
        thread::sleep(SOON);
        for _ in 0..10 {
            if poll(other, 5)? != 0 {
                return Err("ready, of nothing".to_owned());
            }
            send_all(other, b"the other way")?;
            expect(one, b"the other way")?;
        }
        for _ in 0..10 {
            send_all(one, &[5; 100])?;
            poll(other, 0)?;
        }
        joined(reader)?
    })?;
    send_all(one, b"later")?;
    if poll(other, u64::MAX)? != 1 {
        return Err("not ready".to_owned());
    }
    expect(other, b"later")
}

/// Another process that shares the connection is killed while it waits; the first one goes on.
fn killed_reader(one: &Socket, other: &Socket) -> Done {
    for round in 0..5u8 {
        let child = said("fork", sys::fork())?;
        if child == 0 {
            let _ = other.receive(&mut [0; 100], 0);
            sys::exit(9);
        }
        thread::sleep(SOON);
        said("kill", call(nr::KILL, &[child as u64, SIGKILL]))?;
        let (_, status) = said("wait", sys::waitpid(child, 0))?;
        if status != SIGKILL as i32 {
            return Err(format!("status {status}"));
        }
        send_all(one, &[round; 300])?;
        expect(other, &[round; 300])?;
    }
    Ok(())
}

/// Who waits is told the end, and what is sent goes on.
fn shut_beside(one: &Socket, other: &Socket) -> Done {
    thread::scope(|scope| {
        let reader = scope.spawn(|| said("receive", other.receive(&mut [0; 100], 0)));
        thread::sleep(SOON);
        said("shutdown", other.shutdown(SHUT_RD))?;
        match joined(reader)?? {
            0 => Ok(()),
            len => Err(format!("{len} bytes")),
        }
    })?;
    send_all(other, b"still said")?;
    expect(one, b"still said")
}

/// MSG_WAITALL comes back with all, however it comes, or with what there is before the end.
fn everything(one: &Socket, other: &Socket) -> Done {
    const MSG_WAITALL: i32 = 0x100;
    let sent: Vec<u8> = (0..50_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut got = vec![0; sent.len()];
            let len = said("receive", other.receive(&mut got, MSG_WAITALL))?;
            let rest = said("receive", other.receive(&mut [0; 100], MSG_WAITALL))?;
            Ok::<_, String>((len, rest, got))
        });
        for piece in sent.chunks(9_999) {
            thread::sleep(SOON / 3);
            send_all(one, piece)?;
        }
        send_all(one, &[1; 10])?;
        said("shutdown", one.shutdown(SHUT_WR))?;
        match joined(reader)?? {
            (len, 10, got) if len == sent.len() && got == sent => Ok(()),
            (len, rest, _) => Err(format!("{len} and {rest} bytes, or others")),
        }
    })
}
