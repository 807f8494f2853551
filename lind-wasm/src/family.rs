//! Who is whose child, who has ended, and waiting for it.

use crate::ids::{CageId, WaitStatus};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

/// The cages of a run as a process table.
#[derive(Debug, Default)]
pub struct Family {
    members: Mutex<BTreeMap<CageId, Member>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// `None` once the parent has ended: nobody will wait for this one.
    parent: Option<CageId>,
    ended: Option<WaitStatus>,
}

impl Family {
    fn members(&self) -> std::sync::MutexGuard<'_, BTreeMap<CageId, Member>> {
        self.members.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A cage has begun, if there are not `most` already, those counted that have ended and were
    /// not waited for.
    ///
    /// # Errors
    /// `EAGAIN`.
    pub fn add(&self, id: CageId, parent: Option<CageId>, most: usize) -> Result<(), Errno> {
        let mut members = self.members();
        if members.len() >= most {
            return Err(Errno::AGAIN);
        }
        members.insert(
            id,
            Member {
                parent,
                ended: None,
            },
        );
        Ok(())
    }

    /// A cage that never got to run is forgotten.
    pub fn remove(&self, id: CageId) {
        self.members().remove(&id);
        self.changed.notify_all();
    }

    /// A cage has ended. It stays, a zombie, until its parent has asked. `tell` is called with the
    /// parent, before that can ask.
    pub fn end(&self, id: CageId, status: WaitStatus, tell: impl FnOnce(CageId)) {
        let mut members = self.members();
        if let Some(parent) = members.get(&id).and_then(|member| member.parent) {
            tell(parent);
        }
        members.retain(|&other, member| {
            if member.parent == Some(id) {
                member.parent = None;
            }
            // The first cage's status is the run's: it stays to the end.
            member.parent.is_some() || member.ended.is_none() || other == CageId::FIRST
        });
        if let Some(member) = members.get_mut(&id) {
            member.ended = Some(status);
            if member.parent.is_none() && id != CageId::FIRST {
                members.remove(&id);
            }
        }
        self.changed.notify_all();
    }

    /// The parent of a cage; its own id for one without.
    pub fn parent(&self, id: CageId) -> CageId {
        let members = self.members();
        members.get(&id).and_then(|m| m.parent).unwrap_or(id)
    }

    /// Wakes all waiting threads, to look at their cage's doom.
    pub fn wake(&self) {
        // Under the lock, so that it can't fall between a waiter's look and its sleep.
        let _members = self.members();
        self.changed.notify_all();
    }

    /// Waits for a child of `parent` to end: `pid` above 0 that child, else any. Answers `None`
    /// when `no_hang` is set and none has ended yet. `is_doomed` says whether the parent must not
    /// wait any longer; [`Family::wake`] has it asked.
    ///
    /// # Errors
    /// `ECHILD` when there is no such child; `EINTR` when the waiting cage was condemned.
    pub fn wait(
        &self,
        parent: CageId,
        pid: i32,
        no_hang: bool,
        is_doomed: impl Fn() -> bool,
    ) -> Result<Option<(CageId, WaitStatus)>, Errno> {
        let mut members = self.members();
        loop {
            let mut children = members
                .iter()
                .filter(|(id, member)| {
                    member.parent == Some(parent) && (pid <= 0 || id.pid() == pid)
                })
                .peekable();
            if children.peek().is_none() {
                return Err(Errno::CHILD);
            }
            if let Some((&id, member)) = children.find(|(_, member)| member.ended.is_some()) {
                let status = member.ended.unwrap_or(WaitStatus::TRAPPED);
                members.remove(&id);
                return Ok(Some((id, status)));
            }
            if no_hang {
                return Ok(None);
            }
            if is_doomed() {
                return Err(Errno::INTR);
            }
            members = self
                .changed
                .wait(members)
                .unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Waits until every cage has ended; the status of the first one.
    pub fn wait_for_all(&self) -> WaitStatus {
        let mut members = self.members();
        while members.values().any(|member| member.ended.is_none()) {
            members = self
                .changed
                .wait(members)
                .unwrap_or_else(|e| e.into_inner());
        }
        members
            .get(&CageId::FIRST)
            .and_then(|member| member.ended)
            .unwrap_or(WaitStatus::TRAPPED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> CageId {
        CageId::from_guest(number).unwrap()
    }

    #[test]
    fn the_first_cages_status_survives_those_that_end_later() {
        let family = Family::default();
        family.add(id(1), None, 1).unwrap();
        family.add(id(2), Some(id(1)), 3).unwrap();
        family.add(id(3), Some(id(2)), 3).unwrap();
        assert_eq!(family.add(id(4), Some(id(3)), 3), Err(Errno::AGAIN));
        assert_eq!(family.parent(id(3)), id(2));
        let mut told = Vec::new();
        family.end(id(2), WaitStatus::exited(4), |parent| told.push(parent));
        family.end(id(1), WaitStatus::exited(9), |parent| told.push(parent));
        family.end(id(3), WaitStatus::exited(5), |parent| told.push(parent));
        assert_eq!(told, [id(1)]);
        assert_eq!(family.wait_for_all(), WaitStatus::exited(9));
    }
}
