//! The one table of system calls: number, name, and what each argument is.
//!
//! Pure data, for the host and for guests. The runtime checks authority and strictness by it,
//! strace decodes by it, what grates decide hangs on it, and the fuzzer makes calls by it. Numbers
//! and meanings are those of Linux on x86-64, but where Lind's shape differs ([`CALLS`] has
//! Lind's).
#![no_std]
#![forbid(unsafe_code)]

pub mod decided;
mod kind;
pub mod names;
mod table;

pub use kind::{Access, Kind, Struct};
pub use table::CALLS;

/// What an argument that a call does not have is passed as, and the cage of one that has none.
pub const UNUSED: u64 = 0xdead_beef_dead_beef;

/// In an argument's cage: a mark of grates' own that never counts as part of the number.
pub const GRATE_MEMORY_FLAG: u64 = 1 << 63;

/// What the result of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A number.
    Number,
    /// A new descriptor of the target's.
    Fd,
    /// A number of bytes moved.
    Count,
    /// An address, which may look like a negative number.
    Address,
    /// There is none.
    Never,
}

/// Which runtimes serve a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The public Lind runtime and ours.
    Both,
    /// Ours alone.
    Ours,
    /// The public Lind runtime alone.
    Lind,
    /// Neither; grates refuse it, for it would let data past them.
    Nowhere,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number.
    pub nr: u32,
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub args: &'static [Kind],
    /// Its result.
    pub result: Outcome,
    /// Who serves it.
    pub served: Served,
}

impl Entry {
    /// Whether our runtime serves it.
    pub const fn is_ours(&self) -> bool {
        matches!(self.served, Served::Both | Served::Ours)
    }

    /// Whether the public Lind runtime serves it.
    pub const fn is_on_lind(&self) -> bool {
        matches!(self.served, Served::Both | Served::Lind)
    }

    /// Whether it begins, replaces or ends the very thread that makes it: a grate can pass such a
    /// call on while it is made, and cannot make it for a cage by itself.
    pub const fn is_of_the_thread(&self) -> bool {
        matches!(self.nr, CLONE | EXECVE | EXIT | EXIT_GROUP)
    }
}

/// Writes to a descriptor.
pub const WRITE: u32 = 1;
/// Writes several buffers to a descriptor.
pub const WRITEV: u32 = 20;
/// Sends to a socket.
pub const SENDTO: u32 = 44;
/// Sends several buffers to a socket.
pub const SENDMSG: u32 = 46;
/// Closes a descriptor.
pub const CLOSE: u32 = 3;
/// Forks.
pub const CLONE: u32 = 56;
/// Replaces the program.
pub const EXECVE: u32 = 59;
/// Ends the thread.
pub const EXIT: u32 = 60;
/// Ends the cage.
pub const EXIT_GROUP: u32 = 231;
/// 3i: lets a grate serve a call of a cage.
pub const REGISTER_HANDLER: u32 = 1001;
/// 3i: copies bytes between cages.
pub const COPY_DATA: u32 = 1002;
/// 3i: copies a handler table.
pub const COPY_TABLE: u32 = 1003;
/// Reads at an offset.
pub const PREAD: u32 = 17;
/// Writes at an offset.
pub const PWRITE: u32 = 18;
/// Descriptor flags and record locks.
pub const FCNTL: u32 = 72;
/// As lseek, with a result of 64 bits.
pub const LLSEEK: u32 = 1100;

/// The call of that number.
pub fn entry(nr: u32) -> Option<&'static Entry> {
    /// Numbers below this are found without a search.
    const DIRECT: usize = 1200;
    const NONE: u8 = u8::MAX;
    static PLACES: [u8; DIRECT] = {
        let mut places = [NONE; DIRECT];
        let mut at = 0;
        while at < CALLS.len() {
            if (CALLS[at].nr as usize) < DIRECT {
                places[CALLS[at].nr as usize] = at as u8;
            }
            at += 1;
        }
        places
    };
    const { assert!(CALLS.len() < NONE as usize) };
    match PLACES.get(nr as usize) {
        Some(&NONE) => None,
        Some(&at) => CALLS.get(usize::from(at)),
        None => {
            let at = CALLS.binary_search_by_key(&nr, |entry| entry.nr);
            at.ok().and_then(|at| CALLS.get(at))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_found_by_its_number_and_no_other() {
        for call in CALLS {
            assert_eq!(entry(call.nr).map(|found| found.name), Some(call.name));
            assert!(call.args.len() <= 6);
        }
        for nr in [26, 57, 511, 512, 1000, 1113, 1199, 1200, u32::MAX] {
            assert!(entry(nr).is_none(), "{nr}");
        }
    }

    #[test]
    fn what_is_measured_by_the_next_argument_has_one() {
        for call in CALLS {
            for (index, kind) in call.args.iter().enumerate() {
                if kind.next_is_its_length() {
                    let next = call.args.get(index + 1);
                    assert!(
                        next.is_some_and(|next| matches!(next, Kind::Size | Kind::Int)),
                        "{} {index}",
                        call.name
                    );
                }
            }
        }
    }
}
