//! System calls served by the kernel: one module a family, one table from number to function.

mod abi;
mod addresses;
mod aead;
mod devices;
mod epoll;
mod fds;
mod files;
mod io;
mod lookup;
mod memory;
mod messages;
mod names;
mod options;
mod poll;
mod process;
mod record_aead;
mod sockets;
#[cfg(test)]
mod testing;
mod time;

pub(crate) use io::last_error;

use crate::cage::Cage;
use crate::image::Image;
use crate::runtime::Runtime;
use crate::threei::{Arg, Request, UNUSED};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::{Arc, LazyLock, OnceLock};

/// One served call.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub nr: u32,
    /// Its name.
    pub name: &'static str,
    /// How many arguments it takes.
    args: usize,
    /// Whether the public Lind runtime serves it too.
    pub on_lind: bool,
    serve: fn(&Call<'_>) -> Result<i32, Errno>,
}

impl Entry {
    /// A call that Lind serves too.
    const fn new(
        nr: u32,
        name: &'static str,
        args: usize,
        serve: fn(&Call<'_>) -> Result<i32, Errno>,
    ) -> Self {
        Self {
            nr,
            name,
            args,
            on_lind: true,
            serve,
        }
    }

    /// A call that Lind does not serve.
    const fn extra(
        nr: u32,
        name: &'static str,
        args: usize,
        serve: fn(&Call<'_>) -> Result<i32, Errno>,
    ) -> Self {
        Self {
            on_lind: false,
            ..Self::new(nr, name, args, serve)
        }
    }
}

const FAMILIES: &[&[Entry]] = &[
    aead::CALLS,
    record_aead::CALLS,
    epoll::CALLS,
    fds::CALLS,
    files::CALLS,
    io::CALLS,
    memory::CALLS,
    messages::CALLS,
    names::CALLS,
    options::CALLS,
    poll::CALLS,
    process::CALLS,
    sockets::CALLS,
    time::CALLS,
];

/// Numbers are below this.
const NUMBERS: usize = 1200;

static TABLE: LazyLock<Vec<Option<&'static Entry>>> = LazyLock::new(|| {
    let mut table = vec![None; NUMBERS];
    for entry in served() {
        table[entry.nr as usize] = Some(entry);
    }
    table
});

/// All served calls.
pub fn served() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// A call on its way to the kernel, its target authorised.
pub struct Call<'a> {
    /// The run.
    pub rt: &'a Arc<Runtime>,
    /// The cage that makes the call.
    pub caller: &'a Arc<Cage>,
    /// The cage whose state is acted on.
    pub target: Arc<Cage>,
    args: &'a [Arg; 6],
}

/// The mode bits that new files of the first cage lack. From here on the host's own mask is empty,
/// so that each cage's is the only one that counts.
pub fn take_over_umask() -> u32 {
    static INHERITED: OnceLock<u32> = OnceLock::new();
    *INHERITED.get_or_init(|| rustix::process::umask(rustix::fs::Mode::empty()).bits())
}

/// Serves a call that no grate has taken.
///
/// # Errors
/// `ENOSYS` for a number that is not served, else as the call has them.
pub fn call(
    rt: &Arc<Runtime>,
    caller: &Arc<Cage>,
    target: Arc<Cage>,
    request: &Request,
) -> Result<i32, Errno> {
    let entry = TABLE.get(request.nr as usize).copied().flatten();
    if rt.strict {
        check_strict(rt, caller, entry, request);
    }
    let entry = entry.ok_or(Errno::NOSYS)?;
    // A condemned cage makes no more calls. A grate may finish what it is doing for one: half of
    // a change to a file would be worse than a late end.
    if caller.doom().is_some() {
        return Err(Errno::INTR);
    }
    (entry.serve)(&Call {
        rt,
        caller,
        target,
        args: &request.args,
    })
}

/// Ends the run for what would end a run of the public Lind runtime.
fn check_strict(rt: &Runtime, caller: &Cage, entry: Option<&Entry>, request: &Request) {
    let Some(entry) = entry.filter(|entry| entry.on_lind) else {
        rt.strict_violation(
            caller,
            format_args!("call {} is not served by Lind", request.nr),
        );
    };
    for (index, arg) in request.args.iter().enumerate().skip(entry.args) {
        if arg.value != 0 && arg.value != UNUSED {
            rt.strict_violation(
                caller,
                format_args!(
                    "{}: unused argument {} is {:#x}; it must be 0 or {UNUSED:#x}",
                    entry.name,
                    index + 1,
                    arg.value
                ),
            );
        }
    }
}

impl Call<'_> {
    /// An argument as it came.
    pub fn raw(&self, index: usize) -> u64 {
        self.args[index].value
    }

    /// An argument of C type `int`.
    pub fn int(&self, index: usize) -> i32 {
        self.args[index].value as i32
    }

    /// An argument of C type `unsigned int`.
    pub fn uint(&self, index: usize) -> u32 {
        self.args[index].value as u32
    }

    /// An argument of C type `off_t`.
    pub fn offset(&self, index: usize) -> i64 {
        self.args[index].value as i64
    }

    /// The cage that an argument belongs to.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`: see [`Runtime::authorised`].
    pub fn cage_of(&self, index: usize) -> Result<Arc<Cage>, Errno> {
        let id = self.args[index].cage;
        if id == self.target.id.raw() {
            return Ok(self.target.clone());
        }
        self.rt.authorised(self.caller, id)
    }

    /// The program whose memory an address argument lies in.
    ///
    /// # Errors
    /// As [`Call::cage_of`].
    pub fn image_of(&self, index: usize) -> Result<Arc<Image>, Errno> {
        self.cage_of(index)?.image()
    }

    /// The open file that a descriptor argument of this call's cage-of-the-argument names.
    ///
    /// # Errors
    /// `EBADF`, and as [`Call::cage_of`].
    pub fn file(&self, index: usize) -> Result<Arc<OwnedFd>, Errno> {
        let cage = self.cage_of(index)?;
        let fds = cage.fds();
        fds.get(self.int(index)).map(|open| open.file.clone())
    }

    /// The open file that a descriptor argument names in the target's table.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn target_file(&self, index: usize) -> Result<Arc<OwnedFd>, Errno> {
        let fds = self.target.fds();
        fds.get(self.int(index)).map(|open| open.file.clone())
    }

    /// A path argument.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`, and as [`Call::cage_of`].
    pub fn path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        self.image_of(index)?
            .memory
            .read_cstr(self.raw(index), crate::path::PATH_MAX)
    }

    /// Writes bytes to an address argument.
    ///
    /// # Errors
    /// `EFAULT`, and as [`Call::cage_of`].
    pub fn put(&self, index: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.image_of(index)?.memory.write(self.raw(index), bytes)
    }

    /// Reads bytes from an address argument.
    ///
    /// # Errors
    /// `EFAULT`, and as [`Call::cage_of`].
    pub fn get<const N: usize>(&self, index: usize) -> Result<[u8; N], Errno> {
        self.image_of(index)?.memory.read_array(self.raw(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_served_once() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in served() {
            assert!(seen.insert(entry.nr), "{} stands twice", entry.nr);
            assert!(
                (entry.nr as usize) < NUMBERS && entry.args <= 6,
                "{entry:?}"
            );
        }
    }
}
