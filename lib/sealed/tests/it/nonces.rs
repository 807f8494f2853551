//! Whatever is done to a file, no two things are ever sealed with one nonce; not even where the randomness is
//! always the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use rand_core::{TryCryptoRng, TryRng};
use sealed::aead::{Aead, Run, Software};
use sealed::{Cipher, Error, FileCipher, FileKey, MasterKey, NONCE_LEN, Volume};

use crate::support::{Memory, TestRng, sealed_error, small_chunks};

/// An AEAD that knows the nonces it was given.
struct Watching {
    aead: Software,
    seen: Rc<RefCell<BTreeSet<[u8; NONCE_LEN]>>>,
}

impl Aead for Watching {
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        for chunk in sealed.chunks(run.layout().sealed_chunk_len()) {
            let nonce = *chunk.first_chunk().unwrap();
            assert!(self.seen.borrow_mut().insert(nonce), "a nonce of before");
        }
        self.aead.seal(run, plaintext, sealed)
    }

    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        self.aead.open(run, sealed, plaintext)
    }
}

/// Randomness that always is the same.
struct Stuck;

impl TryRng for Stuck {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        dst.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Stuck {}

/// Writes, appends, cuts, extends, punches and makes checkpoints at random, around the edges of chunks most of all.
fn live(seed: u64, rng: &mut impl TryCryptoRng) -> usize {
    let mut dice = TestRng(seed);
    let mut roll = |sides: u64| dice.try_next_u64().unwrap() % sides;
    let master = MasterKey::from_bytes([7; 32]);
    let cipher = Cipher::ALL[(seed % 2) as usize];
    let key = FileKey::new(&master, small_chunks(cipher), [seed as u8; 32]);
    let seen = Rc::default();
    let open = |seen: &Rc<_>| {
        let aead = Watching {
            aead: Software::new(&key),
            seen: Rc::clone(seen),
        };
        FileCipher::with_aead(&key, aead)
    };
    let disk = Memory::default();
    let mut volume = Volume::create(open(&seen), rng).unwrap();
    volume.write(&disk, rng, 0, b"begun").unwrap();
    for _ in 0..60 {
        let size = volume.size();
        let place = match roll(3) {
            0 => size,
            1 => roll(8) * 512,
            _ => roll(size + 700),
        };
        let len = match roll(4) {
            0 => 512 * (1 + roll(6)),
            1 => 1 + roll(4000),
            2 => 40_000,
            _ => 1 + roll(200),
        };
        let data = vec![seed as u8; len as usize];
        let done = match roll(10) {
            0 => volume.checkpoint(&disk, rng),
            1 => volume.set_len(&disk, rng, place.max(1)),
            2 => volume.punch(&disk, rng, place..place + len),
            3 => {
                let opened = Volume::open(&disk, |_| Ok(open(&seen)));
                volume = opened.unwrap().volume.unwrap();
                Ok(())
            }
            _ => volume.write(&disk, rng, place, &data),
        };
        done.map_err(sealed_error).unwrap();
    }
    seen.borrow().len()
}

#[test]
fn none_is_ever_used_twice() {
    for seed in 0..60 {
        assert!(live(seed, &mut TestRng(seed)) > 60);
        assert!(live(seed, &mut Stuck) > 60);
    }
}
