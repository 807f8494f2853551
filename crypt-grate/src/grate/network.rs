//! The network, which is closed: what a program sends is not sealed yet, and must not leave in the
//! clear.

use super::kernel;
use super::state;
use grate_rs::constants::{SYS_GETSOCKNAME, error, net};
use grate_rs::{CageFd, Call, Errno, own_buffer};

/// socket: family, type, protocol. UNIX sockets pass: they stay among programs of this machine.
pub fn socket(call: &Call) -> Result<i32, Errno> {
    if call.int(0) == net::AF_UNIX {
        return call.forward(call.cage_of(0));
    }
    state().explain(format_args!(
        "socket: closed: the network would see plaintext"
    ));
    Err(Errno(error::EAFNOSUPPORT))
}

/// accept and accept4: a listening socket that was handed to the program may be of the network.
pub fn accept(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    if family(fd)? == net::AF_UNIX {
        return call.forward(call.cage_of(0));
    }
    state().explain(format_args!(
        "accept: closed: the network would see plaintext"
    ));
    Err(Errno(error::EACCES))
}

/// The address family of a socket.
fn family(fd: CageFd) -> Result<i32, Errno> {
    let mut address = [0u8; 128];
    let mut len = (address.len() as u32).to_le_bytes();
    let args = [
        fd.arg(),
        own_buffer(address.as_mut_ptr()),
        own_buffer(len.as_mut_ptr()),
    ];
    kernel::call(SYS_GETSOCKNAME, fd.cage, &args)?;
    Ok(i32::from(u16::from_le_bytes([address[0], address[1]])))
}
