//! Sealed connections: the library and a peer that shares no code with it.

use super::crypt::python;
use super::trial;
use crate::fixture::{command, repository};
use anyhow::Context;
use libtest_mimic::Trial;
use sealed::MasterKey;
use sealed::wire::{Connection, Incoming, Keys};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "wire/an independent peer agrees with the test vectors".into(),
            vectors,
        ),
        trial("wire/an independent peer connects".into(), || {
            talk(Role::Responder)
        }),
        trial("wire/an independent peer listens".into(), || {
            talk(Role::Initiator)
        }),
    ]
}

/// Which end the library is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Responder,
}

fn peer() -> PathBuf {
    repository().join("tests/wire_peer.py")
}

fn vectors() -> anyhow::Result<()> {
    let (peer, vectors) = (peer(), repository().join("tests/vectors/wire-v1.json"));
    let args = [
        peer.as_os_str(),
        OsStr::new("self-test"),
        vectors.as_os_str(),
    ];
    command(&python()?, args)?.expect(0).map(drop)
}

/// Bytes of which every record differs from every other.
fn text(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8)) as u8 ^ seed).collect()
}

fn talk(role: Role) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (key_file, input) = (folder.path().join("k.bin"), folder.path().join("input"));
    let output = folder.path().join("output");
    let (ours, theirs) = (text(300_000, 1), text(200_001, 2));
    let key = MasterKey::generate(&mut getrandom::SysRng)?;
    fs::write(&key_file, key.expose_secret())?;
    fs::write(&input, &theirs)?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (verb, port) = match role {
        Role::Initiator => ("listen", 0),
        Role::Responder => ("connect", listener.local_addr()?.port()),
    };
    let mut child = Command::new(python()?)
        .arg(peer())
        .args([verb, "127.0.0.1", &port.to_string(), "--key"])
        .arg(&key_file)
        .stdin(File::open(&input)?)
        .stdout(File::create(&output)?)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut errors = BufReader::new(child.stderr.take().context("it is piped")?);
    let transport = match role {
        Role::Initiator => {
            let mut port = String::new();
            errors.read_line(&mut port)?;
            TcpStream::connect(("127.0.0.1", port.trim().parse()?))?
        }
        Role::Responder => listener.accept()?.0,
    };
    let received = converse(role, transport, &key, &ours);
    let status = child.wait()?;
    let mut complaint = String::new();
    errors.read_to_string(&mut complaint)?;
    let received = received.with_context(|| format!("the peer says: {complaint}"))?;
    anyhow::ensure!(received == theirs, "the library read something else");
    anyhow::ensure!(status.success(), "the peer says: {complaint}");
    ensure_contains(&output, &ours)
}

fn ensure_contains(path: &Path, expected: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(fs::read(path)? == expected, "the peer read something else");
    Ok(())
}

/// Writes everything, closes, then reads to the end. The peer reads and writes at once.
pub(super) fn converse(
    role: Role,
    mut transport: TcpStream,
    key: &MasterKey,
    plaintext: &[u8],
) -> anyhow::Result<Vec<u8>> {
    transport.set_read_timeout(Some(Duration::from_secs(30)))?;
    let keys = Keys::from(key.clone());
    let mut connection = match role {
        Role::Initiator => Connection::initiator(&keys, &mut getrandom::SysRng)?,
        Role::Responder => Connection::responder(&keys, &mut getrandom::SysRng)?,
    };
    let mut buffer = vec![0; 65536];
    let (mut written, mut received) = (0, Vec::new());
    loop {
        if written < plaintext.len() {
            written += connection.write(&plaintext[written..], usize::MAX)?;
        } else {
            connection.close_write()?;
        }
        transport.write_all(connection.wire_output())?;
        connection.wire_sent(usize::MAX);
        if connection.is_write_finished() {
            // Fails if the peer is done with both directions already.
            let _ = transport.shutdown(Shutdown::Write);
        } else if connection.write_room(usize::MAX) > 0 {
            continue;
        }

        let room = connection.wire_room().min(buffer.len());
        let len = transport.read(&mut buffer[..room])?;
        if len == 0 {
            connection.wire_eof()?;
        }
        connection.read_wire(&buffer[..len])?;
        while let Incoming::Data(data) = connection.peek()? {
            received.extend_from_slice(data);
            let len = data.len();
            connection.consume(len);
        }
        if connection.peek()? == Incoming::End && connection.is_write_finished() {
            return Ok(received);
        }
    }
}
