//! `threads WHAT ARGS...`: things that several threads of a program do at once. Whatever its grates
//! do, the results must be such as a plain kernel could give.

use cage_libc::sys::{self, Errno, address, nr};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

type Done = Result<(), String>;

const EBADF: Errno = Errno(9);
const EBUSY: Errno = Errno(16);
/// Threads that do something at once.
const THREADS: u64 = 4;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["count"] => count(),
        ["offsets", path] => offsets(path),
        ["appends", path, is_shared] => appends(path, is_shared == "one"),
        ["writes", path] => writes(path),
        ["closing", path] => closing(path),
        ["numbers", folder] => numbers(folder),
        ["lines", line, count] => lines(line, count.parse().unwrap_or(0)),
        ["fork", path] => fork(path),
        ["exec", program] => exec(program, false),
        ["exec-two", program] => exec(program, true),
        ["exit"] => exit_of_all(),
        ["last"] => last_to_leave(),
        ["left"] => left_running(),
        ["trap"] => trap(),
        _ => Err("what?".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("threads: {why}");
            ExitCode::FAILURE
        }
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Runs a number of threads, and waits for all.
fn together(work: impl Fn(u64) -> Done + Sync) -> Done {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|index| scope.spawn(move || work(index)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|one| one.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })
}

/// Numbers without an order to them.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

/// Threads that count, threads of threads, a channel, thread-locals and their destructors.
fn count() -> Done {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Local(u32);
    impl Drop for Local {
        fn drop(&mut self) {
            DROPPED.fetch_add(self.0, Ordering::SeqCst);
        }
    }
    thread_local!(static LOCAL: std::cell::RefCell<Local> = const { std::cell::RefCell::new(Local(0)) });
    let (send, receive) = mpsc::channel();
    let threads: Vec<_> = (0..8)
        .map(|index| {
            let send = send.clone();
            thread::spawn(move || {
                LOCAL.with_borrow_mut(|local| local.0 += 1);
                for _ in 0..10_000 {
                    COUNT.fetch_add(1, Ordering::SeqCst);
                }
                let inner = thread::spawn(move || index * 2);
                let doubled = inner.join().unwrap();
                send.send(vec![doubled; 100]).unwrap();
                index
            })
        })
        .collect();
    drop(send);
    let sum: u32 = receive.iter().flatten().sum();
    let indices: u32 = threads.into_iter().map(|one| one.join().unwrap()).sum();
    let got = (
        COUNT.load(Ordering::SeqCst),
        sum,
        indices,
        DROPPED.load(Ordering::SeqCst),
    );
    if got != (80_000, 5600, 28, 8) {
        return Err(format!("{got:?}"));
    }
    // One after another, and some that nobody waits for.
    for round in 0..200 {
        let one = thread::spawn(move || round);
        if round % 3 == 0 {
            drop(one);
        } else if one.join().unwrap() != round {
            return Err(format!("round {round}"));
        }
    }
    println!("counted");
    Ok(())
}

fn pwrite(fd: i32, bytes: &[u8], at: u64) -> Result<i32, Errno> {
    let args = [fd as u64, address(bytes.as_ptr()), bytes.len() as u64, at];
    // SAFETY: the bytes are there.
    unsafe { sys::syscall(nr::PWRITE, &args) }
}

fn pread(fd: i32, bytes: &mut [u8], at: u64) -> Result<i32, Errno> {
    let args = [
        fd as u64,
        address(bytes.as_mut_ptr()),
        bytes.len() as u64,
        at,
    ];
    // SAFETY: there is room for them.
    unsafe { sys::syscall(nr::PREAD, &args) }
}

fn open(path: &str, append: bool) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.read(true).create(true);
    let options = if append {
        options.append(true)
    } else {
        options.write(true)
    };
    options.open(path).map_err(text)
}

/// What is written at each place of the file of [`offsets`].
fn expected(at: u64) -> u8 {
    (at / 7 + at / 4096 * 3) as u8
}

/// Each thread writes every fourth piece, pieces that lie across chunks, in no order, and reads
/// those that it has written; two descriptors, one for each two threads.
fn offsets(path: &str) -> Done {
    const PIECE: u64 = 1500;
    const PIECES: u64 = 400;
    let files = [open(path, false)?, open(path, false)?];
    together(|index| {
        let fd = files[index as usize % 2].as_raw_fd();
        let mut dice = Dice(index + 1);
        let mut left: Vec<u64> = (0..PIECES)
            .filter(|piece| piece % THREADS == index)
            .collect();
        let mut written = Vec::new();
        while !left.is_empty() {
            let piece = left.swap_remove(dice.below(left.len() as u64) as usize);
            let start = piece * PIECE;
            let bytes: Vec<u8> = (start..start + PIECE).map(expected).collect();
            let done = pwrite(fd, &bytes, start);
            if done != Ok(PIECE as i32) {
                return Err(format!("write of piece {piece}: {done:?}"));
            }
            written.push(piece);
            let again = written[dice.below(written.len() as u64) as usize];
            let (start, mut got) = (again * PIECE, vec![0; PIECE as usize]);
            let done = pread(fd, &mut got, start);
            let same = got
                .iter()
                .zip(start..)
                .all(|(byte, at)| *byte == expected(at));
            if done != Ok(PIECE as i32) || !same {
                return Err(format!("read of piece {again}: {done:?}, the same: {same}"));
            }
        }
        Ok(())
    })?;
    let content = std::fs::read(path).map_err(text)?;
    let right = content
        .iter()
        .zip(0..)
        .all(|(byte, at)| *byte == expected(at));
    if content.len() as u64 != PIECE * PIECES || !right {
        return Err(format!("{} bytes, right: {right}", content.len()));
    }
    println!("offsets are right");
    Ok(())
}

/// A record of a thread: its number, its own number, its length and as many bytes.
fn record(thread: u64, number: u64, len: u64) -> Vec<u8> {
    let mut bytes = format!("<{thread} {number} {len}:").into_bytes();
    bytes.extend(std::iter::repeat_n(b'a' + thread as u8, len as usize));
    bytes.push(b'>');
    bytes
}

/// Whether a file is nothing but records, each of the wanted ones once and those of a thread in
/// their order.
fn check_records(content: &[u8], each: u64) -> Done {
    let mut rest = content;
    let mut next = vec![0; THREADS as usize];
    while !rest.is_empty() {
        let at = content.len() - rest.len();
        let wrong = || {
            format!(
                "at {at}: {:?}",
                String::from_utf8_lossy(&rest[..rest.len().min(60)])
            )
        };
        let colon = rest.iter().position(|&b| b == b':').ok_or_else(wrong)?;
        let head = std::str::from_utf8(&rest[1..colon]).map_err(|_| wrong())?;
        let numbers: Vec<u64> = head.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [thread, number, len] = numbers[..] else {
            return Err(wrong());
        };
        let whole = record(thread, number, len);
        if !rest.starts_with(&whole) || next.get(thread as usize) != Some(&number) {
            return Err(wrong());
        }
        next[thread as usize] += 1;
        rest = &rest[whole.len()..];
    }
    if next.iter().any(|&count| count != each) {
        return Err(format!("{next:?} records"));
    }
    Ok(())
}

/// Threads that append records of all lengths, by a descriptor each or all by one.
fn appends(path: &str, is_shared: bool) -> Done {
    const EACH: u64 = 150;
    let one = open(path, true)?;
    together(|index| {
        let mut own = if is_shared {
            None
        } else {
            Some(open(path, true)?)
        };
        let mut dice = Dice(index + 1);
        for number in 0..EACH {
            let bytes = record(index, number, dice.below(6000));
            let written = match &mut own {
                Some(own) => own.write(&bytes),
                None => (&one).write(&bytes),
            };
            match written {
                Ok(count) if count == bytes.len() => {}
                other => return Err(format!("{number}: {other:?}")),
            }
        }
        Ok(())
    })?;
    check_records(&std::fs::read(path).map_err(text)?, EACH)?;
    println!("appends are right");
    Ok(())
}

/// Threads that write by one descriptor without O_APPEND: its offset is one for all.
fn writes(path: &str) -> Done {
    const EACH: u64 = 150;
    let one = open(path, false)?;
    together(|index| {
        let mut dice = Dice(index + 1);
        for number in 0..EACH {
            let bytes = record(index, number, dice.below(6000));
            match (&one).write(&bytes) {
                Ok(count) if count == bytes.len() => {}
                other => return Err(format!("{number}: {other:?}")),
            }
        }
        Ok(())
    })?;
    check_records(&std::fs::read(path).map_err(text)?, EACH)?;
    println!("writes are right");
    Ok(())
}

/// One thread closes and opens a file while others write to it and read from it: each call does
/// all or finds no descriptor. (That it is busy is what a grate may answer to dup2, as Linux may.)
fn closing(path: &str) -> Done {
    const ROUNDS: u32 = 300;
    drop(open(path, false)?);
    let is_over = AtomicBool::new(false);
    let name = format!("{path}\0");
    // The same number each time, as long as nobody opens anything else.
    let reopen = || {
        const READ_WRITE: u64 = 2;
        let args = [address(name.as_ptr()), READ_WRITE, 0];
        // SAFETY: the name ends with a NUL.
        unsafe { sys::syscall(nr::OPEN, &args) }
    };
    let fd = reopen().map_err(text)?;
    together(|index| {
        if index == 0 {
            let mut done = Ok(());
            for round in 0..ROUNDS {
                let closed = sys::close(fd);
                let opened = reopen();
                if closed != Ok(()) || opened != Ok(fd) {
                    done = Err(format!("round {round}: {closed:?}, {opened:?}"));
                    break;
                }
            }
            is_over.store(true, Ordering::SeqCst);
            return done;
        }
        let bytes = vec![index as u8; 5000];
        let mut got = vec![0; 5000];
        let (mut tries, mut hits) = (0u32, 0u32);
        while !is_over.load(Ordering::SeqCst) {
            let place = index * 5000;
            if tries % 2 == 0 {
                match pwrite(fd, &bytes, place) {
                    Ok(5000) => hits += 1,
                    Err(EBADF) => {}
                    other => return Err(format!("write {tries}: {other:?}")),
                }
            } else {
                match pread(fd, &mut got, place) {
                    Ok(5000) if hits > 0 && got != bytes => {
                        return Err("another's bytes".to_owned());
                    }
                    Ok(5000) | Err(EBADF) => {}
                    // Nothing has been written there yet.
                    Ok(count) if hits == 0 && count < 5000 => {}
                    other => return Err(format!("read {tries}: {other:?}")),
                }
            }
            tries += 1;
        }
        Ok(())
    })?;
    sys::close(fd).map_err(text)?;
    let content = std::fs::read(path).map_err(text)?;
    let right = |(byte, at): (&u8, u64)| *byte == 0 || u64::from(*byte) == at / 5000;
    if !content.iter().zip(0..).all(right) {
        return Err("bytes at a wrong place".to_owned());
    }
    println!("closing is right");
    Ok(())
}

/// What `try_clone` is where it is served.
fn copy_of(file: &File) -> Result<File, String> {
    // SAFETY: no address among the arguments.
    let copy = unsafe { sys::syscall(nr::DUP, &[file.as_raw_fd() as u64]) };
    // SAFETY: nobody else has the new number.
    copy.map(|fd| unsafe { File::from_raw_fd(fd) })
        .map_err(text)
}

/// Threads that open, copy and close at once, each file with a text of its own: a number never
/// means what it meant to another thread before.
fn numbers(folder: &str) -> Done {
    const ROUNDS: u64 = 60;
    let seen = Mutex::new(HashSet::new());
    together(|index| {
        for round in 0..ROUNDS {
            let path = format!("{folder}/{index}-{round}.txt");
            let mark = format!("thread {index} round {round}").repeat(30);
            let file = open(&path, false)?;
            let copy = copy_of(&file)?;
            let (half, rest) = mark.split_at(mark.len() / 2);
            (&file).write_all(half.as_bytes()).map_err(text)?;
            seen.lock().unwrap().insert(file.as_raw_fd());
            drop(file);
            (&copy).write_all(rest.as_bytes()).map_err(text)?;
            // To a number of this thread's own, which is open half of the time.
            let to = 100 + index as i32;
            let args = [copy.as_raw_fd() as u64, to as u64];
            // SAFETY: no address among the arguments.
            let copied = unsafe { sys::syscall(nr::DUP2, &args) };
            if copied != Ok(to) && copied != Err(EBUSY) {
                return Err(format!("dup2: {copied:?}"));
            }
            if copied == Ok(to) && round % 2 == 0 {
                let written = pwrite(to, mark.as_bytes(), 0);
                if written != Ok(mark.len() as i32) {
                    return Err(format!("by the copy: {written:?}"));
                }
                sys::close(to).map_err(text)?;
            }
            let mut got = vec![0; mark.len() + 1];
            let count = pread(copy.as_raw_fd(), &mut got, 0);
            if count != Ok(mark.len() as i32) || !got.starts_with(mark.as_bytes()) {
                return Err(format!("{path}: {count:?}"));
            }
        }
        Ok(())
    })?;
    for index in 0..THREADS {
        for round in 0..ROUNDS {
            let mark = format!("thread {index} round {round}").repeat(30);
            let mut got = String::new();
            let path = format!("{folder}/{index}-{round}.txt");
            File::open(&path)
                .and_then(|mut file| file.read_to_string(&mut got))
                .map_err(text)?;
            if got != mark {
                return Err(format!("{path} has another text"));
            }
        }
    }
    println!("numbers are right");
    Ok(())
}

/// Threads that write lines to standard output, in pieces, each under a lock of their own making:
/// the line with `%` for the thread.
fn lines(line: &str, count: u32) -> Done {
    let turn = Mutex::new(());
    together(|index| {
        let line = line.replace('%', &index.to_string());
        for _ in 0..count {
            let _turn = turn.lock().unwrap();
            for piece in format!("{line}\n").as_bytes().chunks(5) {
                if sys::write(1, piece) != Ok(piece.len()) {
                    return Err("a short write".to_owned());
                }
            }
        }
        Ok(())
    })
}

/// A thread forks while others write and allocate: the child has that thread alone.
fn fork(path: &str) -> Done {
    let is_over = AtomicBool::new(false);
    let file = open(path, true)?;
    let result = thread::scope(|scope| {
        let (file, is_over) = (&file, &is_over);
        for index in 0..3u64 {
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let bytes = vec![index as u8 + b'0'; 3000];
                    let mut file: &File = file;
                    let _ = file.write(&bytes);
                }
            });
        }
        let forks = move || {
            for round in 0..10 {
                match sys::fork() {
                    Ok(0) => {
                        // It has a heap, and threads of its own.
                        let sum: usize = (0..3)
                            .map(|n| thread::spawn(move || vec![n; 5000].len()).join().unwrap())
                            .sum();
                        let mut file: &File = file;
                        let wrote = file.write(&[b'c'; 3000]).unwrap_or(0);
                        sys::exit(if sum == 15000 && wrote == 3000 { 7 } else { 8 });
                    }
                    Ok(child) => {
                        let waited = sys::waitpid(child, 0);
                        if waited != Ok((child, 7 << 8)) {
                            return Err(format!("round {round}: {waited:?}"));
                        }
                    }
                    Err(errno) => return Err(format!("fork: {errno:?}")),
                }
            }
            Ok(())
        };
        // On Lind the first thread alone can fork.
        let result = if sys::base() == 0 {
            let joined = scope.spawn(forks).join();
            joined.unwrap_or_else(|_| Err("panicked".to_owned()))
        } else {
            forks()
        };
        is_over.store(true, Ordering::SeqCst);
        result
    });
    result?;
    let content = std::fs::read(path).map_err(text)?;
    let pieces = content.chunks(3000);
    let whole = pieces
        .clone()
        .all(|piece| piece.len() == 3000 && piece.iter().all(|b| *b == piece[0]));
    let children = pieces.filter(|piece| piece[0] == b'c').count();
    if !whole || children != 10 {
        return Err(format!("whole: {whole}, of children: {children}"));
    }
    println!("forked");
    Ok(())
}

/// A thread becomes another program while others run, wait and read; `two` do at once.
fn exec(program: &str, two: bool) -> Done {
    let (out, _in) = sys::pipe2(0).map_err(text)?;
    let name = format!("{program}\0");
    let execs = |name: &str| {
        let args = [name.as_ptr(), c"exec".as_ptr().cast()];
        // SAFETY: all of them end with a NUL.
        unsafe { sys::execve(name.as_ptr(), &args, &[]) }
    };
    let number = AtomicU32::new(0);
    let racing = &number;
    thread::scope(|scope| {
        scope.spawn(move || sys::read(out, &mut [0; 8]));
        scope.spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        scope.spawn(|| thread::sleep(std::time::Duration::from_secs(600)));
        scope.spawn(thread::park);
        if two {
            let name = name.as_str();
            scope.spawn(move || {
                racing.fetch_add(1, Ordering::SeqCst);
                while racing.load(Ordering::SeqCst) < 2 {}
                execs(name)
            });
            racing.fetch_add(1, Ordering::SeqCst);
            while racing.load(Ordering::SeqCst) < 2 {}
        }
        let answer = scope.spawn(|| execs(&name)).join();
        Err(format!("{answer:?}"))
    })
}

/// A thread ends the program while others run and wait.
fn exit_of_all() -> Done {
    let (out, _in) = sys::pipe2(0).map_err(text)?;
    thread::scope(|scope| {
        scope.spawn(move || sys::read(out, &mut [0; 8]));
        scope.spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        scope.spawn(thread::park);
        scope.spawn(|| std::process::exit(6));
    });
    Err("it goes on".to_owned())
}

/// All threads end one by one, the first with a status, which is that of the program: the others
/// do so when it has ended.
fn last_to_leave() -> Done {
    static HAS_ENDED: AtomicBool = AtomicBool::new(false);
    for _ in 0..3 {
        thread::spawn(|| {
            while !HAS_ENDED.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        });
    }
    HAS_ENDED.store(true, Ordering::SeqCst);
    sys::exit_thread(7)
}

/// The first thread returns from `main` while others run.
fn left_running() -> Done {
    for _ in 0..3 {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    println!("left");
    Ok(())
}

/// A trap in one thread ends the program.
fn trap() -> Done {
    thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let one = thread::spawn(|| std::process::abort());
    let _ = one.join();
    Err("it goes on".to_owned())
}
