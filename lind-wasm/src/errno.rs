//! Errors of host calls.

use rustix::io::Errno;

/// Why the last host call of this thread failed.
pub fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
