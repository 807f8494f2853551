//! A clamp around the sockets of some ports: see `net-routing-clamp.cwasm --help`.

#[cfg(target_family = "wasm")]
mod grate;

#[cfg(target_family = "wasm")]
fn main() {
    grate::main()
}

/// The grate is a guest: on the host there is nothing for it to do.
#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("net-routing-clamp runs as a cage: build it with `make build`");
    std::process::exit(1);
}
