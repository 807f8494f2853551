//! Who is at the other end of a socket.

use grate_rs::CageFd;
use grate_rs::constants::net::AF_UNIX;
use grate_rs::sockets::{address, family, own_name, peer_name};
use std::net::SocketAddr;

/// Whether it is a UNIX socket.
pub fn is_unix(fd: CageFd) -> bool {
    own_name(fd).is_ok_and(|own| family(&own) == Some(AF_UNIX))
}

/// Whether it is a socket that has a peer.
pub fn is_connected(fd: CageFd) -> bool {
    peer_name(fd).is_ok()
}

/// The peer of a socket that is connected by IPv4 or IPv6.
pub fn peer(fd: CageFd) -> Option<SocketAddr> {
    address(&peer_name(fd).ok()?)
}
