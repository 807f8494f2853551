//! What programs ask of sockets, and set.

use super::{Kind, Socket, Stream, below};
use crate::grate::state;
use crate::grate::state::lock;
use grate_rs::constants::{error, net};
use grate_rs::kernel::pass;
use grate_rs::{CageFd, Call, Errno};
use sealed::wire::DATAGRAM_OVERHEAD;

/// What the path takes, and how it is found out (ip(7), ipv6(7)).
const IP_MTU: i32 = 14;
const IPV6_MTU: i32 = 24;
/// Data in the first packet of a connection.
const TCP_FASTOPEN: i32 = 23;
const TCP_FASTOPEN_CONNECT: i32 = 30;

/// shutdown: descriptor, which directions.
pub fn shutdown(call: &Call) -> Result<i32, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    let Some(socket) = state.socket(fd) else {
        return pass(call, 0);
    };
    let how = call.int(1);
    let done = socket.with_link(|link| {
        // The kernel knows the error for a connection that is none, and for another direction.
        let is_here = link.is_connected()
            && below::peer_name(fd).is_ok()
            && matches!(how, net::SHUT_RD | net::SHUT_WR | net::SHUT_RDWR);
        if is_here {
            link.shut_down(fd, how);
        }
        is_here
    });
    if done == Some(true) {
        state.network.pump.watch(&socket);
        return Ok(0);
    }
    pass(call, 0)
}

/// getsockopt: descriptor, level, name, where the value goes, where its length is.
pub fn getsockopt(call: &Call) -> Result<i32, Errno> {
    let Some(socket) = state().socket(CageFd::of(call, 0)) else {
        return pass(call, 0);
    };
    match (call.int(1), call.int(2)) {
        (net::SOL_SOCKET, net::SO_ERROR) => {
            let failure = socket.with_link(|link| link.take_failure()).flatten();
            // The kernel's own is taken in any case.
            let result = pass(call, 0)?;
            if let Some(errno) = failure {
                give_int(call, errno.0)?;
            }
            Ok(result)
        }
        (net::IPPROTO_IP, IP_MTU) | (net::IPPROTO_IPV6, IPV6_MTU)
            if matches!(socket.kind, Kind::Messages(_)) =>
        {
            let result = pass(call, 0)?;
            let mtu = i32::from_le_bytes(call.place(3).read()?);
            give_int(call, mtu - DATAGRAM_OVERHEAD as i32)?;
            Ok(result)
        }
        _ => pass(call, 0),
    }
}

/// Puts a number where the kernel has put another, as far as there is room.
fn give_int(call: &Call, number: i32) -> Result<(), Errno> {
    let room = u32::from_le_bytes(call.place(4).read()?).min(4) as usize;
    call.place(3).write(&number.to_le_bytes()[..room])
}

/// setsockopt: descriptor, level, name, where the value is, its length.
pub fn setsockopt(call: &Call) -> Result<i32, Errno> {
    let (_held, Some(socket)) = state().hold_socket(CageFd::of(call, 0))? else {
        return pass(call, 0);
    };
    match (call.int(1), call.int(2)) {
        (
            net::SOL_SOCKET,
            net::SO_RCVTIMEO
            | net::SO_SNDTIMEO
            | net::SO_RCVTIMEO_NEW
            | net::SO_SNDTIMEO_NEW
            | net::SO_LINGER,
        ) => {
            let result = pass(call, 0)?;
            socket.set_tuned();
            Ok(result)
        }
        (net::IPPROTO_TCP, TCP_FASTOPEN | TCP_FASTOPEN_CONNECT) => Err(Errno(error::ENOPROTOOPT)),
        _ => pass(call, 0),
    }
}

/// ioctl with FIONREAD, on a socket: how much can be read now. Of a stream at most what the grate
/// has opened counts.
pub fn fionread(call: &Call, socket: &Socket) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let len = match &socket.kind {
        Kind::Messages(messages) => lock(messages).next_len(fd),
        Kind::Stream(stream) => match &mut *lock(stream) {
            Stream::Sealed(link) => {
                link.service(fd);
                link.plaintext_len()
            }
            Stream::Idle | Stream::Plain => return pass(call, 0),
        },
    };
    call.place(2).write(&(len as i32).to_le_bytes())?;
    Ok(0)
}
