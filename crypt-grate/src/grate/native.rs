//! The runtime's native AEAD, where there is one: several times the speed of the same cipher in
//! WebAssembly. Lind has none; there the grate's own software does the work.

use super::kernel::{self, value};
use crypt_grate::sealed_file::{AnyAead, software};
use crypt_grate::storage::{Lease, Place, Target};
use grate_rs::constants::error;
use grate_rs::{Arg, CageFd, Errno, GuestPtr, getcageid, own_buffer};
use sealed::aead::{Aead, Run};
use sealed::wire::aead::{
    AeadError, MessageAead, MessageCipher, MessageKey, Run as MessageRun, Software,
};
use sealed::{Chunks, Cipher, Error, FileKey, FileSecrets, KEY_LEN, Tag, Unsealed};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

const SEAL: u64 = 1101;
const OPEN: u64 = 1102;
const FILE_KEYS: u64 = 1109;
const OPEN_CHUNKS: u64 = 1111;
const SEAL_CHUNKS: u64 = 1112;
const REQUEST_LEN: usize = 48;
const CHUNKS_REQUEST_LEN: usize = 96;
const LEASE_AT: usize = 4;
const OFFSET_AT: usize = 48;
const DRAWN_AT: usize = 56;
const NONCE_KEY_AT: usize = 64;
const START_AT: usize = 2;
const KEY_AT: usize = 16;

/// The AEAD of a file: the runtime's if it has one.
pub fn aead(key: &FileKey) -> AnyAead {
    static SERVED: OnceLock<bool> = OnceLock::new();
    if *SERVED.get_or_init(|| is_served(SEAL)) {
        Box::new(Native {
            cipher: key.header().params().cipher,
            chunk_size_log2: key.header().params().chunk_size.log2(),
            key: Zeroizing::new(*key.content_key()),
        })
    } else {
        software(key)
    }
}

/// The secrets of a file: made by the runtime, if it does that.
pub fn derive(
    master: &[u8; sealed::KEY_LEN],
    fields: &[u8; sealed::HEADER_FIELDS_LEN],
) -> FileSecrets {
    static SERVED: OnceLock<bool> = OnceLock::new();
    if !*SERVED.get_or_init(|| is_served(FILE_KEYS)) {
        return sealed::derive(master, fields);
    }
    let mut request = Zeroizing::new([0; sealed::KEY_LEN + sealed::HEADER_FIELDS_LEN]);
    request[..sealed::KEY_LEN].copy_from_slice(master);
    request[sealed::KEY_LEN..].copy_from_slice(fields);
    let mut secrets = Zeroizing::new([0; FileSecrets::LEN]);
    let args = [
        own_buffer(request.as_ptr()),
        own_buffer(secrets.as_mut_ptr()),
    ];
    match kernel::call(FILE_KEYS, getcageid(), &args) {
        Ok(_) => FileSecrets::from_bytes(secrets),
        Err(_) => sealed::derive(master, fields),
    }
}

/// Asks about nothing that there is, which is refused in another way where there is no such call. Lind may be asked
/// nothing that it does not serve; a base of 0 tells that this is not Lind.
fn is_served(nr: u64) -> bool {
    const ENOSYS: i32 = 38;
    let none = value(getcageid(), u64::MAX);
    cage_libc::sys::base() == 0
        && kernel::call(nr, getcageid(), &[none; 5]).is_err_and(|errno| errno.0 != ENOSYS)
}

struct Native {
    cipher: Cipher,
    chunk_size_log2: u8,
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl Native {
    fn call(&self, nr: u64, run: Run, plaintext: Bytes, sealed: Bytes) -> Result<(), Error> {
        let mut request = Zeroizing::new([0; REQUEST_LEN]);
        request[0] = self.cipher.id();
        request[1] = self.chunk_size_log2;
        request[START_AT..START_AT + 2].copy_from_slice(&run.start().to_le_bytes());
        request[8..KEY_AT].copy_from_slice(&run.first().to_le_bytes());
        request[KEY_AT..].copy_from_slice(self.key.as_slice());
        let own = getcageid();
        let args = [
            own_buffer(request.as_ptr()),
            plaintext.at,
            value(own, plaintext.len),
            sealed.at,
            value(own, sealed.len),
        ];
        kernel::call(nr, own, &args)
            .map(drop)
            .map_err(|_| Error::ChunkCorrupt { index: run.first() })
    }
}

/// A slice as the runtime takes it.
struct Bytes {
    at: Arg,
    len: u64,
}

impl Bytes {
    fn of(bytes: *const [u8]) -> Self {
        Self {
            at: own_buffer(bytes),
            len: bytes.len() as u64,
        }
    }

    fn in_cage(at: GuestPtr, len: usize) -> Self {
        Self {
            at: Arg {
                value: at.addr,
                cage: at.cage,
            },
            len: len as u64,
        }
    }
}

impl Aead for Native {
    fn seal(&self, run: Run, plaintext: &[u8], sealed: &mut [u8]) -> Result<(), Error> {
        self.call(SEAL, run, Bytes::of(plaintext), Bytes::of(&raw mut *sealed))
    }

    fn open(&self, run: Run, sealed: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        self.call(OPEN, run, Bytes::of(&raw mut *plaintext), Bytes::of(sealed))
    }

    fn content_key(&self) -> Option<&[u8; KEY_LEN]> {
        Some(&self.key)
    }
}

/// What the calls on chunks where they lie take to know which they are.
fn chunks_request(
    cipher: Cipher,
    key: &[u8; KEY_LEN],
    run: Run,
    offset: u64,
) -> Zeroizing<[u8; CHUNKS_REQUEST_LEN]> {
    let mut request = Zeroizing::new([0; CHUNKS_REQUEST_LEN]);
    request[0] = cipher.id();
    request[1] = run.layout().chunk_size().ilog2() as u8;
    request[8..KEY_AT].copy_from_slice(&run.first().to_le_bytes());
    request[KEY_AT..OFFSET_AT].copy_from_slice(key);
    request[OFFSET_AT..DRAWN_AT].copy_from_slice(&offset.to_le_bytes());
    request
}

/// A call of the runtime's own that goes past all grates below, for a grate that has none which serves the same otherwise: it is
/// not asked again where that is not so. Neither does it work on a descriptor of the grate's own.
struct Direct {
    nr: u64,
    is_served: AtomicBool,
}

impl Direct {
    const fn new(nr: u64) -> Self {
        Self {
            nr,
            is_served: AtomicBool::new(true),
        }
    }

    /// Request, descriptor, tags, plaintext and its length.
    fn call(
        &self,
        request: &[u8],
        fd: CageFd,
        tags: Arg,
        plaintext: Arg,
        len: usize,
    ) -> Option<i32> {
        if fd.cage == getcageid() || !self.is_served.load(Ordering::Relaxed) {
            return None;
        }
        let request = own_buffer(request.as_ptr());
        let len = value(fd.cage, len as u64);
        match kernel::call(self.nr, fd.cage, &[request, fd.arg(), tags, plaintext, len]) {
            Ok(answer) => Some(answer),
            Err(Errno(error::ENOSYS)) => {
                self.is_served.store(false, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }
}

/// Reads and opens chunks of a file, as [`Storage::open`](crypt_grate::storage::Storage::open) has it.
pub fn open_chunks(
    fd: CageFd,
    chunks: &Chunks<'_>,
    to: Target<'_>,
    lease: Option<Lease>,
) -> Option<bool> {
    static OPEN: Direct = Direct::new(OPEN_CHUNKS);
    let mut request = chunks_request(chunks.cipher, chunks.key, chunks.run, chunks.offset);
    let lease = lease.map_or(0, |lease| lease.0);
    request[LEASE_AT..8].copy_from_slice(&lease.to_le_bytes());
    let plaintext = match to {
        Target::Buffer(out) if out.len() != chunks.len => return None,
        Target::Buffer(out) => own_buffer(&raw mut *out),
        Target::Program(place) => in_program(place),
    };
    let tags = own_buffer(chunks.tags.as_ptr());
    let lasts = OPEN.call(request.as_slice(), fd, tags, plaintext, chunks.len)?;
    Some(lasts == 1)
}

/// Seals chunks and writes them, as [`Storage::seal`](crypt_grate::storage::Storage::seal) has it.
pub fn seal_chunks(fd: CageFd, chunks: &Unsealed<'_>, from: Place, tags: &mut [Tag]) -> bool {
    static SEAL: Direct = Direct::new(SEAL_CHUNKS);
    if tags.len() * chunks.run.layout().chunk_size() != chunks.len {
        return false;
    }
    let mut request = chunks_request(chunks.cipher, chunks.key, chunks.run, chunks.offset);
    request[DRAWN_AT..NONCE_KEY_AT].copy_from_slice(&chunks.nonces.drawn().to_le_bytes());
    request[NONCE_KEY_AT..].copy_from_slice(chunks.nonces.key());
    let tags = own_buffer(tags.as_mut_ptr());
    SEAL.call(request.as_slice(), fd, tags, in_program(from), chunks.len)
        .is_some()
}

fn in_program(place: Place) -> Arg {
    Arg {
        value: place.addr,
        cage: place.cage,
    }
}

/// The AEAD of sealed connections: the runtime's, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireAead;

impl WireAead {
    const SEAL: u64 = 1103;
    const OPEN: u64 = 1104;

    /// Whether the runtime does the work, and can do it where a cage has its bytes.
    pub fn is_native() -> bool {
        static SERVED: OnceLock<bool> = OnceLock::new();
        *SERVED.get_or_init(|| is_served(Self::SEAL))
    }

    /// Seals what lies in a cage, of which the runtime takes a copy first. `sealed` is as
    /// [`MessageAead::seal`] has it.
    pub fn seal_from(
        key: &MessageKey,
        run: MessageRun,
        (at, len): (GuestPtr, usize),
        sealed: &mut [u8],
    ) -> Result<(), AeadError> {
        let sealed = Bytes::of(&raw mut *sealed);
        Self::call(Self::SEAL, key, run, Bytes::in_cage(at, len), sealed)
    }

    /// Opens to where a cage has room. Nothing of a message that is not authentic comes there.
    pub fn open_to(
        key: &MessageKey,
        run: MessageRun,
        sealed: &[u8],
        (at, len): (GuestPtr, usize),
    ) -> Result<(), AeadError> {
        let sealed = Bytes::of(sealed);
        Self::call(Self::OPEN, key, run, Bytes::in_cage(at, len), sealed)
    }

    fn call(
        nr: u64,
        key: &MessageKey,
        run: MessageRun,
        plaintext: Bytes,
        sealed: Bytes,
    ) -> Result<(), AeadError> {
        let mut request = Zeroizing::new([0; REQUEST_LEN]);
        request[0] = run.header_len() as u8;
        request[1] = key.cipher().id();
        request[4..8].copy_from_slice(&(run.piece_len() as u32).to_le_bytes());
        request[8..KEY_AT].copy_from_slice(&run.first().to_le_bytes());
        request[KEY_AT..].copy_from_slice(key.expose_secret());
        let own = getcageid();
        let args = [
            own_buffer(request.as_ptr()),
            plaintext.at,
            value(own, plaintext.len),
            sealed.at,
            value(own, sealed.len),
        ];
        kernel::call(nr, own, &args)
            .map(drop)
            .map_err(|_| AeadError)
    }

    /// Whether the runtime makes of AES-256-GCM what it is: one that has no instructions for it refuses, and
    /// one from before there was a choice takes it for the other cipher.
    fn has_aes() -> bool {
        let key = MessageKey::new(MessageCipher::Aes256Gcm, Zeroizing::default());
        let run = MessageRun::new(0, 0, 1);
        let (mut made, mut expected) = ([0; sealed::TAG_LEN], [0; sealed::TAG_LEN]);
        WireAead.seal(&key, run, &[], &mut made).is_ok()
            && Software.seal(&key, run, &[], &mut expected).is_ok()
            && made == expected
    }
}

impl MessageAead for WireAead {
    fn offers_aes(&self) -> bool {
        static OFFERED: OnceLock<bool> = OnceLock::new();
        *OFFERED.get_or_init(|| Self::is_native() && Self::has_aes())
    }

    fn seal(
        &self,
        key: &MessageKey,
        run: MessageRun,
        plaintext: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), AeadError> {
        if !Self::is_native() {
            return Software.seal(key, run, plaintext, sealed);
        }
        let sealed = Bytes::of(&raw mut *sealed);
        Self::call(Self::SEAL, key, run, Bytes::of(plaintext), sealed)
    }

    fn open(
        &self,
        key: &MessageKey,
        run: MessageRun,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), AeadError> {
        if !Self::is_native() {
            return Software.open(key, run, sealed, plaintext);
        }
        let plaintext = Bytes::of(&raw mut *plaintext);
        Self::call(Self::OPEN, key, run, plaintext, Bytes::of(sealed))
    }
}
