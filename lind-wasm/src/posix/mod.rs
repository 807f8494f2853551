//! System calls served by the kernel: one module a family, one table from number to function.

mod abi;
mod addresses;
mod aead;
mod devices;
mod epoll;
mod fast;
mod fds;
mod file_keys;
mod files;
mod futex;
mod helpers;
mod interfaces;
mod io;
mod kept;
mod lease;
mod lookup;
mod memory;
mod messages;
mod names;
mod options;
mod poll;
mod process;
mod record_aead;
mod sealed_file;
mod segments;
mod signals;
mod sockets;
#[cfg(test)]
pub(crate) mod testing;
mod threads;
mod time;

use crate::cage::{Cage, CageId, Named, Parties};
use crate::image::Image;
use crate::request::{Arg, UNUSED};
use crate::runtime::Runtime;
use crate::signals::{Signal, can_restart};
use crate::threads::current_cage;
use crate::threei;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// One served call. [`calls`] says what it is.
#[derive(Debug)]
struct Entry {
    nr: u32,
    serve: fn(&Call<'_>) -> Result<i32, Errno>,
}

impl Entry {
    const fn new(nr: u32, serve: fn(&Call<'_>) -> Result<i32, Errno>) -> Self {
        Self { nr, serve }
    }
}

const FAMILIES: &[&[Entry]] = &[
    aead::CALLS,
    record_aead::CALLS,
    epoll::CALLS,
    fds::CALLS,
    file_keys::CALLS,
    files::CALLS,
    futex::CALLS,
    io::CALLS,
    kept::CALLS,
    lease::CALLS,
    memory::CALLS,
    messages::CALLS,
    names::CALLS,
    options::CALLS,
    poll::CALLS,
    process::CALLS,
    sealed_file::CALLS,
    segments::CALLS,
    signals::CALLS,
    sockets::CALLS,
    threads::CALLS,
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

fn served() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// A call on its way to the kernel: 3i has judged every cage that it names.
pub struct Call<'a> {
    /// The run.
    pub rt: &'a Arc<Runtime>,
    /// The cage that makes the call.
    pub caller: &'a Arc<Cage>,
    /// The cage whose state is acted on.
    pub target: &'a Arc<Cage>,
    /// The two again, and who else takes part, with their programs.
    parties: &'a Parties<'a>,
    args: &'a [Arg; 6],
}

/// Serves a call that no grate has taken.
///
/// # Errors
/// `ENOSYS` for a number that is not served, else as the call has them.
pub fn call(
    rt: &Arc<Runtime>,
    parties: &Parties<'_>,
    nr: u32,
    args: &[Arg; 6],
) -> Result<i32, Errno> {
    let (caller, target) = (&*parties.caller.cage, &*parties.target.cage);
    if rt.strict {
        check_strict(rt, caller, nr, args);
    }
    let entry = TABLE.get(nr as usize).copied().flatten();
    let entry = entry.ok_or(Errno::NOSYS)?;
    // A condemned cage makes no more calls. A grate may finish what it is doing for one: half of
    // a change to a file would be worse than a late end.
    if caller.doom().is_some() {
        return Err(Errno::INTR);
    }
    let call = Call {
        rt,
        caller,
        target,
        parties,
        args,
    };
    let mut served = (entry.serve)(&call);
    // Who was interrupted for a signal that has come meanwhile goes on, unless his grate is gone.
    while served == Err(Errno::INTR)
        && can_restart(nr)
        && !call.thread_is_interrupted()
        && !threei::is_in_vain()
    {
        served = (entry.serve)(&call);
    }
    if served == Err(Errno::PIPE) && signals::tells_of_pipes(nr, &call) {
        rt.signal(target, Signal::PIPE);
    }
    served
}

/// Ends the run for what would end a run of the public Lind runtime.
fn check_strict(rt: &Runtime, caller: &Cage, nr: u32, args: &[Arg; 6]) {
    let Some(entry) = calls::entry(nr).filter(|entry| entry.is_on_lind()) else {
        rt.strict_violation(caller, format_args!("call {nr} is not served by Lind"));
    };
    for (index, arg) in args.iter().enumerate().skip(entry.args.len()) {
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

impl<'a> Call<'a> {
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

    /// The cage that an argument belongs to, known or looked up.
    fn named(&self, index: usize) -> Result<Named<'a>, Errno> {
        let id = self.args[index].cage;
        if let Some(named) = self.parties.find(id) {
            return Ok(named.clone());
        }
        let cage = CageId::from_guest(id).and_then(|id| self.rt.cage(id));
        cage.map(Named::found).ok_or(Errno::SRCH)
    }

    /// The cage that an argument belongs to.
    ///
    /// # Errors
    /// `ESRCH` when it has ended since.
    pub fn cage_of(&self, index: usize) -> Result<Cow<'a, Arc<Cage>>, Errno> {
        self.named(index).map(|named| named.cage)
    }

    /// The program whose memory an address argument lies in.
    ///
    /// # Errors
    /// As [`Call::cage_of`].
    pub fn image_of(&self, index: usize) -> Result<Cow<'a, Arc<Image>>, Errno> {
        self.named(index)?.image()
    }

    /// The program that the target runs.
    ///
    /// # Errors
    /// As [`Named::image`].
    pub fn target_image(&self) -> Result<Cow<'a, Arc<Image>>, Errno> {
        self.parties.target.image()
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

    /// Whether the calling thread is to return to its program, whichever grate makes the call for it.
    fn thread_is_interrupted(&self) -> bool {
        let cage = current_cage().and_then(|id| self.rt.cage(id));
        cage.is_none_or(|cage| cage.is_interrupted())
    }

    /// Whether a call that waits for something of the target's is to return: that one must, or nobody
    /// is there any more to whom the call returns.
    fn is_to_return(&self) -> bool {
        self.target.is_interrupted() || threei::is_in_vain()
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

    /// What is served is what the table of calls says, with nothing twice.
    #[test]
    fn the_table_of_calls_says_what_is_served() {
        let mut served: Vec<u32> = served().map(|entry| entry.nr).collect();
        served.extend([calls::REGISTER_HANDLER, calls::COPY_DATA, calls::COPY_TABLE]);
        served.sort_unstable();
        let told = calls::CALLS.iter().filter(|entry| entry.is_ours());
        assert_eq!(served, told.map(|entry| entry.nr).collect::<Vec<_>>());
    }
}
