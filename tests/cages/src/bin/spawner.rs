//! Forks children that exec other programs, and talks with one over a pipe.

use cage_libc::sys;
use std::error::Error;

/// The program that the children execute: `/bin/geteuid.cwasm` unless the first argument says
/// otherwise.
fn program() -> String {
    let named = std::env::args().nth(1);
    named.unwrap_or_else(|| "/bin/geteuid.cwasm".to_owned())
}

fn exec(program: &str) -> ! {
    let path = format!("{program}\0");
    // SAFETY: NUL-terminated strings that live to the end.
    let errno = unsafe { sys::execve(path.as_ptr(), &[path.as_ptr()], &[]) };
    eprintln!("spawner: {program}: {errno:?}");
    std::process::exit(1)
}

fn check(what: &str, holds: bool) -> Result<(), Box<dyn Error>> {
    if holds {
        Ok(())
    } else {
        Err(what.to_owned().into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let failed = |what: &'static str| move |errno: sys::Errno| format!("{what}: {errno:?}");
    for _ in 0..2 {
        let child = sys::fork().map_err(failed("fork"))?;
        if child == 0 {
            exec(&program());
        }
        let (pid, status) = sys::waitpid(child, 0).map_err(failed("wait"))?;
        check("the child ends well", pid == child && status == 0)?;
    }
    // A program that does not exist: the child goes on, and says so.
    let child = sys::fork().map_err(failed("fork"))?;
    if child == 0 {
        let path = "no-such-program\0";
        // SAFETY: a NUL-terminated string.
        let errno = unsafe { sys::execve(path.as_ptr(), &[path.as_ptr()], &[]) };
        std::process::exit(errno.0)
    }
    let (_, status) = sys::waitpid(-1, 0).map_err(failed("wait"))?;
    check("exec answers ENOENT", status == 2 << 8)?;
    // A grandchild writes through a pipe that it inherited.
    let (reader, writer) = sys::pipe2(0).map_err(failed("pipe"))?;
    let child = sys::fork().map_err(failed("fork"))?;
    if child == 0 {
        let grandchild = sys::fork().map_err(failed("fork"))?;
        if grandchild == 0 {
            let _ = sys::write(writer, b"from below");
            std::process::exit(0)
        }
        let waited = sys::waitpid(grandchild, 0);
        std::process::exit(i32::from(waited != Ok((grandchild, 0))))
    }
    sys::close(writer).map_err(failed("close"))?;
    let mut text = Vec::new();
    let mut part = [0; 4];
    loop {
        match sys::read(reader, &mut part).map_err(failed("read"))? {
            0 => break,
            len => text.extend_from_slice(&part[..len]),
        }
    }
    check("the pipe brings it all", text == b"from below")?;
    let (_, status) = sys::waitpid(child, 0).map_err(failed("wait"))?;
    check("the child saw its own child end", status == 0)?;
    check(
        "no child is left",
        sys::waitpid(-1, 0) == Err(sys::Errno(10)),
    )
}
