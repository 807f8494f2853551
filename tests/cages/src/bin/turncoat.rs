//! `turncoat NAME SECRET TRIES`: asks about a file, and cuts it, by a name that another cage makes
//! a file of its own at one moment and a symlink to the secret at the next. Says the sizes that it
//! was told.

use cage_libc::sys::{self, Errno, nr};
use std::collections::BTreeSet;
use std::process::ExitCode;

const EXCHANGE: u64 = 2;
const CUT: u64 = 100;
/// `struct stat`: where the mode is, and the size.
const STAT_LEN: usize = 104;

fn call(nr: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: callers give strings with their NUL, and room for what is written.
    unsafe { sys::syscall(nr, args) }
}

fn place(text: &str) -> u64 {
    sys::address(text.as_ptr())
}

/// The size that a stat call tells of a regular file.
fn size(nr: u32, before: &[u64], after: &[u64]) -> Option<u64> {
    let mut stat = [0u8; STAT_LEN];
    let room = sys::address(stat.as_mut_ptr());
    call(nr, &[before, &[room], after].concat()).ok()?;
    let word = |at: usize| stat[at..at + 8].try_into().map(u64::from_le_bytes);
    let mode = word(16).ok()? as u32;
    (mode & 0o170_000 == 0o100_000).then(|| word(40).ok())?
}

fn main() -> ExitCode {
    const STAT: u32 = 4;
    const TRUNCATE: u32 = 76;
    const NEWFSTATAT: u32 = 262;
    const RENAMEAT2: u32 = 316;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, secret, tries] = &args[..] else {
        return ExitCode::from(64);
    };
    let tries: u32 = tries.parse().unwrap_or(0);
    let (own, link) = (format!("{name}\0"), format!("{name}.link\0"));
    let target = format!("{secret}\0");
    let here = -100i64 as u64;
    if std::fs::write(name, "mine").is_err()
        || call(nr::SYMLINK, &[place(&target), place(&link)]).is_err()
    {
        return ExitCode::FAILURE;
    }
    let child = match sys::fork() {
        Ok(0) => loop {
            let _ = call(
                RENAMEAT2,
                &[here, place(&own), here, place(&link), EXCHANGE],
            );
        },
        Ok(child) => child,
        Err(_) => return ExitCode::FAILURE,
    };
    let mut told = BTreeSet::new();
    for _ in 0..tries {
        told.extend(size(STAT, &[place(&own)], &[]));
        told.extend(size(NEWFSTATAT, &[here, place(&own)], &[0]));
    }
    for _ in 0..tries {
        let _ = call(TRUNCATE, &[place(&own), CUT]);
    }
    let _ = call(nr::KILL, &[child as u64, 9]);
    let _ = sys::waitpid(child, 0);
    println!("{told:?}");
    ExitCode::SUCCESS
}
