//! Calls on sockets that the grate makes itself, below the sealing.

use grate_rs::constants::poll::POLLRDHUP;
use grate_rs::constants::{
    SYS_FCNTL, SYS_POLL, SYS_PPOLL, SYS_RECVFROM, SYS_SENDTO, SYS_SHUTDOWN, error, fs, net,
};
use grate_rs::kernel::{self, int, value};
use grate_rs::sockets::option_bytes;
use grate_rs::{CageFd, Errno, own_buffer};
use std::time::Duration;

/// Sends without waiting.
///
/// # Errors
/// As send(2).
pub fn send(fd: CageFd, bytes: &[u8]) -> Result<usize, Errno> {
    send_to(fd, bytes, net::MSG_DONTWAIT | net::MSG_NOSIGNAL, &[])
}

/// Sends, to an address unless that is empty.
///
/// # Errors
/// As sendto(2).
pub fn send_to(fd: CageFd, bytes: &[u8], flags: i32, name: &[u8]) -> Result<usize, Errno> {
    let place = if name.is_empty() {
        value(fd.cage, 0)
    } else {
        own_buffer(name.as_ptr())
    };
    let args = [
        fd.arg(),
        own_buffer(bytes.as_ptr()),
        value(fd.cage, bytes.len() as u64),
        int(fd.cage, flags),
        place,
        int(fd.cage, name.len() as i32),
    ];
    Ok(kernel::call(SYS_SENDTO, fd.cage, &args)? as usize)
}

/// Receives without waiting.
///
/// # Errors
/// As recv(2).
pub fn receive(fd: CageFd, bytes: &mut [u8], flags: i32) -> Result<usize, Errno> {
    receive_as(fd, bytes, flags | net::MSG_DONTWAIT)
}

/// Receives, and waits if the descriptor does.
///
/// # Errors
/// As recv(2).
pub fn await_bytes(fd: CageFd, bytes: &mut [u8]) -> Result<usize, Errno> {
    receive_as(fd, bytes, 0)
}

fn receive_as(fd: CageFd, bytes: &mut [u8], flags: i32) -> Result<usize, Errno> {
    let none = value(fd.cage, 0);
    let args = [
        fd.arg(),
        own_buffer(bytes.as_mut_ptr()),
        value(fd.cage, bytes.len() as u64),
        int(fd.cage, flags),
        none,
        none,
    ];
    let read = kernel::call(SYS_RECVFROM, fd.cage, &args)? as usize;
    Ok(if flags & net::MSG_TRUNC == 0 {
        read.min(bytes.len())
    } else {
        read
    })
}

/// shutdown(2). There is nothing to do where it fails: the connection is gone then.
pub fn shut_down(fd: CageFd, how: i32) {
    let _ = kernel::call(SYS_SHUTDOWN, fd.cage, &[fd.arg(), int(fd.cage, how)]);
}

/// Waits until one of the events is there, and says which are; none when the time is over. A
/// negative time has no end.
///
/// # Errors
/// As poll(2).
pub fn wait(fd: CageFd, events: i16, milliseconds: i32) -> Result<i16, Errno> {
    let mut entry = [0; 8];
    entry[..4].copy_from_slice(&fd.fd.to_le_bytes());
    entry[4..6].copy_from_slice(&events.to_le_bytes());
    poll(fd.cage, &mut entry, milliseconds, None)?;
    Ok(i16::from_le_bytes([entry[6], entry[7]]))
}

/// Whether nothing more is received because this end has shut that direction: what is received then is no
/// message, which a call that does not wait can't tell from that none has come.
pub fn is_read_shut(fd: CageFd) -> bool {
    wait(fd, POLLRDHUP, 0).is_ok_and(|found| found & POLLRDHUP != 0)
}

/// poll(2) with an array of the grate's own, of 8 bytes an entry.
///
/// # Errors
/// As poll.
pub fn poll(
    cage: u64,
    entries: &mut [u8],
    milliseconds: i32,
    mask: Option<[u8; 8]>,
) -> Result<i32, Errno> {
    let args = [
        own_buffer(entries.as_mut_ptr()),
        value(cage, entries.len() as u64 / 8),
        int(cage, milliseconds),
    ];
    match mask {
        None => kernel::call(SYS_POLL, cage, &args),
        Some(mask) => {
            let [entries, count, time] = args;
            let args = [entries, count, time, own_buffer(mask.as_ptr())];
            kernel::call(SYS_PPOLL, cage, &args)
        }
    }
}

/// Whether calls on it are not to wait.
///
/// # Errors
/// As fcntl(2).
pub fn is_nonblocking(fd: CageFd) -> Result<bool, Errno> {
    let args = [fd.arg(), int(fd.cage, fs::F_GETFL), int(fd.cage, 0)];
    Ok(kernel::call(SYS_FCNTL, fd.cage, &args)? & net::SOCK_NONBLOCK != 0)
}

pub use grate_rs::sockets::{is_stream, option, own_name, peer_name};

/// The time that SO_RCVTIMEO or SO_SNDTIMEO sets; none for no limit.
pub fn time_limit(fd: CageFd, name: i32) -> Option<Duration> {
    let time: [u8; 16] = option_bytes(fd, net::SOL_SOCKET, name).ok()?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&time[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let limit = Duration::from_secs(word(0)) + Duration::from_micros(word(8));
    (!limit.is_zero()).then_some(limit)
}

/// Whether a close throws away what has not been sent, and cuts the connection: SO_LINGER with no time.
pub fn is_cut_by_close(fd: CageFd) -> bool {
    const ON_FOR_NO_TIME: [[u8; 4]; 2] = [1i32.to_le_bytes(), 0i32.to_le_bytes()];
    option_bytes::<8>(fd, net::SOL_SOCKET, net::SO_LINGER)
        .is_ok_and(|linger| linger == *ON_FOR_NO_TIME.as_flattened())
}

/// The error that waits at a socket, which is taken.
pub fn take_error(fd: CageFd) -> Result<(), Errno> {
    match option(fd, net::SOL_SOCKET, net::SO_ERROR)? {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    }
}

/// Whether an error says nothing about the connection: that it is not ready, or that a cage that
/// ends has closed this descriptor of it.
pub fn is_for_now(errno: Errno) -> bool {
    matches!(errno.0, error::EAGAIN | error::EINTR | error::EBADF)
}
