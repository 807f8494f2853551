//! Random socket calls: the same seed makes the same calls, in a cage or on the host's kernel, and
//! each is told with all that a program can see of its outcome. Part of the program of that name
//! and of the test that compares it with the host.
//!
//! Nothing waits. What is in flight stays far below what buffers hold, and TCP sends at once, so
//! that the same calls have the same results.

use std::collections::HashMap;
use std::fmt::Write as _;

/// What answers system calls.
pub trait Kernel {
    /// Makes a call; its result or error number.
    ///
    /// # Safety
    /// Addresses among the arguments must be good for what the call does, or lie where nothing is.
    unsafe fn call(&self, nr: u32, args: &[u64]) -> Result<i32, i32>;

    /// An address as calls take it.
    fn address(&self, pointer: *const u8) -> u64;

    /// An address where nothing is.
    fn nowhere(&self) -> u64;

    /// Waits until what is under way between two ends has arrived, where that takes time.
    fn settle(&self) {}
}

/// Repeatable, and good enough to pick calls with.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// An `int` argument.
fn int(value: i32) -> u64 {
    i64::from(value) as u64
}

/// Short for bytes.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What an open descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socket { family: i32, kind: i32 },
    Pipe,
    Epoll,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// What it is called in the story; descriptors differ.
    name: u32,
    fd: i32,
    kind: Kind,
    listens: bool,
}

const UNIX: i32 = 1;
const INET: i32 = 2;
const INET6: i32 = 10;
const STREAM: i32 = 1;
const DATAGRAM: i32 = 2;
const SEQUENCED: i32 = 5;
const NONBLOCK: i32 = 0o4000;
const DONTWAIT: i32 = 0x40;
const ADDRESS_ROOM: usize = 128;

/// Bytes of a `struct sockaddr_un`.
const UNIX_ADDRESS: usize = 110;

/// Most descriptors at a time.
const MAX_OPEN: usize = 24;
/// Names of UNIX sockets.
const PATHS: [&str; 4] = ["one", "two", "three", "four"];

/// Makes calls and tells of them.
pub struct Player<'k> {
    kernel: &'k dyn Kernel,
    dice: Dice,
    /// Where UNIX sockets are bound, with a slash behind it.
    directory: String,
    open: Vec<Open>,
    next_name: u32,
    /// Addresses that sockets were found to have, by what they are called in the story.
    addresses: Vec<Vec<u8>>,
    ports: HashMap<u16, usize>,
    wide: bool,
}

impl<'k> Player<'k> {
    /// One for a seed, in a directory; a wide one also makes calls that Lind lacks.
    pub fn new(kernel: &'k dyn Kernel, directory: &str, seed: u64, wide: bool) -> Self {
        Self {
            kernel,
            // Xorshift must not start at 0.
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            directory: format!("{directory}/"),
            open: Vec::new(),
            next_name: 0,
            addresses: Vec::new(),
            ports: HashMap::new(),
            wide,
        }
    }

    /// Makes so many calls; a line for each.
    pub fn play(mut self, count: u32) -> String {
        let mut story = String::new();
        for index in 0..count {
            let line = self.step();
            if line.starts_with("connect") || line.starts_with("accept") {
                self.kernel.settle();
            }
            let _ = writeln!(story, "{index}: {line}");
        }
        while let Some(open) = self.open.pop() {
            let _ = self.call(3, &[int(open.fd)]);
        }
        for path in PATHS {
            let path = format!("{}{path}\0", self.directory);
            let _ = self.call(87, &[self.kernel.address(path.as_ptr())]);
        }
        story
    }

    fn call(&self, nr: u32, args: &[u64]) -> Result<i32, i32> {
        // SAFETY: every address is that of a live buffer of the length that is said, or where
        // nothing is.
        unsafe { self.kernel.call(nr, args) }
    }

    fn at(&self, bytes: &[u8]) -> u64 {
        self.kernel.address(bytes.as_ptr())
    }

    fn at_mut(&self, bytes: &mut [u8]) -> u64 {
        self.kernel.address(bytes.as_mut_ptr())
    }

    fn step(&mut self) -> String {
        match self.dice.roll(64) {
            0..=1 => self.socket(),
            2..=3 => self.pair(),
            4..=7 => self.connection(),
            8 => self.epoll_create(),
            9..=10 => self.bind(),
            11 => self.listen(),
            12..=14 => self.connect(),
            15..=17 => self.accept(),
            18..=25 => self.send(),
            26..=33 => self.receive(),
            34..=36 => self.shutdown(),
            37..=38 => self.close(),
            39..=40 => self.duplicate(),
            41..=43 => self.name(),
            44..=46 => self.option(),
            47..=51 => self.poll(),
            52..=54 => self.select(),
            55..=57 => self.register(),
            58..=61 => self.events(),
            62 => self.unread(),
            _ => self.flags(),
        }
    }

    /// Notes a new descriptor; what it is called.
    fn opened(&mut self, fd: i32, kind: Kind) -> u32 {
        let name = self.next_name;
        self.next_name += 1;
        self.open.push(Open {
            name,
            fd,
            kind,
            listens: false,
        });
        let tcp = matches!(kind, Kind::Socket { family: INET | INET6, kind } if kind == STREAM);
        if tcp {
            // Without it, when bytes arrive would depend on timers.
            let on = 1i32.to_le_bytes();
            let _ = self.call(54, &[int(fd), 6, 1, self.at(&on), 4]);
        }
        name
    }

    fn is_full(&self) -> bool {
        self.open.len() + 2 > MAX_OPEN
    }

    /// One of those that are open, sometimes one that is not, of any kind.
    fn any(&mut self) -> (i32, String) {
        if self.open.is_empty() || self.dice.roll(25) == 0 {
            let fd = self.dice.pick(&[-1, 60_000]);
            return (fd, format!("{fd}"));
        }
        let index = self.dice.roll(self.open.len() as u64) as usize;
        let open = self.open[index];
        (open.fd, format!("#{}", open.name))
    }

    /// A socket, where there is one; else whatever there is.
    fn some_socket(&mut self) -> (i32, String) {
        let sockets: Vec<Open> = self
            .open
            .iter()
            .copied()
            .filter(|open| matches!(open.kind, Kind::Socket { .. }))
            .collect();
        if sockets.is_empty() || self.dice.roll(20) == 0 {
            return self.any();
        }
        let open = self.dice.pick(&sockets);
        (open.fd, format!("#{}", open.name))
    }

    fn kind_of(&self, fd: i32) -> Option<Kind> {
        let open = self.open.iter().find(|open| open.fd == fd)?;
        Some(open.kind)
    }

    fn socket(&mut self) -> String {
        let family = self.dice.pick(&[UNIX, INET, INET, INET6, 99]);
        let kind = self.dice.pick(&[STREAM, STREAM, DATAGRAM, SEQUENCED, 6]);
        let flags = self
            .dice
            .pick(&[NONBLOCK, NONBLOCK, NONBLOCK | 0o2_000_000, 1 << 20]);
        if self.is_full() {
            return self.close();
        }
        let result = self.call(41, &[int(family), int(kind | flags), 0]);
        let shown = result.map(|fd| self.opened(fd, Kind::Socket { family, kind }));
        format!("socket({family}, {kind}, {flags:o}) = {shown:?}")
    }

    fn pair(&mut self) -> String {
        if self.is_full() {
            return self.close();
        }
        let mut ends = [0u8; 8];
        let is_pipe = self.dice.roll(5) == 0;
        let kind = self.dice.pick(&[STREAM, STREAM, DATAGRAM, SEQUENCED]);
        let family = self.dice.pick(&[UNIX, UNIX, UNIX, INET]);
        let place = self.at_mut(&mut ends);
        let (result, what) = if is_pipe {
            (self.call(293, &[place, int(NONBLOCK)]), Kind::Pipe)
        } else {
            let args = [int(family), int(kind | NONBLOCK), 0, place];
            (self.call(53, &args), Kind::Socket { family, kind })
        };
        let mut names = Vec::new();
        if result.is_ok() {
            for end in ends.chunks(4) {
                let fd = i32::from_le_bytes([end[0], end[1], end[2], end[3]]);
                names.push(self.opened(fd, what));
            }
        }
        format!("pair({is_pipe}, {family}, {kind}) = {result:?} {names:?}")
    }

    fn epoll_create(&mut self) -> String {
        if self.is_full() {
            return self.close();
        }
        let result = self.call(291, &[0]);
        let shown = result.map(|fd| self.opened(fd, Kind::Epoll));
        format!("epoll_create1() = {shown:?}")
    }

    /// An address of some family to go to, and what it is called.
    fn address(&mut self, family: i32) -> (Vec<u8>, String) {
        let known = !self.addresses.is_empty() && self.dice.roll(3) > 0;
        if known {
            let like: Vec<usize> = (0..self.addresses.len())
                .filter(|&index| i32::from(self.addresses[index][0]) == family)
                .collect();
            if !like.is_empty() {
                let index = self.dice.pick(&like);
                return (self.addresses[index].clone(), format!("address {index}"));
            }
        }
        self.fresh_address(family)
    }

    /// An address to be bound to, and what it is called. Ports are the kernel's choice: one that
    /// was in use here may be in use by others now.
    fn fresh_address(&mut self, family: i32) -> (Vec<u8>, String) {
        match family {
            UNIX => {
                let name = self.dice.pick(&PATHS);
                let path = format!("{}{name}\0", self.directory);
                let mut bytes = [&[1, 0], path.as_bytes()].concat();
                // As long in every directory: the length counts, too.
                bytes.resize(UNIX_ADDRESS, 0);
                (bytes, name.to_owned())
            }
            INET6 => {
                let mut bytes = vec![0; 28];
                bytes[0] = 10;
                bytes[23] = 1;
                (bytes, "[::1]:0".to_owned())
            }
            _ => {
                let bytes = [&[2, 0, 0, 0, 127, 0, 0, 1], &[0; 8][..]].concat();
                (bytes, "127.0.0.1:0".to_owned())
            }
        }
    }

    /// A family for a socket's address: mostly its own.
    fn family_for(&mut self, fd: i32) -> i32 {
        match self.kind_of(fd) {
            Some(Kind::Socket { family, .. }) if self.dice.roll(20) > 0 => family,
            _ => self.dice.pick(&[UNIX, INET, INET6]),
        }
    }

    /// An address for a socket to go to.
    fn address_for(&mut self, fd: i32) -> (Vec<u8>, String) {
        let family = self.family_for(fd);
        self.address(family)
    }

    /// An address that came out, as the story has it: ports and paths by what they are called.
    fn seen(&mut self, bytes: &[u8]) -> String {
        let family = bytes.first().map_or(0, |&family| i32::from(family));
        let mut whole = bytes.to_vec();
        if !self.wide && bytes.len() >= 16 {
            // Lind shows no more, and not always how much that is.
            whole.truncate(16);
            if family == INET6 {
                // What goes anywhere goes to this one.
                whole.resize(28, 0);
                whole[8..].fill(0);
                whole[23] = 1;
            }
        }
        let bytes = &whole[..];
        match family {
            INET | INET6 if bytes.len() >= 16 => {
                let port = u16::from_be_bytes([bytes[2], bytes[3]]);
                let next = self.ports.len();
                let known = *self.ports.entry(port).or_insert(next);
                if port != 0 && !self.addresses.iter().any(|other| other == bytes) {
                    self.addresses.push(bytes.to_vec());
                }
                format!("family {family} port {known} rest {:x?}", &bytes[4..])
            }
            UNIX if !self.wide => "a path".to_owned(),
            UNIX => {
                let path = String::from_utf8_lossy(&bytes[2..]);
                path.replace(&self.directory, "DIR/")
            }
            _ => format!("{bytes:x?}"),
        }
    }

    fn bind(&mut self) -> String {
        let (fd, shown) = self.some_socket();
        let family = self.family_for(fd);
        let (address, named) = self.fresh_address(family);
        let result = self.call(49, &[int(fd), self.at(&address), address.len() as u64]);
        // So that others can find it.
        let own = self.ask_name(51, fd).1;
        format!("bind({shown}, {named}) = {result:?}, now {own}")
    }

    /// A stream by way of a listener: three sockets, and all that it takes.
    fn connection(&mut self) -> String {
        if self.is_full() {
            return self.close();
        }
        let family = self.dice.pick(&[UNIX, INET, INET6]);
        let kind = match family {
            UNIX => self.dice.pick(&[STREAM, SEQUENCED]),
            _ => STREAM,
        };
        let what = Kind::Socket { family, kind };
        let new = |player: &mut Self| {
            let made = player.call(41, &[int(family), int(kind | NONBLOCK), 0]);
            made.map(|fd| (fd, player.opened(fd, what)))
        };
        let (listener, client) = (new(self), new(self));
        let (Ok((listener, first)), Ok((client, second))) = (listener, client) else {
            return format!("connection({family}) failed: {listener:?} {client:?}");
        };
        let (address, named) = self.fresh_address(family);
        if family == UNIX && self.dice.roll(2) == 0 {
            let _ = self.call(87, &[self.at(&address[2..])]);
        }
        let bound = self.call(
            49,
            &[int(listener), self.at(&address), address.len() as u64],
        );
        let listens = self.call(50, &[int(listener), 5]);
        let own = self.ask_name(51, listener).1;
        let address = match family {
            UNIX => address,
            _ => self.addresses.last().cloned().unwrap_or(address),
        };
        let connected = self.call(42, &[int(client), self.at(&address), address.len() as u64]);
        let accepted = self.call(288, &[int(listener), 0, 0, int(NONBLOCK)]);
        let third = accepted.map(|fd| self.opened(fd, what));
        // Others may connect, too, while it is there.
        if self.dice.roll(2) == 0 {
            let _ = self.call(3, &[int(listener)]);
            self.open.retain(|open| open.fd != listener);
        } else if let Some(open) = self.open.iter_mut().find(|open| open.fd == listener) {
            open.listens = listens.is_ok();
        }
        format!(
            "connection({family}, {kind}, {named}) = {first} {bound:?} {listens:?} {own}, \
             {second} {connected:?}, {third:?}"
        )
    }

    fn listen(&mut self) -> String {
        let (fd, shown) = self.some_socket();
        let backlog = self.dice.pick(&[5, 5, 20]);
        let result = self.call(50, &[int(fd), int(backlog)]);
        for open in self.open.iter_mut().filter(|open| open.fd == fd) {
            open.listens |= result.is_ok();
        }
        let own = self.ask_name(51, fd).1;
        format!("listen({shown}) = {result:?}, now {own}")
    }

    fn connect(&mut self) -> String {
        let (fd, shown) = self.some_socket();
        let (mut address, mut named) = self.address_for(fd);
        if self.dice.roll(15) == 0 {
            address = vec![0; 16];
            "nothing".clone_into(&mut named);
        }
        let result = self.call(42, &[int(fd), self.at(&address), address.len() as u64]);
        format!("connect({shown}, {named}) = {result:?}")
    }

    fn accept(&mut self) -> String {
        if self.is_full() {
            return self.close();
        }
        let listeners: Vec<Open> = self
            .open
            .iter()
            .copied()
            .filter(|open| open.listens)
            .collect();
        let (fd, shown) = if listeners.is_empty() || self.dice.roll(4) == 0 {
            self.some_socket()
        } else {
            let open = self.dice.pick(&listeners);
            (open.fd, format!("#{}", open.name))
        };
        let kind = self.kind_of(fd);
        let mut address = [0u8; ADDRESS_ROOM];
        let mut len = (ADDRESS_ROOM as u32).to_le_bytes();
        let (place, len_place) = (self.at_mut(&mut address), self.at_mut(&mut len));
        let flags = NONBLOCK;
        let result = self.call(288, &[int(fd), place, len_place, int(flags)]);
        let from = u32::from_le_bytes(len) as usize;
        let from = match result {
            Ok(_) => self.seen(&address[..from.min(ADDRESS_ROOM)]),
            Err(_) => String::new(),
        };
        let name = result.map(|fd| self.opened(fd, kind.unwrap_or(Kind::Pipe)));
        format!("accept({shown}) = {name:?} from {from}")
    }

    /// Base and length pairs over pieces of a buffer.
    fn vectors(&mut self, buffer: &mut [u8]) -> Vec<u8> {
        let mut list = Vec::new();
        let mut rest = buffer;
        while !rest.is_empty() && list.len() < 8 * 16 {
            let len = (self.dice.roll(rest.len() as u64 + 1) as usize).max(1);
            let (part, after) = rest.split_at_mut(len);
            list.extend(self.at_mut(part).to_le_bytes());
            list.extend((part.len() as u64).to_le_bytes());
            rest = after;
        }
        list
    }

    fn length(&mut self) -> usize {
        match self.dice.roll(8) {
            0 => self.dice.pick(&[0, 1, 2000]),
            _ => self.dice.roll(300) as usize,
        }
    }

    /// A `struct msghdr`.
    fn header(&self, name: (u64, usize), vectors: &[u8]) -> [u8; 56] {
        let mut header = [0; 56];
        header[..8].copy_from_slice(&name.0.to_le_bytes());
        header[8..12].copy_from_slice(&(name.1 as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.at(vectors).to_le_bytes());
        header[24..32].copy_from_slice(&(vectors.len() as u64 / 16).to_le_bytes());
        header
    }

    fn send(&mut self) -> String {
        let (fd, shown) = self.any();
        let len = self.length();
        let seed = self.dice.roll(256) as usize;
        let mut data: Vec<u8> = (0..len)
            .map(|at| (seed + at * 7 + at / 251) as u8)
            .collect();
        let flags = self.dice.pick(&[0, 0, 0x4000, 0x80, 1 << 8]) | DONTWAIT;
        let is_datagram = matches!(self.kind_of(fd), Some(Kind::Socket { kind: DATAGRAM, .. }));
        let addressed = if is_datagram { 2 } else { 12 };
        let (to, named) = match self.dice.roll(addressed) {
            0 => self.address_for(fd),
            _ => (Vec::new(), String::new()),
        };
        let to_at = if to.is_empty() { 0 } else { self.at(&to) };
        let how = self.dice.roll(5);
        let wild = self.dice.roll(30) == 0;
        let base = if wild {
            self.kernel.nowhere()
        } else {
            self.at(&data)
        };
        let result = match how {
            0 => self.call(1, &[int(fd), base, len as u64]),
            1 => {
                let list = self.vectors(&mut data);
                self.call(20, &[int(fd), self.at(&list), list.len() as u64 / 16])
            }
            2 => {
                let list = self.vectors(&mut data);
                let header = self.header((to_at, to.len()), &list);
                self.call(46, &[int(fd), self.at(&header), int(flags)])
            }
            _ => {
                let args = [
                    int(fd),
                    base,
                    len as u64,
                    int(flags),
                    to_at,
                    to.len() as u64,
                ];
                self.call(44, &args)
            }
        };
        format!("send.{how}({shown}, {len}, {flags:x}, {named}, {wild}) = {result:?}")
    }

    fn receive(&mut self) -> String {
        let (fd, shown) = self.any();
        let len = self.length();
        let mut data = vec![0u8; len];
        let flags = self.dice.pick(&[0, 0, 2, 0x20, 0x100, 0x22, 1]) | DONTWAIT;
        let how = self.dice.roll(5);
        let wild = self.dice.roll(30) == 0;
        let base = if wild {
            self.kernel.nowhere()
        } else {
            self.at_mut(&mut data)
        };
        let mut address = [0u8; ADDRESS_ROOM];
        let mut len_bytes = (ADDRESS_ROOM as u32).to_le_bytes();
        let (place, len_place) = (self.at_mut(&mut address), self.at_mut(&mut len_bytes));
        let mut more = String::new();
        let mut from = None;
        let result = match how {
            0 => self.call(0, &[int(fd), base, len as u64]),
            1 => {
                let list = self.vectors(&mut data);
                self.call(19, &[int(fd), self.at(&list), list.len() as u64 / 16])
            }
            2 => {
                let list = self.vectors(&mut data);
                let mut header = self.header((place, ADDRESS_ROOM), &list);
                let at = self.at_mut(&mut header);
                let result = self.call(47, &[int(fd), at, int(flags)]);
                more = format!("{:x?}", &header[40..52]);
                from = Some(u32::from_le_bytes([
                    header[8], header[9], header[10], header[11],
                ]));
                result
            }
            3 => {
                let args = [int(fd), base, len as u64, int(flags), place, len_place];
                let result = self.call(45, &args);
                from = Some(u32::from_le_bytes(len_bytes));
                result
            }
            _ => self.call(45, &[int(fd), base, len as u64, int(flags), 0, 0]),
        };
        let got = result.map_or(0, |got| (got as usize).min(len));
        let shown_from = match from {
            Some(from) if result.is_ok() => {
                self.seen(&address[..(from as usize).min(ADDRESS_ROOM)])
            }
            _ => String::new(),
        };
        format!(
            "receive.{how}({shown}, {len}, {flags:x}, {wild}) = {result:?} {:x} {more} {shown_from}",
            digest(&data[..got])
        )
    }

    fn shutdown(&mut self) -> String {
        let (fd, shown) = self.some_socket();
        let how = self.dice.pick(&[0, 1, 1, 1, 2, 3]);
        let result = self.call(48, &[int(fd), int(how)]);
        format!("shutdown({shown}, {how}) = {result:?}")
    }

    fn close(&mut self) -> String {
        let (fd, shown) = self.any();
        let result = self.call(3, &[int(fd)]);
        self.open.retain(|open| open.fd != fd);
        format!("close({shown}) = {result:?}")
    }

    fn duplicate(&mut self) -> String {
        if self.is_full() {
            return self.close();
        }
        let (fd, shown) = self.any();
        let kind = self.kind_of(fd);
        let by_fcntl = self.dice.roll(2) == 0;
        let result = if by_fcntl {
            self.call(72, &[int(fd), 1030, 3])
        } else {
            self.call(32, &[int(fd)])
        };
        let name = result.map(|fd| self.opened(fd, kind.unwrap_or(Kind::Pipe)));
        format!("dup({shown}, {by_fcntl}) = {name:?}")
    }

    fn ask_name(&mut self, nr: u32, fd: i32) -> (Result<i32, i32>, String) {
        let mut address = [0u8; ADDRESS_ROOM];
        let mut len = (ADDRESS_ROOM as u32).to_le_bytes();
        let (place, len_place) = (self.at_mut(&mut address), self.at_mut(&mut len));
        let result = self.call(nr, &[int(fd), place, len_place]);
        let len = (u32::from_le_bytes(len) as usize).min(ADDRESS_ROOM);
        let shown = match result {
            Ok(_) => self.seen(&address[..len]),
            Err(_) => String::new(),
        };
        (result, shown)
    }

    fn name(&mut self) -> String {
        let (fd, shown) = self.some_socket();
        let nr = self.dice.pick(&[51, 52]);
        let (result, name) = self.ask_name(nr, fd);
        format!("name.{nr}({shown}) = {result:?} {name}")
    }

    /// Options whose values do not depend on the machine.
    fn option(&mut self) -> String {
        const OPTIONS: [(i32, i32); 14] = [
            (1, 2),
            (1, 3),
            (1, 4),
            (1, 4),
            (1, 6),
            (1, 9),
            (1, 13),
            (1, 18),
            (1, 20),
            (1, 30),
            (1, 39),
            (6, 1),
            (0, 2),
            (41, 26),
        ];
        let (fd, shown) = self.some_socket();
        let (level, name) = self.dice.pick(&OPTIONS);
        let sets = self.dice.roll(3) == 0 && (level, name) != (6, 1);
        let mut value = [0u8; 16];
        let size = self.dice.pick(&[4u32, 4, 4, 8, 16, 2]);
        if sets {
            value[0] = self.dice.roll(2) as u8;
            let args = [
                int(fd),
                int(level),
                int(name),
                self.at(&value),
                u64::from(size),
            ];
            let result = self.call(54, &args);
            return format!("set({shown}, {level}, {name}, {value:?}, {size}) = {result:?}");
        }
        let mut len = size.to_le_bytes();
        let (place, len_place) = (self.at_mut(&mut value), self.at_mut(&mut len));
        let result = self.call(55, &[int(fd), int(level), int(name), place, len_place]);
        format!("get({shown}, {level}, {name}, {size}) = {result:?} {value:?} {len:?}")
    }

    fn poll(&mut self) -> String {
        let count = self.dice.roll(6) as usize;
        let mut entries = Vec::new();
        let mut shown = Vec::new();
        for _ in 0..count {
            let (fd, name) = self.any();
            let events = self.dice.pick(&[1i16, 4, 5, 2, 0, 0x2001]);
            entries.extend(fd.to_le_bytes());
            entries.extend(events.to_le_bytes());
            entries.extend([9, 9]);
            shown.push((name, events));
        }
        let place = self.at_mut(&mut entries);
        let result = self.call(7, &[place, count as u64, 0]);
        let answers: Vec<&[u8]> = entries.chunks(8).map(|entry| &entry[6..]).collect();
        format!("poll({shown:?}) = {result:?} {answers:x?}")
    }

    fn select(&mut self) -> String {
        const SET: usize = 128;
        let mut sets = [[0u8; SET]; 3];
        let mut shown = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..self.dice.roll(6) {
            let (fd, name) = self.any();
            let set = self.dice.roll(3) as usize;
            if (0..8 * SET as i32).contains(&fd) {
                sets[set][fd as usize / 8] |= 1 << (fd % 8);
                asked.push((set, fd));
            }
            shown.push((name, set));
        }
        let mut places = [0; 3];
        for (place, set) in places.iter_mut().zip(&mut sets) {
            *place = if self.dice.roll(4) > 0 {
                self.at_mut(set)
            } else {
                0
            };
        }
        let mut time = [0u8; 16];
        let time_place = self.at_mut(&mut time);
        let nr = self.dice.pick(&[23, if self.wide { 270 } else { 23 }]);
        let [read, write, except] = places;
        let mut args = vec![8 * SET as u64, read, write, except, time_place];
        if nr == 270 {
            args.push(0);
        }
        let result = self.call(nr, &args);
        let answers: Vec<bool> = asked
            .iter()
            .map(|&(set, fd)| sets[set][fd as usize / 8] & 1 << (fd % 8) != 0)
            .collect();
        let left: Vec<bool> = places.iter().map(|&place| place == 0).collect();
        format!("select.{nr}({shown:?}, without {left:?}) = {result:?} {answers:?}")
    }

    fn some_epoll(&mut self) -> (i32, String) {
        let instances: Vec<Open> = self
            .open
            .iter()
            .copied()
            .filter(|open| open.kind == Kind::Epoll)
            .collect();
        if instances.is_empty() || self.dice.roll(15) == 0 {
            return self.any();
        }
        let open = self.dice.pick(&instances);
        (open.fd, format!("#{}", open.name))
    }

    fn register(&mut self) -> String {
        let (instance, shown) = self.some_epoll();
        let (fd, named) = self.any();
        let operation = self.dice.pick(&[1, 1, 1, 2, 3, 3, 4]);
        let mode = self.dice.pick(&[0u32, 0, 1 << 31, 1 << 30, 1 << 28]);
        let events = self.dice.pick(&[1u32, 4, 5, 0x2005]) | mode;
        let data = self.dice.roll(1 << 50);
        let event = [&events.to_le_bytes()[..], &data.to_le_bytes()].concat();
        let args = [int(instance), int(operation), int(fd), self.at(&event)];
        let result = self.call(233, &args);
        format!("epoll_ctl({shown}, {operation}, {named}, {events:x}, {data:x}) = {result:?}")
    }

    fn events(&mut self) -> String {
        let (instance, shown) = self.some_epoll();
        let count = self.dice.pick(&[1, 2, 8, 8, 0]);
        let mut events = [0u8; 8 * 12];
        let place = self.at_mut(&mut events);
        let masked = self.dice.roll(2) == 0 && self.wide;
        let result = if masked {
            self.call(281, &[int(instance), place, int(count), 0, 0, 8])
        } else {
            self.call(232, &[int(instance), place, int(count), 0])
        };
        let got = result.map_or(0, |got| got as usize);
        // Lind does not keep the data.
        let len = if self.wide { 12 } else { 4 };
        let got: Vec<&[u8]> = events
            .chunks(12)
            .take(got)
            .map(|event| &event[..len])
            .collect();
        format!("epoll_wait({shown}, {count}) = {result:?} {got:x?}")
    }

    fn unread(&mut self) -> String {
        let (fd, shown) = self.any();
        let mut count = [0u8; 4];
        let place = self.at_mut(&mut count);
        let result = self.call(16, &[int(fd), 0x541B, place]);
        format!("FIONREAD({shown}) = {result:?} {count:?}")
    }

    fn flags(&mut self) -> String {
        let (fd, shown) = self.any();
        // Never to blocking: nothing must wait.
        let on = 1i32.to_le_bytes();
        let how = self.dice.roll(3);
        let result = match how {
            0 => self.call(16, &[int(fd), 0x5421, self.at(&on)]),
            1 => self.call(72, &[int(fd), 4, int(NONBLOCK)]),
            _ => self.call(72, &[int(fd), 3, 0]),
        };
        format!("flags.{how}({shown}) = {result:?}")
    }
}
