//! `lind_facts DIR`: where Lind does otherwise than Linux, looked at from inside. Prints what is
//! not as on Lind, and exits with 0 when all is. Runs on the public Lind runtime, too.

use cage_libc::net::{AF_INET, AF_INET6, Address, SOCK_STREAM, Socket};
use cage_libc::sys::{self, Errno, address, nr};
use std::ffi::{CStr, CString};
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const EPERM: Errno = Errno(1);
const ESRCH: Errno = Errno(3);
const ENOENT: Errno = Errno(2);
const EFAULT: Errno = Errno(14);
const EISDIR: Errno = Errno(21);
const EINVAL: Errno = Errno(22);
/// What a copy answers that is not made.
const REFUSED_COPY: i32 = 0xE001_0001_u32 as i32;
const GETPPID: u32 = 110;
const O_RDWR: u64 = 2;
const O_RDWR_CREAT: u64 = 0o102;

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(nr, args) }
}

fn open(path: &CStr, flags: u64) -> Result<i32, Errno> {
    call(nr::OPEN, &[address(path.as_ptr()), flags, 0o644])
}

/// Counts what is not as on Lind.
struct Facts(u32);

impl Facts {
    fn equal<T: PartialEq + Debug>(&mut self, what: &str, got: T, wanted: T) {
        if got != wanted {
            println!("{what}: {got:?} instead of {wanted:?}");
            self.0 += 1;
        }
    }
}

/// Only the commands of process locks come with an address, and their locks keep no cage out.
fn locks(facts: &mut Facts, path: &CStr) -> Result<(), Errno> {
    const GET: u64 = 5;
    const SET: u64 = 6;
    const OFD_SET: u64 = 37;
    let fd = open(path, O_RDWR_CREAT)?;
    let lock = |fd: i32, command: u64| {
        let mut lock = [0u8; 32];
        lock[0] = 1;
        let args = [fd as u64, command, 0, address(lock.as_mut_ptr())];
        call(nr::FCNTL, &args).map(|_| lock[0])
    };
    facts.equal("a lock of the open file", lock(fd, OFD_SET), Err(EFAULT));
    facts.equal("a lock of the process", lock(fd, SET), Ok(1));
    let child = sys::fork()?;
    if child == 0 {
        let own = open(path, O_RDWR);
        let free = own.and_then(|fd| lock(fd, GET)) == Ok(2);
        let locked = own.and_then(|fd| lock(fd, SET)) == Ok(1);
        sys::exit(i32::from(!(free && locked)))
    }
    let ended = sys::waitpid(child, 0);
    facts.equal("another cage has it too", ended, Ok((child, 0)));
    sys::close(fd)
}

/// A place comes cut to 32 bits.
fn places(facts: &mut Facts, path: &CStr) -> Result<(), Errno> {
    let fd = open(path, O_RDWR)?;
    let seek = |to: i64| call(nr::LSEEK, &[fd as u64, to as u64, 0]);
    facts.equal("3 GiB", seek(3 << 30), Ok(-(1 << 30)));
    facts.equal("5 GiB", seek(5 << 30), Ok(1 << 30));
    sys::close(fd)
}

/// Addresses end after 16 bytes, and accept says nothing of their length.
fn addresses(facts: &mut Facts) -> Result<(), Errno> {
    let told = |socket: &Socket, nr: u32| {
        let (mut bytes, mut len) = ([0xffu8; 64], 64u32);
        bytes[..2].copy_from_slice(&(AF_INET6 as u16).to_le_bytes());
        let args = [
            socket.fd() as u64,
            address(bytes.as_mut_ptr()),
            address(&raw mut len),
        ];
        call(nr, &args).map(|fd| (fd, bytes, len))
    };
    let end = |bytes: &[u8; 64]| bytes.iter().rposition(|&byte| byte != 0xff);
    let v6 = Socket::new(AF_INET6, SOCK_STREAM)?;
    let any: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
    // Not every machine has IPv6.
    if v6.bind(&Address::from(any)).is_ok() {
        let (_, bytes, len) = told(&v6, nr::GETSOCKNAME)?;
        facts.equal("a name", (len, end(&bytes)), (16, Some(15)));
    }
    let listener = Socket::new(AF_INET, SOCK_STREAM)?;
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    listener.bind(&Address::from(any))?;
    listener.listen(1)?;
    let client = Socket::new(AF_INET, SOCK_STREAM)?;
    client.connect(&listener.name()?)?;
    let (fd, bytes, len) = told(&listener, nr::ACCEPT)?;
    facts.equal("a peer", (len, end(&bytes)), (64, Some(15)));
    sys::close(fd)
}

/// epoll keeps the descriptor, not the data.
fn events(facts: &mut Facts) -> Result<(), Errno> {
    let (reader, writer) = sys::pipe2(0)?;
    sys::write(writer, b"x")?;
    let instance = call(nr::EPOLL_CREATE, &[1])?;
    let event = [&1u32.to_le_bytes()[..], &77u64.to_le_bytes()].concat();
    let args = [instance as u64, 1, reader as u64, address(event.as_ptr())];
    call(nr::EPOLL_CTL, &args)?;
    let mut found = [0u8; 12];
    let args = [instance as u64, address(found.as_mut_ptr()), 1, 0];
    call(nr::EPOLL_WAIT, &args)?;
    facts.equal(
        "the data",
        &found[4..],
        &u64::from(reader as u32).to_le_bytes(),
    );
    Ok(())
}

/// Where memory is: the base, the pages, what is mapped.
fn memory(facts: &mut Facts) -> Result<(), Errno> {
    const PAGE: u64 = 4096;
    let base = sys::base();
    facts.equal("the base is a page's", (base > 0, base % PAGE), (true, 0));
    facts.equal("and no 4 GiB's", base.trailing_zeros() < 32, true);
    let child = sys::fork()?;
    if child == 0 {
        sys::exit(i32::from(sys::base() == base))
    }
    let ended = sys::waitpid(child, 0);
    facts.equal("a child has another", ended, Ok((child, 0)));
    let pages = core::arch::wasm32::memory_size::<0>();
    facts.equal("all of the memory is there", pages, 1 << 16);
    let mapped = call(nr::MMAP, &[0, PAGE, 3, 0x22, u64::MAX, 0])?;
    // From the top, but for the last page: what is negative is no error.
    let place = (mapped < -4096, mapped as u64 % PAGE);
    facts.equal("what is mapped", place, (true, 0));
    call(nr::MUNMAP, &[base + u64::from(mapped as u32), PAGE])?;
    let own = sys::own_id();
    let (from, to) = ([1u8; 8], [0u8; 8]);
    let arg = |value, cage| sys::Arg { value, cage };
    let none = arg(sys::UNUSED, own);
    let args = [
        arg(address(from.as_ptr()), own),
        arg(address(to.as_ptr()), own),
        arg(8, own),
        arg(0, own),
        none,
        none,
    ];
    // SAFETY: both are live buffers of that length.
    let copied = unsafe { sys::call_3i(1002, own, own, &args) };
    facts.equal("a copy within a cage", copied, REFUSED_COPY);
    Ok(())
}

/// Names: none is the current directory's, and programs have theirs from the root alone.
fn names(facts: &mut Facts) -> Result<(), Errno> {
    facts.equal("no name", open(c"", O_RDWR), Err(EISDIR));
    let mut path = [0u8; 64];
    let args = [address(path.as_mut_ptr()), path.len() as u64];
    let len = call(nr::GETCWD, &args)?;
    let end = path.iter().position(|&byte| byte == 0);
    facts.equal("the length of a path", Some(len as usize), end);
    let child = sys::fork()?;
    if child == 0 {
        let name = c"geteuid.cwasm".as_ptr().cast();
        // SAFETY: a NUL-terminated string.
        let errno = unsafe { sys::execve(name, &[name], &[]) };
        sys::exit(i32::from(errno != ENOENT))
    }
    facts.equal("a bare name", sys::waitpid(child, 0), Ok((child, 0)));
    let own = CString::new(own_path()).unwrap_or_default();
    let given = std::env::vars().count();
    let given = CString::new(given.to_string()).unwrap_or_default();
    let child = sys::fork()?;
    if child == 0 {
        let words = [c"another name", c"told", &given].map(CStr::as_ptr);
        let words = words.map(<*const _>::cast);
        // SAFETY: NUL-terminated strings.
        let errno = unsafe { sys::execve(own.as_ptr().cast(), &words, &[]) };
        sys::exit(errno.0)
    }
    facts.equal("its own name", sys::waitpid(child, 0), Ok((child, 0)));
    Ok(())
}

fn own_path() -> String {
    let name = std::env::args().next().unwrap_or_default();
    match name.starts_with('/') {
        true => name,
        false => format!("/bin/{name}"),
    }
}

/// What a program is told that was executed by another name, without an environment: its path, and
/// the environment of the command line.
fn told(given: &str) -> bool {
    std::env::args().next() == Some(own_path()) && std::env::vars().count().to_string() == given
}

/// Results that are others than Linux's.
fn results(facts: &mut Facts, path: &CStr) -> Result<(), Errno> {
    let mut room = [0u8; 64];
    let file = open(path, O_RDWR)?;
    let args = [file as u64, address(room.as_mut_ptr()), 64];
    let listed = call(nr::GETDENTS64, &args);
    facts.equal("entries of a file", listed, Err(EPERM));
    let own = sys::own_id();
    let probed = call(nr::KILL, &[own, 0]);
    facts.equal("a probe", probed, Err(EINVAL));
    let group = call(nr::KILL, &[(-(own as i64)) as u64, 9]);
    facts.equal("a group", group, Err(EINVAL));
    facts.equal("nobody", call(nr::KILL, &[1 << 20, 9]), Err(ESRCH));
    let parent = call(GETPPID, &[]);
    let first = own == 1;
    facts.equal("a parent", parent == Ok(own as i32), first);
    let child = sys::fork()?;
    if child == 0 {
        core::arch::wasm32::unreachable()
    }
    facts.equal("a trap", sys::waitpid(child, 0), Ok((child, 1 << 8)));
    let (reader, writer) = sys::pipe2(0)?;
    sys::write(writer, b"x")?;
    let mut set = [0u64; 16];
    set[0] = 1 << reader;
    let times = [10u64, 0];
    let args = [
        reader as u64 + 1,
        address(set.as_ptr()),
        0,
        0,
        address(times.as_ptr()),
    ];
    facts.equal("a set", call(nr::SELECT, &args), Ok(1));
    let left = std::hint::black_box(&times);
    facts.equal("the time that is left", left, &[10, 0]);
    if facts.0 == 0 {
        // Elsewhere this would take an hour.
        let none = [(-1i32).to_le_bytes(), [0; 4]].concat();
        let polled = call(nr::POLL, &[address(none.as_ptr()), 1, 3_600_000]);
        facts.equal("waiting for nothing", polled, Ok(0));
    }
    Ok(())
}

fn main() {
    let mut facts = Facts(0);
    let dir = std::env::args().nth(1).unwrap_or_default();
    if dir == "told" {
        let given = std::env::args().nth(2).unwrap_or_default();
        std::process::exit(i32::from(!told(&given)))
    }
    let path = CString::new(format!("{dir}/facts")).unwrap_or_default();
    let looked = locks(&mut facts, &path)
        .and_then(|()| places(&mut facts, &path))
        .and_then(|()| addresses(&mut facts))
        .and_then(|()| events(&mut facts))
        .and_then(|()| memory(&mut facts))
        .and_then(|()| names(&mut facts))
        .and_then(|()| results(&mut facts, &path));
    facts.equal("the facts themselves", looked, Ok(()));
    if facts.0 == 0 {
        println!("as on Lind");
    }
    std::process::exit(i32::from(facts.0 > 0))
}
