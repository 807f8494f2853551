//! Sockets: how they come to be, and the ports that they use.

use super::descriptors::{give, opened, pair};
use super::known::{self, Kind, Known, Permit, Socket};
use super::state;
use grate_rs::constants::{error, net};
use grate_rs::kernel::pass;
use grate_rs::message::MOST_NAME;
use grate_rs::sockets::{address, own_name, port};
use grate_rs::{CageFd, Call, Errno, own_buffer};
use resource_grate::limits::{Count, Port};

const EACCES: Errno = Errno(error::EACCES);
const EINVAL: Errno = Errno(error::EINVAL);

/// Whether a port may be used.
///
/// # Errors
/// `EACCES`.
pub fn is_port(may: bool) -> Result<(), Errno> {
    if may { Ok(()) } else { Err(EACCES) }
}

/// Copies the address of a call, which goes on with the copy, and judges its port.
///
/// # Errors
/// `EACCES`; `EFAULT`, `EINVAL`.
pub fn judge(
    call: &Call,
    index: usize,
    len_index: usize,
    socket: Socket,
) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(call.int(len_index)).map_err(|_| EINVAL)?;
    if len > MOST_NAME {
        return Err(EINVAL);
    }
    let name = call.take_bytes(index, len)?;
    judge_name(&name, socket)?;
    Ok(name)
}

/// Judges the port of an address that was copied.
///
/// # Errors
/// `EACCES`.
pub fn judge_name(name: &[u8], socket: Socket) -> Result<(), Errno> {
    let kind = match socket.is_message {
        true => Port::MessPort,
        false => Port::ConnPort,
    };
    let Some(ports) = state().limits.ports(kind).filter(|_| !socket.is_unix) else {
        return Ok(());
    };
    is_port(port(name).is_some_and(|port| ports.have(port)))
}

/// The socket of a call, unless its descriptor leads to something else: the kernel says of that
/// that it is none.
///
/// # Errors
/// As [`known::hold`].
pub fn socket_of(fd: CageFd) -> Result<Option<Socket>, Errno> {
    let (_, kind) = known::hold(fd)?;
    Ok(match kind {
        Kind::Socket(socket) => Some(socket),
        _ => None,
    })
}

/// Passes on a call with an address that was judged, for the socket that it was judged for.
fn pass_for(call: &Call, fd: CageFd, socket: Socket) -> Result<i32, Errno> {
    let (held, kind) = known::hold(fd)?;
    is_port(kind == Kind::Socket(socket))?;
    // Who waits for a peer keeps nobody from closing: the address is the same for any socket that
    // comes in its place, and has no port that is not allowed for this kind.
    let _held = state().limits_ports().then_some(held);
    pass(call, 0)
}

/// bind: descriptor, address, its length.
pub fn bind(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    match socket_of(fd)? {
        Some(socket) if state().limits_ports() && !socket.is_unix => {
            judge(call, 1, 2, socket)?;
            pass_for(call, fd, socket)
        }
        _ => pass(call, 0),
    }
}

/// connect: descriptor, address, its length. A stream stays with its peer: what was judged to go
/// to this machine must not go to another.
pub fn connect(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let Some(socket) = socket_of(fd)?.filter(|socket| !socket.is_unix) else {
        return pass(call, 0);
    };
    let len = usize::try_from(call.int(2)).map_err(|_| EINVAL)?;
    let name = call.take_bytes(1, len.min(MOST_NAME))?;
    let is_end = name.starts_with(&net::AF_UNSPEC.to_le_bytes());
    if is_end && !socket.is_message && state().limits_sockets() {
        return Err(Errno(error::EOPNOTSUPP));
    }
    if !is_end {
        judge_name(&name, socket)?;
    }
    pass_for(call, fd, socket)
}

/// listen: descriptor, backlog. One that has no port yet gets any.
pub fn listen(call: &Call) -> Result<i32, Errno> {
    const ANY: [u8; 4] = [net::AF_INET as u8, 0, 0, 0];
    let fd = CageFd::of(call, 0);
    let (held, kind) = known::hold(fd)?;
    let Kind::Socket(socket) = kind else {
        return pass(call, 0);
    };
    if !socket.is_unix && address(&own_name(fd)?).is_none_or(|own| own.port() == 0) {
        judge_name(&ANY, socket)?;
    }
    let is_counted = held.what().and_then(Known::counts_as) == Some(Count::InSockets);
    if is_counted || state().counter(Count::InSockets).is_none() {
        return pass(call, 0);
    }
    let permit = Permit::take(Count::InSockets)?;
    let result = pass(call, 0)?;
    state().known.note(fd, Some(Known::new(kind, permit)));
    Ok(result)
}

/// socket: domain, type, protocol.
pub fn socket(call: &Call) -> Result<i32, Errno> {
    let kind = Socket::new(call.int(0), call.int(1) & net::SOCK_TYPE_MASK);
    opened(
        call.cage_of(0),
        Count::OutSockets,
        |_| Ok(Kind::Socket(kind)),
        || pass(call, 0),
    )
}

/// socketpair: domain, type, protocol, where the descriptors go.
pub fn socketpair(call: &Call) -> Result<i32, Errno> {
    let cage = call.cage_of(0);
    let kind = Socket::new(call.int(0), call.int(1) & net::SOCK_TYPE_MASK);
    let permits = [
        Permit::take(Count::OutSockets)?,
        Permit::take(Count::OutSockets)?,
    ];
    let _opening = state().known.opening(cage);
    let mut bytes = [0; 8];
    let mut args = call.args();
    args[3] = own_buffer(bytes.as_mut_ptr());
    // Lind adds the base to this address of another cage by itself.
    args[3].value -= cage_libc::sys::base();
    let result = call.forward_with(cage, &args)?;
    for (fd, permit) in pair(bytes).into_iter().zip(permits) {
        let known = Known::new(Kind::Socket(kind), permit);
        state().known.note(CageFd { cage, fd }, Some(known));
    }
    give(call, 3, cage, bytes)?;
    Ok(result)
}

/// accept: descriptor, where the address goes, where its length is. accept4: the same, and flags.
pub fn accept(call: &Call) -> Result<i32, Errno> {
    let listener = CageFd::of(call, 0);
    let (held, kind) = known::hold(listener)?;
    drop(held);
    opened(
        listener.cage,
        Count::OutSockets,
        |_| Ok(kind),
        || pass(call, 0),
    )
}
