//! Kills children that compute, sleep, wait for a pipe, or wait for their own child. Exits with 0
//! when each ended by the signal.

use cage_libc::sys::{self, Errno, nr};
use std::time::Duration;

fn kill(pid: i32, signal: i32) -> Result<i32, Errno> {
    // SAFETY: no address among the arguments.
    unsafe { sys::syscall(nr::KILL, &[pid as u64, signal as u64]) }
}

fn busy(what: &str) {
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
            std::thread::sleep(Duration::from_millis(30));
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
    if kill(sys::own_id() as i32, 0) != Ok(0) || kill(sys::own_id() as i32, 65) != Err(Errno(22)) {
        println!("a probe, or a signal that does not exist");
        failures += 1;
    }
    std::process::exit(i32::from(failures > 0))
}
