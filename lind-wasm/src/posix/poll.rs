//! Waiting for descriptors.

use super::io::answer;
use super::signals::with_mask;
use super::{Call, Entry, abi};
use crate::fds::MAX_FDS;
use crate::memory::GuestMemory;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(7, poll),
    Entry::new(271, ppoll),
    Entry::new(23, select),
    Entry::new(270, pselect6),
];

fn poll(call: &Call<'_>) -> Result<i32, Errno> {
    poll_for(call, call.int(2))
}

/// The third argument is milliseconds, as on Lind.
fn ppoll(call: &Call<'_>) -> Result<i32, Errno> {
    let mask = mask(&call.image_of(3)?.memory, call.raw(3), MASK_LEN)?;
    with_mask(call, mask, |at_once| {
        poll_for(call, if at_once { 0 } else { call.int(2) })
    })
}

fn poll_for(call: &Call<'_>, timeout: i32) -> Result<i32, Errno> {
    let memory = &call.image_of(0)?.memory;
    let count = usize::try_from(call.uint(1))
        .ok()
        .filter(|&count| count <= MAX_FDS)
        .ok_or(Errno::INVAL)?;
    let mut bytes = vec![0; count * abi::POLLFD_LEN];
    memory.read(call.raw(0), &mut bytes)?;
    let (entries, _) = bytes.as_chunks::<{ abi::POLLFD_LEN }>();
    // Files stay open as long as they are waited for, as in the kernel.
    let mut files = Vec::with_capacity(count);
    let mut polled = Vec::with_capacity(count);
    let mut invalid = 0;
    {
        let fds = call.target.fds();
        for entry in entries {
            let (fd, events) = abi::pollfd(entry);
            let file = fds.get(fd).map(|open| open.file.clone()).ok();
            let missing = file.is_none() && fd >= 0;
            invalid += i32::from(missing);
            polled.push(libc::pollfd {
                fd: file.as_ref().map_or(-1, |file| file.as_raw_fd()),
                events,
                revents: 0,
            });
            files.push((file, missing));
        }
    }
    // Lind does not wait for nothing.
    let is_idle = call.rt.strict && polled.iter().all(|entry| entry.fd < 0);
    let timeout = if invalid > 0 || is_idle { 0 } else { timeout };
    // SAFETY: `polled` has `count` entries, of files that `files` keeps open.
    let ready = answer(unsafe { libc::poll(polled.as_mut_ptr(), count as libc::nfds_t, timeout) })?;
    for (index, (entry, (_, missing))) in polled.iter().zip(&files).enumerate() {
        let events = if *missing {
            libc::POLLNVAL
        } else {
            entry.revents
        };
        // The array was read at these addresses: nothing overflows.
        let at = call.raw(0) + (index * abi::POLLFD_LEN) as u64 + abi::POLLFD_REVENTS;
        memory.write(at, &events.to_le_bytes())?;
    }
    Ok(ready + invalid)
}

/// Bytes of a mask of signals.
const MASK_LEN: u64 = 8;

/// A mask of signals to be held back, if there is one.
pub(super) fn mask(memory: &GuestMemory, at: u64, len: u64) -> Result<Option<u64>, Errno> {
    match at {
        0 => Ok(None),
        _ if len != MASK_LEN => Err(Errno::INVAL),
        _ => memory.read_array(at).map(u64::from_le_bytes).map(Some),
    }
}

/// Sets of descriptors, of a cage or of the host: a bit each, in words of 64.
type Set = Vec<u64>;

fn words(count: usize) -> usize {
    count.div_ceil(u64::BITS as usize)
}

fn bit(fd: usize) -> (usize, u64) {
    (fd / u64::BITS as usize, 1 << (fd % u64::BITS as usize))
}

fn has(set: &[u64], fd: usize) -> bool {
    let (word, bit) = bit(fd);
    set.get(word).is_some_and(|word| word & bit != 0)
}

fn put(set: &mut [u64], fd: usize) {
    let (word, bit) = bit(fd);
    set[word] |= bit;
}

/// The sets in arguments 1 to 3, each of which may be left out.
fn sets(call: &Call<'_>, count: usize) -> Result<[Option<Set>; 3], Errno> {
    let mut sets = [None, None, None];
    for (index, set) in (1..).zip(&mut sets) {
        if call.raw(index) == 0 {
            continue;
        }
        let mut bytes = vec![0; 8 * words(count)];
        call.image_of(index)?
            .memory
            .read(call.raw(index), &mut bytes)?;
        let (words, _) = bytes.as_chunks();
        *set = Some(words.iter().map(|&word| u64::from_le_bytes(word)).collect());
    }
    Ok(sets)
}

/// Waits for descriptors in sets; `timeout` becomes what is left of it. The kernel is asked with
/// sets of the host's descriptors, however many those are, so that what counts as ready is the
/// kernel's own choice.
fn wait_for_sets(call: &Call<'_>, timeout: Option<&mut libc::timespec>) -> Result<i32, Errno> {
    let count = usize::try_from(call.int(0)).map_err(|_| Errno::INVAL)?;
    let count = count.min(MAX_FDS);
    let wanted = sets(call, count)?;
    let mut files = Vec::new();
    {
        let fds = call.target.fds();
        for fd in (0..count).filter(|&fd| wanted.iter().flatten().any(|set| has(set, fd))) {
            files.push((fd, fds.get(fd as i32)?.file.clone()));
        }
    }
    let host = |file: &OwnedFd| file.as_raw_fd() as usize; // Open: not negative.
    let host_count = files
        .iter()
        .map(|(_, file)| host(file) + 1)
        .max()
        .unwrap_or(0);
    let mut asked = wanted.clone().map(|wanted| {
        let wanted = wanted?;
        let mut set = vec![0; words(host_count)];
        for (_, file) in files.iter().filter(|(fd, _)| has(&wanted, *fd)) {
            put(&mut set, host(file));
        }
        Some(set)
    });
    let [read, write, except] = asked
        .each_mut()
        .map(|set| set.as_mut().map_or(std::ptr::null_mut(), Vec::as_mut_ptr));
    let timeout = timeout.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: each set has a bit for every number below `host_count`; the timeout is the caller's
    // or null; there is no mask.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pselect6,
            host_count as libc::c_int,
            read,
            write,
            except,
            timeout,
            std::ptr::null::<libc::c_void>(),
        )
    };
    answer(result as libc::c_int)?;
    let mut ready = 0;
    for (index, (wanted, found)) in (1..).zip(wanted.iter().zip(&asked)) {
        let (Some(wanted), Some(found)) = (wanted, found) else {
            continue;
        };
        let mut set = vec![0; wanted.len()];
        for (fd, file) in &files {
            if has(wanted, *fd) && has(found, host(file)) {
                put(&mut set, *fd);
                ready += 1;
            }
        }
        let bytes: Vec<u8> = set.iter().flat_map(|word| word.to_le_bytes()).collect();
        call.put(index, &bytes)?;
    }
    Ok(ready)
}

/// A time to wait as the kernel takes it.
fn valid(time: libc::timespec) -> Result<libc::timespec, Errno> {
    if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
        return Err(Errno::INVAL);
    }
    Ok(time)
}

/// The timeout becomes what is left of it, as on Linux. On Lind it stays.
fn select(call: &Call<'_>) -> Result<i32, Errno> {
    if call.raw(4) == 0 {
        return wait_for_sets(call, None);
    }
    let time = abi::timeval(&call.get(4)?).ok_or(Errno::INVAL)?;
    let mut time = valid(time)?;
    let result = wait_for_sets(call, Some(&mut time));
    if call.rt.strict {
        return result;
    }
    // A place that can't be written is none of the caller's business any more.
    let _ = call.put(4, &abi::time_bytes(time.tv_sec, time.tv_nsec / 1000));
    result
}

/// The mask's address and length are in a structure.
fn pselect6(call: &Call<'_>) -> Result<i32, Errno> {
    let mask = match call.raw(5) {
        0 => None,
        place => {
            let memory = &call.image_of(5)?.memory;
            let (at, len) = abi::iovec(&memory.read_array(place)?);
            mask(memory, at, len)?
        }
    };
    let mut time = match call.raw(4) {
        0 => None,
        _ => Some(valid(abi::timespec(&call.get::<{ abi::TIME_LEN }>(4)?))?),
    };
    let mut none = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let result = with_mask(call, mask, |at_once| {
        let time = time.as_mut();
        wait_for_sets(call, if at_once { Some(&mut none) } else { time })
    });
    if let Some(time) = time {
        let _ = call.put(4, &abi::time_bytes(time.tv_sec, time.tv_nsec));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, SOCKETS, Twins, UNMAPPED, inet};
    use super::*;
    use std::time::{Duration, Instant};

    fn entries(list: &[(i32, i16)]) -> Vec<u8> {
        let entry = |&(fd, events): &(i32, i16)| {
            let mut bytes = fd.to_le_bytes().to_vec();
            bytes.extend_from_slice(&events.to_le_bytes());
            bytes.extend_from_slice(&[0xff, 0xff]); // Always replaced.
            bytes
        };
        list.iter().flat_map(entry).collect()
    }

    fn revents(cage: &Fixture, index: u64) -> i16 {
        let bytes = cage.get(0x2000 + 8 * index + 6, 2);
        i16::from_le_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn each_descriptor_gets_its_answer() {
        let cage = Fixture::new();
        assert_eq!(cage.call(22, &[0x1000]), Ok(0));
        cage.put(0x2000, &entries(&[(0, 1), (1, 4), (-5, 1), (77, 1)]));
        assert_eq!(cage.call(7, &[0x2000, 4, u64::MAX]), Ok(2));
        assert_eq!([0, 1, 2, 3].map(|i| revents(&cage, i)), [0, 4, 0, 0x20]);
        assert_eq!(cage.call(1, &[1, 0x2000, 1]), Ok(1));
        assert_eq!(cage.call(271, &[0x2000, 1, u64::MAX, 0]), Ok(1));
        assert_eq!(revents(&cage, 0), 1);
        assert_eq!(cage.call(3, &[1]), Ok(0));
        assert_eq!(cage.call(7, &[0x2000, 1, u64::MAX]), Ok(1));
        assert_eq!(revents(&cage, 0), 0x11);
    }

    #[test]
    fn the_timeout_is_waited_for() {
        let cage = Fixture::new();
        assert_eq!(cage.call(22, &[0x1000]), Ok(0));
        cage.put(0x2000, &entries(&[(0, 1)]));
        for nr in [7, 271] {
            for count in [0, 1] {
                let start = Instant::now();
                assert_eq!(cage.call(nr, &[0x2000, count, 30, 0]), Ok(0));
                assert!(start.elapsed() >= Duration::from_millis(30));
            }
        }
    }

    #[test]
    fn bad_arrays_are_refused() {
        let cage = Fixture::new();
        assert_eq!(cage.call(7, &[UNMAPPED, 1, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(7, &[0x2000, 1 << 20, 0]), Err(Errno::INVAL));
        assert_eq!(cage.call(7, &[u64::MAX, 3, 0]), Err(Errno::FAULT));
        assert_eq!(cage.call(7, &[UNMAPPED, 0, 0]), Ok(0));
    }

    /// Sockets that are ready for this and that, among others.
    fn busy() -> (Twins, Vec<usize>) {
        let (twins, fds) = Twins::with_sockets();
        let nobody = inet("127.0.0.1:1");
        let _ = twins.agree(42, &[A::Fd(0), A::In(&nobody), A::I(16)]);
        // Text waits at one end of the pair.
        let end = A::Fd(SOCKETS + 1);
        assert_eq!(twins.agree(1, &[end, A::In(b"x"), A::I(1)]), Ok(1));
        let open = |fd: &A<'_>| match fd {
            A::Fd(index) => Some(*index),
            _ => None,
        };
        let fds = fds.iter().filter_map(open).collect();
        (twins, fds)
    }

    #[test]
    fn sockets_are_ready_as_the_kernel_has_it() {
        let (twins, fds) = busy();
        for index in fds {
            for events in [0i16, 1, 2, 4, 0x2000, 0x7fff, -1] {
                let entry =
                    |fd: i32| [&fd.to_le_bytes()[..], &events.to_le_bytes(), &[9, 9]].concat();
                let (mine, its) = twins.numbers(index);
                let entries = A::ChangeEach(&entry(mine), &entry(its));
                let rooms = twins.rooms(7, &[entries, A::I(1), A::I(0)]);
                assert_eq!(rooms[0].0[4..], rooms[0].1[4..], "{index} {events}");
            }
        }
    }

    /// Bytes of the sets below, and descriptors that fit them.
    const SET_LEN: usize = 512;
    const SET_COUNT: A<'_> = A::I(8 * SET_LEN as i64);

    fn set_of(fd: i32) -> Vec<u8> {
        let mut set = vec![0; SET_LEN];
        set[fd as usize / 8] = 1 << (fd % 8);
        set
    }

    #[test]
    fn sets_are_answered_as_the_kernel_does() {
        let (twins, fds) = busy();
        let now = A::Change(&[0; 16]);
        for index in fds {
            let (mine, its) = twins.numbers(index);
            let (mine_set, its_set) = (set_of(mine), set_of(its));
            let set = A::ChangeEach(&mine_set, &its_set);
            let none = A::I(0);
            for sets in [
                [set, none, none],
                [none, set, none],
                [none, none, set],
                [set, set, set],
            ] {
                for nr in [23, 270] {
                    let mut args = vec![SET_COUNT, sets[0], sets[1], sets[2], now];
                    if nr == 270 {
                        args.push(none);
                    }
                    let rooms = twins.rooms(nr, &args);
                    for (cage, host) in &rooms[..rooms.len() - 1] {
                        let (mine, its) = (*cage == mine_set, *host == its_set);
                        let empty = |set: &[u8]| set.iter().all(|&byte| byte == 0);
                        assert!(mine || empty(cage), "{index}");
                        assert_eq!(mine, its, "{index}");
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_sets_and_times_fail_as_the_kernels_do() {
        let twins = Twins::new();
        let none = A::I(0);
        let closed = set_of(800);
        let time = |seconds: i64, part: i64| [seconds.to_le_bytes(), part.to_le_bytes()].concat();
        for nr in [23, 270] {
            for (seconds, part) in [(-1, 0), (0, -1), (0, 1 << 40), (i64::MAX, i64::MAX), (0, 0)] {
                let time = time(seconds, part);
                let mut args = vec![A::I(-1), none, none, none, A::In(&time)];
                args.extend((nr == 270).then_some(none));
                assert_eq!(twins.agree(nr, &args), Err(Errno::INVAL));
            }
            for args in [
                [SET_COUNT, A::Nowhere, none, none, none],
                [SET_COUNT, none, none, none, A::Nowhere],
                [none, A::Nowhere, none, none, A::In(&[0; 16])],
            ] {
                let mut args = args.to_vec();
                args.extend((nr == 270).then_some(none));
                let _ = twins.agree(nr, &args);
            }
        }
        for mask in [
            A::Nowhere,
            A::Struct(&[A::Nowhere, A::I(8)]),
            A::Struct(&[A::In(&[0; 8]), A::I(4)]),
            A::Struct(&[A::In(&[0; 8]), A::I(8)]),
            A::Struct(&[none, A::I(4)]),
        ] {
            let args = [none, none, none, none, A::Change(&[0; 16]), mask];
            let (cage, host) = twins.each(270, &args);
            assert_eq!(cage, host, "{mask:?}");
        }
        let cage = Fixture::new();
        cage.put(0x1000, &closed);
        assert_eq!(cage.call(23, &[1024, 0x1000, 0, 0, 0]), Err(Errno::BADF));
    }

    #[test]
    fn what_is_left_of_a_timeout_is_told() {
        let cage = Fixture::new();
        assert_eq!(cage.call(22, &[0x1000]), Ok(0));
        cage.put(0x2000, &[1, 0, 0, 0, 0, 0, 0, 0]);
        for (nr, unit) in [(23, 1_000), (270, 1_000_000)] {
            let left = || {
                let time = cage.get(0x3000, 16);
                let part = u64::from_le_bytes(time[8..].try_into().unwrap());
                (time[0], part)
            };
            cage.put(0x3000, &[0; 16]);
            cage.put(0x3008, &(30 * unit as u64).to_le_bytes());
            let start = Instant::now();
            let args = [1, 0x2000, 0, 0, 0x3000, 0];
            assert_eq!(cage.call(nr, &args), Ok(0));
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert_eq!((left(), cage.get(0x2000, 1)), ((0, 0), vec![0]));
            cage.put(0x2000, &[1]);
            assert_eq!(cage.call(1, &[1, 0x2000, 1]), Ok(1));
            cage.put(0x3000, &[60]);
            assert_eq!(cage.call(nr, &args), Ok(1));
            let (seconds, part) = left();
            assert!((50..60).contains(&seconds) && part > 0);
            assert_eq!(cage.call(0, &[0, 0x4000, 9]), Ok(1));
        }
        // Not ready for what is asked, but with an error: it waits, and does not spin.
        assert_eq!(cage.call(3, &[0]), Ok(0));
        cage.put(0x2000, &[2]);
        cage.put(0x3000, &[0; 16]);
        cage.put(0x3008, &30_000u64.to_le_bytes());
        assert_eq!(cage.call(23, &[2, 0, 0, 0x2000, 0x3000]), Ok(0));
    }
}
