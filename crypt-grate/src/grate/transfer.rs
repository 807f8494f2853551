//! read, write and their kin, and lseek.

use super::kernel::pass;
use super::lease;
use super::net;
use super::state;
use super::state::{OpenFile, Opened, State, lock};
use crypt_grate::scratch;
use crypt_grate::sealed_file::{SealedFile, Windows};
use crypt_grate::storage::Place;
use grate_rs::constants::{SYS_LLSEEK, SYS_PREAD, SYS_READ, error, fs};
use grate_rs::{CageFd, Call, Errno, GuestPtr, Held, Vectors};
use std::sync::Arc;

const EBADF: Errno = Errno(error::EBADF);
const EINVAL: Errno = Errno(error::EINVAL);
const EOVERFLOW: Errno = Errno(error::EOVERFLOW);
const ENXIO: Errno = Errno(error::ENXIO);

/// Bytes that are copied from or to a cage at a time.
const PIECE: usize = 1 << 20;
/// Bytes that are taken from a cage before the file is locked, at most.
const SHORT: u64 = 16 << 10;
/// Most bytes one call moves, as Linux's `MAX_RW_COUNT`.
const MAX_RW: u64 = 0x7fff_f000;

fn length(value: u64) -> Result<u64, Errno> {
    if value > i64::MAX as u64 {
        return Err(EINVAL);
    }
    Ok(value.min(MAX_RW))
}

/// How a call's buffers are taken from it.
type Take = fn(&Call) -> Result<Vectors, Errno>;

/// A call on a sealed file's data.
struct Transfer {
    state: &'static State,
    fd: CageFd,
    open: Arc<OpenFile>,
    /// The descriptor leads to the file for as long as this is there.
    _held: Held<'static, Opened>,
}

/// What a call on data is about.
enum Data {
    /// A sealed file.
    File(Transfer),
    /// A socket.
    Socket(Arc<net::Socket>),
    /// What passes.
    Plain(Held<'static, Opened>),
}

fn data(call: &Call) -> Result<Data, Errno> {
    let state = state();
    let fd = CageFd::of(call, 0);
    let held = state.hold(fd)?;
    Ok(match held.what() {
        Some(Opened::File(open)) => Data::File(Transfer {
            state,
            fd,
            open: Arc::clone(open),
            _held: held,
        }),
        Some(Opened::Socket(socket)) => Data::Socket(Arc::clone(socket)),
        _ => Data::Plain(held),
    })
}

/// Passes what may wait for long on, and harms nothing whatever the number leads to by then.
fn pass_reading(call: &Call, held: Held<'_, Opened>) -> Result<i32, Errno> {
    drop(held);
    pass(call, 0)
}

/// Passes a call on while the descriptor stays what it is.
fn pass_held(call: &Call, _held: Held<'_, Opened>) -> Result<i32, Errno> {
    pass(call, 0)
}

/// What a call's buffer arguments say.
fn one_buffer(call: &Call) -> Result<Vectors, Errno> {
    let len = length(call.size(2))?;
    Ok(call.take_buffer(1, len))
}

fn many_buffers(call: &Call) -> Result<Vectors, Errno> {
    call.take_vectors(1, call.int(2))
}

fn position(call: &Call) -> Result<u64, Errno> {
    u64::try_from(call.long(3)).map_err(|_| EINVAL)
}

fn read_with(call: &Call, take: Take) -> Result<i32, Errno> {
    match data(call)? {
        Data::File(transfer) => transfer.read_on(call, take),
        Data::Socket(socket) => net::read(call, &socket, take),
        Data::Plain(held) => pass_reading(call, held),
    }
}

fn read_at_with(call: &Call, take: Take) -> Result<i32, Errno> {
    // The kernel looks at the place before the descriptor.
    let place = position(call)?;
    match data(call)? {
        Data::File(transfer) => transfer.read_at(place, call, take),
        Data::Socket(_) => pass(call, 0),
        Data::Plain(held) => pass_reading(call, held),
    }
}

fn write_with(call: &Call, take: Take) -> Result<i32, Errno> {
    match data(call)? {
        Data::File(transfer) => transfer.write_on(take(call)),
        Data::Socket(socket) => net::write(call, &socket, take),
        Data::Plain(held) => pass_held(call, held),
    }
}

fn write_at_with(call: &Call, take: Take) -> Result<i32, Errno> {
    let place = position(call)?;
    match data(call)? {
        Data::File(transfer) => transfer.write_at(place, take(call)),
        // The kernel knows no place in a socket.
        Data::Socket(_) => Err(Errno(error::ESPIPE)),
        Data::Plain(held) => pass_held(call, held),
    }
}

/// read: descriptor, buffer, length.
pub fn read(call: &Call) -> Result<i32, Errno> {
    read_with(call, one_buffer)
}

/// readv: descriptor, vectors, count.
pub fn readv(call: &Call) -> Result<i32, Errno> {
    read_with(call, many_buffers)
}

/// pread: descriptor, buffer, length, offset.
pub fn pread(call: &Call) -> Result<i32, Errno> {
    read_at_with(call, one_buffer)
}

/// preadv: descriptor, vectors, count, offset.
pub fn preadv(call: &Call) -> Result<i32, Errno> {
    read_at_with(call, many_buffers)
}

/// write: descriptor, buffer, length.
pub fn write(call: &Call) -> Result<i32, Errno> {
    write_with(call, one_buffer)
}

/// writev: descriptor, vectors, count.
pub fn writev(call: &Call) -> Result<i32, Errno> {
    write_with(call, many_buffers)
}

/// pwrite: descriptor, buffer, length, offset.
pub fn pwrite(call: &Call) -> Result<i32, Errno> {
    write_at_with(call, one_buffer)
}

/// pwritev: descriptor, vectors, count, offset.
pub fn pwritev(call: &Call) -> Result<i32, Errno> {
    write_at_with(call, many_buffers)
}

impl Transfer {
    fn read_on(&self, call: &Call, take: Take) -> Result<i32, Errno> {
        if !self.open.readable() {
            return Err(EBADF);
        }
        let mut offset = lock(&self.open.offset);
        let read = self.scatter(*offset, call, take)?;
        *offset += read as u64;
        Ok(read)
    }

    fn read_at(&self, offset: u64, call: &Call, take: Take) -> Result<i32, Errno> {
        if !self.open.readable() {
            return Err(EBADF);
        }
        self.scatter(offset, call, take)
    }

    fn write_on(&self, vectors: Result<Vectors, Errno>) -> Result<i32, Errno> {
        if !self.open.writable() {
            return Err(EBADF);
        }
        let mut offset = lock(&self.open.offset);
        let (end, written) = self.gather(*offset, vectors?)?;
        *offset = end;
        Ok(written)
    }

    fn write_at(&self, offset: u64, vectors: Result<Vectors, Errno>) -> Result<i32, Errno> {
        if !self.open.writable() {
            return Err(EBADF);
        }
        self.gather(offset, vectors?).map(|(_, written)| written)
    }

    /// Reads at `offset` into the cage's buffers, one after the other.
    fn scatter(&self, offset: u64, call: &Call, take: Take) -> Result<i32, Errno> {
        let mut windows = lock(&self.open.windows);
        if matches!(u64::from(call.nr), SYS_READ | SYS_PREAD) {
            let (to, len) = (call.place(1), length(call.size(2))?);
            if let Some(read) = self.read_window(&mut windows, offset, to, len)? {
                return Ok(read);
            }
        }
        let mut file = lock(&self.open.file);
        let vectors = take(call)?;
        let longest = vectors.iter().map(|(_, len)| *len).max();
        let piece = longest.unwrap_or(0).min(PIECE as u64) as usize;
        scratch::with(piece, |buffer| {
            self.scatter_by(&mut file, &mut windows, buffer, offset, &vectors)
        })
    }

    /// As [`Transfer::scatter`], for one buffer that is not long: what the grate has of the file at hand goes straight to the cage,
    /// with no look at the file where a lease tells that it is as it was.
    fn read_window(
        &self,
        windows: &mut Windows,
        offset: u64,
        pointer: GuestPtr,
        len: u64,
    ) -> Result<Option<i32>, Errno> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if let Some((lease, bytes)) = windows.at_hand(offset, len) {
            if lease::write(lease, pointer, bytes)? {
                return Ok(Some(bytes.len() as i32));
            }
            windows.end_lease(lease);
            lock(&self.open.file).end_lease(lease);
        }
        let storage = self.open.storage(self.fd);
        let mut file = lock(&self.open.file);
        if len <= PIECE {
            let (keys, to) = (self.state.keys(), place(pointer));
            match file.read_to(windows, &storage, keys, offset, len, to) {
                Ok(None) => {}
                Ok(Some(read)) => return Ok(Some(read as i32)),
                Err(error) => return Err(self.state.errno_of(error, self.fd)),
            }
        }
        if let Some((lease, bytes)) = file.at_hand(windows, &storage, offset, len) {
            if lease::write(lease, pointer, bytes)? {
                return Ok(Some(bytes.len() as i32));
            }
            file.end_lease(lease);
        }
        match file.look_at(windows, &storage, self.state.keys(), offset, len) {
            Ok(Some(bytes)) => pointer.write(bytes).map(|()| Some(bytes.len() as i32)),
            Ok(None) => Ok(None),
            Err(error) => Err(self.state.errno_of(error, self.fd)),
        }
    }

    /// As [`Transfer::scatter`], with a buffer for one piece.
    fn scatter_by(
        &self,
        file: &mut SealedFile,
        windows: &mut Windows,
        buffer: &mut [u8],
        offset: u64,
        vectors: &Vectors,
    ) -> Result<i32, Errno> {
        let storage = self.open.storage(self.fd);
        let mut done = 0u64;
        for &(pointer, len) in vectors {
            let len = len.min(MAX_RW - done);
            let mut at = 0;
            while at < len {
                let piece = (len - at).min(buffer.len() as u64) as usize;
                let buffer = &mut buffer[..piece];
                let (keys, to) = (self.state.keys(), pointer.add(at));
                let whole = file.read_to(windows, &storage, keys, offset + done, piece, place(to));
                let read = match whole {
                    Ok(None) => file.read(windows, &storage, keys, offset + done, buffer),
                    Ok(Some(read)) => {
                        at += read as u64;
                        done += read as u64;
                        if read < piece {
                            return Ok(done as i32);
                        }
                        continue;
                    }
                    Err(error) => Err(error),
                };
                let copied = match read {
                    Ok(0) => return Ok(done as i32),
                    Ok(read) => to.write(&buffer[..read]).map(|()| read),
                    Err(error) => Err(self.state.errno_of(error, self.fd)),
                };
                match copied {
                    Ok(read) => {
                        at += read as u64;
                        done += read as u64;
                        if read < piece {
                            return Ok(done as i32);
                        }
                    }
                    // What was read before counts.
                    Err(_) if done > 0 => return Ok(done as i32),
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(done as i32)
    }

    /// Writes the cage's buffers, one after the other, at `offset`, or at the end for O_APPEND.
    /// Answers where the writing ended, and how much was written.
    fn gather(&self, offset: u64, vectors: Vectors) -> Result<(u64, i32), Errno> {
        let total = vectors.iter().map(|(_, len)| *len).sum::<u64>().min(MAX_RW);
        if total == 0 {
            // Not even O_APPEND moves the offset then.
            return Ok((offset, 0));
        }
        let piece = total.min(PIECE as u64) as usize;
        scratch::with(piece, |buffer| {
            self.gather_by(buffer, offset, total, vectors)
        })
    }

    /// As [`Transfer::gather`], with a buffer for one piece.
    fn gather_by(
        &self,
        buffer: &mut [u8],
        offset: u64,
        total: u64,
        vectors: Vectors,
    ) -> Result<(u64, i32), Errno> {
        let storage = self.open.storage(self.fd);
        let mut file = lock(&self.open.file);
        let appends = self.open.flags() & fs::O_APPEND != 0;
        let mut source = vectors.into_iter();
        let mut current = source.next();
        // What is short is at hand before the lock is: it may be kept.
        let mut short = (total <= SHORT).then(|| {
            let len = total as usize;
            take_into(&mut buffer[..len], &mut current, &mut source)
        });
        self.state.sealing(|with| {
            if let Some((len, Ok(()))) = short {
                let at = (!appends).then_some(offset);
                if let Some(start) = file.write_kept(&storage, with, at, &buffer[..len]) {
                    let start = start.map_err(|error| self.state.errno_of(error, self.fd))?;
                    return Ok((start + len as u64, len as i32));
                }
            }
            // One lock for the whole call: its pieces stay together, also at a moving end.
            let mut writer = file
                .writer(&storage, with)
                .map_err(|error| self.state.errno_of(error, self.fd))?;
            let start = match appends {
                true => writer.len(),
                false => offset,
            };
            let mut done = 0u64;
            while done < total {
                let (len, taken) = match (short.take(), &mut current) {
                    (Some(piece), _) => piece,
                    (None, Some((pointer, left))) => {
                        let len = (*left).min(total - done);
                        match writer.write_from(start + done, len, place(*pointer)) {
                            Ok(0) => {}
                            Ok(written) => {
                                *pointer = pointer.add(written as u64);
                                *left -= written as u64;
                                done += written as u64;
                                continue;
                            }
                            Err(error) => {
                                return partly(start, done, self.state.errno_of(error, self.fd));
                            }
                        }
                        // Small vectors are joined, so that each does not become a chunk of its own.
                        let most = (total - done).min(buffer.len() as u64) as usize;
                        take_into(&mut buffer[..most], &mut current, &mut source)
                    }
                    (None, None) => break,
                };
                if len == 0 {
                    return taken
                        .and(Ok((start, 0)))
                        .or_else(|errno| partly(start, done, errno));
                }
                match writer.write(start + done, &buffer[..len]) {
                    Ok(written) => {
                        done += written as u64;
                        if written < len {
                            break;
                        }
                    }
                    Err(error) => {
                        return partly(start, done, self.state.errno_of(error, self.fd));
                    }
                }
                if taken.is_err() {
                    break;
                }
            }
            Ok((start + done, done as i32))
        })
    }
}

/// A place of a cage as the engine takes it.
fn place(pointer: GuestPtr) -> Place {
    Place {
        cage: pointer.cage,
        addr: pointer.addr,
    }
}

/// An error after a part was written is a short write.
fn partly(start: u64, done: u64, errno: Errno) -> Result<(u64, i32), Errno> {
    if done > 0 {
        Ok((start + done, done as i32))
    } else {
        Err(errno)
    }
}

/// Copies the next piece out of the cage: up to `most` bytes, from as many vectors as it takes.
pub fn take(
    buffer: &mut Vec<u8>,
    current: &mut Option<(GuestPtr, u64)>,
    source: &mut impl Iterator<Item = (GuestPtr, u64)>,
    most: usize,
) -> Result<(), Errno> {
    let most = most.min(PIECE);
    while buffer.len() < most {
        let Some((_, left)) = *current else {
            break;
        };
        if left == 0 {
            *current = source.next();
            continue;
        }
        let start = buffer.len();
        buffer.resize(start + left.min((most - start) as u64) as usize, 0);
        let (len, taken) = take_into(&mut buffer[start..], current, source);
        buffer.truncate(start + len);
        taken?;
    }
    Ok(())
}

/// Copies the next bytes out of the cage, as many as there is room for, from as many vectors as it takes. Answers how many there
/// are, and what came in the way of more.
fn take_into(
    buffer: &mut [u8],
    current: &mut Option<(GuestPtr, u64)>,
    source: &mut impl Iterator<Item = (GuestPtr, u64)>,
) -> (usize, Result<(), Errno>) {
    let mut len = 0;
    while len < buffer.len() {
        let Some((pointer, left)) = current else {
            break;
        };
        if *left == 0 {
            *current = source.next();
            continue;
        }
        let part = (*left).min((buffer.len() - len) as u64);
        if let Err(errno) = pointer.read_into(&mut buffer[len..len + part as usize]) {
            return (len, Err(errno));
        }
        *pointer = pointer.add(part);
        *left -= part;
        len += part as usize;
    }
    (len, Ok(()))
}

/// lseek and llseek: descriptor, offset, whence, and for llseek a place for the result.
pub fn lseek(call: &Call) -> Result<i32, Errno> {
    let (state, fd) = (state(), CageFd::of(call, 0));
    let (_held, Some(open)) = state.hold_file(fd)? else {
        return pass(call, 0);
    };
    let wanted = call.long(1);
    let size = || state.size(fd, &open);
    let mut offset = lock(&open.offset);
    let from = |start: u64| {
        (start as i64)
            .checked_add(wanted)
            .and_then(|place| u64::try_from(place).ok())
            .ok_or(EINVAL)
    };
    let place = match call.int(2) {
        fs::SEEK_SET => from(0)?,
        fs::SEEK_CUR => from(*offset)?,
        fs::SEEK_END => from(size()?)?,
        // As in a plain file, there is a hole behind the end.
        whence @ (fs::SEEK_DATA | fs::SEEK_HOLE) => {
            let size = size()?;
            let wanted = u64::try_from(wanted).map_err(|_| ENXIO)?;
            if wanted >= size {
                return Err(ENXIO);
            }
            let found = lock(&open.file)
                .seek(
                    &open.storage(fd),
                    state.keys(),
                    wanted,
                    whence == fs::SEEK_HOLE,
                )
                .map_err(|error| state.errno_of(error, fd))?;
            if whence == fs::SEEK_DATA && found >= size {
                return Err(ENXIO);
            }
            found
        }
        _ => return Err(EINVAL),
    };
    if state.params.layout().data_end(place).is_err() {
        // No sealed file reaches that far, as no plain one reaches beyond its file system's limit.
        return Err(EINVAL);
    }
    if u64::from(call.nr) == SYS_LLSEEK {
        call.place(3).write(&place.to_le_bytes())?;
        *offset = place;
        return Ok(0);
    }
    *offset = place;
    match i32::try_from(place) {
        Ok(result) => Ok(result),
        // Lind cuts it, and its programs know how to live with that.
        Err(_) if cage_libc::sys::base() != 0 => Ok(place as i32),
        Err(_) => Err(EOVERFLOW),
    }
}
