//! Chunks of a sealed file from the disk to where they are wanted, and from where they are to the disk, in one
//! call: what lies between is a buffer of the host that stays in the processor's cache, and long runs are worked
//! on by all processors, the kernel's part too.
//!
//! Nothing is judged that anybody can change, and nothing comes to a cage before it is found authentic: chunks are opened in that buffer, and
//! plaintext is sealed as it was copied into it. Lind has no such calls, and neither has a grate that
//! stands inside one that serves reads or writes, which these would go past.

use super::aead::Place;
use super::fast::Fast;
use super::helpers::{Pieces, on_all};
use super::{Call, Entry, lease};
use calls::{PREAD, PWRITE};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use sealed::aead::Run;
use sealed::{
    ChunkSize, Cipher, FAN_OUT, KEY_LEN, Layout, NONCE_LEN, Nonces, OVERHEAD, TAG_LEN, Tag,
};
use std::sync::Arc;
use zeroize::Zeroizing;

pub(super) const CALLS: &[Entry] = &[Entry::new(1111, open), Entry::new(1112, seal)];

/// What the first argument points to: cipher u8, log2 of the chunk size u8, two bytes unused, lease u32, index of
/// the first chunk u64, key 32 bytes, where on the disk it begins u64, nonces drawn before u64, key of the nonces 32 bytes.
const REQUEST_LEN: usize = 96;

/// Bytes of plaintext that a thread reads, or writes, at a time, before others are asked to help: they stay in the second
/// cache. In half as long pieces the kernel takes a tenth longer for a read, and a quarter for a write, for which it
/// makes pages.
const READ_AT_A_TIME: usize = 64 << 10;
const WRITTEN_AT_A_TIME: usize = 128 << 10;

/// Where the bytes are and what is to be done with them.
struct Job {
    aead: Fast,
    layout: Layout,
    first: u64,
    file: Arc<OwnedFd>,
    offset: u64,
    plaintext: Place,
    /// Chunks of a piece.
    share: u64,
}

/// Some chunks of a job.
struct Part {
    /// How many are before them, and how many they are.
    before: u64,
    count: usize,
    /// Bytes of plaintext.
    len: usize,
}

fn request(call: &Call<'_>) -> Result<Zeroizing<[u8; REQUEST_LEN]>, Errno> {
    call.get(0).map(Zeroizing::new)
}

fn word(request: &[u8; REQUEST_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&request[at..at + 8]);
    u64::from_le_bytes(word)
}

fn key(request: &[u8; REQUEST_LEN], at: usize) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key.copy_from_slice(&request[at..at + KEY_LEN]);
    key
}

impl Job {
    /// Request, descriptor, tags, plaintext and its length.
    fn of(
        call: &Call<'_>,
        request: &[u8; REQUEST_LEN],
        nr: u32,
        at_a_time: usize,
    ) -> Result<Self, Errno> {
        if Arc::ptr_eq(call.caller, call.target) {
            return Err(Errno::PERM);
        }
        if !call.caller.handlers.leads_to_kernel(nr) {
            return Err(Errno::NOSYS);
        }
        let cipher = Cipher::from_id(request[0]).ok_or(Errno::INVAL)?;
        let layout = Layout::new(ChunkSize::from_log2(request[1]).ok_or(Errno::INVAL)?);
        let plaintext = Place::of(call, 3)?;
        if !(1..=FAN_OUT).contains(&layout.chunks(plaintext.len)) {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            aead: Fast::new(cipher, &key(request, 16)).ok_or(Errno::INVAL)?,
            share: (at_a_time / layout.chunk_size()).max(1) as u64,
            layout,
            first: word(request, 8),
            file: call.target_file(1)?,
            offset: word(request, 48),
            plaintext,
        })
    }

    fn chunks(&self) -> u64 {
        self.layout.chunks(self.plaintext.len)
    }

    fn buffer_len(&self) -> usize {
        self.share.min(self.chunks()) as usize * self.layout.sealed_chunk_len()
    }

    fn part(&self, piece: u64) -> Part {
        let before = piece * self.share;
        let count = self.share.min(self.chunks() - before);
        let end = (before + count) * self.layout.chunk_size() as u64;
        let start = before * self.layout.chunk_size() as u64;
        Part {
            before,
            count: count as usize,
            len: (end.min(self.plaintext.len) - start) as usize,
        }
    }

    /// Its chunks' names and lengths.
    fn run(&self, part: &Part) -> impl Iterator<Item = sealed::aead::Piece> + use<> {
        Run::new(self.layout, self.first.wrapping_add(part.before)).pieces(part.len)
    }

    /// Where on the disk it begins, and where its plaintext does.
    fn places(&self, part: &Part) -> Result<(u64, u64), Errno> {
        let on_disk =
            (self.offset).checked_add(part.before * self.layout.sealed_chunk_len() as u64);
        let plaintext = (self.plaintext).element(part.before, self.layout.chunk_size())?;
        Ok((on_disk.ok_or(Errno::INVAL)?, plaintext))
    }
}

/// Chunks to open, with the tags that they must have.
struct Open(Job, Vec<Tag>);

impl Pieces for Open {
    fn count(&self) -> u64 {
        self.0.chunks().div_ceil(self.0.share)
    }

    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    fn work(&self, piece: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let Self(job, tags) = self;
        let part = job.part(piece);
        let (on_disk, plaintext) = job.places(&part)?;
        let stored = job.layout.sealed_chunk_len();
        let bytes = &mut buffer[..part.len + part.count * OVERHEAD];
        read_exact(&job.file, bytes, on_disk)?;
        let tags = &tags[part.before as usize..][..part.count];
        for ((piece, tag), chunk) in job.run(&part).zip(tags).zip(bytes.chunks_mut(stored)) {
            if !chunk.ends_with(tag) {
                return Err(Errno::BADMSG);
            }
            job.aead.open(piece, chunk).map_err(|_| Errno::BADMSG)?;
        }
        let opened = bytes.chunks(stored);
        let opened = opened.map(|chunk| &chunk[NONCE_LEN..chunk.len() - TAG_LEN]);
        let to = &job.plaintext.image.memory;
        to.write_parts(plaintext, part.len, opened)
    }
}

/// Chunks to seal, whose tags go there.
struct Seal {
    job: Job,
    tags: Place,
    nonce_key: Zeroizing<[u8; KEY_LEN]>,
    drawn: u64,
}

impl Pieces for Seal {
    fn count(&self) -> u64 {
        self.job.chunks().div_ceil(self.job.share)
    }

    fn buffer_len(&self) -> usize {
        self.job.buffer_len()
    }

    fn work(&self, piece: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let job = &self.job;
        let part = job.part(piece);
        let (on_disk, plaintext) = job.places(&part)?;
        let stored = job.layout.sealed_chunk_len();
        let bytes = &mut buffer[..part.count * stored];
        let room = bytes.chunks_mut(stored);
        let room = room.map(|chunk| &mut chunk[NONCE_LEN..stored - TAG_LEN]);
        let from = &job.plaintext.image.memory;
        from.read_parts(plaintext, part.len, room)?;
        let drawn = self.drawn.wrapping_add(part.before);
        let mut nonces = Nonces::after(self.nonce_key.clone(), drawn);
        for (piece, chunk) in job.run(&part).zip(bytes.chunks_mut(stored)) {
            chunk[..NONCE_LEN].copy_from_slice(&nonces.draw(piece.index));
            job.aead.seal(piece, chunk).map_err(|_| Errno::INVAL)?;
        }
        write_all(&job.file, bytes, on_disk)?;
        let tags = bytes.chunks(stored);
        let tags = tags.map(|chunk| &chunk[stored - TAG_LEN..]);
        let to = self.tags.element(part.before, TAG_LEN)?;
        (self.tags.image.memory).write_parts(to, part.count * TAG_LEN, tags)
    }
}

/// Fills `bytes`. `EIO` where the file ends before.
fn read_exact(file: &OwnedFd, mut bytes: &mut [u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pread(file, &mut *bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// open_chunks: request, descriptor of another cage's, tags, plaintext and its length. Reads and opens the chunks; answers 1 if the
/// request's lease lasts when all is done, else 0. `EBADMSG` for a chunk that is not authentic, or has another
/// tag: nothing of it is written.
fn open(call: &Call<'_>) -> Result<i32, Errno> {
    let request = request(call)?;
    let job = Job::of(call, &request, PREAD, READ_AT_A_TIME)?;
    let mut tags = vec![Tag::default(); job.chunks() as usize];
    let from = call.image_of(2)?;
    from.memory.read(call.raw(2), tags.as_flattened_mut())?;
    on_all(Open(job, tags))?;
    Ok(i32::from(lease::lasts(word(&request, 0) >> 32)))
}

/// seal_chunks: the same. Seals full chunks and writes them, and tells their tags.
fn seal(call: &Call<'_>) -> Result<i32, Errno> {
    let request = request(call)?;
    let job = Job::of(call, &request, PWRITE, WRITTEN_AT_A_TIME)?;
    if !job
        .plaintext
        .len
        .is_multiple_of(job.layout.chunk_size() as u64)
    {
        return Err(Errno::INVAL);
    }
    let tags = Place {
        image: call.image_of(2)?.into_owned(),
        at: call.raw(2),
        len: job.chunks() * TAG_LEN as u64,
    };
    // Known before anything is written.
    (tags.image.memory).exact(tags.at, tags.len, crate::regions::Prot::WRITE)?;
    on_all(Seal {
        job,
        tags,
        nonce_key: key(&request, 64),
        drawn: word(&request, 56),
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fixture, UNMAPPED};
    use super::*;
    use crate::routes::Route;
    use sealed::aead::{Aead, Software};

    const REQUEST: u64 = 0x1000;
    const TAGS: u64 = 0x2000;
    const PLAINTEXT: u64 = 0x4000;
    /// Where in the file the chunks are.
    const OFFSET: u64 = 1234;

    /// A cage with an open file, and its grate.
    struct World {
        cage: Fixture,
        grate: Fixture,
        fd: u64,
    }

    impl World {
        fn new() -> Self {
            let cage = Fixture::new();
            let fd = cage.open("file", libc::O_RDWR | libc::O_CREAT);
            let grate = Fixture::new();
            Self { cage, grate, fd }
        }

        fn call(&self, nr: u32, args: &[u64]) -> Result<i32, Errno> {
            self.cage.call_by(&self.grate.cage, nr, args)
        }

        fn args(&self, len: usize) -> [u64; 5] {
            [REQUEST, self.fd, TAGS, PLAINTEXT, len as u64]
        }

        fn sealed(&self) -> Vec<u8> {
            std::fs::read(self.cage.path("file")).unwrap_or_default()
        }

        fn put_tags(&self, tags: &[Tag]) {
            self.cage.put(TAGS, tags.as_flattened());
        }
    }

    fn request(cipher: Cipher, chunk_size: ChunkSize) -> Vec<u8> {
        let mut request = vec![cipher.id(), chunk_size.log2(), 0, 0, 0, 0, 0, 0];
        request.extend_from_slice(&7u64.to_le_bytes());
        request.extend_from_slice(&[5; 32]);
        request.extend_from_slice(&OFFSET.to_le_bytes());
        request.extend_from_slice(&3u64.to_le_bytes());
        request.extend_from_slice(&[6; 32]);
        request
    }

    /// What the library makes of it.
    fn expected(cipher: Cipher, chunk_size: ChunkSize, plaintext: &[u8]) -> Vec<u8> {
        let layout = Layout::new(chunk_size);
        let mut sealed = vec![0; layout.sealed_len(plaintext.len()).unwrap()];
        let mut nonces = Nonces::after(Zeroizing::new([6; 32]), 3);
        for (index, chunk) in (7..).zip(sealed.chunks_mut(layout.sealed_chunk_len())) {
            chunk[..NONCE_LEN].copy_from_slice(&nonces.draw(index));
        }
        let software = Software::from_content_key(cipher, &[5; 32]);
        software
            .seal(Run::new(layout, 7), plaintext, &mut sealed)
            .unwrap();
        sealed
    }

    #[test]
    fn chunks_are_those_of_the_library() {
        for cipher in Cipher::ALL {
            for (log2, chunks) in [(9, 1), (9, 200), (12, 1), (12, 40), (16, 3)] {
                let size = ChunkSize::from_log2(log2).unwrap();
                let len = chunks << log2;
                let plaintext: Vec<u8> = (0..len).map(|at: usize| ((at * 31) >> 3) as u8).collect();
                let world = World::new();
                world.cage.put(REQUEST, &request(cipher, size));
                world.cage.put(PLAINTEXT, &plaintext);
                assert_eq!(world.call(1112, &world.args(len)), Ok(0));
                let expected = expected(cipher, size, &plaintext);
                assert!(world.sealed()[OFFSET as usize..] == expected);
                let layout = Layout::new(size);
                let tags: Vec<Tag> = sealed::tags_of(&layout, &expected).collect();
                assert!(world.cage.get(TAGS, chunks * TAG_LEN) == tags.as_flattened());

                // Back again, and a part of it, and what is damaged.
                let zeros = vec![0; len];
                world.cage.put(PLAINTEXT, &zeros);
                assert_eq!(world.call(1111, &world.args(len)), Ok(0));
                assert!(world.cage.get(PLAINTEXT, len) == plaintext);
                let some = len.min(size.bytes());
                world.cage.put(PLAINTEXT, &zeros);
                assert_eq!(world.call(1111, &world.args(some)), Ok(0));
                assert!(world.cage.get(PLAINTEXT, len)[..some] == plaintext[..some]);
                assert!(world.cage.get(PLAINTEXT, len)[some..] == zeros[some..]);
                for damage in [NONCE_LEN, expected.len() - 1] {
                    let mut file = world.sealed();
                    file[OFFSET as usize + damage] ^= 1;
                    std::fs::write(world.cage.path("file"), &file).unwrap();
                    world.cage.put(PLAINTEXT, &zeros);
                    assert_eq!(world.call(1111, &world.args(len)), Err(Errno::BADMSG));
                    let damaged = damage / layout.sealed_chunk_len() * size.bytes();
                    let got = world.cage.get(PLAINTEXT, len);
                    assert!(got[damaged..damaged + size.bytes()] == zeros[..size.bytes()]);
                    file[OFFSET as usize + damage] ^= 1;
                    std::fs::write(world.cage.path("file"), &file).unwrap();
                }
                // Authentic, and not what the file says is there.
                let mut others = tags.clone();
                others[chunks - 1][0] ^= 1;
                world.put_tags(&others);
                assert_eq!(world.call(1111, &world.args(len)), Err(Errno::BADMSG));
                world.put_tags(&tags);
                assert_eq!(world.call(1111, &world.args(len)), Ok(0));
            }
        }
    }

    #[test]
    fn a_short_chunk_is_the_last_one() {
        let size = ChunkSize::MIN;
        let plaintext = [9; 700];
        let world = World::new();
        world.cage.put(REQUEST, &request(Cipher::default(), size));
        let sealed = expected(Cipher::default(), size, &plaintext);
        let file = [&vec![0; OFFSET as usize][..], &sealed].concat();
        std::fs::write(world.cage.path("file"), file).unwrap();
        let tags: Vec<Tag> = sealed::tags_of(&Layout::new(size), &sealed).collect();
        world.put_tags(&tags);
        assert_eq!(world.call(1111, &world.args(700)), Ok(0));
        assert_eq!(world.cage.get(PLAINTEXT, 700), plaintext);
        // It is not sealed so, and no longer one is there.
        assert_eq!(world.call(1112, &world.args(700)), Err(Errno::INVAL));
        assert_eq!(world.call(1111, &world.args(701)), Err(Errno::IO));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let world = World::new();
        let good = request(Cipher::default(), ChunkSize::MIN);
        world.cage.put(REQUEST, &good);
        assert_eq!(world.call(1112, &world.args(512)), Ok(0));
        for nr in [1111, 1112] {
            for (at, wrong, expected) in [
                (0, UNMAPPED, Errno::FAULT),
                (1, 99, Errno::BADF),
                (2, UNMAPPED, Errno::FAULT),
                (3, UNMAPPED, Errno::FAULT),
                (4, 0, Errno::INVAL),
                (4, 257 * 512, Errno::INVAL),
                (4, u64::MAX, Errno::INVAL),
            ] {
                let mut args = world.args(512);
                args[at] = wrong;
                assert_eq!(world.call(nr, &args), Err(expected), "{nr}, {at}");
            }
            for (at, wrong) in [(0, 0), (0, 3), (1, 8), (1, 17)] {
                let mut bad = good.clone();
                bad[at] = wrong;
                world.cage.put(REQUEST, &bad);
                assert_eq!(world.call(nr, &world.args(512)), Err(Errno::INVAL));
            }
            // Where no file reaches.
            let mut bad = good.clone();
            bad[48..56].fill(0xff);
            world.cage.put(REQUEST, &bad);
            assert!(world.call(nr, &world.args(512)).is_err());
            world.cage.put(REQUEST, &good);
            // A descriptor of one's own.
            let own = world.cage.call(nr, &world.args(512));
            assert_eq!(own, Err(Errno::PERM));
        }
        assert_eq!(world.call(1111, &world.args(512)), Ok(0));
    }

    /// They would go past a grate that serves reads, or writes.
    #[test]
    fn there_are_none_above_a_grate() {
        let world = World::new();
        let good = request(Cipher::default(), ChunkSize::MIN);
        world.cage.put(REQUEST, &good);
        for (served, nr) in [(PWRITE, 1112), (PREAD, 1111)] {
            assert_eq!(world.call(nr, &world.args(512)), Ok(0));
            let route = Route {
                grate: world.cage.cage.id,
                service: world.cage.image.service().clone(),
                handler: 1,
                by: world.cage.cage.id,
                is_apart: false,
            };
            world.grate.cage.handlers.write().push(served, route);
            assert_eq!(world.call(nr, &world.args(512)), Err(Errno::NOSYS));
            world.grate.cage.handlers.clear();
        }
    }
}
