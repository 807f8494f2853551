//! For tests: a cage that makes calls, and a twin of its root where the host's kernel is asked
//! the same, so that the two answers can be compared.

use crate::artifact::ArtifactKey;
use crate::cage::{Cage, FsContext, Inheritance, Named, NewImage, Parties};
use crate::fds::FdTable;
use crate::image::Image;
use crate::limits::{Account, Ledger, Limits};
use crate::module::Size;
use crate::net::Net;
use crate::path::Root;
use crate::program::Program;
use crate::request::{Arg, UNUSED};
use crate::routes::HandlerTable;
use crate::runtime::{Runtime, Settings};
use crate::signals::Signals;
use crate::state::{HostState, new_store};
use crate::workers::Workers;
use rustix::io::Errno;
use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const PROGRAM: &str = r#"(module
    (import "env" "memory" (memory 8 65536 shared))
    (import "lind" "lind-get-cage-id" (func (result i64)))
    (func (export "pass_fptr_to_wt") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
      (result i32) i32.const 7)
    (func (export "_start") (result i32) i32.const 0))"#;

/// Where a guest's memory is not mapped.
pub(super) const UNMAPPED: u64 = 0xf000_0000;
/// The end of what the program's memory has at its start.
pub(super) const MAPPED_END: u64 = 8 << 16;

/// An artifact key kept in `folder`.
fn key_in(folder: &Path) -> ArtifactKey {
    static ENVIRONMENT: Mutex<()> = Mutex::new(());
    let _guard = ENVIRONMENT.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: tests change the environment here alone, and look at it through `std` alone, which
    // has a lock for it.
    unsafe { std::env::set_var("LIND_WASM_DATA", folder.join("data")) };
    ArtifactKey::load(&folder.join("root")).unwrap()
}

/// Gives a cage the program to run, and who runs its handlers.
fn give_image(rt: &Arc<Runtime>, cage: &Arc<Cage>, program: Arc<Program>) -> Arc<Image> {
    let new = NewImage {
        program,
        args: vec![b"test".to_vec()],
        env: Vec::new(),
    };
    let image = rt.make_image(cage, new).unwrap();
    let linkers = crate::host::linkers(&rt.engine, |_, _, _| Err(Errno::AGAIN)).unwrap();
    let (run, imports) = (rt.clone(), linkers.clone());
    let state = HostState::new(run, imports, cage.clone(), image.clone(), None);
    let store = new_store(state);
    let template = linkers.template(&store, &image).unwrap();
    image.staff(Box::new(Workers::new(store.data(), template)));
    cage.set_image(Some(image.clone()));
    image
}

/// A cage without a thread, for calls made directly.
pub(crate) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(crate) rt: Arc<Runtime>,
    pub(crate) cage: Arc<Cage>,
    pub(super) image: Arc<Image>,
}

impl Fixture {
    /// A cage in an empty root, with an empty umask and no open files.
    pub(crate) fn new() -> Self {
        Self::with_net(Net::All)
    }

    /// The same, in a network.
    pub(super) fn with_net(net: Net) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        let wasm = wat::parse_str(PROGRAM).unwrap();
        let rt = Runtime::new(Settings {
            root: Root::open(&dir.path().join("root")).unwrap(),
            key: key_in(dir.path()),
            env: Vec::new(),
            kernel: super::call,
            strict: false,
            net,
            limits: Limits::default(),
            listeners: Vec::new(),
        })
        .unwrap();
        let account = Account::new(Ledger::new(Limits::default()));
        let cage = rt
            .enrol(Inheritance {
                account: account.clone(),
                ancestors: Vec::new(),
                handlers: HandlerTable::default(),
                fds: FdTable::new(account),
                fs: FsContext {
                    cwd: rt.root.top(),
                    umask: 0,
                },
                signals: Signals::default(),
            })
            .unwrap();
        let program = Arc::new(Program::compile(&rt.engine, &wasm, false, Size::ANY).unwrap());
        let image = give_image(&rt, &cage, program);
        Self {
            dir,
            rt,
            cage,
            image,
        }
    }

    /// A cage that `maker` forked, with an image of its own.
    pub(crate) fn fork(&self, maker: &Arc<Cage>) -> Arc<Cage> {
        let child = self.rt.enrol(maker.bequeath()).unwrap();
        give_image(&self.rt, &child, self.image.program.clone());
        child
    }

    /// A path of the host inside the root.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside)
    }

    /// Makes a call of the cage for itself.
    pub(super) fn call(&self, nr: u32, args: &[u64]) -> Result<i32, Errno> {
        self.call_by(&self.cage, nr, args)
    }

    /// Makes a call of another one for the cage, all of whose arguments are the cage's.
    pub(super) fn call_by(&self, caller: &Arc<Cage>, nr: u32, args: &[u64]) -> Result<i32, Errno> {
        let own = self.cage.id.raw();
        let mut all = [Arg {
            value: UNUSED,
            cage: own,
        }; 6];
        for (arg, &value) in all.iter_mut().zip(args) {
            arg.value = value;
        }
        let parties = Parties {
            caller: Named::of(caller, None),
            target: &Named::of(&self.cage, None),
            served: None,
        };
        // As if it were judged.
        super::call(&self.rt, &parties, nr, &all)
    }

    /// Puts bytes into the cage's memory.
    pub(super) fn put(&self, at: u64, bytes: &[u8]) -> u64 {
        self.image.memory.write(at, bytes).unwrap();
        at
    }

    /// Puts a string with its NUL into the cage's memory, at a place for it.
    pub(super) fn text(&self, text: &str) -> u64 {
        self.put(0x1000, &[text.as_bytes(), b"\0"].concat())
    }

    /// Bytes of the cage's memory.
    pub(super) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.image.memory.read(at, &mut bytes).unwrap();
        bytes
    }

    /// Opens a file; the descriptor.
    pub(super) fn open(&self, path: &str, flags: i32) -> u64 {
        let path = self.text(path);
        self.call(2, &[path, flags as u64, 0o666]).unwrap() as u64
    }
}

/// An argument of a call that both worlds make.
#[derive(Clone, Copy, Debug)]
pub(super) enum A<'a> {
    /// A number.
    I(i64),
    /// A path; absolute ones start at the root of each world.
    Path(&'a str),
    /// Text that is not a path to be looked up.
    Text(&'a str),
    /// Bytes to read.
    In(&'a [u8]),
    /// Bytes to read that differ between the worlds: the cage's, the host's.
    Each(&'a [u8], &'a [u8]),
    /// Room for bytes, which must come out the same.
    Out(usize),
    /// Room for bytes that differ between the worlds.
    Room(usize),
    /// As [`A::Room`], with bytes in it.
    Change(&'a [u8]),
    /// As [`A::Change`], with bytes that differ from the start.
    ChangeEach(&'a [u8], &'a [u8]),
    /// The descriptor that the so-manieth successful `descriptor` gave.
    Fd(usize),
    /// An array of buffers.
    Vector(&'a [A<'a>]),
    /// A structure of words: numbers, which must come out the same, and addresses.
    Struct(&'a [A<'a>]),
    /// An address where nothing is.
    Nowhere,
}

/// Fresh sockets among those of [`Twins::with_sockets`].
pub(super) const SOCKETS: usize = 7;

/// A cage and the kernel, asked the same.
pub(super) struct Twins {
    pub(super) cage: Fixture,
    host: tempfile::TempDir,
    fds: Vec<(i32, i32)>,
}

/// The families of IP that this machine has, each with the address to be bound to on loopback.
pub(super) fn families() -> Vec<(i64, &'static str)> {
    let all = [(2, "127.0.0.1:0"), (10, "[::1]:0")];
    all.into_iter()
        .filter(|(_, any)| std::net::UdpSocket::bind(any).is_ok())
        .collect()
}

/// A `struct sockaddr_in` or `struct sockaddr_in6`.
pub(super) fn inet(address: &str) -> Vec<u8> {
    let address: SocketAddr = address.parse().unwrap();
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => [&[2, 0], &port[..], &ip.octets(), &[0; 8]].concat(),
        IpAddr::V6(ip) => [&[10, 0], &port[..], &[0; 4], &ip.octets(), &[0; 4]].concat(),
    }
}

/// A `struct sockaddr_un` up to the NUL behind the path.
pub(super) fn unix(path: &[u8]) -> Vec<u8> {
    [&[1, 0], path, b"\0"].concat()
}

/// What `Twins` keeps of a closed pair of descriptors.
const CLOSED: (i32, i32) = (-1, -1);

/// Buffers of a call in one world.
struct Buffers {
    next: u64,
    held: Vec<Box<[u8]>>,
    /// Address and length of what must come out the same.
    out: Vec<(u64, usize)>,
    /// Address and length of what may come out different.
    rooms: Vec<(u64, usize)>,
}

/// What a call answered in both worlds.
struct Answers {
    cage: Result<i32, Errno>,
    host: Result<i32, Errno>,
    /// Whether the bytes that came out are the same.
    same: bool,
    /// The bytes in each [`A::Room`] and [`A::Change`], of the cage and of the host.
    rooms: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Twins {
    /// Two empty roots.
    pub(super) fn new() -> Self {
        Self {
            cage: Fixture::new(),
            host: tempfile::tempdir().unwrap(),
            fds: Vec::new(),
        }
    }

    /// Descriptors that are sockets in several states, none of which waits for anything, and some
    /// that are no sockets, or not open. The first [`SOCKETS`] are fresh: streams and datagrams by
    /// IPv4, IPv6 and UNIX, and a connection of messages. A listener and a pair follow.
    pub(super) fn with_sockets() -> (Self, Vec<A<'static>>) {
        const NONBLOCK: i64 = 0o4000;
        let mut twins = Self::new();
        let zero = A::I(0);
        let families = [(2, 1), (2, 2), (10, 1), (10, 2), (1, 1), (1, 2), (1, 5)];
        for (family, kind) in families {
            let args = [A::I(family), A::I(kind | NONBLOCK), zero];
            twins.descriptor(41, &args).unwrap();
        }
        assert_eq!(twins.count(), SOCKETS);
        let stream = A::I(1 | NONBLOCK);
        twins.descriptor(41, &[A::I(2), stream, zero]).unwrap();
        let (listener, any) = (A::Fd(SOCKETS), inet("127.0.0.1:0"));
        let bind = [listener, A::In(&any), A::I(any.len() as i64)];
        assert_eq!(twins.agree(49, &bind), Ok(0));
        assert_eq!(twins.agree(50, &[listener, A::I(5)]), Ok(0));
        twins.pair(53, &[A::I(1), stream, zero]).unwrap();
        // No sockets: a file, a path, a pipe.
        let (file, mode) = (A::Path("/file"), A::I(0o644));
        twins.descriptor(2, &[file, A::I(0o102), mode]).unwrap();
        twins.descriptor(2, &[file, A::I(0o10_000_000)]).unwrap();
        twins.pair(22, &[]).unwrap();
        let mut all: Vec<A<'_>> = (0..twins.count()).map(A::Fd).collect();
        all.extend([A::I(-1), A::I(900_000)]);
        (twins, all)
    }

    /// The root that the kernel is asked about.
    pub(super) fn host(&self) -> &Path {
        self.host.path()
    }

    /// The numbers of a descriptor: the cage's, the host's.
    pub(super) fn numbers(&self, index: usize) -> (i32, i32) {
        self.fds[index]
    }

    /// How many descriptors there were.
    pub(super) fn count(&self) -> usize {
        self.fds.len()
    }

    /// Empties both roots.
    pub(super) fn clear(&self) {
        self.prepare(|top| {
            for entry in std::fs::read_dir(top).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    std::fs::remove_dir_all(path).unwrap();
                } else {
                    std::fs::remove_file(path).unwrap();
                }
            }
        });
    }

    /// Does the same to both roots from outside.
    pub(super) fn prepare(&self, act: impl Fn(PathBuf)) {
        act(self.cage.path(""));
        act(self.host.path().to_path_buf());
    }

    fn place(&self, inside: bool, buffers: &mut Buffers, bytes: &[u8]) -> u64 {
        if inside {
            let at = buffers.next;
            buffers.next += (bytes.len() as u64).next_multiple_of(16) + 16;
            self.cage.put(at, bytes)
        } else {
            let held: Box<[u8]> = bytes.into();
            let at = held.as_ptr() as u64;
            buffers.held.push(held);
            at
        }
    }

    fn argument(&self, inside: bool, buffers: &mut Buffers, argument: A<'_>) -> u64 {
        match argument {
            A::I(number) => number as u64,
            A::Path(path) if !inside => {
                let path = match path {
                    "" => String::new(),
                    path => format!("{}/{}", self.host.path().display(), path),
                };
                let path = CString::new(path).unwrap();
                self.place(inside, buffers, path.as_bytes_with_nul())
            }
            A::Path(text) | A::Text(text) => {
                let text = CString::new(text).unwrap();
                self.place(inside, buffers, text.as_bytes_with_nul())
            }
            A::In(bytes) => self.place(inside, buffers, bytes),
            A::Each(mine, its) => self.place(inside, buffers, if inside { mine } else { its }),
            A::Room(len) => {
                let at = self.place(inside, buffers, &vec![0; len]);
                buffers.rooms.push((at, len));
                at
            }
            A::Change(bytes) => self.argument(inside, buffers, A::ChangeEach(bytes, bytes)),
            A::ChangeEach(mine, its) => {
                let bytes = if inside { mine } else { its };
                let at = self.place(inside, buffers, bytes);
                buffers.rooms.push((at, bytes.len()));
                at
            }
            A::Out(len) => {
                let at = self.place(inside, buffers, &vec![0; len]);
                buffers.out.push((at, len));
                at
            }
            A::Fd(index) => {
                let (mine, its) = self.fds[index];
                (if inside { mine } else { its }) as u64
            }
            A::Vector(parts) => {
                let mut entries = Vec::new();
                for &part in parts {
                    let len = match part {
                        A::In(bytes) => bytes.len(),
                        A::Out(len) | A::Room(len) => len,
                        _ => 10,
                    };
                    let at = self.argument(inside, buffers, part);
                    entries.extend_from_slice(&at.to_le_bytes());
                    entries.extend_from_slice(&(len as u64).to_le_bytes());
                }
                self.place(inside, buffers, &entries)
            }
            A::Struct(words) => {
                let values: Vec<u64> = words
                    .iter()
                    .map(|&word| self.argument(inside, buffers, word))
                    .collect();
                let bytes: Vec<u8> = values.iter().flat_map(|word| word.to_le_bytes()).collect();
                let at = self.place(inside, buffers, &bytes);
                for (word, place) in words.iter().zip((at..).step_by(8)) {
                    if let A::I(_) = word {
                        buffers.out.push((place, 8));
                    }
                }
                at
            }
            A::Nowhere if inside => UNMAPPED,
            A::Nowhere => 16,
        }
    }

    fn ask(&self, nr: u32, args: &[A<'_>]) -> Answers {
        let buffers = |next| Buffers {
            next,
            held: Vec::new(),
            out: Vec::new(),
            rooms: Vec::new(),
        };
        let (mut mine, mut its) = (buffers(0x1000), buffers(0));
        let inside: Vec<u64> = args
            .iter()
            .map(|&arg| self.argument(true, &mut mine, arg))
            .collect();
        let cage = self.cage.call(nr, &inside);
        let mut outside = [0u64; 6];
        for (place, &arg) in outside.iter_mut().zip(args) {
            *place = self.argument(false, &mut its, arg);
        }
        let [a, b, c, d, e, f] = outside;
        // SAFETY: the arguments are numbers, buffers that `its` holds, and an address in the first
        // page, which is never mapped.
        let host = match unsafe { libc::syscall(i64::from(nr), a, b, c, d, e, f) } {
            -1 => Err(crate::errno::last_error()),
            value => Ok(value as i32),
        };
        // SAFETY: a buffer that `its` holds.
        let of_host = |&(at, len): &(u64, usize)| unsafe {
            std::slice::from_raw_parts(at as *const u8, len).to_vec()
        };
        let of_cage = |&(at, len): &(u64, usize)| self.cage.get(at, len);
        let both = |mine: &[(u64, usize)], its: &[(u64, usize)]| -> Vec<_> {
            let its = its.iter().map(of_host);
            mine.iter().map(of_cage).zip(its).collect()
        };
        let out: Vec<(Vec<u8>, Vec<u8>)> = both(&mine.out, &its.out);
        Answers {
            cage,
            host,
            same: out.iter().all(|(mine, its)| mine == its),
            rooms: both(&mine.rooms, &its.rooms),
        }
    }

    /// Asks both, who must answer the same.
    #[track_caller]
    pub(super) fn agree(&self, nr: u32, args: &[A<'_>]) -> Result<i32, Errno> {
        let answers = self.ask(nr, args);
        assert_eq!(answers.cage, answers.host, "call {nr} with {args:?}");
        assert!(answers.same, "call {nr} with {args:?} gave other bytes");
        answers.cage
    }

    /// Both answers, which may differ: the cage's, the host's. Descriptors are the caller's to
    /// close.
    pub(super) fn each(&self, nr: u32, args: &[A<'_>]) -> (Result<i32, Errno>, Result<i32, Errno>) {
        let answers = self.ask(nr, args);
        (answers.cage, answers.host)
    }

    /// As [`Twins::agree`]; the bytes in each [`A::Room`] and [`A::Change`], of the cage and of the host.
    #[track_caller]
    pub(super) fn rooms(&self, nr: u32, args: &[A<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let answers = self.ask(nr, args);
        assert_eq!(answers.cage, answers.host, "call {nr} with {args:?}");
        answers.rooms
    }

    /// Asks both for a descriptor.
    #[track_caller]
    pub(super) fn descriptor(&mut self, nr: u32, args: &[A<'_>]) -> Result<(), Errno> {
        let answers = self.ask(nr, args);
        match (answers.cage, answers.host) {
            (Ok(mine), Ok(its)) => {
                self.fds.push((mine, its));
                Ok(())
            }
            (answer, host) => {
                assert_eq!(answer.err(), host.err(), "call {nr} with {args:?}");
                answer.map(|_| ())
            }
        }
    }

    /// Asks both for two descriptors, which they put where the argument after `args` says.
    #[track_caller]
    pub(super) fn pair(&mut self, nr: u32, args: &[A<'_>]) -> Result<(), Errno> {
        let answers = self.ask(nr, &[args, &[A::Room(8)]].concat());
        assert_eq!(answers.cage, answers.host, "call {nr} with {args:?}");
        answers.cage?;
        let (mine, its) = &answers.rooms[0];
        let fd = |bytes: &[u8]| i32::from_ne_bytes(bytes.try_into().unwrap());
        for at in [0, 4] {
            self.fds.push((fd(&mine[at..at + 4]), fd(&its[at..at + 4])));
        }
        Ok(())
    }

    /// Closes a descriptor in both.
    #[track_caller]
    pub(super) fn close(&mut self, index: usize) {
        assert_eq!(self.agree(3, &[A::Fd(index)]), Ok(0));
        self.fds[index] = CLOSED;
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        for (_, its) in self.fds.iter().filter(|&&pair| pair != CLOSED) {
            // SAFETY: opened for this test alone, which is over.
            unsafe { libc::close(*its) };
        }
    }
}
