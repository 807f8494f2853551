//! Message headers (`struct msghdr`), which hold addresses: a grate that judges one, or takes part
//! in what it moves, makes the call with a header of its own.

use crate::constants::error;
use crate::kernel::int;
use crate::{Arg, CageFd, Call, Errno, Vectors, forward, own_buffer};
use cage_libc::sys::UNUSED;

/// Bytes of a header.
pub const MSGHDR_LEN: usize = 56;
/// Where the address of the name stands.
pub const NAME: usize = 0;
/// Where its length stands, of 32 bits.
pub const NAME_LEN: usize = 8;
/// Where the address of the vectors stands.
pub const IOV: usize = 16;
/// Where their number stands.
pub const IOV_COUNT: usize = 24;
/// Where the address of the control data stands.
pub const CONTROL: usize = 32;
/// Where their length stands.
pub const CONTROL_LEN: usize = 40;
/// Where the flags stand.
pub const FLAGS: usize = 48;
/// Longest name.
pub const MOST_NAME: usize = 128;
/// Longest control data.
pub const MOST_CONTROL: usize = 64 << 10;
/// Most vectors of a message.
const MOST_VECTORS: u64 = 1024;

/// What goes beside the bytes of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The address of the other side; empty for none.
    pub name: Vec<u8>,
    /// Control data.
    pub control: Vec<u8>,
    /// Flags of a message that was received.
    pub flags: i32,
}

/// The 64 bits that stand somewhere in a header.
pub fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Copies the header in argument `index`, and its vectors.
///
/// # Errors
/// EFAULT, EINVAL; EMSGSIZE for too many vectors.
pub fn vectors(call: &Call, index: usize) -> Result<([u8; MSGHDR_LEN], Vectors), Errno> {
    let header: [u8; MSGHDR_LEN] = call.place(index).read()?;
    let name_len = word(&header, NAME_LEN) as u32 as i32;
    if word(&header, NAME) != 0 && name_len < 0 {
        return Err(Errno(error::EINVAL));
    }
    let count = word(&header, IOV_COUNT);
    if count > MOST_VECTORS {
        return Err(Errno(error::EMSGSIZE));
    }
    let vectors = call.nested(index, word(&header, IOV));
    Ok((header, vectors.read_iovecs(count as i32)?))
}

/// Copies the header in argument `index` of a call that sends, with all but the bytes themselves. Of a
/// name that is too long the first part counts, as for the kernel.
///
/// # Errors
/// As [`vectors`]; ENOBUFS for more control data than anybody needs.
pub fn take(call: &Call, index: usize) -> Result<(Header, Vectors), Errno> {
    let (header, vectors) = vectors(call, index)?;
    let taken = |at: usize, len: usize| -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len];
        call.nested(index, word(&header, at))
            .read_into(&mut bytes)?;
        Ok(bytes)
    };
    let name_len = match word(&header, NAME) {
        0 => 0,
        _ => word(&header, NAME_LEN) as u32 as usize,
    };
    let control_len = word(&header, CONTROL_LEN);
    if control_len > MOST_CONTROL as u64 {
        return Err(Errno(error::ENOBUFS));
    }
    let header = Header {
        name: taken(NAME, name_len.min(MOST_NAME))?,
        control: taken(CONTROL, control_len as usize)?,
        flags: 0,
    };
    Ok((header, vectors))
}

/// A header of the grate's own with one vector, which stays where it is.
#[derive(Debug)]
pub struct Below {
    header: [u8; MSGHDR_LEN],
    _vector: Box<[u64; 2]>,
}

impl Below {
    /// Of `len` bytes, a name and control data, all of which have to live as long as it does.
    pub fn new(data: Arg, len: usize, name: &[u8], control: &[u8]) -> Self {
        let vector = Box::new([data.value, len as u64]);
        let mut header = [0; MSGHDR_LEN];
        let mut put = |at: usize, word: u64| {
            header[at..at + 8].copy_from_slice(&word.to_le_bytes());
        };
        let at = |bytes: &[u8]| match bytes {
            [] => 0,
            bytes => own_buffer(bytes.as_ptr()).value,
        };
        put(NAME, at(name));
        put(NAME_LEN, name.len() as u64);
        put(IOV, own_buffer(vector.as_ptr()).value);
        put(IOV_COUNT, 1);
        put(CONTROL, at(control));
        put(CONTROL_LEN, control.len() as u64);
        Self {
            header,
            _vector: vector,
        }
    }

    /// What it says, also after a call that has filled it in.
    pub fn header(&self) -> &[u8; MSGHDR_LEN] {
        &self.header
    }

    /// Makes the call of that number with it: sendmsg, recvmsg, or what stands for one.
    ///
    /// # Errors
    /// What it answered.
    pub fn make(&mut self, nr: u32, fd: CageFd, flags: i32) -> Result<i32, Errno> {
        let none = int(fd.cage, 0);
        let mut args = [none; 6].map(|arg| Arg {
            value: UNUSED,
            ..arg
        });
        args[0] = fd.arg();
        args[1] = own_buffer(self.header.as_mut_ptr());
        args[2] = int(fd.cage, flags);
        forward(nr, fd.cage, &args)
    }
}
