//! What is below the prefix.

use calls::{Entry, Kind};
use clamp::paths::Paths;
use clamp::{Front, marks};
use grate_rs::constants::{
    SYS_COPY_FILE_RANGE, SYS_FALLOCATE, SYS_FTRUNCATE, SYS_MMAP, SYS_POLL, SYS_PPOLL, SYS_PSELECT6,
    SYS_PWRITE, SYS_PWRITEV, SYS_SELECT, SYS_WRITE, SYS_WRITEV, error,
};
use grate_rs::{CageFd, Errno};

/// A folder, and all that is below it.
pub struct Border(pub Paths);

impl clamp::Border for Border {
    fn tracks(&self, entry: &Entry) -> bool {
        let names_one = |kind: &Kind| *kind == Kind::Path || kind.is_descriptor();
        entry.result == calls::Outcome::Fd || entry.args.iter().any(names_one)
    }

    fn serve(&self, front: &Front<'_>) -> Result<i32, Errno> {
        if !front.entry.is_ours() && !front.entry.is_on_lind() {
            // What no runtime serves might name files in ways that nobody judges.
            return Err(Errno(error::ENOSYS));
        }
        match Paths::are_in(front.entry) {
            true => self.0.serve(front),
            false => by_descriptor(front),
        }
    }
}

fn by_descriptor(front: &Front<'_>) -> Result<i32, Errno> {
    let call = front.call;
    let is_marked = |fd: CageFd| marks().get(fd).is_some();
    match u64::from(call.nr) {
        SYS_POLL | SYS_PPOLL | SYS_SELECT | SYS_PSELECT6 => {
            return match front.has_any_inside() {
                true => front.pass_inside(),
                false => front.past(),
            };
        }
        // The descriptor is looked up in the table of the cage that the call is made for.
        SYS_MMAP => {
            let cage = front.cage;
            let fd = CageFd {
                cage,
                fd: call.int(4),
            };
            let held = (fd.fd >= 0).then(|| marks().hold(fd)).transpose()?;
            return match held.as_ref().and_then(|held| held.what()) {
                Some(_) => front.pass_inside(),
                None => front.past(),
            };
        }
        _ => {}
    }
    let writes = matches!(
        u64::from(call.nr),
        SYS_WRITE
            | SYS_PWRITE
            | SYS_WRITEV
            | SYS_PWRITEV
            | SYS_FTRUNCATE
            | SYS_FALLOCATE
            | SYS_COPY_FILE_RANGE
    );
    // What is written must not go past to a file that comes in the descriptor's place. What is
    // read may wait for a peer, and keeps nobody from closing.
    let mut held = Vec::new();
    if writes {
        for fd in front.descriptors() {
            held.push(marks().hold(fd)?);
        }
    }
    let is_inside = front.descriptors().any(is_marked);
    // Neither side knows the other's file: what is open on both is read and written instead.
    if u64::from(call.nr) == SYS_COPY_FILE_RANGE && is_inside && !front.descriptors().all(is_marked)
    {
        for fd in front.descriptors() {
            fd.stat()?;
        }
        return Err(Errno(error::EXDEV));
    }
    let act = || match is_inside {
        true => front.pass_inside(),
        false => front.past(),
    };
    if front.makes_one() {
        front.opened(None, act)
    } else {
        act()
    }
}
