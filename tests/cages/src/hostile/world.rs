//! Well-formed arguments for every call, by the table of calls: what a wild one stands beside.

use super::gate::*;
use cage_libc::sys::{address, nr};
use calls::{Entry, Kind, Struct};

/// The calls that can be made here, but for those of 3i: how these name cages is their own.
pub fn served() -> impl Iterator<Item = &'static Entry> {
    let strict = strict();
    calls::CALLS.iter().filter(move |entry| {
        let there = if strict {
            entry.is_ours() && entry.is_on_lind()
        } else {
            entry.is_ours()
        };
        there && !(1001..=1003).contains(&entry.nr)
    })
}

/// Whether an argument means something of the cage beside it.
pub fn names_a_cage(kind: Kind) -> bool {
    kind.is_address() || kind.is_descriptor()
}

/// Memory that arguments point to: a place of a page for each.
#[derive(Clone, Copy)]
pub struct Arena(*mut u8);

impl Arena {
    pub const SLOT: usize = 4096;
    pub const SLOTS: usize = 16;
    pub const LEN: usize = Self::SLOT * Self::SLOTS;
    /// In the slot of a structure: what its addresses lead to.
    pub const INNER: usize = 1024;

    /// Of a cage's own, or shared with those that it forks.
    pub fn new(shared: bool) -> Result<Self, String> {
        fenced(Self::LEN, shared).map(Self)
    }

    pub fn address(self, slot: usize) -> u64 {
        assert!(slot < Self::SLOTS);
        address(self.0) + (slot * Self::SLOT) as u64
    }

    /// Writes to a slot, and answers its address.
    pub fn put(self, slot: usize, at: usize, bytes: &[u8]) -> u64 {
        assert!(slot < Self::SLOTS && at + bytes.len() <= Self::SLOT);
        // SAFETY: inside the arena, which is never unmapped; no reference to it is held. Others
        // may write there meanwhile, and all it means is bytes.
        unsafe {
            let to = self.0.add(slot * Self::SLOT + at);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.address(slot) + at as u64
    }
}

/// Descriptors of every kind, and an arena.
pub struct World {
    pub arena: Arena,
    pub file: i32,
    pub directory: i32,
    /// Its end to read from, and to write to.
    pub pipe: [i32; 2],
    pub pair: [i32; 2],
    pub datagram: i32,
    pub listener: i32,
    pub epoll: i32,
}

const O_NONBLOCK: i32 = 0o4000;
const SOCK_NONBLOCK: i32 = 0o4000;

fn made(what: &str, result: i32) -> Result<i32, String> {
    if result < 0 {
        return Err(format!("{what}: {result}"));
    }
    Ok(result)
}

impl World {
    /// `name` is that of the file.
    pub fn new(name: &str, shared: bool) -> Result<Self, String> {
        let arena = Arena::new(shared)?;
        let path = format!("/open/{name}.log\0");
        let flags = int(O_RDWR | O_CREAT);
        let file = call(nr::OPEN, &[address(path.as_ptr()), flags, 0o644]);
        let file = made("open", file)?;
        let directory = made("open /open", open(c"/open", O_DIRECTORY, 0))?;
        let mut ends = [0i32; 2];
        let there = address(ends.as_mut_ptr());
        made("pipe", call(nr::PIPE2, &[there, int(O_NONBLOCK)]))?;
        let pipe = ends;
        let kind = int(1 | SOCK_NONBLOCK);
        made("socketpair", call(nr::SOCKETPAIR, &[1, kind, 0, there]))?;
        let pair = ends;
        let inet = |kind: i32| call(nr::SOCKET, &[2, int(kind | SOCK_NONBLOCK), 0]);
        let datagram = made("socket", inet(2))?;
        let listener = made("socket", inet(1))?;
        made("listen", call(nr::LISTEN, &[int(listener), 1]))?;
        let epoll = made("epoll", call(nr::EPOLL_CREATE1, &[0]))?;
        Ok(Self {
            arena,
            file,
            directory,
            pipe,
            pair,
            datagram,
            listener,
            epoll,
        })
    }

    /// A descriptor that the call is about.
    fn fd(&self, number: u32) -> i32 {
        match number {
            43 | 50 | 288 => self.listener,
            42 | 49 | 51 | 54 | 55 => self.datagram,
            44..=48 | 52 => self.pair[0],
            78 | 81 => self.directory,
            232 | 281 => self.epoll,
            _ => self.file,
        }
    }

    /// Every argument of a call as a well-behaved program has it. Nothing that would wait does.
    pub fn arguments(&self, entry: &Entry) -> Vec<u64> {
        (0..entry.args.len())
            .map(|index| self.argument(entry, index))
            .collect()
    }

    pub fn argument(&self, entry: &Entry, index: usize) -> u64 {
        let number = entry.nr;
        let before = index.checked_sub(1).map(|before| entry.args[before]);
        let place = self.arena.address(index);
        match entry.args[index] {
            Kind::Fd if number == 233 && index == 0 => int(self.epoll),
            Kind::Fd if number == 233 => int(self.pipe[0]),
            Kind::Fd if number == 9 => int(-1),
            Kind::Fd if matches!(number, 33 | 292) && index == 1 => 90,
            Kind::Fd => int(self.fd(number)),
            Kind::DirFd => int(AT_FDCWD),
            Kind::Int => match (number, before) {
                (_, Some(Kind::VectorsIn | Kind::VectorsOut | Kind::List(..))) => 1,
                (54 | 55, _) => [0, 1, 2][index],
                (23 | 270, _) => 8,
                (50 | 213, _) => 1,
                (233, _) => 1,
                (60 | 231, _) => 42,
                // Who it is already.
                (92 | 93 | 94 | 260, _) => int(-1),
                _ => 0,
            },
            Kind::Thread => 1,
            Kind::Pid if number == 61 => int(-1),
            Kind::Pid => cage_libc::sys::own_id(),
            Kind::Size => match before {
                Some(Kind::BytesIn) if number == 54 => 4,
                Some(Kind::BytesIn | Kind::BytesOut | Kind::BytesInOut) => 64,
                Some(Kind::SocketAddress) => 16,
                Some(Kind::PathOut) => 256,
                Some(Kind::List(..)) => 1,
                Some(Kind::Struct(_, Struct::SigSet)) => 8,
                _ => 4096,
            },
            Kind::Offset => 0,
            Kind::Bits => match number {
                61 => 1,
                44..=47 => 0x40,
                202 => 1,
                73 => 4 | 1,
                332 => 0x7ff,
                _ => 0,
            },
            Kind::Mode if number == 133 => 0o100_644,
            Kind::Mode if matches!(number, 21 | 269) => 4,
            Kind::Mode => 0o755,
            Kind::OpenFlags if matches!(number, 2 | 257) => int(O_RDWR | O_CREAT),
            Kind::OpenFlags | Kind::AtFlags | Kind::Whence | Kind::Place => 0,
            Kind::Prot => 3,
            Kind::MapFlags => 0x22,
            // F_GETLK: the one whose structure counts on every runtime.
            Kind::FcntlCommand => 5,
            Kind::IoctlRequest => 0x541b,
            // SIGUSR1.
            Kind::Signal if number == 13 => 10,
            Kind::Signal => 0,
            Kind::Clock => 1,
            Kind::Family | Kind::SocketType => 1,
            // Unmapped or protected without harm.
            Kind::Pages => self.arena.address(Arena::SLOTS - 1),
            Kind::Address | Kind::BytesOut | Kind::PathOut | Kind::SocketAddressOut => place,
            Kind::Path => {
                let name: &[u8] = match number {
                    // There is nothing to run in a file of no bytes.
                    59 => b"/open/empty\0",
                    80 => b"/open\0",
                    _ if index > 1 || before == Some(Kind::Path) => b"/open/second.log\0",
                    _ => b"/open/first.log\0",
                };
                self.arena.put(index, 0, name)
            }
            Kind::Text => self.arena.put(index, 0, b"first.log\0"),
            Kind::BytesIn | Kind::BytesInOut => self.arena.put(index, 0, &MARK.repeat(2)),
            Kind::VectorsIn | Kind::VectorsOut => self.vectors(index, 64),
            Kind::Strings => self.arena.put(index, 0, &[0; 8]),
            Kind::SocketAddress => self.arena.put(index, 0, &loopback(9)),
            Kind::Struct(_, what) | Kind::List(_, what) => self.structure(index, what),
        }
    }

    fn vectors(&self, slot: usize, len: u64) -> u64 {
        let inner = self.arena.put(slot, Arena::INNER, &MARK.repeat(2));
        let vector = [inner.to_le_bytes(), len.to_le_bytes()].concat();
        self.arena.put(slot, 0, &vector)
    }

    fn structure(&self, slot: usize, what: Struct) -> u64 {
        let mut bytes = vec![0; what.size()];
        match what {
            // Of a socket's address.
            Struct::Word => bytes[0] = 110,
            Struct::PollFd => {
                bytes[..4].copy_from_slice(&self.pipe[0].to_le_bytes());
                bytes[4] = 1;
            }
            Struct::EpollEvent => bytes[0] = 1,
            Struct::MsgHdr => {
                let inner = self.arena.put(slot, 2 * Arena::INNER, &MARK.repeat(2));
                let vector = [inner.to_le_bytes(), 64u64.to_le_bytes()].concat();
                let vectors = self.arena.put(slot, Arena::INNER, &vector);
                bytes[16..24].copy_from_slice(&vectors.to_le_bytes());
                bytes[24] = 1;
            }
            Struct::SigSetPlace => bytes[8] = 8,
            Struct::AeadJob | Struct::ChunksJob => bytes[1] = 12,
            _ => {}
        }
        self.arena.put(slot, 0, &bytes)
    }
}

/// An IPv4 address of this machine.
pub fn loopback(port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}
