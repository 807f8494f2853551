//! What an argument is.

/// Which way an argument's bytes go, seen from the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The call reads them.
    In,
    /// The call writes them.
    Out,
    /// Both.
    InOut,
}

/// A structure that an address points to, in the kernel's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struct {
    /// An `int`.
    Word,
    /// 64 bits.
    Long,
    /// Two `int`s: the ends of a pipe.
    Pair,
    /// Seconds and nanoseconds.
    Time,
    /// Seconds and microseconds, of 64 bits each.
    TimeVal,
    /// Two of those.
    TwoTimes,
    /// `struct stat` as Lind has it.
    Stat,
    /// `struct statx`.
    Statx,
    /// `struct statfs`.
    Statfs,
    /// `struct pollfd`.
    PollFd,
    /// 1024 bits.
    FdSet,
    /// `struct epoll_event`.
    EpollEvent,
    /// `struct msghdr`: holds addresses of the same cage.
    MsgHdr,
    /// A set of signals.
    SigSet,
    /// Address and length of a set of signals.
    SigSetPlace,
    /// `struct sigaction`.
    SigAction,
    /// `struct flock`.
    Flock,
    /// `struct clone_args`.
    CloneArgs,
    /// `struct rlimit`.
    Rlimit,
    /// `struct itimerval`.
    Itimer,
    /// `struct shmid_ds`, as Lind's kernel has it.
    ShmId,
    /// Positions of an AEAD call's chunks (calls of our runtime's own).
    AeadJob,
    /// A master key and the fields of a sealed file's header.
    FileKeysJob,
    /// What these make.
    FileSecrets,
    /// Where chunks of a sealed file are, with its keys (likewise).
    ChunksJob,
}

impl Struct {
    /// Its size in bytes.
    pub const fn size(self) -> usize {
        match self {
            Struct::Word => 4,
            Struct::Long | Struct::Pair | Struct::PollFd | Struct::SigSet | Struct::Rlimit => 8,
            Struct::EpollEvent => 12,
            Struct::Time | Struct::TimeVal | Struct::SigSetPlace => 16,
            Struct::SigAction => 24,
            Struct::TwoTimes | Struct::Flock | Struct::Itimer => 32,
            Struct::MsgHdr => 56,
            Struct::AeadJob => 48,
            Struct::ShmId => 80,
            Struct::CloneArgs => 88,
            Struct::Stat => 104,
            Struct::Statfs => 112,
            Struct::ChunksJob | Struct::FileKeysJob => 96,
            Struct::FdSet | Struct::FileSecrets => 128,
            Struct::Statx => 256,
        }
    }
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A descriptor.
    Fd,
    /// A descriptor of a directory, or AT_FDCWD.
    DirFd,
    /// An `int` without names.
    Int,
    /// A cage as a process.
    Pid,
    /// The caller's thread: Lind's runtime puts it there.
    Thread,
    /// A size or another unsigned number.
    Size,
    /// A signed number of 64 bits.
    Offset,
    /// Bits that have no names here.
    Bits,
    /// Permission bits.
    Mode,
    /// Flags of open(2).
    OpenFlags,
    /// Flags of the *at calls.
    AtFlags,
    /// Protection of memory.
    Prot,
    /// Flags of mmap(2).
    MapFlags,
    /// What an offset is counted from.
    Whence,
    /// Command of fcntl(2).
    FcntlCommand,
    /// Request of ioctl(2).
    IoctlRequest,
    /// A signal.
    Signal,
    /// A clock.
    Clock,
    /// An address family.
    Family,
    /// A socket's type with its flags.
    SocketType,
    /// A place in the target's address space, without its base.
    Place,
    /// Pages of the target's, with the base; the next argument is their number of bytes.
    Pages,
    /// An address; other arguments say what lies there.
    Address,
    /// A path.
    Path,
    /// Another string.
    Text,
    /// Bytes going in; the next argument is their number.
    BytesIn,
    /// Bytes coming out; the next argument is how many there is room for, the result how many
    /// there are.
    BytesOut,
    /// Bytes worked on in place; the next argument is their number.
    BytesInOut,
    /// A path coming out; the next argument is the room.
    PathOut,
    /// Vectors of bytes going in; the next argument is their number.
    VectorsIn,
    /// Vectors of bytes coming out; the next argument is their number.
    VectorsOut,
    /// A list of addresses of strings, with a zero at its end.
    Strings,
    /// A socket address going in; the next argument is its length.
    SocketAddress,
    /// A socket address coming out; the next argument is the address of its length.
    SocketAddressOut,
    /// A structure.
    Struct(Access, Struct),
    /// Structures; the next argument is their number.
    List(Access, Struct),
}

impl Kind {
    /// Whether the argument is an address in the memory of its cage.
    pub const fn is_address(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Pages
                | Address
                | Path
                | Text
                | BytesIn
                | BytesOut
                | BytesInOut
                | PathOut
                | VectorsIn
                | VectorsOut
                | Strings
                | SocketAddress
                | SocketAddressOut
                | Struct(..)
                | List(..)
        )
    }

    /// Whether the argument is a descriptor of its cage.
    pub const fn is_descriptor(self) -> bool {
        matches!(self, Kind::Fd | Kind::DirFd)
    }

    /// Whether the argument is a number that means the same for each cage.
    pub const fn is_number(self) -> bool {
        !self.is_address() && !self.is_descriptor()
    }

    /// Whether the next argument says how long this one is.
    pub const fn next_is_its_length(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Pages
                | BytesIn
                | BytesOut
                | BytesInOut
                | PathOut
                | VectorsIn
                | VectorsOut
                | SocketAddress
                | List(..)
        )
    }
}
