//! Where a rule applies.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use globset::{Candidate, GlobBuilder, GlobMatcher};

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'p> {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A pipe, a terminal, or whatever else bytes stream into.
    Pipe,
    /// A UNIX socket.
    Unix,
    /// Another socket, with the peer if that is known.
    Socket(Option<SocketAddr>),
    /// A regular file: its absolute path without symlinks.
    File(&'p [u8]),
}

/// Where a rule applies: everywhere, or at the places that its parts name.
#[derive(Clone, Debug, Default)]
pub struct Scope(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Stdout,
    Stderr,
    Pipe,
    Socket,
    Peer(Peers),
    Path(GlobMatcher),
}

/// A range of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peers {
    /// An address, and how many of its first bits count; all addresses if there is none.
    net: Option<(IpAddr, u32)>,
    ports: RangeInclusive<u16>,
}

/// A part of a scope that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// No place is written so.
    #[error(
        "unknown scope `{0}`; use stdout, stderr, pipe, socket, socket:ADDR[/LEN][:PORT[-PORT]], \
         or a path that begins with / and may hold *, ** and ?"
    )]
    Unknown(String),
    /// A range of peers is wrong.
    #[error(
        "`{0}` names no peers; write socket:ADDR[/LEN][:PORT[-PORT]], with * for every address \
         and an IPv6 address in brackets"
    )]
    Peers(String),
    /// A glob is wrong.
    #[error("the path `{0}` does not compile: {1}; correct it")]
    Glob(String, String),
    /// A list without parts.
    #[error("the scope is empty; name a place, or leave it out for all")]
    Empty,
}

impl Scope {
    /// Every place.
    pub const EVERYWHERE: Self = Self(Vec::new());

    /// What its parts name together.
    ///
    /// # Errors
    /// The first part that is wrong, or that there is none.
    pub fn new<'s>(parts: impl IntoIterator<Item = &'s str>) -> Result<Self, ScopeError> {
        let parts: Vec<_> = parts
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if parts.is_empty() {
            return Err(ScopeError::Empty);
        }
        Ok(Self(parts))
    }

    /// Whether it covers a place. Where the peer of a socket is not known, it may be any.
    pub fn covers(&self, place: Place<'_>) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| part.covers(place))
    }

    /// Whether it covers any regular files.
    pub fn has_files(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| matches!(part, Part::Path(_)))
    }

    /// Whether it tells regular files apart by their paths.
    pub fn names_paths(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Path(_)))
    }

    /// Whether it tells sockets apart by their peers.
    pub fn names_peers(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Peer(_)))
    }
}

impl Part {
    fn covers(&self, place: Place<'_>) -> bool {
        match (self, place) {
            (Self::Stdout, Place::Stdout)
            | (Self::Stderr, Place::Stderr)
            | (Self::Pipe, Place::Pipe)
            | (Self::Socket, Place::Unix | Place::Socket(_))
            | (Self::Peer(_), Place::Socket(None)) => true,
            (Self::Peer(peers), Place::Socket(Some(peer))) => peers.contain(peer),
            (Self::Path(glob), Place::File(path)) => {
                glob.is_match_candidate(&Candidate::from_bytes(path))
            }
            _ => false,
        }
    }
}

impl FromStr for Part {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Ok(match text {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "pipe" => Self::Pipe,
            "socket" => Self::Socket,
            path if path.starts_with('/') => Self::Path(path_glob(path)?),
            _ => match text.strip_prefix("socket:") {
                Some(peers) => Self::Peer(
                    Peers::parse(peers).ok_or_else(|| ScopeError::Peers(text.to_owned()))?,
                ),
                None => return Err(ScopeError::Unknown(text.to_owned())),
            },
        })
    }
}

/// Compiles a glob over absolute paths: `*` and `?` stay inside one name, `**` does not.
///
/// # Errors
/// [`ScopeError::Glob`] where it does not compile.
pub fn path_glob(text: &str) -> Result<GlobMatcher, ScopeError> {
    let failed = |why: &dyn fmt::Display| ScopeError::Glob(text.to_owned(), why.to_string());
    if !text.starts_with('/') {
        return Err(failed(&"it does not begin with /"));
    }
    let glob = GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build();
    match glob {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(failed(error.kind())),
    }
}

impl Peers {
    fn parse(text: &str) -> Option<Self> {
        // Where the address ends: behind the bracket of an IPv6 address, else before a colon.
        let (address, rest) = match text.strip_prefix('[') {
            Some(text) => text.split_once(']')?,
            None => text.split_at(text.find(['/', ':']).unwrap_or(text.len())),
        };
        let (len, ports) = match rest.split_once(':') {
            Some((len, ports)) => (len, parse_ports(ports)?),
            None => (rest, 0..=u16::MAX),
        };
        let len = match len {
            "" => None,
            len => Some(len.strip_prefix('/')?.parse().ok()?),
        };
        let net = match (address, len) {
            ("*", None) => None,
            ("*", Some(_)) => return None,
            (address, len) => {
                let address: IpAddr = address.parse().ok()?;
                if address.is_ipv6() != text.starts_with('[') {
                    return None;
                }
                let bits = if address.is_ipv4() { 32 } else { 128 };
                let len = len.unwrap_or(bits);
                if len > bits {
                    return None;
                }
                Some((address, len))
            }
        };
        Some(Self { net, ports })
    }

    fn contain(&self, peer: SocketAddr) -> bool {
        let inside = |(net, len): (IpAddr, u32)| match (net, peer.ip().to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differ = u32::from(net) ^ u32::from(ip);
                differ.checked_shr(32 - len).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differ = u128::from(net) ^ u128::from(ip);
                differ.checked_shr(128 - len).unwrap_or(0) == 0
            }
            // A net of mapped addresses, written out.
            (IpAddr::V6(net), IpAddr::V4(ip)) => {
                let differ = u128::from(net) ^ u128::from(ip.to_ipv6_mapped());
                differ.checked_shr(128 - len).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        };
        self.ports.contains(&peer.port()) && self.net.is_none_or(inside)
    }
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(parts: &[&str]) -> Scope {
        Scope::new(parts.iter().copied()).unwrap()
    }

    #[test]
    fn parts_cover_their_places_and_no_others() {
        let places = [
            Place::Stdout,
            Place::Stderr,
            Place::Pipe,
            Place::Unix,
            Place::Socket(None),
            Place::File(b"/data/a.log"),
        ];
        for (part, covered) in [
            ("stdout", [true, false, false, false, false, false]),
            ("stderr", [false, true, false, false, false, false]),
            ("pipe", [false, false, true, false, false, false]),
            ("socket", [false, false, false, true, true, false]),
            ("socket:10.0.0.1", [false, false, false, false, true, false]),
            ("/data/*", [false, false, false, false, false, true]),
        ] {
            assert_eq!(places.map(|place| scope(&[part]).covers(place)), covered);
        }
        assert!(places.iter().all(|place| Scope::EVERYWHERE.covers(*place)));
        assert!(scope(&["stdout", "stderr"]).covers(Place::Stderr));
    }

    #[test]
    fn paths_are_globs() {
        for (glob, path, covered) in [
            ("/data/*", "/data/a", true),
            ("/data/*", "/data/a/b", false),
            ("/data/**", "/data/a/b", true),
            ("/data/**", "/data2/a", false),
            ("/**", "/a", true),
            ("/**/*.log", "/a.log", true),
            ("/**/*.log", "/a/b/c.log", true),
            ("/data/?.log", "/data/a.log", true),
            ("/data/?.log", "/data/ab.log", false),
            ("/data/{a,b}", "/data/b", true),
            ("/data/\\*", "/data/*", true),
            ("/data/\\*", "/data/x", false),
        ] {
            let place = Place::File(path.as_bytes());
            assert_eq!(scope(&[glob]).covers(place), covered, "{glob} {path}");
        }
        assert!(scope(&["/data/*"]).covers(Place::File(b"/data/\xff")));
    }

    #[test]
    fn peers_are_ranges() {
        for (part, peer, covered) in [
            ("socket:10.1.2.3", "10.1.2.3:1", true),
            ("socket:10.1.2.3", "10.1.2.4:1", false),
            ("socket:10.1.2.3/8", "10.9.9.9:1", true),
            ("socket:10.1.2.3/8", "11.1.2.3:1", false),
            ("socket:10.1.2.3/0", "11.1.2.3:1", true),
            ("socket:10.1.2.3:80", "10.1.2.3:80", true),
            ("socket:10.1.2.3:80", "10.1.2.3:81", false),
            ("socket:10.0.0.0/8:80-90", "10.1.2.3:90", true),
            ("socket:10.0.0.0/8:80-90", "10.1.2.3:91", false),
            ("socket:*:443", "[::1]:443", true),
            ("socket:*", "1.1.1.1:443", true),
            ("socket:[2001:db8::]/32:443", "[2001:db8:1::1]:443", true),
            ("socket:[2001:db8::]/32:443", "[2001:db9:1::1]:443", false),
            ("socket:[::1]", "[::1]:9", true),
            ("socket:10.1.2.3", "[::ffff:10.1.2.3]:9", true),
            ("socket:[::ffff:10.1.2.0]/120", "[::ffff:10.1.2.3]:9", true),
        ] {
            let place = Place::Socket(Some(peer.parse().unwrap()));
            assert_eq!(scope(&[part]).covers(place), covered, "{part} {peer}");
        }
    }

    #[test]
    fn wrong_parts_are_told() {
        for text in [
            "",
            "stdin",
            "files",
            "data/*",
            "socket:",
            "socket:x",
            "socket:1.2.3.4/33",
            "socket:1.2.3.4/",
            "socket:1.2.3.4:",
            "socket:1.2.3.4:2-1",
            "socket:1.2.3.4:65536",
            "socket:::1",
            "socket:[::1",
            "socket:[::1]/129",
            "socket:[1.2.3.4]",
            "socket:*/8",
            "socket:1.2.3.4:1:2",
            "/a/[",
            "/a/{b",
        ] {
            assert!(Scope::new([text]).is_err(), "{text}");
        }
        assert_eq!(Scope::new([]).unwrap_err(), ScopeError::Empty);
    }
}
