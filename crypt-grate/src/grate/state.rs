//! What the grate keeps: the key, open files by cage and descriptor, sealed files by inode.

use super::exclusion::ProgramLock;
use super::found;
use super::kernel::{self, Inode};
use super::keyring::{self, KeyFiles};
use super::native;
use super::net::epoll::Epoll;
use super::net::{Network, Socket};
use super::nonces::{HostRandom, Shared};
use super::options::{Options, Plaintext};
use super::policy::Subtrees;
use crypt_grate::sealed_file::{Error, Keys, SealedFile, Sealing, Windows};
use grate_rs::constants::{error, fs};
use grate_rs::{CageFd, Descriptors, Errno, Held};
use keys::KeyRing;
use sealed::Params;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

/// Everything that handlers share.
pub struct State {
    keys: KeyRing,
    /// The inodes of the key files.
    key_inodes: Vec<Inode>,
    /// Those of all that the names of the key files lead through.
    key_trail: Vec<Inode>,
    /// What new files are made with.
    pub params: Params,
    /// What is sealed.
    pub subtrees: Subtrees,
    /// What files without a header get.
    pub plaintext: Plaintext,
    verbose: bool,
    random: Mutex<HostRandom>,
    /// What is sealed of the network.
    pub network: Network,
    /// The program that the grate was started for.
    pub program: OnceLock<u64>,
    /// Whether any socket was ever sealed.
    has_sockets: AtomicBool,
    /// What is known of descriptors. What is not known is found out, see [`State::hold`].
    pub descriptors: Descriptors<Opened>,
    files: Mutex<HashMap<Inode, Weak<Mutex<SealedFile>>>>,
    /// The files that were opened last, also when they are closed again: who comes back finds them as they
    /// were left, and has no more to look at than whether they changed.
    recent: Mutex<VecDeque<Arc<Mutex<SealedFile>>>>,
    /// Those that were only looked at last, for their sizes.
    glanced: Mutex<VecDeque<Arc<Mutex<SealedFile>>>>,
}

/// Files that are remembered when nobody has them open.
const RECENT: usize = 8;

/// Files that are remembered though nobody had them open: little of each.
const GLANCED: usize = 64;

/// What a descriptor refers to.
#[derive(Clone, Debug)]
pub enum Opened {
    /// A sealed file.
    File(Arc<OpenFile>),
    /// A socket whose bytes are sealed.
    Socket(Arc<Socket>),
    /// An epoll instance, which may wait for such sockets.
    Epoll(Arc<Epoll>),
    /// None of the grate's business: calls on it pass.
    Plain {
        /// Whether the grate has opened it with O_NOFOLLOW, and the program has not.
        hides_nofollow: bool,
    },
    /// Nothing is read or written through it.
    Closed,
}

/// An open file description on a sealed file.
#[derive(Debug)]
pub struct OpenFile {
    /// State of the inode.
    pub file: Arc<Mutex<SealedFile>>,
    /// What is at hand of it. Locked before the file.
    pub windows: Mutex<Windows>,
    /// Access mode, O_APPEND and O_NOFOLLOW as the program set them; what lies below differs.
    flags: AtomicI32,
    /// The file offset, in plaintext.
    pub offset: Mutex<u64>,
    /// Its lock by flock(2), where the grate keeps that.
    pub program_lock: ProgramLock,
}

impl Opened {
    /// What passes and was opened as the program wanted it.
    pub const PLAIN: Self = Self::Plain {
        hides_nofollow: false,
    };
}

impl OpenFile {
    /// A description at offset 0.
    pub fn new(file: Arc<Mutex<SealedFile>>, flags: i32) -> Self {
        Self {
            file,
            windows: Mutex::default(),
            flags: AtomicI32::new(flags & Self::FLAGS),
            offset: Mutex::new(0),
            program_lock: ProgramLock::default(),
        }
    }

    /// What [`OpenFile::flags`] answers, of all flags.
    pub const FLAGS: i32 = fs::O_ACCMODE | fs::O_APPEND | fs::O_NOFOLLOW;

    /// Access mode, O_APPEND and O_NOFOLLOW.
    pub fn flags(&self) -> i32 {
        self.flags.load(Ordering::Acquire)
    }

    /// Sets or clears O_APPEND.
    pub fn set_append(&self, flags: i32) {
        let others = self.flags() & !fs::O_APPEND;
        self.flags
            .store(others | (flags & fs::O_APPEND), Ordering::Release);
    }

    /// Whether reads are allowed.
    pub fn readable(&self) -> bool {
        self.flags() & fs::O_ACCMODE != fs::O_WRONLY
    }

    /// The file below, reached through a descriptor of this description.
    pub fn storage(&self, fd: CageFd) -> kernel::File {
        if self.writable() {
            kernel::File::to_write(fd)
        } else {
            kernel::File::to_read(fd)
        }
    }

    /// Whether writes are allowed.
    pub fn writable(&self) -> bool {
        self.flags() & fs::O_ACCMODE != fs::O_RDONLY
    }
}

/// A lock whose holder can't have failed half-way: a panic ends the grate.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl State {
    /// Reads the key and prepares.
    ///
    /// # Errors
    /// A line that names the file and says what to do.
    pub fn new(options: &Options) -> Result<Self, String> {
        let KeyFiles {
            ring: keys,
            inodes: key_inodes,
            trail: key_trail,
        } = keyring::read(&options.key, options.passphrase_fd)?;
        Ok(Self {
            network: Network::new(options, &keys),
            program: OnceLock::new(),
            has_sockets: AtomicBool::new(false),
            keys,
            key_inodes,
            key_trail,
            params: options.params(),
            subtrees: Subtrees::new(&options.encrypt)?,
            plaintext: options.plaintext,
            verbose: options.verbose,
            random: Mutex::new(HostRandom::new()),
            descriptors: Descriptors::default(),
            files: Mutex::default(),
            recent: Mutex::default(),
            glanced: Mutex::default(),
        })
    }

    /// The key, with the AEAD to use.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            master: self.keys.sealing(),
            others: self.keys.others(),
            aead: native::aead,
            derive: native::derive,
        }
    }

    /// Whether this is a key file, which programs must not touch.
    fn is_key(&self, inode: Inode) -> bool {
        self.key_inodes.contains(&inode)
    }

    /// Keeps programs off the key file.
    ///
    /// # Errors
    /// EACCES for its inode.
    pub fn check_key(&self, inode: Inode) -> Result<(), Errno> {
        if !self.is_key(inode) {
            return Ok(());
        }
        self.explain(format_args!("the key file is closed to the program"));
        Err(Errno(error::EACCES))
    }

    /// As [`State::check_key`], for calls that give a name another meaning: nothing that leads to
    /// the key may be moved either.
    ///
    /// # Errors
    /// EACCES.
    pub fn check_trail(&self, inode: Inode) -> Result<(), Errno> {
        self.check_key(inode)?;
        if !self.key_trail.contains(&inode) {
            return Ok(());
        }
        self.explain(format_args!("what leads to the key file stays where it is"));
        Err(Errno(error::EACCES))
    }

    /// The randomness that all cages share.
    pub fn random(&self) -> Shared<'_> {
        Shared(&self.random)
    }

    /// Whether any socket was ever sealed.
    pub fn has_sockets(&self) -> bool {
        self.has_sockets.load(Ordering::Acquire)
    }

    /// From now on there are sockets to look after.
    pub fn set_has_sockets(&self) {
        self.has_sockets.store(true, Ordering::Release);
    }

    /// Runs `work` with what sealing needs.
    pub fn sealing<T>(&self, work: impl FnOnce(&mut Sealing<'_, Shared<'_>>) -> T) -> T {
        work(&mut Sealing {
            keys: self.keys(),
            params: self.params,
            rng: &mut Shared(&self.random),
        })
    }

    /// Says why something was refused, to who asked to hear it.
    pub fn explain(&self, what: std::fmt::Arguments<'_>) {
        if self.verbose {
            eprintln!("crypt-grate: {what}");
        }
    }

    /// The errno for a failure of a sealed file. Damage is always told: the program's own message
    /// would only say "Input/output error".
    pub fn errno(&self, error: Error, what: &str) -> Errno {
        match error {
            Error::Storage(errno) => return Errno(errno.0),
            Error::Sealed(sealed::Error::TooLarge) => {}
            Error::Sealed(why) => eprintln!("crypt-grate: {what}: {why}"),
        }
        Errno(error.errno().0)
    }

    /// As [`State::errno`], for a file that is known by its descriptor. It was a sealed one when it was
    /// opened: where it is none any more, that is damage.
    pub fn errno_of(&self, error: Error, fd: CageFd) -> Errno {
        let error = match error {
            Error::Sealed(sealed::Error::NotSealed | sealed::Error::WrongKey { .. }) => {
                Error::Sealed(sealed::Error::HeaderCorrupt)
            }
            error => error,
        };
        self.errno(error, &format!("cage {}, descriptor {}", fd.cage, fd.fd))
    }

    /// Plaintext size of an open file.
    ///
    /// # Errors
    /// The disk's, or that the file is not authentic.
    pub fn size(&self, fd: CageFd, open: &OpenFile) -> Result<u64, Errno> {
        lock(&open.file)
            .len(&open.storage(fd), self.keys())
            .map_err(|error| self.errno_of(error, fd))
    }

    /// The state of an inode, shared by all who have it open.
    pub fn file(&self, inode: Inode) -> Arc<Mutex<SealedFile>> {
        self.remembered(inode, &self.recent, RECENT)
    }

    /// The state of an inode, for a look at it.
    pub fn glance(&self, inode: Inode) -> Arc<Mutex<SealedFile>> {
        self.remembered(inode, &self.glanced, GLANCED)
    }

    /// The state of an inode. One that is new is put before those that were remembered, of which there are
    /// no more than that.
    fn remembered(
        &self,
        inode: Inode,
        last: &Mutex<VecDeque<Arc<Mutex<SealedFile>>>>,
        most: usize,
    ) -> Arc<Mutex<SealedFile>> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(&inode).and_then(Weak::upgrade) {
            return file;
        }
        if files.len() == files.capacity() {
            files.retain(|_, file| file.strong_count() > 0);
        }
        let file = Arc::new(Mutex::new(SealedFile::default()));
        files.insert(inode, Arc::downgrade(&file));
        let mut last = lock(last);
        last.truncate(most - 1);
        last.push_front(Arc::clone(&file));
        file
    }

    /// Keeps a descriptor what it is for a call on it, and says what that is. One that nobody
    /// knows, however it came to be, is found out about first.
    ///
    /// # Errors
    /// EBADF where there is none; EACCES for a file that can't be told to be the program's to
    /// write; EBUSY where the number is being closed or replaced at the same time.
    pub fn hold(&self, fd: CageFd) -> Result<Held<'_, Opened>, Errno> {
        let mut held = self.descriptors.hold(fd)?;
        if held.what().is_none() {
            held.learn(found::find_out(self, fd)?);
        }
        match held.what() {
            None => Err(Errno(error::EBADF)),
            Some(Opened::Closed) => Err(Errno(error::EACCES)),
            Some(_) => Ok(held),
        }
    }

    /// The sealed file behind a descriptor, which stays that for as long as the first is kept;
    /// `None` for what passes, and for sockets.
    ///
    /// # Errors
    /// As [`State::hold`].
    pub fn hold_file(
        &self,
        fd: CageFd,
    ) -> Result<(Held<'_, Opened>, Option<Arc<OpenFile>>), Errno> {
        let held = self.hold(fd)?;
        let open = match held.what() {
            Some(Opened::File(open)) => Some(Arc::clone(open)),
            _ => None,
        };
        Ok((held, open))
    }

    /// The open sealed file behind a descriptor, as far as is known: for calls that show something
    /// and change nothing.
    pub fn open_file(&self, fd: CageFd) -> Option<Arc<OpenFile>> {
        match self.descriptors.get(fd)? {
            Opened::File(open) => Some(open),
            _ => None,
        }
    }
}
