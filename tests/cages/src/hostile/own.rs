//! Grates of the program's own: what they do while they handle a call, and afterwards.

use super::authority::Idle;
use super::gate::*;
use super::world::{World, served};
use super::{Attempt, Stage};
use cage_libc::sys::{self, address, nr};
use grate_rs::{Call, Errno, SyscallHandler, handler};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

pub const ATTEMPTS: &[Attempt] = &[
    ("a grate of one's own that speaks for its child", speaks_for),
    (
        "a grate of one's own that speaks for who has less",
        speaks_past,
    ),
    (
        "a grate of one's own that passes foreign arguments on",
        passes_foreign,
    ),
    (
        "a grate of one's own that keeps a call for later",
        keeps_for_later,
    ),
    ("grates of one's own, stacked", stacked),
    ("a handler that calls itself", recursion),
    ("deep recursion inside of a handler", deep_recursion),
    ("handlers that answer nonsense", nonsense),
    ("two events in one call", two_events),
    ("a handler that forks, execs and exits", handler_ends),
    ("a handler that never returns", never_returns),
    ("a handler that waits for ever", waits_for_ever),
    ("handlers that come and go", come_and_go),
    ("programs killed in the middle of handlers", kill_storm),
    ("a grate that traps fails closed", |stage| {
        fails_closed(stage, End::Trap)
    }),
    ("a grate that exits fails closed", |stage| {
        fails_closed(stage, End::Exit)
    }),
    ("a grate that is killed fails closed", |stage| {
        fails_closed(stage, End::Kill)
    }),
    ("a grate that execs fails closed", |stage| {
        fails_closed(stage, End::Exec)
    }),
    (
        "a grate that ends in the middle of a call",
        ends_in_the_middle,
    ),
    ("a new fork's first calls", first_calls),
];

handler!(seven, 102, |_: &Call| Ok(7102));

/// The index of a handler that answers 7102.
pub fn seven_index() -> u64 {
    index_of(seven)
}

fn index_of(handler: SyscallHandler) -> u64 {
    handler as usize as u64
}

/// Registers handlers on a child, lets it run, and answers its status.
fn under(
    handlers: &[(u64, SyscallHandler)],
    program: impl FnOnce() -> i32,
    meanwhile: impl FnOnce(i32) -> Outcome,
) -> Result<i32, String> {
    let (go, ready) = pipe()?;
    let child = forked(|| {
        close(ready);
        while sys::read(go, &mut [0; 1]) == Err(sys::Errno(4)) {}
        close(go);
        program()
    })?;
    close(go);
    for (number, handler) in handlers {
        put_on(child as u64, *number, *handler)?;
    }
    close(ready);
    meanwhile(child)?;
    wait(child)
}

fn put_on(cage: u64, number: u64, handler: SyscallHandler) -> Outcome {
    let index = index_of(handler);
    let me = sys::own_id();
    let args = [arg(cage, number), arg(UNUSED, me), arg(index, UNUSED)];
    expect("register", raw(REGISTER, me, &args), &[0])
}

fn nothing(_: i32) -> Outcome {
    Ok(())
}

/// What handlers have to say.
static SEEN: AtomicI32 = AtomicI32::new(i32::MIN);
static WRONG: AtomicU32 = AtomicU32::new(0);
static KNOWN: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);
static ORDER: AtomicU32 = AtomicU32::new(0);

/// What a refused call in another's name answers.
const REFUSED: &[i32] = &[EPERM, ESRCH, ABORTED];

handler!(as_the_child, 102, |call: &Call| {
    let child = call.cage_of(0);
    let foreign = FOREIGN.load(Ordering::SeqCst);
    let me = sys::own_id();
    let as_child = |number: u32, args: &[Arg]| raw_as(child, number, child, args);
    let path = own(address(c"/open/spoken.log".as_ptr()));
    let flags = arg(int(O_CREAT | O_WRONLY | O_APPEND), child);
    let fd = as_child(nr::OPEN, &[path, flags, arg(0o644, child)]);
    let text = [own(address(MARK.as_ptr())), own(MARK.len() as u64)];
    let there = arg(sys::base() + 65536, foreign);
    let past = [
        // In the name of who is not one's own, and for who is not served.
        raw_as(foreign, 39, child, &[]),
        raw_as(0, 39, child, &[]),
        raw_as(child | FLAG, 39, child, &[]),
        raw_as(child, 39, me, &[]),
        raw_as(child, 39, foreign, &[]),
        // With what is another's.
        as_child(nr::WRITE, &[arg(1, child), there, own(64)]),
        as_child(nr::WRITE, &[arg(1, foreign), text[0], text[1]]),
        // What a cage does for itself alone.
        as_child(REGISTER, &[arg(child, 39), arg(UNUSED, DEREGISTER)]),
        as_child(REGISTER, &[arg(child, 39), arg(UNUSED, me), own(2)]),
        as_child(COPY_DATA, &[there, text[0], own(8), own(0)]),
        as_child(COPY_TABLE, &[arg(foreign, child)]),
        as_child(nr::CLONE, &[own(0)]),
        as_child(nr::EXECVE, &[path, own(0), own(0)]),
        as_child(60, &[own(3)]),
        as_child(nr::EXIT_GROUP, &[own(3)]),
        as_child(3000, &[]),
    ];
    let through = past.iter().filter(|result| !REFUSED.contains(result));
    let wrong = through.count() as u32
        + u32::from(as_child(39, &[]) != child as i32)
        + u32::from(as_child(nr::WRITE, &[arg(fd as u64, child), text[0], text[1]]) < 0)
        + u32::from(as_child(nr::WRITE, &[arg(1, child), text[0], text[1]]) < 0);
    WRONG.store(wrong, Ordering::SeqCst);
    Ok(5)
});

/// In the name of its child it gets what that one gets: past nobody who is above them.
fn speaks_for(stage: &Stage) -> Outcome {
    let idle = Idle::new()?;
    for foreign in [Some(idle.cage), stage.grate()].into_iter().flatten() {
        FOREIGN.store(foreign, Ordering::SeqCst);
        WRONG.store(99, Ordering::SeqCst);
        let (released, latch) = pipe()?;
        let program = || {
            close(latch);
            while sys::read(released, &mut [0; 1]) == Err(sys::Errno(4)) {}
            i32::from(call(102, &[]) != 5)
        };
        let status = under(&[(102, as_the_child)], program, |child| {
            let child = child as u64;
            let early = raw_as(child, 39, child, &[]);
            close(latch);
            expect("serving nobody", early, &[EPERM])
        })?;
        close(released);
        expect("the program", status, &[0])?;
        let wrong = WRONG.load(Ordering::SeqCst) as i32;
        expect(
            format!("calls beside {foreign} that went wrong"),
            wrong,
            &[0],
        )?;
    }
    idle.release()?;
    stage.still_served()
}

handler!(as_who_has_less, 104, |call: &Call| {
    let child = call.cage_of(0);
    SEEN.store(raw_as(child, 102, child, &[]), Ordering::SeqCst);
    Ok(raw(102, child, &[]))
});

/// A grate that has a grate of its own speaks for a child from before: that one does not have it.
fn speaks_past(stage: &Stage) -> Outcome {
    const TURN: usize = 0;
    let page = Shared::new()?;
    let until = |turn: u64| {
        while page.word(TURN).load(Ordering::SeqCst) < turn {
            call(nr::SCHED_YIELD, &[]);
        }
    };
    let grate = forked(|| {
        let program = || {
            page.word(TURN).store(1, Ordering::SeqCst);
            until(2);
            i32::from(call(104, &[]) != 7102)
        };
        let status = under(&[(104, as_who_has_less)], program, nothing);
        i32::from(status != Ok(0) || SEEN.load(Ordering::SeqCst) != EPERM)
    })?;
    until(1);
    put_on(grate as u64, 102, seven)?;
    page.word(TURN).store(2, Ordering::SeqCst);
    wait_well(grate)?;
    stage.still_served()
}

handler!(foreign_arguments, 102, |call: &Call| {
    let child = call.cage_of(0);
    let foreign = FOREIGN.load(Ordering::SeqCst);
    let there = arg(sys::base() + 65536, foreign);
    let tries = [
        raw(nr::WRITE, child, &[arg(1, child), there, own(64)]),
        raw(
            nr::WRITE,
            child,
            &[arg(1, foreign), own(sys::base() + 65536), own(64)],
        ),
        raw(nr::OPEN, child, &[there, own(0), own(0)]),
        raw(nr::GETPID, foreign, &[]),
        raw(nr::CLOSE, foreign, &[arg(1, foreign)]),
        raw(nr::EXIT_GROUP, foreign, &[arg(3, foreign)]),
        raw(nr::EXECVE, child, &[there, there, there]),
        raw(nr::EXECVE, foreign, &[there, there, there]),
        raw(318, child, &[there, own(64), own(0)]),
    ];
    let wrong = tries.iter().filter(|result| **result != EPERM).count();
    WRONG.store(wrong as u32, Ordering::SeqCst);
    Ok(6)
});

fn passes_foreign(stage: &Stage) -> Outcome {
    let idle = Idle::new()?;
    for foreign in [Some(idle.cage), stage.grate()].into_iter().flatten() {
        FOREIGN.store(foreign, Ordering::SeqCst);
        WRONG.store(99, Ordering::SeqCst);
        let program = || i32::from(call(102, &[]) != 6);
        let status = under(&[(102, foreign_arguments)], program, nothing)?;
        expect("the program", status, &[0])?;
        let wrong = WRONG.load(Ordering::SeqCst) as i32;
        expect(
            format!("calls with arguments of {foreign} let through"),
            wrong,
            &[0],
        )?;
    }
    idle.release()
}

handler!(keeps, 1, |call: &Call| {
    KNOWN.store(call.arg(1).value, Ordering::SeqCst);
    Ok(call.size(2) as i32)
});

/// One cage makes another the grate of a third: that one may act on the third while it handles a
/// call, and not when the call is over.
fn keeps_for_later(_: &Stage) -> Outcome {
    const PLACE: usize = 0;
    const TURN: usize = 8;
    let page = Shared::new()?;
    // The one that serves; it is told who has called.
    let grate = forked(|| {
        while page.word(TURN).load(Ordering::SeqCst) != 2 {
            call(nr::SCHED_YIELD, &[]);
        }
        let victim = page.word(PLACE).load(Ordering::SeqCst);
        let from = KNOWN.load(Ordering::SeqCst);
        let mut copy = [0u8; 16];
        let to = own(address(copy.as_mut_ptr()));
        let me = sys::own_id();
        let late = [
            raw(COPY_DATA, me, &[arg(from, victim), to, own(16), own(0)]),
            raw(COPY_DATA, me, &[to, arg(from, victim), own(16), own(0)]),
        ];
        let acts = [
            raw(nr::WRITE, me, &[own(1), arg(from, victim), own(16)]),
            raw(nr::CLOSE, victim, &[arg(1, victim)]),
            raw(nr::EXIT_GROUP, victim, &[arg(4, victim)]),
        ];
        page.word(TURN).store(3, Ordering::SeqCst);
        let refused = late.iter().all(|result| [ABORTED, EPERM].contains(result))
            && acts.iter().all(|result| *result == EPERM)
            && copy == [0; 16];
        println!("{late:?} {acts:?}");
        i32::from(!refused)
    })?;
    let program = forked(|| {
        while page.word(TURN).load(Ordering::SeqCst) == 0 {
            call(nr::SCHED_YIELD, &[]);
        }
        write(1, b"sixteen letters\n");
        page.word(TURN).store(2, Ordering::SeqCst);
        while page.word(TURN).load(Ordering::SeqCst) != 3 {
            call(nr::SCHED_YIELD, &[]);
        }
        0
    })?;
    page.word(PLACE).store(program as u64, Ordering::SeqCst);
    let index = index_of(keeps);
    let args = [
        arg(program as u64, 1),
        arg(UNUSED, grate as u64),
        arg(index, UNUSED),
    ];
    // Whether one may name another as grate is not the question here.
    let registered = raw(REGISTER, sys::own_id(), &args);
    page.word(TURN).store(1, Ordering::SeqCst);
    wait_well(program)?;
    wait_well(grate)?;
    expect("register", registered, &[0, EPERM])
}

handler!(passing, 39, |call: &Call| {
    ORDER.fetch_add(1, Ordering::SeqCst);
    call.forward(call.cage_of(0))
});
handler!(passing_write, 1, |call: &Call| call
    .forward(call.cage_of(0)));
handler!(passing_open, 2, |call: &Call| call.forward(call.cage_of(0)));

/// Twenty grates over each other, of one program: each sees the call once.
fn stacked(stage: &Stage) -> Outcome {
    fn level(stage: &Stage, left: u32) -> i32 {
        if left == 0 {
            let own = sys::own_id() as i32;
            return i32::from(call(nr::GETPID, &[]) != own || stage.still_served().is_err());
        }
        let handlers: &[(u64, SyscallHandler)] =
            &[(39, passing), (1, passing_write), (2, passing_open)];
        let status = under(handlers, || level(stage, left - 1), nothing);
        let seen = ORDER.load(Ordering::SeqCst);
        i32::from(status != Ok(0) || seen == 0)
    }
    let child = forked(|| level(stage, 20))?;
    wait_well(child)?;
    stage.still_served()
}

handler!(itself, 39, |_: &Call| {
    ORDER.fetch_add(1, Ordering::SeqCst);
    Ok(call(39, &[]))
});

fn recursion(stage: &Stage) -> Outcome {
    let child = forked(|| {
        // On itself and on its child: what the handler calls comes back to it.
        let _ = put_on(sys::own_id(), 39, itself);
        let status = under(&[(39, itself)], || call(39, &[]) & 0x7f, nothing);
        call(39, &[]);
        i32::from(status.is_err())
    })?;
    wait(child)?;
    stage.still_served()
}

#[inline(never)]
fn dive(depth: u64) -> u64 {
    let mut frame = [depth; 32];
    core::hint::black_box(&mut frame);
    if depth == u64::MAX {
        return 0;
    }
    dive(depth + 1) + core::hint::black_box(frame)[7]
}

handler!(diving, 39, |_: &Call| Ok(dive(0) as i32));
handler!(diving_half, 104, |call: &Call| {
    // Some native stack at each of many levels.
    fn some(depth: u64) -> u64 {
        let mut frame = [depth; 32];
        core::hint::black_box(&mut frame);
        if depth == 0 {
            return raw(104, sys::own_id(), &[]) as u64;
        }
        some(depth - 1) + core::hint::black_box(frame)[3]
    }
    let _ = call;
    Ok(some(8000) as i32)
});

fn deep_recursion(stage: &Stage) -> Outcome {
    let child = forked(|| {
        let status = under(&[(39, diving)], || i32::from(call(39, &[]) >= 0), nothing);
        i32::from(status != Ok(0) && status != Ok(0x100))
    })?;
    wait(child)?;
    let child = forked(|| {
        let _ = put_on(sys::own_id(), 104, diving_half);
        let _ = under(&[(104, diving_half)], || call(104, &[]) & 1, nothing);
        call(104, &[]);
        0
    })?;
    wait(child)?;
    stage.still_served()
}

static ANSWER: AtomicI32 = AtomicI32::new(0);
handler!(answers, 0, |_: &Call| Ok(ANSWER.load(Ordering::SeqCst)));

fn nonsense(stage: &Stage) -> Outcome {
    let answers: SyscallHandler = answers;
    for answer in [0, 1, -1, -4095, -4096, i32::MIN, i32::MAX, 12345] {
        ANSWER.store(answer, Ordering::SeqCst);
        for number in [
            9, 12, 22, 41, 56, 59, 60, 61, 79, 228, 231, 1001, 1002, 1003,
        ] {
            let program = || {
                let mut place = [0u64; 16];
                let here = address(place.as_mut_ptr());
                let path = address(c"/bin/hostile.cwasm".as_ptr());
                match number {
                    56 => {
                        let _ = sys::fork();
                    }
                    59 => drop(call(59, &[path, 0, 0])),
                    60 | 231 => drop(call(number as u32, &[3])),
                    9 => drop(call(9, &[0, 4096, 3, 0x22, int(-1), 0])),
                    _ => drop(call(number as u32, &[here, here, 8, 0])),
                }
                0
            };
            // A program whose exit is answered with nonsense ends all the same.
            under(&[(number, answers)], program, nothing)?;
        }
    }
    stage.still_served()
}

static PAIR: AtomicU32 = AtomicU32::new(0);

fn event(which: u32, child: u64) -> i32 {
    static CLONE_ARGS: [u64; 11] = [0; 11];
    let path = own(address(c"/bin/hello.cwasm".as_ptr()));
    match which {
        0 => raw(nr::CLONE, child, &[arg(0, child), arg(1, child)]),
        1 => raw(nr::EXECVE, child, &[path, own(0), own(0)]),
        2 => raw(nr::EXIT_GROUP, child, &[arg(5, child), arg(1, child)]),
        3 => {
            let place = own(address(CLONE_ARGS.as_ptr()));
            raw(nr::CLONE, child, &[place, arg(1, child)])
        }
        4 => raw(60, child, &[arg(6, child), arg(1, child)]),
        _ => raw(nr::KILL, sys::own_id(), &[own(child), own(15)]),
    }
}

fn events(call: &Call) -> Result<i32, Errno> {
    let child = call.cage_of(0);
    let mut pair = PAIR.load(Ordering::SeqCst);
    let mut last = 0;
    for _ in 0..3 {
        last = event(pair % 6, child);
        pair /= 6;
    }
    Ok(last)
}

handler!(events_of_fork, 56, events);
handler!(events_of_getpid, 39, events);
handler!(events_of_exec, 59, events);
handler!(events_of_exit, 231, events);

/// A grate leaves its child several things to do in one call: the run ends nevertheless, with all
/// of its cages.
fn two_events(stage: &Stage) -> Outcome {
    let handlers: &[(u64, SyscallHandler)] = &[
        (56, events_of_fork),
        (39, events_of_getpid),
        (59, events_of_exec),
        (231, events_of_exit),
    ];
    for first in 0..6u32 {
        for second in 0..6 {
            for third in [0, 2] {
                PAIR.store(first + 6 * second + 36 * third, Ordering::SeqCst);
                let program = || {
                    call(39, &[]);
                    let forked = sys::fork();
                    if forked == Ok(0) {
                        return 0;
                    }
                    let path = address(c"/bin/hello.cwasm".as_ptr());
                    call(59, &[path, 0, 0]);
                    0
                };
                under(handlers, program, nothing)?;
            }
        }
    }
    // Whatever grandchildren there are: they have no parent to wait for them any more.
    stage.still_served()
}

handler!(ends_itself, 39, |_: &Call| {
    let me = sys::own_id();
    let path = own(address(c"/bin/hello.cwasm".as_ptr()));
    let order = ORDER.fetch_add(1, Ordering::SeqCst);
    Ok(match order % 5 {
        0 => raw(nr::CLONE, me, &[own(0)]),
        1 => raw(nr::EXECVE, me, &[path, own(0), own(0)]),
        2 => raw(60, me, &[own(7)]),
        3 => raw(nr::KILL, me, &[own(me), own(0)]),
        _ => raw(nr::EXIT_GROUP, me, &[own(8)]),
    })
});

fn handler_ends(stage: &Stage) -> Outcome {
    for start in 0..5 {
        let child = forked(|| {
            ORDER.store(start, Ordering::SeqCst);
            let program = || {
                call(39, &[]);
                call(39, &[]);
                0
            };
            let _ = under(&[(39, ends_itself)], program, nothing);
            0
        })?;
        wait(child)?;
    }
    stage.still_served()
}

static INSIDE: AtomicBool = AtomicBool::new(false);

handler!(spins, 39, |_: &Call| {
    INSIDE.store(true, Ordering::SeqCst);
    loop {
        core::hint::spin_loop();
    }
});

fn until_inside() {
    while !INSIDE.load(Ordering::SeqCst) {
        call(nr::SCHED_YIELD, &[]);
    }
}

fn killed_inside(handler: SyscallHandler) -> Outcome {
    INSIDE.store(false, Ordering::SeqCst);
    let status = under(
        &[(39, handler)],
        || call(39, &[]),
        |child| {
            until_inside();
            expect("kill", call(nr::KILL, &[child as u64, 9]), &[0])
        },
    )?;
    expect("how it ended", status, &[9])
}

fn never_returns(stage: &Stage) -> Outcome {
    killed_inside(spins)?;
    // A grate that ends while its handler spins, and its program with it.
    let grate = forked(|| {
        INSIDE.store(false, Ordering::SeqCst);
        let _ = under(
            &[(39, spins)],
            || call(39, &[]),
            |_| {
                until_inside();
                sys::exit(0)
            },
        );
        1
    })?;
    wait_well(grate)?;
    stage.still_served()
}

handler!(waits, 39, |_: &Call| {
    let Ok((out, _)) = sys::pipe2(0) else {
        return Ok(-1);
    };
    INSIDE.store(true, Ordering::SeqCst);
    let mut byte = [0];
    Ok(sys::read(out, &mut byte).map_or(-1, |count| count as i32))
});

fn waits_for_ever(stage: &Stage) -> Outcome {
    killed_inside(waits)?;
    stage.still_served()
}

fn come_and_go(stage: &Stage) -> Outcome {
    let rounds = stage.tries;
    let page = Shared::new()?;
    let child = forked(|| {
        page.word(0).store(1, Ordering::SeqCst);
        let real = call(102, &[]);
        while page.word(8).load(Ordering::SeqCst) == 0 {
            let got = call(102, &[]);
            if got != 7102 && got != 0 && got < 0 {
                return 1;
            }
            core::hint::black_box(real);
        }
        0
    })?;
    while page.word(0).load(Ordering::SeqCst) == 0 {}
    let cage = child as u64;
    for _ in 0..rounds {
        put_on(cage, 102, seven)?;
        let args = [arg(cage, 102), arg(UNUSED, DEREGISTER), arg(UNUSED, UNUSED)];
        expect("deregister", raw(REGISTER, sys::own_id(), &args), &[0])?;
    }
    page.word(8).store(1, Ordering::SeqCst);
    wait_well(child)?;
    stage.still_served()
}

/// Programs under a grate write, open, fork and exec, and are killed at any moment.
fn kill_storm(stage: &Stage) -> Outcome {
    for round in 0..stage.tries.div_ceil(100) {
        let mut children = Vec::new();
        for _ in 0..4 {
            children.push(forked(|| {
                let path = format!("/open/storm{round}.log\0");
                loop {
                    let args = [address(path.as_ptr()), int(O_CREAT | O_RDWR), 0o644];
                    let fd = call(nr::OPEN, &args);
                    write(fd, MARK);
                    if let Ok(grandchild) = forked(|| write(fd, MARK) & 1) {
                        let _ = wait(grandchild);
                    }
                    close(fd);
                }
            })?);
        }
        pause(1 + round % 7);
        for child in &children {
            call(nr::KILL, &[*child as u64, 9]);
        }
        for child in children {
            expect("how it ended", wait(child)?, &[9])?;
        }
    }
    stage.still_served()
}

#[derive(Clone, Copy)]
enum End {
    Trap,
    Exit,
    Kill,
    Exec,
}

handler!(trapping, 102, |_: &Call| -> Result<i32, Errno> {
    core::arch::wasm32::unreachable()
});

/// Makes every call there is, and answers how many were answered with something else than EIO.
fn not_refused(world: &World, report: &Shared) -> i32 {
    const DETAIL: usize = 64;
    let mut wrong = 0;
    for entry in served().filter(|entry| !entry.is_of_the_thread()) {
        let args = world.arguments(entry);
        let got = call(entry.nr, &args);
        if got != EIO {
            let at = DETAIL + 8 * (wrong as usize % 100);
            let detail = u64::from(entry.nr) << 32 | u64::from(got as u32);
            report.word(at).store(detail, Ordering::SeqCst);
            wrong += 1;
        }
    }
    wrong
}

fn fails_closed(stage: &Stage, end: End) -> Outcome {
    const RESULT: usize = 0;
    const READY: usize = 8;
    let page = Shared::new()?;
    let ready = || {
        while page.word(READY).load(Ordering::SeqCst) == 0 {
            call(nr::SCHED_YIELD, &[]);
        }
    };
    // This one watches; the grate is its child, and the program the grate's.
    let grate = forked(|| {
        let _ = under(
            &[(102, trapping), (104, seven)],
            || {
                let Ok(world) = World::new("closed", false) else {
                    return 3;
                };
                page.word(READY).store(1, Ordering::SeqCst);
                if let End::Trap = end {
                    call(102, &[]);
                }
                // From the first call on that is refused, all are.
                while call(nr::GETPID, &[]) != EIO {
                    core::hint::spin_loop();
                }
                let wrong = not_refused(&world, &page);
                page.word(RESULT).store(1 + wrong as u64, Ordering::SeqCst);
                0
            },
            |_| {
                ready();
                match end {
                    End::Trap => {}
                    End::Exit => sys::exit(0),
                    End::Kill => drop(call(nr::KILL, &[sys::own_id(), 9])),
                    End::Exec => {
                        let args = [c"/bin/hello.cwasm".as_ptr().cast()];
                        // SAFETY: a string that lives for ever.
                        unsafe { sys::execve(args[0], &args, &[]) };
                    }
                }
                Ok(())
            },
        );
        0
    })?;
    wait(grate)?;
    let mut patience = 0;
    let result = loop {
        match page.word(RESULT).load(Ordering::SeqCst) {
            0 if patience < 20_000 => {
                patience += 1;
                pause(1);
            }
            result => break result as i32,
        }
    };
    let first: Vec<_> = (0..20)
        .map(|at| page.word(64 + 8 * at).load(Ordering::SeqCst))
        .filter(|detail| *detail != 0)
        .map(|detail| (detail >> 32, detail as u32 as i32))
        .collect();
    expect(format!("1 and calls that went on: {first:?}"), result, &[1])?;
    stage.still_served()
}

handler!(dies_inside, 104, |_: &Call| {
    INSIDE.store(true, Ordering::SeqCst);
    while INSIDE.load(Ordering::SeqCst) {
        call(nr::SCHED_YIELD, &[]);
    }
    Ok(3)
});

/// The grate ends while its program is inside of a handler.
fn ends_in_the_middle(stage: &Stage) -> Outcome {
    for signal in [0, 9, 15] {
        let grate = forked(|| {
            INSIDE.store(false, Ordering::SeqCst);
            let _ = under(
                &[(104, dies_inside)],
                || {
                    let got = call(104, &[]);
                    let after = call(nr::GETPID, &[]);
                    i32::from(got >= 0 || after != EIO)
                },
                |_| {
                    until_inside();
                    if signal == 0 {
                        sys::exit(0)
                    }
                    call(nr::KILL, &[sys::own_id(), signal]);
                    Ok(())
                },
            );
            0
        })?;
        expect("the grate", wait(grate)?, &[0, 9, 15])?;
    }
    stage.still_served()
}

/// A fork under a grate is under it from its first call on.
fn first_calls(stage: &Stage) -> Outcome {
    for _ in 0..stage.tries.div_ceil(50) {
        let child = forked(|| {
            let fd = open(c"/open/first.log", O_CREAT | O_WRONLY | O_APPEND, 0o644);
            write(fd, MARK);
            write(1, MARK);
            0
        })?;
        wait_well(child)?;
    }
    stage.still_served()
}
