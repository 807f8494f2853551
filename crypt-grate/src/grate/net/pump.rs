//! What goes on without the program: a kernel shakes hands, and sends what it has taken, while the
//! program does something else, so this does too. It runs in the grate's own cage, and only while
//! some connection needs it.

use super::{Socket, below};
use crate::grate::state;
use crate::grate::state::{Opened, lock};
use grate_rs::{CageFd, Pause};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// How often is looked whether the program has ended, which says so itself unless it is killed.
const IDLE: Duration = Duration::from_millis(100);
/// How often connections are looked after at first, and how often when that has not helped.
const SOON: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_millis(20);
/// How many times soon.
const TIMES_SOON: u32 = 50;

/// Connections that have something to do.
#[derive(Default)]
pub struct Pump {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    busy: Vec<Weak<Socket>>,
    /// Looks since a connection was added.
    looks: u32,
    is_over: bool,
}

impl Pump {
    /// Looks after a connection if there is something to do.
    pub fn watch(&self, socket: &Arc<Socket>) {
        if !is_busy(socket) {
            return;
        }
        let mut queue = lock(&self.queue);
        if !queue
            .busy
            .iter()
            .any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(socket)))
        {
            queue.busy.push(Arc::downgrade(socket));
            queue.looks = 0;
            self.changed.notify_all();
        }
    }

    /// Says that the program has ended, so that nobody waits longer for it than needed.
    pub fn announce_end(&self) {
        lock(&self.queue).is_over = true;
        self.changed.notify_all();
    }

    /// The pause between two looks at the program.
    pub fn pause(&self) -> Pause {
        let mut queue = lock(&self.queue);
        let time = match (queue.busy.is_empty(), queue.looks) {
            (true, _) => IDLE,
            (false, looks) if looks < TIMES_SOON => SOON,
            _ => LATER,
        };
        if !queue.is_over {
            (queue, _) = self
                .changed
                .wait_timeout(queue, time)
                .unwrap_or_else(|e| e.into_inner());
        }
        if queue.is_over {
            return Pause::Forever;
        }
        queue.looks = queue.looks.saturating_add(1);
        let busy: Vec<_> = queue.busy.iter().filter_map(Weak::upgrade).collect();
        drop(queue);
        if busy.is_empty() {
            return Pause::Over;
        }
        look_after(&busy);
        lock(&self.queue)
            .busy
            .retain(|socket| socket.upgrade().is_some_and(|socket| is_busy(&socket)));
        Pause::Over
    }
}

fn is_busy(socket: &Socket) -> bool {
    socket.with_link(|link| link.is_busy()) == Some(true)
}

/// Does what can be done for connections, as far as it can be done without waiting.
fn look_after(sockets: &[Arc<Socket>]) {
    let mut by_cage: HashMap<u64, Vec<(CageFd, &Arc<Socket>)>> = HashMap::new();
    for socket in sockets {
        if let Some(fd) = state().descriptor_of(socket) {
            by_cage.entry(fd.cage).or_default().push((fd, socket));
        }
    }
    for (cage, sockets) in by_cage {
        let mut entries = Vec::with_capacity(8 * sockets.len());
        for (fd, socket) in &sockets {
            let events = socket.with_link(|link| link.events_below(0)).unwrap_or(0);
            entries.extend_from_slice(&fd.fd.to_le_bytes());
            entries.extend_from_slice(&events.to_le_bytes());
            entries.extend_from_slice(&[0; 2]);
        }
        if below::poll(cage, &mut entries, 0, None).is_err() {
            // The cage is gone, and so are its connections.
            continue;
        }
        for ((fd, socket), entry) in sockets.iter().zip(entries.chunks_exact(8)) {
            let is_ready = entry[6..8] != [0, 0];
            // Where the descriptor was closed meanwhile there may be another, next time.
            let _ = socket.with_link_at(*fd, |link| {
                if is_ready || link.handshake_left().is_some_and(|left| left.is_zero()) {
                    link.service(*fd);
                }
            });
            end_orphan(*fd, socket);
        }
    }
}

/// Closes the descriptor of a connection that the program has closed, once all is sent.
pub fn end_orphan(fd: CageFd, socket: &Arc<Socket>) {
    if socket.is_orphan.load(Ordering::Acquire)
        && socket.with_link(|link| link.is_finished()) != Some(false)
        && matches!(state().descriptors.get(fd), Some(Opened::Socket(other)) if Arc::ptr_eq(&other, socket))
    {
        state().descriptors.note(fd, None);
        fd.close();
    }
}
