//! Making, moving and removing names in directories.

use super::files::new_mode;
use super::lookup::{AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, Dir, Lookup};
use super::{Call, Entry, lookup};
use crate::path::proc_path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;

pub(super) const CALLS: &[Entry] = &[
    Entry::new(82, |call| {
        rename_paths(call, (Dir::Cwd, 0), (Dir::Cwd, 1), 0)
    }),
    Entry::new(83, |call| make_directory(call, Dir::Cwd, 0)),
    Entry::new(84, |call| remove_directory(call, Dir::Cwd, 0)),
    Entry::new(86, |call| link_paths(call, (Dir::Cwd, 0), (Dir::Cwd, 1), 0)),
    Entry::new(87, |call| remove_file(call, Dir::Cwd, 0)),
    Entry::new(88, |call| symlink_path(call, Dir::Cwd, 1)),
    Entry::new(89, |call| read_link(call, Dir::Cwd, 0)),
    Entry::new(133, mknod),
    Entry::new(258, |call| make_directory(call, Dir::Target(0), 1)),
    Entry::new(263, unlinkat),
    Entry::new(264, |call| {
        rename_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), 0)
    }),
    Entry::new(265, linkat),
    Entry::new(266, |call| symlink_path(call, Dir::Own(1), 2)),
    Entry::new(267, |call| read_link(call, Dir::Own(0), 1)),
    Entry::new(316, renameat2),
];

fn make_directory(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::EXIST)?;
    let mode = new_mode(call, call.uint(index + 1));
    rustix::fs::mkdirat(&leaf.parent, &leaf.name[..], Mode::from_raw_mode(mode))?;
    Ok(0)
}

fn remove_directory(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::BUSY)?;
    rustix::fs::unlinkat(&leaf.parent, &leaf.name[..], AtFlags::REMOVEDIR)?;
    Ok(0)
}

fn remove_file(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::ISDIR)?;
    rustix::fs::unlinkat(&leaf.parent, &leaf.name[..], AtFlags::empty())?;
    Ok(0)
}

fn unlinkat(call: &Call<'_>) -> Result<i32, Errno> {
    const AT_REMOVEDIR: u32 = 0x200;
    match call.uint(2) {
        0 => remove_file(call, Dir::Target(0), 1),
        AT_REMOVEDIR => remove_directory(call, Dir::Target(0), 1),
        _ => Err(Errno::INVAL),
    }
}

fn rename_paths(
    call: &Call<'_>,
    old: (Dir, usize),
    new: (Dir, usize),
    flags: u32,
) -> Result<i32, Errno> {
    let (old, new) = (
        Lookup::new(call, old.0, old.1)?,
        Lookup::new(call, new.0, new.1)?,
    );
    let (old, new) = (old.leaf(Errno::BUSY)?, new.leaf(Errno::BUSY)?);
    rustix::fs::renameat_with(
        &old.parent,
        &old.name[..],
        &new.parent,
        &new.name[..],
        RenameFlags::from_bits_retain(flags),
    )?;
    Ok(0)
}

fn renameat2(call: &Call<'_>) -> Result<i32, Errno> {
    const NOREPLACE: u32 = 1;
    const EXCHANGE: u32 = 2;
    const WHITEOUT: u32 = 4;
    const NOREPLACE_WHITEOUT: u32 = NOREPLACE | WHITEOUT;
    let flags = call.uint(4);
    match flags {
        0 | NOREPLACE | EXCHANGE => {
            rename_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), flags)
        }
        // It leaves a device node behind.
        WHITEOUT | NOREPLACE_WHITEOUT => Err(Errno::PERM),
        _ => Err(Errno::INVAL),
    }
}

fn link_paths(
    call: &Call<'_>,
    old: (Dir, usize),
    new: (Dir, usize),
    flags: u32,
) -> Result<i32, Errno> {
    let follow = if flags & AT_SYMLINK_FOLLOW == 0 {
        AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let node = lookup::changed(call, old.0, old.1, follow | (flags & AT_EMPTY_PATH))?;
    let leaf = Lookup::new(call, new.0, new.1)?.leaf(Errno::EXIST)?;
    // By the open file: a link in its last place is not looked up again, in or out of the root.
    rustix::fs::linkat(
        CWD,
        proc_path(&node),
        &leaf.parent,
        &leaf.name[..],
        AtFlags::SYMLINK_FOLLOW,
    )?;
    Ok(0)
}

fn linkat(call: &Call<'_>) -> Result<i32, Errno> {
    let flags = call.uint(4);
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::INVAL);
    }
    link_paths(call, (Dir::Target(0), 1), (Dir::Target(2), 3), flags)
}

/// A link's text is the guest's own affair: it is followed inside the root only.
fn symlink_path(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let text = call.path(0)?;
    if text.is_empty() {
        return Err(Errno::NOENT);
    }
    let leaf = Lookup::new(call, dir, index)?.leaf(Errno::EXIST)?;
    rustix::fs::symlinkat(&text[..], &leaf.parent, &leaf.name[..])?;
    Ok(0)
}

fn read_link(call: &Call<'_>, dir: Dir, index: usize) -> Result<i32, Errno> {
    let room = call.int(index + 2);
    if room <= 0 {
        return Err(Errno::INVAL);
    }
    let by_descriptor = call.path(index)?.is_empty();
    let node = lookup::changed(call, dir, index, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let text = rustix::fs::readlinkat(&*node, "", Vec::new()).map_err(|errno| match errno {
        // What the kernel says of an open file that is no link.
        Errno::NOENT if !by_descriptor => Errno::INVAL,
        other => other,
    })?;
    let text = text.as_bytes();
    let shown = text.get(..room as usize).unwrap_or(text);
    call.put(index + 1, shown)?;
    Ok(shown.len() as i32)
}

/// Files and FIFOs only: a device node would lead out of the root.
fn mknod(call: &Call<'_>) -> Result<i32, Errno> {
    const FORMAT: u32 = 0o170_000;
    let kind = match call.uint(1) & FORMAT {
        0 | 0o100_000 => FileType::RegularFile,
        0o010_000 => FileType::Fifo,
        // Devices, sockets and directories.
        0o020_000 | 0o060_000 | 0o140_000 | 0o040_000 => return Err(Errno::PERM),
        _ => return Err(Errno::INVAL),
    };
    let leaf = Lookup::new(call, Dir::Cwd, 0)?.leaf(Errno::EXIST)?;
    let mode = Mode::from_raw_mode(new_mode(call, call.uint(1)));
    rustix::fs::mknodat(&leaf.parent, &leaf.name[..], kind, mode, 0)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, Fixture, Twins};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn furnish(twins: &Twins) {
        twins.clear();
        twins.prepare(|top| {
            fs::create_dir_all(top.join("dir/sub")).unwrap();
            fs::create_dir(top.join("empty")).unwrap();
            fs::write(top.join("file"), "content").unwrap();
            fs::write(top.join("other"), "other").unwrap();
            symlink("file", top.join("link")).unwrap();
            symlink("dir", top.join("dirlink")).unwrap();
            symlink("nothing", top.join("dangling")).unwrap();
            symlink("loop", top.join("loop")).unwrap();
        });
    }

    /// Descriptors 0: a directory, 1: a file.
    fn furnished() -> Twins {
        let mut twins = Twins::new();
        furnish(&twins);
        twins
            .descriptor(2, &[A::Path("/dir"), A::I(0o200_000)])
            .unwrap();
        twins.descriptor(2, &[A::Path("/file"), A::I(0)]).unwrap();
        twins
    }

    /// Paths of every sort, right and wrong.
    const PATHS: [&str; 24] = [
        "",
        "/file",
        "file",
        "/file/",
        "/file/x",
        "/dir",
        "/dir/",
        "/dir/.",
        "/dir/..",
        "/dir/sub",
        "/empty",
        "/link",
        "/link/",
        "/dirlink",
        "/dirlink/",
        "/dirlink/sub",
        "/dangling",
        "/dangling/",
        "/loop",
        "/loop/x",
        "/nothing",
        "/nothing/",
        "/nothing/x",
        "/dir/../file",
    ];

    fn long() -> (String, String) {
        ("n".repeat(300), "/x".repeat(3000))
    }

    /// Asks both worlds, each time with fresh files, as an answer can change them.
    fn each_path(nr: u32, args: impl Fn(A<'_>) -> Vec<A<'_>>) {
        let twins = Twins::new();
        for path in PATHS {
            furnish(&twins);
            let _ = twins.agree(nr, &args(A::Path(path)));
        }
        for path in [&long().0, &long().1] {
            assert!(twins.agree(nr, &args(A::Path(path))).is_err());
        }
        assert!(twins.agree(nr, &args(A::Nowhere)).is_err());
    }

    #[test]
    fn directories_come_and_go() {
        each_path(83, |path| vec![path, A::I(0o755)]);
        each_path(84, |path| vec![path]);
        let twins = furnished();
        assert_eq!(twins.agree(83, &[A::Path("/new"), A::I(0o1_751)]), Ok(0));
        assert_eq!(
            fs::metadata(twins.cage.path("new"))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777,
            0o1_751
        );
        let new = A::Text("new");
        assert_eq!(twins.agree(258, &[A::Fd(0), new, A::I(0o700)]), Ok(0));
        assert!(twins.agree(258, &[A::Fd(1), new, A::I(0o700)]).is_err());
        assert!(twins.agree(258, &[A::I(99), new, A::I(0o700)]).is_err());
        assert_eq!(twins.agree(263, &[A::Fd(0), new, A::I(0x200)]), Ok(0));
    }

    #[test]
    fn files_are_unlinked() {
        each_path(87, |path| vec![path]);
        let twins = furnished();
        let at = |name, flags| twins.agree(263, &[A::Fd(0), A::Text(name), A::I(flags)]);
        assert_eq!(at("sub", 0), Err(Errno::ISDIR));
        assert_eq!(at("sub", 0x1200), Err(Errno::INVAL));
        assert_eq!(at("none", 0), Err(Errno::NOENT));
        assert_eq!(at("..", 0x200), Err(Errno::NOTEMPTY));
        assert_eq!(at("sub", 0x200), Ok(0));
        let past = twins.agree(263, &[A::Fd(1), A::Text("x"), A::I(0)]);
        assert_eq!(past, Err(Errno::NOTDIR));
    }

    #[test]
    fn names_move() {
        for target in ["/file", "/fresh", "/empty", "/dir", "/dir/fresh/"] {
            each_path(82, |path| vec![path, A::Path(target)]);
            each_path(82, |path| vec![A::Path(target), path]);
        }
        for flags in [1, 2, 3, 0x80] {
            each_path(316, |path| {
                let here = A::I(-100);
                vec![here, A::Path("/file"), here, path, A::I(flags)]
            });
        }
        let twins = furnished();
        let renamed = twins.agree(
            264,
            &[A::I(-100), A::Path("/file"), A::Fd(0), A::Text("moved")],
        );
        assert_eq!(renamed, Ok(0));
        assert_eq!(fs::read(twins.cage.path("dir/moved")).unwrap(), b"content");
    }

    #[test]
    fn links_are_made_and_read() {
        for source in ["/file", "/link", "/dangling", "/dir"] {
            each_path(86, |path| vec![A::Path(source), path]);
            for flags in [0, 0x400, 0x100] {
                each_path(265, |path| {
                    let here = A::I(-100);
                    vec![here, path, here, A::Path("/fresh"), A::I(flags)]
                });
                let here = A::I(-100);
                let args = [here, A::Path(source), here, A::Path("/fresh"), A::I(flags)];
                let _ = furnished().agree(265, &args);
            }
        }
        each_path(88, |path| vec![A::Text("../anything at all"), path]);
        each_path(89, |path| vec![path, A::Out(100), A::I(100)]);
        each_path(89, |path| vec![path, A::Out(2), A::I(2)]);
        each_path(89, |path| vec![path, A::Out(2), A::I(0)]);
        let twins = furnished();
        assert_eq!(
            twins.agree(88, &[A::Text(""), A::Path("/x")]),
            Err(Errno::NOENT)
        );
        assert_eq!(
            twins.agree(266, &[A::Text("t"), A::Fd(0), A::Text("l")]),
            Ok(0)
        );
        let read = |args: &[A<'_>]| twins.agree(267, args);
        assert_eq!(read(&[A::Fd(0), A::Text("l"), A::Out(9), A::I(9)]), Ok(1));
        for (fd, path) in [
            (A::Fd(0), ""),
            (A::Fd(1), ""),
            (A::I(99), "l"),
            (A::I(99), ""),
        ] {
            assert!(read(&[fd, A::Text(path), A::Out(9), A::I(9)]).is_err());
        }
        let link = [A::Path("/link"), A::Nowhere, A::I(9)];
        assert_eq!(twins.agree(89, &link), Err(Errno::FAULT));
    }

    #[test]
    fn nodes_are_files_and_fifos_only() {
        for mode in [0o644, 0o100_600, 0o010_640, 0o040_755, 0o110_000] {
            each_path(133, |path| vec![path, A::I(mode), A::I(0)]);
        }
        let cage = Fixture::new();
        for mode in [0o020_666, 0o060_666, 0o140_666] {
            let path = cage.text("/node");
            assert_eq!(cage.call(133, &[path, mode, 0x103]), Err(Errno::PERM));
        }
    }

    #[test]
    fn the_root_itself_stays() {
        let cage = Fixture::new();
        fs::write(cage.path("file"), "").unwrap();
        cage.put(0x800, b"/file\0");
        for root in ["/", "///", "/.", "/..", "."] {
            let root = cage.text(root);
            for nr in [82, 83, 84, 86, 87, 88, 133] {
                assert!(cage.call(nr, &[root, root, 0]).is_err(), "{nr}");
                assert!(cage.call(82, &[0x800, root]).is_err());
            }
        }
        let root = cage.text("/");
        assert_eq!(cage.call(83, &[root, 0]), Err(Errno::EXIST));
        assert_eq!(cage.call(84, &[root]), Err(Errno::BUSY));
        assert_eq!(cage.call(87, &[root]), Err(Errno::ISDIR));
        assert_eq!(cage.call(82, &[0x800, root]), Err(Errno::BUSY));
        assert_eq!(cage.call(86, &[0x800, root]), Err(Errno::EXIST));
        assert!(cage.path("").is_dir());
        assert!(cage.dir.path().join("secret").exists());
    }
}
