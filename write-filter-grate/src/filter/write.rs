//! Calls that change a file through a descriptor, or send bytes out.

use super::outlet::{Kind, Outlet};
use super::redaction::Way;
use super::{Known, filter};
use grate_rs::constants::{SYS_SENDMSG, SYS_SENDTO, error, fs, mman, net};
use grate_rs::kernel::{self, Stat, pass, value};
use grate_rs::message::{self, Below, MOST_NAME};
use grate_rs::sockets::address;
use grate_rs::{Arg, CageFd, Call, Errno, Held, Vectors, own_buffer};

const EINVAL: Errno = Errno(error::EINVAL);
const ENODEV: Errno = Errno(error::ENODEV);
const ENOSYS: Errno = Errno(error::ENOSYS);
const EOPNOTSUPP: Errno = Errno(error::EOPNOTSUPP);
const ESPIPE: Errno = Errno(error::ESPIPE);
const EXDEV: Errno = Errno(error::EXDEV);

/// Bytes that are redacted at a time: a longer write counts as several.
const PIECE: u64 = 16 << 20;
/// Most bytes one call moves, as Linux's `MAX_RW_COUNT`.
const MAX_RW: u64 = 0x7fff_f000;

/// A descriptor that stays what it is for the length of a call, and what is known of it.
struct Kept {
    held: Held<'static, Known>,
    /// What it is, where that had to be asked.
    stat: Option<Stat>,
}

impl Kept {
    /// Keeps the descriptor of a call. One that came by an unknown way is looked at, and gets a way
    /// out here unless it is a regular file.
    fn of(fd: CageFd) -> Result<Self, Errno> {
        let filter = filter();
        let mut held = filter.known.hold(fd)?;
        if held.what().is_some() {
            return Ok(Self { held, stat: None });
        }
        let mut stat = fd.stat()?;
        if stat.is_regular() {
            // Perhaps it has been opened since it was looked up, and is known by now.
            drop(held);
            held = filter.known.hold(fd)?;
            if held.what().is_some() {
                return Ok(Self { held, stat: None });
            }
            stat = fd.stat()?;
        }
        if !stat.is_regular()
            && !stat.is_directory()
            && fd.is_writable()?
            && let Some(known) = filter.outlet(fd, &stat, None)
        {
            held.learn(known);
        }
        Ok(Self {
            held,
            stat: Some(stat),
        })
    }

    /// How what is written to it is redacted, if it is.
    fn way(&self) -> Option<Way> {
        self.held.what()?.way.clone()
    }

    /// Whether writing to it is refused: a regular file, open for writing, that has no permission.
    /// Whatever can't be written anyway is the kernel's to refuse, with its own error.
    fn is_refused(&self) -> bool {
        self.held.what().is_none_or(|known| !known.is_permitted)
            && self.stat.is_none_or(|stat| stat.is_regular())
            // Unknown counts as writable.
            && self.held.fd().is_writable().unwrap_or(true)
    }

    fn guard(&self, call: &Call, index: usize, what: &str) -> Result<i32, Errno> {
        let fd = self.held.fd();
        if self.is_refused() {
            return Err(filter().refuse(fd.cage, format_args!("{what} to descriptor {}", fd.fd)));
        }
        pass(call, index)
    }
}

fn one_buffer(call: &Call) -> Result<Vectors, Errno> {
    let len = call.size(2);
    if len > i64::MAX as u64 {
        return Err(EINVAL);
    }
    Ok(call.take_buffer(1, len.min(MAX_RW)))
}

fn many_buffers(call: &Call) -> Result<Vectors, Errno> {
    call.take_vectors(1, call.int(2))
}

/// Takes the next bytes that a program wrote, at most [`PIECE`].
fn gather(vectors: &mut Vectors) -> Result<Vec<u8>, Errno> {
    let mut data = Vec::new();
    for (pointer, len) in vectors {
        let part = (*len).min(PIECE - data.len() as u64);
        let start = data.len();
        data.resize(start + part as usize, 0);
        pointer.read_into(&mut data[start..])?;
        *pointer = pointer.add(part);
        *len -= part;
    }
    Ok(data)
}

/// Writes in pieces; what went before an error counts.
fn in_pieces(
    mut vectors: Vectors,
    mut write: impl FnMut(&[u8], u64) -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let total = vectors.iter().map(|(_, len)| *len).sum::<u64>().min(MAX_RW);
    let mut done = 0;
    loop {
        let piece = gather(&mut vectors).and_then(|piece| {
            let written = write(&piece, done)?;
            Ok((piece.len() as u64, written as u64))
        });
        match piece {
            Ok((len, written)) => {
                done += written;
                if done >= total || written < len {
                    return Ok(done as i32);
                }
            }
            Err(_) if done > 0 => return Ok(done as i32),
            Err(errno) => return Err(errno),
        }
    }
}

/// Bytes of the grate's own as a buffer and its length.
fn own(cage: u64, bytes: &[u8]) -> [Arg; 2] {
    [own_buffer(bytes.as_ptr()), value(cage, bytes.len() as u64)]
}

/// A write at the descriptor's offset.
fn write_on(
    call: &Call,
    what: &str,
    vectors: fn(&Call) -> Result<Vectors, Errno>,
) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let kept = Kept::of(fd)?;
    match kept.way() {
        None => kept.guard(call, 0, what),
        Some(Way::Out(outlet)) => in_pieces(vectors(call)?, |piece, _| {
            outlet.write(fd, None, piece, &|bytes| {
                super::outlet::plain_write(fd, bytes)
            })
        }),
        Some(Way::File(file)) => in_pieces(vectors(call)?, |piece, _| file.write(fd, None, piece)),
    }
}

/// A write at an offset that the call names.
fn write_at(
    call: &Call,
    what: &str,
    vectors: fn(&Call) -> Result<Vectors, Errno>,
) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let start = u64::try_from(call.long(3)).map_err(|_| EINVAL)?;
    let kept = Kept::of(fd)?;
    match kept.way() {
        None => kept.guard(call, 0, what),
        // Redirected standard streams are streams, whatever they lead to.
        Some(Way::Out(_)) => Err(ESPIPE),
        Some(Way::File(file)) => in_pieces(vectors(call)?, |piece, done| {
            file.write(fd, Some(start.saturating_add(done)), piece)
        }),
    }
}

/// write: descriptor, buffer, length.
pub fn write(call: &Call) -> Result<i32, Errno> {
    write_on(call, "write", one_buffer)
}

/// writev: descriptor, vectors, count.
pub fn writev(call: &Call) -> Result<i32, Errno> {
    write_on(call, "writev", many_buffers)
}

/// pwrite: descriptor, buffer, length, offset.
pub fn pwrite(call: &Call) -> Result<i32, Errno> {
    write_at(call, "pwrite", one_buffer)
}

/// pwritev: descriptor, vectors, count, offset.
pub fn pwritev(call: &Call) -> Result<i32, Errno> {
    write_at(call, "pwritev", many_buffers)
}

/// What joins bytes that are judged apart is refused. Urgent data stand beside the stream: who reads
/// it gets what is before and behind them as one. Packets that more is to be added to would go out
/// as one.
fn refuse_joining(outlet: &Outlet, flags: i32) -> Result<(), Errno> {
    let joins = match outlet.kind() {
        Kind::Bytes => net::MSG_OOB,
        Kind::Messages => net::MSG_OOB | net::MSG_MORE,
    };
    match flags & joins {
        0 => Ok(()),
        _ => Err(EOPNOTSUPP),
    }
}

/// setsockopt: descriptor, level, option, value, its length. What would have packets wait for more,
/// as MSG_MORE does, is not there.
pub fn setsockopt(call: &Call) -> Result<i32, Errno> {
    const UDP_CORK: i32 = 1;
    let is_cork = (call.int(1), call.int(2)) == (net::IPPROTO_UDP, UDP_CORK);
    match filter().redaction {
        Some(_) if is_cork => Err(Errno(error::ENOPROTOOPT)),
        _ => pass(call, 0),
    }
}

/// sendto: descriptor, buffer, length, flags, address, its length.
pub fn sendto(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let kept = Kept::of(fd)?;
    let Some(Way::Out(outlet)) = kept.way() else {
        return pass(call, 0);
    };
    refuse_joining(&outlet, call.int(3))?;
    let mut name = Vec::new();
    if !call.is_null(4) {
        // Read once: who is judged is who gets it.
        let len = call.int(5);
        if !(0..=MOST_NAME as i32).contains(&len) {
            return Err(EINVAL);
        }
        name = call.take_bytes(4, len as usize)?;
    }
    let peer = address(&name);
    in_pieces(one_buffer(call)?, |piece, _| {
        outlet.write(fd, peer, piece, &|bytes| {
            let [buffer, len] = own(fd.cage, bytes);
            let args = [fd.arg(), buffer, len, call.arg(3), call.arg(4), call.arg(5)];
            kernel::call(SYS_SENDTO, fd.cage, &args)
        })
    })
}

/// sendmsg: descriptor, message header, flags.
pub fn sendmsg(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    let kept = Kept::of(fd)?;
    let Some(Way::Out(outlet)) = kept.way() else {
        return pass(call, 0);
    };
    refuse_joining(&outlet, call.int(2))?;
    let (header, vectors) = message::take(call, 1)?;
    let peer = address(&header.name);

    in_pieces(vectors, |piece, _| {
        outlet.write(fd, peer, piece, &|bytes| {
            let data = own_buffer(bytes.as_ptr());
            Below::new(data, bytes.len(), &header.name, &header.control).make(
                SYS_SENDMSG as u32,
                fd,
                call.int(2),
            )
        })
    })
}

/// lseek: descriptor, offset, whence. A redirected standard stream has no offset while it is
/// redacted: what was written is not all there yet.
pub fn lseek(call: &Call) -> Result<i32, Errno> {
    match Kept::of(CageFd::of(call, 0))?.way() {
        Some(Way::Out(_)) => Err(ESPIPE),
        Some(Way::File(file)) => file.change(|| pass(call, 0)),
        None => pass(call, 0),
    }
}

/// fsync and fdatasync: what is held goes out before.
pub fn fsync(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    if let Some(Way::Out(outlet)) = Kept::of(fd)?.way() {
        outlet.flush(fd);
    }
    pass(call, 0)
}

/// Calls that would get past the grate: programs do otherwise where they get this error.
pub fn refuse(_call: &Call) -> Result<i32, Errno> {
    Err(ENOSYS)
}

/// ftruncate: descriptor, length. What was streamed into a file is not shortened: what comes next
/// would stand behind what was not its beginning.
pub fn ftruncate(call: &Call) -> Result<i32, Errno> {
    if call.long(1) < 0 {
        return Err(EINVAL);
    }
    let fd = CageFd::of(call, 0);
    let kept = Kept::of(fd)?;
    match kept.way() {
        Some(Way::Out(_)) => Err(EINVAL),
        Some(Way::File(file)) => file.file().resize(fd, |_| call.size(1), || pass(call, 0)),
        None => kept.guard(call, 0, "ftruncate"),
    }
}

/// fallocate: descriptor, mode, offset, length.
pub fn fallocate(call: &Call) -> Result<i32, Errno> {
    if call.long(2) < 0 || call.long(3) <= 0 {
        return Err(EINVAL);
    }
    let fd = CageFd::of(call, 0);
    let kept = Kept::of(fd)?;
    let way = kept.way();
    if matches!(way, Some(Way::Out(_))) {
        return match fd.stat()?.is_regular() {
            true => Err(ESPIPE),
            false => pass(call, 0),
        };
    }
    // Moving ranges could join the parts of a secret.
    if filter().redaction.is_some() && call.int(1) & !fs::FALLOC_FL_KEEP_SIZE != 0 {
        return Err(EOPNOTSUPP);
    }
    match way {
        Some(Way::File(file)) if call.int(1) == 0 => {
            let end = call.size(2).saturating_add(call.size(3));
            file.file()
                .resize(fd, |size| size.max(end), || pass(call, 0))
        }
        _ => kept.guard(call, 0, "fallocate"),
    }
}

/// copy_file_range: descriptor, offset, descriptor to write to, offset, length, flags.
pub fn copy_file_range(call: &Call) -> Result<i32, Errno> {
    // A source that can't be looked at fails in the kernel, whatever the destination.
    if CageFd::of(call, 0).stat().is_err() {
        return pass(call, 0);
    }
    let to = CageFd::of(call, 2);
    let kept = Kept::of(to)?;
    if filter().redaction.is_some() && !kept.is_refused() {
        // Programs read and write then.
        return Err(EXDEV);
    }
    kept.guard(call, 2, "copy_file_range")
}

/// mmap: address, length, protection, flags, descriptor, offset.
///
/// A shared mapping of a file that may not be written is refused even where it is for reading:
/// mprotect could open it for writing later. What was opened for reading only is not concerned.
pub fn mmap(call: &Call) -> Result<i32, Errno> {
    let flags = call.int(3);
    // The descriptor is looked up in the table of the cage that the call is made for.
    let cage = call.cage_of(1);
    let is_shared = flags & mman::MAP_SHARED != 0 && flags & mman::MAP_ANONYMOUS == 0;
    if !is_shared {
        return call.forward(cage);
    }
    let fd = CageFd {
        cage,
        fd: call.int(4),
    };
    let kept = Kept::of(fd)?;
    if kept.is_refused() {
        let what = format_args!("shared mapping of descriptor {}", fd.fd);
        return Err(filter().refuse(cage, what));
    }
    let is_file = |way: Way| match way {
        Way::File(_) => true,
        Way::Out(_) => fd.stat().is_ok_and(|stat| stat.is_regular()),
    };
    if kept.way().is_some_and(is_file) {
        // What is stored in it could not be seen.
        return Err(ENODEV);
    }
    call.forward(cage)
}
