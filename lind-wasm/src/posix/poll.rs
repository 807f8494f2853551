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
