//! The bytes, addresses and control messages of a call, between the grate's memory and a cage's.

use crate::grate::transfer::take;
use grate_rs::message::{self, MOST_NAME, word};
use grate_rs::{Call, Errno, GuestPtr, Vectors};
use std::vec::IntoIter;

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
    pub fn new(vectors: Vectors) -> Self {
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
    pub fn new(vectors: Vectors) -> Self {
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

/// Where a message header of a cage wants what comes beside the data.
pub struct Places {
    at: GuestPtr,
    name: GuestPtr,
    name_len: usize,
    control: GuestPtr,
    control_len: u64,
}

impl Places {
    /// Takes the header that an argument points to; its buffers too.
    ///
    /// # Errors
    /// EFAULT; EMSGSIZE for too many buffers; EINVAL.
    pub fn take(call: &Call, index: usize) -> Result<(Self, Vectors), Errno> {
        let (header, vectors) = message::vectors(call, index)?;
        let pointer = |field: usize| call.nested(index, word(&header, field));
        let places = Self {
            at: call.place(index),
            name: pointer(message::NAME),
            name_len: word(&header, message::NAME_LEN) as u32 as usize,
            control: pointer(message::CONTROL),
            control_len: word(&header, message::CONTROL_LEN),
        };
        Ok((places, vectors))
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
        let field = |at: usize| self.at.add(at as u64);
        if !self.name.is_null() {
            self.name.write(&name[..name.len().min(self.name_len)])?;
            field(message::NAME_LEN).write(&(name.len() as u32).to_le_bytes())?;
        }
        self.control.write(control)?;
        field(message::CONTROL_LEN).write(&(control.len() as u64).to_le_bytes())?;
        field(message::FLAGS).write(&flags.to_le_bytes())
    }
}

/// The length of an address, as an argument gives it.
///
/// # Errors
/// EINVAL for a length that no address has.
pub fn address_len(len: i32) -> Result<usize, Errno> {
    const EINVAL: Errno = Errno(22);
    let len = usize::try_from(len).ok();
    len.filter(|&len| len <= MOST_NAME).ok_or(EINVAL)
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
