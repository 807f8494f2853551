//! `ends HOW`: ends with that status, or by a trap, SIGKILL (`kill`) or SIGTERM (`term`).

use cage_libc::sys;

fn main() {
    const KILL: u32 = 62;
    let how = std::env::args().nth(1).unwrap_or_default();
    let signal = match how.as_str() {
        "kill" => 9,
        "term" => 15,
        "trap" => core::arch::wasm32::unreachable(),
        code => std::process::exit(code.parse().unwrap_or(64)),
    };
    // SAFETY: no address among the arguments.
    let _ = unsafe { sys::syscall(KILL, &[sys::own_id(), signal]) };
    // Not reached: the signal ends the program before the call returns to it.
    std::process::exit(65)
}
