//! Which peers stay in the clear.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Peers by address and port: `ADDR[/LEN][:PORT[-PORT]]`, an IPv6 address in brackets where ports
/// follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    network: IpAddr,
    /// Leading bits that count.
    len: u32,
    ports: RangeInclusive<u16>,
}

impl Peers {
    /// Whether this peer is one of them. An IPv4 address that came in IPv6's form is IPv4.
    pub fn contains(&self, peer: SocketAddr) -> bool {
        self.ports.contains(&peer.port())
            && match (self.network, peer.ip().to_canonical()) {
                (IpAddr::V4(network), IpAddr::V4(ip)) => same_prefix(
                    u128::from(network.to_bits()),
                    u128::from(ip.to_bits()),
                    32,
                    self.len,
                ),
                (IpAddr::V6(network), IpAddr::V6(ip)) => {
                    same_prefix(network.to_bits(), ip.to_bits(), 128, self.len)
                }
                _ => false,
            }
    }
}

/// Whether two numbers of `bits` bits agree in the first `len`.
fn same_prefix(a: u128, b: u128, bits: u32, len: u32) -> bool {
    len == 0 || (a ^ b) >> (bits - len) == 0
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (network, ports) = match text.strip_prefix('[') {
            Some(rest) => {
                let (ip, rest) = rest.split_once(']').ok_or("a [ without its ]")?;
                // The length may stand inside the brackets or behind them.
                let (len, ports) = match rest.split_once(':') {
                    Some((len, ports)) => (len, Some(ports)),
                    None => (rest, None),
                };
                (format!("{ip}{len}"), ports)
            }
            // More than one colon is an IPv6 address without ports.
            None => match text.split_once(':') {
                Some((network, ports)) if !ports.contains(':') => (network.to_owned(), Some(ports)),
                _ => (text.to_owned(), None),
            },
        };
        let (ip, len) = match network.split_once('/') {
            Some((ip, len)) => (ip, Some(len)),
            None => (network.as_str(), None),
        };
        let network: IpAddr = ip
            .parse()
            .map_err(|_| format!("{ip:?} is no IP address (names are not looked up)"))?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let len = match len {
            Some(len) => len
                .parse()
                .ok()
                .filter(|&len| len <= most)
                .ok_or_else(|| format!("the length after / is a number up to {most}"))?,
            None => most,
        };
        let ports = match ports {
            Some(ports) => {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let port = |text: &str| {
                    text.parse::<u16>()
                        .map_err(|_| format!("{text:?} is no port"))
                };
                let ports = port(first)?..=port(last)?;
                if ports.is_empty() {
                    return Err(format!("{first}-{last} has no port in it"));
                }
                ports
            }
            None => 0..=u16::MAX,
        };
        Ok(Self {
            network,
            len,
            ports,
        })
    }
}

/// The address in a `struct sockaddr` of IPv4 or IPv6.
pub fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_le_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ip: IpAddr = match family {
        AF_INET => (*bytes.get(4..)?.first_chunk::<4>()?).into(),
        AF_INET6 => Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(peers: &str, peer: &str) -> bool {
        let peers: Peers = peers.parse().unwrap();
        peers.contains(peer.parse().unwrap())
    }

    #[test]
    fn addresses_networks_and_ports() {
        for (peers, inside, outside) in [
            ("10.1.2.3", "10.1.2.3:7", "10.1.2.4:7"),
            ("10.0.0.0/8", "10.9.9.9:1", "11.0.0.0:1"),
            ("0.0.0.0/0:53", "8.8.8.8:53", "8.8.8.8:54"),
            ("127.0.0.1:100-200", "127.0.0.1:200", "127.0.0.1:201"),
            ("127.0.0.1", "[::ffff:127.0.0.1]:5", "[::1]:5"),
            ("::1", "[::1]:80", "[::2]:80"),
            ("[fd00::]/8:443", "[fd12::9]:443", "[fd12::9]:80"),
            ("[fd00::/8]:443", "[fdff::9]:443", "[fe00::9]:443"),
            ("::/0", "[2001:db8::1]:9", "1.2.3.4:9"),
        ] {
            assert!(contains(peers, inside), "{peers} {inside}");
            assert!(!contains(peers, outside), "{peers} {outside}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("example.org:80", "no IP address"),
            ("10.0.0.0/33", "up to 32"),
            ("::/129", "up to 128"),
            ("10.0.0.1:http", "no port"),
            ("10.0.0.1:9-8", "has no port in it"),
            ("10.0.0.1:70000", "no port"),
            ("[::1", "without its ]"),
            ("", "no IP address"),
        ] {
            let error = text.parse::<Peers>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_as_the_kernel_has_them() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(socket_address(&v4), Some("127.0.0.1:8080".parse().unwrap()));
        let mut v6 = [0; 28];
        v6[0] = 10;
        v6[3] = 80;
        v6[23] = 1;
        assert_eq!(socket_address(&v6), Some("[::1]:80".parse().unwrap()));
        for len in 0..8 {
            assert_eq!(socket_address(&v4[..len]), None);
        }
        assert_eq!(socket_address(&v6[..20]), None);
        assert_eq!(socket_address(&[1, 0, b'/', b'x', 0, 0, 0, 0]), None);
    }
}
