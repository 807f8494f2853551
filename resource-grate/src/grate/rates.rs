//! Waiting for bytes, and paying for them.

use super::known::{self, Kind, Socket};
use super::state;
use grate_rs::constants::SYS_CLOCK_NANOSLEEP;
use grate_rs::kernel::{self, int, value};
use grate_rs::sockets::{address, peer_name};
use grate_rs::{CageFd, Errno, getcageid, own_buffer};
use resource_grate::bucket::{Answer, Bucket, Place, Taken};
use resource_grate::limits::Rate;
use std::net::SocketAddr;

/// Which way bytes go, seen from the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// Whom a socket speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Someone on this machine.
    Here,
    /// Someone on another.
    There,
    /// That is not known yet: both count.
    Unknown,
}

impl Peer {
    /// Who has that address.
    pub fn at(address: SocketAddr) -> Self {
        if known::is_loopback(address) {
            Self::Here
        } else {
            Self::There
        }
    }

    /// Whom a connected socket speaks with.
    pub fn of(fd: CageFd, socket: Socket) -> Self {
        if socket.is_unix {
            return Self::Here;
        }
        let peer = peer_name(fd).ok();
        peer.and_then(|peer| address(&peer))
            .map_or(Self::Unknown, Self::at)
    }
}

/// What a call is charged to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account([Option<&'static Bucket>; 2]);

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Option<&Bucket>, &Option<&Bucket>)| match (a, b) {
            (Some(a), Some(b)) => std::ptr::eq(*a, *b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.0.iter().zip(&other.0).all(same)
    }
}

/// What was taken from an account.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    account: Account,
    taken: [Option<Taken>; 2],
    /// How many bytes may move.
    pub bytes: u64,
}

impl Account {
    /// That of one rate.
    pub fn of(rate: Rate) -> Self {
        Self([state().bucket(rate), None])
    }

    /// That of two, both of which pay.
    pub fn both(one: Self, other: Self) -> Self {
        Self([one.0[0], other.0[0]])
    }

    /// That of what goes through a descriptor which is no socket.
    pub fn of_file(kind: Kind, way: Way) -> Self {
        Self::of(match (way, kind) {
            (Way::In, _) => Rate::FileRead,
            (Way::Out, Kind::Standard) => Rate::LogRate,
            (Way::Out, _) => Rate::FileWrite,
        })
    }

    /// That of what goes to a peer or comes from one.
    pub fn of_peer(peer: Peer, way: Way) -> Self {
        let (net, here) = match way {
            Way::In => (Rate::NetRecv, Rate::LoopRecv),
            Way::Out => (Rate::NetSend, Rate::LoopSend),
        };
        match peer {
            Peer::Here => Self::of(here),
            Peer::There => Self::of(net),
            Peer::Unknown => Self::both(Self::of(net), Self::of(here)),
        }
    }

    /// That of a descriptor whose bytes are no messages.
    pub fn of_bytes(fd: CageFd, kind: Kind, way: Way) -> Self {
        match kind {
            Kind::Socket(_) if !state().limits_sockets() => Self::default(),
            Kind::Socket(socket) => Self::of_peer(Peer::of(fd, socket), way),
            kind => Self::of_file(kind, way),
        }
    }

    /// Whether nothing is limited.
    pub fn is_free(&self) -> bool {
        self.0.iter().flatten().next().is_none()
    }

    /// The most that can be had at once.
    pub fn rate(&self) -> u64 {
        let rates = self.0.iter().flatten().map(|bucket| bucket.rate());
        rates.min().unwrap_or(u64::MAX)
    }

    /// The least that is worth a call of its own.
    pub fn piece(&self) -> u64 {
        let pieces = self.0.iter().flatten().map(|bucket| bucket.piece());
        pieces.min().unwrap_or(u64::MAX)
    }

    /// Pays for bytes that were moved already.
    pub fn pay(self, bytes: u64) {
        let now = state().now();
        let buckets = self.0.iter().flatten();
        buckets.for_each(|bucket| bucket.pay(now, bytes));
    }

    /// Waits for `least` bytes, and takes up to `most` that are there.
    ///
    /// # Errors
    /// `EINTR` where a signal ends the wait; the caller's end does so too.
    pub fn wait(self, least: u64, most: u64) -> Result<Grant, Errno> {
        let mut grant = Grant {
            account: self,
            taken: [None; 2],
            bytes: most,
        };
        let (mut least, mut most) = (least, most);
        for (bucket, taken) in self.0.iter().zip(0..) {
            let Some(bucket) = bucket else { continue };
            match wait_at(bucket, least, most) {
                Ok(got) => {
                    grant.taken[taken] = Some(got);
                    grant.bytes = got.bytes;
                    // As many from the other.
                    (least, most) = (got.bytes, got.bytes);
                }
                Err(errno) => {
                    grant.settle(0);
                    return Err(errno);
                }
            }
        }
        Ok(grant)
    }
}

impl Grant {
    /// Says how many bytes have moved.
    pub fn settle(self, used: u64) {
        let now = state().now();
        let all = self.account.0.iter().zip(self.taken);
        for (bucket, taken) in all.filter_map(|(bucket, taken)| Some(((*bucket)?, taken?))) {
            bucket.settle(now, taken, used);
        }
    }

    /// As [`Grant::settle`], where only this account pays in the end.
    pub fn settle_for(self, payer: Account, used: u64) {
        let now = state().now();
        let all = self.account.0.iter().zip(self.taken);
        for (bucket, taken) in all.filter_map(|(bucket, taken)| Some(((*bucket)?, taken?))) {
            let pays = payer.0.iter().flatten().any(|p| std::ptr::eq(*p, bucket));
            bucket.settle(now, taken, if pays { used } else { 0 });
        }
    }

    /// Does what the bytes were taken for, and pays for those that it moves.
    ///
    /// # Errors
    /// As the act.
    pub fn spend(self, act: impl FnOnce(u64) -> Result<i32, Errno>) -> Result<i32, Errno> {
        let result = act(self.bytes);
        self.settle(result.map_or(0, |moved| u64::try_from(moved).unwrap_or(0)));
        result
    }
}

fn wait_at(bucket: &Bucket, least: u64, most: u64) -> Result<Taken, Errno> {
    let mut place = Place::default();
    loop {
        match bucket.take(state().now(), &mut place, least, most) {
            Answer::Taken(taken) => return Ok(taken),
            Answer::Wait(time) => {
                if let Err(errno) = sleep(time) {
                    bucket.leave(&mut place);
                    return Err(errno);
                }
            }
        }
    }
}

/// Sleeps in the kernel, where a signal ends it.
fn sleep(nanoseconds: u64) -> Result<(), Errno> {
    const CLOCK_MONOTONIC: i32 = 1;
    const SECOND: u64 = 1_000_000_000;
    // Who stood before in line may leave it: that is found out by looking.
    const LONGEST: u64 = SECOND / 2;
    let own = getcageid();
    let time = nanoseconds.min(LONGEST);
    let time = [time / SECOND, time % SECOND];
    let args = [
        int(own, CLOCK_MONOTONIC),
        int(own, 0),
        own_buffer(time.as_ptr()),
        value(own, 0),
    ];
    kernel::call(SYS_CLOCK_NANOSLEEP, own, &args).map(drop)
}
