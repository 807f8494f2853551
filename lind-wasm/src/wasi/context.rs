//! One call of a WASI function: the program's memory, the scratch space, and system calls.

use super::abi::{Errno, Failure, Outcome, Stat, nr};
use crate::memory::GuestMemory;
use crate::path::PATH_MAX;
use crate::regions::Prot;
use crate::request::{Arg, Request, UNUSED};
use crate::state::HostState;
use crate::syscall::system_call;
use wasmtime::Caller;

/// A call under way.
pub struct Context<'a> {
    /// The program's instance.
    pub caller: Caller<'a, HostState>,
    /// Bytes of scratch space that the call has taken.
    used: usize,
}

impl<'a> Context<'a> {
    /// Starts a call, with all of the thread's scratch space free: its instance is in one call at
    /// a time.
    pub fn new(caller: Caller<'a, HostState>) -> Self {
        Self { caller, used: 0 }
    }

    /// Makes a system call on the program's own cage.
    ///
    /// # Errors
    /// The errno in its result; a stop when the program must not go on.
    pub fn call<const N: usize>(&mut self, nr: u32, values: [u64; N]) -> Outcome<u32> {
        let own = self.own();
        let mut args = [Arg {
            value: UNUSED,
            cage: own,
        }; 6];
        for (arg, value) in args.iter_mut().zip(values) {
            arg.value = value;
        }
        let mut request = Request {
            nr,
            own,
            target: own,
            args,
        };
        let result = system_call(&mut self.caller, &mut request).map_err(Failure::Stop)?;
        match Errno::in_result(result) {
            Some(errno) => Err(errno.into()),
            None => Ok(result as u32),
        }
    }

    /// Moves a descriptor's position, and answers it: by the call that every grate knows, and
    /// another for a place that has no room in its result.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn seek(&mut self, fd: u64, offset: i64, whence: u32) -> Outcome<u64> {
        const SEEK_SET: u32 = 0;
        const SEEK_CUR: u64 = 1;
        match self.call(nr::LSEEK, [fd, offset as u64, u64::from(whence)]) {
            Err(Failure::Errno(Errno::OVERFLOW)) => {}
            other => return other.map(u64::from),
        }
        if whence == SEEK_SET {
            return Ok(offset as u64);
        }
        let at = self.reserve(8)?;
        self.call(nr::LLSEEK, [fd, 0, SEEK_CUR, at])?;
        Ok(u64::from_le_bytes(self.staged(at)?))
    }

    /// The number of the program's cage.
    pub fn own(&self) -> u64 {
        self.caller.data().cage.id.raw()
    }

    fn memory(&self) -> &GuestMemory {
        &self.caller.data().image.memory
    }

    /// Makes sure that the program has `len` bytes at `at`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn check(&self, at: u32, len: u32) -> Outcome<()> {
        let access = Prot::READ | Prot::WRITE;
        self.memory()
            .exact(u64::from(at), u64::from(len), access)
            .map(drop)
            .map_err(Failure::from)
    }

    /// Copies bytes out of the program's memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn bytes(&self, at: u32, len: u32) -> Outcome<Vec<u8>> {
        self.check(at, len)?;
        let mut bytes = vec![0; len as usize];
        self.memory().read(u64::from(at), &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes into the program's memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put(&self, at: u32, bytes: &[u8]) -> Outcome<()> {
        Ok(self.memory().write(u64::from(at), bytes)?)
    }

    /// Takes scratch space; answers its address.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self, len: usize) -> Outcome<u64> {
        let start = self.used;
        let end = start.checked_add(len).ok_or(Errno::NOMEM)?;
        if end > GuestMemory::scratch_len() {
            return Err(Errno::NOMEM.into());
        }
        self.used = end.next_multiple_of(8);
        let task = self.caller.data().task.as_ref();
        let block = task.map_or(0, |task| task.scratch());
        Ok(GuestMemory::scratch(block, start))
    }

    /// Puts bytes into scratch space; answers their address.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn stage(&mut self, bytes: &[u8]) -> Outcome<u64> {
        let at = self.reserve(bytes.len())?;
        self.stage_at(at, bytes)?;
        Ok(at)
    }

    /// Puts bytes into scratch space taken before.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn stage_at(&self, at: u64, bytes: &[u8]) -> Outcome<()> {
        Ok(self.memory().write(at, bytes)?)
    }

    /// Copies a string of the program to scratch space and puts a NUL behind it.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`; `EINVAL` when there is a NUL in it.
    pub fn stage_string(&mut self, string: &[u8]) -> Outcome<u64> {
        if string.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        let at = self.reserve(string.len() + 1)?;
        self.stage_at(at, string)?;
        self.stage_at(at + string.len() as u64, &[0])?;
        Ok(at)
    }

    /// A path of the program, without any check but of its length.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, at: u32, len: u32) -> Outcome<Vec<u8>> {
        if len as usize >= PATH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        self.bytes(at, len)
    }

    /// Reads a result in scratch space.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn staged<const N: usize>(&self, at: u64) -> Outcome<[u8; N]> {
        Ok(self.memory().read_array(at)?)
    }

    /// As [`Context::staged`], of any length.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn staged_bytes(&self, at: u64, len: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.memory().read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// `fstat` of one of the cage's descriptors.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn stat(&mut self, fd: u64) -> Outcome<Stat> {
        let at = self.reserve(Stat::LEN)?;
        self.call(nr::FSTAT, [fd, at])?;
        Ok(Stat::new(self.staged(at)?))
    }
}
