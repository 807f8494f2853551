//! `words PORT`: sends words to that port of this machine, by a stream and by messages in all ways.
//! Whether anybody understands them is not its affair.

use cage_libc::net::{Address, SOCK_DGRAM, SOCK_STREAM, Socket};
use cage_libc::sys::{self, Errno, address, nr};
use std::net::{Ipv4Addr, SocketAddr};

const AF_INET: i32 = 2;
const WORDS: &[u8] = b"words in the clear";

fn send(port: u16) -> Result<(), Errno> {
    let to = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let vector = [address(WORDS.as_ptr()), WORDS.len() as u64];
    let name = address(to.as_bytes().as_ptr());
    let with_name = [
        name,
        to.as_bytes().len() as u64,
        address(vector.as_ptr()),
        1,
        0,
        0,
        0,
    ];
    let without = [0, 0, address(vector.as_ptr()), 1, 0, 0, 0];
    let call = |number, args: &[u64]| {
        // SAFETY: every address is of a buffer that outlives the call.
        unsafe { sys::syscall(number, args) }
    };
    let socket = Socket::new(AF_INET, SOCK_DGRAM)?;
    let fd = socket.fd() as u64;
    let _ = socket.send_to(WORDS, 0, &to);
    let _ = call(nr::SENDMSG, &[fd, address(with_name.as_ptr()), 0]);
    socket.connect(&to)?;
    let _ = socket.send(WORDS, 0);
    let _ = call(nr::WRITE, &[fd, vector[0], vector[1]]);
    let _ = call(nr::WRITEV, &[fd, address(vector.as_ptr()), 1]);
    let _ = call(nr::SENDMSG, &[fd, address(without.as_ptr()), 0]);
    let copy = call(nr::DUP, &[fd])?;
    let _ = call(nr::WRITE, &[copy as u64, vector[0], vector[1]]);
    if sys::fork()? == 0 {
        let _ = socket.send(WORDS, 0);
        sys::exit(0)
    }
    let _ = sys::waitpid(-1, 0);
    let stream = Socket::new(AF_INET, SOCK_STREAM)?;
    stream.connect(&to)?;
    let _ = stream.send(WORDS, 0);
    Ok(())
}

fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    // A peer that does not answer in the same way ends the connection.
    let _ = send(port.unwrap_or(0));
    println!("sent");
}
