//! System V shared memory.

use super::memory::settle;
use super::{Call, Entry};
use crate::regions::{Backing, PAGE, Prot};
use crate::segments::{PRIVATE, Segment, now};
use crate::shared::SharedPages;
use rustix::io::Errno;
use std::sync::Arc;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(29, shmget),
    Entry::new(30, shmat),
    Entry::new(31, shmctl),
    Entry::new(67, shmdt),
];

/// As on Lind.
const LARGEST: u64 = 0xfeff_ffff;
const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
const SHM_HUGETLB: u32 = 0o4000;
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;
/// In what is told of a mode: it goes with its last attachment.
const SHM_DEST: u32 = 0o1000;
const READ: u32 = 4;
const WRITE: u32 = 2;

/// Whether the owner, who every cage is, has the access. No cage has privileges.
fn check_access(segment: &Segment, wanted: u32) -> Result<(), Errno> {
    if wanted & !(segment.mode >> 6) & 7 != 0 {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

fn shmget(call: &Call<'_>) -> Result<i32, Errno> {
    let (key, size, flags) = (call.int(0), call.raw(1), call.uint(2));
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::INVAL);
    }
    let mut table = call.rt.segments.lock();
    if let Some(id) = table.find(key) {
        if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
            return Err(Errno::EXIST);
        }
        let segment = table.get(id)?;
        if size > segment.size {
            return Err(Errno::INVAL);
        }
        // What any of the three asks for.
        check_access(segment, (flags >> 6) | (flags >> 3) | flags)?;
        return Ok(id);
    }
    if key != PRIVATE && flags & IPC_CREAT == 0 {
        return Err(Errno::NOENT);
    }
    if size == 0 || size > LARGEST {
        return Err(Errno::INVAL);
    }
    let account = &call.target.account;
    if table.count() >= account.segments() {
        return Err(Errno::NOSPC);
    }
    let id = table.new_id()?;
    let len = size.next_multiple_of(PAGE);
    let pages = call.rt.shared.allocate_segment(account, len, id)?;
    let maker = call.target.id.pid();
    table.add(id, Segment::new(key, size, flags & 0o777, maker, pages));
    Ok(id)
}

/// The address and the result are offsets, without the base, as on Lind.
fn shmat(call: &Call<'_>) -> Result<i32, Errno> {
    let (id, addr, flags) = (call.int(0), call.raw(1), call.uint(2));
    let image = call.target_image()?;
    let place = match addr {
        0 if flags & SHM_REMAP != 0 => return Err(Errno::INVAL),
        0 => None,
        addr if addr.is_multiple_of(PAGE) => Some(addr),
        addr if flags & SHM_RND != 0 => match addr - addr % PAGE {
            0 if flags & SHM_REMAP != 0 => return Err(Errno::INVAL),
            addr => Some(addr),
        },
        _ => return Err(Errno::INVAL),
    };
    // Data can't become code in a cage.
    if flags & SHM_EXEC != 0 {
        return Err(Errno::ACCESS);
    }
    let (prot, access) = if flags & SHM_RDONLY != 0 {
        (Prot::READ, READ)
    } else {
        (Prot::READ | Prot::WRITE, READ | WRITE)
    };
    let pages = {
        let mut table = call.rt.segments.lock();
        let segment = table.get(id)?;
        check_access(segment, access)?;
        segment.pages().ok_or(Errno::INVAL)?
    };
    let len = pages.bytes();
    let backing = Backing::Shared(pages, 0);
    let mapped = match place {
        Some(place) if flags & SHM_REMAP == 0 => image.memory.map_free(place, len, prot, backing),
        place => image.memory.map(place, len, prot, backing),
    };
    let start = settle(call, &image, mapped)?;
    let by = call.target.id.pid();
    call.rt.segments.lock().note_attached(id, by);
    Ok(start as i32)
}

/// The address carries the base, as on Lind.
fn shmdt(call: &Call<'_>) -> Result<i32, Errno> {
    let image = call.target_image()?;
    let base = image.memory.base();
    let start = call.raw(0).checked_sub(base).ok_or(Errno::INVAL)?;
    let id = settle(call, &image, image.memory.detach(start))?;
    let by = call.target.id.pid();
    call.rt.segments.lock().note_detached(id, by);
    Ok(0)
}

fn shmctl(call: &Call<'_>) -> Result<i32, Errno> {
    const IPC_RMID: i32 = 0;
    const IPC_SET: i32 = 1;
    const IPC_STAT: i32 = 2;
    let (id, command) = (call.int(0), call.int(1));
    match command {
        IPC_RMID => call.rt.segments.lock().remove(id)?,
        IPC_SET => {
            let told: [u8; SIZE] = call.get(2)?;
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| told[at + byte]));
            let (uid, gid) = (word(4), word(8));
            if uid == u32::MAX || gid == u32::MAX {
                return Err(Errno::INVAL);
            }
            let mut table = call.rt.segments.lock();
            let segment = table.get(id)?;
            (segment.uid, segment.gid) = (uid, gid);
            segment.mode = word(20) & 0o777;
            segment.changed = now();
        }
        IPC_STAT => {
            let told = stat(call, id)?;
            call.put(2, &told)?;
        }
        _ => return Err(Errno::INVAL),
    }
    Ok(0)
}

/// Bytes of `struct shmid_ds`, as Lind has it.
const SIZE: usize = calls::Struct::ShmId.size();

fn stat(call: &Call<'_>, id: i32) -> Result<[u8; SIZE], Errno> {
    let mut told = [0; SIZE];
    let mut put = |at: usize, bytes: &[u8]| told[at..at + bytes.len()].copy_from_slice(bytes);
    let pages = {
        let mut table = call.rt.segments.lock();
        let segment = table.get(id)?;
        check_access(segment, READ)?;
        let dest = if segment.is_removed() { SHM_DEST } else { 0 };
        put(0, &segment.key.to_le_bytes());
        put(4, &segment.uid.to_le_bytes());
        put(8, &segment.gid.to_le_bytes());
        // Who made it, which any cage is.
        put(12, &rustix::process::geteuid().as_raw().to_le_bytes());
        put(16, &rustix::process::getegid().as_raw().to_le_bytes());
        put(20, &((segment.mode | dest) as u16).to_le_bytes());
        put(36, &(segment.size as u32).to_le_bytes());
        put(40, &segment.attached.to_le_bytes());
        put(48, &segment.detached.to_le_bytes());
        put(56, &segment.changed.to_le_bytes());
        put(64, &segment.maker.to_le_bytes());
        put(68, &segment.last.to_le_bytes());
        segment.pages().ok_or(Errno::INVAL)?
    };
    put(72, &attachments(call, &pages).to_le_bytes());
    Ok(told)
}

/// How often a segment is attached, in all cages.
fn attachments(call: &Call<'_>, pages: &Arc<SharedPages>) -> u32 {
    let images = call.rt.images();
    images
        .iter()
        .map(|image| image.memory.count_of(pages) as u32)
        .sum()
}
