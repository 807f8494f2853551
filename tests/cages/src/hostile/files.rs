//! The key, by every name; files that may not be written, by every name; special bits.

use super::gate::*;
use super::{Attempt, Stage};
use cage_libc::sys::{address, nr};
use std::ffi::CStr;

pub const ATTEMPTS: &[Attempt] = &[
    ("the key by each name and call", key_by_names),
    ("the key's directory moved away", key_ancestors),
    ("the key from inside of its directory", key_from_inside),
    ("the key by a link that is made", key_links),
    ("the key as a program, a socket, a mapping", key_otherwise),
    ("a denied file by each name and call", denied_by_names),
    ("a denied file's directory moved away", denied_ancestors),
    (
        "a denied file from inside of its directory",
        denied_from_inside,
    ),
    ("a denied file by a link that is made", denied_links),
    (
        "a denied file by a descriptor from before",
        denied_descriptors,
    ),
    ("the bits that let others act as the owner", special_bits),
    ("devices", devices),
    ("out of the root", out_of_the_root),
    ("a sealed file by each call that is not served", unserved),
    ("a plain file under the grate", plain_file),
];

const AT_EMPTY_PATH: u64 = 0x1000;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const RENAME_EXCHANGE: u64 = 2;
const RENAME_NOREPLACE: u64 = 1;

/// Names of the key. The fixture has made the links.
const KEYS: &[&CStr] = &[
    c"/keys/k.bin",
    c"keys/k.bin",
    c"/open/hard.log",
    c"/open/soft.log",
    c"/open/keys/k.bin",
    c"/open/../keys/k.bin",
    c"/../../keys/./k.bin",
    c"//keys//k.bin",
    c"/open/keys/../keys/k.bin",
];

const DENIED: &[&CStr] = &[
    c"/protected/f.log",
    c"protected/f.log",
    c"/open/denied.log",
    c"/open/protected/f.log",
    c"/open/../protected/f.log",
    c"/../protected/./sub/g.log",
    c"//protected//f.log",
];

const OPENS: &[i32] = &[
    0,
    O_WRONLY,
    O_RDWR,
    O_TRUNC,
    O_RDWR | O_TRUNC,
    O_WRONLY | O_APPEND,
    O_CREAT,
    O_CREAT | O_RDWR,
    O_PATH,
    3,
    0o20000000 | O_RDWR,
];

/// Every call that takes one path, made on it.
fn each_call(path: &CStr, judge: &mut dyn FnMut(String, i32), follows: bool) {
    let shown = path.to_string_lossy();
    let other = address(c"/open/other.log".as_ptr());
    let place = address(path.as_ptr());
    let at = int(AT_FDCWD);
    for flags in OPENS {
        judge(format!("open {shown} {flags:o}"), open(path, *flags, 0o600));
        let got = call(nr::OPENAT, &[at, place, int(*flags), 0o600]);
        judge(format!("openat {shown} {flags:o}"), got);
    }
    judge(format!("truncate {shown}"), call(76, &[place, 0]));
    judge(format!("truncate up {shown}"), call(76, &[place, 1 << 20]));
    let mut two = vec![
        (nr::LINK, vec![place, other]),
        (nr::RENAME, vec![place, other]),
        (nr::RENAME, vec![other, place]),
        (264, vec![at, place, at, other]),
        (316, vec![at, place, at, other, 0]),
        (316, vec![at, place, at, other, RENAME_NOREPLACE]),
        (316, vec![at, place, at, other, RENAME_EXCHANGE]),
        (316, vec![at, other, at, place, RENAME_EXCHANGE]),
    ];
    if !strict() {
        two.push((265, vec![at, place, at, other, 0]));
        two.push((265, vec![at, place, at, other, AT_SYMLINK_FOLLOW]));
    }
    for (number, args) in two {
        // A link itself may be moved.
        if follows {
            judge(format!("call {number} on {shown}"), call(number, &args));
        }
    }
    if !strict() && !follows {
        let args = [at, place, at, other, AT_SYMLINK_FOLLOW];
        judge(format!("linkat, following {shown}"), call(265, &args));
    }
}

fn key_by_names(stage: &Stage) -> Outcome {
    make_other();
    let mut outcomes = Vec::new();
    for path in KEYS {
        let follows = *path != c"/open/soft.log";
        let mut judge = |what: String, got: i32| outcomes.push(expect(what, got, &[EACCES]));
        each_call(path, &mut judge, follows);
        let place = address(path.as_ptr());
        let at = int(AT_FDCWD);
        for (what, got) in [
            ("chmod", call(nr::CHMOD, &[place, 0o666])),
            ("chown", call(92, &[place, 12, 12])),
            ("fchmodat", call(268, &[at, place, 0o666, 0])),
            ("fchownat", call(260, &[at, place, 12, 12, 0])),
            ("utimensat", call(nr::UTIMENSAT, &[at, place, 0, 0])),
        ] {
            judge(format!("{what} {}", path.to_string_lossy()), got);
        }
        if follows {
            judge("unlink".to_owned(), call(nr::UNLINK, &[place]));
            judge("unlinkat".to_owned(), call(nr::UNLINKAT, &[at, place, 0]));
        }
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn make_other() {
    let fd = open(c"/open/other.log", O_CREAT | O_RDWR, 0o644);
    close(fd);
}

/// Calls that move a directory, or what lies above, away or put another in its place.
fn moves_of(path: &CStr, judge: &mut dyn FnMut(String, i32)) {
    let shown = path.to_string_lossy();
    let place = address(path.as_ptr());
    let new = address(c"/open/moved".as_ptr());
    let there = address(c"/open/there".as_ptr());
    path_call(nr::MKDIR, c"/open/there", &[0o755]);
    let at = int(AT_FDCWD);
    for (number, args) in [
        (nr::RENAME, vec![place, new]),
        (nr::RENAME, vec![there, place]),
        (264, vec![at, place, at, new]),
        (316, vec![at, place, at, new, 0]),
        (316, vec![at, place, at, new, RENAME_NOREPLACE]),
        (316, vec![at, place, at, there, RENAME_EXCHANGE]),
        (316, vec![at, there, at, place, RENAME_EXCHANGE]),
        (nr::RMDIR, vec![place]),
        (nr::UNLINKAT, vec![at, place, 0x200]),
    ] {
        judge(format!("call {number} on {shown}"), call(number, &args));
    }
    let root = open(c"/", O_DIRECTORY, 0);
    let name = address(path.as_ptr()) + 1;
    let args = [int(root), name, int(root), new + 1];
    judge(format!("renameat of {shown} by its name"), call(264, &args));
    close(root);
}

fn key_ancestors(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    for path in [c"/keys", c"/open/../keys", c"/keys/", c"//keys/."] {
        moves_of(path, &mut |what, got| {
            if got >= 0 {
                outcomes.push(Err(format!("{what}: {got}")));
            }
        });
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn key_from_inside(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let mut judge = |what: String, got: i32| outcomes.push(expect(what, got, &[EACCES]));
    make_other();
    let directory = open(c"/keys", O_DIRECTORY, 0);
    let by_path = open(c"/keys", O_DIRECTORY | O_PATH, 0);
    let other = address(c"/open/other.log".as_ptr());
    for (fd, name) in [
        (directory, c"k.bin"),
        (by_path, c"k.bin"),
        (directory, c"./k.bin"),
        (directory, c"../keys/k.bin"),
        (by_path, c"../open/keys/k.bin"),
    ] {
        let place = address(name.as_ptr());
        let at = int(AT_FDCWD);
        for flags in OPENS {
            let got = call(nr::OPENAT, &[int(fd), place, int(*flags), 0o600]);
            judge(format!("openat {flags:o}"), got);
        }
        judge("unlinkat".into(), call(nr::UNLINKAT, &[int(fd), place, 0]));
        judge("renameat".into(), call(264, &[int(fd), place, at, other]));
        judge("onto".into(), call(264, &[at, other, int(fd), place]));
    }
    let ways: [&dyn Fn() -> i32; 4] = [
        &|| path_call(nr::CHDIR, c"/keys", &[]),
        &|| call(81, &[int(directory)]),
        &|| call(81, &[int(by_path)]),
        &|| path_call(nr::CHDIR, c"/open/keys", &[]),
    ];
    for enter in ways {
        if enter() != 0 {
            continue;
        }
        for name in [c"k.bin", c"./k.bin", c"../keys/k.bin"] {
            each_call(name, &mut judge, true);
        }
        call(nr::CHDIR, &[address(c"/".as_ptr())]);
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn key_links(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    make_other();
    path_call(
        nr::SYMLINK,
        c"/keys/k.bin",
        &[address(c"/open/made.log".as_ptr())],
    );
    path_call(nr::SYMLINK, c"/keys", &[address(c"/open/made".as_ptr())]);
    path_call(
        nr::SYMLINK,
        c"made.log",
        &[address(c"/open/twice.log".as_ptr())],
    );
    for path in [c"/open/made.log", c"/open/made/k.bin", c"/open/twice.log"] {
        let follows = path == c"/open/made/k.bin";
        let mut judge = |what: String, got: i32| outcomes.push(expect(what, got, &[EACCES]));
        each_call(path, &mut judge, follows);
    }
    // By a descriptor that only names it, and names with nothing in them.
    let fd = open(c"/keys/k.bin", O_PATH, 0);
    outcomes.push(expect("O_PATH", fd, &[EACCES]));
    if fd >= 0 && !strict() {
        let empty = address(c"".as_ptr());
        let new = address(c"/open/key.log".as_ptr());
        let args = [int(fd), empty, int(AT_FDCWD), new, AT_EMPTY_PATH];
        call(265, &args);
        call(nr::OPENAT, &[int(fd), empty, 0, 0]);
    }
    for number in 0..20 {
        for folder in [
            "/proc/self/fd",
            "/proc/1/fd",
            "/dev/fd",
            "/proc/thread-self/fd",
        ] {
            let path = format!("{folder}/{number}\0");
            let got = call(nr::OPEN, &[address(path.as_ptr()), 0, 0]);
            outcomes.push(expect(path, got, &[ENOENT, EACCES]));
        }
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn key_otherwise(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let key = address(c"/keys/k.bin".as_ptr());
    let exec = call(nr::EXECVE, &[key, 0, 0]);
    outcomes.push(expect("exec", exec, &[EACCES, -8]));
    let mut name = [0u8; 110];
    name[0] = 1;
    name[2..13].copy_from_slice(b"/keys/k.bin");
    let socket = call(nr::SOCKET, &[1, 1, 0]);
    for number in [nr::BIND, nr::CONNECT] {
        let got = call(number, &[int(socket), address(name.as_ptr()), 110]);
        outcomes.push(expect(
            format!("call {number}"),
            got,
            &[EACCES, -98, -111, EPERM],
        ));
    }
    for (number, args) in [
        (nr::MKDIR, vec![key, 0o755]),
        (133, vec![key, 0o100_644, 0]),
        (nr::SYMLINK, vec![address(c"x".as_ptr()), key]),
        (nr::RMDIR, vec![key]),
        (nr::CHDIR, vec![key]),
    ] {
        let got = call(number, &args);
        outcomes.push(expect(format!("call {number}"), got, &[EACCES, -17, -20]));
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn denied_by_names(stage: &Stage) -> Outcome {
    make_other();
    let mut outcomes = Vec::new();
    for path in DENIED {
        let follows = *path != c"/open/denied.log";
        each_call(
            path,
            &mut |what, got| {
                let reads = what.starts_with("open") && got >= 0;
                if reads {
                    // It may be read; it may not be written by what was opened.
                    if write(got, b"OWNED") >= 0 || call(nr::FTRUNCATE, &[int(got), 0]) >= 0 {
                        outcomes.push(Err(format!("{what}: written")));
                    }
                    close(got);
                } else if got >= 0 {
                    outcomes.push(Err(format!("{what}: {got}")));
                }
            },
            follows,
        );
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn denied_ancestors(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    for path in [c"/protected", c"/protected/sub", c"/open/../protected"] {
        moves_of(path, &mut |what, got| {
            if got >= 0 {
                outcomes.push(Err(format!("{what}: {got}")));
            }
        });
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

fn denied_from_inside(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let directory = open(c"/protected", O_DIRECTORY, 0);
    let by_path = open(c"/protected", O_DIRECTORY | O_PATH, 0);
    let other = address(c"/open/other.log".as_ptr());
    make_other();
    let at = int(AT_FDCWD);
    for (fd, name) in [
        (directory, c"f.log"),
        (by_path, c"f.log"),
        (directory, c"sub/g.log"),
        (by_path, c"../protected/sub/../f.log"),
        (directory, c"new.log"),
    ] {
        let place = address(name.as_ptr());
        for flags in [
            O_WRONLY,
            O_RDWR,
            O_TRUNC | O_WRONLY,
            O_CREAT | O_RDWR,
            O_CREAT | O_APPEND | 1,
        ] {
            let got = call(nr::OPENAT, &[int(fd), place, int(flags), 0o600]);
            if got >= 0 && write(got, b"OWNED") >= 0 {
                outcomes.push(Err(format!("openat {flags:o}: written")));
            }
        }
        for (what, got) in [
            ("renameat", call(264, &[int(fd), place, at, other])),
            ("renameat onto", call(264, &[at, other, int(fd), place])),
            ("symlinkat", call(266, &[other, int(fd), place])),
        ] {
            if got >= 0 {
                outcomes.push(Err(format!("{what}: {got}")));
            }
        }
    }
    let ways: [&dyn Fn() -> i32; 2] = [&|| call(81, &[int(directory)]), &|| {
        path_call(nr::CHDIR, c"/protected/sub", &[])
    }];
    for enter in ways {
        outcomes.push(expect("chdir", enter(), &[0]));
        for name in [
            c"f.log",
            c"g.log",
            c"new.log",
            c"../f.log",
            c"../new.log",
            c"./sub/g.log",
        ] {
            for flags in [O_WRONLY, O_RDWR | O_CREAT, O_TRUNC | O_WRONLY] {
                let got = open(name, flags, 0o644);
                // What is above may be written, or it is on the disk, where the fixture looks.
                let above = name.to_bytes().starts_with(b"..");
                if got >= 0 && write(got, b"OWNED") >= 0 && !above {
                    outcomes.push(Err(format!("open {name:?} {flags:o}: written")));
                }
            }
        }
    }
    call(nr::CHDIR, &[address(c"/".as_ptr())]);
    outcomes.push(stage.still_served());
    all(outcomes)
}

/// By a link of another name, however that may be made, it is written to no more.
fn denied_links(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let at = int(AT_FDCWD);
    let denied = address(c"/protected/f.log".as_ptr());
    let new = address(c"/open/x.log".as_ptr());
    path_call(nr::LINK, c"/protected/f.log", &[new]);
    path_call(
        nr::SYMLINK,
        c"/protected/f.log",
        &[address(c"/open/y.log".as_ptr())],
    );
    path_call(nr::SYMLINK, c"/protected", &[address(c"/open/z".as_ptr())]);
    if !strict() {
        let by_path = open(c"/protected/f.log", O_PATH, 0);
        let read = open(c"/protected/f.log", 0, 0);
        let soft = address(c"/open/denied.log".as_ptr());
        let empty = address(c"".as_ptr());
        for (index, args) in [
            [at, denied, at, new, 0],
            [at, denied, at, new, AT_SYMLINK_FOLLOW],
            [at, soft, at, new, AT_SYMLINK_FOLLOW],
            [int(by_path), empty, at, new, AT_EMPTY_PATH],
            [int(read), empty, at, new, AT_EMPTY_PATH],
            [
                int(by_path),
                empty,
                at,
                new,
                AT_EMPTY_PATH | AT_SYMLINK_FOLLOW,
            ],
        ]
        .iter()
        .enumerate()
        {
            let got = call(265, args);
            if got >= 0 {
                outcomes.push(Err(format!("linkat {index}: {got}")));
            }
        }
    }
    for path in [
        c"/open/x.log",
        c"/open/y.log",
        c"/open/z/f.log",
        c"/open/z/new.log",
    ] {
        for flags in [O_WRONLY, O_RDWR, O_RDWR | O_CREAT, O_WRONLY | O_TRUNC] {
            // A new file of that name is another file.
            let fd = open(path, flags & !O_CREAT, 0o644);
            if fd >= 0 && write(fd, b"OWNED") >= 0 {
                outcomes.push(Err(format!("{path:?} {flags:o}: written")));
            }
        }
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

/// What was opened for reading is not written to by any way to write.
fn denied_descriptors(stage: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let fd = open(c"/protected/f.log", 0, 0);
    let by_path = open(c"/protected/f.log", O_PATH, 0);
    let text = address(b"OWNED".as_ptr());
    let vector = [text.to_le_bytes(), 5u64.to_le_bytes()].concat();
    let vector = address(vector.as_ptr());
    let source = open(c"/open/source.log", O_CREAT | O_RDWR, 0o644);
    write(source, b"OWNED");
    for fd in [fd, by_path] {
        // F_SETFL does not change how a file is open.
        call(nr::FCNTL, &[int(fd), 4, int(O_RDWR)]);
        for (what, got) in [
            ("write", write(fd, b"OWNED")),
            ("pwrite", call(nr::PWRITE, &[int(fd), text, 5, 0])),
            ("writev", call(nr::WRITEV, &[int(fd), vector, 1])),
            ("pwritev", call(296, &[int(fd), vector, 1, 0])),
            ("ftruncate", call(nr::FTRUNCATE, &[int(fd), 0])),
            (
                "copy_file_range",
                call(326, &[int(source), 0, int(fd), 0, 5, 0]),
            ),
            ("mmap", {
                let got = call(nr::MMAP, &[0, 4096, 3, 1, int(fd), 0]);
                if (-4095..0).contains(&got) { got } else { 1 }
            }),
        ] {
            if got >= 0 {
                outcomes.push(Err(format!("{what}: {got}")));
            }
        }
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

/// No file that a program makes or changes runs with the rights of its owner. (The fixture looks
/// at the disk.)
fn special_bits(stage: &Stage) -> Outcome {
    let at = int(AT_FDCWD);
    if !strict() {
        call(95, &[0]);
    }
    let modes: [u64; 8] = [
        0o4755,
        0o2755,
        0o6777,
        0o7777,
        0o4000,
        0o2010,
        0o177_777,
        0xffff_ffff_0000_0000 | 0o6755,
    ];
    for (index, mode) in modes.into_iter().enumerate() {
        let name = |what: &str| format!("/open/{what}{index}.log\0");
        let made = name("open");
        let fd = call(
            nr::OPEN,
            &[address(made.as_ptr()), int(O_CREAT | O_RDWR), mode],
        );
        let directory = name("directory");
        let node = name("node");
        let fifo = name("fifo");
        let openat = name("openat");
        let excl = name("excl");
        let twice = [address(made.as_ptr()), mode];
        let results = [
            call(
                nr::OPENAT,
                &[at, address(openat.as_ptr()), int(O_CREAT | O_WRONLY), mode],
            ),
            call(
                nr::OPEN,
                &[address(excl.as_ptr()), int(O_CREAT | 0o200 | O_RDWR), mode],
            ),
            call(nr::MKDIR, &[address(directory.as_ptr()), mode]),
            call(133, &[address(node.as_ptr()), 0o100_000 | mode & 0o7777, 0]),
            call(133, &[address(fifo.as_ptr()), 0o010_000 | mode & 0o7777, 0]),
            call(nr::CHMOD, &twice),
            call(nr::FCHMOD, &[int(fd), mode]),
            call(268, &[at, address(made.as_ptr()), mode, 0]),
            call(268, &[at, address(directory.as_ptr()), mode, 0]),
        ];
        core::hint::black_box(results);
        if !strict() {
            let other = name("mkdirat");
            call(258, &[at, address(other.as_ptr()), mode]);
        }
        // They come back neither with a write nor with another owner.
        write(fd, MARK);
        call(92, &[address(made.as_ptr()), 0, 0]);
        call(nr::FCHMOD, &[int(fd), mode]);
    }
    // Programs that are there.
    call(
        nr::CHMOD,
        &[address(c"/bin/hostile.cwasm".as_ptr()), 0o4755],
    );
    stage.still_served()
}

fn devices(_: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    for (index, kind) in [0o020_000, 0o060_000, 0o040_000, 0o120_000]
        .into_iter()
        .enumerate()
    {
        for device in [0x101, 0x103, 0x105, 0x800, 0x801, u64::MAX] {
            let path = format!("/open/device{index}\0");
            let got = call(133, &[address(path.as_ptr()), kind | 0o666, device]);
            outcomes.push(expect(
                format!("mknod {kind:o} {device:#x}"),
                got,
                &[EPERM, -22, EACCES],
            ));
        }
    }
    for path in [
        c"/dev/mem",
        c"/dev/kmsg",
        c"/dev/sda",
        c"/dev/fuse",
        c"/proc/self/mem",
        c"/proc/self/maps",
        c"/sys",
    ] {
        let got = open(path, 0, 0);
        outcomes.push(expect(format!("{path:?}"), got, &[ENOENT, EACCES]));
    }
    all(outcomes)
}

fn out_of_the_root(_: &Stage) -> Outcome {
    let mut outcomes = Vec::new();
    let mut inside = |what: String, got: i32| {
        outcomes.push(expect(what, got, &[ENOENT, EACCES, EPERM, -18, ELOOP, -20]));
    };
    path_call(
        nr::SYMLINK,
        c"/../../../../../beside",
        &[address(c"/open/up".as_ptr())],
    );
    path_call(
        nr::SYMLINK,
        c"../../beside",
        &[address(c"/open/relative".as_ptr())],
    );
    path_call(
        nr::SYMLINK,
        c"/proc/self/root/beside",
        &[address(c"/open/proc".as_ptr())],
    );
    for path in [
        c"/../beside",
        c"../beside",
        c"/open/../../beside",
        c"/open/up",
        c"/open/relative",
        c"/open/proc",
        c"/open/outside",
        c"/open/outside/beside",
        c"/open/outside-file",
    ] {
        for flags in [0, O_RDWR, O_TRUNC | O_RDWR] {
            inside(format!("{path:?} {flags:o}"), open(path, flags, 0));
        }
        inside(format!("truncate {path:?}"), path_call(76, path, &[0]));
        inside(format!("chdir {path:?}"), path_call(nr::CHDIR, path, &[]));
        inside(
            format!("exec {path:?}"),
            path_call(nr::EXECVE, path, &[0, 0]),
        );
    }
    // A directory that moves while one stands in it.
    path_call(nr::MKDIR, c"/open/a", &[0o755]);
    path_call(nr::MKDIR, c"/open/a/b", &[0o755]);
    path_call(nr::CHDIR, c"/open/a/b", &[]);
    let deep = open(c".", O_DIRECTORY, 0);
    path_call(nr::RENAME, c"/open/a/b", &[address(c"/b".as_ptr())]);
    for path in [
        c"../beside",
        c"../../beside",
        c"../../../beside",
        c"../../../../beside",
    ] {
        inside(format!("{path:?} from a moved directory"), open(path, 0, 0));
        let got = call(nr::OPENAT, &[int(deep), address(path.as_ptr()), 0, 0]);
        inside(format!("{path:?} at a moved directory"), got);
    }
    all(outcomes)
}

/// Calls that the runtime does not serve, but that would get bytes past a grate somewhere.
fn unserved(stage: &Stage) -> Outcome {
    if strict() {
        return stage.still_served();
    }
    let world = super::world::World::new("unserved", false)?;
    let mut outcomes = Vec::new();
    for entry in calls::CALLS.iter().filter(|entry| !entry.is_ours()) {
        let got = call(entry.nr, &world.arguments(entry));
        outcomes.push(expect(entry.name, got, &[ENOSYS, EPERM]));
    }
    for number in (0..600).filter(|number| calls::entry(*number).is_none()) {
        let args = [int(world.file), world.arena.address(0), 64, 0, 0, 0];
        outcomes.push(expect(
            format!("call {number}"),
            call(number, &args),
            &[ENOSYS],
        ));
    }
    for number in [
        1113,
        1199,
        1200,
        4096,
        1 << 16,
        i32::MAX as u32,
        1 << 31,
        u32::MAX,
    ] {
        outcomes.push(expect(
            format!("call {number}"),
            call(number, &[]),
            &[ENOSYS],
        ));
    }
    outcomes.push(stage.still_served());
    all(outcomes)
}

/// A file that was plain before: what is written to it is not in the clear beside what was.
fn plain_file(stage: &Stage) -> Outcome {
    for flags in [O_WRONLY, O_RDWR, O_APPEND | O_WRONLY] {
        let fd = open(c"/open/plain.log", flags, 0);
        write(fd, MARK);
        call(
            nr::PWRITE,
            &[int(fd), address(MARK.as_ptr()), MARK.len() as u64, 0],
        );
        if let Ok(child) = forked(|| write(fd, MARK) & 1) {
            wait(child)?;
        }
        let copy = call(nr::DUP, &[int(fd)]);
        write(copy, MARK);
        close(fd);
        write(copy, MARK);
    }
    stage.still_served()
}
