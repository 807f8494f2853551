//! The attempts that `hostile.rs` of the test programs makes.

use super::stage::Under;
use crate::fixture::FileLimit;

/// One of them.
pub struct Attempt {
    /// As the program knows it.
    pub name: &'static str,
    /// Under which grates it is made.
    pub under: &'static [Under],
    /// Most memory of the host that it may cost, in bytes.
    pub memory: u64,
    /// How long files may become.
    pub file_limit: Option<FileLimit>,
}

const EVERYWHERE: &[Under] = &[Under::Nothing, Under::Crypt, Under::Filter, Under::Both];
/// Where there is a key.
const SEALED: &[Under] = &[Under::Crypt, Under::Both];
/// Where files are denied.
const FILTERED: &[Under] = &[Under::Filter, Under::Both];
/// Where there is either.
const GRATES: &[Under] = &[Under::Crypt, Under::Filter, Under::Both];

const fn attempt(under: &'static [Under], name: &'static str) -> Attempt {
    Attempt {
        name,
        under,
        memory: 1 << 30,
        file_limit: None,
    }
}

impl Attempt {
    /// With files of at most 64 KiB.
    const fn with_small_files(self) -> Self {
        Self {
            file_limit: Some(FileLimit(128)),
            ..self
        }
    }

    /// That may cost so many GiB.
    const fn costs(self, gibibytes: u64) -> Self {
        Self {
            memory: gibibytes << 30,
            ..self
        }
    }
}

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    // Authority: naming cages.
    attempt(EVERYWHERE, "its grate's memory comes out"),
    attempt(EVERYWHERE, "its grate's memory is written"),
    attempt(EVERYWHERE, "its grate's descriptors"),
    attempt(EVERYWHERE, "another cage's state"),
    attempt(EVERYWHERE, "another cage's life"),
    attempt(EVERYWHERE, "another cage's table of handlers"),
    attempt(EVERYWHERE, "another cage in each argument"),
    attempt(EVERYWHERE, "another cage as target"),
    attempt(EVERYWHERE, "numbers that are no cage's"),
    attempt(EVERYWHERE, "speaking for another cage"),
    attempt(EVERYWHERE, "a child's descriptor, before it is known"),
    attempt(EVERYWHERE, "the end of a child that goes on"),
    // 3i's own calls.
    attempt(EVERYWHERE, "taking back each of its grate's handlers"),
    attempt(EVERYWHERE, "a handler of one's own on each number"),
    attempt(EVERYWHERE, "handlers that are none"),
    attempt(EVERYWHERE, "a table that has less"),
    attempt(EVERYWHERE, "a table that has less, of a grate of one's own"),
    attempt(EVERYWHERE, "3i calls in every order"),
    attempt(EVERYWHERE, "3i calls of two cages at once"),
    attempt(EVERYWHERE, "copies with wild lengths and kinds"),
    attempt(EVERYWHERE, "registering for a child that has exec'ed"),
    // Grates of the program's own.
    attempt(EVERYWHERE, "a grate of one's own that speaks for its child"),
    attempt(
        EVERYWHERE,
        "a grate of one's own that speaks for who has less",
    ),
    attempt(
        EVERYWHERE,
        "a grate of one's own that passes foreign arguments on",
    ),
    attempt(
        EVERYWHERE,
        "a grate of one's own that keeps a call for later",
    ),
    attempt(EVERYWHERE, "grates of one's own, stacked"),
    attempt(EVERYWHERE, "a handler that calls itself"),
    attempt(EVERYWHERE, "deep recursion inside of a handler"),
    attempt(EVERYWHERE, "handlers that answer nonsense"),
    attempt(EVERYWHERE, "two events in one call"),
    attempt(EVERYWHERE, "a handler that forks, execs and exits"),
    attempt(EVERYWHERE, "a handler that never returns"),
    attempt(EVERYWHERE, "a handler that waits for ever"),
    attempt(EVERYWHERE, "handlers that come and go"),
    attempt(EVERYWHERE, "programs killed in the middle of handlers"),
    attempt(EVERYWHERE, "a grate that traps fails closed"),
    attempt(EVERYWHERE, "a grate that exits fails closed"),
    attempt(EVERYWHERE, "a grate that is killed fails closed"),
    attempt(EVERYWHERE, "a grate that execs fails closed"),
    attempt(EVERYWHERE, "a grate that ends in the middle of a call"),
    attempt(EVERYWHERE, "a new fork's first calls"),
    // Wild arguments.
    attempt(EVERYWHERE, "a wild address in each argument"),
    attempt(EVERYWHERE, "a wild length in each argument"),
    attempt(EVERYWHERE, "a wild number in each argument"),
    attempt(EVERYWHERE, "addresses inside of structures"),
    attempt(EVERYWHERE, "lists that are too long"),
    attempt(EVERYWHERE, "memory taken away during a call"),
    // Check, then use again.
    attempt(GRATES, "flipped path: open"),
    attempt(GRATES, "flipped path: openat"),
    attempt(GRATES, "flipped path: truncate"),
    attempt(SEALED, "flipped path: unlink"),
    attempt(GRATES, "flipped path: rename"),
    attempt(GRATES, "flipped path: link"),
    attempt(SEALED, "flipped path: chmod, chown, utimensat"),
    attempt(GRATES, "flipped path: making names"),
    attempt(GRATES, "flipped path: exec and chdir"),
    attempt(GRATES, "flipped directory, then a name in it"),
    attempt(GRATES, "flipped name beside a directory"),
    attempt(GRATES, "a symlink exchanged during calls"),
    attempt(GRATES, "a directory exchanged during calls"),
    attempt(EVERYWHERE, "flipped bytes of a write"),
    attempt(EVERYWHERE, "flipped vectors"),
    attempt(EVERYWHERE, "flipped message headers"),
    attempt(EVERYWHERE, "flipped address of a peer"),
    attempt(EVERYWHERE, "flipped structures of every call"),
    attempt(EVERYWHERE, "flipped arguments of exec and fork"),
    attempt(EVERYWHERE, "one file by several cages at once"),
    attempt(EVERYWHERE, "opens, copies and closes at once with forks"),
    // Names.
    attempt(SEALED, "the key by each name and call"),
    attempt(SEALED, "the key's directory moved away"),
    attempt(SEALED, "the key from inside of its directory"),
    attempt(SEALED, "the key by a link that is made"),
    attempt(SEALED, "the key as a program, a socket, a mapping"),
    attempt(FILTERED, "a denied file by each name and call"),
    attempt(FILTERED, "a denied file's directory moved away"),
    attempt(FILTERED, "a denied file from inside of its directory"),
    attempt(FILTERED, "a denied file by a link that is made"),
    attempt(FILTERED, "a denied file by a descriptor from before"),
    attempt(EVERYWHERE, "the bits that let others act as the owner"),
    attempt(EVERYWHERE, "devices"),
    attempt(EVERYWHERE, "out of the root"),
    attempt(EVERYWHERE, "a sealed file by each call that is not served"),
    attempt(EVERYWHERE, "a plain file under the grate"),
    // Limits.
    attempt(EVERYWHERE, "descriptors that run out: files"),
    attempt(EVERYWHERE, "descriptors that run out: pipes"),
    attempt(EVERYWHERE, "descriptors that run out: sockets"),
    attempt(EVERYWHERE, "descriptors that run out: epoll and copies"),
    attempt(EVERYWHERE, "descriptors of many cages"),
    attempt(EVERYWHERE, "mappings that run out"),
    attempt(EVERYWHERE, "shared mappings that run out"),
    attempt(EVERYWHERE, "memory that runs out").costs(5),
    attempt(EVERYWHERE, "a break beyond everything"),
    attempt(EVERYWHERE, "forks without an end"),
    attempt(EVERYWHERE, "forks of forks"),
    attempt(EVERYWHERE, "a file that may not grow").with_small_files(),
    attempt(EVERYWHERE, "handlers without an end"),
    attempt(EVERYWHERE, "waiting for much"),
    attempt(EVERYWHERE, "signals to everyone"),
];
