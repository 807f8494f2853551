//! How descriptors are copied, closed and handed on: what is known of them goes along, and what is
//! held of a stream goes out with the last descriptor that leads to it.

use super::filter;
use super::outlet::Outlet;
use super::redaction::{Redaction, Way};
use grate_rs::constants::{SYS_FCNTL, error, fs};
use grate_rs::kernel::{self, int};
use grate_rs::{CageFd, Call, Errno, order};
use std::sync::Arc;

macro_rules! follow {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("See [`grate_rs::Descriptors::", stringify!($name), "`].")]
            pub fn $name(call: &Call) -> Result<i32, Errno> {
                filter().known.$name(call)
            }
        )*
    };
}

follow!(dup);

/// fcntl: descriptor, command, number. The flags are those that the program opened with. A grate
/// further in may ask whether what it writes is changed here.
pub fn fcntl(call: &Call) -> Result<i32, Errno> {
    if filter().redaction.is_some() && order::asks_for_changes(call) {
        return Ok(order::CHANGES);
    }
    let table = &filter().known;
    let known = || table.get(CageFd::of(call, 0));
    let way = match call.int(1) {
        fs::F_SETFL => known().and_then(|known| known.way),
        _ => None,
    };
    let result = match way {
        // A file that is only added to stays one.
        Some(Way::Out(outlet)) if outlet.is_appended() && call.int(2) & fs::O_APPEND == 0 => {
            return Err(Errno(error::EPERM));
        }
        Some(Way::File(file)) => file.change(|| table.fcntl(call)),
        _ => table.fcntl(call),
    }?;
    let hides = call.int(1) == fs::F_GETFL && known().is_some_and(|known| known.hides_nofollow);
    Ok(if hides {
        result & !fs::O_NOFOLLOW
    } else {
        result
    })
}

/// close: descriptor.
pub fn close(call: &Call) -> Result<i32, Errno> {
    let fd = CageFd::of(call, 0);
    closing(|| vec![fd], || filter().known.close(call))
}

/// Copies of descriptors that a call may close, to write what is held when it has.
///
/// Only what really is closed may go out: a program that could let half a secret out by a call
/// that fails would then write the other half.
struct Farewell(Vec<(CageFd, Arc<Outlet>)>);

impl Farewell {
    fn new(redaction: &Redaction, gone: &[CageFd]) -> Self {
        // Also where nothing is held: a match may be open that is for the report alone.
        let last = redaction.last_of(gone, || {}).into_iter();
        let copies = last.filter_map(|(fd, outlet)| {
            let args = [fd.arg(), int(fd.cage, fs::F_DUPFD), int(fd.cage, 64)];
            let Ok(copy) = kernel::call(SYS_FCNTL, fd.cage, &args) else {
                // No number is free: what may be half a secret goes now, and masked.
                outlet.flush(fd);
                return None;
            };
            Some((CageFd { fd: copy, ..fd }, outlet))
        });
        Self(copies.collect())
    }

    fn finish(self, closed: bool) {
        for (fd, outlet) in self.0 {
            if closed {
                outlet.finish(fd);
            }
            fd.close();
        }
    }
}

fn closing(
    gone: impl FnOnce() -> Vec<CageFd>,
    act: impl FnOnce() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let farewell = filter()
        .redaction
        .as_ref()
        .map(|redaction| Farewell::new(redaction, &gone()));
    let result = act();
    if let Some(farewell) = farewell {
        farewell.finish(result.is_ok());
    }
    result
}

fn second(call: &Call) -> Vec<CageFd> {
    if call.int(0) == call.int(1) {
        return Vec::new();
    }
    vec![CageFd {
        cage: call.cage_of(0),
        fd: call.int(1),
    }]
}

/// dup2: descriptor, the number it gets.
pub fn dup2(call: &Call) -> Result<i32, Errno> {
    closing(|| second(call), || filter().known.dup2(call))
}

/// dup3: descriptor, the number it gets, flags.
pub fn dup3(call: &Call) -> Result<i32, Errno> {
    closing(|| second(call), || filter().known.dup3(call))
}

/// execve: descriptors marked so are closed.
pub fn execve(call: &Call) -> Result<i32, Errno> {
    let closed = || filter().known.closed_by_exec(call.cage_of(0));
    closing(closed, || filter().known.execve(call))
}

/// exit_group: status.
pub fn exit_group(call: &Call) -> Result<i32, Errno> {
    let filter = filter();
    let cage = call.cage_of(0);
    let Some(redaction) = &filter.redaction else {
        return filter.known.exit(call);
    };
    let mut held = Vec::new();
    // Not before nothing more can be written: an end is an end, whatever comes of this call.
    let last = redaction.last_of(&descriptors_of(cage), || held = filter.known.end_cage(cage));
    for (fd, outlet) in last {
        if held.contains(&fd) {
            // Somebody else is still writing.
            outlet.flush(fd);
        } else {
            outlet.finish(fd);
        }
    }
    if filter.program.get() == Some(&cage) {
        redaction.announce_end();
    }
    call.forward(cage)
}

/// clone: the child has the descriptors of its parent.
pub fn clone_cage(call: &Call) -> Result<i32, Errno> {
    let table = &filter().known;
    table.departed().into_iter().for_each(forget);
    table.clone_cage(call)
}

/// wait4: who was waited for is gone, and may have been killed.
pub fn wait4(call: &Call) -> Result<i32, Errno> {
    let child = call.forward(call.cage_of(0))?;
    if child > 0 {
        forget(child as u64);
    }
    Ok(child)
}

/// Forgets a cage that is gone. What it has left goes out where there is a way.
fn forget(cage: u64) {
    let forget = || filter().known.forget_cage(cage);
    match &filter().redaction {
        Some(redaction) => {
            let last = redaction.last_of(&descriptors_of(cage), forget);
            last.iter().for_each(|(_, outlet)| outlet.finish_alone());
        }
        None => forget(),
    }
}

fn descriptors_of(cage: u64) -> Vec<CageFd> {
    let all = filter().known.of_cage(cage).into_iter();
    all.map(|(fd, _)| fd).collect()
}
