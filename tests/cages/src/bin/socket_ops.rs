//! `socket_ops DIR SEED COUNT [MS]`: makes COUNT random socket calls and tells of them. Once a
//! connection has been made it waits for MS milliseconds.

use cage_libc::sys;

#[path = "../socket_ops.rs"]
mod socket_ops;

use socket_ops::{Kernel, Player};

struct Cage {
    settle: std::time::Duration,
}

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

    fn settle(&self) {
        if !self.settle.is_zero() {
            std::thread::sleep(self.settle);
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, directory, seed, count, rest @ ..] = args.as_slice() else {
        eprintln!("usage: socket_ops DIR SEED COUNT [MS]");
        std::process::exit(64);
    };
    let settle = rest.first().map_or(Ok(0), |ms| ms.parse());
    let (Ok(seed), Ok(count), Ok(settle)) = (seed.parse(), count.parse(), settle) else {
        eprintln!("socket_ops: SEED, COUNT and MS are numbers");
        std::process::exit(64);
    };
    let cage = Cage {
        settle: std::time::Duration::from_millis(settle),
    };
    let wide = sys::base() == 0;
    let player = Player::new(&cage, directory, seed, wide);
    print!("{}", player.play(count));
}
