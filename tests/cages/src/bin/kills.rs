//! Kills children that compute, sleep, wait for a pipe, for sockets, or for their own child, and
//! sees that those that wait take no time of the processor. Exits with 0 when each ended by the
//! signal.

use cage_libc::net::{AF_UNIX, Address, SOCK_STREAM, Socket};
use cage_libc::sys::{self, Errno, address, nr};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Long enough for a child to be where it will stay.
const A_WHILE: Duration = Duration::from_millis(30);
/// Of that, what all cages together may take of the processor while they wait.
const LITTLE: Duration = Duration::from_millis(15);

fn kill(pid: i32, signal: i32) -> Result<i32, Errno> {
    // SAFETY: no address among the arguments.
    unsafe { sys::syscall(nr::KILL, &[pid as u64, signal as u64]) }
}

/// The time of the processor that this run has taken.
fn processor_time() -> Duration {
    const CLOCK_PROCESS_CPUTIME_ID: u64 = 2;
    let mut time = [0u64; 2];
    let args = [CLOCK_PROCESS_CPUTIME_ID, address(time.as_mut_ptr())];
    // SAFETY: there is room for a time.
    let told = unsafe { sys::syscall(nr::CLOCK_GETTIME, &args) };
    match told {
        Ok(_) => Duration::new(time[0], time[1] as u32),
        Err(_) => Duration::MAX,
    }
}

fn wait_for_socket(how: &str) -> Result<(), Errno> {
    let ip = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Socket::tcp_listen(ip)?;
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM)?;
    let fd = one.fd();
    let forever = -1i64 as u64;
    match how {
        "a connection" => drop(listener.accept(0)),
        "bytes" => drop(one.receive(&mut [0; 1], 0)),
        "room" => while one.send(&[0; 4096], 0).is_ok() {},
        "a listener" => {
            // One that has all connections that it takes.
            let path = format!("/tmp/full {}", sys::own_id());
            let _ = std::fs::remove_file(&path);
            let at = Address::unix(path.as_bytes());
            let full = Socket::new(AF_UNIX, SOCK_STREAM)?;
            full.bind(&at)?;
            full.listen(0)?;
            loop {
                let client = Socket::new(AF_UNIX, SOCK_STREAM)?;
                client.connect(&at)?;
                client.into_fd();
            }
        }
        "poll" => {
            let entry = [fd as u64 | 1 << 32];
            // SAFETY: the array has one entry.
            unsafe { sys::syscall(nr::POLL, &[address(entry.as_ptr()), 1, forever]) }?;
        }
        "select" => {
            let mut set = [1u64 << fd];
            let args = [fd as u64 + 1, address(set.as_mut_ptr()), 0, 0, 0];
            // SAFETY: the set has 64 bits.
            unsafe { sys::syscall(nr::SELECT, &args) }?;
        }
        _ => {
            // SAFETY: no address among the arguments.
            let instance = unsafe { sys::syscall(nr::EPOLL_CREATE1, &[0]) }?;
            let event = [1u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let add = [instance as u64, 1, fd as u64, address(event.as_ptr())];
            let mut events = [0u8; 12];
            let wait = [instance as u64, address(events.as_mut_ptr()), 1, forever];
            // SAFETY: the event is whole, and there is room for one.
            unsafe {
                sys::syscall(nr::EPOLL_CTL, &add)?;
                sys::syscall(nr::EPOLL_WAIT, &wait)?;
            }
        }
    }
    drop(other);
    Ok(())
}

fn busy(what: &str) {
    if let Some(how) = what.strip_prefix("waits with a socket: ") {
        let _ = wait_for_socket(how);
        return;
    }
    match what {
        "computes" => {
            let mut number = 1u64;
            loop {
                number = std::hint::black_box(number.wrapping_mul(3));
            }
        }
        "sleeps" => loop {
            std::thread::sleep(Duration::from_secs(1000));
        },
        "waits for a pipe" => {
            let Ok((reader, _writer)) = sys::pipe2(0) else {
                return;
            };
            let _ = sys::read(reader, &mut [0; 1]);
        }
        _ => {
            let Ok(child) = sys::fork() else { return };
            if child == 0 {
                std::thread::sleep(Duration::from_millis(300));
                sys::exit(0)
            }
            let _ = sys::waitpid(child, 0);
        }
    }
}

fn main() {
    let mut failures = 0;
    for what in [
        "computes",
        "sleeps",
        "waits for a pipe",
        "waits for a child",
        "waits with a socket: a connection",
        "waits with a socket: bytes",
        "waits with a socket: room",
        "waits with a socket: a listener",
        "waits with a socket: poll",
        "waits with a socket: select",
        "waits with a socket: epoll",
    ] {
        for signal in [9, 15] {
            let child = match sys::fork() {
                Ok(0) => {
                    busy(what);
                    sys::exit(77)
                }
                Ok(child) => child,
                Err(errno) => {
                    println!("fork: {errno:?}");
                    sys::exit(1)
                }
            };
            std::thread::sleep(A_WHILE);
            let before = processor_time();
            std::thread::sleep(A_WHILE);
            let taken = processor_time().saturating_sub(before);
            if what != "computes" && taken > LITTLE {
                println!("a child that {what} takes {taken:?} in {A_WHILE:?}");
                failures += 1;
            }
            let sent = kill(child, signal);
            let ended = sys::waitpid(child, 0);
            if (sent, ended) != (Ok(0), Ok((child, signal))) {
                println!("a child that {what}: kill {sent:?}, wait {ended:?}");
                failures += 1;
            }
            if kill(child, 9) != Err(Errno(3)) {
                println!("a child that {what} is there after its end");
                failures += 1;
            }
        }
    }
    // Lind has no probe.
    let probed = if sys::base() == 0 {
        Ok(0)
    } else {
        Err(Errno(22))
    };
    if kill(sys::own_id() as i32, 0) != probed || kill(sys::own_id() as i32, 65) != Err(Errno(22)) {
        println!("a probe, or a signal that does not exist");
        failures += 1;
    }
    std::process::exit(i32::from(failures > 0))
}
