//! `races memory PATH OTHER TRIES`: calls by a path that another cage changes between PATH and
//! OTHER, which are of one length, in memory that both share. None of the calls may succeed.
//!
//! `races links FOLDER OTHER NAME TRIES`: removes NAME by way of a symlink that another cage turns
//! between FOLDER and OTHER, where FOLDER has such a file each time.
//!
//! `races claims`: a parent says that its child ends, and writes to its child's descriptors.

use cage_libc::sys::{self, Arg, Errno, address, nr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const TRUNCATE: u32 = 76;
const O_WRONLY: u64 = 1;
const EPERM: Errno = Errno(1);

/// What two cages share.
struct Shared {
    is_over: AtomicBool,
    path: [AtomicU8; 256],
}

fn call(number: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: every address comes from a live buffer.
    unsafe { sys::syscall(number, args) }
}

fn shared() -> &'static Shared {
    // SAFETY: zeros are fine for all its fields.
    unsafe { grate_rs::mmap_shared::<Shared>() }
}

fn put(shared: &Shared, path: &str) {
    for (place, byte) in shared.path.iter().zip(path.bytes()) {
        place.store(byte, Ordering::Relaxed);
    }
}

/// Runs `act` in a child again and again while `race` runs here.
fn against(shared: &Shared, act: impl Fn(), race: impl FnOnce()) -> Result<(), Errno> {
    match sys::fork()? {
        0 => {
            while !shared.is_over.load(Ordering::Relaxed) {
                act();
            }
            sys::exit(0)
        }
        child => {
            race();
            shared.is_over.store(true, Ordering::Relaxed);
            sys::waitpid(child, 0).map(drop)
        }
    }
}

fn memory(path: &str, other: &str, tries: u32) -> Result<u32, Errno> {
    let shared = shared();
    put(shared, path);
    let place = address(&raw const shared.path);
    let target = address(c"/tmp/moved.log".as_ptr());
    let mut hits = 0;
    let turn = || {
        put(shared, other);
        put(shared, path);
    };
    against(shared, turn, || {
        for _ in 0..tries {
            let calls: [(u32, &[u64]); 5] = [
                (nr::RENAME, &[place, target]),
                (nr::LINK, &[place, target]),
                (nr::UNLINK, &[place]),
                (TRUNCATE, &[place, 0]),
                (nr::OPEN, &[place, O_WRONLY, 0]),
            ];
            hits += calls
                .iter()
                .filter(|(number, args)| call(*number, args).is_ok())
                .count() as u32;
        }
    })?;
    Ok(hits)
}

fn links(folder: &str, other: &str, name: &str, tries: u32) -> Result<u32, Errno> {
    let shared = shared();
    let c_string = |text: &str| format!("{text}\0");
    let link = c"/tmp/turning".as_ptr();
    let (folder_text, other_text) = (c_string(folder), c_string(other));
    let file = c_string(&format!("{folder}/{name}"));
    let by_link = c_string(&format!("/tmp/turning/{name}"));
    let turn = || {
        for text in [&folder_text, &other_text] {
            let _ = call(nr::UNLINK, &[address(link)]);
            let _ = call(nr::SYMLINK, &[address(text.as_ptr()), address(link)]);
        }
    };
    let mut removed = 0;
    against(shared, turn, || {
        for _ in 0..tries {
            if let Ok(fd) = call(nr::OPEN, &[address(file.as_ptr()), 0o101, 0o644]) {
                let _ = sys::close(fd);
            }
            removed += u32::from(call(nr::UNLINK, &[address(by_link.as_ptr())]).is_ok());
        }
    })?;
    Ok(removed)
}

/// Calls that name a child, which are not the parent's to make.
fn claims() -> Result<u32, Errno> {
    let (gate, latch) = sys::pipe2(0)?;
    let child = sys::fork()?;
    if child == 0 {
        let _ = sys::close(latch);
        let _ = sys::read(gate, &mut [0]);
        sys::exit(0);
    }
    let own = sys::own_id();
    let of_child = |value: u64| Arg {
        value,
        cage: child as u64,
    };
    let text = Arg {
        value: address(b"text".as_ptr()),
        cage: own,
    };
    let mut allowed = 0;
    for number in [nr::EXIT_GROUP, nr::CLOSE, nr::DUP, nr::GETCWD] {
        // SAFETY: no address of this cage among the arguments.
        let result = unsafe { sys::call_3i(number, own, child as u64, &[of_child(1); 6]) };
        allowed += u32::from(result != -EPERM.0);
    }
    let args = [
        of_child(1),
        text,
        of_child(4),
        of_child(0),
        of_child(0),
        of_child(0),
    ];
    // SAFETY: the text is as long as said.
    let result = unsafe { sys::call_3i(nr::WRITE, own, own, &args) };
    allowed += u32::from(result != -EPERM.0);
    let _ = sys::close(gate);
    let _ = sys::close(latch);
    sys::waitpid(child, 0)?;
    Ok(allowed)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or(0);
    let result = match words[..] {
        ["memory", path, other, tries] => memory(path, other, number(tries)),
        ["links", folder, other, name, tries] => links(folder, other, name, number(tries)),
        ["claims"] => claims(),
        _ => return ExitCode::from(64),
    };
    match result {
        Ok(count) => println!("{} {count}", words[0]),
        Err(errno) => println!("error {}", errno.0),
    }
    ExitCode::SUCCESS
}
