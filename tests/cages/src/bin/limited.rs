//! What a program can do under limits: `limited WHAT NUMBER`, where the number is what the limit
//! file says. Prints "as limited" where no more can be had by any way, and no less.

use cage_libc::net::{AF_UNIX, Address, SOCK_DGRAM, SOCK_STREAM, Socket};
use cage_libc::signals::{self, Action};
use cage_libc::sys::{self, Errno, address, nr};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const EINTR: Errno = Errno(4);
const EAGAIN: Errno = Errno(11);
const EACCES: Errno = Errno(13);
const ENODEV: Errno = Errno(19);
const EMFILE: Errno = Errno(24);
const ENOSYS: Errno = Errno(38);

const SIGKILL: i32 = 9;
const SIGALRM: i32 = 14;

fn call(number: u32, args: &[u64]) -> Result<i32, Errno> {
    // SAFETY: addresses among the arguments are of buffers that outlive the call.
    unsafe { sys::syscall(number, args) }
}

fn check(what: &str, holds: bool) {
    if !holds {
        println!("not as it should be: {what}");
        sys::exit(1);
    }
}

fn open(path: &str, flags: i32) -> Result<i32, Errno> {
    let path = format!("{path}\0");
    call(nr::OPEN, &[address(path.as_ptr()), flags as u64, 0o600])
}

const CREATE: i32 = 0o1102;

/// Runs it in a child, and answers its wait status.
fn in_child(act: impl FnOnce()) -> i32 {
    match sys::fork() {
        Ok(0) => {
            act();
            sys::exit(0)
        }
        Ok(child) => sys::waitpid(child, 0).map_or(-1, |(_, status)| status),
        Err(errno) => -errno.0,
    }
}

fn number(argument: Option<String>) -> u64 {
    argument.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Holds that no more was moved than a second's worth and what the time since then gave.
fn check_rate(what: &str, since: Instant, moved: u64, rate: u64) {
    let allowed = rate as f64 * (1.0 + since.elapsed().as_secs_f64());
    check(what, moved as f64 <= allowed);
}

/// Writes to a file in all ways, by threads and children too; what arrives is what was written.
fn filewrite(rate: u64) {
    const WRITEV: u32 = 20;
    const PWRITEV: u32 = 296;
    let since = Instant::now();
    let part = rate / 4;
    let data: Vec<u8> = (0..part).map(|at| (at % 251) as u8).collect();
    let fd = open("/tmp/out", CREATE).expect("open");
    let half = part / 2;
    let vectors = [
        [address(data.as_ptr()), half],
        [address(data.as_ptr()) + half, part - half],
    ];
    let write = |nr: u32, at: Option<u64>| {
        let mut args = vec![fd as u64];
        match nr {
            WRITEV | PWRITEV => args.extend([address(vectors.as_ptr()), 2]),
            _ => args.extend([address(data.as_ptr()), part]),
        }
        args.extend(at);
        check("all is written", call(nr, &args) == Ok(part as i32));
    };
    write(nr::WRITE, None);
    write(WRITEV, None);
    write(nr::PWRITE, Some(2 * part));
    write(PWRITEV, Some(3 * part));
    check_rate("in all ways", since, 4 * part, rate);
    // At an end that children and threads share.
    let whole = open("/tmp/out", 0o2001).expect("open");
    let append = || {
        let args = [whole as u64, address(data.as_ptr()), part];
        check("all is added", call(nr::WRITE, &args) == Ok(part as i32));
    };
    check("the child ends well", in_child(append) == 0);
    std::thread::scope(|scope| {
        scope.spawn(append);
        scope.spawn(append);
    });
    check_rate("by all", since, 7 * part, rate);
    // More than there is at once, cut into pieces below: the program sees one write.
    let long = data.repeat(5);
    let args = [whole as u64, address(long.as_ptr()), long.len() as u64];
    check("one write", call(nr::WRITE, &args) == Ok(long.len() as i32));
    check_rate("by one", since, 12 * part, rate);
    let read = std::fs::read("/tmp/out").unwrap_or_default();
    check("what was written is there", read == data.repeat(12));
    // From file to file.
    let from = open("/tmp/out", 0).expect("open");
    let to = open("/tmp/copy", CREATE).expect("open");
    let mut copied = 0;
    while copied < 12 * part {
        let args = [from as u64, 0, to as u64, 0, 12 * part, 0];
        copied += call(326, &args).expect("copy_file_range") as u64;
    }
    check_rate("by copying", since, 24 * part, rate);
    let read = std::fs::read("/tmp/copy").unwrap_or_default();
    check("what was copied is there", read == data.repeat(12));
    let map = [0, 4096, 3, 1, fd as u64, 0];
    check("no stores go by", call(nr::MMAP, &map) == Err(ENODEV));
}

/// Reads a file in all ways.
fn fileread(rate: u64) {
    const READV: u32 = 19;
    const PREADV: u32 = 295;
    let part = rate / 3;
    let data: Vec<u8> = (0..part).map(|at| (at % 241) as u8).collect();
    std::fs::write("/tmp/in", &data).expect("write");
    let since = Instant::now();
    let fd = open("/tmp/in", 0).expect("open");
    let mut moved = 0;
    for nr in [nr::PREAD, PREADV, nr::READ, READV] {
        let mut into = vec![0u8; part as usize + 9];
        let room = into.len() as u64;
        let vectors = [
            [address(into.as_mut_ptr()), 7],
            [address(into.as_mut_ptr()) + 7, room - 7],
        ];
        let mut args = vec![fd as u64];
        match nr {
            READV | PREADV => args.extend([address(vectors.as_ptr()), 2]),
            _ => args.extend([address(into.as_mut_ptr()), room]),
        }
        args.push(0);
        let read = call(nr, &args);
        check("a file is read in one go", read == Ok(part as i32));
        check("what is read", into[..part as usize] == data);
        call(nr::LSEEK, &[fd as u64, 0, 0]).expect("lseek");
        moved += part;
    }
    check_rate("in all ways", since, moved, rate);
    let map = [0, part, 1, 2, fd as u64, 0];
    call(nr::MMAP, &map).expect("mmap");
    check_rate("in memory", since, moved + part, rate);
}

/// Sends and receives on this machine, in all ways.
fn loopsend(rate: u64) {
    let since = Instant::now();
    let part = (rate / 3) as usize;
    let data: Vec<u8> = (0..part).map(|at| (at % 239) as u8).collect();
    let mut moved = 0;
    let (one, other) = Socket::pair(AF_UNIX, SOCK_STREAM).expect("pair");
    let listener = Socket::tcp_listen((Ipv4Addr::LOCALHOST, 0).into()).expect("listen");
    let at = listener
        .name()
        .ok()
        .and_then(|name| name.ip())
        .expect("name");
    let client = Socket::tcp_connect(at).expect("connect");
    let (server, _) = listener.accept(0).expect("accept");
    for (from, to) in [(&one, &other), (&client, &server)] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut got = Vec::new();
                let mut block = vec![0; 1 << 16];
                while got.len() < 3 * part {
                    let len = to.receive(&mut block, 0).expect("receive");
                    got.extend_from_slice(&block[..len]);
                }
                check("what comes", got == data.repeat(3));
            });
            check("send", from.send(&data, 0) == Ok(part));
            let write = [from.fd() as u64, address(data.as_ptr()), part as u64];
            check("write", call(nr::WRITE, &write) == Ok(part as i32));
            let vector = [address(data.as_ptr()), part as u64];
            let header = [0, 0, address(vector.as_ptr()), 1, 0, 0, 0];
            let send = [from.fd() as u64, address(header.as_ptr()), 0];
            check("sendmsg", call(nr::SENDMSG, &send) == Ok(part as i32));
        });
        moved += 3 * part as u64;
        check_rate("streams", since, moved, rate);
    }
    // Messages are whole, and tell where they are from.
    let local = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let [here, there] = [(); 2].map(|()| {
        let socket = Socket::new(2, SOCK_DGRAM).expect("socket");
        socket.bind(&local).expect("bind");
        socket
    });
    let to = there.name().expect("name");
    for length in [1, 700, 1400] {
        check(
            "sendto",
            here.send_to(&data[..length], 0, &to) == Ok(length),
        );
        let mut block = [0; 2000];
        let (len, from) = there.receive_from(&mut block, 0).expect("receive");
        check("a message", block[..len] == data[..length]);
        check(
            "its sender",
            from.ip() == here.name().ok().and_then(|name| name.ip()),
        );
        moved += length as u64;
    }
    here.connect(&to).expect("connect");
    check("to its peer", here.send(&data[..99], 0) == Ok(99));
    let mut block = [0; 50];
    let args = [there.fd() as u64, address(block.as_mut_ptr()), 50];
    check("a message that is cut", call(nr::READ, &args) == Ok(50));
    check_rate("messages", since, moved + 99, rate);
}

/// Asks for random bytes.
fn random(rate: u64) {
    const GETRANDOM: u32 = 318;
    let since = Instant::now();
    let mut block = vec![0u8; rate as usize * 2];
    let args = [address(block.as_mut_ptr()), block.len() as u64, 0];
    check(
        "all of them",
        call(GETRANDOM, &args) == Ok(block.len() as i32),
    );
    check(
        "random",
        block
            .chunks(64)
            .all(|part| part.iter().any(|&byte| byte != 0)),
    );
    check_rate("no more", since, rate * 2, rate);
}

fn processor_time() -> Duration {
    const CLOCK_PROCESS_CPUTIME_ID: u64 = 2;
    let mut time = [0u64; 2];
    let told = call(
        nr::CLOCK_GETTIME,
        &[CLOCK_PROCESS_CPUTIME_ID, address(time.as_mut_ptr())],
    );
    told.map_or(Duration::MAX, |_| Duration::new(time[0], time[1] as u32))
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_signal: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// Who waits for bytes takes no time of the processor, and is ended by a kill and interrupted by a
/// signal. The rate is so low that what is written takes a quarter of an hour otherwise.
fn blocked(rate: u64) {
    const LONG: usize = 1000;
    let fd = open("/tmp/slow", CREATE).expect("open");
    let write = |len: u64| {
        let data = vec![b'x'; len as usize];
        call(nr::WRITE, &[fd as u64, address(data.as_ptr()), len])
    };
    let long = rate * LONG as u64;
    check("what is there at once", write(rate) == Ok(rate as i32));
    let child = match sys::fork() {
        Ok(0) => {
            let _ = write(long);
            sys::exit(77)
        }
        other => other.expect("fork"),
    };
    std::thread::sleep(Duration::from_millis(50));
    let (since, before) = (Instant::now(), processor_time());
    std::thread::sleep(Duration::from_millis(300));
    let taken = processor_time().saturating_sub(before);
    check("it sleeps", taken < since.elapsed() / 4);
    check("it waits", sys::waitpid(child, 1) == Ok((0, 0)));
    check("others close", sys::close(fd) == Ok(()));
    call(nr::KILL, &[child as u64, SIGKILL as u64]).expect("kill");
    check(
        "it is killed",
        sys::waitpid(child, 0) == Ok((child, SIGKILL)),
    );
    // A handler interrupts it; one that was killed is in nobody's way.
    signals::set(SIGALRM, Action::Call(handle), 0, 0).expect("sigaction");
    // Until it is met, wherever it is then.
    signals::alarm(100_000, 100_000).expect("setitimer");
    let slow = open("/tmp/slow", 0o2001).expect("open");
    let data = vec![b'y'; long as usize];
    let before = std::fs::metadata("/tmp/slow").map_or(0, |file| file.len());
    let args = [slow as u64, address(data.as_ptr()), long];
    let result = call(nr::WRITE, &args);
    let moved = match result {
        Err(EINTR) => 0,
        Ok(moved) => moved as u64,
        other => panic!("{other:?}"),
    };
    check("a signal ends the wait", moved < long);
    check("its handler ran", HANDLED.load(Ordering::SeqCst) > 0);
    signals::alarm(0, 0).expect("setitimer");
    let written = std::fs::metadata("/tmp/slow").map_or(0, |file| file.len());
    check("it is told how much was written", written == before + moved);
}

/// So many descriptors, and one more when one is closed, in whatever way.
fn filesopened(most: u64) {
    const EPOLL_CREATE1: u32 = 291;
    const DUP3: u32 = 292;
    let take = || open("/tmp/file", CREATE);
    let mut all: Vec<i32> = (0..most).map(|_| take().expect("open")).collect();
    let mut pair = [0i32; 2];
    let path = "/tmp/file\0";
    let at_cwd = -100i64 as u64;
    let ways = |all: &[i32]| {
        let first = all[0] as u64;
        let place = address(pair.as_ptr());
        [
            take(),
            call(nr::OPENAT, &[at_cwd, address(path.as_ptr()), 0, 0]),
            call(nr::DUP, &[first]),
            call(nr::DUP2, &[first, 900]),
            call(DUP3, &[first, 900, 0]),
            call(nr::FCNTL, &[first, 0, 0]),
            call(nr::FCNTL, &[first, 1030, 0]),
            call(22, &[place]),
            call(nr::PIPE2, &[place, 0]),
            call(EPOLL_CREATE1, &[0]),
        ]
    };
    check("no more in any way", ways(&all) == [Err(EMFILE); 10]);
    // In place of one that goes.
    let (first, last) = (all[0] as u64, all[1] as u64);
    check("dup2", call(nr::DUP2, &[first, last]) == Ok(last as i32));
    check("none comes of it", ways(&all) == [Err(EMFILE); 10]);
    // A child that gives back what only it has, by whatever end.
    let closed = all.pop().expect("one");
    check("close", sys::close(closed) == Ok(()));
    for _ in 0..3 {
        check("by exit", in_child(|| assert!(take().is_ok())) == 0);
        let killed = in_child(|| {
            take().expect("open");
            let _ = call(nr::KILL, &[sys::own_id(), SIGKILL as u64]);
        });
        check("by a kill", killed == SIGKILL);
        check("by exec", in_child(exec_hello) == 0);
    }
    all.push(take().expect("open"));
    check("all are taken", ways(&all) == [Err(EMFILE); 10]);
    pair[0] = Socket::new(AF_UNIX, SOCK_STREAM)
        .expect("sockets are not")
        .into_fd();
    check("close", sys::close(pair[0]) == Ok(()));
}

fn exec_hello() {
    open("/tmp/file", CREATE | 0o2000000).expect("open");
    let path = "/bin/hello.cwasm\0";
    // SAFETY: a NUL-terminated string.
    unsafe { sys::execve(path.as_ptr(), &[path.as_ptr()], &[]) };
    sys::exit(1)
}

/// So many sockets, and so many that listen.
fn sockets(most: u64) {
    let local = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let stream = || Socket::new(2, SOCK_STREAM);
    let bound = || {
        let socket = stream().expect("socket");
        socket.bind(&local).expect("bind");
        socket
    };
    let listening: Vec<Socket> = (0..most)
        .map(|_| {
            let socket = bound();
            socket.listen(3).expect("listen");
            socket.listen(4).expect("once more");
            socket
        })
        .collect();
    // They count as the others no more.
    let others: Vec<Socket> = (0..most).map(|_| bound()).collect();
    check("no more that listen", others[0].listen(1) == Err(EMFILE));
    check("no more at all", stream().err() == Some(EMFILE));
    check(
        "no pair",
        Socket::pair(AF_UNIX, SOCK_STREAM).err() == Some(EMFILE),
    );
    check(
        "none is accepted",
        listening[0].accept(0).err() == Some(EMFILE),
    );
    let copy = call(nr::DUP, &[others[0].fd() as u64]);
    check("no copy", copy == Err(EMFILE));
    drop(listening);
    check("one may listen again", others[0].listen(1) == Ok(()));
    check("files are not counted", open("/tmp/file", CREATE).is_ok());
}

/// That port and no other.
fn ports(port: u64) {
    let at = |port: u16| Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let (port, other) = (port as u16, port as u16 + 1);
    let stream = || Socket::new(2, SOCK_STREAM).expect("socket");
    let message = || Socket::new(2, SOCK_DGRAM).expect("socket");
    check("no bind", stream().bind(&at(other)) == Err(EACCES));
    check(
        "none for messages",
        message().bind(&at(other)) == Err(EACCES),
    );
    check("nor any free one", stream().bind(&at(0)) == Err(EACCES));
    check("nor without bind", stream().listen(1) == Err(EACCES));
    check("no connect", stream().connect(&at(other)) == Err(EACCES));
    check(
        "none for messages",
        message().connect(&at(other)) == Err(EACCES),
    );
    check(
        "no sendto",
        message().send_to(b"x", 0, &at(other)) == Err(EACCES),
    );
    // The kernel takes no family for IPv4 there.
    let mut none = at(other).as_bytes().to_vec();
    none[..2].copy_from_slice(&[0, 0]);
    let none = Address::new(&none);
    check(
        "no family",
        message().send_to(b"x", 0, &none) == Err(EACCES),
    );
    let name = at(other);
    let vector = [address(b"x".as_ptr()), 1];
    let header = [
        address(name.as_bytes().as_ptr()),
        16,
        address(vector.as_ptr()),
        1,
        0,
        0,
        0,
    ];
    let send = [message().into_fd() as u64, address(header.as_ptr()), 0];
    check("no sendmsg", call(nr::SENDMSG, &send) == Err(EACCES));
    let listener = stream();
    let bound = listener.bind(&at(port));
    check("that one", matches!(bound, Ok(()) | Err(Errno(98))));
    if bound == Ok(()) {
        listener.listen(1).expect("listen");
        let client = stream();
        client.connect(&at(port)).expect("connect");
        let (server, _) = listener.accept(0).expect("accept");
        check("they speak", client.send(b"word", 0) == Ok(4));
        check("and hear", server.receive(&mut [0; 4], 0) == Ok(4));
    }
    let unix = Socket::new(AF_UNIX, SOCK_STREAM).expect("socket");
    let path = Address::unix(b"/tmp/socket");
    check("UNIX sockets have none", unix.bind(&path) == Ok(()));
}

/// So many threads and cages at a time.
fn events(most: u64) {
    for round in 0..3 {
        let sleep = || loop {
            std::thread::sleep(Duration::from_secs(1000));
        };
        // One that was killed may take its time to end.
        let fork = || loop {
            match sys::fork() {
                Err(EAGAIN) if round == 2 => std::thread::sleep(Duration::from_millis(1)),
                other => return other.expect("fork"),
            }
        };
        let children: Vec<i32> = (1..most)
            .map(|_| match fork() {
                0 => sleep(),
                child => child,
            })
            .collect();
        check("no more", sys::fork() == Err(EAGAIN));
        check(
            "no thread",
            std::thread::Builder::new().spawn(|| ()).is_err(),
        );
        for child in children {
            call(nr::KILL, &[child as u64, SIGKILL as u64]).expect("kill");
            // They count as ended whether they were waited for or not.
            if round != 1 {
                sys::waitpid(child, 0).expect("wait");
            }
        }
    }
    for _ in 0..3 {
        let threads: Vec<_> = (1..most).map(|_| std::thread::spawn(|| ())).collect();
        for thread in threads {
            thread.join().expect("join");
        }
    }
    let threads: Vec<_> = (1..most)
        .map(|_| std::thread::spawn(std::thread::park))
        .collect();
    check("no cage beside threads", sys::fork() == Err(EAGAIN));
    for thread in threads {
        thread.thread().unpark();
        thread.join().expect("join");
    }
}

/// Calls that would get past.
fn refused(_: u64) {
    for number in [
        40, 275, 276, 278, 304, 310, 311, 319, 327, 328, 425, 426, 427, 437,
    ] {
        check("refused", call(number, &[0; 6]) == Err(ENOSYS));
    }
    for number in [999, 4000, 70_000] {
        check("unknown", call(number, &[0; 6]) == Err(ENOSYS));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let number = number(arguments.next());
    match what.as_str() {
        "filewrite" => filewrite(number),
        "fileread" => fileread(number),
        "loopsend" => loopsend(number),
        "random" => random(number),
        "blocked" => blocked(number),
        "filesopened" => filesopened(number),
        "sockets" => sockets(number),
        "ports" => ports(number),
        "events" => events(number),
        "refused" => refused(number),
        _ => check("a deed", false),
    }
    println!("as limited");
}
