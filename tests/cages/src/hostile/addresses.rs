//! Wild addresses and lengths in the place of every argument that has one.

use super::gate::*;
use super::world::{World, served};
use super::{Attempt, Stage};
use cage_libc::sys::{self, nr};
use calls::{Access, Entry, Kind, Struct};

pub const ATTEMPTS: &[Attempt] = &[
    ("a wild address in each argument", every_address),
    ("a wild length in each argument", every_length),
    ("a wild number in each argument", every_number),
    ("addresses inside of structures", inner_addresses),
    ("lists that are too long", long_lists),
    ("memory taken away during a call", taken_away),
];

const PAGE: u64 = 4096;
const FTRUNCATE: u32 = 77;

fn mapped(len: u64, prot: u64) -> Result<u64, String> {
    match call(nr::MMAP, &[0, len, prot, 0x22, int(-1), 0]) {
        error @ -4095..=-1 => Err(format!("mmap: {error}")),
        offset => Ok(sys::base() + u64::from(offset as u32)),
    }
}

/// The last byte of a page that is mapped, before one that is not.
fn at_the_edge() -> Result<u64, String> {
    let pages = mapped(2 * PAGE, 3)?;
    expect("munmap", call(nr::MUNMAP, &[pages + PAGE, PAGE]), &[0])?;
    let edge = pages + PAGE - 1;
    // No string and no structure ends there.
    let offset = (edge - sys::base()) as usize as *mut u8;
    // SAFETY: the byte is in the page that was just mapped.
    unsafe { offset.write(b'/') };
    Ok(edge)
}

/// Addresses at which nothing can be read or written, in whole.
pub fn wild() -> Result<Vec<u64>, String> {
    let base = sys::base();
    let closed = mapped(PAGE, 0)?;
    let gone = mapped(PAGE, 3)?;
    expect("munmap", call(nr::MUNMAP, &[gone, PAGE]), &[0])?;
    let mut list = vec![
        base + 0xffff_fff0,
        base + 0x7000_0000,
        base + (1 << 32),
        base + (1 << 32) - 1,
        base.wrapping_add(1 << 63),
        1 << 63,
        u64::MAX,
        u64::MAX - 4095,
        0xdead_beef_0000,
        closed,
        gone,
        at_the_edge()?,
    ];
    if strict() {
        // What would be an address without the base.
        list.extend([1, PAGE, 65536, 0x7fff_f000]);
    }
    Ok(list)
}

/// Calls in which an address is not looked at, or something else is wrong before: what they may
/// answer besides EFAULT, as Linux has it.
fn also(entry: &Entry, kind: Kind) -> &'static [i32] {
    match (entry.nr, kind) {
        // Not looked at: there is nothing to tell, or to read.
        (0 | 17 | 19 | 295, _) => &[0],
        (44, _) => &[-106],
        (43 | 288, _) => &[-11],
        (45, Kind::SocketAddressOut | Kind::Struct(..)) => &[-11],
        (45 | 47, _) => &[-11, 0],
        // Pages that need not be there, or are no pages.
        (10 | 11, _) => &[-22, -12, 0],
        // There is no such command, and nothing attached there.
        (31 | 67, _) => &[-22],
        // The command says whether it is used.
        (72, _) => &[-22],
        // Other arguments are wrong in these worlds.
        (48..=52, _) => &[-22, -107],
        // Setting a limit is refused before the old one is told.
        (302, _) => &[-1],
        (202, _) => &[-22, 0],
        (221, _) => &[0],
        (232 | 281, _) => &[0],
        (233, _) => &[0],
        (318, _) => &[0],
        (326, _) => &[-18, -22, 0],
        (1101..=1104, _) => &[-22, -74, -95],
        // The descriptor is one's own.
        (1110..=1112, _) => &[-1],
        // Nothing is copied without a lease.
        (1108, _) => &[0],
        // Time that is not waited, and what is left of it.
        (35, Kind::Struct(Access::Out, _)) => &[0],
        // No child.
        (61, _) => &[-10],
        (7 | 271, _) => &[0, -22],
        // A structure that is longer than what is told of it.
        (_, Kind::Struct(_, Struct::SigSet | Struct::SigSetPlace)) => &[0, -22],
        // The path is judged first, or the other path.
        (2 | 4 | 6 | 21 | 59 | 76 | 80..=94 | 133 | 137 | 257..=269 | 280 | 316 | 332, _) => {
            &[-2, -17, -20, -39, -8]
        }
        _ => &[],
    }
}

fn every_address(_: &Stage) -> Outcome {
    let mut wrong = Vec::new();
    let world = World::new("address", false)?;
    for place in wild()? {
        for entry in served() {
            // Its address counts at the thread's end alone.
            const SET_TID_ADDRESS: u32 = 218;
            for (index, kind) in entry.args.iter().enumerate() {
                if !kind.is_address() || entry.nr == SET_TID_ADDRESS {
                    continue;
                }
                let mut args = world.arguments(entry);
                args[index] = place;
                let got = call(entry.nr, &args);
                // Of bytes, as many as there are.
                let bytes = matches!(kind, Kind::BytesIn | Kind::BytesOut) && got == 1;
                if got != EFAULT && !also(entry, *kind).contains(&got) && !bytes {
                    let argument = index + 1;
                    wrong.push(format!(
                        "{}, argument {argument} at {place:#x}: {got}",
                        entry.name
                    ));
                }
            }
        }
    }
    // All of it is still here.
    let mut status = [0u8; 104];
    let args = [
        int(world.file),
        cage_libc::sys::address(status.as_mut_ptr()),
    ];
    wrong.extend(expect("fstat", call(nr::FSTAT, &args), &[0]).err());
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n"))
}

/// Whatever it is answered, the program is told something, and no more than it has room for is
/// written.
fn every_length(_: &Stage) -> Outcome {
    let world = World::new("length", false)?;
    let wild = [
        0,
        1,
        3,
        65535,
        1 << 20,
        i32::MAX as u64,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 32) + 64,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 63,
        u64::MAX,
    ];
    for entry in served().filter(|entry| !entry.is_of_the_thread()) {
        for (index, kind) in entry.args.iter().enumerate() {
            let measured = index > 0 && entry.args[index - 1].next_is_its_length();
            if !measured && !matches!(kind, Kind::Size | Kind::Offset) {
                continue;
            }
            // It would have the file grow to no end, or change what this program needs itself.
            if matches!(entry.nr, 8 | 10..=12 | 18 | 76 | 77 | 285 | 296 | 318 | 326 | 1100..=1104)
            {
                continue;
            }
            for len in wild {
                // What was written without an end must not be read over this program's own data.
                call(FTRUNCATE, &[int(world.file), PAGE]);
                let mut args = world.arguments(entry);
                args[index] = len;
                let got = call(entry.nr, &args);
                if matches!(entry.nr, 0 | 1 | 17 | 18) && len > 1 << 31 && got > 1 << 20 {
                    return Err(format!("{} of {len:#x} bytes: {got}", entry.name));
                }
            }
        }
    }
    let fd = open(c"/open/after.log", O_CREAT | O_RDWR, 0o644);
    expect(
        "a write after all that",
        write(fd, MARK),
        &[MARK.len() as i32],
    )
}

fn every_number(_: &Stage) -> Outcome {
    let wild = [
        1,
        2,
        7,
        63,
        1023,
        1024,
        1 << 15,
        1 << 20,
        i32::MAX as u64,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX,
        UNUSED,
    ];
    let world = World::new("number", false)?;
    for entry in served().filter(|entry| !entry.is_of_the_thread()) {
        for (index, kind) in entry.args.iter().enumerate() {
            let waits = matches!(
                (entry.nr, kind),
                (7 | 271 | 232 | 281, Kind::Int) | (61, _) | (35 | 202, _) | (62, _) | (73, _)
            );
            // Ends of its own descriptors and memory are not the question here.
            let cuts = matches!(entry.nr, 3 | 10..=12 | 32 | 33 | 76 | 77 | 285 | 292);
            let measures = matches!(kind, Kind::Size | Kind::Offset);
            if kind.is_address() || waits || cuts || measures {
                continue;
            }
            for number in wild {
                let mut args = world.arguments(entry);
                args[index] = number;
                let got = call(entry.nr, &args);
                if got < -4095 && entry.nr != nr::MMAP {
                    return Err(format!("{}, argument {}: {got}", entry.name, index + 1));
                }
            }
        }
    }
    let fd = open(c"/open/after.log", O_CREAT | O_RDWR, 0o644);
    expect(
        "a write after all that",
        write(fd, MARK),
        &[MARK.len() as i32],
    )
}

/// The addresses in iovecs, message headers and lists of strings.
fn inner_addresses(_: &Stage) -> Outcome {
    let world = World::new("inner", false)?;
    let arena = world.arena;
    let mut outcomes = Vec::new();
    let mut judge = |what: String, got: i32, wanted: &[i32]| {
        outcomes.push(expect(what, got, wanted));
    };
    for place in wild()? {
        let vector = [place.to_le_bytes(), 64u64.to_le_bytes()].concat();
        let list = arena.put(8, 0, &vector);
        for number in [nr::READV, nr::WRITEV, 295, 296] {
            // An empty file has nothing to read.
            let wanted: &[i32] = if matches!(number, nr::READV | 295) {
                &[EFAULT, 0, 1]
            } else {
                // The one byte that is there.
                &[EFAULT, 1]
            };
            let args = [int(world.file), list, 1, 0];
            let args = &args[..if number < 100 { 3 } else { 4 }];
            judge(
                format!("call {number} with a vector at {place:#x}"),
                call(number, args),
                wanted,
            );
        }
        for (field, len) in [(0usize, Some(8)), (16, None), (32, Some(40))] {
            let mut header = [0u8; 56];
            let inner = [arena.address(9).to_le_bytes(), 8u64.to_le_bytes()].concat();
            let vectors = arena.put(10, 0, &inner);
            header[16..24].copy_from_slice(&vectors.to_le_bytes());
            header[24] = 1;
            header[field..field + 8].copy_from_slice(&place.to_le_bytes());
            if let Some(len) = len {
                header[len] = 32;
            }
            let header = arena.put(11, 0, &header);
            for number in [nr::SENDMSG, nr::RECVMSG] {
                let got = call(number, &[int(world.pair[0]), header, 0x40]);
                judge(
                    format!("call {number}, field {field} at {place:#x}"),
                    got,
                    &[EFAULT, -22, -11, -106, EPERM, 8],
                );
            }
        }
        let strings = [place.to_le_bytes(), 0u64.to_le_bytes()].concat();
        let strings = arena.put(12, 0, &strings);
        let path = arena.put(13, 0, b"/bin/hello.cwasm\0");
        for args in [[path, strings, 0], [path, 0, strings]] {
            judge(
                format!("exec with a string at {place:#x}"),
                call(nr::EXECVE, &args),
                &[EFAULT],
            );
        }
    }
    all(outcomes)
}

fn long_lists(_: &Stage) -> Outcome {
    let world = World::new("lists", false)?;
    const EINVAL: i32 = -22;
    const E2BIG: i32 = -7;
    let room = mapped(4 << 20, 3)?;
    let mut outcomes = Vec::new();
    for count in [1025, 65536, i32::MAX, -1, i32::MIN] {
        for number in [nr::READV, nr::WRITEV] {
            let got = call(number, &[int(world.file), room, int(count)]);
            outcomes.push(expect(format!("{count} vectors"), got, &[EINVAL]));
        }
    }
    for count in [1 << 20, 1 << 31, u64::MAX] {
        let got = call(nr::POLL, &[room, count, 0]);
        outcomes.push(expect(format!("poll of {count}"), got, &[EINVAL, EFAULT]));
    }
    let got = call(nr::SELECT, &[int(i32::MAX), room, room, room, room]);
    outcomes.push(expect("select", got, &[EINVAL, 0, -9]));
    for count in [0, -1, i32::MIN] {
        let got = call(nr::EPOLL_WAIT, &[int(world.epoll), room, int(count), 0]);
        outcomes.push(expect(format!("epoll_wait of {count}"), got, &[EINVAL]));
    }
    // Arguments without an end, and more than there may be.
    let text = world.arena.put(0, 0, b"argument\0");
    let words = (room - sys::base()) as usize as *mut u64;
    for index in 0..(4 << 20) / 8 {
        // SAFETY: inside of what was mapped.
        unsafe { words.add(index).write(text) };
    }
    let path = world.arena.put(1, 0, b"/bin/hello.cwasm\0");
    for args in [[path, room, 0], [path, 0, room]] {
        outcomes.push(expect(
            "exec of many",
            call(nr::EXECVE, &args),
            &[E2BIG, EFAULT],
        ));
    }
    // One string of megabytes.
    let bytes = (room - sys::base()) as usize as *mut u8;
    // SAFETY: inside of what was mapped.
    unsafe { bytes.write_bytes(b'a', 4 << 20) };
    let list = [room.to_le_bytes(), 0u64.to_le_bytes()].concat();
    let list = world.arena.put(2, 0, &list);
    outcomes.push(expect(
        "exec of much",
        call(nr::EXECVE, &[path, list, 0]),
        &[E2BIG, EFAULT],
    ));
    // A path of megabytes.
    for number in [nr::OPEN, nr::STAT, nr::UNLINK, nr::CHDIR, nr::EXECVE] {
        let got = call(number, &[room, 0, 0]);
        let wanted = [-36, EFAULT];
        outcomes.push(expect(
            format!("call {number} with a path of megabytes"),
            got,
            &wanted,
        ));
    }
    all(outcomes)
}

/// Another cage can't unmap it; but what is mapped can be mapped over by what a call itself does.
fn taken_away(stage: &Stage) -> Outcome {
    let world = World::new("taken", false)?;
    let room = mapped(64 * PAGE, 3)?;
    let base = sys::base();
    for round in 0..stage.tries.min(2000) {
        let page = room + PAGE * (round % 64);
        let closed = round % 3 == 0;
        if closed {
            expect("mprotect", call(10, &[page, PAGE, 0]), &[0])?;
        } else {
            expect("munmap", call(nr::MUNMAP, &[page, PAGE]), &[0])?;
        }
        let got = call(nr::WRITE, &[int(world.file), page, 64]);
        expect("write from there", got, &[EFAULT])?;
        let got = call(nr::GETCWD, &[page, 64]);
        expect("getcwd there", got, &[EFAULT])?;
        // Partly there: what is there may be written, or nothing.
        let got = call(nr::PWRITE, &[int(world.file), page.wrapping_sub(32), 64, 0]);
        if !(got == EFAULT || (0..=64).contains(&got)) {
            return Err(format!("write across the edge: {got}"));
        }
        let fixed = [page - base, PAGE, 3, 0x32, int(-1), 0];
        let again = call(nr::MMAP, &fixed) as u32;
        expect("mmap", again as i32, &[(page - base) as u32 as i32])?;
    }
    Ok(())
}
