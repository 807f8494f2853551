//! The network's interfaces and their addresses, as cages are told of them.

use crate::errno::last_error;
use crate::net::Net;
use rustix::io::Errno;
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the interface that leads to this machine alone.
const LOOPBACK: &[u8] = b"lo";

/// An interface. Its address below IP is nobody's business: it tells machines apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: Vec<u8>,
    /// Its number.
    pub index: u32,
    /// `IFF_UP` and so on.
    pub flags: u32,
    /// `ARPHRD_ETHER` and so on.
    pub kind: u16,
    /// Bytes of its address below IP.
    pub address_len: usize,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The number of its interface.
    pub index: u32,
    /// What it is called: the interface's name, or that with a label.
    pub label: Vec<u8>,
    /// The address.
    pub address: IpAddr,
    /// How many of its first bits are the network's.
    pub prefix: u8,
    /// Where all of an IPv4 network hear.
    pub broadcast: Option<Ipv4Addr>,
}

/// All interfaces, and all addresses.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// The interfaces.
    pub links: Vec<Link>,
    /// Their addresses.
    pub addresses: Vec<Address>,
}

impl Interfaces {
    /// Those that the network has.
    ///
    /// # Errors
    /// As getifaddrs(3).
    pub fn of(net: Net) -> Result<Self, Errno> {
        let mut all = match net {
            Net::None => Self::default(),
            Net::Loopback | Net::All => Self::of_the_host()?,
        };
        if net == Net::Loopback {
            all.links.retain(|link| link.name == LOOPBACK);
            let is_there = |index| all.links.iter().any(|link| link.index == index);
            all.addresses
                .retain(|one| is_there(one.index) && one.address.is_loopback());
        }
        Ok(all)
    }

    fn of_the_host() -> Result<Self, Errno> {
        struct List(*mut libc::ifaddrs);
        impl Drop for List {
            fn drop(&mut self) {
                // SAFETY: it is from getifaddrs, and nobody has it any more.
                unsafe { libc::freeifaddrs(self.0) }
            }
        }
        let mut list = List(std::ptr::null_mut());
        // SAFETY: there is a place for the list.
        if unsafe { libc::getifaddrs(&raw mut list.0) } != 0 {
            return Err(last_error());
        }
        let mut all = Self::default();
        let mut named = Vec::new();
        let mut next = list.0;
        // SAFETY: the list ends with a null pointer, and is there as long as `list`.
        while let Some(entry) = unsafe { next.as_ref() } {
            next = entry.ifa_next;
            // SAFETY: a name ends with a NUL.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) }
                .to_bytes()
                .to_vec();
            // SAFETY: they are null or of the length that their family has.
            let (address, mask, broadcast) = unsafe {
                (
                    sockaddr(entry.ifa_addr),
                    sockaddr(entry.ifa_netmask),
                    sockaddr(entry.ifa_ifu),
                )
            };
            match address {
                Some(Sockaddr::Link(index, kind, address_len)) => all.links.push(Link {
                    name,
                    index,
                    flags: entry.ifa_flags,
                    kind,
                    address_len,
                }),
                Some(Sockaddr::Ip(address)) => {
                    let can_broadcast = entry.ifa_flags & libc::IFF_BROADCAST as u32 != 0;
                    let broadcast = match broadcast {
                        Some(Sockaddr::Ip(IpAddr::V4(all))) if can_broadcast => Some(all),
                        _ => None,
                    };
                    named.push((name, address, prefix(mask.as_ref()), broadcast));
                }
                None => {}
            }
        }
        for (label, address, prefix, broadcast) in named {
            // What is behind a colon tells addresses of one interface apart.
            let name = label.split(|&byte| byte == b':').next().unwrap_or_default();
            if let Some(link) = all.links.iter().find(|link| link.name == name) {
                all.addresses.push(Address {
                    index: link.index,
                    label,
                    address,
                    prefix,
                    broadcast,
                });
            }
        }
        Ok(all)
    }
}

/// What a `struct sockaddr` of the list says.
enum Sockaddr {
    /// Number, kind and length of an interface's own address.
    Link(u32, u16, usize),
    Ip(IpAddr),
}

/// # Safety
/// The address is null, or has as many bytes as its family has.
unsafe fn sockaddr(at: *const libc::sockaddr) -> Option<Sockaddr> {
    // SAFETY: the caller's.
    unsafe {
        match i32::from(at.as_ref()?.sa_family) {
            libc::AF_PACKET => {
                let link = at.cast::<libc::sockaddr_ll>().read_unaligned();
                let index = u32::try_from(link.sll_ifindex).ok()?;
                Some(Sockaddr::Link(
                    index,
                    link.sll_hatype,
                    link.sll_halen.into(),
                ))
            }
            libc::AF_INET => {
                let address = at.cast::<libc::sockaddr_in>().read_unaligned();
                let bits = u32::from_be(address.sin_addr.s_addr);
                Some(Sockaddr::Ip(Ipv4Addr::from_bits(bits).into()))
            }
            libc::AF_INET6 => {
                let address = at.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Sockaddr::Ip(
                    Ipv6Addr::from(address.sin6_addr.s6_addr).into(),
                ))
            }
            _ => None,
        }
    }
}

/// The bits of a mask.
fn prefix(mask: Option<&Sockaddr>) -> u8 {
    let bits = match mask {
        Some(Sockaddr::Ip(IpAddr::V4(mask))) => mask.to_bits().leading_ones(),
        Some(Sockaddr::Ip(IpAddr::V6(mask))) => mask.to_bits().leading_ones(),
        Some(Sockaddr::Link(..)) | None => 0,
    };
    bits as u8 // At most 128.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_interfaces() {
        let all = Interfaces::of(Net::All).unwrap();
        let inside = Interfaces::of(Net::Loopback).unwrap();
        let none = Interfaces::of(Net::None).unwrap();
        let [link] = &inside.links[..] else {
            panic!("{inside:?}");
        };
        assert_eq!(link.name, LOOPBACK);
        assert!(all.links.contains(link));
        let local = |one: &&Address| one.address == IpAddr::V4(Ipv4Addr::LOCALHOST);
        let [one] = inside.addresses.iter().filter(local).collect::<Vec<_>>()[..] else {
            panic!("{inside:?}");
        };
        assert_eq!((one.prefix, one.broadcast), (8, None));
        assert_eq!((&one.label[..], one.index), (LOOPBACK, link.index));
        assert!(
            inside
                .addresses
                .iter()
                .all(|one| all.addresses.contains(one))
        );
        assert!(inside.addresses.iter().all(|one| one.address.is_loopback()));
        assert!(none.links.is_empty() && none.addresses.is_empty());
    }
}
