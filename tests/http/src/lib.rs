//! What hyper needs of a system: bytes from a socket, and somebody who waits for them.

#![cfg(target_family = "wasm")]

use cage_libc::net::{SHUT_WR, Socket};
use cage_libc::sys::{self, Errno};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

const EAGAIN: Errno = Errno(11);

/// A connection, which never waits by itself.
#[derive(Debug)]
pub struct Connection(Socket);

impl Connection {
    /// Of a socket that is connected.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn new(socket: Socket) -> Result<Self, Errno> {
        const FIONBIO: u64 = 0x5421;
        let on = 1i32.to_le_bytes();
        let args = [socket.fd() as u64, FIONBIO, sys::address(on.as_ptr())];
        // SAFETY: the number is in this frame.
        unsafe { sys::syscall(16, &args) }?;
        Ok(Self(socket))
    }
}

fn done<T>(result: Result<T, Errno>) -> Poll<io::Result<T>> {
    match result {
        Ok(value) => Poll::Ready(Ok(value)),
        Err(EAGAIN) => Poll::Pending,
        Err(errno) => Poll::Ready(Err(io::Error::other(format!("errno {}", errno.0)))),
    }
}

impl Read for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16 << 10];
        let room = buffer.remaining().min(bytes.len());
        done(self.0.receive(&mut bytes[..room], 0)).map_ok(|len| buffer.put_slice(&bytes[..len]))
    }
}

impl Write for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        done(self.0.send(data, 0))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        done(self.0.shutdown(SHUT_WR))
    }
}

struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future that waits for nothing but one descriptor.
pub fn run<T>(fd: i32, future: impl Future<Output = T>) -> T {
    const POLLIN: u8 = 1;
    const POLLOUT: u8 = 4;
    /// Room to send may be there already while only an answer is waited for.
    const SOON: u64 = 5;
    const FOREVER: u64 = u64::MAX;
    let alarm = Arc::new(Alarm(AtomicBool::new(false)));
    let waker = Waker::from(alarm.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        if !alarm.0.swap(false, Ordering::AcqRel) && !is_ready(fd, POLLIN, SOON) {
            is_ready(fd, POLLIN | POLLOUT, FOREVER);
        }
    }
}

fn is_ready(fd: i32, events: u8, milliseconds: u64) -> bool {
    let mut entry = [0u8; 8];
    entry[..4].copy_from_slice(&fd.to_le_bytes());
    entry[4] = events;
    let at = sys::address(entry.as_mut_ptr());
    // SAFETY: the entry is in this frame.
    unsafe { sys::syscall(7, &[at, 1, milliseconds]) }.is_ok_and(|count| count > 0)
}

/// The byte at a place of what `/bytes/N` answers.
pub fn pattern(at: usize) -> u8 {
    b"0123456789abcdef"[(at ^ (at >> 4) ^ (at >> 9)) % 16]
}
