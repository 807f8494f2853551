//! Waiting for descriptors.

use super::io::answer;
use super::{Call, Entry, abi};
use crate::fds::MAX_FDS;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(7, "poll", 3, poll),
    // The third argument is milliseconds, as on Lind. Cages catch no signals: the mask is moot.
    Entry::new(271, "ppoll", 4, poll),
];

fn poll(call: &Call<'_>) -> Result<i32, Errno> {
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
    let timeout = if invalid > 0 { 0 } else { call.int(2) };
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
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
                assert_eq!(cage.call(nr, &[0x2000, count, 30]), Ok(0));
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
}
