//! Sealed connections of programs under crypt-grate, with somebody on the wire between them.

use super::crypt::python;
use super::sockets::{beside, free_address, soon};
use super::trial;
use super::wire::{Role, converse};
use crate::fixture::{Fixture, Ran, Run, repository, words};
use anyhow::Context;
use libtest_mimic::Trial;
use sealed::MasterKey;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of either flight of the handshake.
const FLIGHT: usize = 57;
/// Bytes of a record beside its plaintext: length and tag.
const OVERHEAD: usize = 18;
/// What is said in the tests that change it, in three parts.
const TEXT: &str = "twelve bytes";
/// Bytes that go for it either way at least, where the parts are one record: a flight, for the end
/// that asks a confirmation, the record, and an end.
const ASKED: usize = FLIGHT + OVERHEAD + OVERHEAD + TEXT.len() + OVERHEAD;
const ANSWERED: usize = FLIGHT + OVERHEAD + TEXT.len() + OVERHEAD;
/// Bytes of the end that asks, where each part is a record.
const ASKED_APART: usize = ASKED + 2 * OVERHEAD;
/// How long the end that asks waits for the handshake, in milliseconds, so that each is.
const APART: &str = "60";

/// A test by itself.
type Test = fn() -> anyhow::Result<()>;

/// What becomes of a direction's records.
pub(super) type Reorder = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for how in ["poll", "select", "epoll", "epoll-et"] {
        trials.push(trial(
            format!("crypt-grate/sealed TCP, a server that waits by {how}"),
            move || conversations(how, false),
        ));
    }
    trials.push(trial("crypt-grate/sealed TCP (strict)".to_owned(), || {
        conversations("poll", true)
    }));
    let others: [(&str, Test); 20] = [
        ("what a receive can't give its program", unwritable),
        ("calls at the edges as on a plain one", manners),
        ("redacted first, then sealed", redacted),
        ("split at every byte", split_everywhere),
        ("every bit flipped on the way there", || flips(Side::Asking)),
        ("every bit flipped on the way back", || flips(Side::Serving)),
        ("cut at every byte", cuts),
        ("records dropped, repeated, swapped and injected", records),
        ("a connection replayed", replay),
        ("another key, none, and silence", strangers),
        ("connections that stop half-way", half_open),
        ("a program at both ends of a connection", early),
        ("more said than fits before the handshake is over", eager),
        ("a peer that shares no code", independent_peer),
        ("a server in C that was handed a socket", handed_socket),
        ("peers in the clear, and a network left alone", plain),
        ("waiting takes no time of the processor", idle),
        ("connections through fork, dup and exit", inherited),
        ("several that use one connection at once", shared),
        ("datagrams", datagrams),
    ];
    for (name, test) in others {
        trials.push(trial(format!("crypt-grate/sealed network, {name}"), test));
    }
    trials
}

/// A root with a key.
fn sealed_root() -> anyhow::Result<Fixture> {
    let fixture = Fixture::new()?;
    fixture.make_key("/k.bin")?;
    Ok(fixture)
}

fn start(fixture: &Fixture, strict: bool, grate: &[&str], args: &[&str]) -> anyhow::Result<Ran> {
    let crypt = ["crypt-grate.cwasm", "--key", "/k.bin", "--verbose"];
    let all = [&crypt[..], grate, args].concat();
    fixture.start(&Run {
        strict,
        args: all.into_iter().map(str::to_owned).collect(),
        ..Run::default()
    })
}

fn run(fixture: &Fixture, args: &[&str]) -> anyhow::Result<Ran> {
    start(fixture, false, &[], args)
}

fn serve(how: &str, at: SocketAddr, count: usize) -> Vec<String> {
    let list = [
        "net_probe.cwasm",
        "serve",
        how,
        &at.to_string(),
        &count.to_string(),
    ];
    list.map(str::to_owned).to_vec()
}

fn strings(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// One that asks through somebody on the wire, beside one that serves. Answers what the one that
/// asks has said of each connection, and what was on the wire.
fn through(
    wire: impl Fn(usize, Side) -> Change + Send + Sync + 'static,
    times: usize,
    pause: &str,
) -> anyhow::Result<(Vec<String>, Vec<u8>)> {
    let fixture = sealed_root()?;
    let at = free_address()?;
    // The look whether it is there is a connection, too.
    let serving = serve("poll", at, times + 1);
    let proxy = Proxy::new(at, wire)?;
    let (served, asked) = beside(
        || run(&fixture, &strings(&serving)),
        || {
            soon(|| Ok(TcpStream::connect(at).map(drop)?)).and_then(|()| {
                let (to, times) = (proxy.at.to_string(), times.to_string());
                run(
                    &fixture,
                    &["net_probe.cwasm", "ask", &to, TEXT, &times, pause],
                )?
                .expect(0)
            })
        },
    )?;
    let lines = asked.text().lines().map(str::to_owned).collect();
    served.expect(0)?;
    Ok((lines, proxy.captured()))
}

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Asking,
    Serving,
}

/// What happens to the bytes of one direction.
pub(super) enum Change {
    /// They go as they come.
    Nothing,
    /// They go in two pieces, cut at that place.
    Split(usize),
    /// Each goes by itself.
    Apart,
    /// That bit is another.
    Flip(usize),
    /// No more go after so many, and the connection ends.
    Cut(usize),
    /// Records, numbered after the flight, are dropped, repeated and so on.
    Records(Reorder),
}

/// Somebody on the wire.
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) at: SocketAddr,
    captured: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    pub(super) fn new(
        to: SocketAddr,
        change: impl Fn(usize, Side) -> Change + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let captured = Arc::new(Mutex::new(Vec::new()));
        let all = captured.clone();
        thread::spawn(move || {
            for (index, asking) in listener.incoming().enumerate() {
                let (Ok(asking), Ok(serving)) = (asking, TcpStream::connect(to)) else {
                    return;
                };
                let (Ok(asking2), Ok(serving2)) = (asking.try_clone(), serving.try_clone()) else {
                    return;
                };
                let (there, back) = (change(index, Side::Asking), change(index, Side::Serving));
                let (all_there, all_back) = (all.clone(), all.clone());
                thread::spawn(move || carry(asking, serving, &there, &all_there));
                thread::spawn(move || carry(serving2, asking2, &back, &all_back));
            }
        });
        Ok(Self { at, captured })
    }

    pub(super) fn captured(&self) -> Vec<u8> {
        self.captured
            .lock()
            .map(|all| all.clone())
            .unwrap_or_default()
    }
}

/// Carries one direction until it ends, or goes wrong.
fn carry(mut from: TcpStream, mut to: TcpStream, change: &Change, all: &Mutex<Vec<u8>>) {
    let _ = to.set_nodelay(true);
    let _ = carry_all(&mut from, &mut to, change, all);
    let _ = to.shutdown(Shutdown::Write);
    if matches!(change, Change::Cut(_)) {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

fn carry_all(
    from: &mut TcpStream,
    to: &mut TcpStream,
    change: &Change,
    all: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    /// Long enough for the receiver to look at what has come.
    const PAUSE: Duration = Duration::from_millis(2);
    let mut buffer = vec![0; 65_536];
    let mut gone = 0;
    let mut held = Vec::new();
    loop {
        let len = from.read(&mut buffer)?;
        if let Ok(mut all) = all.lock() {
            all.extend_from_slice(&buffer[..len]);
        }
        if len == 0 {
            if let Change::Records(order) = change {
                // All that there is, in whatever order it goes now.
                for record in order(split_records(&held)) {
                    to.write_all(&record)?;
                }
            }
            return Ok(());
        }
        let bytes = &mut buffer[..len];
        match *change {
            Change::Nothing => to.write_all(bytes)?,
            Change::Split(at) => {
                let (now, later) = bytes.split_at(at.saturating_sub(gone).min(len));
                to.write_all(now)?;
                if !now.is_empty() && !later.is_empty() {
                    thread::sleep(PAUSE);
                }
                to.write_all(later)?;
            }
            Change::Apart => {
                for byte in bytes.iter() {
                    to.write_all(&[*byte])?;
                    thread::sleep(PAUSE / 4);
                }
            }
            Change::Flip(bit) => {
                if let Some(byte) = (bit / 8).checked_sub(gone).and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 1 << (bit % 8);
                }
                to.write_all(bytes)?;
            }
            Change::Cut(after) => {
                let left = after.saturating_sub(gone).min(len);
                to.write_all(&bytes[..left])?;
                if left < len {
                    return Ok(());
                }
            }
            Change::Records(_) => {
                let flight = FLIGHT.saturating_sub(gone).min(len);
                to.write_all(&bytes[..flight])?;
                held.extend_from_slice(&bytes[flight..]);
            }
        }
        gone += len;
    }
}

fn split_records(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(header) = wire.first_chunk() {
        let len = (2 + usize::from(u16::from_le_bytes(*header))).min(wire.len());
        let (record, rest) = wire.split_at(len);
        records.push(record.to_vec());
        wire = rest;
    }
    records
}

pub(super) fn ensure_hidden(captured: &[u8], secret: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(captured.len() > 2 * FLIGHT, "nothing went over the wire");
    anyhow::ensure!(
        !captured
            .windows(8)
            .any(|window| secret.windows(8).any(|part| part == window)),
        "plaintext is on the wire"
    );
    Ok(())
}

/// All ways to send and receive, and both directions at once.
fn conversations(how: &'static str, strict: bool) -> anyhow::Result<()> {
    const BULK: usize = 3_000_000;
    let fixture = sealed_root()?;
    let at = free_address()?;
    let proxy = Proxy::new(at, |_, _| Change::Nothing)?;
    let serving = serve(how, at, 7);
    let secret = "a secret that nobody else must see, said in three parts";
    let (served, ()) = beside(
        || start(&fixture, strict, &[], &strings(&serving)),
        || {
            // Nobody in the clear is served, and this tells that somebody is there.
            soon(|| Ok(TcpStream::connect(at).map(drop)?))?;
            let to = proxy.at.to_string();
            let ask = ["net_probe.cwasm", "ask", &to, secret, "5"];
            let asked = start(&fixture, strict, &[], &ask)?.expect(0)?.text();
            anyhow::ensure!(asked == "ok\n".repeat(5), "{asked}");
            let bulk = ["net_probe.cwasm", "bulk", &to, &BULK.to_string()];
            let bulk = start(&fixture, strict, &[], &bulk)?.expect(0)?.text();
            anyhow::ensure!(bulk == "bulk done\n", "{bulk}");
            Ok(())
        },
    )?;
    let said = served.expect(0)?.text();
    anyhow::ensure!(said.ends_with("served 6, failed 1\n"), "{said}");
    ensure_hidden(&proxy.captured(), secret.as_bytes())
}

fn all_ok(lines: &[String], times: usize) -> anyhow::Result<()> {
    anyhow::ensure!(lines.len() == times, "{} answers", lines.len());
    for (index, line) in lines.iter().enumerate() {
        anyhow::ensure!(line == "ok", "connection {index}: {line}");
    }
    Ok(())
}

fn split_everywhere() -> anyhow::Result<()> {
    let change = |index, _| match index {
        0 => Change::Apart,
        index => Change::Split(index),
    };
    let (lines, captured) = through(change, ASKED + 1, "0")?;
    all_ok(&lines, ASKED + 1)?;
    ensure_hidden(&captured, TEXT.as_bytes())
}

/// That no connection has ended well, or shown what nobody has sent.
fn none_ok(lines: &[String], times: usize) -> anyhow::Result<()> {
    anyhow::ensure!(lines.len() == times, "{} answers", lines.len());
    for (index, line) in lines.iter().enumerate() {
        // A reset, told by whatever was called next: by a shutdown as of what is not connected.
        let is_detected = [": 104", ": 32", ": 107"]
            .iter()
            .any(|how| line.ends_with(how));
        anyhow::ensure!(is_detected, "connection {index}: {line}");
    }
    Ok(())
}

fn flips(side: Side) -> anyhow::Result<()> {
    let bits = 8 * match side {
        Side::Asking => ASKED,
        Side::Serving => ANSWERED,
    };
    let change = move |index, other| {
        if other == side {
            Change::Flip(index)
        } else {
            Change::Nothing
        }
    };
    let (lines, _) = through(change, bits, "0")?;
    none_ok(&lines, bits)
}

fn cuts() -> anyhow::Result<()> {
    let change = |index, side| match side {
        Side::Asking => Change::Cut(index),
        Side::Serving => Change::Nothing,
    };
    let (lines, _) = through(change, ASKED, "0")?;
    none_ok(&lines, ASKED)
}

/// Records are the confirmation, three of data, and the end.
fn records() -> anyhow::Result<()> {
    /// How many of them only add to what is complete.
    const AFTER_THE_END: usize = 2;
    const ORDERS: [Reorder; 12] = [
        |mut records| {
            records.remove(0);
            records
        },
        |mut records| {
            records.remove(1);
            records
        },
        |mut records| {
            records.remove(3);
            records
        },
        |mut records| {
            records.pop();
            records
        },
        |mut records| {
            records.insert(1, records[1].clone());
            records
        },
        |mut records| {
            records.swap(1, 2);
            records
        },
        |mut records| {
            records.swap(0, 1);
            records
        },
        |mut records| {
            records.swap(3, 4);
            records
        },
        |mut records| {
            records.insert(2, [&[36, 0][..], &[5; 36]].concat());
            records
        },
        |mut records| {
            // Longer than any record.
            records.insert(2, [&[0xff, 0xff][..], &[5; 100]].concat());
            records
        },
        |mut records| {
            records.push(records[1].clone());
            records
        },
        |mut records| {
            records.push(records[4].clone());
            records
        },
    ];
    let change = |index: usize, side| match side {
        Side::Asking if index < ORDERS.len() => Change::Records(ORDERS[index]),
        // Kept and sent as they are.
        Side::Asking => Change::Records(|records| records),
        Side::Serving => Change::Nothing,
    };
    let (lines, _) = through(change, ORDERS.len() + 1, APART)?;
    // What comes after the end may find nobody who looks at it any more.
    let (before, after) = lines[..ORDERS.len()].split_at(ORDERS.len() - AFTER_THE_END);
    none_ok(before, before.len())?;
    for line in after.iter().filter(|line| *line != "ok") {
        none_ok(std::slice::from_ref(line), 1)?;
    }
    all_ok(&lines[ORDERS.len()..], 1)
}

/// What one end of a connection has sent is sent again, by somebody without the key.
fn replay() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    let at = free_address()?;
    let serving = serve("epoll", at, 4);
    let there = Arc::new(Mutex::new(Vec::new()));
    let recorder = TcpListener::bind("127.0.0.1:0")?;
    let to = recorder.local_addr()?.to_string();
    let (served, ()) = beside(
        || run(&fixture, &strings(&serving)),
        || {
            soon(|| Ok(TcpStream::connect(at).map(drop)?))?;
            let kept = there.clone();
            let wire = thread::spawn(move || -> anyhow::Result<()> {
                let (asking, _) = recorder.accept()?;
                let serving = TcpStream::connect(at)?;
                let (asking2, serving2) = (asking.try_clone()?, serving.try_clone()?);
                let back = thread::spawn(move || {
                    carry(serving2, asking2, &Change::Nothing, &Mutex::default());
                });
                carry(asking, serving, &Change::Nothing, &kept);
                back.join()
                    .map_err(|_| anyhow::anyhow!("the wire panicked"))
            });
            let ask = ["net_probe.cwasm", "ask", &to, TEXT, "1", APART];
            let asked = run(&fixture, &ask)?.expect(0)?;
            anyhow::ensure!(asked.text() == "ok\n", "{}", asked.text());
            wire.join()
                .map_err(|_| anyhow::anyhow!("the wire panicked"))??;
            let sent = there.lock().map(|all| all.clone()).unwrap_or_default();
            anyhow::ensure!(sent.len() == ASKED_APART, "{} bytes were sent", sent.len());
            for len in [ASKED_APART, FLIGHT + OVERHEAD] {
                let mut again = TcpStream::connect(at)?;
                again.set_read_timeout(Some(Duration::from_secs(30)))?;
                again.write_all(&sent[..len])?;
                let mut answer = Vec::new();
                // It is cut, with or without a reset.
                let _ = again.read_to_end(&mut answer);
                anyhow::ensure!(answer.len() <= FLIGHT, "{} bytes came back", answer.len());
            }
            Ok(())
        },
    )?;
    let said = served.expect(0)?.text();
    anyhow::ensure!(said.ends_with("served 1, failed 3\n"), "{said}");
    Ok(())
}

/// Somebody who has another key, or does not speak the protocol, or does not speak.
fn strangers() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    fixture.make_key("/other.bin")?;
    let at = free_address()?;
    let to = at.to_string();
    let ask = ["net_probe.cwasm", "ask", &to, TEXT, "1"];
    let serving = serve("poll", at, 4);
    let (served, ()) = beside(
        || run(&fixture, &strings(&serving)),
        || {
            soon(|| Ok(TcpStream::connect(at).map(drop)?))?;
            let other = ["crypt-grate.cwasm", "--key", "/other.bin", "--verbose"];
            let asked = fixture.run(&[&other[..], &ask].concat())?.expect(0)?;
            none_ok(&[asked.text().trim().to_owned()], 1)?;
            // To who is not sealed the end looks like any other. Of an answer there is nothing.
            let asked = fixture.run(&ask)?.expect(0)?;
            let answer = asked.text().trim().to_owned();
            if answer != "0 bytes and an orderly end" {
                none_ok(&[answer], 1)?;
            }
            let mut noise = TcpStream::connect(at)?;
            noise.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
            let mut answer = Vec::new();
            let _ = noise.read_to_end(&mut answer);
            anyhow::ensure!(answer.is_empty(), "{answer:?}");
            Ok(())
        },
    )?;
    let served = served.expect(0)?;
    anyhow::ensure!(
        served.text().ends_with("served 0, failed 4\n"),
        "{served:?}"
    );
    for line in ["has another key", "does not speak the sealed protocol"] {
        anyhow::ensure!(served.err.contains(line), "{line}: {served:?}");
    }

    // One that listens, and says nothing; then one that answers in the clear.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let to = silent.local_addr()?.to_string();
    let keeper = thread::spawn(move || -> anyhow::Result<()> {
        let (quiet, _) = silent.accept()?;
        let (mut loud, _) = silent.accept()?;
        loud.write_all(b"welcome")?;
        thread::sleep(Duration::from_millis(500));
        drop(quiet);
        Ok(())
    });
    let began = Instant::now();
    let ask = ["net_probe.cwasm", "ask", &to, TEXT, "2"];
    let asked = start(&fixture, false, &["--handshake-timeout", "1"], &ask)?.expect(0)?;
    let lines: Vec<_> = asked.text().lines().map(str::to_owned).collect();
    none_ok(&lines, 2)?;
    anyhow::ensure!(asked.err.contains("in time"), "{asked:?}");
    let took = began.elapsed();
    anyhow::ensure!(took >= Duration::from_secs(1), "it did not wait: {took:?}");
    keeper.join().map_err(|_| anyhow::anyhow!("it panicked"))?
}

/// Many that begin and do not go on, while others are served.
fn half_open() -> anyhow::Result<()> {
    const MANY: usize = 1000;
    let fixture = sealed_root()?;
    let at = free_address()?;
    let to = at.to_string();
    let serving = serve("epoll", at, MANY + 4);
    let (served, ()) = beside(
        || {
            start(
                &fixture,
                false,
                &["--handshake-timeout", "3"],
                &strings(&serving),
            )
        },
        || {
            soon(|| Ok(TcpStream::connect(at).map(drop)?))?;
            let begun: Vec<TcpStream> = (0..MANY)
                .map(|index| {
                    let mut stream = TcpStream::connect(at)?;
                    let flight = [&b"\xA7stream\n\x01"[..], &[9; 48]].concat();
                    stream.write_all(&flight[..index % FLIGHT])?;
                    Ok(stream)
                })
                .collect::<anyhow::Result<_>>()?;
            let asked = run(&fixture, &["net_probe.cwasm", "ask", &to, TEXT, "3"])?.expect(0)?;
            let lines: Vec<_> = asked.text().lines().map(str::to_owned).collect();
            all_ok(&lines, 3)?;
            // They are ended without their doing anything.
            for mut stream in begun {
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                let mut rest = Vec::new();
                match stream.read_to_end(&mut rest) {
                    Ok(_) => anyhow::ensure!(rest.is_empty(), "{rest:?}"),
                    Err(error) => anyhow::ensure!(
                        error.kind() == std::io::ErrorKind::ConnectionReset,
                        "{error}"
                    ),
                }
            }
            Ok(())
        },
    )?;
    let said = served.expect(0)?.text();
    anyhow::ensure!(
        said.ends_with(&format!("served 3, failed {}\n", MANY + 1)),
        "{said}"
    );
    Ok(())
}

fn early() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    for _ in 0..5 {
        run(&fixture, &["net_probe.cwasm", "early", "127.0.0.1:0"])?.expect(0)?;
    }
    Ok(())
}

fn manners() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    let args = ["net_probe.cwasm", "manners", "127.0.0.1:0"];
    let plain = fixture.run(&args)?.expect(0)?.text();
    anyhow::ensure!(plain.contains("reset: error 104\n"), "{plain}");
    let sealed = run(&fixture, &args)?.expect(0)?.text();
    anyhow::ensure!(plain == sealed, "plain:\n{plain}sealed:\n{sealed}");
    Ok(())
}

fn key_of(fixture: &Fixture) -> anyhow::Result<MasterKey> {
    let bytes = fs::read(fixture.path("k.bin"))?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| anyhow::anyhow!("no key"))?;
    Ok(MasterKey::from_bytes(bytes))
}

/// Who waits until the handshake makes room goes on as soon as it is over, whoever saw to that: there is no other end
/// to the wait.
fn eager() -> anyhow::Result<()> {
    const TIMES: &str = "12";
    let fixture = sealed_root()?;
    let at = free_address()?.to_string();
    let run = |args: &[&str]| {
        let crypt = ["crypt-grate.cwasm", "--key", "/k.bin"];
        let patient = ["--handshake-timeout", "3600", "bench_net.cwasm"];
        fixture.start(&Run {
            args: crate::fixture::words(&[&crypt, &patient, args]),
            ..Run::default()
        })
    };
    let (served, ()) = beside(
        || run(&["serve", &at, TIMES]),
        || {
            soon(|| match run(&["bulk", &at, "1000000"])? {
                ran if ran.code == 0 => Ok(()),
                ran => anyhow::bail!("{}", ran.err),
            })?;
            (1..TIMES.parse()?)
                .try_for_each(|_| run(&["bulk", &at, "1000000"])?.expect(0).map(drop))
        },
    )?;
    served.expect(0).map(drop)
}

fn independent_peer() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    for is_lind in [false, true] {
        for offers_aes in [false, true] {
            let has_aes = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
            let cipher = match offers_aes && has_aes && !is_lind {
                true => "AES-256-GCM",
                // Lind has no native AEAD, and AES in software is slow.
                false => "ChaCha20-Poly1305",
            };
            let peer = |role: &str, at: SocketAddr| {
                let mut peer = Command::new(python()?);
                peer.arg(repository().join("tests/wire_peer.py"))
                    .args([role, "127.0.0.1", &at.port().to_string(), "--key"])
                    .arg(fixture.path("k.bin"))
                    .args(offers_aes.then_some("--aes"));
                Ok(peer)
            };
            peer_connects(&fixture, is_lind, &peer, cipher)
                .and_then(|()| peer_listens(&fixture, is_lind, &peer, cipher))
                .with_context(|| format!("{cipher}, on Lind: {is_lind}"))?;
        }
    }
    Ok(())
}

type Peer<'a> = &'a (dyn Fn(&str, SocketAddr) -> anyhow::Result<Command> + Sync);

fn ended_well(output: &Output, text: &str, cipher: &str) -> anyhow::Result<()> {
    anyhow::ensure!(output.status.success(), "{output:?}");
    anyhow::ensure!(output.stdout == text.as_bytes(), "other bytes came back");
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(said.lines().last() == Some(cipher), "it said {said}");
    Ok(())
}

fn peer_connects(
    fixture: &Fixture,
    is_lind: bool,
    peer: Peer<'_>,
    cipher: &str,
) -> anyhow::Result<()> {
    let at = free_address()?;
    let text = "said by somebody else ".repeat(5000);
    let input = fixture.path("input");
    fs::write(&input, &text)?;
    // The first connection only looks whether there is somebody.
    let serving = serve("poll", at, 2);
    let (served, ()) = beside(
        || start(fixture, is_lind, &[], &strings(&serving)),
        || {
            soon(|| Ok(TcpStream::connect(at).map(drop)?))?;
            let output = peer("connect", at)?.stdin(File::open(&input)?).output()?;
            ended_well(&output, &text, cipher)
        },
    )?;
    served.expect(0).map(drop)
}

fn peer_listens(
    fixture: &Fixture,
    is_lind: bool,
    peer: Peer<'_>,
    cipher: &str,
) -> anyhow::Result<()> {
    let at = free_address()?;
    let text = "asked by a cage ".repeat(1000);
    let input = fixture.path("input");
    fs::write(&input, &text)?;
    let mut listening = peer("listen", at)?
        .stdin(File::open(&input)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(listening.stderr.take().context("it is piped")?);
    let mut port = String::new();
    said.read_line(&mut port)?;
    let place = format!("127.0.0.1:{}", port.trim());
    let asked = start(
        fixture,
        is_lind,
        &[],
        &["tcp_echo.cwasm", "ask", &place, &text],
    );
    let mut output = listening.wait_with_output()?;
    said.read_to_end(&mut output.stderr)?;
    asked?.expect(0)?;
    ended_well(&output, &text, cipher)
}

/// A WASI program, which can't make sockets, and gets a listening one.
fn handed_socket() -> anyhow::Result<()> {
    /// What the server ends with when all went well.
    const DONE: i32 = 7;
    let fixture = sealed_root()?;
    fs::write(fixture.path("greeting.plain"), "welcome")?;
    super::sockets::build_server(&fixture)?;
    // The greeting is read under the grate too, as it is.
    fs::rename(fixture.path("greeting.plain"), fixture.path("greeting"))?;
    let text = "some words ".repeat(20_000);
    for clamped in [false, true] {
        let at = free_address()?;
        let port = at.port().to_string();
        let (before, behind) = match clamped {
            true => (
                &["net-routing-clamp.cwasm", "--port", &port, "%{"][..],
                &["%}"][..],
            ),
            false => (&[][..], &[][..]),
        };
        let grate = [
            "crypt-grate.cwasm",
            "--key",
            "/k.bin",
            "--verbose",
            "--plaintext",
            "read",
        ];
        let (ran, ()) = beside(
            || {
                fixture.start(&Run {
                    options: vec!["--listen".to_owned(), at.to_string()],
                    args: words(&[before, &grate, behind, &["server.wasm"]]),
                    ..Run::default()
                })
            },
            || {
                let stream = soon(|| Ok(TcpStream::connect(at)?))?;
                let key = key_of(&fixture)?;
                let answer = converse(Role::Initiator, stream, &key, text.as_bytes())?;
                let expected = [b"welcome", text.as_bytes()].concat();
                anyhow::ensure!(answer == expected, "{} bytes came back", answer.len());
                Ok(())
            },
        )?;
        ran.expect(DONE)?;
    }
    Ok(())
}

fn plain() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    for options in [
        &["--plain", "127.0.0.0/8"][..],
        &["--net", "none"],
        &["--plain", "10.0.0.0/8", "--plain", "127.0.0.1:1-65535"],
    ] {
        let at = free_address()?;
        let serving = serve("poll", at, 2);
        let (served, ()) = beside(
            || start(&fixture, false, options, &strings(&serving)),
            || {
                let mut stream = soon(|| Ok(TcpStream::connect(at)?))?;
                stream.write_all(b"in the clear")?;
                stream.shutdown(Shutdown::Write)?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                anyhow::ensure!(text == "in the clear", "{text}");
                let to = at.to_string();
                let ask = ["net_probe.cwasm", "ask", &to, TEXT, "1"];
                let asked = start(&fixture, false, options, &ask)?.expect(0)?;
                all_ok(&[asked.text().trim().to_owned()], 1)
            },
        )?;
        served.expect(0)?;
    }
    for (option, value, why) in [
        ("--plain", "example.org", "no IP address"),
        ("--plain", "10.0.0.0/40", "up to 32"),
        ("--net", "all", "possible values: seal, none"),
        ("--handshake-timeout", "0", "1..=3600"),
    ] {
        let ran = start(&fixture, false, &[option, value], &["hello.cwasm"])?.expect(64)?;
        anyhow::ensure!(ran.err.contains(why), "{}", ran.err);
    }
    Ok(())
}

/// The time of the processor that a process has taken.
fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .context("no fields")?
        .split_whitespace()
        .collect();
    // In hundredths of a second: user and system time are fields 14 and 15 of proc(5).
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// A server waits for half a record, that does not go on, and for nothing.
fn idle() -> anyhow::Result<()> {
    const LONG: Duration = Duration::from_secs(2);
    let fixture = sealed_root()?;
    for how in ["poll", "epoll"] {
        let at = free_address()?;
        let args = [
            &[
                "crypt-grate.cwasm".to_owned(),
                "--key".to_owned(),
                "/k.bin".to_owned(),
            ][..],
            &serve(how, at, 1),
        ]
        .concat();
        let mut child = Command::new(crate::fixture::host_command("lind-wasm"))
            .arg("--root")
            .arg(fixture.path(""))
            .args(&args)
            .stdout(Stdio::null())
            .spawn()?;
        let measured = (|| {
            let stream = soon(|| Ok(TcpStream::connect(at)?))?;
            let key = key_of(&fixture)?;
            let keys = sealed::wire::Keys::from(key);
            let mut rng = getrandom::SysRng;
            let mut end = sealed::wire::Connection::initiator(&keys, &mut rng)?;
            let mut wire = stream.try_clone()?;
            wire.write_all(end.wire_output())?;
            end.wire_sent(usize::MAX);
            let mut flight = [0; FLIGHT];
            wire.read_exact(&mut flight)?;
            end.read_wire(&flight)?;
            end.write(&[1; 1000], usize::MAX)?;
            wire.write_all(&end.wire_output()[..500])?;
            // The handshake goes at once; what follows waits.
            thread::sleep(Duration::from_millis(300));
            let before = cpu_time(child.id())?;
            thread::sleep(LONG);
            anyhow::Ok(cpu_time(child.id())? - before)
        })();
        child.kill()?;
        child.wait()?;
        let taken = measured?;
        anyhow::ensure!(taken < LONG / 10, "{how}: {taken:?} of {LONG:?}");
    }
    Ok(())
}

/// It is still there, and told of.
fn unwritable() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    for strict in [false, true] {
        let ran = start(&fixture, strict, &[], &["socket_tour.cwasm", "unwritable"])?.expect(0)?;
        anyhow::ensure!(ran.text().is_empty(), "{}", ran.text());
    }
    Ok(())
}

/// The programs of the runtime's own tests: a child serves what its parent has opened, and what programs do
/// with sockets that wait.
fn inherited() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    let programs: [(&[&str], &str); 2] = [
        (&["tcp_echo.cwasm"], "echo done\n"),
        (&["socket_tour.cwasm", "/tmp"], "socket tour done\n"),
    ];
    for (program, says) in programs {
        for strict in [false, true] {
            let ran = start(&fixture, strict, &[], program)?.expect(0)?;
            anyhow::ensure!(ran.text() == says, "{}", ran.text());
        }
    }
    Ok(())
}

/// The same without a grate and with one.
fn shared() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    let crypt: &[&str] = &["crypt-grate.cwasm", "--key", "/k.bin"];
    for grates in [&[], crypt] {
        for _ in 0..3 {
            let ran = fixture.start(&Run {
                args: crate::fixture::words(&[grates, &["readers.cwasm"]]),
                ..Run::default()
            })?;
            let ran = ran.expect(0)?;
            anyhow::ensure!(ran.text() == "readers done\n", "{}", ran.text());
        }
    }
    Ok(())
}

/// The grate nearest to the program sees what it sends first. The end that receives is the library.
fn redacted() -> anyhow::Result<()> {
    let fixture = sealed_root()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?.to_string();
    let key = key_of(&fixture)?;
    // Said in three parts, none of which is the token.
    let token = format!("ghp_{}", "Ab3dE6gH9".repeat(4));
    let text = format!("before {token} after");
    let (asked, heard) = beside(
        || {
            let filter = ["write-filter-grate.cwasm", "--redact", "all"];
            let ask = ["net_probe.cwasm", "ask", &to, &text, "1", APART];
            run(&fixture, &[&filter[..], &ask].concat())
        },
        || converse(Role::Responder, listener.accept()?.0, &key, b""),
    )?;
    let heard = String::from_utf8(heard)?;
    let expected = format!("before {} after", "*".repeat(token.len()));
    anyhow::ensure!(heard == expected, "{heard}");
    let said = asked.expect(0)?.text();
    anyhow::ensure!(said == "0 bytes and an orderly end\n", "{said}");
    Ok(())
}

fn datagrams() -> anyhow::Result<()> {
    const TIMES: usize = 6;
    /// The largest, once sealed, is too large for any datagram.
    const EMSGSIZE: &str = "large: 90";
    let fixture = sealed_root()?;
    let at = free_address()?;
    let wire = UdpSocket::bind("127.0.0.1:0")?;
    let to = wire.local_addr()?.to_string();
    wire.set_read_timeout(Some(Duration::from_secs(10)))?;
    let serving = [
        "net_probe.cwasm",
        "udp-serve",
        &at.to_string(),
        &TIMES.to_string(),
    ];
    let text = "a datagram that nobody else must read";
    let captured = Arc::new(Mutex::new(Vec::new()));
    let all = captured.clone();
    thread::spawn(move || -> anyhow::Result<()> {
        let mut asking = None;
        let mut buffer = [0; 65_536];
        loop {
            let (len, from) = wire.recv_from(&mut buffer)?;
            let datagram = &mut buffer[..len];
            if let Ok(mut all) = all.lock() {
                all.extend_from_slice(datagram);
            }
            if from == at {
                wire.send_to(datagram, asking.context("nobody has asked")?)?;
                continue;
            }
            asking = Some(from);
            // Noise, and the datagram with a bit flipped, before it; and again after it.
            wire.send_to(b"not sealed at all", at)?;
            for at_byte in [0, 1, 5, 20, len - 1] {
                datagram[at_byte] ^= 1;
                wire.send_to(datagram, at)?;
                datagram[at_byte] ^= 1;
            }
            wire.send_to(datagram, at)?;
            wire.send_to(datagram, at)?;
            wire.send_to(&datagram[..len - 1], at)?;
        }
    });
    let (served, asked) = beside(
        || run(&fixture, &serving),
        || {
            // Long enough to be there: a datagram to nobody is an error for who sends the next.
            soon(|| {
                let probe = UdpSocket::bind(at);
                anyhow::ensure!(probe.is_err(), "nobody is there yet");
                Ok(())
            })?;
            let ask = ["net_probe.cwasm", "udp-ask", &to, text, &TIMES.to_string()];
            run(&fixture, &ask)?.expect(0)
        },
    )?;
    let said = asked.text();
    let expected = format!("{}{EMSGSIZE}\n", "ok\n".repeat(TIMES));
    anyhow::ensure!(said == expected, "{said}");
    let served = served.expect(0)?;
    for line in ["not a sealed datagram", "received before", "altered"] {
        anyhow::ensure!(served.err.contains(line), "{line}: {}", served.err);
    }
    let captured = captured.lock().map(|all| all.clone()).unwrap_or_default();
    ensure_hidden(&captured, text.as_bytes())
}
