//! Layouts of the structures that calls take and fill, little-endian as the guest has them.

use rustix::fs::{Stat, StatFs, Statx, StatxFlags};
use rustix::io::Errno;

/// Bytes of a `struct stat`.
pub(super) const STAT_LEN: usize = 104;
/// Bytes of a `struct statx`.
pub(super) const STATX_LEN: usize = 256;
/// Bytes of a `struct statfs`.
pub(super) const STATFS_LEN: usize = 112;
/// Bytes of a `struct iovec`: base and length, 64 bits each.
pub(super) const IOVEC_LEN: usize = 16;
/// Bytes of a `struct flock`, padding included.
pub(super) const FLOCK_LEN: usize = 32;
/// Bytes of a `struct pollfd`.
pub(super) const POLLFD_LEN: usize = 8;

/// Lays fields into a structure of `N` bytes, each at its offset.
struct Layout<const N: usize>([u8; N]);

impl<const N: usize> Layout<N> {
    fn new() -> Self {
        Self([0; N])
    }

    fn field<const F: usize>(&mut self, at: usize, bytes: [u8; F]) {
        self.0[at..at + F].copy_from_slice(&bytes);
    }
}

/// The field of `F` bytes at `at`; zeros where `bytes` is too short to hold it.
fn field<const F: usize>(bytes: &[u8], at: usize) -> [u8; F] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; F])
}

/// A `struct stat`. Lind's is neither Linux's nor WASI's: block counts have 32 bits.
pub(super) fn stat(stat: &Stat) -> [u8; STAT_LEN] {
    let mut out = Layout::new();
    out.field(0, stat.st_dev.to_le_bytes());
    out.field(8, stat.st_ino.to_le_bytes());
    out.field(16, stat.st_mode.to_le_bytes());
    out.field(20, (stat.st_nlink as u32).to_le_bytes());
    out.field(24, stat.st_uid.to_le_bytes());
    out.field(28, stat.st_gid.to_le_bytes());
    out.field(32, stat.st_rdev.to_le_bytes());
    out.field(40, stat.st_size.to_le_bytes());
    out.field(48, (stat.st_blksize as i32).to_le_bytes());
    out.field(52, (stat.st_blocks as u32).to_le_bytes());
    let times = [
        (stat.st_atime, stat.st_atime_nsec),
        (stat.st_mtime, stat.st_mtime_nsec),
        (stat.st_ctime, stat.st_ctime_nsec),
    ];
    for (index, (seconds, nanoseconds)) in times.into_iter().enumerate() {
        out.field(56 + 16 * index, seconds.to_le_bytes());
        out.field(64 + 16 * index, nanoseconds.to_le_bytes());
    }
    out.0
}

/// A `struct statx`, which is the same on every architecture. What the kernel
/// added after the device numbers is left out, and the mask says so.
pub(super) fn statx(stat: &Statx) -> [u8; STATX_LEN] {
    let mut out = Layout::new();
    let known = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    out.field(0, (stat.stx_mask & known.bits()).to_le_bytes());
    out.field(4, stat.stx_blksize.to_le_bytes());
    out.field(8, stat.stx_attributes.bits().to_le_bytes());
    out.field(16, stat.stx_nlink.to_le_bytes());
    out.field(20, stat.stx_uid.to_le_bytes());
    out.field(24, stat.stx_gid.to_le_bytes());
    out.field(28, stat.stx_mode.to_le_bytes());
    out.field(32, stat.stx_ino.to_le_bytes());
    out.field(40, stat.stx_size.to_le_bytes());
    out.field(48, stat.stx_blocks.to_le_bytes());
    out.field(56, stat.stx_attributes_mask.bits().to_le_bytes());
    let times = [
        stat.stx_atime,
        stat.stx_btime,
        stat.stx_ctime,
        stat.stx_mtime,
    ];
    for (index, time) in times.into_iter().enumerate() {
        out.field(64 + 16 * index, time.tv_sec.to_le_bytes());
        out.field(72 + 16 * index, time.tv_nsec.to_le_bytes());
    }
    out.field(128, stat.stx_rdev_major.to_le_bytes());
    out.field(132, stat.stx_rdev_minor.to_le_bytes());
    out.field(136, stat.stx_dev_major.to_le_bytes());
    out.field(140, stat.stx_dev_minor.to_le_bytes());
    out.0
}

/// A `struct statfs`: ten 64-bit fields, the rest is spare.
pub(super) fn statfs(fs: &StatFs) -> [u8; STATFS_LEN] {
    let mut out = Layout::new();
    // The file system's identity says something about the host and nothing to a cage.
    let identity = 0;
    let fields = [
        fs.f_type as u64,
        fs.f_bsize as u64,
        fs.f_blocks,
        fs.f_bfree,
        fs.f_bavail,
        fs.f_files,
        fs.f_ffree,
        identity,
        fs.f_namelen as u64,
        fs.f_frsize as u64,
    ];
    for (index, value) in fields.into_iter().enumerate() {
        out.field(8 * index, value.to_le_bytes());
    }
    out.0
}

/// A `struct timespec` in kernel form: seconds and nanoseconds, 64 bits each.
pub(super) fn timespec(bytes: &[u8]) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::from_le_bytes(field(bytes, 0)),
        tv_nsec: i64::from_le_bytes(field(bytes, 8)),
    }
}

/// Base and length of a `struct iovec`.
pub(super) fn iovec(bytes: &[u8; IOVEC_LEN]) -> (u64, u64) {
    (
        u64::from_le_bytes(field(bytes, 0)),
        u64::from_le_bytes(field(bytes, 8)),
    )
}

/// A `struct flock` for the kernel, without the pid, which is an output.
pub(super) fn flock(bytes: &[u8; FLOCK_LEN]) -> libc::flock {
    libc::flock {
        l_type: i16::from_le_bytes(field(bytes, 0)),
        l_whence: i16::from_le_bytes(field(bytes, 2)),
        l_start: i64::from_le_bytes(field(bytes, 8)),
        l_len: i64::from_le_bytes(field(bytes, 16)),
        l_pid: 0,
    }
}

/// A `struct flock` for the guest.
pub(super) fn flock_bytes(lock: &libc::flock) -> [u8; FLOCK_LEN] {
    let mut out = Layout::new();
    out.field(0, lock.l_type.to_le_bytes());
    out.field(2, lock.l_whence.to_le_bytes());
    out.field(8, lock.l_start.to_le_bytes());
    out.field(16, lock.l_len.to_le_bytes());
    out.field(24, lock.l_pid.to_le_bytes());
    out.0
}

/// Descriptor and events of a `struct pollfd`.
pub(super) fn pollfd(bytes: &[u8; POLLFD_LEN]) -> (i32, i16) {
    (
        i32::from_le_bytes(field(bytes, 0)),
        i16::from_le_bytes(field(bytes, 4)),
    )
}

/// Where a `struct pollfd` has its answer.
pub(super) const POLLFD_REVENTS: u64 = 6;

/// Bytes of a `struct epoll_event`, which is packed.
pub(super) const EPOLL_EVENT_LEN: usize = 12;

/// A `struct epoll_event`.
pub(super) fn epoll_event(bytes: &[u8; EPOLL_EVENT_LEN]) -> libc::epoll_event {
    libc::epoll_event {
        events: u32::from_le_bytes(field(bytes, 0)),
        u64: u64::from_le_bytes(field(bytes, 4)),
    }
}

/// Bytes of a `struct timeval` and of a `struct timespec` in kernel form.
pub(super) const TIME_LEN: usize = 16;

/// A `struct timeval` in kernel form, seconds and microseconds, as a timespec. `None` for what is
/// no length of time.
pub(super) fn timeval(bytes: &[u8; TIME_LEN]) -> Option<libc::timespec> {
    let microseconds = i64::from_le_bytes(field(bytes, 8));
    // Whole seconds among them count, as in the kernel.
    Some(libc::timespec {
        tv_sec: i64::from_le_bytes(field::<8>(bytes, 0)).checked_add(microseconds / 1_000_000)?,
        tv_nsec: microseconds % 1_000_000 * 1000,
    })
}

/// Seconds and a part of them as the kernel lays out times.
pub(super) fn time_bytes(seconds: i64, part: i64) -> [u8; TIME_LEN] {
    let mut out = Layout::new();
    out.field(0, seconds.to_le_bytes());
    out.field(8, part.to_le_bytes());
    out.0
}

/// A `struct msghdr`, as far as it is an input. Its addresses are of the cage that it lies in.
pub(super) struct MsgHdr {
    pub(super) name: u64,
    pub(super) name_len: i32,
    pub(super) iov: u64,
    pub(super) iov_len: u64,
    pub(super) control: u64,
    pub(super) control_len: u64,
}

/// Bytes of a `struct msghdr`.
pub(super) const MSGHDR_LEN: usize = 56;
/// Where a `struct msghdr` has what recvmsg changes.
pub(super) const MSGHDR_NAME_LEN: u64 = 8;
pub(super) const MSGHDR_CONTROL_LEN: u64 = 40;
pub(super) const MSGHDR_FLAGS: u64 = 48;

/// A `struct msghdr`.
pub(super) fn msghdr(bytes: &[u8; MSGHDR_LEN]) -> MsgHdr {
    MsgHdr {
        name: u64::from_le_bytes(field(bytes, 0)),
        name_len: i32::from_le_bytes(field(bytes, 8)),
        iov: u64::from_le_bytes(field(bytes, 16)),
        iov_len: u64::from_le_bytes(field(bytes, 24)),
        control: u64::from_le_bytes(field(bytes, 32)),
        control_len: u64::from_le_bytes(field(bytes, 40)),
    }
}

/// Bytes of a `struct cmsghdr`.
pub(super) const CMSGHDR_LEN: usize = 16;

/// Level, type and data of each control message; an error at the first malformed one.
pub(super) fn control_messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<(i32, i32, &[u8]), Errno>> {
    std::iter::from_fn(move || {
        // A rest that is too short for a header is not looked at, as in the kernel.
        if bytes.len() < CMSGHDR_LEN {
            return None;
        }
        let len = usize::try_from(u64::from_le_bytes(field(bytes, 0))).unwrap_or(usize::MAX);
        let (level, kind) = (field(bytes, 8), field(bytes, 12));
        let Some(data) = bytes.get(CMSGHDR_LEN..len) else {
            bytes = &[];
            return Some(Err(Errno::INVAL));
        };
        let next = len.next_multiple_of(8);
        bytes = bytes.get(next..).unwrap_or_default();
        Some(Ok((
            i32::from_le_bytes(level),
            i32::from_le_bytes(kind),
            data,
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_has_its_fields_where_guests_look() {
        let file = rustix::fs::memfd_create("stat", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 5_000_000_000).unwrap();
        let host = rustix::fs::fstat(&file).unwrap();
        let bytes = stat(&host);
        let u32_at = |at| u32::from_le_bytes(field(&bytes, at));
        let u64_at = |at| u64::from_le_bytes(field(&bytes, at));
        assert_eq!(u64_at(0), host.st_dev);
        assert_eq!(u64_at(8), host.st_ino);
        assert_eq!(u32_at(16), host.st_mode);
        assert_eq!(u32_at(24), host.st_uid);
        assert_eq!(u64_at(40), 5_000_000_000);
        assert_eq!(u32_at(48), host.st_blksize as u32);
        assert_eq!(u64_at(72) as i64, host.st_mtime);
        assert_eq!(u64_at(96) as i64, host.st_ctime_nsec as i64);
    }

    #[test]
    fn a_lock_survives_the_round_trip_without_its_pid() {
        let mut bytes = [0; FLOCK_LEN];
        bytes[0] = 1;
        bytes[2] = 2;
        bytes[8..16].copy_from_slice(&(-7i64).to_le_bytes());
        bytes[16..24].copy_from_slice(&9i64.to_le_bytes());
        bytes[24] = 200;
        let lock = flock(&bytes);
        assert_eq!((lock.l_type, lock.l_whence), (1, 2));
        assert_eq!((lock.l_start, lock.l_len, lock.l_pid), (-7, 9, 0));
        bytes[24] = 0;
        assert_eq!(flock_bytes(&lock), bytes);
    }

    #[test]
    fn short_bytes_read_as_zeros() {
        assert_eq!(timespec(&[1, 0, 0, 0, 0, 0, 0, 0]).tv_sec, 1);
        assert_eq!(timespec(&[]).tv_nsec, 0);
    }
}
