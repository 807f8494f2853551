//! `socket_ops DIR SEED COUNT`: makes COUNT random socket calls and tells of them.

use cage_libc::sys;

#[path = "../socket_ops.rs"]
mod socket_ops;

use socket_ops::{Kernel, Player};

struct Cage;

impl Kernel for Cage {
    unsafe fn call(&self, nr: u32, args: &[u64]) -> Result<i32, i32> {
        // SAFETY: by the caller.
        unsafe { sys::syscall(nr, args) }.map_err(|errno| errno.0)
    }

    fn address(&self, pointer: *const u8) -> u64 {
        sys::address(pointer)
    }

    fn nowhere(&self) -> u64 {
        // Nothing is mapped there, with or without a base.
        sys::base() + 0x7000_0000
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, directory, seed, count] = args.as_slice() else {
        eprintln!("usage: socket_ops DIR SEED COUNT");
        std::process::exit(64);
    };
    let (Ok(seed), Ok(count)) = (seed.parse(), count.parse()) else {
        eprintln!("socket_ops: SEED and COUNT are numbers");
        std::process::exit(64);
    };
    let wide = sys::base() == 0;
    let player = Player::new(&Cage, directory, seed, wide);
    print!("{}", player.play(count));
}
