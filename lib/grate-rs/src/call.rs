//! A call as a handler sees it, and the memory of the cage that made it.

use crate::constants::lind::GRATE_MEMORY_FLAG;
use cage_libc::sys::{self, Arg, Errno};
use std::cell::{Cell, RefCell};

/// EFAULT, which a cage gets for an address that is not its own.
const EFAULT: Errno = Errno(14);
const ENAMETOOLONG: Errno = Errno(36);

/// Where a buffer lies in a cage, and how long it is.
pub type Vectors = Vec<(GuestPtr, u64)>;

/// One intercepted call.
///
/// A program's memory can change between any two looks at it: another cage may share it. So what
/// is judged is taken: the methods named `take` copy it once, and put the copy into the call in
/// its place, so that the call goes on with what was judged. An argument that is taken apart, such
/// as an array of vectors, has no address any more that could be passed on.
#[derive(Debug)]
pub struct Call {
    /// Its number.
    pub nr: u32,
    came: [Arg; 6],
    /// Few, if any: most calls pass on what came.
    taken: RefCell<Vec<Taken>>,
    /// Which arguments were taken apart, a bit each.
    apart: Cell<u8>,
}

/// What goes on in place of an argument that was taken.
#[derive(Debug)]
struct Taken {
    index: usize,
    goes: Arg,
    /// What it points to.
    _copy: Box<[u8]>,
}

/// An address in the memory of a cage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPtr {
    /// The address, opaque.
    pub addr: u64,
    /// The cage.
    pub cage: u64,
}

/// An argument that points into the grate's own memory.
pub fn own_buffer<T: ?Sized>(pointer: *const T) -> Arg {
    Arg {
        value: sys::address(pointer),
        cage: sys::own_id(),
    }
}

impl Call {
    /// A call from what the runtime passes.
    #[inline]
    pub fn new(nr: u32, raw: [u64; 12]) -> Self {
        let came = std::array::from_fn(|index| Arg {
            value: raw[2 * index],
            cage: raw[2 * index + 1] & !GRATE_MEMORY_FLAG,
        });
        Self {
            nr,
            came,
            taken: RefCell::default(),
            apart: Cell::default(),
        }
    }

    /// The same call as it came, under another number: a grate that stands between others keeps
    /// their handlers under numbers of its own.
    #[must_use]
    pub fn numbered(&self, nr: u32) -> Self {
        Self {
            nr,
            came: self.came,
            taken: RefCell::default(),
            apart: Cell::default(),
        }
    }

    /// All arguments as they go on, to change some. Those that the call does not have are blank,
    /// whatever came: Lind ends the run of who passes anything else to its kernel.
    pub fn args(&self) -> [Arg; 6] {
        let mut args = self.came;
        if let Some(entry) = calls::entry(self.nr) {
            for arg in args.iter_mut().skip(entry.args.len()) {
                arg.value = sys::UNUSED;
            }
        }
        for taken in &*self.taken.borrow() {
            args[taken.index] = taken.goes;
        }
        for (index, arg) in args.iter_mut().enumerate() {
            if self.is_apart(index) {
                *arg = NOWHERE;
            }
        }
        args
    }

    /// An argument (from 0) as it goes on, with its cage.
    pub fn arg(&self, index: usize) -> Arg {
        if self.is_apart(index) {
            return NOWHERE;
        }
        let taken = self.taken.borrow();
        let last = taken.iter().rev().find(|taken| taken.index == index);
        last.map_or(self.came[index], |taken| taken.goes)
    }

    /// An argument of C type `int`.
    pub fn int(&self, index: usize) -> i32 {
        self.came[index].value as i32
    }

    /// An argument of 64 bits.
    pub fn long(&self, index: usize) -> i64 {
        self.came[index].value as i64
    }

    /// An argument of type `size_t`.
    pub fn size(&self, index: usize) -> u64 {
        self.came[index].value
    }

    /// Whether an address argument is null.
    pub fn is_null(&self, index: usize) -> bool {
        self.came[index].value == 0
    }

    /// Where an argument points: to write results there, or to show what is there. What is
    /// decided on is taken.
    pub fn place(&self, index: usize) -> GuestPtr {
        self.nested(index, self.came[index].value)
    }

    /// An address that stands in what argument `index` points to.
    pub fn nested(&self, index: usize, addr: u64) -> GuestPtr {
        GuestPtr {
            addr,
            cage: self.came[index].cage,
        }
    }

    /// The cage that an argument by value (a descriptor, a flag) belongs to: the caller. The cage
    /// of an address may be another, where a grate in between passes a buffer of its own.
    pub fn cage_of(&self, index: usize) -> u64 {
        self.came[index].cage
    }

    /// The cage that made the call: that of a number among its arguments, or of one that the call
    /// does not have. An address may be of another cage, and so may a descriptor: grates in between
    /// pass buffers of their own, and open folders.
    pub fn caller(&self) -> u64 {
        let args = calls::entry(self.nr).map_or(&[][..], |entry| entry.args);
        let number = (0..6).find(|&index| args.get(index).is_none_or(|kind| kind.is_number()));
        self.cage_of(number.unwrap_or(0))
    }

    /// Copies what an argument points to; the call goes on with the copy.
    ///
    /// # Errors
    /// EFAULT.
    pub fn take<const N: usize>(&self, index: usize) -> Result<[u8; N], Errno> {
        let bytes = self.place(index).read()?;
        self.replace(index, &bytes);
        Ok(bytes)
    }

    /// As [`Call::take`], for what is `len` bytes long.
    ///
    /// # Errors
    /// EFAULT.
    pub fn take_bytes(&self, index: usize, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len];
        self.place(index).read_into(&mut bytes)?;
        self.replace(index, &bytes);
        Ok(bytes)
    }

    /// As [`Call::take`], for a string of fewer than `max` bytes, without its NUL.
    ///
    /// # Errors
    /// EFAULT, ENAMETOOLONG.
    pub(crate) fn take_string(&self, index: usize, max: usize) -> Result<Vec<u8>, Errno> {
        self.place(index).read_cstr(max)
    }

    /// Has the call go on with these bytes in place of what an argument points to.
    pub fn replace(&self, index: usize, bytes: &[u8]) {
        let copy: Box<[u8]> = bytes.into();
        let goes = own_buffer(copy.as_ptr());
        self.apart.set(self.apart.get() & !(1 << index));
        self.taken.borrow_mut().push(Taken {
            index,
            goes,
            _copy: copy,
        });
    }

    fn is_apart(&self, index: usize) -> bool {
        self.apart.get() >> index & 1 == 1
    }

    fn take_apart(&self, index: usize) {
        self.apart.set(self.apart.get() | 1 << index);
    }

    /// Takes a buffer argument: its bytes are read piece by piece, and not passed on.
    pub fn take_buffer(&self, index: usize, len: u64) -> Vectors {
        self.take_apart(index);
        vec![(self.place(index), len)]
    }

    /// Takes an array of iovecs: their bytes are read piece by piece, and not passed on.
    ///
    /// # Errors
    /// EFAULT; EINVAL for a count out of range or lengths that add up to too much.
    pub fn take_vectors(&self, index: usize, count: i32) -> Result<Vectors, Errno> {
        self.take_apart(index);
        self.place(index).read_iovecs(count)
    }

    /// Passes the call on: as it came, but for what was taken.
    ///
    /// `caller` is the cage whose state is meant: that of a by-value argument.
    ///
    /// # Errors
    /// What the call answered.
    pub fn forward(&self, caller: u64) -> Result<i32, Errno> {
        self.forward_with(caller, &self.args())
    }

    /// Passes the call on with other arguments.
    ///
    /// # Errors
    /// What the call answered.
    pub fn forward_with(&self, caller: u64, args: &[Arg; 6]) -> Result<i32, Errno> {
        forward(self.nr, caller, args)
    }

    /// Passes the call on with a buffer of the grate in argument `index`, and answers what the
    /// call put there.
    ///
    /// # Errors
    /// What the call answered.
    pub fn forward_into<const N: usize>(
        &self,
        caller: u64,
        index: usize,
    ) -> Result<(i32, [u8; N]), Errno> {
        let mut bytes = [0; N];
        let mut args = self.args();
        args[index] = own_buffer(bytes.as_mut_ptr());
        let result = self.forward_with(caller, &args)?;
        Ok((result, bytes))
    }
}

/// The argument of who forwards what was taken apart: good for nothing, and so EFAULT.
const NOWHERE: Arg = Arg {
    value: 1 << 62,
    cage: sys::UNUSED,
};

/// Makes a call for another cage, as the grate: what serves the grate's own calls serves it.
///
/// # Errors
/// What the call answered.
pub fn forward(nr: u32, target: u64, args: &[Arg; 6]) -> Result<i32, Errno> {
    // SAFETY: addresses in this memory come from `own_buffer` of live buffers.
    sys::check(unsafe { sys::call_3i(nr, sys::own_id(), target, args) })
}

impl GuestPtr {
    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.addr == 0
    }

    /// The address `len` bytes on.
    #[must_use]
    // Named as the method of raw pointers.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, len: u64) -> Self {
        Self {
            addr: self.addr.wrapping_add(len),
            ..self
        }
    }

    /// Copies bytes out of the cage.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read_into(self, out: &mut [u8]) -> Result<(), Errno> {
        if out.is_empty() {
            return Ok(());
        }
        self.copy(own_buffer(out.as_mut_ptr()), out.len(), false)
    }

    /// Copies a fixed number of bytes out of the cage.
    ///
    /// # Errors
    /// EFAULT.
    pub fn read<const N: usize>(self) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes into the cage.
    ///
    /// # Errors
    /// EFAULT.
    pub fn write(self, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let to = Arg {
            value: self.addr,
            cage: self.cage,
        };
        copy(own_buffer(bytes.as_ptr()), to, bytes.len(), 0)
    }

    /// Reads a string of fewer than `max` bytes (a path: 4096), without its NUL.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG where there is no NUL in reach.
    pub fn read_cstr(self, max: usize) -> Result<Vec<u8>, Errno> {
        /// Most are shorter: less is to be cleared for them.
        const SHORT: usize = 256;
        let mut bytes = vec![0; max.min(SHORT)];
        let mut copied = self.copy(own_buffer(bytes.as_mut_ptr()), bytes.len(), true);
        if copied.is_err() && max > SHORT {
            bytes = vec![0; max];
            copied = self.copy(own_buffer(bytes.as_mut_ptr()), max, true);
        }
        if copied.is_err() {
            // Too long, or not all there: then it ends where there is nothing.
            self.read_into(&mut bytes)?;
            return Err(ENAMETOOLONG);
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(max);
        bytes.truncate(end);
        Ok(bytes)
    }

    /// Reads an array of iovecs as the kernel has them: base and length.
    ///
    /// # Errors
    /// EFAULT; EINVAL for a count out of range or lengths that add up to too much.
    pub fn read_iovecs(self, count: i32) -> Result<Vec<(GuestPtr, u64)>, Errno> {
        const EINVAL: Errno = Errno(22);
        const MOST: usize = 1024;
        let count = usize::try_from(count).map_err(|_| EINVAL)?;
        if count > MOST {
            return Err(EINVAL);
        }
        let mut bytes = vec![0; 16 * count];
        self.read_into(&mut bytes)?;
        let mut total = 0u64;
        let mut list = Vec::with_capacity(count);
        for entry in bytes.chunks_exact(16) {
            let word = |at: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&entry[at..at + 8]);
                u64::from_le_bytes(word)
            };
            let len = word(8);
            total = total
                .checked_add(len)
                .filter(|&t| t <= i64::MAX as u64)
                .ok_or(EINVAL)?;
            let base = GuestPtr {
                addr: word(0),
                cage: self.cage,
            };
            list.push((base, len));
        }
        Ok(list)
    }

    fn copy(self, to: Arg, len: usize, string: bool) -> Result<(), Errno> {
        let from = Arg {
            value: self.addr,
            cage: self.cage,
        };
        copy(from, to, len, u64::from(string))
    }
}

fn copy(from: Arg, to: Arg, len: usize, kind: u64) -> Result<(), Errno> {
    const COPY_DATA: u32 = 1002;
    let number = |value: u64| Arg {
        value,
        cage: sys::UNUSED,
    };
    let args = [
        from,
        to,
        number(len as u64),
        number(kind),
        number(sys::UNUSED),
        number(sys::UNUSED),
    ];
    let own = sys::own_id();
    // SAFETY: the side in this memory is a slice that the caller holds.
    let result = unsafe { sys::call_3i(COPY_DATA, own, own, &args) };
    if result == crate::constants::lind::ELINDAPIABORTED as u32 as i32 || result == -1 {
        Err(EFAULT)
    } else {
        Ok(())
    }
}

/// Makes a [`SyscallHandler`](crate::SyscallHandler) of that name for one number, from a function
/// `fn(&Call) -> Result<i32, Errno>`.
#[macro_export]
macro_rules! handler {
    ($name:ident, $nr:expr, $function:expr) => {
        #[allow(clippy::too_many_arguments)]
        extern "C" fn $name(
            _grate: u64,
            a1: u64,
            a1cage: u64,
            a2: u64,
            a2cage: u64,
            a3: u64,
            a3cage: u64,
            a4: u64,
            a4cage: u64,
            a5: u64,
            a5cage: u64,
            a6: u64,
            a6cage: u64,
        ) -> i32 {
            let call = $crate::Call::new(
                $nr as u32,
                [
                    a1, a1cage, a2, a2cage, a3, a3cage, a4, a4cage, a5, a5cage, a6, a6cage,
                ],
            );
            let result: Result<i32, $crate::Errno> = $function(&call);
            result.unwrap_or_else(|errno| -errno.0)
        }
    };
}

/// Makes `HANDLERS`, number and handler of all calls that a grate serves: a line each, `SYS_READ => read: function,`.
/// Before them stands the module with the grate's `decisions!` (of the crate `calls`): a call that is not here has to pass
/// by them, and one that is must not, or this does not compile.
#[macro_export]
macro_rules! handler_table {
    ($calls:ident: $($constant:ident => $name:ident: $function:path,)*) => {
        $($crate::handler!($name, $crate::constants::$constant, $function);)*

        /// Number and handler.
        pub static HANDLERS: &[(u64, $crate::SyscallHandler)] =
            &[$(($crate::constants::$constant, $name)),*];

        const _: () = {
            let numbers: &[u64] = &[$($crate::constants::$constant),*];
            let mut at = 0;
            while at < numbers.len() {
                assert!(!matches!(
                    $calls::decision(numbers[at]),
                    None | Some($calls::Decision::Pass)
                ));
                at += 1;
            }
            assert!(numbers.len() == $calls::HANDLED);
        };
    };
}

/// Makes a static of that name with the number and a handler of every call in the table, all from one function
/// `fn(&Call) -> Result<i32, Errno>`: a handler is not told the number, so each has one of its own.
#[macro_export]
macro_rules! handlers_of_all {
    ($name:ident: $function:ident) => {
        $crate::calls::table!($crate::handler_of_each [$name $function]);
    };
}

/// What [`handlers_of_all`] gives the table to.
#[doc(hidden)]
#[macro_export]
macro_rules! handler_of_each {
    ([$name:ident $function:ident]
     $($nr:literal $call:ident($($kind:expr),*) -> $result:ident, $served:ident;)*) => {
        /// Number and handler.
        pub static $name: &[(u32, $crate::SyscallHandler)] = &[$(($nr, {
            $crate::handler!(handler, $nr, $function);
            handler
        })),*];
    };
}
