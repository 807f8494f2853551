//! The bytes, addresses and control messages of a call, between the grate's memory and a cage's.

use crate::grate::transfer::take;
use grate_rs::{Call, Errno, GuestPtr, own_buffer};
use std::vec::IntoIter;

/// Bytes of a `struct msghdr`, and where its fields stand.
const HEADER_LEN: usize = 56;
const NAME_LEN_AT: usize = 8;
const IOV_AT: usize = 16;
const IOV_LEN_AT: usize = 24;
const CONTROL_AT: usize = 32;
const CONTROL_LEN_AT: usize = 40;
const FLAGS_AT: usize = 48;

/// Room for an address of any family.
pub const NAME_ROOM: usize = 128;
/// Most bytes of control messages; with IPv4 and IPv6 they are a few dozen each.
const CONTROL_MOST: u64 = 4096;

/// What a call sends, taken piece by piece.
pub struct Source {
    current: Option<(GuestPtr, u64)>,
    rest: IntoIter<(GuestPtr, u64)>,
    left: u64,
}

impl Source {
    /// The buffers of a cage, one after the other.
    pub fn new(vectors: Vec<(GuestPtr, u64)>) -> Self {
        let left = vectors.iter().map(|(_, len)| len).sum();
        let mut rest = vectors.into_iter();
        Self {
            current: rest.next(),
            rest,
            left,
        }
    }

    /// Bytes not yet taken.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Where the next bytes lie, and how many of them in one piece.
    pub fn next_piece(&mut self) -> Option<(GuestPtr, usize)> {
        next_piece(&mut self.current, &mut self.rest)
    }

    /// So many bytes of that piece have been taken where they lie.
    pub fn skip(&mut self, len: usize) {
        self.left -= len as u64;
        shorten(&mut self.current, len as u64);
    }

    /// Takes up to `most` bytes.
    ///
    /// # Errors
    /// EFAULT; what was taken before it counts and is in `buffer`.
    pub fn take(&mut self, buffer: &mut Vec<u8>, most: usize) -> Result<(), Errno> {
        buffer.clear();
        let taken = take(buffer, &mut self.current, &mut self.rest, most);
        self.left -= buffer.len() as u64;
        taken
    }
}

/// The first of some buffers that has a byte.
fn next_piece(
    current: &mut Option<(GuestPtr, u64)>,
    rest: &mut IntoIter<(GuestPtr, u64)>,
) -> Option<(GuestPtr, usize)> {
    while let Some((pointer, len)) = *current {
        if len > 0 {
            return Some((pointer, usize::try_from(len).unwrap_or(usize::MAX)));
        }
        *current = rest.next();
    }
    None
}

/// Goes on in a buffer.
fn shorten(current: &mut Option<(GuestPtr, u64)>, by: u64) {
    if let Some((pointer, len)) = current {
        *pointer = pointer.add(by);
        *len -= by;
    }
}

/// Where a call wants what it receives.
pub struct Sink {
    vectors: IntoIter<(GuestPtr, u64)>,
    current: Option<(GuestPtr, u64)>,
    room: u64,
    /// What comes is counted and thrown away.
    discards: bool,
}

impl Sink {
    /// The buffers of a cage, one after the other.
    pub fn new(vectors: Vec<(GuestPtr, u64)>) -> Self {
        let room = vectors.iter().map(|(_, len)| len).sum();
        let mut vectors = vectors.into_iter();
        Self {
            current: vectors.next(),
            vectors,
            room,
            discards: false,
        }
    }

    /// The same room, with nothing written to it.
    pub fn discarding(self) -> Self {
        Self {
            discards: true,
            ..self
        }
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        usize::try_from(self.room).unwrap_or(usize::MAX)
    }

    /// Where the next bytes go, and how many fit there in one piece; none where they go nowhere.
    pub fn next_piece(&mut self) -> Option<(GuestPtr, usize)> {
        let piece = next_piece(&mut self.current, &mut self.vectors);
        piece.filter(|_| !self.discards)
    }

    /// So many bytes of that piece have been filled.
    pub fn filled(&mut self, len: usize) {
        self.room -= len as u64;
        shorten(&mut self.current, len as u64);
    }

    /// Gives the cage as much of `bytes` as fits.
    ///
    /// # Errors
    /// EFAULT.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<usize, Errno> {
        let mut put = 0;
        while !bytes.is_empty()
            && let Some((pointer, len)) = next_piece(&mut self.current, &mut self.vectors)
        {
            let (now, later) = bytes.split_at(len.min(bytes.len()));
            if !self.discards {
                pointer.write(now)?;
            }
            self.filled(now.len());
            put += now.len();
            bytes = later;
        }
        Ok(put)
    }
}

/// A `struct msghdr` of a cage.
pub struct Header {
    at: GuestPtr,
    /// The peer's address, or where it goes; null for none.
    pub name: GuestPtr,
    /// Its length.
    pub name_len: usize,
    /// The buffers.
    pub vectors: Vec<(GuestPtr, u64)>,
    control: GuestPtr,
    control_len: u64,
}

fn word(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

impl Header {
    /// Takes what an argument points to.
    ///
    /// # Errors
    /// EFAULT; EMSGSIZE for too many buffers; EINVAL.
    pub fn take(call: &Call, index: usize) -> Result<Self, Errno> {
        const EINVAL: Errno = Errno(22);
        const EMSGSIZE: Errno = Errno(90);
        const MOST_VECTORS: u64 = 1024;
        let at = call.place(index);
        let bytes: [u8; HEADER_LEN] = call.take(index)?;
        let pointer = |field: usize| call.nested(index, word(&bytes, field));
        let count = word(&bytes, IOV_LEN_AT);
        if count > MOST_VECTORS {
            return Err(EMSGSIZE);
        }
        let name = pointer(0);
        let name_len = word(&bytes, NAME_LEN_AT) as u32 as i32;
        if name_len < 0 && !name.is_null() {
            return Err(EINVAL);
        }
        let vectors = if count == 0 {
            Vec::new()
        } else {
            pointer(IOV_AT).read_iovecs(count as i32)?
        };
        Ok(Self {
            at,
            name,
            name_len: usize::try_from(name_len).unwrap_or(0),
            vectors,
            control: pointer(CONTROL_AT),
            control_len: word(&bytes, CONTROL_LEN_AT),
        })
    }

    /// The address that it is sent to; empty for none.
    ///
    /// # Errors
    /// EFAULT; EINVAL for a length that no address has.
    pub fn address(&self) -> Result<Vec<u8>, Errno> {
        if self.name.is_null() {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; address_len(self.name_len as i32)?];
        self.name.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// The control messages that are sent.
    ///
    /// # Errors
    /// EFAULT; ENOBUFS for more than anybody needs.
    pub fn control(&self) -> Result<Vec<u8>, Errno> {
        const ENOBUFS: Errno = Errno(105);
        if self.control_len > CONTROL_MOST {
            return Err(ENOBUFS);
        }
        let mut bytes = vec![0; self.control_len as usize];
        self.control.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Room for the control messages that the cage has room for.
    pub fn control_room(&self) -> Vec<u8> {
        if self.control.is_null() {
            return Vec::new();
        }
        vec![0; self.control_len.min(CONTROL_MOST) as usize]
    }

    /// Tells the cage what came beside the data.
    ///
    /// # Errors
    /// EFAULT.
    pub fn give(&self, name: &[u8], control: &[u8], flags: i32) -> Result<(), Errno> {
        if !self.name.is_null() {
            self.name.write(&name[..name.len().min(self.name_len)])?;
            self.at
                .add(NAME_LEN_AT as u64)
                .write(&(name.len() as u32).to_le_bytes())?;
        }
        self.control.write(control)?;
        self.at
            .add(CONTROL_LEN_AT as u64)
            .write(&(control.len() as u64).to_le_bytes())?;
        self.at.add(FLAGS_AT as u64).write(&flags.to_le_bytes())
    }
}

/// A `struct msghdr` in the grate's own memory, with one buffer.
pub struct OwnHeader {
    bytes: Box<[u8; HEADER_LEN]>,
    /// The one buffer's address and length.
    _iovec: Box<[u64; 2]>,
}

impl OwnHeader {
    /// Of these, which must stay where they are for as long as it is used.
    pub fn new(name: &[u8], data: *const [u8], control: &[u8]) -> Self {
        let iovec = Box::new([own_buffer(data).value, data.len() as u64]);
        let mut bytes = Box::new([0; HEADER_LEN]);
        let mut put = |at: usize, value: u64| {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        if !name.is_empty() {
            put(0, own_buffer(name.as_ptr()).value);
        }
        put(NAME_LEN_AT, name.len() as u64);
        put(IOV_AT, own_buffer(iovec.as_ptr()).value);
        put(IOV_LEN_AT, 1);
        if !control.is_empty() {
            put(CONTROL_AT, own_buffer(control.as_ptr()).value);
        }
        put(CONTROL_LEN_AT, control.len() as u64);
        Self {
            bytes,
            _iovec: iovec,
        }
    }

    /// Where it lies.
    pub fn pointer(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Bytes of the address that came, which may be more than there was room for.
    pub fn name_len(&self) -> usize {
        word(&self.bytes, NAME_LEN_AT) as u32 as usize
    }

    /// Bytes of control messages that came.
    pub fn control_len(&self) -> usize {
        word(&self.bytes, CONTROL_LEN_AT) as usize
    }

    /// What the kernel says of the message.
    pub fn flags(&self) -> i32 {
        word(&self.bytes, FLAGS_AT) as i32
    }
}

/// The length of an address, as an argument gives it.
///
/// # Errors
/// EINVAL for a length that no address has.
pub fn address_len(len: i32) -> Result<usize, Errno> {
    const EINVAL: Errno = Errno(22);
    let len = usize::try_from(len).ok();
    len.filter(|&len| len <= NAME_ROOM).ok_or(EINVAL)
}

/// Gives an address to where two arguments point: the address, cut to the room, and its length.
///
/// # Errors
/// EFAULT; EINVAL for a negative room.
pub fn give_address(call: &Call, index: usize, name: &[u8]) -> Result<(), Errno> {
    const EINVAL: Errno = Errno(22);
    let (place, len_place) = (call.place(index), call.place(index + 1));
    if place.is_null() {
        return Ok(());
    }
    let room = i32::from_le_bytes(len_place.read()?);
    let room = usize::try_from(room).map_err(|_| EINVAL)?;
    place.write(&name[..name.len().min(room)])?;
    len_place.write(&(name.len() as u32).to_le_bytes())
}
